//! Runs a coroutine or generator step by step, for the Python function that stands before it.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyGeneratorExit, PyStopAsyncIteration, PyStopIteration};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::ending::{self, Activity, Ending, Outcome};
use super::slots::stop;
use super::thrown::{self, Thrown};
use crate::clock::Ticks;
use crate::hook::failure::error_with;
use crate::hook::hooked::{Hook, Kind};
use crate::hook::interrupt::{Attempt, Interrupt};
use crate::hook::pending::Pending;
use crate::recorder;

/// What a coroutine or generator function made, and what is seen of its run.
///
/// Python awaits it or yields from it, one step at a time and never two at once; but the thread may be another each
/// time, so the figures are atomics, read and written without a lock.
#[pyclass(frozen, module = "msprof_rs._core", name = "step")]
pub(super) struct Step {
    pub(super) inner: Py<PyAny>,
    pub(super) kind: Kind,
    hook: &'static Hook,
    /// What is being awaited of an asynchronous generator: one of its `asend`, `athrow`, `aclose`.
    pub(super) awaited: Mutex<Option<Py<PyAny>>>,
    /// Its ending is a handler that wants to know of each item.
    tells_items: bool,
    pub(super) ending: Mutex<Option<Ending>>,
    /// What a coroutine has returned, until [`returned`] takes it.
    pub(super) value: Mutex<Option<Py<PyAny>>>,
    /// The caller has something that hands on to this, and not what is followed itself.
    is_given: AtomicBool,
    started: AtomicBool,
    /// It is being closed, or was and has refused.
    pub(super) closing: AtomicBool,
    /// It has returned or raised, and so will what stands before it.
    ended: AtomicBool,
    pub(super) thrown: Thrown,
    /// A context manager has it in the place of its generator, with no Python function before it.
    pub(super) stands_alone: bool,
    start: AtomicU64,
    active: AtomicU64,
    count: AtomicU64,
    first: AtomicU64,
}

/// Whether a coroutine's value is handed over by [`returned`]. `await` of CPython ≥ 3.12 takes it from a
/// `StopIteration` alone, and making one costs more than all the rest of a step.
pub(super) const BY_VALUE: bool = cfg!(Py_3_12);

/// What has been returned, where `yield from` or `await` of CPython ≥ 3.12 gave `value`.
///
/// # Errors
/// It has not returned. A `StopIteration` was thrown, which CPython takes for a return; here it is again.
#[pyfunction]
pub(crate) fn returned<'py>(
    step: &Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Ok(step) = step.cast_exact::<Step>() else { return Ok(value) };
    if !step.get().has_ended() {
        stop(&value);
        return Err(PyErr::fetch(value.py()));
    }
    let held = step.get().value.lock().take();
    Ok(held.map_or(value, |held| held.into_bound(step.py())))
}

impl Step {
    /// A step of nothing yet: it begins when the caller does something with what it got.
    pub(super) fn new(inner: Py<PyAny>, kind: Kind, hook: &'static Hook, ending: Ending) -> Self {
        let tells_items = matches!(&ending, Ending::Handler(follower) if follower.wants_items());
        let stands_alone = matches!(&ending, Ending::Block(..));
        Self {
            inner,
            kind,
            hook,
            tells_items,
            stands_alone,
            awaited: Mutex::new(None),
            ending: Mutex::new(Some(ending)),
            value: Mutex::new(None),
            is_given: AtomicBool::new(false),
            started: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thrown: Thrown::default(),
            start: AtomicU64::new(0),
            active: AtomicU64::new(0),
            count: AtomicU64::new(0),
            first: AtomicU64::new(0),
        }
    }

    /// The caller gets what hands on to this.
    pub(super) fn give(&self) {
        self.is_given.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// What has to be advanced.
    pub(super) fn target<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let awaited = self.awaited.lock().as_ref().map(|awaited| awaited.clone_ref(py));
        awaited.unwrap_or_else(|| self.inner.clone_ref(py)).into_bound(py)
    }

    #[cold]
    fn begin(&self, py: Python<'_>, ticks: Ticks) -> Result<(), Interrupt> {
        self.started.store(true, Ordering::Relaxed);
        self.start.store(ticks.0, Ordering::Relaxed);
        // Not locked while a handler runs, which may be where its thread ends (see `forced_unwind`).
        let mut ending = self.ending.lock().take();
        if recorder::is_muted() {
            // What begins in code of our own is not the program's; a span that has begun before goes on.
            *self.ending.lock() = ending.filter(|ending| !matches!(ending, Ending::Handler(_)));
            return Ok(());
        }
        match &mut ending {
            Some(Ending::Timer(_, _, open) | Ending::Block(_, _, open)) if open.is_none() => {
                *open = recorder::async_begin(self.hook.label, ticks);
            }
            Some(Ending::Handler(follower)) => {
                let _muted = recorder::mute();
                self.hook.guard(py, || follower.started(py))?;
            }
            Some(Ending::Timer(..) | Ending::Block(..)) | None => {}
        }
        *self.ending.lock() = ending;
        Ok(())
    }

    /// Runs one step and takes its time. Gives also when it was over.
    ///
    /// # Errors
    /// Before its first step, the profiler's own work was interrupted.
    #[inline]
    pub(super) fn run<R>(&self, py: Python<'_>, step: impl FnOnce() -> R) -> PyResult<(R, Ticks)> {
        let before = Ticks::now();
        if !self.started.load(Ordering::Relaxed)
            && let Err(interrupt) = self.begin(py, before)
        {
            return Err(self.interrupted_at_start(py, interrupt));
        }
        let outcome = step();
        let after = Ticks::now();
        let active = after.0.wrapping_sub(before.0);
        self.active.store(self.active.load(Ordering::Relaxed) + active, Ordering::Relaxed);
        Ok((outcome, after))
    }

    /// What is raised: as if the interrupt had come up in the coroutine, before its first line.
    fn interrupted_at_start(&self, py: Python<'_>, interrupt: Interrupt) -> PyErr {
        self.ended.store(true, Ordering::Relaxed);
        let error = PyErr::from(interrupt);
        let thrown = self.target(py).call_method1(intern!(py, "throw"), (error.value(py),));
        thrown.err().unwrap_or(error)
    }

    /// It gave something and goes on.
    #[inline]
    fn gave(&self, ticks: Ticks) {
        let count = self.count.load(Ordering::Relaxed);
        if count == 0 {
            let first = ticks.0.wrapping_sub(self.start.load(Ordering::Relaxed));
            self.first.store(first, Ordering::Relaxed);
        }
        self.count.store(count + 1, Ordering::Relaxed);
    }

    /// What is awaited was suspended, or a generator has yielded.
    #[inline]
    pub(super) fn yielded(&self, ticks: Ticks) {
        // An asynchronous generator waits for something: that is no item.
        if self.kind != Kind::AsyncGenerator {
            self.gave(ticks);
        }
    }

    fn returned(&self, py: Python<'_>, ticks: Ticks, value: &Bound<'_, PyAny>) -> Result<(), Interrupt> {
        match self.kind {
            Kind::AsyncGenerator if self.stands_alone && self.closing.load(Ordering::Relaxed) => {
                self.end(py, ticks, Outcome::Closed)
            }
            Kind::AsyncGenerator => {
                self.gave(ticks);
                if self.tells_items
                    && let Some(Ending::Handler(follower)) = &mut *self.ending.lock()
                {
                    follower.item(ticks);
                }
                Ok(())
            }
            _ => {
                self.end(py, ticks, Outcome::Returned(value))?;
                if self.kind == Kind::Coroutine {
                    self.keep(value);
                }
                Ok(())
            }
        }
    }

    pub(super) fn raised(&self, py: Python<'_>, ticks: Ticks, error: &PyErr) -> Result<(), Interrupt> {
        if let Some(value) = thrown::stopped_with(py, error)? {
            // Thrown into or closed: this is how a return looks then.
            self.returned(py, ticks, &value)
        } else if self.kind == Kind::AsyncGenerator && error.is_instance_of::<PyStopAsyncIteration>(py) {
            let none = py.None().into_bound(py);
            let is_closed = self.closing.load(Ordering::Relaxed);
            self.end(py, ticks, if is_closed { Outcome::Closed } else { Outcome::Returned(&none) })
        } else {
            self.end(py, ticks, Outcome::Raised(error))
        }
    }

    /// Keeps what a coroutine returned for [`returned`].
    pub(super) fn keep(&self, value: &Bound<'_, PyAny>) {
        if BY_VALUE {
            *self.value.lock() = Some(value.clone().unbind());
        }
    }

    /// It has come to its end. An exception that is set stays so.
    ///
    /// # Errors
    /// The evaluation of its attributes, or a handler, was interrupted.
    #[cold]
    pub(super) fn end(
        &self,
        py: Python<'_>,
        ticks: Ticks,
        outcome: Outcome<'_, '_>,
    ) -> Result<(), Interrupt> {
        self.ended.store(true, Ordering::Relaxed);
        let ending = self.ending.lock().take();
        if let (Some(Ending::Timer(_, None, _)) | None, Outcome::Returned(_)) = (&ending, &outcome) {
            // Nearly always: no Python runs, and nothing of Python's is dropped.
            return self.end_as(py, ending, ticks, outcome);
        }
        let _pending = Pending::set_aside(py);
        // PyO3 has to know that it is attached, to release at once what is dropped here.
        Python::try_attach(|_| self.end_as(py, ending, ticks, outcome)).unwrap_or(Ok(()))
    }

    fn end_as(
        &self,
        py: Python<'_>,
        ending: Option<Ending>,
        ticks: Ticks,
        outcome: Outcome<'_, '_>,
    ) -> Result<(), Interrupt> {
        if ending.is_some() && self.started.load(Ordering::Relaxed) {
            self.hook.watch_duration(Ticks(self.start.load(Ordering::Relaxed)), ticks);
        }
        match ending {
            Some(Ending::Handler(follower)) => {
                let closed;
                let outcome = match outcome {
                    Outcome::Returned(value) => Ok(value),
                    Outcome::Raised(error) => Err(error),
                    Outcome::Closed => {
                        closed = error_with::<PyGeneratorExit>(py.None().bind(py));
                        Err(&closed)
                    }
                };
                let _muted = recorder::mute();
                self.hook.guard(py, || follower.ended(py, outcome, ticks))
            }
            Some(Ending::Timer(attributes, args, Some(open))) => {
                let count = self.count.load(Ordering::Relaxed);
                let activity = Activity {
                    active: self.active.load(Ordering::Relaxed),
                    count,
                    first: (count > 0).then(|| self.first.load(Ordering::Relaxed)),
                };
                let attributes = (attributes, args.as_ref());
                ending::record(py, self.hook, attributes, open, ticks, outcome, Some((self.kind, activity)))
            }
            Some(Ending::Block(attributes, args, Some(open))) => {
                // What the generator returns is nothing to the block.
                let outcome = if let Outcome::Raised(_) = outcome { outcome } else { Outcome::Closed };
                ending::record(py, self.hook, (attributes, args.as_ref()), open, ticks, outcome, None)
            }
            Some(Ending::Timer(_, _, None) | Ending::Block(_, _, None)) | None => Ok(()),
        }
    }

    /// Advances it, as `PyIter_Send` does, without making a `StopIteration` where there is none.
    ///
    /// # Safety
    /// `value` is alive, `result` may be written to, no exception is set.
    #[inline]
    pub(super) unsafe fn advance(
        &self,
        py: Python<'_>,
        value: *mut ffi::PyObject,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        if self.thrown.is_there() {
            // SAFETY: as for this.
            return unsafe { self.throw_in(py, result) };
        }
        let awaited;
        let target = if self.kind == Kind::AsyncGenerator {
            awaited = self.target(py);
            awaited.as_ptr()
        } else {
            self.inner.as_ptr()
        };
        // SAFETY: the target is alive, the rest is passed on.
        let ran = self.run(py, || unsafe { ffi::PyIter_Send(target, value, result) });
        let (step, ticks) = match ran {
            Ok(ran) => ran,
            Err(interrupt) => {
                interrupt.restore(py);
                return ffi::PySendResult::PYGEN_ERROR;
            }
        };
        match step {
            ffi::PySendResult::PYGEN_NEXT => self.yielded(ticks),
            ffi::PySendResult::PYGEN_RETURN => {
                // SAFETY: the result of a return is a new reference, which the caller will own.
                let value = unsafe { Borrowed::from_ptr(py, *result) };
                if let Err(interrupt) = self.returned(py, ticks, &value) {
                    // SAFETY: the caller won't own it.
                    drop(unsafe { Bound::from_owned_ptr(py, ptr::replace(result, ptr::null_mut())) });
                    interrupt.restore(py);
                    return ffi::PySendResult::PYGEN_ERROR;
                }
            }
            ffi::PySendResult::PYGEN_ERROR => self.failed(py, ticks),
        }
        step
    }

    /// Advances what is awaited of an asynchronous generator. It gives its item in an exception, which is passed on.
    ///
    /// # Safety
    /// No exception is set.
    pub(super) unsafe fn advance_awaited(&self, py: Python<'_>) -> *mut ffi::PyObject {
        if self.thrown.is_there() {
            let mut result = ptr::null_mut();
            // SAFETY: as for this; what it gives is an item, or null with an exception set.
            unsafe { self.throw_in(py, &raw mut result) };
            return result;
        }
        let awaited = self.target(py);
        // SAFETY: alive, and an object made by an asynchronous generator, which has this slot.
        let ran = self.run(py, || unsafe {
            let next = (*ffi::Py_TYPE(awaited.as_ptr())).tp_iternext;
            next.map_or(ptr::null_mut(), |next| next(awaited.as_ptr()))
        });
        let (result, ticks) = match ran {
            Ok(ran) => ran,
            Err(interrupt) => {
                interrupt.restore(py);
                return ptr::null_mut();
            }
        };
        if !result.is_null() {
            self.yielded(ticks);
        // SAFETY: the interpreter's lock is held, and an exception is set.
        } else if unsafe { ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) } == 1 {
            if let Err(interrupt) = self.returned(py, ticks, &py.None().into_bound(py)) {
                interrupt.restore(py);
            }
        } else {
            self.failed(py, ticks);
        }
        result
    }

    /// It has raised the exception that is set.
    #[cold]
    fn failed(&self, py: Python<'_>, ticks: Ticks) {
        let error = PyErr::fetch(py);
        match self.raised(py, ticks, &error) {
            Ok(()) => error.restore(py),
            // An ordinary end is no exception that anybody was handling.
            Err(interrupt)
                if error.is_instance_of::<PyStopIteration>(py)
                    || error.is_instance_of::<PyStopAsyncIteration>(py) =>
            {
                interrupt.restore(py);
            }
            Err(interrupt) => interrupt.after(py, &error).restore(py),
        }
    }

    /// Has the caller await what one of the asynchronous generator's methods gave, which is its own iterator.
    pub(super) fn to_await<'py>(slf: &Bound<'py, Self>, awaited: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        let former = slf.get().awaited.lock().replace(awaited.unbind());
        drop(former); // not under the lock: this may run a destructor, and that anything
        slf.clone().into_any()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.ending.get_mut().is_none() {
            return; // it has come to its end
        }
        let _ = Python::try_attach(|py| {
            let _pending = Pending::set_aside(py);
            if let Err(interrupt) = self.give_up(py) {
                interrupt.raise_soon(py);
            }
        });
    }
}

impl Step {
    /// Closes a coroutine that never began: to warn of that is for the outer one, which knows whether it was closed or
    /// thrown into.
    pub(super) fn forgo(&self, py: Python<'_>) -> Result<(), Interrupt> {
        if self.kind == Kind::Coroutine
            && self.is_given.load(Ordering::Relaxed)
            && !self.started.load(Ordering::Relaxed)
        {
            self.inner.bind(py).call_method0(intern!(py, "close")).optional(py)?;
        }
        Ok(())
    }

    /// Nobody will take another step.
    fn give_up(&self, py: Python<'_>) -> Result<(), Interrupt> {
        self.forgo(py)?;
        // Its span may have begun with the call.
        let ending = self.ending.lock().take();
        self.end_as(py, ending, Ticks::now(), Outcome::Closed)
    }
}
