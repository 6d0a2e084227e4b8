//! A record of the fences, for reproducing a merge.
//!
//! In: each fence as it took effect. Out: one JSON object a line in the file that `cluster.fence_log` names.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::Context;
use tributary_flow::{Fence, NodeTable};

use crate::config::Cluster;

/// Called with each fence as it took effect.
pub(crate) type OnFence = Box<dyn FnMut(&Fence) + Send>;

/// Opens the configured file for appending; without one, fences are not recorded.
pub(crate) fn open(cluster: &Cluster, table: NodeTable) -> anyhow::Result<OnFence> {
    let Some(path) = &cluster.fence_log else {
        return Ok(Box::new(|_| {}));
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file =
        file.with_context(|| format!("cluster.fence_log: {} can not be written", path.display()))?;
    Ok(Box::new(move |fence| {
        let line = serde_json::json!({
            "node": table.name(fence.node), "file": fence.pos.file, "offset": fence.pos.offset,
            "tso": fence.stamp.tso.micros(), "time": fence.stamp.time,
        });
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "cluster.fence_log can not be written");
        }
    }))
}
