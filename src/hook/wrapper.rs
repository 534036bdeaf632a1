//! A native object in the place of the function, for CPython before 3.12 and for what is not a Python function. It
//! answers as the function does; calls reach it by vectorcall, also as a method, without a bound method in between.

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;

use pyo3::call::PyCallArgs;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFunction, PyString, PyType};

use super::hooked::Hooked;
use super::interrupt::Attempt;
use super::text::utf8;

// SAFETY: as CPython declares it.
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
const OWN: [&CStr; 6] = [c"__call__", c"__eq__", c"__get__", c"__ne__", c"__reduce__", c"__reduce_ex__"];

/// Where `torch.compile` finds the function to trace in place of an object that it can't look into.
const TRACED_INSTEAD: &CStr = c"_torchdynamo_inline";

/// The address of a compiled function, by which `torch.compile` tells it from what only has its attributes.
const COMPILED_BY_ADDRESS: &CStr = c"_torchdynamo_wrapper_id";

/// Of functions, which bind to instances, and of builtins and partials, which do not.
static BINDING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static PLAIN: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// An object that calls through `hooked`.
pub(super) fn wrap<'py>(py: Python<'py>, hooked: &'static Hooked) -> PyResult<Bound<'py, PyAny>> {
    let binds = hooked.target(py).get_type().hasattr("__get__")?;
    let kind = if binds { &BINDING } else { &PLAIN };
    let kind = kind.get_or_try_init(py, || make_type(py, binds))?.bind(py).as_type_ptr();
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

/// Whether [`wrap`] has made any object.
pub(super) fn is_used(py: Python<'_>) -> bool {
    [&BINDING, &PLAIN].iter().any(|ours| ours.get(py).is_some())
}

/// What an object stands for, if [`wrap`] made it.
pub(crate) fn stood_for<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    hooked_of(object).map(|hooked| hooked.target(object.py()).to_owned())
}

/// The hooks of an object that [`wrap`] made.
pub(super) fn hooked_of(object: &Bound<'_, PyAny>) -> Option<&'static Hooked> {
    let kind = object.get_type();
    let is_ours =
        [&BINDING, &PLAIN].iter().any(|ours| ours.get(object.py()).is_some_and(|ours| kind.is(ours)));
    // SAFETY: an object of our type has our layout, and its hooks live as long as the process.
    is_ours.then(|| unsafe { hooks(object.as_ptr()) })
}

fn make_type(py: Python<'_>, binds: bool) -> PyResult<Py<PyType>> {
    let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    // The type keeps pointers into these lists.
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
        method(c"__copy__", copy, ffi::METH_NOARGS),
        method(c"__deepcopy__", deep_copy, ffi::METH_O),
        ffi::PyMethodDef::zeroed(),
    ]));
    let getters = Box::leak(Box::new([
        ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(static_attributes),
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        },
        ffi::PyGetSetDef::default(),
    ]));
    let slot = |slot: c_int, pointer: *mut c_void| ffi::PyType_Slot { slot, pfunc: pointer };
    let mut slots = vec![
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_getattro, get_attribute as *mut c_void),
        slot(ffi::Py_tp_setattro, set_attribute as *mut c_void),
        slot(ffi::Py_tp_richcompare, compare as *mut c_void),
        slot(ffi::Py_tp_hash, hash as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_str, str as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
    ];
    // Of a type that may change, the interpreter would look a method up anew in each call.
    let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_VECTORCALL | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    if binds {
        slots.push(slot(ffi::Py_tp_descr_get, bind as *mut c_void));
        flags |= ffi::Py_TPFLAGS_METHOD_DESCRIPTOR;
    }
    slots.push(slot(0, ptr::null_mut()));
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
        let target = hooks(object).target;
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

unsafe extern "C" fn str(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Str(hooks(object).target) }
}

/// Equal to its function and to what else stands for it, so that tables with the function as key still find it.
unsafe extern "C" fn compare(
    object: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operator: c_int,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call; both objects are alive.
    unsafe {
        let other_hooked = hooked_of(&Borrowed::from_ptr(Python::assume_attached(), other));
        let other = other_hooked.map_or(other, |hooked| hooked.target);
        let target = hooks(object).target;
        match (*ffi::Py_TYPE(target)).tp_richcompare {
            Some(compare) if matches!(operator, ffi::Py_EQ | ffi::Py_NE) => compare(target, other, operator),
            // Raises an error that names the type of the function.
            _ => ffi::PyObject_RichCompare(target, other, operator),
        }
    }
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: a slot call.
    unsafe { ffi::PyObject_Hash(hooks(object).target) }
}

/// What `inspect.getattr_static` takes for the instance's own dict: it looks past the other attributes, which are
/// forwarded. `torch.compile` asks in this way.
unsafe extern "C" fn static_attributes(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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

/// Pickled by name, as functions are, if the name leads here; else as what it stands for.
unsafe extern "C" fn reduce(object: *mut ffi::PyObject, protocol: *mut ffi::PyObject) -> *mut ffi::PyObject {
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
            let first = target.py().import("operator")?.getattr("getitem")?;
            Ok((first, ((target,), 0)).into_pyobject(target.py())?.into_any())
        })
    }
}

/// What is found under the name of a function.
fn named<'py>(function: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let modules = function.py().import("sys")?.getattr("modules")?;
    let module = modules.get_item(function.getattr("__module__")?)?;
    name.split('.').try_fold(module, |owner, name| owner.getattr(name))
}

unsafe extern "C" fn copy(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot call.
    unsafe { answer(object, |wrapper, target| copied(wrapper, target, "copy", (target,))) }
}

unsafe extern "C" fn deep_copy(object: *mut ffi::PyObject, memo: *mut ffi::PyObject) -> *mut ffi::PyObject {
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
    let copy = target.py().import("copy")?.call_method1(way, arguments)?;
    Ok(if copy.is(target) { wrapper.clone() } else { copy })
}

/// Gives CPython what `make` makes of a wrapper and the function that it stands for.
unsafe fn answer(
    object: *mut ffi::PyObject,
    make: impl for<'py> FnOnce(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: callers are slots, which are called with the interpreter's lock held.
    let (py, hooked) = unsafe { (Python::assume_attached(), hooks(object)) };
    // SAFETY: alive as long as the slot runs.
    let wrapper = unsafe { Borrowed::from_ptr(py, object) };
    match make(&wrapper, &hooked.target(py)) {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}
