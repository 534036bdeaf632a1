//! A native object in the place of the function, for CPython before 3.12 and for what is not a Python function. It
//! answers as the function does; calls reach it by vectorcall, also as a method, without a bound method in between.

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::hooked::Hooked;

unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, instance: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

#[repr(C)]
struct Wrapper {
    base: ffi::PyObject,
    entry: Option<ffi::vectorcallfunc>,
    hooked: *const Hooked,
    weak_references: *mut ffi::PyObject,
}

/// Attributes that are the wrapper's own; all others are those of the function.
const OWN: [&CStr; 5] = [c"__get__", c"__wrapped__", c"__reduce__", c"__reduce_ex__", c"__call__"];

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// An object that calls through `hooked`.
pub(super) fn wrap<'py>(py: Python<'py>, hooked: &'static Hooked) -> PyResult<Bound<'py, PyAny>> {
    let kind = TYPE.get_or_try_init(py, || make_type(py))?.bind(py).as_type_ptr();
    // SAFETY: a new object of our type; its own fields are set before anybody sees it.
    unsafe {
        let object = ffi::PyType_GenericAlloc(kind, 0);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let wrapper = object.as_ptr().cast::<Wrapper>();
        (*wrapper).entry = Some(entry);
        (*wrapper).hooked = hooked;
        Ok(object)
    }
}

/// The hooks of an object that [`wrap`] made.
pub(super) fn hooked_of(object: &Bound<'_, PyAny>) -> Option<&'static Hooked> {
    let kind = TYPE.get(object.py())?.bind(object.py());
    if !object.get_type().is(kind) {
        return None;
    }
    // SAFETY: an object of our type has our layout, and its hooks live as long as the process.
    unsafe { (*object.as_ptr().cast::<Wrapper>()).hooked.as_ref() }
}

fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    // The type keeps pointers into both lists.
    let members = Box::leak(Box::new([
        member(c"__vectorcalloffset__", offset_of!(Wrapper, entry)),
        member(c"__weaklistoffset__", offset_of!(Wrapper, weak_references)),
        // SAFETY: a zeroed entry ends the list.
        unsafe { std::mem::zeroed() },
    ]));
    let method = |name: &'static CStr, function: ffi::PyCFunction, flags: c_int| ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: flags,
        ml_doc: ptr::null(),
    };
    let methods = Box::leak(Box::new([
        method(c"__reduce__", reduce, ffi::METH_NOARGS),
        method(c"__reduce_ex__", reduce, ffi::METH_O),
        ffi::PyMethodDef::zeroed(),
    ]));
    let getters = Box::leak(Box::new([
        ffi::PyGetSetDef {
            name: c"__wrapped__".as_ptr(),
            get: Some(wrapped),
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        },
        ffi::PyGetSetDef::default(),
    ]));
    let slot = |slot: c_int, pointer: *mut c_void| ffi::PyType_Slot { slot, pfunc: pointer };
    let mut slots = [
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_descr_get, bind as *mut c_void),
        slot(ffi::Py_tp_getattro, get_attribute as *mut c_void),
        slot(ffi::Py_tp_setattro, set_attribute as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ];
    // Without the last of them the interpreter looks the method up anew in each call.
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut spec = ffi::PyType_Spec {
        name: c"msprof_rs._core.hooked".as_ptr(),
        basicsize: size_of::<Wrapper>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete, and what it points to lives as long as the type.
    unsafe {
        let kind = ffi::PyType_FromSpec(&raw mut spec);
        Ok(Bound::from_owned_ptr_or_err(py, kind)?.cast_into::<PyType>()?.unbind())
    }
}

/// The hooks of an object that CPython passes to one of this type's slots.
unsafe fn hooks(object: *mut ffi::PyObject) -> &'static Hooked {
    // SAFETY: slots are only called with objects of their type, and its hooks live as long as the process.
    unsafe { &*(*object.cast::<Wrapper>()).hooked }
}

unsafe extern "C" fn entry(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: this is a vectorcall of an object of our type.
    unsafe { hooks(object).call(args, nargsf, names) }
}

unsafe extern "C" fn bind(
    object: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call; the instance is null or alive.
    unsafe {
        if instance.is_null() || instance == ffi::Py_None() {
            ffi::Py_INCREF(object);
            return object;
        }
        PyMethod_New(object, instance)
    }
}

unsafe extern "C" fn get_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call with a text as name.
    unsafe {
        let is = |own: &&CStr| ffi::PyUnicode_CompareWithASCIIString(name, own.as_ptr()) == 0;
        if OWN.iter().any(is) {
            return ffi::PyObject_GenericGetAttr(object, name);
        }
        ffi::PyObject_GetAttr(hooks(object).target, name)
    }
}

unsafe extern "C" fn set_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: a slot call; a null value deletes, which `PyObject_SetAttr` does too.
    unsafe { ffi::PyObject_SetAttr(hooks(object).target, name, value) }
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Repr(hooks(object).target) }
}

unsafe extern "C" fn wrapped(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a slot call; the target is never given up.
    unsafe {
        let target = hooks(object).target;
        ffi::Py_INCREF(target);
        target
    }
}

/// Pickled by name, as functions are.
unsafe extern "C" fn reduce(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_GetAttrString(hooks(object).target, c"__qualname__".as_ptr()) }
}
