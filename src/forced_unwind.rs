//! Lets a thread end below our frames, as it may end below those of C.
//!
//! Up to 3.13, CPython ends a daemon thread that wants the interpreter's lock while the interpreter finalises, by
//! `pthread_exit`: a forced unwind of its stack. That can begin in any call of Python's API, whoever made the call. Rust
//! is not made for it: `catch_unwind` and `extern "C"` abort the process, and destructors touch Python's objects without
//! the lock. Here our frames do nothing for a forced unwind. It passes, and the thread ends as it would have without us.
//! Panics go their usual way. From 3.14 on CPython has such threads wait for ever instead.
//!
//! What a frame does is up to its personality routine, which the unwinder finds through one pointer of this library. To
//! exchange that costs a call nothing, and it covers all of our frames and nobody else's.

/// From now on forced unwinds pass. A second call does nothing.
pub(crate) fn let_pass() {
    #[cfg(all(panic = "unwind", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    personality::exchange();
}

#[cfg(all(panic = "unwind", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod personality {
    use std::ffi::{c_int, c_void};
    use std::mem;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    /// As the Itanium C++ ABI has it.
    type Personality = unsafe extern "C" fn(c_int, c_int, u64, *mut c_void, *mut c_void) -> c_int;

    const FORCE_UNWIND: c_int = 8;
    const CONTINUE_UNWIND: c_int = 8;

    unsafe extern "C" {
        /// Made by the compiler where there are frames with destructors. It is hidden, so this library's own, and not
        /// among what the linker makes read-only.
        #[link_name = "DW.ref.rust_eh_personality"]
        static POINTER: AtomicPtr<c_void>;
    }

    /// Rust's own routine.
    static FORMER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

    pub(super) fn exchange() {
        let ours = routine as Personality as *mut c_void;
        // SAFETY: an aligned pointer that lives as long as this library, and that nobody else writes to. An unwinder
        // on another thread finds the one routine or the other, and both are right for whatever it unwinds.
        let pointer = unsafe { &POINTER };
        let former = pointer.load(Ordering::Relaxed);
        if former != ours {
            FORMER.store(former, Ordering::Relaxed);
            pointer.store(ours, Ordering::Release);
        }
    }

    /// Rust's routine, except that a forced unwind finds nothing to do.
    ///
    /// # Safety
    /// Only for the unwinder.
    unsafe extern "C" fn routine(
        version: c_int,
        actions: c_int,
        class: u64,
        exception: *mut c_void,
        context: *mut c_void,
    ) -> c_int {
        if actions & FORCE_UNWIND != 0 {
            // What these frames own is leaked, which is safe: the thread will not run again, and while they call
            // Python none of them lends its stack to another thread.
            return CONTINUE_UNWIND;
        }
        let former = FORMER.load(Ordering::Relaxed);
        // SAFETY: set before this routine could be called, to one of this type, which gets what the unwinder gave.
        unsafe {
            mem::transmute::<*mut c_void, Personality>(former)(version, actions, class, exception, context)
        }
    }
}
