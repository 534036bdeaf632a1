//! The rings of a session. The flusher makes them ahead of time, so that a thread that needs one takes one: to make a file
//! may take as long as the disk likes, and Python's lock is held meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::names_file::NamesFile;
use super::ring_places::RingPlaces;
use super::signals;
use crate::clock::Anchor;
use crate::config::Storage;
use crate::ring::{Owner, Place, Ring};
use crate::stem::CaptureId;

/// The first ring of a thread. Most threads of a server never fill it; who does gets one of the configured size.
const FIRST_RING: u64 = 256 << 10;

/// How many first rings lie ready: at first, and at most, where more threads come at once or end.
const READY: usize = 8;
const MOST_READY: usize = 64;

/// What the rings of a capture have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) places: Arc<RingPlaces>,
    pub(super) identity: CaptureId,
    /// Where they are counted. None: nothing of them outlives the process.
    pub(super) names: Option<Arc<NamesFile>>,
}

impl Origin {
    fn count_private(&self, rings: i64) {
        self.names.iter().for_each(|names| names.count_private(rings));
    }

    fn count_files(&self, rings: i64) {
        self.names.iter().for_each(|names| names.count_files(rings));
    }
}

/// The flusher's side: it fills the shelves.
#[derive(Debug)]
pub(super) struct Stock {
    origin: Origin,
    shelves: Arc<Shelves>,
    put_first: Sender<Arc<Ring>>,
    put_large: Sender<Arc<Ring>>,
    next_number: u32,
    ready: usize,
    /// Those with a file, whoever has them now.
    filed: Vec<Arc<Ring>>,
    /// Whether it was said that there may be no more.
    told: bool,
}

/// The threads' side: what lies ready.
#[derive(Debug)]
pub(super) struct Shelves {
    origin: Origin,
    first: Receiver<Arc<Ring>>,
    large: Receiver<Arc<Ring>>,
    /// How many large ones were asked for and not made yet.
    wanted: AtomicU32,
    /// How many first ones were asked for while none lay ready.
    missed: AtomicU32,
    large_size: u64,
    /// Bytes of all rings there are, and of those there may be.
    taken: AtomicU64,
    limit: u64,
    /// Whether a thread got none for that.
    has_met_limit: AtomicBool,
    /// How many were given to threads: a thread's later ring has a higher number.
    given: AtomicU64,
}

impl Stock {
    /// Nothing lies ready yet.
    pub(super) fn new(origin: Origin, storage: Storage) -> Self {
        let ((put_first, first), (put_large, large)) =
            (crossbeam_channel::unbounded(), crossbeam_channel::unbounded());
        let shelves = Arc::new(Shelves {
            origin: origin.clone(),
            first,
            large,
            wanted: AtomicU32::new(0),
            missed: AtomicU32::new(0),
            large_size: storage.ring.next_power_of_two(),
            taken: AtomicU64::new(0),
            limit: storage.rings,
            has_met_limit: AtomicBool::new(false),
            given: AtomicU64::new(0),
        });
        Self {
            origin,
            shelves,
            put_first,
            put_large,
            next_number: 0,
            ready: READY,
            filed: Vec::new(),
            told: false,
        }
    }

    pub(super) fn shelves(&self) -> Arc<Shelves> {
        self.shelves.clone()
    }

    /// Makes what is missing. `line` says how ticks convert, for who finds a ring that was never visited.
    pub(super) fn refill(&mut self, line: (f64, Anchor)) {
        let wanted = self.shelves.wanted.swap(0, Ordering::Relaxed) as usize;
        for _ in self.shelves.large.len()..wanted {
            let Some(ring) = self.make(self.shelves.large_size, line) else {
                self.shelves.has_met_limit.store(true, Ordering::Relaxed);
                break;
            };
            // The other end is in `shelves`.
            let _ = self.put_large.send(ring);
        }
        self.ready = (self.ready + self.shelves.missed.swap(0, Ordering::Relaxed) as usize).min(MOST_READY);
        while self.shelves.first.len() < self.ready && self.has_room_for_spares() {
            let Some(ring) = self.make(self.shelves.first_size(), line) else { break };
            let _ = self.put_first.send(ring); // as above
        }
        if self.shelves.has_met_limit.load(Ordering::Relaxed) && !self.told {
            self.told = true;
            log::error!(
                "the threads' rings take all of the {} MB that rings_mb allows: further threads are not recorded, and \
                 busy ones may lose events, which are counted; raise it",
                self.shelves.limit >> 20
            );
        }
    }

    /// Tells all rings how ticks convert: those that are visited and those that are not, were taken just now, or lie ready
    /// for long.
    pub(super) fn set_line(&self, line: (f64, Anchor)) {
        self.filed.iter().for_each(|ring| ring.set_line(line));
    }

    /// What lies ready is a small part of all that there may be.
    fn has_room_for_spares(&self) -> bool {
        let ready = self.shelves.first.len() as u64 * self.shelves.first_size();
        ready == 0 || ready < self.shelves.limit / 4
    }

    /// Whether a thread that fills this ring gets a better one.
    pub(super) fn has_better_than(&self, ring: &Ring) -> bool {
        !self.shelves.is_best(ring) && !self.shelves.has_met_limit.load(Ordering::Relaxed)
    }

    /// Takes back a ring that was drained to its end and left by its thread.
    pub(super) fn take_back(&mut self, ring: Arc<Ring>) {
        let size = ring.capacity() as u64;
        let (put, has_room) = if size == self.shelves.first_size() {
            (&self.put_first, self.shelves.first.len() < MOST_READY)
        } else {
            (&self.put_large, self.shelves.large.len() < READY)
        };
        if ring.is_private() {
            self.origin.count_private(-1);
        } else if has_room {
            let _ = put.send(ring); // as above
            return;
        } else {
            self.origin.count_files(-1);
        }
        ring.remove_file();
        self.filed.retain(|filed| !Arc::ptr_eq(filed, &ring));
        self.shelves.taken.fetch_sub(size, Ordering::Relaxed);
    }

    /// Removes the files of all rings, or only of those that lie ready.
    pub(super) fn remove_files(&self, all: bool) {
        let remove = |ring: &Arc<Ring>| {
            self.origin.count_files(-1);
            ring.remove_file();
        };
        if all {
            self.filed.iter().for_each(remove);
        } else {
            let Shelves { first, large, .. } = &*self.shelves;
            let ready = first.try_iter().chain(large.try_iter());
            ready.filter(|ring| !ring.is_private()).for_each(|ring| remove(&ring));
        }
    }

    fn make(&mut self, size: u64, line: (f64, Anchor)) -> Option<Arc<Ring>> {
        self.shelves.allot(size)?;
        let nobody = Owner { pid: std::process::id(), tid: 0, sequence: 0 };
        let Some(ring) = self.origin.places.make(self.next_number, size as usize, nobody) else {
            self.shelves.taken.fetch_sub(size, Ordering::Relaxed);
            return None;
        };
        self.next_number += 1;
        ring.set_identity(self.origin.identity);
        ring.set_line(line);
        let ring = Arc::new(ring);
        if ring.is_private() {
            self.origin.count_private(1);
        } else {
            self.origin.count_files(1);
            self.filed.push(ring.clone());
        }
        Some(ring)
    }
}

impl Shelves {
    /// A thread's first ring. Private memory, which is to be had at once, where more threads come than rings lie ready.
    pub(super) fn first(&self, owner: Owner) -> Option<Arc<Ring>> {
        self.ready_first(owner).or_else(|| {
            self.missed.fetch_add(1, Ordering::Relaxed);
            self.private(owner)
        })
    }

    /// A ring of the first size if one lies ready.
    pub(super) fn ready_first(&self, owner: Owner) -> Option<Arc<Ring>> {
        let ring = self.take(&self.first, owner);
        signals::wake(); // another is to lie ready
        ring
    }

    /// One of the configured size if it lies ready, else asks for it.
    pub(super) fn large(&self, owner: Owner) -> Option<Arc<Ring>> {
        self.take(&self.large, owner).or_else(|| {
            // Asked again and again where there may be no more: the flusher knows by the first time.
            if self.wanted.fetch_add(1, Ordering::Relaxed) == 0 {
                signals::wake();
            }
            None
        })
    }

    /// Whether there are no better ones than this.
    pub(super) fn is_best(&self, ring: &Ring) -> bool {
        ring.capacity() as u64 >= self.large_size && !ring.is_private()
    }

    fn take(&self, shelf: &Receiver<Arc<Ring>>, owner: Owner) -> Option<Arc<Ring>> {
        let ring = shelf.try_recv().ok()?;
        ring.hand_to(owner, self.given.fetch_add(1, Ordering::Relaxed) + 1);
        Some(ring)
    }

    fn private(&self, owner: Owner) -> Option<Arc<Ring>> {
        let size = self.first_size();
        if self.allot(size).is_none() {
            self.has_met_limit.store(true, Ordering::Relaxed);
            return None;
        }
        let ring = Ring::create(Place::Private, size as usize, owner);
        if ring.is_err() {
            self.taken.fetch_sub(size, Ordering::Relaxed);
        } else {
            self.origin.count_private(1);
        }
        ring.ok().map(Arc::new)
    }

    fn first_size(&self) -> u64 {
        FIRST_RING.min(self.large_size)
    }

    /// None: there would be more than allowed.
    fn allot(&self, size: u64) -> Option<()> {
        let taken = self.taken.fetch_add(size, Ordering::Relaxed);
        if taken + size > self.limit {
            self.taken.fetch_sub(size, Ordering::Relaxed);
            return None;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Nanos, Ticks};

    #[test]
    fn a_ring_that_nobody_has_visited_has_the_newest_clock_and_its_captures_identity() {
        let folder = tempfile::tempdir().unwrap();
        let places = Arc::new(RingPlaces::of(&folder.path().join("h-1")));
        let mut stock = Stock::new(Origin { places, identity: CaptureId(7), names: None }, Storage::DEFAULT);
        let line = |n: u64| (0.5, Anchor { ticks: Ticks(n), boot: Nanos(n) });
        stock.refill(line(1));
        stock.set_line(line(1_000)); // hours later
        let owner = Owner { pid: 1, tid: 2, sequence: 3 };
        let ring = stock.shelves().ready_first(owner).unwrap();
        assert_eq!((ring.line(), ring.identity()), (line(1_000), Some(CaptureId(7))));
        assert!(stock.shelves().large(owner).is_none(), "asked for");
        stock.refill(line(2_000));
        assert_eq!(stock.shelves().large(owner).unwrap().line(), line(2_000));
    }
}
