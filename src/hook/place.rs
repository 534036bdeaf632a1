//! Finds what a symbol names: where it stands, what holds it there, and the callable itself.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFunction, PyModule, PyType};

use super::interrupt::Attempt;
use super::wrapper;

/// What a symbol names.
pub(super) struct Place<'py> {
    /// The module, class or object that has it.
    pub(super) owner: Bound<'py, PyAny>,
    pub(super) name: String,
    shell: Shell,
    /// What stands there: the callable, or the static method, class method or property that holds it.
    pub(super) raw: Bound<'py, PyAny>,
    pub(super) callable: Bound<'py, PyAny>,
    /// Defined on the owner itself, not on a base of the class.
    pub(super) own: bool,
    /// Calls have an instance (or class) as their first argument.
    pub(super) is_method: bool,
    /// What the symbol names is this object, and the callable is `__call__` of its class.
    pub(super) object: Option<Bound<'py, PyAny>>,
}

/// What holds a callable in its class.
#[derive(Clone, Copy, PartialEq)]
enum Shell {
    None,
    Static,
    Class,
    Property(Accessor),
}

#[derive(Clone, Copy, PartialEq)]
enum Accessor {
    Getter,
    Setter,
    Deleter,
}

impl Accessor {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "getter" => Some(Self::Getter),
            "setter" => Some(Self::Setter),
            "deleter" => Some(Self::Deleter),
            _ => None,
        }
    }

    /// The property's method that makes a copy with another accessor.
    fn copier(self) -> &'static str {
        match self {
            Self::Getter => "getter",
            Self::Setter => "setter",
            Self::Deleter => "deleter",
        }
    }

    /// The property's attribute.
    fn attribute(self) -> &'static str {
        match self {
            Self::Getter => "fget",
            Self::Setter => "fset",
            Self::Deleter => "fdel",
        }
    }
}

impl<'py> Place<'py> {
    /// Finds `path` in a module: `function`, `Class.method`, `Class.property` (its getter), `Class.property.setter`.
    ///
    /// # Errors
    /// Something on the way is missing, or what is there can't be hooked.
    pub(super) fn locate(module: &Bound<'py, PyAny>, path: &str) -> PyResult<Self> {
        let (way, name) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(accessor) = Accessor::parse(name)
            && let Some((way, property)) = way.rsplit_once('.')
        {
            let owner = walk(module, way)?;
            let (raw, own) = attribute(&owner, property)?;
            if raw.is_instance(builtin(module.py(), &PROPERTY, "property")?)? {
                return Self::of_property(owner, property, raw, own, accessor);
            }
        }
        let owner = walk(module, way)?;
        let (raw, own) = attribute(&owner, name)?;
        Self::of_attribute(owner, name, raw, own)
    }

    fn of_attribute(
        owner: Bound<'py, PyAny>,
        name: &str,
        raw: Bound<'py, PyAny>,
        own: bool,
    ) -> PyResult<Self> {
        let py = owner.py();
        if raw.is_instance(builtin(py, &PROPERTY, "property")?)? {
            return Self::of_property(owner, name, raw, own, Accessor::Getter);
        }
        if keeps_its_function(&raw)? {
            if !own {
                return Err(PyTypeError::new_err("is inherited; name the class that defines it"));
            }
            // These call whatever their `func` is: the place is there.
            let callable = raw.getattr("func")?;
            let place = Self {
                owner: raw,
                name: "func".into(),
                shell: Shell::None,
                raw: callable.clone(),
                callable,
                own,
                is_method: true,
                object: None,
            };
            return place.checked();
        }
        let on_class = owner.is_instance_of::<PyType>();
        let (shell, callable) = if raw.is_instance(builtin(py, &STATIC, "staticmethod")?)? {
            (Shell::Static, raw.getattr("__func__")?)
        } else if raw.is_instance(builtin(py, &CLASS, "classmethod")?)? {
            (Shell::Class, raw.getattr("__func__")?)
        } else {
            (Shell::None, raw.clone())
        };
        let is_method = on_class && shell != Shell::Static;
        Self { owner, name: name.into(), shell, raw, callable, own, is_method, object: None }.checked()
    }

    fn of_property(
        owner: Bound<'py, PyAny>,
        name: &str,
        raw: Bound<'py, PyAny>,
        own: bool,
        accessor: Accessor,
    ) -> PyResult<Self> {
        let callable = raw.getattr(accessor.attribute())?;
        if callable.is_none() {
            return Err(PyAttributeError::new_err(format!("the property has no {}", accessor.copier())));
        }
        Self {
            owner,
            name: name.into(),
            shell: Shell::Property(accessor),
            raw,
            callable,
            own,
            is_method: true,
            object: None,
        }
        .checked()
    }

    fn checked(mut self) -> PyResult<Self> {
        self.callable = wrapper::past_stand_in(self.callable);
        if self.callable.is_instance_of::<PyType>() {
            return Err(PyTypeError::new_err("is a class; name its `__init__` or another method"));
        }
        if !self.callable.is_callable() {
            let kind = self.callable.get_type().name()?;
            return Err(PyTypeError::new_err(format!("is a {kind} and can't be called")));
        }
        self.through_class()
    }

    /// An object whose class says in Python what its call does can do more than be called, so nothing takes its
    /// place: the function in the class is hooked, for this object.
    fn through_class(self) -> PyResult<Self> {
        let class = self.callable.get_type().into_any();
        let binds = self.owner.is_instance_of::<PyType>() && class.hasattr("__get__")?;
        let function = self.owner.py().get_type::<PyFunction>();
        match attribute(&class, "__call__").unless_interrupted(class.py())? {
            Ok((raw, own)) if !binds && raw.is_instance(&function)? => Ok(Self {
                owner: class,
                name: "__call__".into(),
                shell: Shell::None,
                raw: raw.clone(),
                callable: raw,
                own,
                is_method: true,
                object: Some(self.callable),
            }),
            _ => Ok(self),
        }
    }

    /// Whether a class has the callable itself, under this name.
    #[cfg(Py_3_13)]
    pub(super) fn is_bare_method(&self, name: &str) -> bool {
        self.name == name && self.raw.is(&self.callable) && self.owner.is_instance_of::<PyType>()
    }

    /// Whether a property has the callable itself as its getter.
    #[cfg(Py_3_14)]
    pub(super) fn is_bare_getter(&self) -> bool {
        self.shell == Shell::Property(Accessor::Getter)
            && self.raw.getattr("fget").is_ok_and(|getter| getter.is(&self.callable))
    }

    /// What its spans are called: the function's own name, `property.setter` for an accessor of a property.
    pub(super) fn span_name<'a>(&self, path: &'a str) -> &'a str {
        let (way, last) = path.rsplit_once('.').unwrap_or(("", path));
        match way.rsplit_once('.') {
            Some((class, _)) if matches!(self.shell, Shell::Property(_)) && last != self.name => {
                &path[class.len() + 1..]
            }
            _ => last,
        }
    }

    /// `callable` held as the present one is.
    pub(super) fn in_shell(&self, callable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callable.py();
        match self.shell {
            Shell::None => Ok(callable),
            Shell::Static => builtin(py, &STATIC, "staticmethod")?.call1((callable,)),
            Shell::Class => builtin(py, &CLASS, "classmethod")?.call1((callable,)),
            Shell::Property(accessor) => self.raw.call_method1(accessor.copier(), (callable,)),
        }
    }
}

/// What stands in a class, unbound, or else in its first base that has it; or in any other object. And whether it is
/// the owner's own.
///
/// # Errors
/// There is no such attribute, or only `object` has it: an `__init__` or `__new__` of a class's own changes what
/// `object`'s accepts.
pub(super) fn attribute<'py>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<(Bound<'py, PyAny>, bool)> {
    let Ok(class) = owner.cast::<PyType>() else { return Ok((child(owner, name)?, true)) };
    for (depth, base) in class.mro().iter().enumerate() {
        if let Some(raw) = base.getattr("__dict__")?.get_item(name).optional(owner.py())? {
            if depth > 0 && base.is(owner.py().get_type::<PyAny>()) {
                return Err(PyTypeError::new_err(
                    "is `object`'s; name a method that the class or a base defines",
                ));
            }
            return Ok((raw, depth == 0));
        }
    }
    Ok((class.getattr(name)?, false)) // says what is missing
}

/// Whether something that stands in a class or module is the callable or holds it.
pub(super) fn leads_to(raw: &Bound<'_, PyAny>, callable: &Bound<'_, PyAny>) -> bool {
    let holds = |attribute: &str| raw.getattr(attribute).is_ok_and(|held| held.is(callable));
    raw.is(callable) || ["__func__", "fget", "fset", "fdel"].into_iter().any(holds)
}

fn walk<'py>(module: &Bound<'py, PyAny>, way: &str) -> PyResult<Bound<'py, PyAny>> {
    way.split('.').filter(|name| !name.is_empty()).try_fold(module.clone(), |owner, name| child(&owner, name))
}

/// What an object has under a name. Python says of a module that is being imported that it may be so because of a
/// circular import; it has run to its end when it is hooked, and simply does not have the name.
fn child<'py>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    owner.getattr(name).map_err(|error| match owner.cast::<PyModule>() {
        Ok(module) if error.is_instance_of::<PyAttributeError>(py) => {
            let module = module.name().map(|name| name.to_string()).unwrap_or_default();
            PyAttributeError::new_err(format!("module '{module}' has no attribute '{name}'"))
        }
        _ => error,
    })
}

/// Descriptors that are not callable themselves and call their attribute `func`.
fn keeps_its_function(raw: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CACHED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static PARTIAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = raw.py();
    Ok(raw.is_instance(CACHED.import(py, "functools", "cached_property")?)?
        || raw.is_instance(PARTIAL.import(py, "functools", "partialmethod")?)?)
}

static PROPERTY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static STATIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn builtin<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, "builtins", name)
}
