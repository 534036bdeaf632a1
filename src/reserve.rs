//! Memory that is set aside, for the moment when there is no other: Rust ends the process where an allocation fails, and
//! the server must not end for a few bytes of ours. It bridges the allocations of one call, which are small and short.
//! Who asks for more than a slot, or for more slots than there are, ends the process as ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slots for what a call takes.
const SMALL: usize = 512;
/// Slots for buffers.
const LARGE: usize = 64 << 10;

/// The system's memory, and behind it the reserve.
pub(crate) struct WithReserve {
    small: Slots<SMALL, 8>,
    large: Slots<LARGE, 1>,
}

#[global_allocator]
static MEMORY: WithReserve = WithReserve { small: Slots::new(), large: Slots::new() };

/// 64 slots for each word. Pages of it that nobody has used take no memory.
#[repr(C, align(4096))]
struct Slots<const SIZE: usize, const WORDS: usize> {
    memory: UnsafeCell<[[[u8; SIZE]; 64]; WORDS]>,
    /// A bit for each slot that is in use.
    used: [AtomicU64; WORDS],
}

// SAFETY: a slot belongs to whoever has set its bit.
unsafe impl<const SIZE: usize, const WORDS: usize> Sync for Slots<SIZE, WORDS> {}

impl<const SIZE: usize, const WORDS: usize> Slots<SIZE, WORDS> {
    const fn new() -> Self {
        let used = [const { AtomicU64::new(0) }; WORDS];
        Self { memory: UnsafeCell::new([[[0; SIZE]; 64]; WORDS]), used }
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// A slot, or null.
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.size() > SIZE || layout.align() > SIZE.min(4096) {
            return ptr::null_mut();
        }
        for (index, word) in self.used.iter().enumerate() {
            let first_free = |used: u64| (used != u64::MAX).then(|| used | (used + 1));
            if let Ok(used) = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, first_free) {
                let slot = index * 64 + used.trailing_ones() as usize;
                // SAFETY: one of the slots.
                return unsafe { self.start().add(slot * SIZE) };
            }
        }
        ptr::null_mut()
    }

    /// Whether it was a slot, which is free now.
    fn give_back(&self, memory: *mut u8) -> bool {
        let offset = memory.addr().wrapping_sub(self.start().addr());
        if offset >= size_of_val(&self.memory) {
            return false;
        }
        let slot = offset / SIZE;
        self.used[slot / 64].fetch_and(!(1 << (slot % 64)), Ordering::Release);
        true
    }

    fn has(&self, memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(self.start().addr()) < size_of_val(&self.memory)
    }
}

impl WithReserve {
    #[cold]
    fn reserve(&self, layout: Layout) -> *mut u8 {
        let small = self.small.take(layout);
        if small.is_null() { self.large.take(layout) } else { small }
    }
}

// SAFETY: memory is the system's, or a slot that nobody else has; either goes back to where it came from.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { self.reserve(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            return memory;
        }
        let memory = self.reserve(layout);
        if !memory.is_null() {
            // SAFETY: a slot of at least this size; it may have been used before.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !self.small.give_back(memory) && !self.large.give_back(memory) {
            // SAFETY: passed on; it is the system's.
            unsafe { System.dealloc(memory, layout) };
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.small.has(memory) && !self.large.has(memory) {
            // SAFETY: passed on; it is the system's.
            let grown = unsafe { System.realloc(memory, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: callers see to it that the size is one that a layout can have.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the old memory has the old size, the new one at least the smaller of both, and they are two.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_once_until_they_come_back() {
        static SLOTS: Slots<512, 2> = Slots::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let mut taken: Vec<_> = (0..128).map(|_| SLOTS.take(layout).addr()).collect();
        assert!(SLOTS.take(layout).is_null());
        let first = ptr::without_provenance_mut(taken[0]);
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] == 512));
        assert!(SLOTS.give_back(first));
        assert_eq!(SLOTS.take(layout), first);
        assert!(SLOTS.take(Layout::from_size_align(513, 8).unwrap()).is_null());
        assert!(!SLOTS.give_back(ptr::without_provenance_mut(16)));
    }
}
