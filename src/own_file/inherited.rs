//! Descriptors that a forked child has from its parent. It closes ours: a lock on a file is held until the last process
//! has closed it, so a child that lives on would have its parent taken for living.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::Identity;

/// More than a recorder has open at once. Further ones are inherited.
const MOST: usize = 32;

const FREE: RawFd = -1;
const TAKEN: RawFd = -2;

static SLOTS: [Slot; MOST] = [const { Slot::new() }; MOST];

/// How many forks have begun.
static FORKS: AtomicU64 = AtomicU64::new(0);

struct Slot {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self { number: AtomicI32::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }
}

/// A descriptor that a child closes, as long as this lives.
#[derive(Debug)]
pub(super) struct Listed(usize);

impl Listed {
    pub(super) fn new(descriptor: &impl AsRawFd, identity: Identity) -> Option<Self> {
        let is_claimed = |slot: &Slot| {
            slot.number.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let position = SLOTS.iter().position(is_claimed)?;
        let slot = &SLOTS[position];
        slot.device.store(identity.device, Ordering::Relaxed);
        slot.inode.store(identity.inode, Ordering::Relaxed);
        slot.number.store(descriptor.as_raw_fd(), Ordering::Release);
        Some(Self(position))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        SLOTS[self.0].number.store(FREE, Ordering::Release);
    }
}

/// How many forks have begun so far: a descriptor that was opened and listed while this stayed the same is no child's.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::SeqCst)
}

/// To be called before a fork.
pub fn before_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

/// In a forked child: closes what is its parent's, and makes no call that a signal handler could not.
pub fn close_parents() {
    for slot in &SLOTS {
        let number = slot.number.swap(FREE, Ordering::Acquire);
        if number < 0 {
            continue;
        }
        // SAFETY: only asked what it is.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let listed = Identity {
            device: slot.device.load(Ordering::Relaxed),
            inode: slot.inode.load(Ordering::Relaxed),
        };
        // The program may have closed ours and have another file under its number.
        if Identity::of(descriptor) == Ok(listed) {
            // SAFETY: it is ours, and in the child nobody uses it.
            unsafe { libc::close(number) };
        }
    }
}
