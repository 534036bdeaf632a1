//! The first pass over a capture: where each packet sequence's bytes lie, which tracks there are, and where a file
//! is damaged. With it, sequences can be read side by side in the order of time, without loading the file.

use rustc_hash::FxHashMap;

use super::block::{Header, SIZE, Stream};
use super::blocks::{Blocks, Elsewhere};
use super::fields::{Fields, Malformed, Wire};
use super::packet::field;
use super::part::Part;
use super::walk::{Section, Walk};
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
    /// It begins with a cleared state, and what was said before is not all of it: packets are missing.
    pub(super) is_resumed: bool,
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
    /// The gaps behind which its state has been cleared.
    gaps: u32,
}

impl SequenceIndex {
    fn new(id: u64) -> Self {
        Self { id, runs: Vec::new(), track: 0, packets: 0, clocks: None, gaps: 0 }
    }
}

/// What one packet says about its sequence.
#[derive(Default)]
struct Found {
    sequence: u64,
    track: u64,
    clocks: Option<Snapshot>,
    is_cleared: bool,
    is_event: bool,
}

/// Bytes of a part that can't be read, or a place where blocks are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Position of the part.
    pub part: usize,
    /// From this byte on.
    pub offset: usize,
    /// So many bytes are lost; 0 where blocks are missing.
    pub lost: usize,
    /// Whether the part ends with it.
    pub is_end: bool,
    /// At most so many events are missing. None: how many is not known.
    pub events: Option<u64>,
}

impl Damage {
    /// Whether the part ends with less than a block's header, as it does where it was copied just when that was written.
    pub fn is_begun_header(&self) -> bool {
        self.is_end && (1..SIZE).contains(&self.lost)
    }
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
    /// What is damaged, in the order of the parts.
    pub damage: Vec<Damage>,
    /// Events that lean on what is missing, so that they can't be read either.
    pub adrift: u64,
    /// Parts in which blocks end without one that says it is the last, though others follow.
    pub unended: Vec<usize>,
    /// Packets that are whole but make no sense.
    pub malformed: u64,
    /// Packets that hold others; see [`unpack`](super::unpack).
    pub packed: u64,
    /// The whole blocks, those that were passed over among them.
    pub blocks: Blocks,
    /// Blocks of which the end is missing, and the beginning was read.
    pub torn: Blocks,
    /// Where streams begin of which no earlier block is there, though there was one: the part, and the place in the stream.
    pub begins_late: Vec<(usize, Stream)>,
    /// Whether its latest block was passed over: what is to be said of its end is said where that is read.
    pub ends_elsewhere: bool,
    /// The bytes that can be read: no headers of blocks, no events adrift.
    readable: Vec<Readable>,
    /// How far the latest stream of blocks has come, and whether more is to come.
    stream: Option<(Stream, bool)>,
    /// The first damage of which it is not known yet how many events are missing.
    open_damage: usize,
    /// Where its latest block is.
    last_part: usize,
    /// How often blocks were missing.
    gaps: u32,
    /// Events of blocks, as they come.
    events: u64,
}

/// Bytes of a part.
#[derive(Clone, Copy, Debug)]
struct Readable {
    part: usize,
    start: usize,
    end: usize,
}

/// Tracks are never deeper.
const MOST_DEEP: usize = 16;

impl Index {
    /// Indexes the parts of a capture, in their order.
    pub fn of(parts: &[Part]) -> Self {
        Self::beyond(&Elsewhere::default(), parts)
    }

    /// As [`Index::of`], and passes over blocks that are read elsewhere.
    pub fn beyond(elsewhere: &Elsewhere, parts: &[Part]) -> Self {
        let mut index = Self::default();
        let mut positions = FxHashMap::default();
        for (number, part) in parts.iter().enumerate() {
            index.part(number, part, elsewhere, &mut positions);
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

    /// The ranges of a part's bytes that can be read, without the headers of blocks.
    pub fn readable(&self, part: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.readable.iter().filter(move |it| it.part == part).map(|it| it.start..it.end)
    }

    /// The stream of blocks that more is to come of: its writer has not ended it.
    pub fn unended(&self) -> Option<Stream> {
        self.stream.and_then(|(stream, has_more)| has_more.then_some(stream))
    }

    /// Whether it is known where that stream goes on: nothing unreadable lies behind it.
    pub fn ends_whole(&self) -> bool {
        self.damage.len() == self.open_damage
    }

    fn part(
        &mut self,
        number: usize,
        part: &Part,
        elsewhere: &Elsewhere,
        positions: &mut FxHashMap<u64, usize>,
    ) {
        let mut walk = Walk::new(part);
        // No sequence has the id 0.
        let (mut latest, mut position) = (0, 0);
        loop {
            let start = walk.end();
            let Some(section) = walk.section(self.unended().is_some()) else { return };
            let (is_block, events) = match section {
                Section::Block(header) if elsewhere.read.has(header.stream, header.number) => {
                    if self.block(&mut walk, number, start, &header, elsewhere) {
                        self.blocks.add(header.stream, header.number);
                        self.ends_elsewhere = true;
                        self.gaps += 1; // what follows may not lean on it
                    }
                    continue;
                }
                Section::Torn(header) if elsewhere.all.has(header.stream, header.number) => {
                    if self.block(&mut walk, number, start, &header, elsewhere) {
                        self.ends_elsewhere = true;
                        self.gaps += 1; // what follows may not lean on it
                    }
                    continue;
                }
                Section::Block(header) if self.block(&mut walk, number, start, &header, elsewhere) => {
                    self.blocks.add(header.stream, header.number);
                    // What lies on both sides of a header is read as one.
                    if let Some(sequence) = self.sequences.get_mut(position)
                        && let Some(run) = sequence.runs.last_mut()
                        && (run.part, run.end) == (number, start)
                    {
                        run.end += SIZE;
                        sequence.packets += 1;
                    }
                    (true, None)
                }
                Section::Torn(header) if self.block(&mut walk, number, start, &header, elsewhere) => {
                    self.torn.add(header.stream, header.number);
                    (true, Some(header.events))
                }
                Section::Block(_) | Section::Torn(_) => continue,
                Section::Loose => (false, None),
                Section::Damage(end) => {
                    self.damaged(number, start, end, end == part.length(), None);
                    continue;
                }
            };
            let before = self.events;
            loop {
                let start = walk.position();
                let found = match walk.packet() {
                    Ok(Some((field::trace::PACKET, Wire::Bytes(packet)))) => self.packet(packet),
                    Ok(Some(_)) => Err(Malformed),
                    Ok(None) if events.is_none() => break,
                    Ok(None) | Err(Malformed) => {
                        let missing = events.map(|all| u64::from(all).saturating_sub(self.events - before));
                        self.damaged(number, start, walk.end(), walk.end() == part.length(), missing);
                        break;
                    }
                };
                let end = walk.position();
                match found {
                    Ok(found) => {
                        if found.sequence != latest && found.sequence != 0 {
                            latest = found.sequence;
                            position = *positions.entry(latest).or_insert_with(|| {
                                self.sequences.push(SequenceIndex::new(latest));
                                self.sequences.len() - 1
                            });
                        }
                        self.found(&found, position, is_block, Readable { part: number, start, end });
                    }
                    Err(Malformed) => self.malformed += 1,
                }
            }
        }
    }

    /// A packet makes sense by itself.
    fn found(&mut self, found: &Found, position: usize, is_block: bool, at: Readable) {
        self.events += u64::from(found.is_event);
        let sequence = self.sequences.get_mut(position).filter(|_| found.sequence != 0);
        let has_gap = sequence.as_ref().is_some_and(|sequence| sequence.gaps != self.gaps);
        if has_gap && is_block && !found.is_cleared {
            if found.is_event {
                self.adrift += 1;
                return;
            }
        } else if let Some(sequence) = sequence {
            sequence.packets += 1;
            sequence.clocks = sequence.clocks.or(found.clocks);
            if sequence.track == 0 {
                sequence.track = found.track;
            }
            let Readable { part, start, end } = at;
            match sequence.runs.last_mut() {
                Some(run) if run.part == part && run.end == start && !has_gap => run.end = end,
                _ => sequence.runs.push(Run { part, start, end, is_resumed: has_gap && is_block }),
            }
            sequence.gaps = self.gaps;
        }
        match self.readable.last_mut() {
            Some(last) if last.part == at.part && last.end == at.start => last.end = at.end,
            _ => self.readable.push(at),
        }
    }

    /// A block comes next. False: it is not in its place, but came before or comes later.
    fn block(
        &mut self,
        walk: &mut Walk<'_>,
        part: usize,
        at: usize,
        header: &Header,
        elsewhere: &Elsewhere,
    ) -> bool {
        let known = self.stream.filter(|(stream, _)| stream.id == header.stream);
        let expected = known.map_or(0, |(stream, _)| stream.next);
        if header.number < expected
            || header.number > expected && walk.comes_later(at, header.stream, expected..header.number)
        {
            let lost = SIZE + header.length as usize;
            self.damage.push(Damage { part, offset: at, lost, is_end: false, events: Some(0) });
            return false;
        }
        if let Some((stream, _)) = known {
            let events = header.before.saturating_sub(stream.events);
            self.gaps += u32::from(header.number > expected);
            let is_gap = !elsewhere.all.has_all(header.stream, expected..header.number);
            if !is_gap && header.number > expected {
                self.forget_begun_headers();
            }
            self.missing(part, at, is_gap, if is_gap { events } else { 0 });
        } else {
            let is_unended = self.stream.is_some_and(|(_, has_more)| has_more);
            if is_unended {
                self.unended.push(self.last_part);
            }
            // Packets of the sequences may be missing, of the former stream or of this.
            self.gaps += u32::from(is_unended || header.number > 0);
            self.open_damage = self.damage.len();
            // The first parts of a capture may have been removed, to keep a session below its limit: who knows all that
            // was stated tells whether that is so.
            if header.number > 0 && at == 0 {
                self.begins_late.push((part, Stream::before(header)));
            } else if header.number > 0 {
                self.open_damage -= usize::from(self.damage.last().is_some_and(|it| it.part == part));
                self.missing(part, at, true, header.before);
            }
        }
        self.open_damage = self.damage.len();
        self.stream = Some((Stream::behind(header), !header.is_last));
        self.last_part = part;
        self.ends_elsewhere = false;
        true
    }

    /// What is missing before this place is elsewhere, and with it the block of which not even the header was there.
    fn forget_begun_headers(&mut self) {
        let mut settled = self.open_damage;
        self.damage.retain(|damage| {
            let is_settled = settled > 0;
            settled = settled.saturating_sub(1);
            is_settled || !damage.is_begun_header()
        });
    }

    /// So many events are missing before this place.
    fn missing(&mut self, part: usize, offset: usize, is_gap: bool, events: u64) {
        let mut events = Some(events);
        for damage in self.damage.iter_mut().skip(self.open_damage).filter(|it| it.events.is_none()) {
            damage.events = events.replace(0);
        }
        if is_gap && events.is_some_and(|events| events > 0 || self.damage.len() == self.open_damage) {
            self.damage.push(Damage { part, offset, lost: 0, is_end: false, events });
        }
    }

    fn damaged(&mut self, part: usize, start: usize, end: usize, is_end: bool, events: Option<u64>) {
        match self.damage.last_mut() {
            Some(last) if last.part == part && last.offset + last.lost == start && last.events.is_none() => {
                (last.lost, last.is_end) = (end - last.offset, is_end);
            }
            _ => self.damage.push(Damage { part, offset: start, lost: end - start, is_end, events }),
        }
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Found, Malformed> {
        let mut found = Found::default();
        let mut fields = Fields(packet);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::packet::TRUSTED_PACKET_SEQUENCE_ID => found.sequence = value.number(),
                field::packet::TRACK_EVENT => found.is_event = true,
                field::packet::SEQUENCE_FLAGS => {
                    found.is_cleared = value.number() & field::sequence_flag::INCREMENTAL_STATE_CLEARED != 0;
                }
                field::packet::TRACE_PACKET_DEFAULTS => found.track = default_track(value.bytes())?,
                field::packet::TRACK_DESCRIPTOR => self.track(value.bytes())?,
                field::packet::COMPRESSED_PACKETS => self.packed += 1,
                field::packet::CLOCK_SNAPSHOT => found.clocks = clocks(value.bytes())?.whole(),
                _ => {}
            }
            // A packet holds either an event or one of the others; most are events, whose rest does not matter here.
            if found.is_event && found.sequence != 0 {
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
