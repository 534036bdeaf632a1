//! The stack of the calling thread: how much of it is left, and which Python functions are on it.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::clock::Ticks;
use crate::event::Label;
use crate::recorder;

/// The addresses that a thread's stack may take. It grows towards the lower ones.
#[derive(Clone, Copy)]
struct Bounds {
    low: usize,
    high: usize,
}

impl Bounds {
    fn contains(self, address: usize) -> bool {
        (self.low..self.high).contains(&address)
    }
}

/// Bytes that must be left where a call begins that looks at arguments or result. Measured: a thread with 32 KiB in all
/// shows values, one with 40 KiB lists that are nested 30 deep; in a debug build it takes 112 KiB to show these.
const LEAST: usize = if cfg!(debug_assertions) { 256 << 10 } else { 56 << 10 };

/// Stack of a thread that does the work of one which has too little.
const LARGE: usize = 2 << 20;

/// Bytes that must be left for each step deeper into a value: what Python takes to show the whole of it, with a hundred
/// containers in containers, and then some.
const LEAST_INSIDE: usize = if cfg!(debug_assertions) { 64 << 10 } else { 40 << 10 };

thread_local! {
    /// Above this address there is room. Nothing is above the first value: the bounds are not known yet.
    static ENOUGH: Cell<usize> = const { Cell::new(usize::MAX) };
    static BOUNDS: Cell<Option<Bounds>> = const { Cell::new(None) };
}

/// Calls that found too little stack.
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Whether there is enough stack for a call that looks at arguments or result. That takes two or three times as much
/// as one that does not, so it is done in the upper half only, and where as much is left as it may take: the rest is
/// left to the program.
#[inline(never)] // its own frame is what it looks at
pub(super) fn has_room() -> bool {
    let here = here();
    here >= ENOUGH.get() || look(here)
}

/// Whether there is enough stack for a step deeper into a value, in a call that had room.
#[inline(never)]
pub(super) fn has_room_inside() -> bool {
    let (here, bounds) = (here(), BOUNDS.get());
    bounds.is_none_or(|bounds| !bounds.contains(here) || here - bounds.low >= LEAST_INSIDE)
}

/// Whether there is enough stack to put hooks on a module, which takes as much as such a call. In whichever half: there
/// is no recursion in that, and it is done once.
#[inline(never)]
pub(super) fn has_room_to_hook() -> bool {
    let here = here();
    if ENOUGH.get() == usize::MAX {
        learn();
    }
    BOUNDS.get().is_none_or(|bounds| !bounds.contains(here) || here - bounds.low >= LEAST)
}

/// What `work` gives, which needs no Python: on another thread, for which this one waits, where there is too little
/// stack.
pub(crate) fn with_room<T: Send>(work: impl Fn() -> T + Sync) -> T {
    if has_room_to_hook() {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("msprof-rs-hooks".into()).stack_size(LARGE);
        match thread.spawn_scoped(scope, &work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => work(),
        }
    })
}

/// An address on the stack, near the caller's frame.
#[inline]
fn here() -> usize {
    let here = 0u8;
    black_box(&raw const here).addr()
}

/// Has the calling thread know its stack: for the main thread this reads a file of `/proc`, once.
fn learn() {
    let bounds = bounds();
    BOUNDS.set(bounds);
    ENOUGH.set(bounds.map_or(0, |Bounds { low, high }| low + ((high - low) / 2).max(LEAST)));
}

#[cold]
fn look(here: usize) -> bool {
    if ENOUGH.get() == usize::MAX {
        learn();
        return here >= ENOUGH.get() || look(here);
    }
    // A stack that somebody else has made is not known.
    if BOUNDS.get().is_none_or(|bounds| !bounds.contains(here)) {
        return true;
    }
    let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    if passed == 1 {
        log::warn!(
            "half of a thread's stack is used up, or it is a small one: such calls are only recorded where their \
             hooks look at neither arguments nor result; this is said once"
        );
    }
    // In the timeline, but not at every call.
    if passed.is_power_of_two() {
        let label = Label::new("msprof_rs", "missing: calls with too little stack");
        recorder::counter(label, Ticks::now(), passed as f64);
    }
    false
}

/// None: the system does not say. For the main thread this reads a file of `/proc`, once.
fn bounds() -> Option<Bounds> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut low = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the first call makes the attributes, which the second reads and the third frees.
    let is_known = unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let outcome = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        outcome == 0
    };
    is_known.then(|| Bounds { low: low.addr(), high: low.addr().saturating_add(size) })
}

/// Whether a function of this name is on the call stack. What can't be found out counts as no. Runs no Python code.
pub(super) fn is_below(py: Python<'_>, name: &str) -> bool {
    // SAFETY: the interpreter's lock is held; gives a borrowed reference, or null.
    let first = unsafe { Borrowed::from_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) };
    let mut next: Option<Bound<'_, PyAny>> = first.map(Borrowed::to_owned);
    while let Some(frame) = next {
        // SAFETY: a living frame; both give a new reference, the last frame has none behind it.
        let (code, back) = unsafe {
            let frame = frame.as_ptr().cast::<ffi::PyFrameObject>();
            let code = Bound::from_owned_ptr(py, ffi::PyFrame_GetCode(frame).cast());
            (code, Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetBack(frame).cast()))
        };
        let called = code.getattr(intern!(py, "co_name"));
        if called
            .is_ok_and(|called| called.cast::<PyString>().is_ok_and(|text| text.to_string_lossy() == name))
        {
            return true;
        }
        next = back;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_threads_stack_are_around_what_stands_on_it() {
        let size = 1 << 20;
        let thread = std::thread::Builder::new().stack_size(size).spawn(move || {
            let here = 0u8;
            let Some(bounds) = bounds() else { return };
            assert!(bounds.contains((&raw const here).addr()));
            assert!(bounds.high - bounds.low >= size);
        });
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn there_is_room_in_the_upper_half_of_a_stack_and_none_in_the_lower() {
        fn deepest_with_room(depth: usize) -> usize {
            let page = black_box([0u8; 4096]);
            let below = if has_room() && depth < 10_000 { deepest_with_room(depth + 1) } else { depth };
            below.max(usize::from(page[0]))
        }
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(|| deepest_with_room(0));
        let pages = thread.unwrap().join().unwrap();
        assert!((64..192).contains(&pages), "{pages} pages of 256");
    }
}
