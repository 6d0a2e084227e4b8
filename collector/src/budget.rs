//! Bytes a node may have in flight. In: charges and releases of chunks, from any thread. Out: when to read on.
//!
//! The rule: read while the bytes in flight are below the limit, or while nothing is in flight but the transaction that
//! is being read (which could otherwise never end). An overdraft lifts the limit until the bytes fall below it again.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tributary_flow::{Mutant, mutant};

use crate::core::chunk::Account;

/// One node's budget.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
    /// Bytes up to which an overdraft allows to go; 0 = none.
    overdraft: AtomicUsize,
    changed: Notify,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        let (used, overdraft) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self {
            max,
            used,
            overdraft,
            changed: Notify::new(),
        }
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Allows `bytes` more than what is in flight now. Asking again before they are used changes nothing.
    pub fn grant_overdraft(&self, bytes: usize) {
        if mutant(Mutant::NoOverdraft) {
            return;
        }
        let limit = self.used().max(self.max).saturating_add(bytes);
        self.overdraft.fetch_max(limit, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Whether to read on, when the transaction being read holds `open` bytes.
    pub fn has_room(&self, open: usize) -> bool {
        let used = self.used();
        if used < self.max {
            self.overdraft.store(0, Ordering::Release);
            return true;
        }
        used <= open || used < self.overdraft.load(Ordering::Acquire)
    }

    /// Waits until [`Self::has_room`]. For one task only.
    pub(crate) async fn room(&self, open: usize) {
        while !self.has_room(open) {
            self.changed.notified().await;
        }
    }
}

impl Account for Budget {
    fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn release(&self, bytes: usize) {
        if mutant(Mutant::ForgetRelease) {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        // Stores a permit if the task is not waiting yet, so no wake-up is lost.
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_open_transaction_may_pass_the_limit_alone() {
        let budget = Budget::new(100);
        budget.charge(99);
        assert!(budget.has_room(0));
        budget.charge(1);
        assert!(!budget.has_room(0));
        assert!(!budget.has_room(99));
        assert!(budget.has_room(100));
        budget.release(50);
        assert!(budget.has_room(0));
    }

    #[test]
    fn an_overdraft_is_used_once_and_not_multiplied() {
        let budget = Budget::new(100);
        budget.charge(150);
        budget.grant_overdraft(50);
        budget.grant_overdraft(50);
        assert!(budget.has_room(0));
        budget.charge(50);
        assert!(!budget.has_room(0));
        budget.release(150);
        assert!(budget.has_room(0));
        budget.charge(60);
        assert!(!budget.has_room(0), "the overdraft must be gone");
    }

    #[tokio::test]
    async fn a_release_wakes_the_reader() {
        let budget = Arc::new(Budget::new(10));
        budget.charge(10);
        assert!(
            timeout(Duration::from_millis(20), budget.room(0))
                .await
                .is_err()
        );
        let other = Arc::clone(&budget);
        let waiter = tokio::spawn(async move { other.room(0).await });
        tokio::task::yield_now().await;
        budget.release(10);
        timeout(Duration::from_secs(5), waiter)
            .await
            .expect("woken")
            .unwrap();
    }
}
