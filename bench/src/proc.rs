//! What processes used: in goes a process id, out come CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Clock ticks per second in `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of a running process, all its threads, user and system.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let fields = stat_fields(&pid.to_string())?;
    ticks(&fields, 14)
}

/// CPU time of the calling thread; more exact than ticks.
pub(crate) fn thread_cpu_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().context("no time on CPU")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// CPU seconds of all children of this process that have ended and been waited for.
pub(crate) fn ended_children_cpu_seconds() -> Result<f64> {
    let fields = stat_fields("self")?;
    ticks(&fields, 16)
}

/// The fields of `/proc/PID/stat` from the third on.
fn stat_fields(pid: &str) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the name in parentheses and may hold anything.
    let (_, rest) = text
        .rsplit_once(") ")
        .with_context(|| format!("{path} has no name"))?;
    Ok(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The sum of field `number` (as in proc(5)) and the one behind it, in seconds.
fn ticks(fields: &[String], number: usize) -> Result<f64> {
    let pair = fields
        .get(number - 3..number - 1)
        .context("/proc/PID/stat is cut short")?;
    let sum: u64 = pair
        .iter()
        .map(|f| f.parse::<u64>())
        .sum::<Result<_, _>>()?;
    Ok(sum as f64 / TICKS_PER_SECOND)
}

/// CPU seconds of a process's running threads, added up by thread name.
pub(crate) fn cpu_seconds_by_thread(pid: u32) -> Result<BTreeMap<String, f64>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.file_name().to_string_lossy().into_owned();
        // A thread that ends meanwhile has nothing to say.
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/task/{task}/comm")) else {
            continue;
        };
        let Ok(fields) = stat_fields(&format!("{pid}/task/{task}")) else {
            continue;
        };
        *threads.entry(name.trim().to_owned()).or_default() += ticks(&fields, 14)?;
    }
    Ok(threads)
}

/// The greatest resident set a running process ever had, in MiB.
pub(crate) fn peak_rss_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// The resident set of a running process now, in MiB.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line
        .and_then(|l| l.split_ascii_whitespace().next())
        .with_context(|| format!("no {field}"))?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// How many files a running process has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu_seconds: f64,
}

/// Runs a command to its end. No other child of this process may end meanwhile.
pub(crate) fn run(command: &mut Command) -> Result<Took> {
    let (before, start) = (ended_children_cpu_seconds()?, Instant::now());
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.with_context(|| format!("run {command:?}"))?;
    let wall = start.elapsed();
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Took {
        wall,
        cpu_seconds: ended_children_cpu_seconds()? - before,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_charged() {
        let pid = std::process::id();
        let (before, start) = (cpu_seconds(pid).unwrap(), Instant::now());
        let mut n = 0_u64;
        while start.elapsed() < Duration::from_millis(100) {
            n = std::hint::black_box(n + 1);
        }
        assert!(cpu_seconds(pid).unwrap() > before);
        assert!(cpu_seconds_by_thread(pid).unwrap().values().sum::<f64>() > 0.0);
        assert!(peak_rss_mib(pid).unwrap() > 1.0);
    }

    #[test]
    fn a_command_is_timed_and_its_failure_told() {
        let took = run(Command::new("sh").args(["-c", "sleep 0.05"])).unwrap();
        assert!(took.wall >= Duration::from_millis(50));
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
