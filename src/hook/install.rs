//! Finds what a symbol names and puts hooks on it: in the function itself where CPython allows, else by an object in
//! its place.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

use super::hooked::{Hook, Hooked, Kind as FunctionKind};
#[cfg(Py_3_12)]
use super::in_place;
use super::wrapper;

#[cfg(Py_3_12)]
/// `MSPROF_FORCE_WRAPPER=1` uses the wrapper object also where functions could be hooked in place: so that both
/// are tested on every version.
static FORCE_WRAPPER: once_cell::sync::Lazy<bool> =
    once_cell::sync::Lazy::new(|| std::env::var("MSPROF_FORCE_WRAPPER").is_ok_and(|v| v == "1"));

/// What a symbol names: where it is found, and what is there.
pub(super) struct Place<'py> {
    owner: Bound<'py, PyAny>,
    name: String,
    kind: Kind,
    /// The callable itself, out of its static or class method.
    pub(super) callable: Bound<'py, PyAny>,
    /// Defined on the named class or module itself, not on a base of the class.
    own: bool,
}

impl Place<'_> {
    /// Whether calls have an instance (or class) as their first argument.
    pub(super) fn is_method(&self) -> bool {
        self.kind != Kind::Static && self.owner.is_instance_of::<PyType>()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Static,
    Class,
}

/// Finds `path` (`Class.method` or `function`) in a module.
///
/// # Errors
/// Something on the way is missing, or what is there can't be hooked.
pub(super) fn locate<'py>(module: &Bound<'py, PyModule>, path: &str) -> PyResult<Place<'py>> {
    let mut owner = module.clone().into_any();
    let (classes, name) = path.rsplit_once('.').unwrap_or(("", path));
    for class in classes.split('.').filter(|class| !class.is_empty()) {
        owner = owner.getattr(class)?;
    }
    let (raw, own) = match owner.cast::<PyType>() {
        Ok(class) => raw_attribute(class, name)?,
        Err(_) => (owner.getattr(name)?, true),
    };
    let py = module.py();
    let (kind, callable) = if raw.is_instance(staticmethod(py)?)? {
        (Kind::Static, raw.getattr("__func__")?)
    } else if raw.is_instance(classmethod(py)?)? {
        (Kind::Class, raw.getattr("__func__")?)
    } else {
        (Kind::Plain, raw)
    };
    if callable.is_instance_of::<PyType>() {
        return Err(PyTypeError::new_err("is a class; name its `__init__` or another method"));
    }
    if !callable.is_callable() {
        let kind = callable.get_type().name()?;
        return Err(PyTypeError::new_err(format!("is a {kind} and can't be called")));
    }
    Ok(Place { owner, name: name.to_owned(), kind, callable, own })
}

fn staticmethod(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "builtins", "staticmethod")
}

fn classmethod(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "builtins", "classmethod")
}

/// A class attribute as it stands in the class (or base) that defines it, unbound.
fn raw_attribute<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<(Bound<'py, PyAny>, bool)> {
    for (depth, base) in class.mro().iter().enumerate() {
        if let Ok(raw) = base.getattr("__dict__")?.get_item(name) {
            return Ok((raw, depth == 0));
        }
    }
    Ok((class.getattr(name)?, false)) // says what is missing
}

/// Puts a hook on what was found, outside those that are there.
///
/// # Errors
/// The attribute can't be set.
pub(super) fn install(py: Python<'_>, place: &Place<'_>, hook: Hook, kind: FunctionKind) -> PyResult<()> {
    let hook: &'static Hook = Box::leak(Box::new(hook));
    #[cfg(Py_3_12)]
    if !*FORCE_WRAPPER && place.own && place.callable.is_instance_of::<pyo3::types::PyFunction>() {
        let function = place.callable.as_ptr();
        let hooked = with(in_place::find(function), hook, || Hooked::new(&place.callable, kind));
        // SAFETY: a Python function; its hooks hold a reference that is never given up.
        unsafe { in_place::install(function, hooked) };
        return Ok(());
    }
    let former = wrapper::hooked_of(&place.callable).filter(|_| place.own);
    let hooked = with(former, hook, || Hooked::new(&place.callable, kind));
    let object = wrapper::wrap(py, hooked)?;
    let binds = place.callable.get_type().hasattr("__get__")? || former.is_some();
    let on_class = place.owner.is_instance_of::<PyType>();
    let object = match place.kind {
        Kind::Class => classmethod(py)?.call1((object,))?,
        // What does not bind to an instance by itself must not begin to.
        Kind::Static => staticmethod(py)?.call1((object,))?,
        Kind::Plain if on_class && !binds => staticmethod(py)?.call1((object,))?,
        Kind::Plain => object,
    };
    place.owner.setattr(place.name.as_str(), &object)?;
    if place.kind == Kind::Plain && !on_class {
        rebind_aliases(py, &place.callable, &object)?;
    }
    Ok(())
}

/// Other modules that took the function by `from module import function` get the wrapper too.
fn rebind_aliases(
    py: Python<'_>,
    original: &Bound<'_, PyAny>,
    replacement: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<pyo3::types::PyDict>()?;
    for module in modules.values() {
        let Ok(module) = module.cast_into::<PyModule>() else { continue };
        let globals = module.dict();
        let aliases: Vec<_> = globals.iter().filter(|(_, value)| value.is(original)).collect();
        for (name, _) in aliases {
            globals.set_item(name, replacement)?;
        }
    }
    Ok(())
}

/// The hooks of a function with one more.
fn with(
    former: Option<&'static Hooked>,
    hook: &'static Hook,
    new: impl FnOnce() -> &'static Hooked,
) -> &'static Hooked {
    let hooked = former.unwrap_or_else(new);
    let mut hooks = hooked.hooks().to_vec();
    hooks.push(hook);
    hooked.set_hooks(hooks);
    hooked
}
