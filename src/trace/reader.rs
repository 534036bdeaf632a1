//! The second pass over a capture: the events of one packet sequence, in their order, with interned names resolved
//! and annotations as [`Attributes`]. Used by `source`, which merges the sequences.

use std::borrow::Cow;
use std::sync::Arc;

use super::fields::{Fields, Malformed, Wire};
use super::index::{Index, Run, clocks, default_track};
use super::interned::Interned;
use super::packet::field;
use super::part::{Part, SMALL_PIECE, Window};
use super::spans::DOES_NOT_NEST;
use crate::clock::Nanos;
use crate::event::{Attributes, Entries, Label};

/// Fields that our writer does not write, but Perfetto's own SDKs do.
mod foreign {
    pub(super) const EVENT_CATEGORIES: u32 = 22;
    pub(super) const EVENT_NAME: u32 = 23;
    pub(super) const COUNTER_VALUE: u32 = 30;
}

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
    /// The id of a span that begins, or ends on a lane, if it has one.
    pub span: Option<u64>,
    /// What was said about it, encoded as [`Attributes`] does.
    pub attributes: Vec<u8>,
    /// Packets are missing before this event: what stands open on the sequence's track, whatever was read before.
    pub resumed: Option<Resumed>,
}

/// What stands open on a track, the innermost span last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// The track.
    pub track: u64,
    /// The spans.
    pub open: Vec<OpenSpan>,
}

/// A span that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSpan {
    /// Its category and name.
    pub label: Label,
    /// `CLOCK_BOOTTIME` of its beginning.
    pub start: Nanos,
    /// Its id, if it has one.
    pub span: Option<u64>,
    /// How many of its thread's numbered spans were open with it when it began; 0 if that is not known.
    pub number: u32,
}

impl Event {
    /// How many spans stand open within one that this takes off its track, because it does not nest. None: it does no
    /// such thing.
    pub fn spans_within(&self) -> Option<usize> {
        self.label?;
        let (_, value) = Entries::of(&self.attributes).find(|(key, _)| *key == DOES_NOT_NEST)?;
        usize::try_from(value.as_int()?).ok()
    }
}

/// Reads the events of one sequence.
#[derive(Debug)]
pub struct SequenceReader<'a> {
    parts: Arc<[Part]>,
    runs: std::slice::Iter<'a, Run>,
    /// The part that the window is in.
    part: usize,
    window: Window,
    decoder: Decoder,
    packets: u64,
    malformed: u64,
}

/// Makes events of packets, by what earlier packets have said.
#[derive(Debug)]
struct Decoder {
    /// `CLOCK_BOOTTIME` of the last event on the sequence's own clock.
    last: u64,
    default_track: u64,
    default_clock: u64,
    names: Interned,
    event: Event,
    /// Packets are missing before the next one.
    is_resumed: bool,
}

impl Index {
    /// The events of a sequence, which is a position in [`Index::sequences`]; `parts` are those of the index.
    pub fn read(&self, sequence: usize, parts: Arc<[Part]>) -> SequenceReader<'_> {
        SequenceReader {
            parts,
            runs: self.sequences.get(sequence).map_or(&[][..], |found| &found.runs).iter(),
            part: 0,
            window: Window::new(SMALL_PIECE),
            decoder: Decoder {
                last: 0,
                default_track: 0,
                default_clock: field::clock_id::BOOTTIME,
                names: Interned::default(),
                event: Event {
                    kind: EventKind::Instant,
                    time: Nanos(0),
                    track: 0,
                    label: None,
                    span: None,
                    attributes: Vec::new(),
                    resumed: None,
                },
                is_resumed: false,
            },
            packets: 0,
            malformed: 0,
        }
    }
}

impl SequenceReader<'_> {
    /// Goes to the next event; false at the end. A packet that makes no sense is counted and passed over, and so is a
    /// run of packets that was cut off since the index was made.
    pub fn advance(&mut self) -> bool {
        let Self { parts, runs, part, window, decoder, packets, malformed } = self;
        loop {
            let found = parts.get(*part).map_or(Ok(None), |part| window.next(part));
            match found {
                Ok(Some((field::trace::PACKET, Wire::Bytes(packet)))) => {
                    *packets += 1;
                    match decoder.packet(packet) {
                        Ok(true) => return true,
                        Ok(false) => {}
                        Err(Malformed) => *malformed += 1,
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Malformed) => {
                    *malformed += u64::from(found.is_err() || window.is_cut());
                    let Some(run) = runs.next() else {
                        *window = Window::new(SMALL_PIECE); // there may be many of which one goes on
                        return false;
                    };
                    *part = run.part;
                    decoder.is_resumed |= run.is_resumed;
                    window.go_to(run.start, run.end);
                }
            }
        }
    }

    /// The event that [`SequenceReader::advance`] has read. Its attributes may be taken out.
    pub fn event(&mut self) -> &mut Event {
        &mut self.decoder.event
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets passed over so far, because they made no sense.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl Decoder {
    /// Whether the packet is an event.
    fn packet(&mut self, packet: &[u8]) -> Result<bool, Malformed> {
        let (mut timestamp, mut clock, mut flags, mut event) = (None, None, 0, None);
        let (mut snapshot, mut defaults) = (None, None);
        let mut interned: Option<&[u8]> = None;
        self.event.span = None;
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
                field::packet::SPAN_ID => self.event.span = Some(value.number()),
                _ => {}
            }
        }
        if flags & field::sequence_flag::INCREMENTAL_STATE_CLEARED != 0 {
            self.names = Interned::default();
            self.event.resumed = None;
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
        if std::mem::take(&mut self.is_resumed) {
            let open = open_spans(packet)?;
            self.event.resumed = Some(Resumed { track: self.default_track, open });
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
                field::track_event::DOUBLE_COUNTER_VALUE => counter = f64::from_bits(value.number()),
                _ => {}
            }
        }
        self.event.attributes = attributes.into_bytes();
        self.event.kind = match kind {
            field::event_type::SLICE_BEGIN => EventKind::Begin,
            field::event_type::SLICE_END => EventKind::End,
            field::event_type::INSTANT => EventKind::Instant,
            field::event_type::COUNTER => EventKind::Counter(counter),
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

/// The spans that a packet states as open.
fn open_spans(packet: &[u8]) -> Result<Vec<OpenSpan>, Malformed> {
    let (mut open, mut packet) = (Vec::new(), Fields(packet));
    while let Some((field, value)) = packet.next()? {
        if field != field::packet::OPEN_SPAN {
            continue;
        }
        let (mut category, mut name) = (Cow::default(), Cow::default());
        let (mut start, mut span, mut number) = (Nanos(0), None, 0);
        let mut fields = Fields(value.bytes());
        while let Some((field, value)) = fields.next()? {
            match field {
                field::open_span::START => start = Nanos(value.number()),
                field::open_span::CATEGORY => category = value.text(),
                field::open_span::NAME => name = value.text(),
                field::open_span::ID => span = Some(value.number()),
                field::open_span::NUMBER => number = value.number() as u32,
                _ => {}
            }
        }
        open.push(OpenSpan { label: Label::new(&category, &name), start, span, number });
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::Encode;
    use super::*;
    use crate::event::View;

    const SEQUENCE: u64 = 77;

    fn message(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        build(&mut bytes);
        bytes
    }

    fn packet(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut body = message(|out| out.number(field::packet::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE));
        build(&mut body);
        message(|out| out.bytes(field::trace::PACKET, &body))
    }

    fn instant(out: &mut Vec<u8>, rest: impl FnOnce(&mut Vec<u8>)) {
        let mut event = message(|out| out.number(field::track_event::TYPE, field::event_type::INSTANT));
        rest(&mut event);
        out.bytes(field::packet::TRACK_EVENT, &event);
    }

    fn interned(table: u32, iid: u64, text: &str) -> Vec<u8> {
        let entry = message(|out| {
            out.number(field::interned::IID, iid);
            out.bytes(field::interned::NAME, text.as_bytes());
        });
        message(|out| out.bytes(table, &entry))
    }

    /// Times and labels of all events, and how many packets made no sense.
    fn read(bytes: &[u8]) -> (Vec<(u64, String)>, u64) {
        let parts: Arc<[Part]> = Arc::from([Part::from(bytes.to_vec())]);
        let index = Index::of(&parts);
        let (mut seen, mut malformed) = (Vec::new(), index.malformed);
        for sequence in 0..index.sequences.len() {
            let mut reader = index.read(sequence, parts.clone());
            while reader.advance() {
                let event = reader.event();
                let label = event.label.map_or("-".to_owned(), |label| {
                    format!("{}/{}", label.domain().as_str(), label.name().as_str())
                });
                seen.push((event.time.0, label));
            }
            malformed += reader.malformed();
        }
        (seen, malformed)
    }

    #[test]
    fn traces_of_other_writers_with_absolute_times_and_inline_names_are_read() {
        let bytes = [
            packet(|out| {
                out.number(field::packet::TIMESTAMP, 500);
                instant(out, |out| {
                    out.bytes(foreign::EVENT_CATEGORIES, b"Engine");
                    out.bytes(foreign::EVENT_NAME, b"httpReq");
                });
            }),
            packet(|out| {
                out.number(field::packet::TIMESTAMP, 300);
                out.number(field::packet::TIMESTAMP_CLOCK_ID, field::clock_id::BOOTTIME);
                instant(out, |_| {});
            }),
        ]
        .concat();
        assert_eq!(read(&bytes), (vec![(500, "Engine/httpReq".into()), (300, "-".into())], 0));
    }

    #[test]
    fn names_are_forgotten_when_the_sequences_state_is_cleared() {
        let named = |out: &mut Vec<u8>| out.number(field::track_event::NAME_IID, 4);
        let bytes = [
            packet(|out| {
                out.number(field::packet::TIMESTAMP, 1);
                out.bytes(
                    field::packet::INTERNED_DATA,
                    &interned(field::interned_data::EVENT_NAMES, 4, "before"),
                );
                instant(out, named);
            }),
            packet(|out| {
                out.number(field::packet::TIMESTAMP, 2);
                instant(out, named);
            }),
            packet(|out| {
                let cleared = field::sequence_flag::INCREMENTAL_STATE_CLEARED;
                out.number(field::packet::SEQUENCE_FLAGS, cleared);
                out.number(field::packet::TIMESTAMP, 3);
                out.bytes(
                    field::packet::INTERNED_DATA,
                    &interned(field::interned_data::EVENT_NAMES, 4, "after"),
                );
                instant(out, named);
            }),
        ]
        .concat();
        let seen: Vec<_> = read(&bytes).0.into_iter().map(|(_, label)| label).collect();
        assert_eq!(seen, ["/before", "/before", "/after"]);
    }

    #[test]
    fn every_kind_of_annotation_is_read() {
        let annotation = |field: u32, number: u64| {
            message(|out| {
                out.bytes(field::annotation::NAME, b"k");
                out.number(field, number);
            })
        };
        let double = message(|out| out.fixed64(field::annotation::DOUBLE_VALUE, 0.25_f64.to_bits()));
        let text = message(|out| out.bytes(field::annotation::STRING_VALUE, b"\xffab"));
        let bytes = packet(|out| {
            out.number(field::packet::TIMESTAMP, 1);
            let texts = field::interned_data::DEBUG_ANNOTATION_STRING_VALUES;
            out.bytes(field::packet::INTERNED_DATA, &interned(texts, 9, "interned"));
            instant(out, |out| {
                for annotation in [
                    annotation(field::annotation::BOOL_VALUE, 1),
                    annotation(field::annotation::INT_VALUE, -7_i64 as u64),
                    annotation(field::annotation::UINT_VALUE, u64::MAX),
                    annotation(field::annotation::STRING_VALUE_IID, 9),
                    double,
                    text,
                ] {
                    out.bytes(field::track_event::DEBUG_ANNOTATIONS, &annotation);
                }
            });
        });
        let parts: Arc<[Part]> = Arc::from([Part::from(bytes)]);
        let index = Index::of(&parts);
        let mut reader = index.read(0, parts);
        assert!(reader.advance());
        let attributes = reader.event().attributes.clone();
        let values: Vec<_> = Entries::of(&attributes)
            .map(|(_, value)| match value {
                View::Str(text) => text.to_owned(),
                value => format!("{:?} {:?}", value.as_int(), value.as_double()),
            })
            .collect();
        let biggest = u64::MAX.to_string();
        assert_eq!(
            values,
            [
                "Some(1) Some(1.0)",
                "Some(-7) Some(-7.0)",
                &biggest,
                "interned",
                "None Some(0.25)",
                "\u{fffd}ab"
            ]
        );
    }

    #[test]
    fn a_packet_that_makes_no_sense_costs_only_itself() {
        let event = |time| {
            packet(|out| {
                out.number(field::packet::TIMESTAMP, time);
                instant(out, |_| {});
            })
        };
        let broken = packet(|out| {
            out.number(field::packet::TIMESTAMP, 2);
            out.bytes(field::packet::TRACK_EVENT, &[0x22, 0x7f]);
        });
        let unknown_clock = packet(|out| {
            out.number(field::packet::TIMESTAMP, 3);
            out.number(field::packet::TIMESTAMP_CLOCK_ID, 99);
            instant(out, |_| {});
        });
        let (seen, malformed) = read(&[event(1), broken, unknown_clock, event(4)].concat());
        assert_eq!(seen.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(malformed, 2);
    }

    #[test]
    fn annotations_that_never_stop_nesting_are_refused() {
        let mut nested = message(|out| out.number(field::annotation::INT_VALUE, 1));
        for _ in 0..100 {
            nested = message(|out| out.bytes(field::annotation::ARRAY_VALUES, &nested));
        }
        let bytes = packet(|out| {
            out.number(field::packet::TIMESTAMP, 1);
            instant(out, |out| out.bytes(field::track_event::DEBUG_ANNOTATIONS, &nested));
        });
        assert_eq!(read(&bytes), (vec![], 1));
    }

    proptest! {
        #[test]
        fn bytes_damaged_anywhere_never_make_it_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = Vec::new();
            for time in 0..6 {
                bytes.extend(packet(|out| {
                    out.number(field::packet::TIMESTAMP, time);
                    let names = field::interned_data::EVENT_NAMES;
                    out.bytes(field::packet::INTERNED_DATA, &interned(names, 4, "name"));
                    instant(out, |out| {
                        let item = message(|out| out.bytes(field::annotation::STRING_VALUE, b"a"));
                        let list = message(|out| out.bytes(field::annotation::ARRAY_VALUES, &item));
                        out.bytes(field::track_event::DEBUG_ANNOTATIONS, &list);
                    });
                }));
            }
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let (seen, _) = read(&bytes);
            prop_assert!(seen.len() <= 6);
        }
    }
}
