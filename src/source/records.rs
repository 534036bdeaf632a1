//! Merges the packet sequences of all captures by time, matches the beginnings and ends of spans, and yields records.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};

use rustc_hash::FxHashMap;

use super::captures::Captures;
use super::places::Place;
use super::stated::Missing;
use crate::clock::Nanos;
use crate::event::{Entries, Kind, Label, Record};
use crate::trace::{EventKind, META_DOMAIN, OpenSpan, SequenceReader, TrackKind};

/// How many records of which kind there were, and what is missing. All have been counted when
/// [`CaptureRecords::next`] has given the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Spans that ended.
    pub spans: u64,
    /// Spans whose end is missing: they were running when the capture ended.
    pub unfinished: u64,
    /// Instants.
    pub instants: u64,
    /// Counter samples.
    pub counters: u64,
    /// Ends whose beginning is missing: it was dropped, or came before the capture began.
    pub orphans: u64,
    /// Spans that the server could not record, because too many were open.
    pub unfollowed: u64,
    /// Events that the server could not record, because a ring was full.
    pub dropped: u64,
    /// Events of threads that got no ring.
    pub ringless: u64,
    /// Those threads.
    pub ringless_threads: u64,
    /// Records, of which a span has two, that went with a file which somebody removed, moved or cut under the recorder.
    pub vanished: u64,
    /// Nanoseconds in which a capture could not be written; what its rings could not hold then is `dropped`.
    pub stalled: u64,
    /// Rings of killed processes that were in private memory: what they held last is lost.
    pub lost_rings: u64,
    /// Parts of captures that were removed to keep a session below its limit.
    pub removed_parts: u64,
    /// Events in them, as far as that is known.
    pub removed_events: u64,
    /// Packets that made no sense.
    pub malformed: u64,
}

impl Tally {
    /// Whether something of what happened while the server recorded is not there, other than as the config says.
    pub fn has_losses(&self) -> bool {
        self.dropped + self.ringless + self.vanished + self.unfollowed + self.lost_rings > 0
    }
}

/// One packet sequence and what its times mean.
struct Cursor<'a> {
    reader: SequenceReader<'a>,
    capture: u32,
    /// From `CLOCK_BOOTTIME` to unix time.
    offset: i64,
    /// The track of its last event, and the position of that track's stack.
    latest: Option<(u64, u32)>,
}

/// A span whose end has not come yet.
struct Open {
    label: Label,
    start: Nanos,
    attributes: Vec<u8>,
    /// Its id, if it has one.
    span: Option<u64>,
}

/// A track and its open spans, the innermost last.
struct Stack {
    place: Place,
    /// The label of events that have none: a counter's name is its track's.
    label: Label,
    /// False for what `parse` itself has laid over captures: tracks that belong to no process.
    is_recorded: bool,
    /// Whether it is a lane: its spans may begin on one thread and end on another.
    is_lane: bool,
    open: Vec<Open>,
    /// Ends that came before their beginnings, which is so where the beginning was written late.
    early: VecDeque<Early>,
    /// Spans whose end is in damage, and when they had ended by then.
    cut: Vec<(Open, Nanos)>,
}

/// An end that waits for its beginning.
struct Early {
    time: Nanos,
    attributes: Vec<u8>,
    span: Option<u64>,
}

/// Yields the records of captures in the order in which they ended; unfinished spans come last.
pub struct CaptureRecords<'a> {
    captures: &'a Captures,
    cursors: Vec<Cursor<'a>>,
    /// The time of each cursor's event, earliest first.
    heap: BinaryHeap<Reverse<(Nanos, u32)>>,
    stacks: Vec<Stack>,
    by_track: FxHashMap<(u32, u64), u32>,
    /// The last time seen in each process: where its unfinished spans are shown to end.
    last: Vec<Nanos>,
    record: Record,
    tally: Tally,
    packets: u64,
}

/// So many ends of a lane wait for their beginnings.
const MOST_EARLY: usize = 16;

impl<'a> CaptureRecords<'a> {
    pub(super) fn new(captures: &'a Captures) -> Self {
        let (mut cursors, mut heap) = (Vec::new(), BinaryHeap::new());
        let Missing { vanished, removed_parts, removed_events } = captures.missing;
        let mut tally = Tally { vanished, removed_parts, removed_events, ..Tally::default() };
        for (number, capture) in captures.opened.iter().enumerate() {
            for (position, sequence) in capture.index.sequences.iter().enumerate() {
                let place = capture.tracks.get(&sequence.track).unwrap_or(&capture.nowhere);
                let offset = captures.offsets.get(place.process.0 as usize).copied().unwrap_or_default();
                let mut reader = capture.index.read(position, capture.parts.clone());
                if reader.advance() {
                    let time = Nanos(reader.event().time.0.wrapping_add_signed(offset));
                    heap.push(Reverse((time, cursors.len() as u32)));
                } else {
                    tally.malformed += reader.malformed();
                }
                cursors.push(Cursor { reader, capture: number as u32, offset, latest: None });
            }
        }
        Self {
            captures,
            cursors,
            heap,
            stacks: Vec::new(),
            by_track: FxHashMap::default(),
            last: vec![Nanos(0); captures.places().processes.len()],
            record: Record::instant(Label::new("", ""), Nanos(0)),
            tally,
            packets: 0,
        }
    }

    /// The next record. It is the iterator's own, and lent until the next call.
    #[allow(clippy::should_implement_trait, reason = "an iterator could not lend the record")]
    pub fn next(&mut self) -> Option<&Record> {
        while let Some(top) = self.heap.peek_mut() {
            let Reverse((time, number)) = *top;
            let cursor = &mut self.cursors[number as usize];
            let event = cursor.reader.event();
            let resumed = event.resumed.take();
            let stack = match cursor.latest {
                Some((track, stack)) if track == event.track => stack,
                _ => {
                    let key = (cursor.capture, event.track);
                    let stack = stack_of(&mut self.by_track, &mut self.stacks, self.captures, key);
                    cursor.latest = Some((event.track, stack));
                    stack
                }
            };
            if let Some(resumed) = resumed {
                let key = (cursor.capture, resumed.track);
                let of_thread = stack_of(&mut self.by_track, &mut self.stacks, self.captures, key);
                let of_thread = &mut self.stacks[of_thread as usize];
                let last = self.last.get(of_thread.place.process.0 as usize).copied();
                of_thread.resume(&resumed.open, cursor.offset, last.unwrap_or_default());
            }
            let stack = &mut self.stacks[stack as usize];
            let mut done = false;
            if stack.is_recorded {
                if let Some(last) = self.last.get_mut(stack.place.process.0 as usize) {
                    *last = time.max(*last); // what is taken off a track is told late
                }
                done = apply(event, time, stack, &mut self.record, &mut self.tally);
            }

            let before = cursor.reader.packets();
            if cursor.reader.advance() {
                let next = Nanos(cursor.reader.event().time.0.wrapping_add_signed(cursor.offset));
                let mut top = top;
                *top = Reverse((next, number));
            } else {
                PeekMut::pop(top);
                self.tally.malformed += cursor.reader.malformed();
            }
            self.packets += cursor.reader.packets() - before;
            if done {
                return Some(&self.record);
            }
        }
        self.next_unfinished()
    }

    /// The record that the last call of [`CaptureRecords::next`] gave.
    pub(super) fn current(&self) -> &Record {
        &self.record
    }

    /// The time of the earliest event that has not been read.
    pub(super) fn next_time(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }

    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Packets read so far, to be compared with [`Intake::packets`](super::Intake::packets).
    pub fn packets(&self) -> u64 {
        self.packets
    }

    fn next_unfinished(&mut self) -> Option<&Record> {
        while let Some(stack) = self.stacks.last_mut() {
            let last = self.last.get(stack.place.process.0 as usize).copied();
            let open = stack.open.pop().map(|open| (last.unwrap_or(open.start), open));
            let Some((end, open)) = open.or_else(|| stack.cut.pop().map(|(open, end)| (end, open))) else {
                self.tally.orphans += stack.early.len() as u64;
                self.stacks.pop();
                continue;
            };
            fill(
                &mut self.record,
                Kind::Unfinished,
                stack.place,
                open.label,
                open.start,
                end.max(open.start),
            );
            self.record.attributes = open.attributes;
            self.tally.unfinished += 1;
            return Some(&self.record);
        }
        None
    }
}

/// The position of a track's stack.
fn stack_of(
    by_track: &mut FxHashMap<(u32, u64), u32>,
    stacks: &mut Vec<Stack>,
    captures: &Captures,
    key: (u32, u64),
) -> u32 {
    *by_track.entry(key).or_insert_with(|| {
        let capture = &captures.opened[key.0 as usize];
        let (place, track) = (capture.tracks.get(&key.1), capture.index.tracks.get(&key.1));
        stacks.push(Stack {
            place: place.copied().unwrap_or(capture.nowhere),
            label: Label::new("", track.map_or("", |track| track.name.as_str())),
            is_recorded: !capture.index.is_of_no_process(key.1),
            is_lane: track.is_some_and(|track| track.kind == TrackKind::Lane),
            open: Vec::new(),
            early: VecDeque::new(),
            cut: Vec::new(),
        });
        stacks.len() as u32 - 1
    })
}

impl Stack {
    /// Packets are missing, behind which these spans stand open. What is open beside them has ended in between, by `last`.
    fn resume(&mut self, stated: &[OpenSpan], offset: i64, last: Nanos) {
        let mut before = std::mem::take(&mut self.open);
        for span in stated {
            let start = Nanos(span.start.0.wrapping_add_signed(offset));
            let known = before.iter().position(|open| open.start == start && open.label == span.label);
            let begun = || Open { label: span.label, start, attributes: Vec::new(), span: span.span };
            self.open.push(known.map_or_else(begun, |position| before.remove(position)));
        }
        self.cut.extend(before.into_iter().map(|open| (open, last)));
    }

    /// The end of a span that begins, if that came first.
    fn early_end(&mut self, span: Option<u64>, start: Nanos, tally: &mut Tally) -> Option<Early> {
        if let Some(position) = self.early.iter().position(|end| end.span.is_some() && end.span == span) {
            return self.early.remove(position);
        }
        while self.early.front().is_some_and(|end| end.span.is_none()) {
            let end = self.early.pop_front()?;
            if end.time >= start {
                return Some(end);
            }
            tally.orphans += 1; // its own beginning never came
        }
        None
    }

    /// Takes out the span that ends: the one with this id, or where ends have none, the innermost.
    fn ended(&mut self, span: Option<u64>) -> Option<Open> {
        let Some(id) = span else { return self.open.pop() };
        let position = self.open.iter().rposition(|open| open.span == Some(id))?;
        Some(self.open.remove(position))
    }
}

/// Takes an event in; true if `record` now holds a record.
fn apply(
    event: &mut crate::trace::Event,
    time: Nanos,
    stack: &mut Stack,
    record: &mut Record,
    tally: &mut Tally,
) -> bool {
    let label = event.label.unwrap_or(stack.label);
    match event.kind {
        EventKind::Begin => {
            // Most beginnings say nothing: their buffer stays where it is.
            let attributes =
                if event.attributes.is_empty() { Vec::new() } else { std::mem::take(&mut event.attributes) };
            let open = Open { label, start: time, attributes, span: event.span };
            if let Some(end) = stack.early_end(event.span, time, tally) {
                event.attributes = end.attributes;
                close(event, end.time, open, stack.place, record);
                tally.spans += 1;
                return true;
            }
            stack.open.push(open);
            return false;
        }
        EventKind::End if event.spans_within().is_some() => {
            // It is on a lane instead.
            let position = event.spans_within().and_then(|within| stack.open.len().checked_sub(within + 1));
            if let Some(position) = position.filter(|position| stack.open[*position].label == label) {
                stack.open.remove(position);
            }
            return false;
        }
        EventKind::End => {
            let Some(open) = stack.ended(event.span) else {
                if stack.is_lane {
                    if stack.early.len() == MOST_EARLY {
                        stack.early.pop_front();
                        tally.orphans += 1;
                    }
                    let attributes = std::mem::take(&mut event.attributes);
                    stack.early.push_back(Early { time, attributes, span: event.span });
                } else {
                    tally.orphans += 1;
                }
                return false;
            };
            tally.spans += 1;
            close(event, time, open, stack.place, record);
        }
        EventKind::Instant if label.domain().as_str() == META_DOMAIN => {
            let number = |key: &str| {
                let value = Entries::of(&event.attributes).find(|(found, _)| *found == key)?.1.as_int();
                value.and_then(|number| u64::try_from(number).ok())
            };
            match label.name().as_str() {
                "dropped" => tally.dropped += number("count").unwrap_or_default(),
                "unmatched" => tally.orphans += number("count").unwrap_or_default(),
                "unfollowed" => tally.unfollowed += number("count").unwrap_or_default(),
                "ringless" => {
                    tally.ringless += number("count").unwrap_or_default();
                    tally.ringless_threads += number("threads").unwrap_or_default();
                }
                "stalled" => tally.stalled += number("ns").unwrap_or_default(),
                "lost_rings" => tally.lost_rings += number("count").unwrap_or_default(),
                // What went with files is put together beforehand, over all captures.
                _ => {}
            }
            return false;
        }
        EventKind::Instant => {
            tally.instants += 1;
            fill(record, Kind::Instant, stack.place, label, time, time);
            std::mem::swap(&mut record.attributes, &mut event.attributes);
        }
        EventKind::Counter(value) => {
            tally.counters += 1;
            fill(record, Kind::Counter(value), stack.place, label, time, time);
            std::mem::swap(&mut record.attributes, &mut event.attributes);
        }
    }
    true
}

/// A span has ended.
fn close(event: &mut crate::trace::Event, end: Nanos, open: Open, place: Place, record: &mut Record) {
    // The writer's clock may go back by some nanoseconds when it is corrected.
    fill(record, Kind::Span, place, open.label, open.start, end.max(open.start));
    // What was said at the beginning comes first. Encoded attributes can be put one behind the other.
    if open.attributes.is_empty() {
        std::mem::swap(&mut record.attributes, &mut event.attributes);
    } else {
        record.attributes = open.attributes;
        record.attributes.extend_from_slice(&event.attributes);
    }
}

fn fill(record: &mut Record, kind: Kind, place: Place, label: Label, start: Nanos, end: Nanos) {
    record.kind = kind;
    record.label = label;
    (record.start, record.end) = (start, end);
    (record.process, record.thread, record.lane) = (place.process, place.thread, place.lane);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fixture::{BOOT, Recording, booted_at, ids, session, text};
    use super::*;
    use crate::event::{Value, View};
    use crate::trace::Thread;

    /// Name, start and end (since boot), kind, pid, tid, lane.
    type Seen = (&'static str, u64, u64, Kind, u32, u32, u32);

    fn read(path: &Path) -> (Vec<Seen>, Tally) {
        let captures = Captures::open(path).unwrap();
        let mut records = captures.records();
        let mut seen = Vec::new();
        while let Some(record) = records.next() {
            let (process, thread) =
                (captures.places().process(record.process), captures.places().thread(record.thread));
            let (start, end) = (record.start.0 - BOOT, record.end.0 - BOOT);
            seen.push((record.name(), start, end, record.kind, process.pid, thread.tid, record.lane));
        }
        (seen, records.tally())
    }

    #[test]
    fn records_of_all_processes_come_in_the_order_in_which_they_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut api = Recording::new("h", 10, "api", &[]);
        let mut engine = Recording::new("h", 20, "engine", &[]);
        api.instant(2_000, "Engine", "httpReq", &[("rid", text("x"))]);
        engine.begin(3_000, "Execute", "outer");
        engine.span((4_000, 5_000), "Execute", "inner", &[]);
        api.instant(6_000, "Engine", "detokenize", &[]);
        engine.end(7_000, &[]);
        api.save(folder.path());
        engine.save(folder.path());
        let (seen, tally) = read(folder.path());
        assert_eq!(
            seen,
            [
                ("httpReq", 2_000, 2_000, Kind::Instant, 10, 11, 0),
                ("inner", 4_000, 5_000, Kind::Span, 20, 21, 0),
                ("detokenize", 6_000, 6_000, Kind::Instant, 10, 11, 0),
                ("outer", 3_000, 7_000, Kind::Span, 20, 21, 0),
            ]
        );
        assert_eq!(tally, Tally { spans: 2, instants: 2, ..Tally::default() });
    }

    #[test]
    fn attributes_keep_their_types_through_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        let dict = Value::Dict(vec![
            ("rid".into(), text("a")),
            ("inner".into(), Value::Array(vec![Value::Int(-5), Value::Double(0.5), Value::Bool(true)])),
        ]);
        process.begin(2_000, "D", "s");
        process.end(
            3_000,
            &[("rid", Value::Array(vec![dict])), ("none", Value::Array(vec![])), ("n", Value::Int(1))],
        );
        process.save(folder.path());
        let captures = Captures::open(folder.path()).unwrap();
        let mut records = captures.records();
        let record = records.next().unwrap();
        let shown: Vec<String> =
            record.entries().map(|(key, view)| format!("{key}={}", show(&view))).collect();
        assert_eq!(shown, ["rid=[{rid:\"a\" inner:[-5 0.5 true]}]", "none=[]", "n=1"]);
    }

    fn show(view: &View<'_>) -> String {
        match view {
            View::Bool(b) => b.to_string(),
            View::Int(n) => n.to_string(),
            View::Double(x) => x.to_string(),
            View::Str(text) => format!("{text:?}"),
            View::Array(items) => {
                format!("[{}]", items.clone().map(|v| show(&v)).collect::<Vec<_>>().join(" "))
            }
            View::Dict(entries) => {
                let entries: Vec<_> = entries.clone().map(|(k, v)| format!("{k}:{}", show(&v))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    #[test]
    fn spans_that_overlap_are_told_apart_by_their_lane_also_across_threads() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        let (writer, thread) = process.raw();
        let mut other = writer.thread(&Thread { tid: 99, name: "other".into(), sequence: 4_321 });
        let label = Label::new("Engine", "generate");
        writer.async_begin(thread, Nanos(2_000), label, 1);
        writer.async_begin(thread, Nanos(3_000), label, 2);
        writer.async_end(&mut other, Nanos(4_000), 1, &[]).unwrap();
        writer.async_end(thread, Nanos(5_000), 2, &[]).unwrap();
        process.save(folder.path());
        let (seen, _) = read(folder.path());
        assert_eq!(
            seen,
            [
                ("generate", 2_000, 4_000, Kind::Span, 1, 2, 1),
                ("generate", 3_000, 5_000, Kind::Span, 1, 2, 2),
            ]
        );
    }

    #[test]
    fn what_ran_when_a_process_died_is_unfinished_and_what_it_dropped_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        process.end(1_500, &[]);
        process.begin(2_000, "Execute", "outer");
        process.begin(3_000, "Execute", "inner");
        process.instant(4_000, "Meta", "dropped", &[("count", Value::Int(5))]);
        process.instant(9_000, "Meta", "dropped", &[("count", Value::Int(2))]);
        process.save(folder.path());
        let (seen, tally) = read(folder.path());
        assert_eq!(
            seen,
            [
                ("inner", 3_000, 9_000, Kind::Unfinished, 1, 2, 0),
                ("outer", 2_000, 9_000, Kind::Unfinished, 1, 2, 0),
            ]
        );
        assert_eq!(tally, Tally { unfinished: 2, orphans: 1, dropped: 7, ..Tally::default() });
    }

    #[test]
    fn a_file_cut_anywhere_gives_every_whole_packet_before_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        // Where the file may end without damage, and how many instants are whole by then.
        let mut whole = vec![(process.bytes().len(), 0)];
        for n in 1..=20 {
            process.instant(1_000 + n, "Engine", "httpReq", &[("rid", ids(&["a", "b"]))]);
            whole.push((process.bytes().len(), n));
        }
        let bytes = process.bytes().to_vec();
        let path = folder.path().join("h-1.pftrace");
        for cut in whole[0].0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let captures = Captures::open(folder.path()).unwrap();
            let (_, tally) = read(folder.path());
            let (end, expected) = *whole.iter().rev().find(|(end, _)| *end <= cut).unwrap();
            let (torn, unended) = (&captures.intake().torn, &captures.intake().unended);
            assert_eq!((torn.len(), unended.len()), if cut == end { (0, 1) } else { (1, 0) }, "cut at {cut}");
            assert_eq!(tally, Tally { instants: expected, ..Tally::default() }, "cut at {cut}");
        }
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_ends_there_and_that_is_counted() {
        const INSTANTS: u64 = 20_000;
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        (0..INSTANTS).for_each(|n| process.instant(1_000 + n, "Engine", "httpReq", &[("rid", ids(&["a"]))]));
        let path = process.save(folder.path());
        let length = path.metadata().unwrap().len();
        for (kept, before) in [(length / 2, 1), (0, 1), (0, 0)] {
            std::fs::write(&path, process.bytes()).unwrap();
            let captures = Captures::open(folder.path()).unwrap();
            let cut = || std::fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
            if before == 0 {
                cut();
            }
            let mut records = captures.records();
            let mut count = (0..before).filter(|_| records.next().is_some()).count() as u64;
            cut();
            while records.next().is_some() {
                count += 1;
            }
            assert!(count < INSTANTS * 3 / 4, "{count} with {kept} bytes left");
            assert!(records.tally().malformed >= 1);
        }
    }

    #[test]
    fn captures_joined_in_one_file_are_read_as_if_they_were_apart() {
        let apart = tempfile::tempdir().unwrap();
        session(apart.path());
        let joined = tempfile::tempdir().unwrap();
        let files = ["node-200.pftrace", "node-100.pftrace"];
        let bytes = files.map(|file| std::fs::read(apart.path().join(file)).unwrap()).concat();
        std::fs::write(joined.path().join("all.pftrace"), bytes).unwrap();
        let mut expected = read(apart.path());
        let mut found = read(joined.path());
        // Ties of time may be in another order.
        let order = |seen: &Seen| (seen.2, seen.1, seen.0, seen.4);
        expected.0.sort_by_key(order);
        found.0.sort_by_key(order);
        assert_eq!(found, expected);
        let captures = Captures::open(joined.path()).unwrap();
        let names: Vec<_> = captures.places().processes.iter().map(|p| p.capture.as_str()).collect();
        assert_eq!(names, ["node-200", "node-100"]);
    }

    #[test]
    fn a_span_may_begin_in_one_part_and_end_in_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 1, "p", &[]);
        process.begin(2_000, "Execute", "long");
        let first = process.bytes().len();
        process.end(3_000, &[]);
        let bytes = process.bytes().to_vec();
        std::fs::write(folder.path().join("h-1.pftrace"), &bytes[..first]).unwrap();
        std::fs::write(folder.path().join("h-1.1.pftrace"), &bytes[first..]).unwrap();
        assert_eq!(read(folder.path()).0, [("long", 2_000, 3_000, Kind::Span, 1, 2, 0)]);
    }

    #[test]
    fn a_host_that_was_restarted_and_one_of_the_same_name_have_clocks_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, boot_id, real) in [(1, "first", BOOT), (2, "second", BOOT + 5_000_000)] {
            let facts = [("boot_id", boot_id), ("pid_namespace", "7")];
            let mut process = Recording::on(booted_at(real), "h", pid, "p", &facts);
            process.instant(2_000 + u64::from(pid), "Engine", "httpReq", &[]);
            process.save(folder.path());
        }
        let times: Vec<_> = read(folder.path()).0.iter().map(|seen| (seen.4, seen.1)).collect();
        assert_eq!(times, [(1, 2_001), (2, 5_002_002)]);
        let captures = Captures::open(folder.path()).unwrap();
        let machines: Vec<_> =
            captures.places().processes.iter().map(crate::event::Process::machine).collect();
        assert_eq!(machines, ["h", "h (2)"]);
    }

    #[test]
    fn captures_of_one_process_in_a_session_are_one_process_and_those_of_one_pid_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for (identity, recorder) in
            [("0000000a", "before"), ("0000000b", "before"), ("0000000c", "after an exec")]
        {
            let mut process = Recording::new("h", 1, "p", &[("recorder", recorder)]);
            process.instant(2_000, "Engine", "httpReq", &[]);
            let path = folder.path().join(format!("h-1-{identity}.pftrace"));
            std::fs::rename(process.save(folder.path()), path).unwrap();
        }
        let captures = Captures::open(folder.path()).unwrap();
        let mut records = captures.records();
        let mut processes = Vec::new();
        while let Some(record) = records.next() {
            processes.push(record.process.0);
        }
        processes.sort_unstable();
        assert_eq!((captures.places().processes.len(), processes), (2, vec![0, 0, 1]));
    }

    #[test]
    fn processes_of_one_host_share_the_offset_to_unix_time() {
        let folder = tempfile::tempdir().unwrap();
        // The wall clock was set between the starts of the two processes.
        for (pid, real) in [(1, BOOT), (2, BOOT + 5_000_000)] {
            let mut process = Recording::on(booted_at(real), "h", pid, "p", &[]);
            process.instant(2_000 + u64::from(pid), "Engine", "httpReq", &[]);
            process.save(folder.path());
        }
        let times: Vec<_> = read(folder.path()).0.iter().map(|seen| (seen.4, seen.1)).collect();
        assert_eq!(times, [(1, 2_001), (2, 2_002)]);
    }
}
