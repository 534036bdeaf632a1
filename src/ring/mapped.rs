//! The bytes of a ring: a shared mapping of a file, or private memory where no file can be mapped.

#![allow(clippy::cast_ptr_alignment, reason = "a mapping begins at a page, records at multiples of 8")]

use std::io::{self, Read};
use std::path::Path;

use memmap2::{MmapMut, MmapRaw};

use super::layout::{HEADER_SIZE, Header};
use crate::{files, own_file};

/// No ring is longer: the config allows a gibibyte.
const LONGEST: u64 = HEADER_SIZE as u64 + (1 << 30);

/// A header, and the bytes of the records behind it.
#[derive(Debug)]
pub(super) struct Memory(MmapRaw);

impl Memory {
    /// Zeroed memory that goes with the process.
    pub(super) fn private(capacity: usize) -> io::Result<Self> {
        MmapMut::map_anon(HEADER_SIZE + capacity).map(|map| Self(map.into()))
    }

    /// A new file, zeroed.
    pub(super) fn new_file(path: &Path, capacity: usize) -> io::Result<Self> {
        own_file::map_new(path, HEADER_SIZE + capacity).map(Self)
    }

    /// A private copy of a file that nobody writes to any more. Copied rather than mapped: somebody may cut the file
    /// meanwhile. None: it is too short for a ring, or too long.
    pub(super) fn copy_of(path: &Path, user: u32) -> io::Result<Option<Self>> {
        let mut file = files::open_own(path, user)?;
        let length = file.metadata()?.len();
        if !(HEADER_SIZE as u64..=LONGEST).contains(&length) {
            return Ok(None);
        }
        let mut copy = MmapMut::map_anon(length as usize)?;
        file.read_exact(&mut copy)?;
        Ok(Some(Self(copy.into())))
    }

    /// Bytes behind the header.
    pub(super) fn capacity(&self) -> usize {
        self.0.len() - HEADER_SIZE
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned and at least a header long; plain fields are written before it is
        // shared, all others are atomics.
        unsafe { &*self.0.as_ptr().cast::<Header>() }
    }

    /// The header of memory that nobody else knows yet.
    pub(super) fn new_header(&mut self) -> &mut Header {
        // SAFETY: as in `header`; zeroes are a header, and the exclusive borrow is of all of it.
        unsafe { &mut *self.0.as_mut_ptr().cast::<Header>() }
    }

    /// The records' part, for as long as the mapping lives.
    pub(super) fn records(&self) -> Records {
        Records(self.0.as_mut_ptr().wrapping_add(HEADER_SIZE))
    }
}

/// The bytes behind a header. It is on the caller not to go beyond them, and that nobody else is at the same bytes.
#[derive(Debug)]
pub(super) struct Records(*mut u8);

impl Records {
    /// # Safety
    /// `at` is a multiple of 8 and the 8 bytes from there on are the caller's alone.
    #[inline]
    pub(super) unsafe fn put_word(&self, at: usize, word: u64) {
        // SAFETY: as said above.
        unsafe { self.0.add(at).cast::<u64>().write(word) }
    }

    /// # Safety
    /// The bytes from `at` on are the caller's alone.
    #[inline]
    pub(super) unsafe fn put_bytes(&self, at: usize, bytes: &[u8]) {
        // SAFETY: as said above.
        unsafe { self.0.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// # Safety
    /// Nobody writes to the bytes from `at` on meanwhile.
    #[inline]
    pub(super) unsafe fn read<R>(&self, at: usize, length: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: as said above.
        read(unsafe { std::slice::from_raw_parts(self.0.add(at), length) })
    }
}
