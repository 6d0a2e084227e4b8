//! `tributary events FILE`: one line per event.
//!
//! In: a binlog file. Out: lines on standard output; exit code 1 at the first event that is not whole or not intact.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tributary_binlog::{ChecksumAlg, FrameDecoder, MAGIC, describe};
use tributary_flow::limits;

/// Runs the command.
pub(crate) fn run(path: &Path, from: u64, limit: Option<u64>) -> anyhow::Result<ExitCode> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)
        .with_context(|| format!("{}: too short for a binlog", path.display()))?;
    if magic != MAGIC {
        bail!(
            "{}: not a binlog file (it does not begin with fe 62 69 6e)",
            path.display()
        );
    }
    let out = BufWriter::new(std::io::stdout().lock());
    match print(file, path, from, limit.unwrap_or(u64::MAX), out) {
        // The reader of a pipe has seen enough.
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(ExitCode::SUCCESS)
        }
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn print(
    mut file: File,
    path: &Path,
    from: u64,
    limit: u64,
    mut out: impl Write,
) -> anyhow::Result<()> {
    let mut events = FrameDecoder::new(ChecksumAlg::Crc32, limits::EVENT_BYTES_MAX);
    let mut block = vec![0; 1 << 20];
    let (mut offset, mut printed) = (MAGIC.len() as u64, 0);
    file.seek(SeekFrom::Start(offset))?;
    while printed < limit {
        let next = events
            .poll()
            .with_context(|| format!("{} at {offset}", path.display()))?;
        if let Some(event) = next {
            if offset >= from {
                writeln!(out, "{}", describe(&event, offset))?;
                printed += 1;
            }
            offset += u64::from(event.header.event_size);
            continue;
        }
        let n = file.read(&mut block)?;
        if n == 0 {
            if events.buffered() > 0 {
                bail!(
                    "{} at {offset}: the file ends inside an event",
                    path.display()
                );
            }
            break;
        }
        events.feed(&block[..n]);
    }
    out.flush()?;
    Ok(())
}
