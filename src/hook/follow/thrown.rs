//! What is thrown at the function that stands before a [`Step`], and how it comes to the original.
//!
//! A generator that raises has ended, while one that is closed and yields, or is thrown what can't be raised, goes on.
//! So the function before must not raise where the original doesn't: it catches what is thrown, and runs the next step,
//! by which the original gets it. What CPython then says of the function before is true of the original too.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyBaseException, PyGeneratorExit, PyStopIteration};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::ending::Outcome;
use super::step::Step;
use crate::clock::Ticks;
use crate::hook::hooked::Kind;
use crate::hook::interrupt::{Attempt, Interrupt};

/// An exception that the next step throws into the original.
#[derive(Default)]
pub(super) struct Thrown {
    /// Looked at before each step.
    is_there: AtomicBool,
    error: Mutex<Option<Py<PyBaseException>>>,
}

impl Thrown {
    #[inline]
    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    pub(super) fn put(&self, error: Bound<'_, PyBaseException>) {
        let former = self.error.lock().replace(error.unbind());
        self.is_there.store(true, Ordering::Relaxed);
        drop(former); // not under the lock: this may run a destructor, and that anything
    }

    fn take(&self) -> Option<Py<PyBaseException>> {
        self.is_there.store(false, Ordering::Relaxed);
        self.error.lock().take()
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock is alive, and so is this.
        self.error.try_lock().map_or(Ok(()), |error| visit.call(&*error))
    }
}

/// Takes the frame in which an exception was caught off its traceback. The original gets it as it was thrown.
pub(super) fn without_own_frame(error: &Bound<'_, PyBaseException>) -> PyResult<()> {
    let py = error.py();
    let traceback = error.getattr(intern!(py, "__traceback__"))?;
    if traceback.is_none() {
        return Ok(());
    }
    error.setattr(intern!(py, "__traceback__"), traceback.getattr(intern!(py, "tb_next"))?)
}

/// Whether what is thrown into a generator or coroutine goes on to what it delegates to, with whatever arguments.
///
/// Where it doesn't, CPython checks the arguments first, and bad ones change nothing.
pub(super) fn throws_on(original: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = original.py();
    let is_generator = |object: &Bound<'_, PyAny>| {
        // SAFETY: alive.
        unsafe { ffi::PyGen_CheckExact(object.as_ptr()) == 1 }
    };
    let is_coroutine = |object: &Bound<'_, PyAny>| {
        // SAFETY: alive.
        unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) == 1 }
    };
    let delegate = if is_generator(original) {
        original.getattr(intern!(py, "gi_yieldfrom"))?
    } else if is_coroutine(original) {
        original.getattr(intern!(py, "cr_await"))?
    } else {
        return Ok(true);
    };
    let takes_any = is_generator(&delegate) || is_coroutine(&delegate);
    Ok(takes_any || delegate.getattr_opt(intern!(py, "throw"))?.is_some())
}

/// The value of a `StopIteration`.
///
/// # Errors
/// It was interrupted: a subclass may put anything in the place of the value.
pub(super) fn stopped_with<'py>(
    py: Python<'py>,
    error: &PyErr,
) -> Result<Option<Bound<'py, PyAny>>, Interrupt> {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return Ok(None);
    }
    let value = error.value(py).getattr(intern!(py, "value")).optional(py)?;
    Ok(Some(value.unwrap_or_else(|| py.None().into_bound(py))))
}

impl Step {
    /// Throws what [`Thrown`] has into the original, in the place of an ordinary step.
    ///
    /// # Safety
    /// As for [`Step::advance`].
    #[cold]
    pub(super) unsafe fn throw_in(
        &self,
        py: Python<'_>,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        let error = self.thrown.take();
        let is_exit = error.as_ref().is_some_and(|error| error.bind(py).is_instance_of::<PyGeneratorExit>());
        let give = |object: *mut ffi::PyObject| {
            // SAFETY: may be written to, says the caller, who will own it.
            unsafe { *result = object };
        };
        give(ptr::null_mut());
        let ran = self.run(py, || self.target(py).call_method1(intern!(py, "throw"), (error,)));
        let (outcome, ticks) = match ran {
            Ok(ran) => ran,
            Err(interrupt) => {
                interrupt.restore(py);
                return ffi::PySendResult::PYGEN_ERROR;
            }
        };
        let error = match outcome {
            Ok(item) => {
                self.yielded(ticks);
                self.closing.store(is_exit, Ordering::Relaxed);
                give(item.into_ptr());
                return ffi::PySendResult::PYGEN_NEXT;
            }
            Err(error) => error,
        };
        match self.ended_by(py, ticks, &error, is_exit) {
            Ok(Some(value)) => {
                give(value.into_ptr());
                return ffi::PySendResult::PYGEN_RETURN;
            }
            Ok(None) => error.restore(py),
            // An ordinary end is no exception that anybody was handling.
            Err(interrupt) if error.is_instance_of::<PyStopIteration>(py) => interrupt.restore(py),
            Err(interrupt) => interrupt.after(py, &error).restore(py),
        }
        ffi::PySendResult::PYGEN_ERROR
    }

    /// The original has raised this. Gives its value where that is how a return looks.
    fn ended_by<'py>(
        &self,
        py: Python<'py>,
        ticks: Ticks,
        error: &PyErr,
        is_exit: bool,
    ) -> Result<Option<Bound<'py, PyAny>>, Interrupt> {
        let value = match self.kind {
            Kind::AsyncGenerator => None, // this is how an item looks, which is passed on
            _ => stopped_with(py, error)?,
        };
        if is_exit && (value.is_some() || error.is_instance_of::<PyGeneratorExit>(py)) {
            self.end(py, ticks, Outcome::Closed)?;
        } else {
            self.raised(py, ticks, error)?;
        }
        if let Some(value) = &value
            && self.kind == Kind::Coroutine
        {
            self.keep(value);
        }
        Ok(value)
    }
}
