//! The name that Python has for a thread. It is asked for in the midst of calls, when an exception may be set and any
//! function of the program's may be hooked: so it is looked up in the tables of `threading` itself. No Python code
//! runs, nothing is raised, and the interpreter's lock is neither taken nor released.

use pyo3::ffi;
use pyo3::ffi::compat::PyThreadState_GetUnchecked;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString};

use super::pending::Pending;
use super::text::utf8;

/// The name of the calling thread, if `threading` knows it and the thread holds the interpreter's lock.
pub(crate) fn thread_name() -> Option<String> {
    // SAFETY: asks for two pointers. Before CPython 3.12 the first is that of whichever thread holds the lock.
    let is_attached = unsafe {
        let current = PyThreadState_GetUnchecked();
        !current.is_null() && current == ffi::PyGILState_GetThisThreadState()
    };
    if !is_attached {
        return None;
    }
    // SAFETY: as has been found out.
    let py = unsafe { Python::assume_attached() };
    let _pending = Pending::set_aside(py);
    let name = find(py);
    // SAFETY: the lock is held. Whatever failed is of no interest.
    unsafe { ffi::PyErr_Clear() };
    name
}

fn find(py: Python<'_>) -> Option<String> {
    // SAFETY: gives a borrowed dict that lives as long as the interpreter.
    let modules = unsafe { Borrowed::from_ptr_or_opt(py, ffi::PyImport_GetModuleDict()) }?;
    let threading = entry(&modules, text(py, "threading")?.as_any())?;
    // SAFETY: gives a borrowed dict for a module, which is alive.
    let globals = unsafe {
        if ffi::PyModule_Check(threading.as_ptr()) == 0 {
            return None;
        }
        Borrowed::from_ptr_or_opt(py, ffi::PyModule_GetDict(threading.as_ptr()))?
    };
    let active = entry(&globals, text(py, "_active")?.as_any())?;
    // SAFETY: asks the system.
    let ident = unsafe { ffi::PyLong_FromUnsignedLong(ffi::PyThread_get_thread_ident()) };
    // SAFETY: a new reference, or null.
    let ident = unsafe { Bound::from_owned_ptr_or_opt(py, ident) }?;
    let thread = entry(&active, &ident)?;
    // SAFETY: alive; gives a new reference, or null for what has no such dict.
    let attributes = unsafe {
        Bound::from_owned_ptr_or_opt(py, ffi::PyObject_GenericGetDict(thread.as_ptr(), std::ptr::null_mut()))
    }?;
    let name = entry(&attributes, text(py, "_name")?.as_any())?;
    Some(utf8(name.cast_exact::<PyString>().ok()?).into_owned())
}

fn text<'py>(py: Python<'py>, text: &str) -> Option<Bound<'py, PyString>> {
    PyString::from_bytes(py, text.as_bytes()).ok()
}

/// The entry of what is a dict itself, under a key that is a `str` or an `int` itself.
fn entry<'py>(dict: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    debug_assert!(key.is_exact_instance_of::<PyString>() || key.is_exact_instance_of::<PyInt>());
    if !dict.is_exact_instance_of::<PyDict>() {
        return None;
    }
    // SAFETY: a living dict and a living key; gives a borrowed reference, or null.
    unsafe {
        Bound::from_borrowed_ptr_or_opt(dict.py(), ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr()))
    }
}
