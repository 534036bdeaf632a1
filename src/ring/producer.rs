//! The writing end of a ring. Wait-free: no lock, no system call, no allocation; but for the move to another ring.

use std::sync::Arc;

use super::Ring;
use super::atomic::Ordering;
use super::layout::{ALIGN, Kind, RECORD_HEAD, State, head_word};
use super::mapped::Records;
use crate::clock::Ticks;

/// What the end of a span needs when it leaves its attributes out, with padding at the ring's end.
const BARE_END: usize = RECORD_HEAD + ALIGN;

/// Gives a producer another ring to go on in, which its consumer reads after this one. It is asked whenever a ring is
/// found half full, so that a larger one can be made in time, and whenever a record finds no room.
pub type Next = fn(&Ring, Filled) -> Option<Arc<Ring>>;

/// How much of a ring is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// More than a half.
    Half,
    /// So much that a record finds no room.
    Whole,
}

/// The only writer of its ring; it lives on one thread.
///
/// A begun span can always be ended: for each open span the room of a bare [`Kind::End`] is kept free.
#[derive(Debug)]
pub struct Producer {
    records: Records,
    mask: usize,
    head: u64,
    /// Up to a ring's length behind this there is room. The consumer's position when it was last looked at, since when
    /// it can only have moved on; or half a ring before that, to look again when the ring is half full.
    tail: u64,
    open_spans: usize,
    next: Next,
    ring: Arc<Ring>,
}

impl Producer {
    /// The writing end of `ring`, which must not have one already.
    pub fn new(ring: Arc<Ring>, next: Next) -> Self {
        let head = ring.header().head.load(Ordering::Relaxed);
        let half = ring.capacity() as u64 / 2;
        Self {
            records: ring.records(),
            mask: ring.capacity() - 1,
            head,
            tail: head.wrapping_sub(half),
            open_spans: 0,
            next,
            ring,
        }
    }

    /// The ring that this writes to.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Begins a span. False: there was no room, it is counted, and it must not be ended.
    #[inline]
    pub fn begin(&mut self, label: u32, ticks: Ticks) -> bool {
        let reserve = (self.open_spans + 1) * BARE_END;
        let begun = self.push(Kind::Begin, label, ticks, 0, &[], reserve);
        self.open_spans += usize::from(begun);
        self.counted(begun)
    }

    /// Ends the innermost span that was begun; without its attributes where they find no room.
    #[inline]
    pub fn end(&mut self, label: u32, ticks: Ticks, attributes: &[u8]) {
        self.open_spans = self.open_spans.saturating_sub(1);
        let reserve = self.open_spans * BARE_END;
        let is_whole = self.push(Kind::End, label, ticks, 0, attributes, reserve);
        if !self.counted(is_whole) && !attributes.is_empty() {
            self.push(Kind::End, label, ticks, 0, &[], 0);
        }
    }

    /// Ends the span that [`Kind::AsyncBegin`] began with this id, here or elsewhere; without its attributes where
    /// they find no room. What finds none is counted once.
    pub fn async_end(&mut self, label: u32, ticks: Ticks, id: u64, attributes: &[u8]) {
        let reserve = self.open_spans * BARE_END;
        let is_whole = self.push(Kind::AsyncEnd, label, ticks, id, attributes, reserve);
        if !self.counted(is_whole) && !attributes.is_empty() {
            self.push(Kind::AsyncEnd, label, ticks, id, &[], reserve);
        }
    }

    /// Any other record. False: there was no room, and it is counted.
    pub fn record(&mut self, kind: Kind, label: u32, ticks: Ticks, id: u64, attributes: &[u8]) -> bool {
        let recorded = self.push(kind, label, ticks, id, attributes, self.open_spans * BARE_END);
        self.counted(recorded)
    }

    /// Number of spans that were begun and not ended.
    pub fn open_spans(&self) -> usize {
        self.open_spans
    }

    /// Counts what found no room.
    #[inline]
    fn counted(&self, found_room: bool) -> bool {
        if !found_room {
            self.ring.header().dropped.fetch_add(1, Ordering::Relaxed);
        }
        found_room
    }

    /// False: there is no room besides the reserve.
    #[inline]
    fn push(
        &mut self,
        kind: Kind,
        label: u32,
        ticks: Ticks,
        id: u64,
        attributes: &[u8],
        reserve: usize,
    ) -> bool {
        let id_size = if kind.has_id() { 8 } else { 0 };
        let length = RECORD_HEAD + id_size + attributes.len();
        let size = length.next_multiple_of(ALIGN);
        let (mut at, mut padding) = self.place(size);
        if !self.has_room(self.tail, padding + size + reserve) {
            if !self.make_room(size, reserve) {
                return false;
            }
            (at, padding) = self.place(size);
        }
        let records = &self.records;
        // SAFETY: `at` is inside the records' part and a multiple of 8, with at least 8 bytes to its end; after
        // padding the record begins at 0. `has_room` has shown that `padding + size` bytes from `head` on are
        // free, and they are contiguous. The consumer does not look at them before `head` is stored.
        unsafe {
            if padding > 0 {
                records.put_word(at, head_word(padding as u32, 0, 0));
                at = 0;
            }
            records.put_word(at, head_word(length as u32, kind as u8, label));
            records.put_word(at + 8, ticks.0);
            if id_size > 0 {
                records.put_word(at + RECORD_HEAD, id);
            }
            if !attributes.is_empty() {
                records.put_bytes(at + RECORD_HEAD + id_size, attributes);
            }
        }
        self.head += (padding + size) as u64;
        self.ring.header().head.store(self.head, Ordering::Release);
        true
    }

    /// Where a record of this size would begin, and the padding to the ring's end if it goes behind that.
    #[inline]
    fn place(&self, size: usize) -> (usize, usize) {
        let at = self.head as usize & self.mask;
        let to_end = self.mask + 1 - at;
        (at, if to_end < size { to_end } else { 0 })
    }

    #[inline]
    fn has_room(&self, tail: u64, bytes: usize) -> bool {
        self.head.wrapping_sub(tail) as usize + bytes <= self.mask + 1
    }

    /// Looks where the consumer is, and goes on in another ring if this one fills. Whether there is room.
    #[cold]
    fn make_room(&mut self, size: usize, reserve: usize) -> bool {
        let tail = self.ring.header().tail.load(Ordering::Acquire);
        let bytes = self.place(size).1 + size + reserve;
        let half_before = tail.wrapping_sub(self.ring.capacity() as u64 / 2);
        if self.has_room(half_before, bytes) {
            self.tail = half_before;
            return true;
        }
        self.tail = tail;
        let filled = if self.has_room(tail, bytes) { Filled::Half } else { Filled::Whole };
        if self.go_on(filled) {
            return self.has_room(self.head, self.place(size).1 + size + reserve); // nothing is in it yet
        }
        filled == Filled::Half
    }

    /// Goes on in another ring, if one is to be had.
    fn go_on(&mut self, filled: Filled) -> bool {
        let Some(ring) = (self.next)(&self.ring, filled) else { return false };
        let former = std::mem::replace(self, Self::new(ring, self.next));
        self.open_spans = former.open_spans;
        former.ring.set_state(State::Outgrown);
        true
    }
}

// SAFETY: what it points to is in `ring`'s mapping, which is owned with it; moving the only writer to another thread
// is fine as long as it stays the only one, which `&mut self` ensures.
unsafe impl Send for Producer {}
