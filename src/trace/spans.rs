//! The spans of a capture: which are open, and on which track each stands.
//!
//! A track shows spans that lie within each other. A thread's own spans begin on the thread's track. One that turns out not
//! to nest there is taken off again and put on a lane: a trace processor orders packets by their times, so what is written
//! when that is known may say what was so before.

use rustc_hash::FxHashMap;

use super::packet::{Encode, field};
use super::writer::{Sequence, Writer};
use crate::clock::Nanos;
use crate::event::{Attributes, Damaged, Label};

/// So many spans with an id are followed at once; somebody who begins more does not end them.
pub const MOST_OPEN: usize = 1 << 16;

/// Why an end has a name, which other ends have not: it takes a span off its track, which is on a lane instead. The value is
/// the number of spans within it on that track.
pub(super) const DOES_NOT_NEST: &str = "does_not_nest";

/// A span that stands on its thread's track and has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: Key,
    pub(super) label: Label,
    pub(super) start: Nanos,
}

impl Open {
    /// For a reader that has not seen it begin.
    pub(super) fn state(&self, out: &mut Vec<u8>) {
        let Self { key, label, start } = self;
        out.number(field::open_span::START, start.0);
        out.bytes(field::open_span::CATEGORY, label.domain().as_str().as_bytes());
        out.bytes(field::open_span::NAME, label.name().as_str().as_bytes());
        match key {
            Key::Id(id) => out.number(field::open_span::ID, *id),
            Key::Number(0) => {}
            Key::Number(number) => out.number(field::open_span::NUMBER, u64::from(*number)),
        }
    }
}

/// What the end of a span names it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// How many of its thread's numbered spans were open with it when it began; 0 if that is not known.
    Number(u32),
    Id(u64),
}

impl Key {
    pub(super) fn id(self) -> Option<u64> {
        match self {
            Self::Number(_) => None,
            Self::Id(id) => Some(id),
        }
    }
}

/// Where a span with an id is that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// On the lane of this track.
    Lane(u64),
    /// Among the open spans of the packet sequence with this id.
    Thread(u32),
}

/// The spans with an id that are open, wherever they are.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) places: FxHashMap<u64, Place>,
    /// Ends that came before their beginnings: another thread's records are taken at another time.
    waiting: FxHashMap<u64, Waiting>,
    visit: u64,
    /// How many have got an id here.
    made_up: u64,
    /// Spans that were not followed, and whose ends have not come.
    unfollowed: u64,
    /// Spans of threads that have gone, which nobody can end any more.
    abandoned: u64,
    lost: Lost,
}

#[derive(Debug)]
struct Waiting {
    time: Nanos,
    attributes: Vec<u8>,
    visit: u64,
}

impl Spans {
    /// An id that no other span has.
    fn made_up(&mut self) -> u64 {
        self.made_up += 1;
        u64::MAX - self.made_up
    }
}

/// What could not be put into the capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Ends whose beginning never came.
    pub ends: u64,
    /// Spans that began while too many were open.
    pub spans: u64,
}

impl Writer {
    /// A span of the thread begins.
    pub fn begin(&mut self, sequence: &mut Sequence, time: Nanos, label: Label) {
        let number = sequence.open.iter().rev().find_map(|open| match open.key {
            Key::Number(number) => Some(number),
            Key::Id(_) => None,
        });
        let next = if sequence.knows_numbers { number.unwrap_or(0) + 1 } else { 0 };
        self.begin_numbered(sequence, time, label, next);
    }

    /// A span of the thread begins, with which so many of its numbered ones are open.
    pub fn begin_numbered(&mut self, sequence: &mut Sequence, time: Nanos, label: Label, number: u32) {
        self.begin_on_thread(sequence, Open { key: Key::Number(number), label, start: time });
    }

    fn begin_on_thread(&mut self, sequence: &mut Sequence, open: Open) {
        let (label, start) = (open.label, open.start);
        self.make_ready(sequence);
        self.span_id = open.key.id();
        sequence.open.push(open);
        // A begin carries no attributes, so there is nothing that could be damaged.
        let _ = self.event(sequence, start, field::event_type::SLICE_BEGIN, Some(label), None, &[]);
    }

    /// The thread's innermost numbered span ends. Those with an id that began in it go on, on lanes.
    ///
    /// # Errors
    /// The attributes are damaged; those before the damage are written.
    pub fn end(&mut self, sequence: &mut Sequence, time: Nanos, attributes: &[u8]) -> Result<(), Damaged> {
        while let Some(Open { key: Key::Id(_), .. }) = sequence.open.last() {
            self.take_off(sequence, sequence.open.len() - 1);
        }
        self.make_ready(sequence);
        sequence.open.pop();
        self.event(sequence, time, field::event_type::SLICE_END, None, None, attributes)
    }

    /// The thread's span of this number ends, whatever began in it.
    ///
    /// # Errors
    /// The attributes are damaged; those before the damage are written.
    pub fn end_within(
        &mut self,
        sequence: &mut Sequence,
        time: Nanos,
        number: u32,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        let key = Key::Number(number.max(1)); // 0 is none's
        let Some(position) = sequence.open.iter().rposition(|open| open.key == key) else {
            self.spans.lost.ends += 1;
            return Ok(());
        };
        self.end_on_thread(sequence, position, time, attributes)
    }

    fn end_on_thread(
        &mut self,
        sequence: &mut Sequence,
        position: usize,
        time: Nanos,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        if position + 1 == sequence.open.len() {
            self.make_ready(sequence);
            sequence.open.pop();
            return self.event(sequence, time, field::event_type::SLICE_END, None, None, attributes);
        }
        let (lane, id) = self.take_off(sequence, position);
        self.end_on_lane(sequence, (lane, id), time, attributes)
    }

    /// The span of this id ends on its lane.
    fn end_on_lane(
        &mut self,
        sequence: &mut Sequence,
        (lane, id): (u64, u64),
        time: Nanos,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        self.lanes.give_back(lane, time);
        self.make_ready(sequence);
        self.span_id = Some(id);
        self.event(sequence, time, field::event_type::SLICE_END, None, Some(lane), attributes)
    }

    /// Puts a span on a lane that stands on its thread's track; what is left of it there has no duration. It ends if its end
    /// has come already. Gives the lane, and the span's id there.
    fn take_off(&mut self, sequence: &mut Sequence, position: usize) -> (u64, u64) {
        self.make_ready(sequence);
        let Open { key, label, start } = sequence.open.remove(position);
        let within = sequence.open.len() - position;
        let mut attributes = Attributes::default();
        attributes.key(self.does_not_nest).int(within as i64);
        self.is_held = true;
        let end = field::event_type::SLICE_END;
        // Just encoded, so it is whole.
        let _ = self.event(sequence, start, end, Some(label), None, attributes.as_bytes());
        let id = key.id().unwrap_or_else(|| self.spans.made_up());
        let lane = self.begin_on_lane(sequence, start, label, id);
        self.is_held = false;
        if let Key::Id(id) = key {
            if let Some(end) = self.spans.waiting.remove(&id) {
                self.spans.places.remove(&id);
                // What is damaged was told of when it came.
                let _ = self.end_on_lane(sequence, (lane, id), end.time.max(start), &end.attributes);
            } else {
                self.spans.places.insert(id, Place::Lane(lane));
            }
        }
        (lane, id)
    }

    fn begin_on_lane(&mut self, sequence: &mut Sequence, time: Nanos, label: Label, id: u64) -> u64 {
        self.make_ready(sequence);
        let lane = self.lane(sequence.track, label.domain(), time);
        self.span_id = Some(id);
        // There are no attributes that could be damaged.
        let _ = self.event(sequence, time, field::event_type::SLICE_BEGIN, Some(label), Some(lane), &[]);
        lane
    }

    /// A span begins that overlaps others of its thread.
    pub fn async_begin(&mut self, sequence: &mut Sequence, time: Nanos, label: Label, id: u64) {
        if self.is_crowded() {
            return;
        }
        let lane = self.begin_on_lane(sequence, time, label, id);
        self.spans.places.insert(id, Place::Lane(lane));
        if let Some(end) = self.spans.waiting.remove(&id) {
            // What is damaged was told of when it came.
            let _ = self.async_end(sequence, end.time.max(time), id, &end.attributes);
        }
    }

    /// A span begins that may not nest.
    pub fn loose_begin(&mut self, sequence: &mut Sequence, time: Nanos, label: Label, id: u64) {
        if self.spans.waiting.contains_key(&id) {
            // It has ended on another thread already, and so need not be ended among others here.
            return self.async_begin(sequence, time, label, id);
        }
        if !self.is_crowded() {
            self.spans.places.insert(id, Place::Thread(sequence.id));
            self.begin_on_thread(sequence, Open { key: Key::Id(id), label, start: time });
        }
    }

    /// The span of this id ends, on whichever thread. One that has not begun yet will find its end.
    ///
    /// # Errors
    /// The attributes are damaged; those before the damage are written.
    pub fn async_end(
        &mut self,
        sequence: &mut Sequence,
        time: Nanos,
        id: u64,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        match self.spans.places.get(&id) {
            Some(Place::Lane(lane)) => {
                let lane = *lane;
                self.spans.places.remove(&id);
                self.end_on_lane(sequence, (lane, id), time, attributes)
            }
            Some(Place::Thread(thread)) if *thread == sequence.id => {
                match sequence.open.iter().rposition(|open| open.key == Key::Id(id)) {
                    Some(position) => {
                        let outcome = self.end_on_thread(sequence, position, time, attributes);
                        self.spans.places.remove(&id);
                        outcome
                    }
                    None => Ok(()),
                }
            }
            Some(Place::Thread(_)) | None => {
                let end = Waiting { time, attributes: attributes.to_vec(), visit: self.spans.visit };
                self.spans.waiting.insert(id, end);
                Ok(())
            }
        }
    }

    /// Ends the spans of the thread that have ended on others.
    pub fn settle(&mut self, sequence: &mut Sequence) {
        if self.spans.waiting.is_empty() {
            return;
        }
        for position in (0..sequence.open.len()).rev() {
            if let Key::Id(id) = sequence.open[position].key
                && self.spans.waiting.contains_key(&id)
            {
                self.take_off(sequence, position);
            }
        }
    }

    /// The thread has ended. Its spans with an id can still end, on another.
    pub fn retire(&mut self, mut sequence: Sequence) {
        self.settle(&mut sequence);
        for position in (0..sequence.open.len()).rev() {
            if let Key::Id(_) = sequence.open[position].key {
                self.take_off(&mut sequence, position);
            }
        }
        self.spans.abandoned += sequence.open.len() as u64;
        self.lanes.retire(sequence.track);
    }

    /// How many spans have begun and not ended, those of threads that have gone among them.
    pub fn unended<'a>(&self, threads: impl Iterator<Item = &'a Sequence>) -> u64 {
        let on_lanes = self.spans.places.values().filter(|place| matches!(place, Place::Lane(_)));
        let on_threads: usize = threads.map(|sequence| sequence.open.len()).sum();
        self.spans.abandoned + (on_lanes.count() + on_threads) as u64
    }

    /// Of these, those of threads that have gone.
    pub fn abandoned(&self) -> u64 {
        self.spans.abandoned
    }

    /// The records of all threads have been taken once more: what an end of the visit before the last waits for does not
    /// come. What could not be put into the capture since the last time.
    pub fn next_visit(&mut self) -> Lost {
        self.spans.visit += 1;
        self.give_up_before(self.spans.visit.saturating_sub(1))
    }

    /// No more records come.
    pub fn last_visit(&mut self) -> Lost {
        self.give_up_before(u64::MAX)
    }

    fn give_up_before(&mut self, visit: u64) -> Lost {
        let Spans { waiting, unfollowed, lost, .. } = &mut self.spans;
        if !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|_, end| end.visit >= visit);
            let ends = (before - waiting.len()) as u64;
            // Those of spans that were not followed have been counted as spans.
            let expected = ends.min(*unfollowed);
            *unfollowed -= expected;
            lost.ends += ends - expected;
        }
        std::mem::take(lost)
    }

    fn is_crowded(&mut self) -> bool {
        let is_crowded = self.spans.places.len() >= MOST_OPEN;
        if is_crowded {
            self.spans.unfollowed += 1;
            self.spans.lost.spans += 1;
        }
        is_crowded
    }
}

#[cfg(test)]
mod tests {
    use super::super::tracks::{Process, Thread};
    use super::super::writer::Clocks;
    use super::*;
    use crate::clock::Snapshot;

    fn writer() -> (Writer, Sequence) {
        let process = Process { pid: 1, name: "p".into(), command: vec![] };
        let mut writer = Writer::new(process, Clocks::Fixed(Snapshot::default()), &[]);
        let thread = thread(&mut writer, 3);
        (writer, thread)
    }

    fn thread(writer: &mut Writer, sequence: u32) -> Sequence {
        writer.thread(&Thread { tid: sequence, name: "t".into(), sequence })
    }

    fn label() -> Label {
        Label::new("Engine", "generate")
    }

    #[test]
    fn a_lane_is_used_again_for_a_span_that_begins_after_its_last_has_ended() {
        let (mut writer, mut thread) = writer();
        writer.async_begin(&mut thread, Nanos(1), label(), 10);
        writer.async_begin(&mut thread, Nanos(2), label(), 11);
        writer.async_end(&mut thread, Nanos(4), 10, &[]).unwrap();
        // It began before the other ended, though that was seen first.
        writer.async_begin(&mut thread, Nanos(3), label(), 12);
        assert_eq!(writer.lanes.len(), 3);
        writer.async_begin(&mut thread, Nanos(5), label(), 13);
        assert_eq!(writer.lanes.len(), 3);
    }

    #[test]
    fn the_lanes_of_a_thread_that_has_ended_are_forgotten() {
        let (mut writer, mut main) = writer();
        for number in 0..100 {
            let mut gone = thread(&mut writer, 100 + number);
            writer.async_begin(&mut gone, Nanos(1), label(), 1);
            writer.async_end(&mut gone, Nanos(2), 1, &[]).unwrap();
            writer.loose_begin(&mut gone, Nanos(3), label(), 2);
            writer.retire(gone);
            writer.async_end(&mut main, Nanos(4), 2, &[]).unwrap();
        }
        assert_eq!(writer.lanes.len(), 0);
        assert_eq!(writer.last_visit(), Lost::default());
    }

    #[test]
    fn spans_that_nobody_ends_take_a_bounded_number_of_places_and_are_counted() {
        let (mut writer, mut thread) = writer();
        let most = MOST_OPEN as u64;
        for id in 0..most + 10 {
            writer.async_begin(&mut thread, Nanos(id), label(), id);
            writer.written();
        }
        assert_eq!(writer.lanes.len(), MOST_OPEN);
        assert_eq!(writer.next_visit(), Lost { spans: 10, ends: 0 });
        // The end of one that was counted is not missing as well.
        writer.async_end(&mut thread, Nanos(most), most + 1, &[]).unwrap();
        writer.async_end(&mut thread, Nanos(most), 3, &[]).unwrap();
        assert_eq!(writer.last_visit(), Lost::default());
        writer.async_begin(&mut thread, Nanos(most + 1), label(), most + 11);
        assert_eq!(writer.lanes.len(), MOST_OPEN);
    }

    #[test]
    fn an_end_whose_beginning_does_not_come_is_counted_after_another_visit() {
        let (mut writer, mut thread) = writer();
        writer.async_end(&mut thread, Nanos(5), 7, &[]).unwrap();
        assert_eq!(writer.next_visit(), Lost::default());
        assert_eq!(writer.next_visit(), Lost { ends: 1, spans: 0 });
        writer.end_within(&mut thread, Nanos(6), 4, &[]).unwrap();
        assert_eq!(writer.next_visit(), Lost { ends: 1, spans: 0 });
        assert_eq!(writer.last_visit(), Lost::default());
    }
}
