//! Calls that CPython ≥ 3.13 makes past a function's vectorcall.
//!
//! The interpreter runs many calls of Python functions in the loop that it is in already, without a call. Nearly all of
//! its instructions for that look at the function first: at its vectorcall, or at a version that it loses when it gets
//! another one. These do not; they only look at the class:
//!
//! | Instruction | Calls | Since |
//! |-|-|-|
//! | `CALL_ALLOC_AND_ENTER_INIT` | `__init__`, by a call of its class | 3.13 |
//! | `LOAD_ATTR_PROPERTY` | a property's getter | 3.14 |
//!
//! Both are for Python functions alone. So an object stands before a function that is called in this way: it passes the
//! call on to the function, which has its hooks inside.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::attributes;
use super::place::Place;
use super::wrapper;

const INIT: &str = "__init__";

/// Whether the interpreter may call what a symbol names without its being seen.
pub(super) fn is_entered_unseen(place: &Place<'_>) -> bool {
    #[cfg(Py_3_14)]
    if place.is_bare_getter() {
        return true;
    }
    place.is_bare_method(INIT)
}

/// Whether a class is going to have a function as its `__init__`, as far as its name tells.
pub(super) fn is_initializer(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    function.getattr("__name__")?.eq(INIT)
}

/// Puts an object before a function wherever the class of `this`, the first argument of its first call, or a base
/// calls it unseen. What a function is used for is not always known when it is decorated.
pub(super) fn stand_before_uses(function: &Bound<'_, PyAny>, this: &Bound<'_, PyAny>) {
    for class in this.get_type().mro() {
        let Ok(class) = class.cast_into::<PyType>() else { continue };
        let placed = attributes::of(&class).and_then(|all| {
            for item in all.items()?.iter() {
                let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                stand_before_use(&class, &name, &value, |used| used.is(function))?;
            }
            Ok(())
        });
        if let Err(error) = placed {
            log::warn!("{class}: calls of {function} by code that runs often are not seen: {error}");
        }
    }
}

/// The same for one attribute of a class, if it calls a function that is meant.
pub(super) fn stand_before_use(
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    is_meant: impl Fn(&Bound<'_, PyAny>) -> bool,
) -> PyResult<()> {
    if is_meant(value) && name.eq(INIT)? {
        return attributes::set(class, name.cast()?, &wrapper::stand_before(value)?);
    }
    if cfg!(Py_3_14) && is_property(value) {
        let getter = value.getattr("fget")?;
        if is_meant(&getter) {
            let property = value.call_method1("getter", (wrapper::stand_before(&getter)?,))?;
            return attributes::set(class, name.cast()?, &property);
        }
    }
    Ok(())
}

/// Whether it is a property that the interpreter looks into.
fn is_property(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: alive; the type is one of CPython's own.
    unsafe { ffi::Py_TYPE(value.as_ptr()) == &raw mut ffi::PyProperty_Type }
}
