//! Everything in one run: merge, then dump what was merged.
//!
//! In: sizes. Out: figures as text and as JSON; an error when a ratio is not sane.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::binlogs::Plan;
use crate::dump::{self, DumpFigures};
use crate::figures::{Machine, Ratio};
use crate::history::Shape;
use crate::merge::{self, MergeFigures};
use crate::micro::{self, Rate};
use crate::world::{World, tmpfs};

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) plan: Plan,
    pub(crate) rounds: usize,
    /// Only few data: figures are not to be believed, but must be there.
    pub(crate) quick: bool,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
struct Report {
    /// Seconds since 1970.
    measured_at: u64,
    machine: Machine,
    quick: bool,
    shape: &'static str,
    micro: Vec<Rate>,
    merge: MergeFigures,
    dump: DumpFigures,
}

/// Runs everything; writes the figures to `json`, if given.
pub(crate) async fn run(options: &Options, json: Option<&Path>) -> Result<()> {
    let dir = tempfile::tempdir_in(tmpfs())?;
    let micro = micro::run(&options.plan, dir.path())?;
    drop(dir);
    print!("one core, by stage:\n{}", micro::render(&micro));
    let mut world = World::start(&options.plan)?;
    let merge_options = merge::Options {
        rounds: options.rounds,
        alone: false,
    };
    let (merge, mut service) = merge::run(&mut world, merge_options).await?;
    print!("{}", merge.render());
    let dump = dump::run(&mut service, world.dir(), options.rounds).await?;
    print!("{}", dump.render());
    service.stop().await?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let shape = options.plan.shape.name();
    let report = Report {
        measured_at: now,
        machine: Machine::here(),
        quick: options.quick,
        shape,
        micro,
        merge,
        dump,
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    check(&report)
}

/// What must hold on any machine, however busy: ratios of figures taken side by side.
fn check(report: &Report) -> Result<()> {
    let ratios: Vec<&Ratio> = report
        .merge
        .ratios
        .iter()
        .chain(&report.dump.ratios)
        .collect();
    for ratio in &ratios {
        ensure!(
            ratio.ratio.is_finite() && ratio.ratio > 0.0,
            "{} is {}",
            ratio.name,
            ratio.ratio
        );
    }
    let faster = ratios.first().context("no ratio")?;
    // mysqlbinlog copies large events about as fast as the memory allows.
    ensure!(
        faster.ratio > 1.0 || report.shape != Shape::Oltp.name(),
        "{} is {:.2}: merging must not be slower than copying one node after the other",
        faster.name,
        faster.ratio
    );
    Ok(())
}
