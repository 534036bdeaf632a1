//! How much of an attribute's value the running session keeps.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

static TEXT_LENGTH: AtomicUsize = AtomicUsize::new(Limits::DEFAULT.text_length);
static MAX_ITEMS: AtomicUsize = AtomicUsize::new(Limits::DEFAULT.max_items);

/// As the collection config said at the last start of a collection.
pub fn limits() -> Limits {
    Limits { text_length: TEXT_LENGTH.load(Ordering::Relaxed), max_items: MAX_ITEMS.load(Ordering::Relaxed) }
}

/// To be called before the gates open.
pub(super) fn set(limits: Limits) {
    TEXT_LENGTH.store(limits.text_length, Ordering::Relaxed);
    MAX_ITEMS.store(limits.max_items, Ordering::Relaxed);
}
