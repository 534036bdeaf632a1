//! Objects that the program owns: what is hooked lives no longer than it would without us, so that each version of a
//! module that is reloaded goes with everything in it.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::interrupt::{Attempt, Interrupt};

/// An object that may go.
pub(super) enum Reference {
    Weak(Py<PyWeakrefReference>),
    /// Nothing can refer to it weakly.
    Strong(Py<PyAny>),
}

impl Reference {
    /// # Errors
    /// It was interrupted.
    pub(super) fn to(object: &Bound<'_, PyAny>) -> Result<Self, Interrupt> {
        let weak = PyWeakrefReference::new(object).optional(object.py())?;
        Ok(weak.map_or_else(|| Self::Strong(object.clone().unbind()), |weak| Self::Weak(weak.unbind())))
    }

    /// As [`Reference::to`], but what has a type of CPython's own, such as a number or a text, belongs to nobody.
    ///
    /// # Errors
    /// It was interrupted.
    pub(super) fn to_value(value: &Bound<'_, PyAny>) -> Result<Self, Interrupt> {
        let kind = value.get_type();
        // SAFETY: a type.
        let is_heap_type =
            unsafe { ffi::PyType_HasFeature(kind.as_type_ptr(), ffi::Py_TPFLAGS_HEAPTYPE) } != 0;
        if is_heap_type { Self::to(value) } else { Ok(Self::Strong(value.clone().unbind())) }
    }

    /// The object, if it is still there.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Weak(reference) => reference.bind(py).upgrade(),
            Self::Strong(object) => Some(object.bind(py).clone()),
        }
    }

    /// Whether it is this object.
    pub(super) fn is(&self, object: &Bound<'_, PyAny>) -> bool {
        self.get(object.py()).is_some_and(|own| own.is(object))
    }
}
