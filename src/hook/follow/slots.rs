//! The entries by which CPython itself reaches a [`Step`]: at each step, and when the collector finds it.

use std::ptr;

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::step::{BY_VALUE, Step};
use crate::hook::hooked::Kind;
use crate::hook::pending::Pending;

/// Puts our own entries where those made by the macros would be called at each step: these know no `am_send`.
pub(super) fn make_fast(py: Python<'_>) {
    let kind = py.get_type::<Step>().as_type_ptr();
    // SAFETY: the type was made at run time, so its method tables are its own, and these entries fit them.
    unsafe {
        (*kind).tp_iternext = Some(next_entry);
        (*kind).tp_finalize = Some(finalize_entry);
        if let Some(methods) = (*kind).tp_as_async.as_mut() {
            methods.am_send = Some(send_entry);
            methods.am_await = Some(await_entry);
        }
        ffi::PyType_Modified(kind);
    }
}

/// The collector finalizes a circle of garbage in the order in which it came to know of its objects; see
/// [`finalized_after`].
unsafe extern "C" fn finalize_entry(step: *mut ffi::PyObject) {
    // SAFETY: CPython calls a slot with an object of its type, holding its lock. An exception may be set.
    unsafe {
        let py = Python::assume_attached();
        let _pending = Pending::set_aside(py);
        let step = Borrowed::from_ptr(py, step).cast_unchecked::<Step>();
        if let Err(interrupt) = step.get().forgo(py) {
            interrupt.raise_soon(py);
        }
    }
}

/// Has the collector finalize the coroutine after the step that it has just been given to: were it the first, it would
/// warn that it was never awaited, as does the one that stands before it.
pub(super) fn finalized_after(made: &Bound<'_, PyAny>) {
    let object = made.as_ptr();
    // SAFETY: alive; what the collector knows of has a place in one of its lists, and is put at the end of another.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object) == 1 {
            ffi::PyObject_GC_UnTrack(object.cast());
            ffi::PyObject_GC_Track(object.cast());
        }
    }
}

unsafe extern "C" fn await_entry(step: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: alive; the caller gets a reference.
    unsafe { ffi::Py_NewRef(step) }
}

unsafe extern "C" fn send_entry(
    step: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: CPython calls a slot with an object of its type, holding its lock, with no exception set.
    unsafe {
        let py = Python::assume_attached();
        let step = Borrowed::from_ptr(py, step).cast_unchecked::<Step>();
        step.get().advance(py, value, result)
    }
}

/// Null without an exception is the end, with None as its value.
unsafe extern "C" fn next_entry(step: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = ptr::null_mut();
    // SAFETY: as in `send_entry`.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, step).cast_unchecked::<Step>();
        if this.get().kind == Kind::AsyncGenerator {
            return this.get().advance_awaited(py);
        }
        if this.get().advance(py, ffi::Py_None(), &raw mut result) != ffi::PySendResult::PYGEN_RETURN {
            return result;
        }
        let value = Bound::from_owned_ptr(py, result);
        let is_taken = BY_VALUE && this.get().kind == Kind::Coroutine;
        if !(is_taken || value.is_none()) {
            stop(&value);
        }
    }
    ptr::null_mut()
}

/// Raises `StopIteration(value)`. The short way would take a tuple for its arguments, and an exception for itself.
pub(super) fn stop(value: &Bound<'_, PyAny>) {
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        match PyTuple::new(value.py(), [value]) {
            Ok(arguments) => set_stop(arguments.as_any()),
            Err(error) => error.restore(value.py()),
        }
    } else {
        set_stop(value);
    }
}

fn set_stop(value: &Bound<'_, PyAny>) {
    // SAFETY: both are alive.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
}
