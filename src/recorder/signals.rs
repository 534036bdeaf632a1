//! Signals that the flusher acts on. A program's own handlers stay.
//!
//! SIGTERM kills a process that has no handler on the spot; ours lets the flusher write the last events first and then
//! die of the same signal. Another signal may ask a flight recorder for a dump.
//!
//! The first process of a container (of a PID namespace) gets no such handler: the kernel drops signals for which it has
//! none, so there SIGTERM does nothing at all. Children of any process begin without ours, and get it with their own
//! recorder.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;

/// The process whose flusher sleeps here; 0: there is none. A child made without libc's `fork` has its parent's.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// What the flusher sleeps on: why it is to wake up, 0 while there is no reason. A word of memory and no descriptor: a
/// program that closes the descriptors that it doesn't know would get our wake-ups in a file of its own.
static REASONS: AtomicU32 = AtomicU32::new(0);

const WORK: u32 = 1;
const DUMP: u32 = 2;
const TERMINATE: u32 = 4;

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

/// For a new flusher: whatever its predecessor was to do is over.
pub(super) fn forget_reasons() {
    REASONS.store(0, Ordering::Release);
}

/// Wakes the flusher for a command.
pub(super) fn wake() {
    // Whoever was the first to give a reason wakes it.
    if REASONS.fetch_or(WORK, Ordering::Release) & WORK == 0 {
        wake_sleeper();
    }
}

/// A plain system call, which a signal handler may make too.
fn wake_sleeper() {
    // Fails for no word of our own.
    let _ = futex::wake(&REASONS, futex::Flags::PRIVATE, 1);
}

/// Sleeps until woken, or for `time`.
pub(super) fn sleep(time: Duration) -> Woken {
    let timeout = futex::Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
    // Whatever ended it: the reasons are what counts.
    let _ = futex::wait(&REASONS, futex::Flags::PRIVATE, 0, Some(&timeout));
    match REASONS.swap(0, Ordering::Acquire) {
        reasons if reasons & TERMINATE != 0 => Woken::Terminated,
        reasons if reasons & DUMP != 0 => Woken::Dump,
        _ => Woken::Work,
    }
}

/// The first process of a PID namespace.
const INIT: u32 = 1;

/// Puts our handler where SIGTERM would kill without a word.
pub(super) fn watch() {
    OWNER.store(std::process::id(), Ordering::Release);
    if std::process::id() == INIT || disposition(libc::SIGTERM) != libc::SIG_DFL {
        return;
    }
    // SAFETY: a zeroed sigaction is a valid one; the handler only does what a signal handler may do.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_sigterm as extern "C" fn(libc::c_int) as usize;
        // A second SIGTERM kills at once, whatever the flusher does: it finds the default, and is not blocked.
        ours.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
        // The interrupted thread would have run no other handler any more.
        libc::sigfillset(&raw mut ours.sa_mask);
        libc::sigdelset(&raw mut ours.sa_mask, libc::SIGTERM);
        libc::sigaction(libc::SIGTERM, &raw const ours, std::ptr::null_mut());
    }
}

/// Takes our handler away again. Also for a forked child: only atomics and system calls.
pub(super) fn unwatch() {
    OWNER.store(0, Ordering::Release);
    if disposition(libc::SIGTERM) == on_sigterm as extern "C" fn(libc::c_int) as usize {
        // SAFETY: sets the default.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
    }
}

/// What a signal does now: a handler's address, or a constant.
fn disposition(signal: libc::c_int) -> libc::sighandler_t {
    // SAFETY: a zeroed sigaction is a valid one, and is filled.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current);
        current.sa_sigaction
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
    // SAFETY: getpid, futex, poll, signal and kill may be called in a signal handler.
    unsafe {
        // A forked child that has no flusher (yet) has nobody to wait for.
        if OWNER.load(Ordering::Acquire) == libc::getpid() as u32 {
            REASONS.fetch_or(TERMINATE, Ordering::Release);
            wake_sleeper();
            // The interrupted code would have run no further, so it does not: the flusher ends the process meanwhile.
            libc::poll(std::ptr::null_mut(), 0, PATIENCE_MS);
        }
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::kill(libc::getpid(), libc::SIGTERM);
    }
}

/// Has this signal ask for a dump, where it would kill. A program that handles or ignores it goes on to do so, which is
/// said.
pub(super) fn watch_for_dump(signal: i32) {
    let handler = on_dump_signal as extern "C" fn(libc::c_int) as usize;
    let current = disposition(signal);
    if current == handler {
        return;
    }
    if current != libc::SIG_DFL {
        let does = if current == libc::SIG_IGN { "ignores" } else { "handles" };
        log::warn!("the program {does} signal {signal}: it asks for no dump");
        return;
    }
    // SAFETY: a zeroed sigaction is a valid one; the handler only does what a signal handler may do.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handler;
        ours.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const ours, std::ptr::null_mut());
    }
}

/// The handler stays after flight mode has ended: the signal would kill otherwise, and somebody may still send it.
extern "C" fn on_dump_signal(_: libc::c_int) {
    // SAFETY: getpid and futex may be called in a signal handler; errno is the thread's own.
    unsafe {
        let errno = *libc::__errno_location();
        if OWNER.load(Ordering::Acquire) == libc::getpid() as u32 {
            REASONS.fetch_or(DUMP, Ordering::Release);
            wake_sleeper();
        }
        *libc::__errno_location() = errno;
    }
}

/// Longer than a flush takes, unless the disk is stuck; what it could not write is in the ring files.
const PATIENCE_MS: libc::c_int = 2_000;

/// Keeps all signals away from the thread that `start` starts: they belong to the program's own threads.
pub(super) fn kept_away<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: fills and uses signal sets on the stack; changes the calling thread's mask only, and puts it back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let outcome = start(); // a new thread has its starter's mask
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        outcome
    }
}
