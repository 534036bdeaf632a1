//! Whose calls a hook records, where others share the function: a method that a base defines, or the `__call__` of an
//! object's class.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::args::Args;
use super::reference::Reference;

/// What a call has as its first argument, if it is meant.
pub(super) enum Receiver {
    /// This object.
    Object(Reference),
    /// An instance of this class.
    InstanceOf(Reference),
    /// This class, or one that is made of it.
    SubclassOf(Reference),
}

impl Receiver {
    /// Whether a call with these arguments is meant. No Python code runs for this.
    pub(super) fn is_of(&self, py: Python<'_>, args: Args<'_>) -> bool {
        let Some(first) = args.positional(py, 0) else { return false };
        let is_made_of = |class: *mut ffi::PyTypeObject, base: &Reference| {
            // SAFETY: a living object's type, or a living type; what names a class refers to one.
            base.get(py)
                .is_some_and(|base| unsafe { ffi::PyType_IsSubtype(class, base.as_ptr().cast()) } != 0)
        };
        match self {
            Self::Object(object) => object.is(&first),
            Self::InstanceOf(class) => is_made_of(first.get_type_ptr(), class),
            Self::SubclassOf(class) => {
                first.is_instance_of::<PyType>() && is_made_of(first.as_ptr().cast(), class)
            }
        }
    }

    /// Whether the program still has the object or the class.
    pub(super) fn is_there(&self, py: Python<'_>) -> bool {
        self.reference().get(py).is_some()
    }

    /// Whether both are of the same calls.
    pub(super) fn is_same(&self, py: Python<'_>, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.reference().get(py).is_some_and(|own| other.reference().is(&own))
    }

    fn reference(&self) -> &Reference {
        match self {
            Self::Object(reference) | Self::InstanceOf(reference) | Self::SubclassOf(reference) => reference,
        }
    }
}
