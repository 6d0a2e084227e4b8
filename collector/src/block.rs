//! File work on a thread of the runtime. In: the work. Out: its result, while other tasks of the thread have moved elsewhere.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does what may take long. Elsewhere than on a thread of a multi-threaded runtime it is just done.
pub(crate) fn in_place<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
