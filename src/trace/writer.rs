//! Writes TrackEvent packets: one packet sequence per thread, with interned names and a clock of its own, which
//! counts nanoseconds since the sequence's previous event.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use super::packet::{Encode, field};
use super::spans::{DOES_NOT_NEST, Open, Spans};
use super::tracks::{Lanes, Process, Thread};
use super::{FORMAT_VERSION, META_DOMAIN};
use crate::clock::{Nanos, Snapshot};
use crate::event::{AttributeReader, Attributes, Damaged, Key, Label, Name, Token};

/// After so many bytes a sequence states everything again, so that a later part of the file stands alone.
const BYTES_UNTIL_CLEARED: usize = 4 << 20;

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
    last: Nanos,
    written: usize,
    cleared: bool,
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
    clocks: Clocks,
    pub(super) process: Process,
    pub(super) process_track: u64,
    pub(super) own: Sequence,
    pub(super) lanes: Lanes,
    pub(super) spans: Spans,
    /// Those that have been seen, with their tracks.
    pub(super) counters: FxHashMap<Label, u64>,
    pub(super) seed: RandomState,
    rid: Name,
    pub(super) does_not_nest: Name,
    event: Vec<u8>,
    interned: Vec<u8>,
    flows: Vec<u64>,
    /// The id of the span that the next packet begins.
    pub(super) span_id: Option<u64>,
    /// What the meta record says.
    facts: Vec<(Name, String)>,
    /// Buffers for nested messages, one per depth.
    nested: Vec<Vec<u8>>,
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
        writer.add_facts(&[("format", FORMAT_VERSION)]);
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

    /// The bytes that wait to be written.
    pub fn pending(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the pending bytes: they were written.
    pub fn written(&mut self) {
        self.out.clear();
    }

    /// States the clocks again. Together with the sequence's own clock, since a trace processor accepts no other
    /// snapshot that is older than one before it, and in joined files there are such.
    pub fn snapshot(&mut self) {
        self.with_own(Self::clear);
    }

    /// States everything again that later packets lean on: for a file of its own, to be read without those before it.
    /// `threads` are all that still write.
    pub fn state_again<'a>(&mut self, threads: impl Iterator<Item = (&'a Thread, &'a mut Sequence)>) {
        self.describe_process(None);
        self.snapshot();
        self.state_facts();
        for (thread, sequence) in threads {
            self.describe_thread(thread, sequence.track);
            sequence.cleared = false;
        }
        for lane in self.lanes.tracks() {
            self.describe_lane(lane);
        }
        for (label, track) in self.counters.clone() {
            self.describe_counter(label, track);
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
        self.out.bytes(field::trace::PACKET, &body);
    }

    /// States everything that later packets of the sequence lean on.
    fn clear(&mut self, sequence: &mut Sequence) {
        let now = self.clocks.read();
        sequence.categories.clear();
        sequence.names.clear();
        sequence.keys.clear();
        (sequence.last, sequence.written, sequence.cleared) = (now.boot, 0, true);
        let track = sequence.track;
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
        });
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
        if !sequence.cleared || sequence.written > BYTES_UNTIL_CLEARED {
            self.clear(sequence);
        }
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

        let before = self.out.len();
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
        self.out.bytes(field::trace::PACKET, &body);
        sequence.written += self.out.len() - before;

        body.clear();
        event.clear();
        interned.clear();
        self.nested.push(body);
        (self.event, self.interned) = (event, interned);
        outcome
    }

    fn annotations(
        &mut self,
        keys: &mut Known,
        event: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        let mut reader = AttributeReader::new(attributes);
        while !reader.is_done() {
            let mut annotation = self.nested.pop().unwrap_or_default();
            let outcome = self.entry(keys, &mut annotation, interned, &mut reader, 0);
            if outcome.is_ok() {
                event.bytes(field::track_event::DEBUG_ANNOTATIONS, &annotation);
            }
            annotation.clear();
            self.nested.push(annotation);
            outcome?;
        }
        Ok(())
    }

    /// A key and its value.
    fn entry(
        &mut self,
        keys: &mut Known,
        out: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        reader: &mut AttributeReader<'_>,
        depth: u32,
    ) -> Result<(), Damaged> {
        let mut is_request = false;
        match reader.key()? {
            Key::Name(index) => {
                let name = Name::from_index(index).ok_or(Damaged(0))?;
                is_request = name == self.rid;
                keys.intern(interned, field::interned_data::DEBUG_ANNOTATION_NAMES, name);
                out.number(field::annotation::NAME_IID, iid(name));
            }
            Key::Text(text) => out.bytes(field::annotation::NAME, text.as_bytes()),
        }
        self.annotation(keys, out, interned, reader, is_request, depth)
    }

    fn annotation(
        &mut self,
        keys: &mut Known,
        out: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        reader: &mut AttributeReader<'_>,
        is_request: bool,
        depth: u32,
    ) -> Result<(), Damaged> {
        if depth > 16 {
            return Err(Damaged(0));
        }
        let (items, is_dict) = match reader.token()? {
            Token::Bool(value) => {
                out.number(field::annotation::BOOL_VALUE, u64::from(value));
                return Ok(());
            }
            Token::Int(value) => {
                out.number(field::annotation::INT_VALUE, value as u64);
                return Ok(());
            }
            Token::Double(value) => {
                out.fixed64(field::annotation::DOUBLE_VALUE, value.to_bits());
                return Ok(());
            }
            Token::Str(text) => {
                if is_request {
                    self.flows.push(flow_id(text));
                }
                out.bytes(field::annotation::STRING_VALUE, text.as_bytes());
                return Ok(());
            }
            Token::Array(items) => (items, false),
            Token::Dict(items) => (items, true),
        };
        let field = if is_dict { field::annotation::DICT_ENTRIES } else { field::annotation::ARRAY_VALUES };
        for _ in 0..items {
            let mut item = self.nested.pop().unwrap_or_default();
            let outcome = if is_dict {
                self.entry(keys, &mut item, interned, reader, depth + 1)
            } else {
                self.annotation(keys, &mut item, interned, reader, is_request, depth + 1)
            };
            out.bytes(field, &item);
            item.clear();
            self.nested.push(item);
            outcome?;
        }
        Ok(())
    }
}

impl Sequence {
    pub(super) fn new(id: u32, track: u64) -> Self {
        Self {
            id,
            track,
            open: Vec::new(),
            knows_numbers: true,
            last: Nanos(0),
            written: 0,
            cleared: false,
            categories: Known::default(),
            names: Known::default(),
            keys: Known::default(),
        }
    }
}

/// Which interned ids a sequence has stated.
#[derive(Debug, Default)]
struct Known(Vec<bool>);

impl Known {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn intern(&mut self, out: &mut Vec<u8>, field: u32, name: Name) {
        let index = name.index() as usize;
        if self.0.get(index) == Some(&true) {
            return;
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, false);
        }
        self.0[index] = true;
        let mut entry = Vec::new();
        entry.number(field::interned::IID, iid(name));
        entry.bytes(field::interned::NAME, name.as_str().as_bytes());
        out.bytes(field, &entry);
    }
}

/// Perfetto's interned ids begin at 1.
fn iid(name: Name) -> u64 {
    u64::from(name.index()) + 1
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

/// A request's flow id: FNV-1a of its id, without the suffix `-<8 hex digits>` that vLLM's engine adds to the API
/// server's id, so that both processes' events are one flow.
fn flow_id(rid: &str) -> u64 {
    let base = match rid.rsplit_once('-') {
        Some((base, suffix)) if suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit()) => base,
        _ => rid,
    };
    base.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_id_and_the_api_servers_id_are_one_flow() {
        assert_eq!(flow_id("cmpl-abc-0"), flow_id("cmpl-abc-0-1a2b3c4d"));
        assert_ne!(flow_id("cmpl-abc-0"), flow_id("cmpl-abc-1"));
    }
}
