//! Signals that are taken one by one where they are waited for, instead of acting wherever the program is.

use std::io;
use std::time::Duration;

use libc::{c_int, sigset_t};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Signals held back from this thread, and from what it starts, until they are asked for. When dropped, those that
/// still wait act.
pub(super) struct Held {
    signals: sigset_t,
    before: sigset_t,
}

impl Held {
    /// To be called while the process has one thread: the kernel gives a signal to any thread that does not hold it.
    pub(super) fn new(signals: &[c_int]) -> Self {
        let signals = set_of(signals);
        let before = change_mask(libc::SIG_BLOCK, &signals);
        Self { signals, before }
    }

    /// The next signal. None: there was none for so long; without a limit that does not happen.
    pub(super) fn next(&self, limit: Option<Duration>) -> Option<c_int> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
        });
        loop {
            let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the set and the time are valid, or the time is null; nothing is written.
            let signal = unsafe { libc::sigtimedwait(&raw const self.signals, std::ptr::null_mut(), limit) };
            if signal > 0 {
                return Some(signal);
            }
            // A stop and continuation of this process ends the call too.
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
    }

    /// Lets a signal do to this process what it would have done, had it not been held.
    pub(super) fn act(&self, signal: c_int) {
        // SAFETY: raises a signal for the calling thread.
        unsafe { libc::raise(signal) };
        change_mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
        change_mask(libc::SIG_BLOCK, &self.signals);
    }

    /// What a new process calls so that nothing is held from it. It allocates nothing.
    pub(super) fn releaser(&self) -> impl Fn() + Send + Sync + use<> {
        let before = self.before;
        move || {
            change_mask(libc::SIG_SETMASK, &before);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Has a signal do what it does by default, and be sent to us.
pub(super) fn reset(signal: c_int) {
    // SAFETY: takes no handler of ours away that anything waits for.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ends this process as the signal does that has ended another one, so that whoever waits for it sees the same. Returns
/// where that can't be: nothing ends the first process of a container from within.
pub(super) fn end_by(signal: c_int) {
    // Whose fault it was has left a core already.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    reset(signal);
    change_mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
    // SAFETY: raises a signal for the calling thread.
    unsafe { libc::raise(signal) };
}

fn set_of(signals: &[c_int]) -> sigset_t {
    // SAFETY: a set of zeros is a valid one, and it is made empty before anything is added; a number that is none is
    // refused.
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Gives the mask as it was. It can't fail: `how` is one of the three.
fn change_mask(how: c_int, set: &sigset_t) -> sigset_t {
    // SAFETY: both sets are valid; only the calling thread's mask changes. A new process may call it before its `exec`.
    unsafe {
        let mut before: sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(how, set, &raw mut before);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_waits_until_it_is_asked_for() {
        let held = Held::new(&[libc::SIGUSR1, libc::SIGWINCH]);
        // SAFETY: raises signals that this thread holds.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(held.next(None), Some(libc::SIGUSR1));
        assert_eq!(held.next(Some(Duration::ZERO)), None);
        held.act(libc::SIGWINCH); // which by default does nothing
        assert_eq!(held.next(Some(Duration::ZERO)), None);
    }
}
