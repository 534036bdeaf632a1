//! The second pass over a capture: the events of one packet sequence, in their order, with interned names resolved
//! and annotations as [`Attributes`]. Used by `source`, which merges the sequences.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fields::{Fields, Malformed, Wire};
use super::index::{Index, Run, clocks, default_track};
use super::packet::field;
use crate::clock::Nanos;
use crate::event::{Attributes, Label, Name};

/// Fields that our writer does not write, but Perfetto's own SDKs do.
mod foreign {
    pub(super) const EVENT_CATEGORIES: u32 = 22;
    pub(super) const EVENT_NAME: u32 = 23;
    pub(super) const COUNTER_VALUE: u32 = 30;
    pub(super) const DOUBLE_COUNTER_VALUE: u32 = 44;
    pub(super) const LEGACY_JSON_VALUE: u32 = 9;
    pub(super) const COUNTER: u64 = 4;
}

/// Annotations nested deeper than this are left out: they are damage, or nothing that a person could look at.
const DEEPEST: u32 = 16;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventKind {
    /// A span of the track begins.
    Begin,
    /// The track's innermost span ends.
    End,
    /// Something happened.
    Instant,
    /// A sample of the track's number.
    Counter(f64),
}

/// One event, as the file has it.
#[derive(Debug)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// `CLOCK_BOOTTIME`.
    pub time: Nanos,
    /// Its track's uuid.
    pub track: u64,
    /// Its category and name; none at a span's end.
    pub label: Option<Label>,
    /// What was said about it, encoded as [`Attributes`] does.
    pub attributes: Vec<u8>,
}

/// Reads the events of one sequence.
#[derive(Debug)]
pub struct SequenceReader<'a> {
    parts: Arc<[&'a [u8]]>,
    runs: std::slice::Iter<'a, Run>,
    left: Fields<'a>,
    /// `CLOCK_BOOTTIME` of the last event on the sequence's own clock.
    last: u64,
    default_track: u64,
    default_clock: u64,
    names: Interned,
    event: Event,
    packets: u64,
    malformed: u64,
}

/// What the sequence has stated by id since its state was last cleared.
#[derive(Debug, Default)]
struct Interned {
    categories: FxHashMap<u64, Name>,
    names: FxHashMap<u64, Name>,
    keys: FxHashMap<u64, Name>,
    texts: FxHashMap<u64, Box<str>>,
    /// By ids of category and name: spares a look into the table of labels for each event.
    labels: FxHashMap<(u64, u64), Label>,
}

impl Index {
    /// The events of a sequence, which is a position in [`Index::sequences`]; `parts` are those of the index.
    pub fn read<'a>(&'a self, sequence: usize, parts: Arc<[&'a [u8]]>) -> SequenceReader<'a> {
        SequenceReader {
            parts,
            runs: self.sequences.get(sequence).map_or(&[][..], |found| &found.runs).iter(),
            left: Fields(&[]),
            last: 0,
            default_track: 0,
            default_clock: field::clock_id::BOOTTIME,
            names: Interned::default(),
            event: Event {
                kind: EventKind::Instant,
                time: Nanos(0),
                track: 0,
                label: None,
                attributes: Vec::new(),
            },
            packets: 0,
            malformed: 0,
        }
    }
}

impl SequenceReader<'_> {
    /// Goes to the next event; false at the end. A packet that makes no sense is counted and passed over.
    pub fn advance(&mut self) -> bool {
        loop {
            match self.left.next() {
                Ok(Some((field::trace::PACKET, Wire::Bytes(packet)))) => {
                    self.packets += 1;
                    match self.packet(packet) {
                        Ok(true) => return true,
                        Ok(false) => {}
                        Err(Malformed) => self.malformed += 1,
                    }
                }
                Ok(Some(_)) => {}
                // Within a run nothing is cut: the index has walked over it.
                Ok(None) | Err(Malformed) => {
                    let Some(run) = self.runs.next() else { return false };
                    self.left = Fields(
                        self.parts.get(run.part).and_then(|part| part.get(run.start..run.end)).unwrap_or(&[]),
                    );
                }
            }
        }
    }

    /// The event that [`SequenceReader::advance`] has read. Its attributes may be taken out.
    pub fn event(&mut self) -> &mut Event {
        &mut self.event
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets passed over so far, because they made no sense.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Whether the packet is an event.
    fn packet(&mut self, packet: &[u8]) -> Result<bool, Malformed> {
        let (mut timestamp, mut clock, mut flags, mut event) = (None, None, 0, None);
        let (mut snapshot, mut defaults) = (None, None);
        let mut interned: Option<&[u8]> = None;
        let mut fields = Fields(packet);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::packet::TIMESTAMP => timestamp = Some(value.number()),
                field::packet::TIMESTAMP_CLOCK_ID => clock = Some(value.number()),
                field::packet::SEQUENCE_FLAGS => flags = value.number(),
                field::packet::TRACK_EVENT => event = Some(value.bytes()),
                field::packet::INTERNED_DATA => interned = Some(value.bytes()),
                field::packet::CLOCK_SNAPSHOT => snapshot = Some(value.bytes()),
                field::packet::TRACE_PACKET_DEFAULTS => defaults = Some(value.bytes()),
                _ => {}
            }
        }
        if flags & field::sequence_flag::INCREMENTAL_STATE_CLEARED != 0 {
            self.names = Interned::default();
        }
        if let Some(snapshot) = snapshot {
            let stated = clocks(snapshot)?;
            if let (Some(_), Some(boot)) = (stated.own, stated.boot) {
                self.last = boot;
            }
        }
        if let Some(defaults) = defaults {
            self.default_track = default_track(defaults)?;
            self.default_clock = default_clock(defaults)?;
        }
        if let Some(interned) = interned {
            self.names.state(interned)?;
        }
        let Some(event) = event else { return Ok(false) };
        let timestamp = timestamp.ok_or(Malformed)?;
        self.event.time = match clock.unwrap_or(self.default_clock) {
            field::clock_id::SEQUENCE_INCREMENTAL => {
                self.last = self.last.wrapping_add(timestamp);
                Nanos(self.last)
            }
            field::clock_id::BOOTTIME => Nanos(timestamp),
            _ => return Err(Malformed),
        };
        self.read_event(event)
    }

    fn read_event(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        let (mut kind, mut counter, mut category, mut name) = (0, 0.0, 0, 0);
        let (mut category_text, mut name_text) = (None, None);
        self.event.track = self.default_track;
        let mut attributes = Attributes::reuse(std::mem::take(&mut self.event.attributes));
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::track_event::TYPE => kind = value.number(),
                field::track_event::CATEGORY_IIDS => category = value.number(),
                field::track_event::NAME_IID => name = value.number(),
                field::track_event::TRACK_UUID => self.event.track = value.number(),
                field::track_event::DEBUG_ANNOTATIONS => {
                    self.names.annotation(value.bytes(), &mut attributes, true, 0)?;
                }
                foreign::EVENT_CATEGORIES => category_text = Some(value.text()),
                foreign::EVENT_NAME => name_text = Some(value.text()),
                foreign::COUNTER_VALUE => counter = value.number() as i64 as f64,
                foreign::DOUBLE_COUNTER_VALUE => counter = f64::from_bits(value.number()),
                _ => {}
            }
        }
        self.event.attributes = attributes.into_bytes();
        self.event.kind = match kind {
            field::event_type::SLICE_BEGIN => EventKind::Begin,
            field::event_type::SLICE_END => EventKind::End,
            field::event_type::INSTANT => EventKind::Instant,
            foreign::COUNTER => EventKind::Counter(counter),
            _ => return Ok(false),
        };
        self.event.label = match (category_text, name_text) {
            (None, None) if category == 0 && name == 0 => None,
            (None, None) => Some(self.names.label(category, name)),
            (category, name) => {
                Some(Label::new(category.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default()))
            }
        };
        Ok(true)
    }
}

impl Interned {
    fn state(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(bytes);
        while let Some((table, value)) = fields.next()? {
            let (mut iid, mut text) = (0, Wire::Number(0));
            let mut entry = Fields(value.bytes());
            while let Some((field, value)) = entry.next()? {
                match field {
                    field::interned::IID => iid = value.number(),
                    field::interned::NAME => text = value,
                    _ => {}
                }
            }
            match table {
                field::interned_data::EVENT_CATEGORIES => {
                    self.categories.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::EVENT_NAMES => {
                    self.names.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::DEBUG_ANNOTATION_NAMES => {
                    self.keys.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::DEBUG_ANNOTATION_STRING_VALUES => {
                    self.texts.insert(iid, text.text().into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn label(&mut self, category: u64, name: u64) -> Label {
        *self.labels.entry((category, name)).or_insert_with(|| {
            let text =
                |table: &FxHashMap<u64, Name>, iid| table.get(&iid).map_or("", |name: &Name| name.as_str());
            Label::new(text(&self.categories, category), text(&self.names, name))
        })
    }

    /// Appends one annotation: its key, if it is an entry, and its value. One without a value is an empty list,
    /// which has no other form in this format.
    fn annotation(
        &self,
        bytes: &[u8],
        out: &mut Attributes,
        is_entry: bool,
        depth: u32,
    ) -> Result<(), Malformed> {
        if depth > DEEPEST {
            return Err(Malformed);
        }
        let (mut key_iid, mut key_text, mut scalar) = (0, None, None);
        let (mut entries, mut items) = (0, 0);
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::annotation::NAME_IID => key_iid = value.number(),
                field::annotation::NAME => key_text = Some(value.text()),
                field::annotation::DICT_ENTRIES => entries += 1,
                field::annotation::ARRAY_VALUES => items += 1,
                _ => scalar = Some((field, value)),
            }
        }
        if is_entry {
            match (key_text, self.keys.get(&key_iid)) {
                (Some(text), _) => out.key_text(&text),
                (None, Some(name)) => out.key(*name),
                (None, None) => out.key_text(""),
            };
        }
        if entries + items == 0 {
            self.scalar(scalar, out);
            return Ok(());
        }
        let container =
            if entries > 0 { field::annotation::DICT_ENTRIES } else { field::annotation::ARRAY_VALUES };
        if entries > 0 {
            out.dict(entries);
        } else {
            out.array(items);
        }
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            if field == container {
                self.annotation(value.bytes(), out, entries > 0, depth + 1)?;
            }
        }
        Ok(())
    }

    fn scalar(&self, scalar: Option<(u32, Wire<'_>)>, out: &mut Attributes) {
        let Some((field, value)) = scalar else {
            out.array(0);
            return;
        };
        match field {
            field::annotation::BOOL_VALUE => out.bool(value.number() != 0),
            field::annotation::INT_VALUE => out.int(value.number() as i64),
            field::annotation::UINT_VALUE => match i64::try_from(value.number()) {
                Ok(number) => out.int(number),
                Err(_) => out.str(&value.number().to_string()),
            },
            field::annotation::DOUBLE_VALUE => out.double(f64::from_bits(value.number())),
            field::annotation::STRING_VALUE | foreign::LEGACY_JSON_VALUE => out.str(&value.text()),
            field::annotation::STRING_VALUE_IID => {
                out.str(self.texts.get(&value.number()).map_or("", |text| text));
            }
            _ => out.array(0),
        }
    }
}

fn default_clock(defaults: &[u8]) -> Result<u64, Malformed> {
    let mut clock = field::clock_id::BOOTTIME;
    let mut fields = Fields(defaults);
    while let Some((field, value)) = fields.next()? {
        if field == field::packet_defaults::TIMESTAMP_CLOCK_ID {
            clock = value.number();
        }
    }
    Ok(clock)
}
