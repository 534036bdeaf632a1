//! The first pass over a capture: where each packet sequence's bytes lie, which tracks there are, and where a file
//! is damaged. With it, sequences can be read side by side in the order of time, without loading the file.

use rustc_hash::FxHashMap;

use super::fields::{Fields, Malformed, Wire};
use super::packet::field;
use super::part::{LARGE_PIECE, Part, Window};
use crate::clock::{Nanos, Snapshot};

/// What a track is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// A process as a whole.
    Process {
        /// Process id.
        pid: u32,
        /// Command line, word by word.
        command: Vec<String>,
    },
    /// A thread.
    Thread {
        /// Process id.
        pid: u32,
        /// Kernel thread id.
        tid: u32,
    },
    /// A lane of its parent, for spans that overlap others, or a counter.
    Lane,
}

/// A track, as its newest descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The track that it belongs to; 0 if to none.
    pub parent: u64,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: TrackKind,
}

/// Consecutive packets of one sequence: a range of bytes in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) part: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Where the packets of one sequence lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceIndex {
    /// Its id.
    pub id: u64,
    pub(super) runs: Vec<Run>,
    /// The track of its events that name none; 0 if it states none.
    pub track: u64,
    /// Number of packets.
    pub packets: u64,
    /// Its first clock snapshot.
    pub clocks: Option<Snapshot>,
}

/// What one packet says about its sequence.
#[derive(Default)]
struct Found {
    sequence: u64,
    track: u64,
    clocks: Option<Snapshot>,
}

/// A part whose end can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Position of the part.
    pub part: usize,
    /// From this byte on.
    pub offset: usize,
    /// So many bytes are lost.
    pub lost: usize,
}

/// What one capture (a file and its later parts) holds.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The packet sequences, in the order of their first packets.
    pub sequences: Vec<SequenceIndex>,
    /// The tracks by their uuid.
    pub tracks: FxHashMap<u64, Track>,
    /// The order in which tracks were described first.
    pub track_order: Vec<u64>,
    /// Parts with a torn or unreadable end.
    pub damage: Vec<Damage>,
    /// Packets that are whole but make no sense.
    pub malformed: u64,
    /// Packets that hold others; see [`unpack`](super::unpack).
    pub packed: u64,
}

/// Tracks are never deeper.
const MOST_DEEP: usize = 16;

impl Index {
    /// Indexes the parts of a capture, in their order.
    pub fn of(parts: &[Part]) -> Self {
        let mut index = Self::default();
        let mut positions = FxHashMap::default();
        for (number, part) in parts.iter().enumerate() {
            index.part(number, part, &mut positions);
        }
        index
    }

    /// Whether it is known that the track belongs to no process: so it is with what an [`Overlay`](super::Overlay) has.
    pub fn is_of_no_process(&self, mut uuid: u64) -> bool {
        // Tracks that contain each other make no sense; the number of steps ends the walk.
        for _ in 0..MOST_DEEP {
            match self.tracks.get(&uuid) {
                Some(Track { parent: 0, kind: TrackKind::Lane, .. }) => return true,
                Some(Track { parent, kind: TrackKind::Lane, .. }) => uuid = *parent,
                _ => return false,
            }
        }
        false
    }

    fn part(&mut self, number: usize, part: &Part, positions: &mut FxHashMap<u64, usize>) {
        let mut window = Window::new(LARGE_PIECE);
        window.go_to(0, part.length());
        // No sequence has the id 0.
        let (mut latest, mut position) = (0, 0);
        loop {
            let start = window.position();
            let found = match window.next(part) {
                Ok(Some((field::trace::PACKET, Wire::Bytes(packet)))) => self.packet(packet),
                Ok(Some(_)) => continue,
                Ok(None) if start == part.length() => return,
                Ok(None) | Err(Malformed) => {
                    self.damage.push(Damage { part: number, offset: start, lost: part.length() - start });
                    return;
                }
            };
            let end = window.position();
            let found = match found {
                Ok(Found { sequence: 0, .. }) => continue,
                Ok(found) => found,
                Err(Malformed) => {
                    self.malformed += 1;
                    continue;
                }
            };
            if found.sequence != latest {
                latest = found.sequence;
                position = *positions.entry(latest).or_insert_with(|| {
                    let (runs, track, packets, clocks) = (Vec::new(), 0, 0, None);
                    self.sequences.push(SequenceIndex { id: latest, runs, track, packets, clocks });
                    self.sequences.len() - 1
                });
            }
            let sequence = &mut self.sequences[position];
            sequence.packets += 1;
            sequence.clocks = sequence.clocks.or(found.clocks);
            if sequence.track == 0 {
                sequence.track = found.track;
            }
            match sequence.runs.last_mut() {
                Some(run) if run.part == number && run.end == start => run.end = end,
                _ => sequence.runs.push(Run { part: number, start, end }),
            }
        }
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Found, Malformed> {
        let (mut found, mut is_event) = (Found::default(), false);
        let mut fields = Fields(packet);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::packet::TRUSTED_PACKET_SEQUENCE_ID => found.sequence = value.number(),
                field::packet::TRACK_EVENT => is_event = true,
                field::packet::TRACE_PACKET_DEFAULTS => found.track = default_track(value.bytes())?,
                field::packet::TRACK_DESCRIPTOR => self.track(value.bytes())?,
                field::packet::COMPRESSED_PACKETS => self.packed += 1,
                field::packet::CLOCK_SNAPSHOT => found.clocks = clocks(value.bytes())?.whole(),
                _ => {}
            }
            // A packet holds either an event or one of the others; most are events, whose rest does not matter here.
            if is_event && found.sequence != 0 {
                break;
            }
        }
        Ok(found)
    }

    fn track(&mut self, descriptor: &[u8]) -> Result<(), Malformed> {
        let (mut uuid, mut parent, mut name) = (0, 0, String::new());
        let mut kind = TrackKind::Lane;
        let mut fields = Fields(descriptor);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::track_descriptor::UUID => uuid = value.number(),
                field::track_descriptor::PARENT_UUID => parent = value.number(),
                field::track_descriptor::NAME => name = value.text().into(),
                field::track_descriptor::PROCESS => {
                    let (mut pid, mut command) = (0, Vec::new());
                    let mut fields = Fields(value.bytes());
                    while let Some((field, value)) = fields.next()? {
                        match field {
                            field::process::PID => pid = value.number() as u32,
                            field::process::CMDLINE => command.push(value.text().into()),
                            field::process::PROCESS_NAME => name = value.text().into(),
                            _ => {}
                        }
                    }
                    kind = TrackKind::Process { pid, command };
                }
                field::track_descriptor::THREAD => {
                    let (mut pid, mut tid) = (0, 0);
                    let mut fields = Fields(value.bytes());
                    while let Some((field, value)) = fields.next()? {
                        match field {
                            field::thread::PID => pid = value.number() as u32,
                            field::thread::TID => tid = value.number() as u32,
                            field::thread::THREAD_NAME => name = value.text().into(),
                            _ => {}
                        }
                    }
                    kind = TrackKind::Thread { pid, tid };
                }
                _ => {}
            }
        }
        let former = self.tracks.remove(&uuid);
        if former.is_none() {
            self.track_order.push(uuid);
        }
        // A process that renames itself states its command line only when that has changed.
        if let (
            TrackKind::Process { command, .. },
            Some(Track { kind: TrackKind::Process { command: old, .. }, .. }),
        ) = (&mut kind, former)
            && command.is_empty()
        {
            *command = old;
        }
        self.tracks.insert(uuid, Track { parent, name, kind });
        Ok(())
    }
}

/// The clocks that a snapshot states.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    pub(super) boot: Option<u64>,
    monotonic: Option<u64>,
    real: Option<u64>,
    /// The sequence's own clock.
    pub(super) own: Option<u64>,
}

impl Clocks {
    fn whole(self) -> Option<Snapshot> {
        let (boot, real) = (Nanos(self.boot?), Nanos(self.real?));
        Some(Snapshot { boot, monotonic: Nanos(self.monotonic.unwrap_or_default()), real })
    }
}

/// Reads a clock snapshot.
pub(super) fn clocks(snapshot: &[u8]) -> Result<Clocks, Malformed> {
    let mut clocks = Clocks::default();
    let mut fields = Fields(snapshot);
    while let Some((field, value)) = fields.next()? {
        if field != field::clock_snapshot::CLOCKS {
            continue;
        }
        let (mut id, mut time) = (0, 0);
        let mut clock = Fields(value.bytes());
        while let Some((field, value)) = clock.next()? {
            match field {
                field::clock::CLOCK_ID => id = value.number(),
                field::clock::TIMESTAMP => time = value.number(),
                _ => {}
            }
        }
        match id {
            field::clock_id::BOOTTIME => clocks.boot = Some(time),
            field::clock_id::MONOTONIC => clocks.monotonic = Some(time),
            field::clock_id::REALTIME => clocks.real = Some(time),
            field::clock_id::SEQUENCE_INCREMENTAL => clocks.own = Some(time),
            _ => {}
        }
    }
    Ok(clocks)
}

/// The track that `trace_packet_defaults` state; 0 if none.
pub(super) fn default_track(defaults: &[u8]) -> Result<u64, Malformed> {
    let mut track = 0;
    let mut fields = Fields(defaults);
    while let Some((field, value)) = fields.next()? {
        if field == field::packet_defaults::TRACK_EVENT_DEFAULTS {
            let mut inner = Fields(value.bytes());
            while let Some((field, value)) = inner.next()? {
                if field == field::track_event_defaults::TRACK_UUID {
                    track = value.number();
                }
            }
        }
    }
    Ok(track)
}
