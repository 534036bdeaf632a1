//! What `sys` and `builtins` hold. `import sys` looks into `sys.modules`, which a program may have emptied for a while
//! (`mock.patch.dict(sys.modules, clear=True)`), and then asks all finders, of which one is ours; so the interpreter is
//! asked instead, which imports nothing.

use std::ffi::CStr;

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyModule, PyString};

/// `sys.modules`.
///
/// # Errors
/// The program has put something else in its place.
pub(crate) fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(held(py, c"modules")?.cast_into()?)
}

/// `sys.meta_path`.
///
/// # Errors
/// The program has put something else in its place.
pub(super) fn meta_path(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    Ok(held(py, c"meta_path")?.cast_into()?)
}

/// The frame of Python code that is running.
///
/// # Errors
/// There is none, or no memory for it.
pub(crate) fn frame(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    held(py, c"_getframe")?.call0()
}

/// A function or type of `builtins`.
///
/// # Errors
/// It is not there any more.
pub(super) fn builtin<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static BUILTINS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let builtins = BUILTINS.get_or_try_init(py, || py.import("builtins").map(Bound::unbind))?;
    builtins.bind(py).getattr(PyString::from_bytes(py, name.as_bytes())?)
}

/// `inspect`, which hooks are made with.
///
/// # Errors
/// It can't be imported.
pub(super) fn inspect(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static INSPECT: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(INSPECT.get_or_try_init(py, || py.import("inspect").map(Bound::unbind))?.bind(py))
}

fn held<'py>(py: Python<'py>, name: &'static CStr) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the interpreter's lock is held; gives a borrowed reference, or null, and raises nothing.
    let held = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PySys_GetObject(name.as_ptr())) };
    held.ok_or_else(|| PyAttributeError::new_err(format!("sys has no {}", name.to_string_lossy())))
}
