//! A ring as producer and consumer share it: where it lives, whose it is, and whether more will come.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::compiler_fence;

use thiserror::Error;

use super::atomic::Ordering;
use super::layout::{Header, MAGIC, Owner, State};
use super::mapped::{Memory, Records};
use crate::clock::Anchor;
use crate::stem::CaptureId;

/// Why a ring could not be made or read.
#[derive(Debug, Error)]
pub enum RingError {
    /// The file could not be made, sized, opened or mapped.
    #[error("{path}: the ring could not be mapped: {source}")]
    Map {
        /// The ring's file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its process was killed while it made the ring: nobody has written to it.
    #[error("{path}: the ring was still being made")]
    HalfMade {
        /// The file.
        path: PathBuf,
    },
    /// It was never told how its ticks convert, so its events can't be put in time.
    #[error("{path}: the ring has no clock")]
    NoClock {
        /// The file.
        path: PathBuf,
    },
    /// The file is no ring of this version, or its header is damaged.
    #[error("{path}: not a ring of this version of msprof_rs")]
    NotARing {
        /// The file.
        path: PathBuf,
    },
}

/// Where a ring may live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A new file of this path.
    File(PathBuf),
    /// Memory that goes with the process: a kill loses what was not yet written.
    Private,
}

/// A ring's memory and header; producer and consumer share it.
#[derive(Debug)]
pub struct Ring {
    memory: Memory,
    capacity: usize,
    place: Place,
}

impl Ring {
    /// Makes an empty ring of `capacity` bytes (rounded up to a power of two), readable by this user alone.
    ///
    /// # Errors
    /// The file exists, can't be made, or has no room.
    pub fn create(place: Place, capacity: usize, owner: Owner) -> Result<Self, RingError> {
        let capacity = capacity.next_power_of_two();
        let mut memory = match &place {
            Place::File(path) => Memory::new_file(path, capacity)
                .map_err(|source| RingError::Map { path: path.clone(), source })?,
            Place::Private => Memory::private(capacity)
                .map_err(|source| RingError::Map { path: "private memory".into(), source })?,
        };
        let header = memory.new_header();
        header.capacity = capacity as u64;
        header.set_owner(owner);
        compiler_fence(Ordering::Release); // a kill leaves all of the header or no magic
        header.magic = MAGIC;
        Ok(Self { memory, capacity, place })
    }

    /// Opens the ring that a process of `user` has left. Draining it changes this copy, not the file: the next reader
    /// finds the same.
    ///
    /// # Errors
    /// The file can't be read, is another user's, or no whole ring.
    pub fn open(path: &Path, user: u32) -> Result<Self, RingError> {
        let map = |source| RingError::Map { path: path.into(), source };
        let not_a_ring = || RingError::NotARing { path: path.into() };
        let Some(memory) = Memory::copy_of(path, user).map_err(map)? else {
            let is_empty = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() == 0);
            return Err(if is_empty { RingError::HalfMade { path: path.into() } } else { not_a_ring() });
        };
        let &Header { magic, capacity, .. } = memory.header();
        if magic == 0 {
            return Err(RingError::HalfMade { path: path.into() });
        }
        if magic != MAGIC || !capacity.is_power_of_two() || capacity != memory.capacity() as u64 {
            return Err(not_a_ring());
        }
        let ring = Self { memory, capacity: capacity as usize, place: Place::File(path.into()) };
        let (nanos_per_tick, _) = ring.line();
        let has_clock = nanos_per_tick.is_finite() && nanos_per_tick > 0.0;
        // One that nobody has written to needs none.
        if has_clock || ring.filled() == 0 { Ok(ring) } else { Err(RingError::NoClock { path: path.into() }) }
    }

    /// Says whose texts its records' numbers stand for: those of the capture of this identity.
    pub fn set_identity(&self, identity: CaptureId) {
        self.header().identity.store(identity.0, Ordering::Relaxed);
    }

    /// Whose texts its records' numbers stand for. None: earlier versions did not say.
    pub fn identity(&self) -> Option<CaptureId> {
        Some(self.header().identity.load(Ordering::Relaxed)).filter(|identity| *identity > 0).map(CaptureId)
    }

    /// Who writes it.
    pub fn owner(&self) -> Owner {
        self.header().owner()
    }

    /// Whether a kill of the process loses what is in it.
    pub fn is_private(&self) -> bool {
        self.place == Place::Private
    }

    /// Gives a ring that is new, or was drained to the end, to a thread. `order` grows with each that is given away.
    pub fn hand_to(&self, owner: Owner, order: u64) {
        self.header().order.store(order, Ordering::Relaxed);
        self.header().set_owner(owner);
        self.set_state(State::Open);
    }

    /// Says which of a thread's rings came first. 0: its files' numbers say so.
    pub fn order(&self) -> u64 {
        self.header().order.load(Ordering::Relaxed)
    }

    /// Size of the part for records, in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of it that are taken.
    pub fn filled(&self) -> u64 {
        let tail = self.header().tail.load(Ordering::Relaxed);
        self.header().head.load(Ordering::Relaxed).saturating_sub(tail)
    }

    /// Records that found no room since the ring was made.
    pub fn dropped(&self) -> u64 {
        self.header().dropped.load(Ordering::Relaxed)
    }

    /// Those of them that [`Consumer::newly_dropped`](super::Consumer::newly_dropped) has not given yet.
    pub fn dropped_lately(&self) -> u64 {
        self.dropped().saturating_sub(self.header().dropped_stated.load(Ordering::Relaxed))
    }

    /// Notes how ticks convert (see [`crate::clock::Calibration::line`]), for a reader after a crash.
    pub fn set_line(&self, line: (f64, Anchor)) {
        self.header().set_line(line);
    }

    /// How the writer's ticks convert.
    pub fn line(&self) -> (f64, Anchor) {
        self.header().line()
    }

    /// Says whether more will come; what was written before is visible to whoever reads it.
    pub fn set_state(&self, state: State) {
        self.header().state.store(state as u32, Ordering::Release);
    }

    /// Whether more will come.
    pub fn state(&self) -> State {
        match self.header().state.load(Ordering::Acquire) {
            0 => State::Open,
            2 => State::Outgrown,
            _ => State::Ended,
        }
    }

    /// For a ring whose process has died: where the trace file, which has `length` bytes, begins to hold a part of what
    /// is still in the ring. None: it holds none of it, or all.
    pub fn uncertain_from(&self, length: u64) -> Option<u64> {
        let header = self.header();
        let (before, after) =
            (header.file_before.load(Ordering::Relaxed), header.file_after.load(Ordering::Relaxed));
        let is_taking = header.taking.load(Ordering::Acquire) > header.tail.load(Ordering::Acquire);
        (is_taking && before < length && length < after).then_some(before)
    }

    /// For a ring whose process has died: so long, at least, was the trace file's last part when it died.
    pub fn file_length(&self) -> u64 {
        let header = self.header();
        let is_taking = header.taking.load(Ordering::Acquire) > header.tail.load(Ordering::Acquire);
        if is_taking { &header.file_before } else { &header.file_after }.load(Ordering::Relaxed)
    }

    /// Nothing of it is on its way to a file. How long that is, it says no more: it may lie by while parts come and go.
    pub fn forget_file(&self) {
        let header = self.header();
        header.file_before.store(0, Ordering::Relaxed);
        header.file_after.store(0, Ordering::Relaxed);
    }

    /// Removes the ring's file, whose records are all taken; the memory stays until the last user is gone. Of one that was
    /// moved away, which stays there, nobody is to conclude how long the capture beside it was.
    pub fn remove_file(&self) {
        self.forget_file();
        if let Place::File(path) = &self.place
            && let Err(error) = std::fs::remove_file(path)
        {
            log::debug!("{}: {error}", path.display());
        }
    }

    pub(super) fn header(&self) -> &Header {
        self.memory.header()
    }

    pub(super) fn records(&self) -> Records {
        self.memory.records()
    }
}
