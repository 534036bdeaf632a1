//! The threads' side: each has its own ring, made at its first event of a session. Wait-free after that.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::door::{self, Refused};
use crate::clock::Ticks;
use crate::event::Label;
use crate::ring::{Begun, Kind, Producer, State, new_span_id};

/// The id of the session that records now, or 0. Fork's child handler sets it to 0 in the child, which must not
/// write into the parent's rings.
static SESSION: AtomicU64 = AtomicU64::new(0);

/// What threads that got no ring could not record in this session and the flusher has not stated yet: events, and such
/// threads.
static RINGLESS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What [`Hot::session`] is while the thread is muted: no session has this number.
const MUTED: u64 = u64::MAX;

/// What a thread looks at for each event. No destructor, so that the access is a plain load.
struct Hot {
    /// The session that the ring belongs to, or [`MUTED`].
    session: Cell<u64>,
    producer: Cell<*mut Producer>,
    /// While the thread is muted, what `session` was.
    unmuted: Cell<u64>,
}

impl Hot {
    /// There is no ring (any more).
    fn forget(&self) {
        self.session.set(0);
        self.unmuted.set(0);
        self.producer.set(ptr::null_mut());
    }

    /// Whether the thread records in this session, but has been muted since: by an attribute of another greenlet.
    #[cold]
    fn is_muted_in(&self, session: u64) -> bool {
        self.own_session() == session
    }

    /// The session that the ring belongs to.
    fn own_session(&self) -> u64 {
        let session = self.session.get();
        if session == MUTED { self.unmuted.get() } else { session }
    }
}

/// Owns what [`Hot`] points to, and gives it up when the thread ends.
struct Owned(RefCell<Option<Box<Producer>>>);

thread_local! {
    static HOT: Hot = const {
        Hot { session: Cell::new(0), producer: Cell::new(ptr::null_mut()), unmuted: Cell::new(0) }
    };
    static OWNED: Owned = const { Owned(RefCell::new(None)) };
}

impl Drop for Owned {
    fn drop(&mut self) {
        HOT.with(Hot::forget);
        if let Some(producer) = self.0.borrow_mut().take() {
            producer.ring().set_state(State::Ended);
        }
    }
}

/// A span that was begun on this thread.
#[derive(Debug)]
#[must_use = "a begun span must be ended"]
pub struct Open {
    session: u64,
    begun: Begun,
}

/// A span that was begun and may end on another thread, or overlap others on its own.
#[derive(Debug)]
#[must_use = "a begun span must be ended"]
pub struct AsyncOpen {
    session: u64,
    id: u64,
}

/// Whether a session records now.
#[inline]
pub fn is_recording() -> bool {
    SESSION.load(Ordering::Relaxed) != 0
}

/// The session that records now, by a number that no other session of this process has; 0: none does.
#[inline]
pub fn session() -> u64 {
    SESSION.load(Ordering::Relaxed)
}

/// As long as it is there, [`begin`] begins nothing on this thread: the profiler's own code is at work, and what that
/// calls is not the program's doing. All else that is recorded is said by that code, and is recorded.
#[must_use = "the thread is muted as long as this is there"]
pub struct Mute {
    /// Whether it is this one that has muted the thread.
    is_first: bool,
    this_thread: PhantomData<*const ()>,
}

/// Mutes the calling thread. It costs the others, who are not muted, nothing: the ring is looked at as that of another
/// session would be.
pub fn mute() -> Mute {
    HOT.with(|hot| {
        let before = hot.session.replace(MUTED);
        let is_first = before != MUTED;
        if is_first {
            hot.unmuted.set(before);
        }
        Mute { is_first, this_thread: PhantomData }
    })
}

/// Whether the calling thread is muted.
#[inline]
pub fn is_muted() -> bool {
    HOT.with(|hot| hot.session.get() == MUTED)
}

impl Drop for Mute {
    fn drop(&mut self) {
        HOT.with(|hot| {
            if self.is_first && hot.session.get() == MUTED {
                hot.session.set(hot.unmuted.get());
            }
        });
    }
}

/// Runs code that is not the profiler's own in the midst of code that is.
pub fn unmuted<R>(run: impl FnOnce() -> R) -> R {
    struct Again(bool);
    impl Drop for Again {
        fn drop(&mut self) {
            if self.0 {
                std::mem::forget(mute());
            }
        }
    }
    let _again = HOT.with(|hot| {
        let is_muted = hot.session.get() == MUTED;
        if is_muted {
            hot.session.set(hot.unmuted.get());
        }
        Again(is_muted)
    });
    run()
}

/// Begins a span of this thread. None: nothing records, its ring is full (which is counted), or the thread is muted.
#[inline]
pub fn begin(label: Label) -> Option<Open> {
    let (session, producer) = producer::<true>()?;
    let begun = producer.begin(label.index(), Ticks::now())?;
    Some(Open { session, begun })
}

/// Ends a span of this thread, at `ticks`. A span of an earlier session stays unfinished in its file. This
/// never makes a ring: an exception may be set, and the thread may be at its end.
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "most ends have no attributes: where that is known, half of it falls away"
)]
pub fn end(open: Open, label: Label, ticks: Ticks, attributes: &[u8]) {
    if let Some(producer) = producer_of(open.session) {
        producer.end(open.begun, label.index(), ticks, attributes);
    }
}

/// The ring of the calling thread in this session, if that still records.
#[inline]
fn producer_of(session: u64) -> Option<&'static mut Producer> {
    if SESSION.load(Ordering::Relaxed) != session {
        return None;
    }
    HOT.with(|hot| {
        if hot.session.get() != session && !hot.is_muted_in(session) {
            return None;
        }
        // SAFETY: as in `producer`.
        unsafe { hot.producer.get().as_mut() }
    })
}

/// Begins a span at `ticks` that may overlap others, such as a coroutine's: it is shown on a lane below its thread.
pub fn async_begin(label: Label, ticks: Ticks) -> Option<AsyncOpen> {
    begin_with_id(Kind::AsyncBegin, label, ticks)
}

/// Begins a span at `ticks` of which nobody knows whether it nests: it is shown on its thread, and on a lane once it turns
/// out not to nest.
pub fn loose_begin(label: Label, ticks: Ticks) -> Option<AsyncOpen> {
    begin_with_id(Kind::LooseBegin, label, ticks)
}

fn begin_with_id(kind: Kind, label: Label, ticks: Ticks) -> Option<AsyncOpen> {
    let (session, producer) = producer::<false>()?;
    let id = new_span_id();
    let begun = producer.record(kind, label.index(), ticks, id, &[]);
    begun.then_some(AsyncOpen { session, id })
}

/// Ends such a span, on whichever thread. One of an earlier session stays unfinished in its file.
pub fn async_end(open: AsyncOpen, label: Label, ticks: Ticks, attributes: &[u8]) {
    if SESSION.load(Ordering::Relaxed) == open.session
        && let Some((session, producer)) = producer::<false>()
        && session == open.session
    {
        producer.async_end(label.index(), ticks, open.id, attributes);
    }
}

/// Records that something happened at `ticks`.
pub fn instant(label: Label, ticks: Ticks, attributes: &[u8]) {
    if let Some((_, producer)) = producer::<false>() {
        producer.record(Kind::Instant, label.index(), ticks, 0, attributes);
    }
}

/// Records that a number of the process has this value at `ticks`.
pub fn counter(label: Label, ticks: Ticks, value: f64) {
    if let Some((_, producer)) = producer::<false>() {
        producer.record(Kind::Counter, label.index(), ticks, value.to_bits(), &[]);
    }
}

/// Records a fact about the process.
pub fn meta(label: Label, attributes: &[u8]) {
    if let Some((_, producer)) = producer::<false>() {
        producer.record(Kind::Meta, label.index(), Ticks::now(), 0, attributes);
    }
}

/// From now on the threads' events belong to this session.
pub(super) fn open_session(id: u64) {
    if !is_recording() {
        newly_ringless(); // an earlier session's
    }
    SESSION.store(id, Ordering::Release);
}

/// From now on nothing records in this session.
pub(super) fn close_session(id: u64) {
    let _ = SESSION.compare_exchange(id, 0, Ordering::Release, Ordering::Relaxed); // another has taken its place
}

/// Events that were lost for want of a ring since this was last asked, and threads that got none.
pub(super) fn newly_ringless() -> (u64, u64) {
    let [events, threads] = RINGLESS.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
    (events, threads)
}

/// In a forked child: what this thread wrote to is the parent's. Only atomics and this thread's own cells.
pub(super) fn forget_parents() {
    SESSION.store(0, Ordering::Relaxed);
    let _ = OWNED.try_with(|owned| {
        // Neither closed nor unmapped: the parent goes on using both.
        std::mem::forget(owned.0.borrow_mut().take());
    });
    HOT.with(Hot::forget);
}

/// The thread's ring of the session that records now. None also where the thread is muted, if that is `HEEDED`.
#[inline]
fn producer<const HEEDED: bool>() -> Option<(u64, &'static mut Producer)> {
    let session = SESSION.load(Ordering::Relaxed);
    if session == 0 {
        return None;
    }
    HOT.with(|hot| {
        if hot.session.get() != session && !get_ready::<HEEDED>(hot, session) {
            return None;
        }
        // SAFETY: null, or owned by this thread's `OWNED` until that is dropped or replaced, both of which reset it.
        // The reference does not leave the caller in this file, and none of them runs foreign code while it has it,
        // so there is never a second one.
        let producer = unsafe { hot.producer.get().as_mut() };
        if producer.is_none() {
            count_ringless();
        }
        producer.map(|producer| (session, producer))
    })
}

/// A thread that has no ring of the session yet, or is muted. Returns whether it may record.
#[cold]
fn get_ready<const HEEDED: bool>(hot: &Hot, session: u64) -> bool {
    if HEEDED && hot.session.get() == MUTED {
        return false;
    }
    hot.own_session() == session || attach(hot, session)
}

/// A thread's event is lost, because it has no ring.
#[cold]
fn count_ringless() {
    RINGLESS[0].fetch_add(1, Ordering::Relaxed);
}

/// A thread's first event of a session: makes its ring. Whether it takes part in the session: also one that can't have a
/// ring, whose events are counted.
fn attach(hot: &Hot, session: u64) -> bool {
    // Not while the thread gives up its own data: it records no more, and would leave a ring behind.
    if OWNED.try_with(|_| ()).is_err() {
        return false;
    }
    let (made, takes_part) = match door::ring_for_this_thread(session) {
        Ok(ring) => (Some(Box::new(Producer::new(ring, door::next_ring))), true),
        Err(refused) => (None, refused == Refused::NoRoom),
    };
    if made.is_none() && takes_part {
        RINGLESS[1].fetch_add(1, Ordering::Relaxed);
    }
    let producer = OWNED.try_with(|owned| {
        let mut slot = owned.0.borrow_mut();
        if let Some(former) = slot.take() {
            former.ring().set_state(State::Ended);
        }
        *slot = made;
        slot.as_deref_mut().map_or(ptr::null_mut(), ptr::from_mut)
    });
    hot.producer.set(producer.unwrap_or(ptr::null_mut()));
    if !takes_part {
        return false;
    }
    if hot.session.get() == MUTED {
        hot.unmuted.set(session);
    } else {
        hot.session.set(session);
    }
    true
}
