//! An exception that is set, and must be so again, while the profiler does something in between.

use std::borrow::Cow;
use std::ffi::CStr;
use std::marker::PhantomData;
#[cfg(not(Py_3_12))]
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::interrupt::Interrupt;

/// The exception that was set, if there was one. It is set again when this goes.
pub(crate) struct Pending<'py> {
    /// The exception; before CPython 3.12 its type, its value if it has been made, and its traceback.
    #[cfg(Py_3_12)]
    raised: *mut ffi::PyObject,
    #[cfg(not(Py_3_12))]
    raised: [*mut ffi::PyObject; 3],
    py: Python<'py>,
    this_thread: PhantomData<*const ()>,
}

impl<'py> Pending<'py> {
    /// Takes the exception that is set. Runs no Python code.
    pub(crate) fn set_aside(py: Python<'py>) -> Self {
        #[cfg(Py_3_12)]
        // SAFETY: the interpreter's lock is held; gives a new reference, or null.
        let raised = unsafe { ffi::PyErr_GetRaisedException() };
        #[cfg(not(Py_3_12))]
        let raised = {
            let (mut kind, mut value, mut trace) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            // SAFETY: the interpreter's lock is held; gives new references, or nulls.
            unsafe { ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut trace) };
            [kind, value, trace]
        };
        Self { raised, py, this_thread: PhantomData }
    }

    /// Its type.
    pub(crate) fn kind(&self) -> Option<Borrowed<'_, 'py, PyType>> {
        // SAFETY: null, or alive as long as this is.
        unsafe {
            #[cfg(Py_3_12)]
            let kind = if self.raised.is_null() { self.raised } else { ffi::Py_TYPE(self.raised).cast() };
            #[cfg(not(Py_3_12))]
            let kind = self.raised[0];
            Some(Borrowed::from_ptr_or_opt(self.py, kind)?.cast_unchecked())
        }
    }

    /// Sets the interrupt in its place, with this as its context.
    pub(super) fn give_way_to(self, interrupt: Interrupt) {
        let py = self.py;
        drop(self);
        match PyErr::take(py) {
            Some(error) => interrupt.after(py, &error),
            None => interrupt,
        }
        .restore(py);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // SAFETY: the references that were taken are given back. Nothing has been set in between, or is lost.
        unsafe {
            #[cfg(Py_3_12)]
            ffi::PyErr_SetRaisedException(self.raised);
            #[cfg(not(Py_3_12))]
            ffi::PyErr_Restore(self.raised[0], self.raised[1], self.raised[2]);
        }
    }
}

/// The name of a type, without its module, and without a question to its metaclass.
pub(super) fn name<'a>(kind: &'a Bound<'_, PyType>) -> Cow<'a, str> {
    // SAFETY: a living type, whose name lives with it; the interpreter's lock is held.
    let name = unsafe { CStr::from_ptr((*kind.as_type_ptr()).tp_name) }.to_string_lossy();
    match name {
        Cow::Borrowed(name) => name.rsplit_once('.').map_or(name, |(_, name)| name).into(),
        Cow::Owned(_) => name,
    }
}
