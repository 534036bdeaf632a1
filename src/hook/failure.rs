//! Failures of the profiler's own work, also where there is no memory. `PyO3` makes the exceptions of its `new_err` when
//! they are first looked at, and panics where that fails, as it does in other places that can only fail without memory.
//! So exceptions of ours are made at once, and a panic ends at the call that is recorded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::interrupt::Interrupt;
use crate::clock::Ticks;
use crate::event::Label;
use crate::recorder;

/// An exception of that type; a `MemoryError` where there is no memory for it.
#[cold]
pub(crate) fn error<T: PyTypeInfo>(problem: impl Into<String>) -> PyErr {
    let problem = problem.into();
    let made = Python::try_attach(|py| {
        let text = match PyString::from_bytes(py, problem.as_bytes()) {
            Ok(text) => text,
            Err(error) => return error,
        };
        error_with::<T>(&text)
    });
    made.unwrap_or_else(|| PyErr::new::<T, _>(problem)) // the interpreter is ending
}

/// An exception of that type with this value, as `raise T(value)` makes it; with None it has no arguments.
#[cold]
pub(crate) fn error_with<T: PyTypeInfo>(value: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: a living type and a living value; an exception is set afterwards, this one or what kept it from that.
    unsafe { ffi::PyErr_SetObject(T::type_object_raw(value.py()).cast(), value.as_ptr()) };
    PyErr::fetch(value.py())
}

/// What `run` gives; a panic is a failure like any other.
///
/// # Errors
/// What `run` failed with.
pub(crate) fn caught<T>(py: Python<'_>, run: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        forget_exception(py);
        Err(error::<PyRuntimeError>("no memory, or a defect in msprof_rs"))
    })
}

/// Runs a part of the profiler's work and all that deals with its failure. None where even that panicked, which is
/// counted and told.
///
/// # Errors
/// It was interrupted.
pub(crate) fn contained<T>(
    py: Python<'_>,
    run: impl FnOnce() -> Result<T, Interrupt>,
) -> Result<Option<T>, Interrupt> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run().map(Some)));
    outcome.unwrap_or_else(|_| {
        forget_exception(py);
        count();
        Ok(None)
    })
}

/// Whoever panicked may have left one.
fn forget_exception(_: Python<'_>) {
    // SAFETY: the interpreter's lock is held.
    unsafe { ffi::PyErr_Clear() };
}

#[cold]
fn count() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    if count == 1 {
        log::warn!(
            "no memory, or a defect in msprof_rs: what a call has of attributes is left out; this is said once"
        );
    }
    // In the timeline, but not at every call.
    if count.is_power_of_two() {
        let label = Label::new("msprof_rs", "missing: what could not be recorded for want of memory");
        recorder::counter(label, Ticks::now(), count as f64);
    }
}
