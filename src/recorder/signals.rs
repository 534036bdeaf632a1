//! Signals that the flusher acts on. A program's own handlers stay.
//!
//! SIGTERM kills a process that has no handler on the spot; ours lets the flusher write the last events first and then
//! die of the same signal. Another signal may ask a flight recorder for a dump.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

static WAKE_FD: AtomicI32 = AtomicI32::new(-1);
static OWNER: AtomicU32 = AtomicU32::new(0);

const COMMAND: u64 = 1;
/// As [`TERMINATE`], for the signal that asks for a dump.
const DUMP: u64 = 1 << 16;
/// Added to the eventfd by the signal handler; more than commands can ever sum up to between two looks.
const TERMINATE: u64 = 1 << 32;

/// What the flusher sleeps on: it is woken by commands and by signals.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

/// Why the flusher woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The time is over, or a command waits.
    Work,
    /// The signal came that asks for a dump.
    Dump,
    /// SIGTERM came: write everything, then call [`die`].
    Terminated,
}

impl Waker {
    pub(super) fn new() -> rustix::io::Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Wakes the flusher for a command.
    pub(super) fn wake(&self) {
        // Fails only when the counter is full, and then the flusher is awake anyway.
        let _ = rustix::io::write(&self.0, &COMMAND.to_ne_bytes());
    }

    /// Sleeps until woken, or for `time`.
    pub(super) fn sleep(&self, time: Duration) -> Woken {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            return Woken::Work;
        }
        let mut counter = [0_u8; 8];
        match rustix::io::read(&self.0, &mut counter).map(|_| u64::from_ne_bytes(counter)) {
            Ok(TERMINATE..) => Woken::Terminated,
            Ok(DUMP..) => Woken::Dump,
            _ => Woken::Work,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Puts our handler where SIGTERM would kill without a word.
pub(super) fn watch(waker: &Waker) {
    use std::os::fd::AsRawFd;
    WAKE_FD.store(waker.fd().as_raw_fd(), Ordering::Release);
    OWNER.store(std::process::id(), Ordering::Release);
    // SAFETY: a zeroed sigaction is a valid one; the handler only does what a signal handler may do.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGTERM, std::ptr::null(), &raw mut current) != 0
            || current.sa_sigaction != libc::SIG_DFL
        {
            return;
        }
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_sigterm as extern "C" fn(libc::c_int) as usize;
        // A second SIGTERM kills at once, whatever the flusher does.
        ours.sa_flags = libc::SA_RESETHAND;
        libc::sigaction(libc::SIGTERM, &raw const ours, std::ptr::null_mut());
    }
}

/// Takes our handler away again.
pub(super) fn unwatch() {
    WAKE_FD.store(-1, Ordering::Release);
    // SAFETY: as in `watch`.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGTERM, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == on_sigterm as extern "C" fn(libc::c_int) as usize
        {
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
        }
    }
}

/// Ends this process as SIGTERM would have without us. Called by the flusher, which takes the signal itself: the
/// thread that got the first one is waiting in its handler.
pub(super) fn die() {
    // SAFETY: plain system calls and a signal set on the stack.
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), libc::SIGTERM);
    }
}

extern "C" fn on_sigterm(_: libc::c_int) {
    let fd = WAKE_FD.load(Ordering::Acquire);
    // SAFETY: getpid, write, poll, signal and kill may be called in a signal handler; the bytes outlive the call.
    unsafe {
        // A forked child that has no flusher (yet) must not wake its parent's.
        let ours = fd >= 0 && OWNER.load(Ordering::Acquire) == libc::getpid() as u32;
        if ours && libc::write(fd, (&raw const TERMINATE_BYTES).cast(), 8) == 8 {
            // The interrupted code would have run no further, so it does not: the flusher ends the process meanwhile.
            libc::poll(std::ptr::null_mut(), 0, PATIENCE_MS);
        }
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::kill(libc::getpid(), libc::SIGTERM);
    }
}

/// Has this signal ask for a dump, unless the program has a handler for it, which is said.
pub(super) fn watch_for_dump(signal: i32) {
    // SAFETY: a zeroed sigaction is a valid one; the handler only does what a signal handler may do.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current);
        let handler = on_dump_signal as extern "C" fn(libc::c_int) as usize;
        if current.sa_sigaction == handler {
            return;
        }
        if current.sa_sigaction != libc::SIG_DFL && current.sa_sigaction != libc::SIG_IGN {
            log::warn!("signal {signal} has a handler of the program's: it asks for no dump");
            return;
        }
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handler;
        ours.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const ours, std::ptr::null_mut());
    }
}

/// The handler stays after flight mode has ended: the signal would kill otherwise, and somebody may still send it.
extern "C" fn on_dump_signal(_: libc::c_int) {
    let fd = WAKE_FD.load(Ordering::Acquire);
    // SAFETY: getpid and write may be called in a signal handler; the bytes outlive the call.
    unsafe {
        let errno = *libc::__errno_location();
        if fd >= 0 && OWNER.load(Ordering::Acquire) == libc::getpid() as u32 {
            libc::write(fd, (&raw const DUMP_BYTES).cast(), 8);
        }
        *libc::__errno_location() = errno;
    }
}

static DUMP_BYTES: [u8; 8] = DUMP.to_ne_bytes();

/// Longer than any flush should take; what it could not write is in the ring files.
const PATIENCE_MS: libc::c_int = 5_000;

static TERMINATE_BYTES: [u8; 8] = TERMINATE.to_ne_bytes();

/// Keeps all signals away from the calling thread: they belong to the program's own threads.
pub(super) fn block_signals() {
    // SAFETY: fills and uses a signal set on the stack; changes the calling thread's mask only.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}
