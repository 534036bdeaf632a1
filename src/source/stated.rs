//! What recorders state about what is not in their captures. Parts of a capture may lie in several folders, and be gone or
//! there: all statements are put together, and held against the blocks that were read.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::places::Facts;
use crate::event::{Entries, View};
use crate::trace::{Blocks, Stream};

/// What the captures of one process state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stated {
    left: BTreeSet<Left>,
    removed: Removed,
    /// By streams: their first block that was still there.
    remaining: FxHashMap<u32, u64>,
    of_earlier_versions: Earlier,
}

/// A file that was left because it was not there any more, as far as its recorder could see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    stream: u32,
    first: u64,
    end: u64,
    records: u64,
}

/// Parts that were removed to keep a session below its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Removed {
    parts: u64,
    events: u64,
}

/// Statements without streams and totals: each was made once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Earlier {
    vanished: u64,
    removed: u64,
}

/// What is missing in all captures together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) vanished: u64,
    pub(super) removed_parts: u64,
    pub(super) removed_events: u64,
}

impl Stated {
    /// Takes in a record of domain `Meta`.
    pub(super) fn add(&mut self, name: &str, attributes: &[u8]) {
        let number = |key: &str| {
            let value = Entries::of(attributes).find(|(found, _)| *found == key)?.1;
            as_count(&value)
        };
        let stream = number("stream").and_then(|stream| u32::try_from(stream).ok());
        match (name, stream) {
            ("vanished", Some(stream)) => {
                let records = number("count").unwrap_or_default();
                let (first, end) = (number("first").unwrap_or_default(), number("end").unwrap_or_default());
                self.left.insert(Left { stream, first, end, records });
            }
            ("vanished", None) => self.of_earlier_versions.vanished += number("count").unwrap_or_default(),
            ("removed", Some(stream)) => {
                let removed = Removed {
                    parts: number("total").unwrap_or_default(),
                    events: number("events").unwrap_or_default(),
                };
                self.removed = self.removed.max(removed);
                let first = self.remaining.entry(stream).or_default();
                *first = (*first).max(number("first").unwrap_or_default());
            }
            ("removed", None) => self.of_earlier_versions.removed += number("parts").unwrap_or_default(),
            _ => {}
        }
    }

    /// Takes in what another capture of the same process states.
    fn extend(&mut self, other: &Self) {
        self.left.extend(&other.left);
        self.removed = self.removed.max(other.removed);
        for (stream, first) in &other.remaining {
            let known = self.remaining.entry(*stream).or_default();
            *known = (*known).max(*first);
        }
        self.of_earlier_versions.vanished += other.of_earlier_versions.vanished;
        self.of_earlier_versions.removed += other.of_earlier_versions.removed;
    }

    /// Whether it says why what was before this place is missing.
    fn explains_beginning(&self, at: Stream) -> bool {
        self.of_earlier_versions.removed > 0
            || self.remaining.get(&at.id).is_some_and(|first| *first >= at.next)
    }

    /// Whether the stream was left there.
    fn explains_end(&self, at: Stream) -> bool {
        self.left.iter().any(|left| left.stream == at.id && left.end == at.next)
    }

    fn missing(&self, read: &Blocks) -> Missing {
        let is_missing = |left: &&Left| !read.has_all(left.stream, left.first..left.end);
        let vanished = self.left.iter().filter(is_missing).map(|left| left.records);
        Missing {
            vanished: vanished.fold(self.of_earlier_versions.vanished, u64::saturating_add),
            removed_parts: self.removed.parts.saturating_add(self.of_earlier_versions.removed),
            removed_events: self.removed.events,
        }
    }
}

/// What all captures state, by the tracks of their processes.
#[derive(Debug, Default)]
pub(super) struct Statements(FxHashMap<u64, Stated>);

impl Statements {
    pub(super) fn of<'a>(facts: impl Iterator<Item = (&'a u64, &'a Facts)>) -> Self {
        let mut all = Self::default();
        for (track, facts) in facts {
            all.0.entry(*track).or_default().extend(&facts.stated);
        }
        all
    }

    /// Whether it is said why what was before this place in a stream is missing.
    pub(super) fn explains_beginning(&self, at: Stream) -> bool {
        self.0.values().any(|stated| stated.explains_beginning(at))
    }

    /// Whether it is said that the stream was left there.
    pub(super) fn explains_end(&self, at: Stream) -> bool {
        self.0.values().any(|stated| stated.explains_end(at))
    }

    /// What is missing. A file that was moved away may have been read from where it is.
    pub(super) fn missing(&self, read: &Blocks) -> Missing {
        let mut missing = Missing::default();
        self.0.values().for_each(|stated| missing.add(stated.missing(read)));
        missing
    }
}

impl Missing {
    fn add(&mut self, other: Self) {
        let sum = |number: &mut u64, more: u64| *number = number.saturating_add(more);
        sum(&mut self.vanished, other.vanished);
        sum(&mut self.removed_parts, other.removed_parts);
        sum(&mut self.removed_events, other.removed_events);
    }
}

fn as_count(value: &View<'_>) -> Option<u64> {
    value.as_int().and_then(|number| u64::try_from(number).ok())
}
