//! How a thread gets its ring, without waiting for anybody: at its first event of a session, and once more when it turns
//! out to be busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender};

use super::ring_places::RingPlaces;
use crate::config::Storage;
use crate::ring::{Owner, Ring};
use crate::trace::{Thread, sequence_id};

/// The first ring of a thread. Most threads of a server never fill it; who does gets one of the configured size.
const FIRST_RING: u64 = 256 << 10;

/// What a thread of the running session needs at its first event.
static DOOR: ArcSwapOption<Door> = ArcSwapOption::const_empty();

/// Where the threads of a session announce themselves.
#[derive(Debug)]
struct Door {
    session: u64,
    places: Arc<RingPlaces>,
    storage: Storage,
    /// Bytes of all rings that were made.
    taken: AtomicU64,
    is_full: AtomicBool,
    next_ring: AtomicU32,
    next_sequence: AtomicU32,
    thread_name: fn() -> Option<String>,
    newcomers: Sender<Newcomer>,
    spare: Receiver<Arc<Ring>>,
}

/// A ring that the flusher does not know yet.
#[derive(Debug)]
pub(super) enum Newcomer {
    /// A thread's first.
    Thread(Arc<Ring>, Thread),
    /// The one in which a thread goes on whose ring got too small.
    Larger(Arc<Ring>),
}

/// The flusher's side of the door.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) newcomers: Receiver<Newcomer>,
    /// Rings whose threads have ended, for others.
    pub(super) spare: Sender<Arc<Ring>>,
}

/// Opens the door for the threads of a session.
pub(super) fn open(
    session: u64,
    places: Arc<RingPlaces>,
    storage: Storage,
    thread_name: fn() -> Option<String>,
) -> Hall {
    let (sender, newcomers) = crossbeam_channel::unbounded();
    let (spare, ended) = crossbeam_channel::unbounded();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), session) as u32;
    DOOR.store(Some(Arc::new(Door {
        session,
        places,
        storage,
        taken: AtomicU64::new(0),
        is_full: AtomicBool::new(false),
        next_ring: AtomicU32::new(0),
        next_sequence: AtomicU32::new(seed),
        thread_name,
        newcomers: sender,
        spare: ended,
    })));
    Hall { newcomers, spare }
}

/// Lets nobody in any more.
pub(super) fn close() {
    DOOR.store(None);
}

/// In a forked child: the door is the parent's, and so is what hangs on it.
pub(super) fn forget_parents() {
    std::mem::forget(DOOR.swap(None));
}

/// A ring for the calling thread, announced to the flusher, if `session` still runs.
pub(super) fn ring_for_this_thread(session: u64) -> Option<Arc<Ring>> {
    let door = DOOR.load_full().filter(|door| door.session == session)?;
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let sequence = sequence_id(door.next_sequence.fetch_add(0x9e_377a, Ordering::Relaxed));
    let owner = Owner { pid: std::process::id(), tid, sequence };
    let ring = match door.spare.try_recv() {
        Ok(ring) => {
            ring.hand_to(owner);
            ring
        }
        Err(_) => door.make_ring(FIRST_RING.min(door.storage.ring), owner)?,
    };
    let name = (door.thread_name)().unwrap_or_else(|| system_thread_name(tid));
    door.announce(Newcomer::Thread(ring.clone(), Thread { tid, name, sequence }), ring)
}

/// The ring in which a thread goes on that has filled this one.
pub(super) fn larger(ring: &Ring) -> Option<Arc<Ring>> {
    let door = DOOR.load();
    let door = door.as_ref().filter(|door| (ring.capacity() as u64) < door.storage.ring)?;
    let ring = door.make_ring(door.storage.ring, ring.owner())?;
    door.announce(Newcomer::Larger(ring.clone()), ring)
}

impl Door {
    fn announce(&self, newcomer: Newcomer, ring: Arc<Ring>) -> Option<Arc<Ring>> {
        if self.newcomers.send(newcomer).is_err() {
            ring.remove_file(); // the session has ended meanwhile
            return None;
        }
        Some(ring)
    }

    fn make_ring(&self, size: u64, owner: Owner) -> Option<Arc<Ring>> {
        let size = size.next_power_of_two();
        let taken = self.taken.fetch_add(size, Ordering::Relaxed);
        if taken + size > self.storage.rings {
            self.taken.fetch_sub(size, Ordering::Relaxed);
            if !self.is_full.swap(true, Ordering::Relaxed) {
                log::error!(
                    "the threads' rings take all of the {} MB that rings_mb allows: events of further or busier \
                     threads are lost; raise it",
                    self.storage.rings >> 20
                );
            }
            return None;
        }
        let number = self.next_ring.fetch_add(1, Ordering::Relaxed);
        let ring = self.places.make(number, size as usize, owner);
        if ring.is_none() {
            self.taken.fetch_sub(size, Ordering::Relaxed);
        }
        ring.map(Arc::new)
    }
}

fn system_thread_name(tid: u32) -> String {
    std::fs::read_to_string(format!("/proc/self/task/{tid}/comm"))
        .map_or_else(|_| "thread".into(), |s| s.trim().into())
}
