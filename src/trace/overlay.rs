//! Tracks that are made after the fact and laid over captures: each event has its time in full, so they can be written
//! in any order.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use super::packet::{Encode, field};
use super::writer::{clocks, sequence_id};
use crate::clock::{Nanos, Snapshot};

/// Encodes tracks into a buffer; the caller takes the bytes to the file.
#[derive(Debug)]
pub struct Overlay {
    out: Vec<u8>,
    sequence: u32,
    seed: RandomState,
    tracks: u64,
    /// From unix time to the clock of the capture that these tracks are laid over.
    offset: i64,
    names: FxHashMap<Box<str>, u64>,
    body: Vec<u8>,
    event: Vec<u8>,
    scratch: Vec<u8>,
}

/// A track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayTrack(u64);

impl Overlay {
    /// Tracks of a machine with these clocks.
    pub fn new(now: Snapshot) -> Self {
        let seed = RandomState::new();
        let mut overlay = Self {
            out: Vec::new(),
            sequence: sequence_id(seed.hash_one("overlay") as u32),
            seed,
            tracks: 0,
            offset: now.boot.0.wrapping_sub(now.real.0) as i64,
            names: FxHashMap::default(),
            body: Vec::new(),
            event: Vec::new(),
            scratch: Vec::new(),
        };
        let mut scratch = Vec::new();
        overlay.packet(|out| {
            let flags = field::sequence_flag::INCREMENTAL_STATE_CLEARED
                | field::sequence_flag::NEEDS_INCREMENTAL_STATE;
            out.number(field::packet::SEQUENCE_FLAGS, flags);
            out.message(field::packet::CLOCK_SNAPSHOT, &mut scratch, |out| clocks(out, now));
        });
        overlay
    }

    /// The bytes that wait to be written.
    pub fn pending(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the pending bytes: they were written.
    pub fn written(&mut self) {
        self.out.clear();
    }

    /// A track, below another one or at the top. Its own tracks stand in the order of their first events.
    pub fn track(&mut self, parent: Option<OverlayTrack>, name: &str) -> OverlayTrack {
        self.describe(parent, name, |out| {
            out.number(field::track_descriptor::CHILD_ORDERING, field::child_ordering::CHRONOLOGICAL);
        })
    }

    /// A counter, below a track.
    pub fn counter(&mut self, parent: OverlayTrack, name: &str, unit: &str) -> OverlayTrack {
        let mut counter = Vec::new();
        counter.bytes(field::counter::UNIT_NAME, unit.as_bytes());
        self.describe(Some(parent), name, |out| out.bytes(field::track_descriptor::COUNTER, &counter))
    }

    fn describe(
        &mut self,
        parent: Option<OverlayTrack>,
        name: &str,
        more: impl FnOnce(&mut Vec<u8>),
    ) -> OverlayTrack {
        self.tracks += 1;
        let track = OverlayTrack(self.seed.hash_one(self.tracks));
        let mut descriptor = Vec::new();
        descriptor.number(field::track_descriptor::UUID, track.0);
        if let Some(parent) = parent {
            descriptor.number(field::track_descriptor::PARENT_UUID, parent.0);
        }
        descriptor.bytes(field::track_descriptor::NAME, name.as_bytes());
        more(&mut descriptor);
        self.packet(|out| out.bytes(field::packet::TRACK_DESCRIPTOR, &descriptor));
        track
    }

    /// A span begins. Names are few, values are integers.
    pub fn begin(&mut self, track: OverlayTrack, time: Nanos, name: &str, values: &[(&str, i64)]) {
        let known = self.names.get(name).copied();
        let iid = known.unwrap_or_else(|| {
            let iid = self.names.len() as u64 + 1;
            self.names.insert(name.into(), iid);
            iid
        });
        self.event(track, time, field::event_type::SLICE_BEGIN, |event, scratch| {
            event.number(field::track_event::NAME_IID, iid);
            for (key, value) in values {
                event.message(field::track_event::DEBUG_ANNOTATIONS, scratch, |out| {
                    out.bytes(field::annotation::NAME, key.as_bytes());
                    out.number(field::annotation::INT_VALUE, *value as u64);
                });
            }
        });
        // The name has to stand in the packet before its event is read, not before it is written.
        let interned = known.is_none().then(|| {
            let mut entry = Vec::new();
            entry.number(field::interned::IID, iid);
            entry.bytes(field::interned::NAME, name.as_bytes());
            let mut data = Vec::new();
            data.bytes(field::interned_data::EVENT_NAMES, &entry);
            data
        });
        self.write_event(interned.as_deref());
    }

    /// The innermost span of the track ends.
    pub fn end(&mut self, track: OverlayTrack, time: Nanos) {
        self.event(track, time, field::event_type::SLICE_END, |_, _| {});
        self.write_event(None);
    }

    /// A sample of a counter.
    pub fn sample(&mut self, track: OverlayTrack, time: Nanos, value: f64) {
        self.event(track, time, field::event_type::COUNTER, |event, _| {
            event.fixed64(field::track_event::DOUBLE_COUNTER_VALUE, value.to_bits());
        });
        self.write_event(None);
    }

    /// Builds the packet's body, but for the names that it introduces.
    fn event(
        &mut self,
        track: OverlayTrack,
        time: Nanos,
        kind: u64,
        more: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) {
        let time = time.0.wrapping_add_signed(self.offset);
        self.event.clear();
        self.event.number(field::track_event::TYPE, kind);
        self.event.number(field::track_event::TRACK_UUID, track.0);
        more(&mut self.event, &mut self.scratch);
        self.body.clear();
        self.body.number(field::packet::TIMESTAMP, time);
        self.body.number(field::packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(self.sequence));
        let flags = field::sequence_flag::NEEDS_INCREMENTAL_STATE;
        self.body.number(field::packet::SEQUENCE_FLAGS, flags);
    }

    fn write_event(&mut self, interned: Option<&[u8]>) {
        if let Some(interned) = interned {
            self.body.bytes(field::packet::INTERNED_DATA, interned);
        }
        self.body.bytes(field::packet::TRACK_EVENT, &self.event);
        self.out.bytes(field::trace::PACKET, &self.body);
    }

    fn packet(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        let mut body = Vec::new();
        body.number(field::packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(self.sequence));
        build(&mut body);
        self.out.bytes(field::trace::PACKET, &body);
    }
}
