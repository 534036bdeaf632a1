//! Writes TrackEvent packets: one packet sequence per thread, with interned names and a clock of its own, which
//! counts nanoseconds since the sequence's previous event.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use super::annotations::{Known, iid};
use super::block::{Framing, Stream};
use super::packet::{Encode, field};
use super::spans::{DOES_NOT_NEST, Open, Spans};
use super::tracks::{Lanes, Process, Thread};
use super::{FORMAT_VERSION, META_DOMAIN};
use crate::clock::{Nanos, Snapshot};
use crate::event::{Attributes, Damaged, Label, Name};

/// After so many bytes everything is stated again, so that a later part of the file stands alone. In blocks it is that of
/// each group.
const BYTES_UNTIL_CLEARED: usize = 4 << 20;

/// What is stated again may take one byte of so many, unless a group gets too long by that.
const RESTATED_SHARE: usize = 32;

/// No group has more bytes than so many times what the shortest has.
const LONGEST_GROUP: usize = 16;

/// A list of more request ids than this gets no flow arrows: nobody could follow them.
const MOST_FLOWS: usize = 32;

/// What has been said on one packet sequence since its state was last cleared.
#[derive(Debug)]
pub struct Sequence {
    pub(super) id: u32,
    pub(super) track: u64,
    /// What stands on the track and has not ended, the innermost last.
    pub(super) open: Vec<Open>,
    /// Whether all spans are known that are open.
    pub(super) knows_numbers: bool,
    /// Whose it is, if that is to be stated.
    thread: Option<Thread>,
    last: Nanos,
    /// The group of packets in which its state was cleared.
    group: u32,
    categories: Known,
    names: Known,
    keys: Known,
}

/// Where the clocks that a capture states come from.
#[derive(Clone, Copy, Debug)]
pub enum Clocks {
    /// This machine's, each time anew: what a recorder writes.
    Real,
    /// One instant, read elsewhere.
    Fixed(Snapshot),
}

impl Clocks {
    fn read(self) -> Snapshot {
        match self {
            Self::Real => Snapshot::now(),
            Self::Fixed(snapshot) => snapshot,
        }
    }
}

/// Encodes one process's capture into a buffer; the caller takes the bytes to the file.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    framing: Option<Framing>,
    /// Events in the open block.
    events: u32,
    /// The next packets belong into one block: one without the other would be wrong.
    pub(super) is_held: bool,
    pub(super) group: Group,
    clocks: Clocks,
    pub(super) process: Process,
    pub(super) process_track: u64,
    pub(super) own: Sequence,
    pub(super) lanes: Lanes,
    pub(super) spans: Spans,
    /// Those that have been seen, with their tracks and the group in which that was described last.
    pub(super) counters: FxHashMap<Label, (u64, u32)>,
    pub(super) seed: RandomState,
    pub(super) rid: Name,
    pub(super) does_not_nest: Name,
    event: Vec<u8>,
    interned: Vec<u8>,
    pub(super) flows: Vec<u64>,
    /// The id of the span that the next packet begins.
    pub(super) span_id: Option<u64>,
    /// What the meta record says.
    facts: Vec<(Name, String)>,
    /// Buffers for nested messages, one per depth.
    pub(super) nested: Vec<Vec<u8>>,
}

/// Packets that lean on none before them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u32,
    bytes: usize,
    /// Those of the bytes that earlier groups have too.
    restated: usize,
    /// It has so many bytes, or more, but not many more than so many.
    least: usize,
    most: usize,
}

impl Group {
    fn is_over(&self) -> bool {
        self.bytes >= self.least
            && self.bytes >= (self.restated.saturating_mul(RESTATED_SHARE)).min(self.most)
    }
}

/// A packet sequence's id, made of random bits: unlikely to meet another file's when files are joined, one that costs
/// four bytes a packet, and below 2^31, above which trace processors take clocks of the sequence for invalid.
pub fn sequence_id(random: u32) -> u32 {
    random & 0x0fff_ffff | 1
}

impl Writer {
    /// Starts a capture: the process's track, its clocks, and its meta record (`facts` are added to it).
    pub fn new(process: Process, clocks: Clocks, facts: &[(&str, &str)]) -> Self {
        let track = RandomState::new().hash_one(("process", process.pid));
        let mut writer = Self::continuing(process, track, clocks);
        let now = clocks.read();
        let offset = now.real.0.wrapping_sub(now.boot.0) as i64;
        writer.add_facts(&[("format", FORMAT_VERSION), ("unix_offset_ns", &offset.to_string())]);
        writer.add_facts(facts);
        writer.describe_process(None);
        writer.state_facts();
        writer
    }

    /// States more facts about the process; those of the same name that were stated before are not true any more.
    pub fn learn(&mut self, facts: &[(&str, &str)]) {
        self.add_facts(facts);
        self.state_facts();
    }

    fn add_facts(&mut self, facts: &[(&str, &str)]) {
        for (key, value) in facts {
            let key = Name::new(key);
            self.facts.retain(|(known, _)| *known != key);
            self.facts.push((key, (*value).to_owned()));
        }
    }

    fn state_facts(&mut self) {
        let mut facts = Attributes::default();
        for (key, value) in &self.facts {
            facts.key(*key).str(value);
        }
        let now = self.clocks.read();
        self.meta(now.boot, Label::new(META_DOMAIN, "process"), facts.as_bytes());
    }

    /// Writes more of a capture that was started elsewhere, for the process of this track.
    pub fn continuing(process: Process, process_track: u64, clocks: Clocks) -> Self {
        let seed = RandomState::new();
        let own = Sequence::new(sequence_id(seed.hash_one("own") as u32), process_track);
        Self {
            out: Vec::with_capacity(64 << 10),
            framing: None,
            events: 0,
            is_held: false,
            group: Group {
                number: 1,
                bytes: 0,
                restated: 0,
                least: BYTES_UNTIL_CLEARED,
                most: BYTES_UNTIL_CLEARED,
            },
            clocks,
            process,
            process_track,
            own,
            lanes: Lanes::default(),
            spans: Spans::default(),
            counters: FxHashMap::default(),
            seed,
            rid: Name::new("rid"),
            does_not_nest: Name::new(DOES_NOT_NEST),
            event: Vec::new(),
            interned: Vec::new(),
            flows: Vec::new(),
            span_id: None,
            facts: Vec::new(),
            nested: Vec::new(),
        }
    }

    /// Writes in blocks from now on, compressed or as they are, and begins with what is pending. They go on where `stream`
    /// stopped, or are a stream of their own.
    #[must_use]
    pub fn in_blocks(mut self, compress: bool, stream: Option<Stream>) -> Self {
        let stream = stream.unwrap_or_else(|| Stream::new(self.seed.hash_one("stream") as u32));
        let mut framing = Framing::new(stream, compress);
        (self.group.least, self.group.most) = (framing.full(), LONGEST_GROUP * framing.full());
        if !self.out.is_empty() {
            let packets = std::mem::take(&mut self.out);
            framing.open(&mut self.out);
            self.out.extend(packets);
        }
        self.framing = Some(framing);
        self
    }

    /// Blocks and groups of so many bytes, for a test.
    #[cfg(test)]
    pub(crate) fn set_block(&mut self, bytes: usize) {
        if let Some(framing) = &mut self.framing {
            framing.set_full(bytes);
            (self.group.least, self.group.most) = (bytes, bytes);
        }
    }

    /// Other clocks from now on, for a test.
    #[cfg(test)]
    pub(crate) fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    /// The number of the open block, for a test.
    #[cfg(test)]
    pub(crate) fn block(&self) -> usize {
        self.framing.as_ref().map_or(0, Framing::number)
    }

    /// Ends the open block, so that all is pending that came until now.
    pub fn seal(&mut self) {
        self.end_block(false);
    }

    /// Ends the capture: no more comes, and a reader can tell. What a reader needs to know of the process is stated once more,
    /// in case that the beginning gets lost.
    pub fn close(&mut self) {
        self.describe_process(None);
        if !self.facts.is_empty() {
            self.state_facts();
        }
        if let Some(framing) = &mut self.framing {
            framing.open(&mut self.out);
        }
        self.end_block(true);
    }

    fn end_block(&mut self, is_last: bool) {
        if let Some(framing) = &mut self.framing {
            framing.seal(&mut self.out, std::mem::take(&mut self.events), is_last);
        }
    }

    /// The bytes that wait to be written: whole packets, and where these come in blocks, whole blocks.
    pub fn pending(&self) -> &[u8] {
        &self.out[..self.whole()]
    }

    /// Forgets the pending bytes: they were written.
    pub fn written(&mut self) {
        let whole = self.whole();
        self.out.drain(..whole);
        if let Some(framing) = &mut self.framing {
            framing.moved();
        }
    }

    /// Forgets what is pending, and what has come since: it can't be written, and later packets may not lean on it.
    pub fn forget_pending(&mut self) {
        self.out.clear();
        self.events = 0;
        if let Some(framing) = &mut self.framing {
            framing.go_back();
        }
        self.next_group();
    }

    /// What was written is not there any more: a stream of its own begins.
    pub fn begin_stream(&mut self) {
        let id = self.seed.hash_one(("stream", self.group.number)) as u32;
        if let Some(framing) = &mut self.framing {
            framing.begin_stream(Stream::new(id));
        }
    }

    /// How far the stream of blocks has come of what was written.
    pub fn stream(&self) -> Stream {
        self.framing.as_ref().map_or(Stream::new(0), Framing::written)
    }

    fn whole(&self) -> usize {
        self.framing.as_ref().map_or(self.out.len(), |framing| framing.whole(&self.out))
    }

    /// States the clocks again. Together with the sequence's own clock, since a trace processor accepts no other
    /// snapshot that is older than one before it, and in joined files there are such.
    pub fn snapshot(&mut self) {
        self.with_own(Self::clear);
    }

    /// States everything again that later packets lean on: for a file of its own, to be read without those before it.
    /// `threads` are all that still write.
    pub fn state_again<'a>(&mut self, threads: impl Iterator<Item = (&'a Thread, &'a Sequence)>) {
        self.next_group();
        self.snapshot();
        self.state_facts();
        for (thread, sequence) in threads {
            self.describe_thread(thread, sequence.track);
        }
        for lane in self.lanes.tracks() {
            self.describe_lane(lane);
        }
        for label in self.counters.keys().copied().collect::<Vec<_>>() {
            self.counter_track(label);
        }
    }

    /// Something happened.
    ///
    /// # Errors
    /// The attributes are damaged; those before the damage are written.
    pub fn instant(
        &mut self,
        sequence: &mut Sequence,
        time: Nanos,
        label: Label,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        self.event(sequence, time, field::event_type::INSTANT, Some(label), None, attributes)
    }

    /// A sample of a number, on a track of its own below the process.
    pub fn counter(&mut self, sequence: &mut Sequence, time: Nanos, label: Label, value: f64) {
        self.make_ready(sequence);
        let track = self.counter_track(label);
        // Each event begins with what is there already.
        self.event.fixed64(field::track_event::DOUBLE_COUNTER_VALUE, value.to_bits());
        // No attributes that could be damaged; without a label, since its track is named.
        let _ = self.event(sequence, time, field::event_type::COUNTER, None, Some(track), &[]);
    }

    /// Facts about the process, as an instant on its own track.
    pub fn meta(&mut self, time: Nanos, label: Label, attributes: &[u8]) {
        self.with_own(|writer, own| {
            let event_type = field::event_type::INSTANT;
            if writer.event(own, time, event_type, Some(label), None, attributes).is_err() {
                log::debug!("a meta record was damaged");
            }
        });
    }

    fn with_own(&mut self, write: impl FnOnce(&mut Self, &mut Sequence)) {
        let placeholder = Sequence::new(self.own.id, self.process_track);
        let mut own = std::mem::replace(&mut self.own, placeholder);
        write(self, &mut own);
        self.own = own;
    }

    /// One packet on a sequence: `build` gets its body and an empty scratch buffer.
    pub(super) fn packet(&mut self, sequence: u32, build: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        let (mut body, mut scratch) = (Vec::new(), Vec::new());
        body.number(field::packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(sequence));
        build(&mut body, &mut scratch);
        self.put(&body);
    }

    /// A whole packet.
    #[inline]
    fn put(&mut self, body: &[u8]) {
        if let Some(framing) = &mut self.framing {
            framing.open(&mut self.out);
        }
        let before = self.out.len();
        self.out.bytes(field::trace::PACKET, body);
        self.group.bytes += self.out.len() - before;
        if !self.is_held && self.framing.as_ref().is_some_and(|framing| framing.is_full(&self.out)) {
            self.end_block(false);
        }
    }

    /// Sees to it that a packet of the sequence can come. Before `open` is changed: that may be stated.
    #[inline]
    pub(super) fn make_ready(&mut self, sequence: &mut Sequence) {
        if !self.is_held && self.group.is_over() {
            self.next_group();
        }
        if sequence.group != self.group.number {
            self.clear(sequence);
        }
    }

    /// From now on everything is stated again that packets lean on, in a block of its own.
    fn next_group(&mut self) {
        self.end_block(false);
        if let Some(framing) = &mut self.framing {
            framing.begin_group();
        }
        (self.group.bytes, self.group.restated) = (0, 0);
        self.group.number = self.group.number.wrapping_add(1).max(1);
    }

    /// States everything that later packets of the sequence lean on.
    fn clear(&mut self, sequence: &mut Sequence) {
        let now = self.clocks.read();
        sequence.categories.clear();
        sequence.names.clear();
        sequence.keys.clear();
        (sequence.last, sequence.group) = (now.boot, self.group.number);
        let before = self.group.bytes;
        if let Some(thread) = &sequence.thread {
            self.describe_thread(thread, sequence.track);
        } else if sequence.track == self.process_track {
            self.describe_process(None);
        }
        let (track, open) = (sequence.track, &sequence.open);
        self.packet(sequence.id, |out, scratch| {
            let flags = field::sequence_flag::INCREMENTAL_STATE_CLEARED
                | field::sequence_flag::NEEDS_INCREMENTAL_STATE;
            out.number(field::packet::SEQUENCE_FLAGS, flags);
            out.message(field::packet::CLOCK_SNAPSHOT, scratch, |out| clocks(out, now));
            out.message(field::packet::TRACE_PACKET_DEFAULTS, scratch, |out| {
                let clock = field::clock_id::SEQUENCE_INCREMENTAL;
                out.number(field::packet_defaults::TIMESTAMP_CLOCK_ID, clock);
                let mut defaults = Vec::new();
                defaults.number(field::track_event_defaults::TRACK_UUID, track);
                out.bytes(field::packet_defaults::TRACK_EVENT_DEFAULTS, &defaults);
            });
            for span in open {
                out.message(field::packet::OPEN_SPAN, scratch, |out| span.state(out));
            }
        });
        self.group.restated += self.group.bytes - before;
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one packet")]
    pub(super) fn event(
        &mut self,
        sequence: &mut Sequence,
        time: Nanos,
        event_type: u64,
        label: Option<Label>,
        track: Option<u64>,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        self.make_ready(sequence);
        let (mut event, mut interned) = (std::mem::take(&mut self.event), std::mem::take(&mut self.interned));
        event.number(field::track_event::TYPE, event_type);
        if let Some(label) = label {
            let (domain, name) = (label.domain(), label.name());
            sequence.categories.intern(&mut interned, field::interned_data::EVENT_CATEGORIES, domain);
            sequence.names.intern(&mut interned, field::interned_data::EVENT_NAMES, name);
            event.number(field::track_event::CATEGORY_IIDS, iid(domain));
            event.number(field::track_event::NAME_IID, iid(name));
        }
        if let Some(track) = track {
            event.number(field::track_event::TRACK_UUID, track);
        }
        let outcome = self.annotations(&mut sequence.keys, &mut event, &mut interned, attributes);
        if let [one] = *self.flows {
            event.number(field::track_event::CORRELATION_ID, one);
        }
        if self.flows.len() <= MOST_FLOWS {
            for flow in &self.flows {
                event.fixed64(field::track_event::FLOW_IDS, *flow);
            }
        }
        self.flows.clear();

        self.group.restated += interned.len();
        self.events += 1;
        let delta = time.0.wrapping_sub(sequence.last.0);
        sequence.last = time;
        let head = 16 + event.len() + interned.len() + 24;
        let mut body = self.nested.pop().unwrap_or_default();
        body.reserve(head);
        body.number(field::packet::TIMESTAMP, delta);
        body.number(field::packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(sequence.id));
        if !interned.is_empty() {
            body.bytes(field::packet::INTERNED_DATA, &interned);
        }
        body.bytes(field::packet::TRACK_EVENT, &event);
        if let Some(id) = self.span_id.take() {
            body.number(field::packet::SPAN_ID, id);
        }
        self.put(&body);

        body.clear();
        event.clear();
        interned.clear();
        self.nested.push(body);
        (self.event, self.interned) = (event, interned);
        outcome
    }
}

impl Sequence {
    /// One that says whose it is.
    pub(super) fn of(thread: &Thread, track: u64) -> Self {
        Self { thread: Some(thread.clone()), ..Self::new(thread.sequence, track) }
    }

    pub(super) fn new(id: u32, track: u64) -> Self {
        Self {
            id,
            track,
            open: Vec::new(),
            knows_numbers: true,
            thread: None,
            last: Nanos(0),
            group: 0,
            categories: Known::default(),
            names: Known::default(),
            keys: Known::default(),
        }
    }
}

pub(super) fn clocks(out: &mut Vec<u8>, now: Snapshot) {
    let mut scratch = Vec::new();
    let mut clock = |id: u64, time: Nanos, is_incremental: bool| {
        out.message(field::clock_snapshot::CLOCKS, &mut scratch, |out| {
            out.number(field::clock::CLOCK_ID, id);
            out.number(field::clock::TIMESTAMP, time.0);
            if is_incremental {
                out.number(field::clock::IS_INCREMENTAL, 1);
            }
        });
    };
    clock(field::clock_id::BOOTTIME, now.boot, false);
    clock(field::clock_id::MONOTONIC, now.monotonic, false);
    clock(field::clock_id::REALTIME, now.real, false);
    clock(field::clock_id::SEQUENCE_INCREMENTAL, now.boot, true);
}
