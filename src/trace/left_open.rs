//! What stands open at the end of a capture whose process was killed: the ends may still be in its rings, and a writer
//! that goes on with these has to know which spans they are of.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::index::{Index, TrackKind};
use super::part::Part;
use super::reader::{EventKind, OpenSpan, Resumed};
use super::spans::{Key, Open, Place};
use super::writer::{Sequence, Writer};
use crate::clock::Nanos;

/// The spans of a capture that have begun and not ended.
#[derive(Debug, Default)]
pub struct LeftOpen {
    /// Those on the tracks of threads, by packet sequence.
    threads: FxHashMap<u64, Stack>,
    /// By the lane's track.
    lanes: FxHashMap<u64, Lane>,
    is_unknown: bool,
}

#[derive(Debug, Default)]
struct Stack {
    /// The innermost last.
    open: Vec<Open>,
    /// A numbered span has gone from among others, or one ended whose beginning is missing: the place of the others
    /// does not tell their numbers.
    has_gaps: bool,
}

/// One span stands on it at a time. Its packets may lie on several sequences, in no order.
#[derive(Debug, Default)]
struct Lane {
    begun: u64,
    ended: u64,
    last: Option<(Nanos, u64)>,
}

impl Index {
    /// Goes once over the capture; `parts` are those of the index.
    pub fn left_open(&self, parts: &Arc<[Part]>) -> LeftOpen {
        let mut left = LeftOpen::default();
        for (position, sequence) in self.sequences.iter().enumerate() {
            let mut reader = self.read(position, parts.clone());
            while reader.advance() {
                let event = reader.event();
                if let Some(resumed) = event.resumed.take() {
                    left.threads.insert(sequence.id, Stack::resumed(&resumed));
                }
                let kind = self.tracks.get(&event.track).map(|track| &track.kind);
                let is_begin = match event.kind {
                    EventKind::Begin => true,
                    EventKind::End => false,
                    EventKind::Instant | EventKind::Counter(_) => continue,
                };
                if kind == Some(&TrackKind::Lane) {
                    let lane = left.lanes.entry(event.track).or_default();
                    lane.begun += u64::from(is_begin);
                    lane.ended += u64::from(!is_begin);
                    if let Some(id) = event.span {
                        lane.last = lane.last.max(Some((event.time, id)));
                    }
                } else if event.track == sequence.track {
                    let stack = left.threads.entry(sequence.id).or_default();
                    if let (true, Some(label)) = (is_begin, event.label) {
                        let key = event.span.map_or(Key::Number(0), Key::Id);
                        stack.open.push(Open { key, label, start: event.time });
                    } else if !is_begin {
                        stack.end(event.spans_within());
                    }
                }
            }
        }
        left
    }
}

impl Stack {
    /// What a thread's packets state where some before them are missing.
    fn resumed(resumed: &Resumed) -> Self {
        let open = |span: &OpenSpan| Open {
            key: span.span.map_or(Key::Number(span.number), Key::Id),
            label: span.label,
            start: span.start,
        };
        let numbered = resumed.open.iter().filter(|span| span.span.is_none());
        let has_gaps = numbered.zip(1..).any(|(span, position)| span.number != position);
        Self { open: resumed.open.iter().map(open).collect(), has_gaps }
    }

    /// The innermost span ends, or one is taken off that has so many within it.
    fn end(&mut self, within: Option<usize>) {
        let position = self.open.len().checked_sub(within.unwrap_or(0) + 1);
        let Some(position) = position else {
            self.has_gaps = true;
            return;
        };
        let gone = self.open.remove(position);
        let is_numbered = |open: &Open| open.key.id().is_none();
        self.has_gaps |= is_numbered(&gone) && self.open[position..].iter().any(is_numbered);
        self.has_gaps &= !self.open.is_empty();
    }
}

impl LeftOpen {
    /// What came behind is missing: spans of threads may have ended there, and others begun. Those with ids are still known
    /// by these.
    pub fn forget_threads(&mut self) {
        self.threads.clear();
        self.is_unknown = true;
    }
}

impl Writer {
    /// Takes over the lanes on which spans stand.
    pub fn take_over_lanes(&mut self, left: &LeftOpen) {
        for (track, lane) in &left.lanes {
            if let Some((_, id)) = lane.last.filter(|_| lane.begun > lane.ended) {
                self.spans.places.insert(id, Place::Lane(*track));
            }
        }
    }

    /// The packet sequence of a thread whose track is known, with what stands open on it.
    pub fn resume(&mut self, sequence: u32, track: u64, left: &mut LeftOpen) -> Sequence {
        let unknown = || Stack { open: Vec::new(), has_gaps: left.is_unknown };
        let Stack { mut open, has_gaps } = left.threads.remove(&u64::from(sequence)).unwrap_or_else(unknown);
        let mut number = 0;
        for span in &mut open {
            match &mut span.key {
                Key::Number(own) if !has_gaps => {
                    number += 1;
                    *own = number;
                }
                Key::Number(_) => {}
                Key::Id(id) => drop(self.spans.places.insert(*id, Place::Thread(sequence))),
            }
        }
        let mut sequence = Sequence::new(sequence, track);
        sequence.open = open;
        sequence.knows_numbers = !has_gaps;
        sequence
    }
}
