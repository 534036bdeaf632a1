//! How the object in a function's place answers as the function would: attributes, comparison, text, pickling, copies.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::call::PyCallArgs;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString};

use super::{hooks, target, wrapper};
use crate::hook::failure::caught;
use crate::hook::interrupt::Attempt;
use crate::hook::system;
use crate::hook::text::utf8;

/// Attributes that are the wrapper's own; all others are those of the function.
const OWN: [&CStr; 8] = [
    c"__call__",
    c"__copy__",
    c"__deepcopy__",
    c"__eq__",
    c"__get__",
    c"__ne__",
    c"__reduce__",
    c"__reduce_ex__",
];

/// Where `torch.compile` finds the function to trace in place of an object that it can't look into.
const TRACED_INSTEAD: &CStr = c"_torchdynamo_inline";

/// The address of a compiled function, by which `torch.compile` tells it from what only has its attributes.
const COMPILED_BY_ADDRESS: &CStr = c"_torchdynamo_wrapper_id";

pub(super) unsafe extern "C" fn get_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call with a text as name.
    unsafe {
        let is = |own: &&CStr| ffi::PyUnicode_CompareWithASCIIString(name, own.as_ptr()) == 0;
        if OWN.iter().any(is) {
            return ffi::PyObject_GenericGetAttr(object, name);
        }
        let target = target(object);
        if is(&TRACED_INSTEAD) {
            ffi::Py_INCREF(target);
            return target;
        }
        let value = ffi::PyObject_GetAttr(target, name);
        if !value.is_null() && is(&COMPILED_BY_ADDRESS) {
            return own_address(object, value);
        }
        value
    }
}

/// The wrapper's address if `address` is the function's.
unsafe fn own_address(object: *mut ffi::PyObject, address: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a wrapper and a new reference, which is passed on or released.
    unsafe {
        answer(object, |wrapper, target| {
            let address = Bound::from_owned_ptr(target.py(), address);
            if !address.eq(target.as_ptr().addr())? {
                return Ok(address);
            }
            Ok(wrapper.as_ptr().addr().into_pyobject(target.py())?.into_any())
        })
    }
}

pub(super) unsafe extern "C" fn set_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: a slot call; a null value deletes, which `PyObject_SetAttr` does too.
    unsafe { ffi::PyObject_SetAttr(target(object), name, value) }
}

pub(super) unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Repr(target(object)) }
}

pub(super) unsafe extern "C" fn str(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Str(target(object)) }
}

/// Equal to its function and to what else stands for it, so that tables with the function as key still find it.
pub(super) unsafe extern "C" fn compare(
    object: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operator: c_int,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call; both objects are alive.
    unsafe {
        let known = Borrowed::from_ptr(Python::assume_attached(), other);
        let other_target = wrapper(&known).map(|_| target(other));
        let other = other_target.unwrap_or(other);
        let target = target(object);
        match (*ffi::Py_TYPE(target)).tp_richcompare {
            Some(compare) if matches!(operator, ffi::Py_EQ | ffi::Py_NE) => compare(target, other, operator),
            // Raises an error that names the type of the function.
            _ => ffi::PyObject_RichCompare(target, other, operator),
        }
    }
}

pub(super) unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Hash(target(object)) }
}

/// What `inspect.getattr_static` takes for the instance's own dict: it looks past the other attributes, which are
/// forwarded. `torch.compile` asks in this way.
pub(super) unsafe extern "C" fn static_attributes(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe {
        answer(object, |_, target| {
            let attributes = PyDict::new(target.py());
            if let Some(own) = target.getattr_opt("__dict__")? {
                attributes.update(own.cast()?)?;
            }
            attributes.set_item(TRACED_INSTEAD, target)?;
            Ok(attributes.into_any())
        })
    }
}

/// For `pydoc`, which asks past the object's own way to find attributes.
pub(super) unsafe extern "C" fn documentation(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_GetAttrString(target(object), c"__doc__".as_ptr()) }
}

/// Pickled by name, as functions are, if the name leads here; else as what it stands for.
pub(super) unsafe extern "C" fn reduce(
    object: *mut ffi::PyObject,
    protocol: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call; the protocol is null or alive.
    unsafe {
        answer(object, |wrapper, target| {
            let reduced = if target.is_instance_of::<PyFunction>() {
                target.getattr("__qualname__")?
            } else if let Some(protocol) = Borrowed::from_ptr_or_opt(target.py(), protocol) {
                target.call_method1("__reduce_ex__", (protocol,))?
            } else {
                target.call_method0("__reduce__")?
            };
            let Ok(name) = reduced.cast::<PyString>() else { return Ok(reduced) };
            let named = named(target, &utf8(name)).optional(target.py())?;
            if named.is_some_and(|named| named.is(wrapper)) {
                return Ok(reduced);
            }
            // Whoever loads it need not have msprof_rs.
            let first = system::import(target.py(), "operator")?.getattr("getitem")?;
            Ok((first, ((target,), 0)).into_pyobject(target.py())?.into_any())
        })
    }
}

/// What is found under the name of a function.
fn named<'py>(function: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let modules = system::modules(function.py())?;
    let module = modules.as_any().get_item(function.getattr("__module__")?)?;
    name.split('.').try_fold(module, |owner, name| owner.getattr(name))
}

pub(super) unsafe extern "C" fn copy(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { answer(object, |wrapper, target| copied(wrapper, target, "copy", (target,))) }
}

pub(super) unsafe extern "C" fn deep_copy(
    object: *mut ffi::PyObject,
    memo: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call with one argument.
    unsafe {
        answer(object, |wrapper, target| {
            let memo = Borrowed::from_ptr(target.py(), memo);
            copied(wrapper, target, "deepcopy", (target, memo))
        })
    }
}

/// A function is its own copy.
fn copied<'py>(
    wrapper: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    way: &str,
    arguments: impl PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let copy = system::import(target.py(), "copy")?.call_method1(way, arguments)?;
    Ok(if copy.is(target) { wrapper.clone() } else { copy })
}

/// Gives CPython what `make` makes of a wrapper and the function that it stands for.
pub(super) unsafe fn answer(
    object: *mut ffi::PyObject,
    make: impl for<'py> FnOnce(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: callers are slots, which are called with the interpreter's lock held.
    let (py, hooked) = unsafe { (Python::assume_attached(), hooks(object)) };
    // SAFETY: alive as long as the slot runs.
    let wrapper = unsafe { Borrowed::from_ptr(py, object) };
    match caught(py, || make(&wrapper, &hooked.target(py))) {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}
