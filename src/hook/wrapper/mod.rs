//! A native object in the place of the function, for CPython before 3.12 and for what is not a Python function. It
//! answers as the function does; calls reach it by vectorcall, also as a method, without a bound method in between.
//!
//! A call of it is a call of what it stands for, and `__get__` is its `__get__`: what that gives has an object in its
//! place too, so that its calls are seen.

mod answers;

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;

use answers::{
    answer, compare, copy, deep_copy, documentation, get_attribute, hash, reduce, repr, set_attribute,
    static_attributes, str,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFunction, PyType};

use super::attributes;
use super::hooked::Hooked;
use super::system;

// SAFETY: as CPython declares it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, instance: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyMethod_Self(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    static mut PyMethod_Type: ffi::PyTypeObject;
}

#[repr(C)]
struct Wrapper {
    base: ffi::PyObject,
    entry: Option<ffi::vectorcallfunc>,
    /// Owned, and with it a reference to its target.
    hooked: *const Hooked,
    /// The wrapper of what its target was bound by: that one has the hooks. Else null.
    root: *mut ffi::PyObject,
    /// What its target is bound to, or null.
    instance: *mut ffi::PyObject,
    /// What held its target before, a static method or property for instance; null if the target itself stood there, or
    /// nothing.
    former: *mut ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    /// Its target is a function that has its hooks inside.
    only_forwards: bool,
    /// It stands where something stood before.
    has_former: bool,
}

/// What is done with an attribute of a class that is read through an instance.
#[derive(Clone, Copy)]
enum Binding {
    /// Nothing, as with objects of most classes.
    None,
    /// A call with the instance first is the same as binding and calling: so with functions.
    ByCall,
    /// Whatever its `__get__` does.
    OfItsOwn,
}

/// The types of our objects, one for each [`Binding`].
static TYPES: [PyOnceLock<Py<PyType>>; 3] = [const { PyOnceLock::new() }; 3];

impl Binding {
    fn of(target: *mut ffi::PyObject) -> Self {
        // SAFETY: alive.
        unsafe {
            let kind = ffi::Py_TYPE(target);
            if (*kind).tp_descr_get.is_none() {
                Self::None
            } else if ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_METHOD_DESCRIPTOR as _) != 0 {
                Self::ByCall
            } else {
                Self::OfItsOwn
            }
        }
    }
}

/// An object that calls through hooks, of which there are none yet.
///
/// # Errors
/// No memory.
pub(super) fn wrap<'py>(callable: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, &'static Hooked)> {
    // SAFETY: alive.
    let hooked = unsafe { Hooked::new(callable.as_ptr()) };
    Ok((make(callable.clone(), hooked, None, None)?, hooked))
}

/// An object that passes calls on to a function, which has its hooks inside.
///
/// # Errors
/// No memory.
#[cfg(Py_3_13)]
pub(super) fn stand_before<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let object = make(function.clone(), Hooked::forwarding(function.as_ptr()), None, None)?;
    // SAFETY: an object of our type, which nobody else has yet.
    unsafe { (*object.as_ptr().cast::<Wrapper>()).only_forwards = true };
    Ok(object)
}

/// The function, if the object is one that [`stand_before`] has made before it; else the object.
pub(super) fn past_stand_in(object: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    let forwards = wrapper(&object).is_some_and(|wrapper| wrapper.only_forwards);
    let function = if forwards { stood_for(&object) } else { None };
    function.unwrap_or(object)
}

fn make<'py>(
    target: Bound<'py, PyAny>,
    hooked: &'static Hooked,
    root: Option<Bound<'py, PyAny>>,
    instance: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let binding = Binding::of(target.as_ptr());
    let kind = TYPES[binding as usize].get_or_try_init(py, || make_type(py, binding))?;
    let give = |object: Option<Bound<'py, PyAny>>| object.map_or(ptr::null_mut(), Bound::into_ptr);
    // SAFETY: a new object of our type; its own fields are set before anybody sees it.
    unsafe {
        let object = ffi::PyType_GenericAlloc(kind.bind(py).as_type_ptr(), 0);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let wrapper = object.as_ptr().cast::<Wrapper>();
        (*wrapper).entry = Some(if root.is_none() { entry } else { entry_of_bound });
        (*wrapper).root = give(root);
        (*wrapper).instance = give(instance);
        let _ = target.into_ptr(); // it is the wrapper's now
        (*wrapper).hooked = hooked;
        hooked.belongs_to(object.as_ptr());
        Ok(object)
    }
}

/// Has an object keep what stood before it where it is put now.
pub(super) fn keep_former(object: &Bound<'_, PyAny>, former: Option<&Bound<'_, PyAny>>) {
    let Some(target) = stood_for(object) else { return };
    let kept = former.filter(|former| !former.is(&target)).cloned();
    // SAFETY: an object of our type, since it stands for something; what it kept is released after the exchange.
    unsafe {
        let wrapper = object.as_ptr().cast::<Wrapper>();
        (*wrapper).has_former = former.is_some();
        let kept = kept.map_or(ptr::null_mut(), Bound::into_ptr);
        ffi::Py_XDECREF(std::mem::replace(&mut (*wrapper).former, kept));
    }
}

/// What stood where an object is, if anything did.
pub(super) fn former<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let wrapper = wrapper(object).filter(|wrapper| wrapper.has_former)?;
    // SAFETY: null, or an object that the wrapper owns.
    let kept = unsafe { Bound::from_borrowed_ptr_or_opt(object.py(), wrapper.former) };
    kept.or_else(|| stood_for(object))
}

/// Whether [`wrap`] has made any object.
pub(super) fn is_used(py: Python<'_>) -> bool {
    TYPES.iter().any(|ours| ours.get(py).is_some())
}

/// What an object stands for, if [`wrap`] made it.
pub(crate) fn stood_for<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let hooked = wrapper(object).map(|wrapper| wrapper.hooked);
    // SAFETY: the wrapper is alive, and its hooks are never freed.
    hooked.map(|hooked| unsafe { (*hooked).target(object.py()).to_owned() })
}

/// The function and the object of a bound method.
pub(super) fn method<'py>(object: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (py, method) = (object.py(), object.as_ptr());
    // SAFETY: alive, and a bound method where it is asked for its parts, which it owns.
    unsafe {
        (ffi::Py_TYPE(method) == &raw mut PyMethod_Type).then(|| {
            let part = |part| Bound::from_borrowed_ptr(py, part);
            (part(PyMethod_Function(method)), part(PyMethod_Self(method)))
        })
    }
}

/// Where symbols put their hooks on an object that [`wrap`] made. Inside of all decorators, as in a function itself.
pub(super) fn hooked_of(object: &Bound<'_, PyAny>) -> Option<&'static Hooked> {
    let own = wrapper(object).filter(|wrapper| wrapper.root.is_null())?;
    // SAFETY: its hooks are never freed.
    let hooked = unsafe { &*own.hooked };
    let inner = if hooked.is_decorated() { hooked_of(&hooked.target(object.py())) } else { None };
    inner.or(Some(hooked))
}

fn wrapper<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Wrapper> {
    let kind = object.get_type();
    let is_ours = TYPES.iter().any(|ours| ours.get(object.py()).is_some_and(|ours| kind.is(ours)));
    // SAFETY: an object of our type has our layout.
    is_ours.then(|| unsafe { &*object.as_ptr().cast::<Wrapper>() })
}

fn make_type(py: Python<'_>, binding: Binding) -> PyResult<Py<PyType>> {
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
        method(c"__set_name__", set_name, ffi::METH_VARARGS),
        ffi::PyMethodDef::zeroed(),
    ]));
    let getter = |name: &'static CStr, get| ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        ..ffi::PyGetSetDef::default()
    };
    let getters = Box::leak(Box::new([
        getter(c"__dict__", static_attributes as ffi::getter),
        getter(c"__doc__", documentation),
        ffi::PyGetSetDef::default(),
    ]));
    let slot = |slot: c_int, pointer: *mut c_void| ffi::PyType_Slot { slot, pfunc: pointer };
    let mut slots = vec![
        slot(ffi::Py_tp_dealloc, deallocate as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
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
    let mut flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    if !matches!(binding, Binding::None) {
        slots.push(slot(ffi::Py_tp_descr_get, bind as *mut c_void));
    }
    if matches!(binding, Binding::ByCall) {
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
    // SAFETY: slots are only called with objects of their type, and no hooks are ever freed.
    unsafe { &*(*object.cast::<Wrapper>()).hooked }
}

/// What such an object stands for.
unsafe fn target(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as above; the lock is held in a slot.
    unsafe { hooks(object).target(Python::assume_attached()).as_ptr() }
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

/// The call of what is bound already: the hooks see the instance as its first argument all the same.
unsafe extern "C" fn entry_of_bound(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: this is a vectorcall of an object of our type, and its root is one too; all values live as long as the
    // call.
    unsafe {
        let wrapper = object.cast::<Wrapper>();
        let all = hooks((*wrapper).root).hooks();
        let instance = (*wrapper).instance;
        if instance.is_null() {
            return hooks(object).run(all, args, nargsf, names);
        }
        let count = nargsf & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let mut values = Vec::with_capacity(1 + count + named);
        values.push(instance);
        values.extend((0..count + named).map(|index| *args.add(index)));
        hooks(object).run(all, values.as_ptr(), count + 1, names)
    }
}

/// Nothing of a wrapper is ever cleared: a circle of references has something else in it that can be cleared.
unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: a slot call; an object that is being made has no hooks yet.
    unsafe {
        let wrapper = object.cast::<Wrapper>();
        let target = (*wrapper).hooked.as_ref().map_or(ptr::null_mut(), |_| target(object));
        let (root, instance, former) = ((*wrapper).root, (*wrapper).instance, (*wrapper).former);
        for held in [ffi::Py_TYPE(object).cast(), target, root, instance, former] {
            let outcome = if held.is_null() { 0 } else { visit(held, arg) };
            if outcome != 0 {
                return outcome;
            }
        }
    }
    0
}

unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the last call for this object, which owns what is released; its type, whose object it was, is last.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let wrapper = object.cast::<Wrapper>();
        if !(*wrapper).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let held = (*wrapper).hooked.as_ref().map(|hooked| {
            let target = target(object);
            hooked.give_back();
            target
        });
        let (root, instance, former) = ((*wrapper).root, (*wrapper).instance, (*wrapper).former);
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        for held in [held.unwrap_or(ptr::null_mut()), root, instance, former] {
            ffi::Py_XDECREF(held);
        }
        ffi::Py_DECREF(kind.cast());
    }
}

unsafe extern "C" fn bind(
    object: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    owner: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call; the instance is null or alive, and so is the owner.
    unsafe {
        let itself = || {
            ffi::Py_INCREF(object);
            object
        };
        let target = target(object);
        let is_bound = !instance.is_null() && instance != ffi::Py_None();
        if ffi::PyFunction_Check(target) == 1 {
            return if is_bound { PyMethod_New(object, instance) } else { itself() };
        }
        let Some(get) = (*ffi::Py_TYPE(target)).tp_descr_get else { return itself() };
        let py = Python::assume_attached();
        let Some(bound) = Bound::from_owned_ptr_or_opt(py, get(target, instance, owner)) else {
            return ptr::null_mut();
        };
        let made = bound.as_ptr();
        if made == target {
            return itself();
        }
        if ffi::Py_TYPE(made) == &raw mut PyMethod_Type && PyMethod_Function(made) == target {
            return PyMethod_New(object, PyMethod_Self(made));
        }
        if ffi::PyCallable_Check(made) == 0 {
            return bound.into_ptr();
        }
        let root = (*object.cast::<Wrapper>()).root;
        let root = Bound::from_borrowed_ptr(py, if root.is_null() { object } else { root });
        let instance = is_bound.then(|| Bound::from_borrowed_ptr(py, instance));
        let hooked = Hooked::passing(made, is_bound);
        answer(object, |_, _| make(bound, hooked, Some(root), instance))
    }
}

/// `__set_name__`: a class is being made. Of some functions Python makes static or class methods by their names; it
/// knows nothing of what stands for one. What has a `__set_name__` of its own is told.
unsafe extern "C" fn set_name(
    object: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a slot call with a tuple.
    unsafe {
        answer(object, |wrapper, target| {
            let py = target.py();
            let arguments = Borrowed::from_ptr(py, arguments);
            let (class, name) = arguments.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            if !target.is_instance_of::<PyFunction>() {
                let kind = target.get_type();
                let Some(own) = kind.getattr_opt("__set_name__")? else {
                    return Ok(py.None().into_bound(py));
                };
                return own.call1((target, class, name));
            }
            let shell = match name.extract::<&str>() {
                Ok("__new__") => "staticmethod",
                Ok("__init_subclass__" | "__class_getitem__") => "classmethod",
                _ => return Ok(py.None().into_bound(py)),
            };
            let method = system::builtin(py, shell)?.call1((wrapper,))?;
            // As `type` itself would have: the class's own `__setattr__` has no part in this.
            attributes::set(&class, name.cast()?, &method)?;
            Ok(py.None().into_bound(py))
        })
    }
}
