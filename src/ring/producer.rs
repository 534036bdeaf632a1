//! The writing end of a ring. Wait-free: no lock, no system call, no allocation; but for the move to another ring.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Ring;
use super::atomic::Ordering;
use super::layout::{ALIGN, Kind, RECORD_HEAD, State, head_word};
use super::mapped::Records;
use crate::clock::Ticks;

/// What the end of a span needs when it leaves its attributes out, with padding at the ring's end.
const BARE_END: usize = RECORD_HEAD + ALIGN;

/// The same for a record with an id.
const BARE_ASYNC_END: usize = BARE_END + 2 * 8;

/// What [`Producer::open_spans`] is while the thread's spans don't nest: more than any ring has room for, and the number
/// of no span, so that each begin and end takes the long way.
const IN_DISORDER: usize = 1 << 48;

/// The number of spans of a process that have an id of their own; no other clock or lock orders them.
static SPAN_IDS: AtomicU64 = AtomicU64::new(1);

/// An id for a span, which no other span of this process has.
pub fn new_span_id() -> u64 {
    SPAN_IDS.fetch_add(1, Ordering::Relaxed)
}

/// Which span of its thread is to end. The spans of a thread nest, so that its number says how many were open with it:
/// the innermost has the number of all that are open, at no cost. One that begins while they don't nest has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(NonZeroU64);

impl Begun {
    /// From here on numbers are ids.
    const FIRST_ID: u64 = 1 << 40;

    fn id(self) -> Option<u64> {
        self.0.get().checked_sub(Self::FIRST_ID)
    }
}

/// The spans of a thread that don't nest: greenlets switch inside of them, or generators hold them.
#[derive(Debug)]
struct Disorder {
    /// Numbers of the spans that are open and began while all nested, ascending.
    nested: Vec<u64>,
    /// How many spans are open that have begun since.
    loose: usize,
}

impl Disorder {
    fn reserve(&self) -> usize {
        self.nested.len() * BARE_END + self.loose * BARE_ASYNC_END
    }

    /// Whether what is left nests.
    fn is_over(&self) -> bool {
        self.loose == 0 && (1..).zip(&self.nested).all(|(number, nested)| number == *nested)
    }
}

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
/// A span of [`Producer::begin`] can always be ended: for each open one the room of a bare [`Kind::End`] is kept free.
#[derive(Debug)]
pub struct Producer {
    records: Records,
    mask: usize,
    head: u64,
    /// Up to a ring's length behind this there is room. The consumer's position when it was last looked at, since when
    /// it can only have moved on; or a part of the ring before that, to look again when the ring is half full, and from
    /// there on each eighth.
    tail: u64,
    open_spans: usize,
    disorder: Option<Box<Disorder>>,
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
            disorder: None,
            next,
            ring,
        }
    }

    /// The ring that this writes to.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Begins a span. None: there was no room, it is counted, and it must not be ended.
    #[inline]
    pub fn begin(&mut self, label: u32, ticks: Ticks) -> Option<Begun> {
        let number = self.open_spans + 1;
        if self.push(Kind::Begin, label, ticks, 0, &[], number * BARE_END) {
            self.open_spans = number;
            return NonZeroU64::new(number as u64).map(Begun);
        }
        self.begin_loose(label, ticks)
    }

    /// Ends the span that was begun; without its attributes where they find no room.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as of `recorder::end`")]
    pub fn end(&mut self, begun: Begun, label: u32, ticks: Ticks, attributes: &[u8]) {
        if begun.0.get() != self.open_spans as u64 {
            return self.end_in_disorder(begun, label, ticks, attributes);
        }
        self.open_spans -= 1;
        let reserve = self.open_spans * BARE_END;
        let is_whole = self.push(Kind::End, label, ticks, 0, attributes, reserve);
        if !self.counted(is_whole) && !attributes.is_empty() {
            self.push(Kind::End, label, ticks, 0, &[], 0);
        }
    }

    /// A span begins while others don't nest, or finds no room.
    #[cold]
    fn begin_loose(&mut self, label: u32, ticks: Ticks) -> Option<Begun> {
        let begun = self.disorder.is_some().then(new_span_id).filter(|id| {
            let reserve = self.reserve() + BARE_ASYNC_END;
            self.push(Kind::LooseBegin, label, ticks, *id, &[], reserve)
        });
        if let (Some(disorder), Some(_)) = (&mut self.disorder, begun) {
            disorder.loose += 1;
        }
        self.counted(begun.is_some());
        NonZeroU64::new(begun? + Begun::FIRST_ID).map(Begun)
    }

    /// A span ends that is not the innermost, or one of those that began since others don't nest.
    #[cold]
    fn end_in_disorder(&mut self, begun: Begun, label: u32, ticks: Ticks, attributes: &[u8]) {
        let open = self.open_spans as u64;
        let disorder = self
            .disorder
            .get_or_insert_with(|| Box::new(Disorder { nested: (1..=open).collect(), loose: 0 }));
        self.open_spans = IN_DISORDER;
        if let Some(id) = begun.id() {
            disorder.loose = disorder.loose.saturating_sub(1);
            self.async_end(label, ticks, id, attributes);
        } else if let Ok(position) = disorder.nested.binary_search(&begun.0.get()) {
            disorder.nested.remove(position);
            self.end_within(begun.0.get(), ticks, attributes);
        }
        if self.disorder.as_ref().is_some_and(|disorder| disorder.is_over()) {
            self.open_spans = self.disorder.take().map_or(0, |disorder| disorder.nested.len());
        }
    }

    fn end_within(&mut self, number: u64, ticks: Ticks, attributes: &[u8]) {
        let reserve = self.reserve();
        // A ring that has room for the ends of more has not been made.
        let Ok(number @ ..=0xff_ffff) = u32::try_from(number) else {
            self.counted(false);
            return;
        };
        let is_whole = self.push(Kind::EndWithin, number, ticks, 0, attributes, reserve);
        if !self.counted(is_whole) && !attributes.is_empty() {
            self.push(Kind::EndWithin, number, ticks, 0, &[], 0);
        }
    }

    /// Ends the span that [`Kind::AsyncBegin`] or [`Kind::LooseBegin`] began with this id, here or elsewhere; without its
    /// attributes where they find no room. What finds none is counted once.
    pub fn async_end(&mut self, label: u32, ticks: Ticks, id: u64, attributes: &[u8]) {
        let reserve = self.reserve();
        let is_whole = self.push(Kind::AsyncEnd, label, ticks, id, attributes, reserve);
        if !self.counted(is_whole) && !attributes.is_empty() {
            self.push(Kind::AsyncEnd, label, ticks, id, &[], reserve);
        }
    }

    /// Any other record. False: there was no room, and it is counted.
    pub fn record(&mut self, kind: Kind, label: u32, ticks: Ticks, id: u64, attributes: &[u8]) -> bool {
        let recorded = self.push(kind, label, ticks, id, attributes, self.reserve());
        self.counted(recorded)
    }

    /// Number of spans that [`Producer::begin`] began and that have not ended.
    pub fn open_spans(&self) -> usize {
        self.disorder.as_ref().map_or(self.open_spans, |disorder| disorder.nested.len() + disorder.loose)
    }

    /// Bytes that are kept for the ends of open spans.
    fn reserve(&self) -> usize {
        self.disorder.as_ref().map_or(self.open_spans * BARE_END, |disorder| disorder.reserve())
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
        if reserve > IN_DISORDER {
            return false;
        }
        let tail = self.ring.header().tail.load(Ordering::Acquire);
        let bytes = self.place(size).1 + size + reserve;
        let half_before = tail.wrapping_sub(self.ring.capacity() as u64 / 2);
        if self.has_room(half_before, bytes) {
            self.tail = half_before;
            return true;
        }
        let filled = if self.has_room(tail, bytes) { Filled::Half } else { Filled::Whole };
        // Not as far as the room goes: by then, there may be another ring to go on in.
        let step = (self.ring.capacity() / 8).max(2 * bytes);
        let soon = self.head.wrapping_sub((self.ring.capacity().saturating_sub(step)) as u64);
        let is_near = self.head.wrapping_sub(soon) <= self.head.wrapping_sub(tail);
        self.tail = if is_near { tail } else { soon };
        if self.go_on(filled) {
            return self.has_room(self.head, self.place(size).1 + size + reserve); // nothing is in it yet
        }
        filled == Filled::Half
    }

    /// Goes on in another ring, if one is to be had.
    fn go_on(&mut self, filled: Filled) -> bool {
        let Some(ring) = (self.next)(&self.ring, filled) else { return false };
        let former = std::mem::replace(self, Self::new(ring, self.next));
        (self.open_spans, self.disorder) = (former.open_spans, former.disorder);
        former.ring.set_state(State::Outgrown);
        true
    }
}

// SAFETY: what it points to is in `ring`'s mapping, which is owned with it; moving the only writer to another thread
// is fine as long as it stays the only one, which `&mut self` ensures.
unsafe impl Send for Producer {}
