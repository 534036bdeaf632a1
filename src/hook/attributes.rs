//! Attributes of the program's classes and modules, read and set as CPython itself does it: past what a metaclass or a
//! class of modules has in Python for that (`__getattribute__`, `__setattr__`), which would see the profiler at work.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyMappingProxy, PyModule, PyString, PyType};

use super::pending;
use crate::symbols::mangled;

/// What stands in a class.
pub(super) struct Attribute<'py> {
    /// Its name there, which differs from what the class's own code calls it where that is private.
    pub(super) name: String,
    /// As it stands there, unbound.
    pub(super) raw: Bound<'py, PyAny>,
    /// The class that has it: the one that was asked, or a base.
    pub(super) class: Bound<'py, PyType>,
}

/// All that a class itself has.
pub(super) fn of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyMappingProxy>> {
    static DICT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let dict = DICT.get_or_try_init(py, || {
        let dict = py.get_type::<PyType>().getattr("__dict__")?.get_item("__dict__")?;
        PyResult::Ok(dict.unbind())
    })?;
    Ok(dict.bind(py).call_method1("__get__", (class,))?.cast_into()?)
}

/// What a class itself has under a name; a private one is looked for as the class's own code means it.
pub(super) fn own<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Option<Attribute<'py>>> {
    let all = of(class)?;
    let get = |name: &str| PyResult::Ok(if all.contains(name)? { Some(all.get_item(name)?) } else { None });
    let found = |name: String, raw| Attribute { name, raw, class: class.clone() };
    if let Some(raw) = get(name)? {
        return Ok(Some(found(name.to_owned(), raw)));
    }
    let Some(private) = mangled(&pending::name(class), name) else { return Ok(None) };
    Ok(get(&private)?.map(|raw| found(private, raw)))
}

/// The same of a class or the first of its bases that has it.
pub(super) fn find<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Option<Attribute<'py>>> {
    for base in class.mro() {
        if let Some(found) = own(&base.cast_into()?, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Sets an attribute.
///
/// # Errors
/// The owner can't have it.
pub(super) fn set<'py>(
    owner: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    match native(owner, name, "__setattr__")? {
        Some(set) => set.call1((owner, name, value)).map(drop),
        None => owner.setattr(name, value),
    }
}

/// Removes an attribute.
///
/// # Errors
/// The owner does not have it, or keeps it.
pub(super) fn remove<'py>(owner: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<()> {
    match native(owner, name, "__delattr__")? {
        Some(remove) => remove.call1((owner, name)).map(drop),
        None => owner.delattr(name),
    }
}

/// What a class or module would use if no code in Python had a part in it: the method of CPython's own, or of an
/// extension's metaclass. None for any other object, and for what a module only has by its own code.
fn native<'py>(
    owner: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    method: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let has_it = match owner.cast::<PyModule>() {
        Ok(module) => module.dict().contains(name)?,
        Err(_) => owner.is_instance_of::<PyType>(),
    };
    if !has_it {
        return Ok(None);
    }
    for class in owner.get_type().mro() {
        let all = of(&class.cast_into()?)?;
        if all.contains(method)? {
            let found = all.get_item(method)?;
            // SAFETY: a living object; the type is one of CPython's own.
            if unsafe { ptr::eq(ffi::Py_TYPE(found.as_ptr()), &raw mut ffi::PyWrapperDescr_Type) } {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}
