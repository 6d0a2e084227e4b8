//! What a semi-synchronous node may be told.
//!
//! In: the merger's state as it becomes durable. Out: the GTIDs of one node that would survive its loss.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_binlog::GtidSet;
use tributary_flow::Checkpoint;

/// Follows one node's part until `stop`.
pub(crate) fn follow(
    mut progress: watch::Receiver<Arc<Checkpoint>>,
    node: &str,
    stop: CancellationToken,
) -> watch::Receiver<Arc<GtidSet>> {
    let node = node.to_owned();
    let of = move |checkpoint: &Checkpoint| {
        let known = checkpoint.nodes.get(&node);
        known.map(|p| p.emitted.clone()).unwrap_or_default()
    };
    let (sets, set) = watch::channel(Arc::new(of(&progress.borrow_and_update())));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
            let checkpoint = Arc::clone(&progress.borrow_and_update());
            let now = of(&checkpoint);
            sets.send_if_modified(|set| {
                let differs = **set != now;
                *set = Arc::new(now);
                differs
            });
        }
    });
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_flow::NodeProgress;

    #[tokio::test]
    async fn a_nodes_set_follows_what_is_durable() {
        let checkpoint = |gtids: &str| {
            let emitted = gtids.parse().expect("a GTID set");
            let progress = NodeProgress {
                emitted,
                ..NodeProgress::default()
            };
            let nodes = [("dn1".to_owned(), progress)].into();
            Arc::new(Checkpoint {
                nodes,
                ..Checkpoint::default()
            })
        };
        let first = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
        let (progress, seen) = watch::channel(checkpoint(first));
        let stop = CancellationToken::new();
        let mut set = follow(seen.clone(), "dn1", stop.clone());
        let other = follow(seen, "dn2", stop.clone());
        assert_eq!(set.borrow_and_update().to_text_oneline(), first);
        assert!(other.borrow().is_empty());
        let next = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9";
        progress.send_replace(checkpoint(next));
        set.changed().await.expect("it is followed");
        assert_eq!(set.borrow().to_text_oneline(), next);
        stop.cancel();
        while set.changed().await.is_ok() {}
    }
}
