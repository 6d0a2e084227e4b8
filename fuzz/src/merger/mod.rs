//! Operation sequences of the merger.
//!
//! In: a mode; a history of a cluster; then how its streams and the answers to fences arrive, and where the merger is
//! started anew from its checkpoint. Out: a panic unless every committed transaction comes once, whole, behind all that was
//! committed before it was prepared; and, where every commit has a timestamp and nothing was started anew, exactly as the
//! naive merge gives it. One mode feeds nonsense: it may end in an error, and never in anything else.

mod check;
mod cluster;
mod delivery;
#[path = "../../../merger/src/core/naive.rs"]
mod naive;
mod nonsense;

use tributary_flow::OrderMode;

use self::cluster::{Cluster, Stamps};
use self::delivery::Delivery;
use crate::input::Input;

const WAYS: [(OrderMode, Stamps); 4] = [
    (OrderMode::Tso, Stamps::All),
    (OrderMode::Tso, Stamps::Some),
    (OrderMode::Tso, Stamps::None),
    (OrderMode::Causal, Stamps::Some),
];

/// Most steps of a history, and of a delivery that the input decides.
const STEPS_MAX: usize = 400;

/// Runs one input.
pub fn run(data: &[u8]) {
    let (history, delivery) = data.split_at(data.len() / 2);
    let mut input = Input::new(history);
    let way = input.below(5);
    let nodes = 1 + input.below(4);
    let Some(&(mode, stamps)) = WAYS.get(way) else {
        return nonsense::run(nodes, Input::new(data.get(2..).unwrap_or_default()));
    };
    let cluster = Cluster::new(input, nodes, stamps);
    let outcome = Delivery::new(&cluster, mode, Input::new(delivery)).run();
    check::check(&cluster, &outcome, stamps);
}
