//! How a thread gets its ring, without waiting for anybody: at its first event of a session, and again when it turns out to
//! be busy. It makes no file and opens none; what lies ready was made by the flusher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender};

use super::stock::{Origin, Shelves, Stock};
use crate::config::Storage;
use crate::ring::{Filled, Owner, Ring};
use crate::trace::{Thread, sequence_id};

/// What a thread of the running session needs at its first event.
static DOOR: ArcSwapOption<Door> = ArcSwapOption::const_empty();

/// Where the threads of a session announce themselves.
#[derive(Debug)]
pub(super) struct Door {
    session: u64,
    shelves: Arc<Shelves>,
    next_sequence: AtomicU32,
    thread_name: fn() -> Option<String>,
    newcomers: Sender<Newcomer>,
}

/// A ring that the flusher does not know yet.
#[derive(Debug)]
pub(super) enum Newcomer {
    /// A thread's first.
    Thread(Arc<Ring>, Thread),
    /// The one in which a thread goes on whose ring got too small.
    Next(Arc<Ring>),
}

/// The flusher's side of the door.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) newcomers: Receiver<Newcomer>,
    pub(super) stock: Stock,
}

/// Makes the door for the threads of a session, which is to be opened.
pub(super) fn make(
    session: u64,
    origin: Origin,
    storage: Storage,
    thread_name: fn() -> Option<String>,
) -> (Arc<Door>, Hall) {
    let stock = Stock::new(origin, storage);
    let (sender, newcomers) = crossbeam_channel::unbounded();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), session) as u32;
    let door = Door {
        session,
        shelves: stock.shelves(),
        next_sequence: AtomicU32::new(seed),
        thread_name,
        newcomers: sender,
    };
    (Arc::new(door), Hall { newcomers, stock })
}

/// Opens a session's door, in place of another one's if that is open.
pub(super) fn open(door: Arc<Door>) {
    DOOR.store(Some(door));
}

/// Lets nobody in any more, if it is this session's door.
pub(super) fn close(session: u64) {
    DOOR.rcu(|door| door.clone().filter(|door| door.session != session));
}

/// In a forked child: the door is the parent's, and so is what hangs on it.
pub(super) fn forget_parents() {
    std::mem::forget(DOOR.swap(None));
}

/// Why a thread gets no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The session has ended.
    Closed,
    /// There may be no more rings, or there is no memory for one.
    NoRoom,
}

/// A ring for the calling thread, announced to the flusher.
pub(super) fn ring_for_this_thread(session: u64) -> Result<Arc<Ring>, Refused> {
    let door = DOOR.load_full().filter(|door| door.session == session).ok_or(Refused::Closed)?;
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let sequence = sequence_id(door.next_sequence.fetch_add(0x9e_377a, Ordering::Relaxed));
    let owner = Owner { pid: std::process::id(), tid, sequence };
    let ring = door.shelves.first(owner).ok_or(Refused::NoRoom)?;
    let name = (door.thread_name)().unwrap_or_else(system_thread_name);
    door.announce(Newcomer::Thread(ring.clone(), Thread { tid, name, sequence }), ring).ok_or(Refused::Closed)
}

/// The ring in which a thread goes on that has filled this one so far.
pub(super) fn next_ring(ring: &Ring, filled: Filled) -> Option<Arc<Ring>> {
    let door = DOOR.load();
    let door = door.as_ref().filter(|door| !door.shelves.is_best(ring))?;
    let owner = ring.owner();
    // Until a large one is there: one more of the first size, rather one with a file.
    let next = door.shelves.large(owner).or_else(|| match filled {
        Filled::Whole => door.shelves.first(owner),
        Filled::Half if ring.is_private() => door.shelves.ready_first(owner),
        Filled::Half => None,
    })?;
    door.announce(Newcomer::Next(next.clone()), next)
}

impl Door {
    fn announce(&self, newcomer: Newcomer, ring: Arc<Ring>) -> Option<Arc<Ring>> {
        // Fails where the session has ended meanwhile; whoever ended it looks after the ring's file.
        self.newcomers.send(newcomer).is_ok().then_some(ring)
    }
}

/// As the kernel knows it.
fn system_thread_name() -> String {
    rustix::thread::name().map_or_else(|_| "thread".into(), |name| name.to_string_lossy().into_owned())
}
