//! Finds what a symbol names: where it stands, what holds it there, and the callable itself.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyModule, PyType};

use super::attributes;
use super::failure::error;
use super::interrupt::Attempt;
use super::pending;
use super::system::builtin;
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
            let (name, raw, own) = attribute(&owner, property)?;
            if raw.is_instance(&builtin(module.py(), "property")?)? {
                return Self::of_property(owner, name, raw, own, accessor);
            }
        }
        let owner = walk(module, way)?;
        let (name, raw, own) = attribute(&owner, name)?;
        Self::of_attribute(owner, name, raw, own)
    }

    fn of_attribute(
        owner: Bound<'py, PyAny>,
        name: String,
        raw: Bound<'py, PyAny>,
        own: bool,
    ) -> PyResult<Self> {
        let py = owner.py();
        if raw.is_instance(&builtin(py, "property")?)? {
            return Self::of_property(owner, name, raw, own, Accessor::Getter);
        }
        if keeps_its_function(&raw)? {
            if !own {
                return Err(error::<PyTypeError>("is inherited; name the class that defines it"));
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
        let (shell, callable) = if raw.is_instance(&builtin(py, "staticmethod")?)? {
            (Shell::Static, raw.getattr("__func__")?)
        } else if raw.is_instance(&builtin(py, "classmethod")?)? {
            (Shell::Class, raw.getattr("__func__")?)
        } else {
            (Shell::None, raw.clone())
        };
        let is_method = on_class && shell != Shell::Static;
        Self { owner, name, shell, raw, callable, own, is_method, object: None }.checked()
    }

    fn of_property(
        owner: Bound<'py, PyAny>,
        name: String,
        raw: Bound<'py, PyAny>,
        own: bool,
        accessor: Accessor,
    ) -> PyResult<Self> {
        let callable = raw.getattr(accessor.attribute())?;
        if callable.is_none() {
            return Err(error::<PyAttributeError>(format!("the property has no {}", accessor.copier())));
        }
        Self {
            owner,
            name,
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
            return Err(error::<PyTypeError>("is a class; name its `__init__` or another method"));
        }
        if !self.callable.is_callable() {
            let kind = self.callable.get_type().name()?;
            return Err(error::<PyTypeError>(format!("is a {kind} and can't be called")));
        }
        self.through_class()
    }

    /// An object whose class says in Python what its call does can do more than be called, so nothing takes its
    /// place: the function in the class is hooked, for this object.
    fn through_class(self) -> PyResult<Self> {
        let class = self.callable.get_type();
        let binds = self.owner.is_instance_of::<PyType>() && attributes::find(&class, "__get__")?.is_some();
        let class = class.into_any();
        let function = self.owner.py().get_type::<PyFunction>();
        match attribute(&class, "__call__").unless_interrupted(class.py())? {
            Ok((name, raw, own)) if !binds && raw.is_instance(&function)? => Ok(Self {
                owner: class,
                name,
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
            Some((class, _))
                if matches!(self.shell, Shell::Property(_))
                    && last != self.name
                    && Accessor::parse(last).is_some() =>
            {
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
            Shell::Static => builtin(py, "staticmethod")?.call1((callable,)),
            Shell::Class => builtin(py, "classmethod")?.call1((callable,)),
            Shell::Property(accessor) => self.raw.call_method1(accessor.copier(), (callable,)),
        }
    }
}

/// What stands in a class, unbound, or else in its first base that has it; or in any other object. With its name
/// there, and whether it is the owner's own.
///
/// # Errors
/// There is no such attribute, or only `object` has it: an `__init__` or `__new__` of a class's own changes what
/// `object`'s accepts.
pub(super) fn attribute<'py>(
    owner: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<(String, Bound<'py, PyAny>, bool)> {
    let Ok(class) = owner.cast::<PyType>() else { return Ok((name.to_owned(), child(owner, name)?, true)) };
    let Some(found) = attributes::find(class, name)? else {
        return Ok((name.to_owned(), class.getattr(name)?, false)); // says what is missing
    };
    let own = found.class.is(class);
    if !own && found.class.is(owner.py().get_type::<PyAny>()) {
        return Err(error::<PyTypeError>("is `object`'s; name a method that the class or a base defines"));
    }
    Ok((found.name, found.raw, own))
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
    if let Ok(class) = owner.cast::<PyType>() {
        return match attributes::find(class, name)? {
            Some(found) if found.raw.is_instance_of::<PyType>() => Ok(found.raw),
            Some(found) => class.getattr(found.name),
            None => class.getattr(name),
        };
    }
    let Ok(module) = owner.cast::<PyModule>() else { return owner.getattr(name) };
    if let Some(found) = module.dict().get_item(name)? {
        return Ok(found);
    }
    module.getattr(name).map_err(|failure| {
        if !failure.is_instance_of::<PyAttributeError>(py) {
            return failure;
        }
        let module = module.name().map(|name| name.to_string()).unwrap_or_default();
        error::<PyAttributeError>(format!("module '{module}' has no attribute '{name}'"))
    })
}

/// Descriptors that are not callable themselves and call their attribute `func`. By their names: what has such a type
/// need not be imported for it, and there is nothing to ask `sys.modules` for.
fn keeps_its_function(raw: &Bound<'_, PyAny>) -> PyResult<bool> {
    for class in raw.get_type().mro() {
        let class: Bound<'_, PyType> = class.cast_into()?;
        if !["cached_property", "partialmethod"].contains(&&*pending::name(&class)) {
            continue;
        }
        if let Some(home) = attributes::own(&class, "__module__")?
            && home.raw.eq("functools")?
        {
            return Ok(true);
        }
    }
    Ok(false)
}
