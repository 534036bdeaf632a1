//! What `sys` and `builtins` hold. `import sys` looks into `sys.modules`, which a program may have emptied for a while
//! (`mock.patch.dict(sys.modules, clear=True)`), and then asks all finders, of which one is ours; so the interpreter is
//! asked instead, which imports nothing.

use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::failure::error;

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
    static BUILTINS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let builtins = BUILTINS.get_or_try_init(py, || import(py, "builtins").map(Bound::unbind))?;
    builtins.bind(py).getattr(PyString::from_bytes(py, name.as_bytes())?)
}

/// A module, imported where it has to be. Not by `py.import`, which looks for what was imported among the modules that
/// the interpreter began with, and so fails where a program has put another dict into the place of `sys.modules`.
///
/// # Errors
/// It can't be imported.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let name = PyString::from_bytes(py, name.as_bytes())?;
    // With names that are wanted of it, the import gives the module itself and not the package that it is in.
    let wanted = PyTuple::new(py, [intern!(py, "__name__")])?;
    // SAFETY: the interpreter's lock is held, and all are alive; no globals mean an absolute name. Gives a new
    // reference, or raises.
    unsafe {
        let module = ffi::PyImport_ImportModuleLevelObject(
            name.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            wanted.as_ptr(),
            0,
        );
        Bound::from_owned_ptr_or_err(py, module)
    }
}

/// `inspect`, which hooks are made with.
///
/// # Errors
/// It can't be imported.
pub(super) fn inspect(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static INSPECT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(INSPECT.get_or_try_init(py, || import(py, "inspect").map(Bound::unbind))?.bind(py))
}

fn held<'py>(py: Python<'py>, name: &'static CStr) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the interpreter's lock is held; gives a borrowed reference, or null, and raises nothing.
    let held = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PySys_GetObject(name.as_ptr())) };
    held.ok_or_else(|| error::<PyAttributeError>(format!("sys has no {}", name.to_string_lossy())))
}
