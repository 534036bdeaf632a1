//! What the bytes of a ring file mean: its header, and the head of each record.

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::clock::{Anchor, Nanos, Ticks};

/// `msprof` and the layout's number; a reader refuses what it doesn't know.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"msprof\0\x02");

/// The header takes the first page, the records the rest.
pub(super) const HEADER_SIZE: usize = 4096;

/// Length and label, ticks.
pub(super) const RECORD_HEAD: usize = 16;

/// Each record starts at a multiple of this.
pub(super) const ALIGN: usize = 8;

/// Who writes into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Kernel thread id.
    pub tid: u32,
    /// The packet sequence that the thread's events have in the trace file.
    pub sequence: u32,
}

/// The head of the mapping. `head` and `tail` are bytes since the ring was made, never wrapped; each stands in
/// a cache line of its own, so that producer and consumer don't slow each other down.
#[repr(C)]
#[cfg_attr(model_check, derive(Debug, Default))]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) capacity: u64,
    owner: [AtomicU32; 3],
    /// A [`State`].
    pub(super) state: AtomicU32,
    /// One of the two lines that convert ticks, for a reader that comes after the process died.
    line: Line,
    _producer_line: [u64; 8],
    pub(super) head: AtomicU64,
    pub(super) dropped: AtomicU64,
    _consumer_line: [u64; 8],
    pub(super) tail: AtomicU64,
    // What the consumer is taking away: the records up to `taking`, by which a file grows.
    pub(super) taking: AtomicU64,
    pub(super) file_before: AtomicU64,
    pub(super) file_after: AtomicU64,
    /// How many of the dropped records the file counts.
    pub(super) dropped_stated: AtomicU64,
    /// Which of a thread's rings came first; 0 in files of versions that made them in that order.
    pub(super) order: AtomicU64,
    /// Of the capture whose names file has the texts; 0 in files of earlier versions.
    pub(super) identity: AtomicU64,
    /// The other line, and which of them holds (0 or 1): a kill leaves a whole one.
    other_line: Line,
    newest_line: AtomicU64,
}

/// How ticks become nanoseconds.
#[repr(C)]
#[cfg_attr(model_check, derive(Debug, Default))]
struct Line {
    anchor_ticks: AtomicU64,
    anchor_boot: AtomicU64,
    nanos_per_tick: AtomicU64,
}

#[cfg(not(model_check))]
const _: () = {
    assert!(size_of::<Header>() <= HEADER_SIZE);
    assert!(std::mem::offset_of!(Header, tail) - std::mem::offset_of!(Header, head) >= 64);
    // `benches/collecting.py` reads these.
    assert!(std::mem::offset_of!(Header, head) == 120 && std::mem::offset_of!(Header, dropped) == 128);
    assert!(std::mem::offset_of!(Header, tail) == 200);
};

/// Whether more will come into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Its thread may write at any time.
    Open = 0,
    /// Its thread has ended.
    Ended = 1,
    /// Its thread goes on in another ring, which comes after this one.
    Outgrown = 2,
}

impl Header {
    pub(super) fn set_owner(&self, owner: Owner) {
        for (field, value) in self.owner.iter().zip([owner.pid, owner.tid, owner.sequence]) {
            field.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn owner(&self) -> Owner {
        let [pid, tid, sequence] = self.owner.each_ref().map(|field| field.load(Ordering::Relaxed));
        Owner { pid, tid, sequence }
    }

    /// For one thread at a time.
    pub(super) fn set_line(&self, line: (f64, Anchor)) {
        let next = self.newest_line.load(Ordering::Relaxed) ^ 1;
        self.lines()[next as usize & 1].set(line);
        self.newest_line.store(next, Ordering::Release);
    }

    pub(super) fn line(&self) -> (f64, Anchor) {
        self.lines()[self.newest_line.load(Ordering::Acquire) as usize & 1].get()
    }

    fn lines(&self) -> [&Line; 2] {
        [&self.line, &self.other_line]
    }
}

impl Line {
    fn set(&self, (nanos_per_tick, anchor): (f64, Anchor)) {
        self.anchor_ticks.store(anchor.ticks.0, Ordering::Relaxed);
        self.anchor_boot.store(anchor.boot.0, Ordering::Relaxed);
        self.nanos_per_tick.store(nanos_per_tick.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> (f64, Anchor) {
        let ticks = Ticks(self.anchor_ticks.load(Ordering::Relaxed));
        let boot = Nanos(self.anchor_boot.load(Ordering::Relaxed));
        (f64::from_bits(self.nanos_per_tick.load(Ordering::Relaxed)), Anchor { ticks, boot })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A span of the thread begins.
    Begin = 1,
    /// The thread's innermost open span ends.
    End = 2,
    /// Something happened, without duration.
    Instant = 3,
    /// A span that may overlap others of its thread begins (a coroutine's); it has an id.
    AsyncBegin = 4,
    /// The span of that id ends.
    AsyncEnd = 5,
    /// Facts about the process.
    Meta = 6,
    /// A sample of a number, which stands where others have their id.
    Counter = 7,
    /// A span of the thread ends that is not its innermost. Where others have their label stands how many of the
    /// thread's spans were open with it when it began.
    EndWithin = 8,
    /// A span of the thread begins that may turn out not to nest; it has an id, and [`Kind::AsyncEnd`] ends it.
    LooseBegin = 9,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Begin,
            2 => Self::End,
            3 => Self::Instant,
            4 => Self::AsyncBegin,
            5 => Self::AsyncEnd,
            6 => Self::Meta,
            7 => Self::Counter,
            8 => Self::EndWithin,
            9 => Self::LooseBegin,
            _ => return None,
        })
    }

    /// Whether a record of this kind carries the id of its span, or a number.
    pub(super) fn has_id(self) -> bool {
        matches!(self, Self::AsyncBegin | Self::LooseBegin | Self::AsyncEnd | Self::Counter)
    }
}

/// One committed record, as the consumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// Position of its label in the writing process's table.
    pub label: u32,
    /// When.
    pub ticks: Ticks,
    /// The id of an asynchronous span, the bits of a counter's number, else 0.
    pub id: u64,
    /// Encoded attributes (`event::AttributeReader`).
    pub attributes: &'a [u8],
}

/// First word of a record: length in bytes in the low half; above it the kind (8 bits; 0 is padding up to the
/// ring's end) and the label (24 bits).
pub(super) fn head_word(length: u32, kind: u8, label: u32) -> u64 {
    u64::from(length) | u64::from(kind) << 32 | u64::from(label) << 40
}

pub(super) fn split_head_word(word: u64) -> (usize, u8, u32) {
    ((word & 0xffff_ffff) as usize, (word >> 32) as u8, (word >> 40) as u32)
}
