//! A collection may be limited to a number of model steps: the one that reaches it is the last that is recorded.

use std::sync::atomic::{AtomicU64, Ordering};

use super::thread;

/// Steps of this process that the running session may still have; `u64::MAX`: no limit.
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// To be called before the threads are let in.
pub(super) fn allow(steps: Option<u64>) {
    LEFT.store(steps.unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Whether all allowed steps were taken.
pub(super) fn is_over() -> bool {
    LEFT.load(Ordering::Relaxed) == 0
}

/// A step of the model has ended, and its events were recorded. After the last one that the collection config allows
/// nothing records any more.
pub fn step() {
    let take = |left: u64| (left != u64::MAX).then(|| left.saturating_sub(1));
    if LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) == Ok(1) {
        thread::close_session(thread::session());
    }
}
