//! The memory of a ring: a shared mapping of a file, or private memory where no file can be mapped.

#![allow(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use thiserror::Error;

use super::layout::{HEADER_SIZE, Header, MAGIC, Owner};
use crate::clock::Anchor;

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
    memory: MmapRaw,
    capacity: usize,
    place: Place,
}

impl Ring {
    /// Makes an empty ring of `capacity` bytes (rounded up to a power of two), readable by this user alone.
    ///
    /// # Errors
    /// The file exists, can't be made, or has no room: its blocks are reserved now, since a page that can't be
    /// had later would kill the server.
    pub fn create(place: Place, capacity: usize, owner: Owner) -> Result<Self, RingError> {
        let capacity = capacity.max(4096).next_power_of_two();
        let size = HEADER_SIZE + capacity;
        let memory = match &place {
            Place::File(path) => {
                map_new_file(path, size).map_err(|source| RingError::Map { path: path.clone(), source })?
            }
            Place::Private => MmapMut::map_anon(size)
                .map_err(|source| RingError::Map { path: "private memory".into(), source })?
                .into(),
        };
        let ring = Self { memory, capacity, place };
        let header = ring.memory.as_mut_ptr().cast::<Header>();
        // SAFETY: the mapping is page-aligned, longer than a header, zeroed, and nobody else knows it yet.
        unsafe {
            (*header).magic = MAGIC;
            (*header).capacity = capacity as u64;
            (*header).owner = [owner.pid, owner.tid, owner.sequence];
        }
        Ok(ring)
    }

    /// Opens the ring of a process that has ended. Draining it changes this copy, not the file: the next reader finds
    /// the same.
    ///
    /// # Errors
    /// The file can't be mapped, or is no ring.
    pub fn open(path: &Path) -> Result<Self, RingError> {
        let map = |source| RingError::Map { path: path.into(), source };
        let file = OpenOptions::new().read(true).open(path).map_err(map)?;
        let length = file.metadata().map_err(map)?.len();
        let not_a_ring = || RingError::NotARing { path: path.into() };
        if length < HEADER_SIZE as u64 {
            return Err(not_a_ring());
        }
        // SAFETY: a private copy; the process that wrote the file has ended.
        let memory = unsafe { MmapOptions::new().map_copy(&file) }.map_err(map)?.into();
        let mut ring = Self { memory, capacity: 0, place: Place::File(path.into()) };
        let header = ring.header();
        let capacity = header.capacity;
        if header.magic != MAGIC || !capacity.is_power_of_two() || capacity + HEADER_SIZE as u64 != length {
            return Err(not_a_ring());
        }
        ring.capacity = capacity as usize;
        Ok(ring)
    }

    /// Who wrote it.
    pub fn owner(&self) -> Owner {
        let [pid, tid, sequence] = self.header().owner;
        Owner { pid, tid, sequence }
    }

    /// Size of the part for records, in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Records that found no room since the ring was made.
    pub fn dropped(&self) -> u64 {
        self.header().dropped.load(Ordering::Relaxed)
    }

    /// Notes how ticks convert (see [`crate::clock::Calibration::line`]), for a reader after a crash.
    pub fn set_line(&self, line: (f64, Anchor)) {
        self.header().set_line(line);
    }

    /// How the writer's ticks convert.
    pub fn line(&self) -> (f64, Anchor) {
        self.header().line()
    }

    /// Says that no record will come any more.
    pub fn close(&self) {
        self.header().closed.store(1, Ordering::Release);
    }

    /// Whether no record will come any more.
    pub fn is_closed(&self) -> bool {
        self.header().closed.load(Ordering::Acquire) == 1
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

    /// Removes the ring's file; the memory stays until the last user is gone.
    pub fn remove_file(&self) {
        if let Place::File(path) = &self.place
            && let Err(error) = std::fs::remove_file(path)
        {
            log::debug!("{}: {error}", path.display());
        }
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned and at least a header long (checked when it was made); plain fields
        // are written before it is shared, all others are atomics.
        unsafe { &*self.memory.as_ptr().cast::<Header>() }
    }

    /// First byte of the records.
    pub(super) fn data(&self) -> *mut u8 {
        self.memory.as_mut_ptr().wrapping_add(HEADER_SIZE)
    }
}

fn map_new_file(path: &Path, size: usize) -> io::Result<MmapRaw> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let map = |file: &File| {
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size as u64)?;
        MmapOptions::new().len(size).map_raw(file)
    };
    map(&file).inspect_err(|_| {
        // The half-made file is of no use; that it can't be removed either adds nothing to the first error.
        let _ = std::fs::remove_file(path);
    })
}
