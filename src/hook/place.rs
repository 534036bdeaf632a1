//! Finds what a symbol names: where it stands, what holds it there, and the callable itself.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyModule, PyType};

use super::attributes;
use super::failure::error;
use super::interrupt::Attempt;
use super::pending;
use super::receiver::Receiver;
use super::reference::Reference;
use super::system::builtin;
use super::wrapper;

/// What a symbol names.
pub(super) struct Place<'py> {
    /// The module, class or object that has it.
    pub(super) owner: Bound<'py, PyAny>,
    pub(super) name: String,
    /// The class or object that was named, where the owner is a class that has it for that.
    heir: Option<Bound<'py, PyAny>>,
    shell: Shell,
    /// What stands there: the callable, or the static method, class method or property that holds it.
    pub(super) raw: Bound<'py, PyAny>,
    pub(super) callable: Bound<'py, PyAny>,
    /// Defined on the owner itself, not on a base of it that can't be changed.
    pub(super) own: bool,
    /// Calls have an instance (or class) as their first argument.
    pub(super) is_method: bool,
    /// Whose calls are meant, if not all.
    pub(super) receiver: Option<Receiver>,
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
            let found = attribute(&walk(module, way)?, property)?;
            if found.raw.is_instance(&builtin(module.py(), "property")?)? {
                return Self::of_property(found, accessor);
            }
        }
        Self::of_attribute(attribute(&walk(module, way)?, name)?)
    }

    fn of_attribute(found: Found<'py>) -> PyResult<Self> {
        let py = found.raw.py();
        if found.raw.is_instance(&builtin(py, "property")?)? {
            return Self::of_property(found, Accessor::Getter);
        }
        let Found { owner, name, raw, own, heir } = found;
        if keeps_its_function(&raw)? {
            // These call whatever their `func` is: the place is there.
            let callable = raw.getattr("func")?;
            let place = Self {
                owner: raw,
                name: "func".into(),
                heir,
                shell: Shell::None,
                raw: callable.clone(),
                callable,
                own: true,
                is_method: true,
                receiver: None,
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
        Self { owner, name, heir, shell, raw, callable, own, is_method, receiver: None }.checked()
    }

    fn of_property(found: Found<'py>, accessor: Accessor) -> PyResult<Self> {
        let Found { owner, name, raw, own, heir } = found;
        let callable = raw.getattr(accessor.attribute())?;
        if callable.is_none() {
            return Err(error::<PyAttributeError>(format!("the property has no {}", accessor.copier())));
        }
        let shell = Shell::Property(accessor);
        Self { owner, name, heir, shell, raw, callable, own, is_method: true, receiver: None }.checked()
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
        self.receiver = self.heirs()?;
        self.through_class()
    }

    /// Which calls of a class's function are those of the heir that was named. None: all are, or there is nothing in a
    /// call that tells.
    fn heirs(&self) -> PyResult<Option<Receiver>> {
        let Some(heir) = &self.heir else { return Ok(None) };
        if !heir.is_instance_of::<PyType>() {
            return Ok(Some(Receiver::Object(Reference::to(heir)?)));
        }
        let heir = || Reference::to(heir);
        let has_class_first =
            self.shell == Shell::Class || self.shell == Shell::Static && self.name == "__new__";
        if has_class_first {
            return Ok(Some(Receiver::SubclassOf(heir()?)));
        }
        let has_instance_first = match self.shell {
            Shell::None => {
                !self.owner.is_instance_of::<PyType>()
                    || attributes::find(&self.callable.get_type(), "__get__")?.is_some()
            }
            Shell::Property(_) => true,
            Shell::Static | Shell::Class => false,
        };
        Ok(if has_instance_first { Some(Receiver::InstanceOf(heir()?)) } else { None })
    }

    /// The base whose calls are recorded too, since nothing in them tells through which class they are made.
    pub(super) fn shared_with(&self) -> Option<&Bound<'py, PyAny>> {
        (self.heir.is_some() && self.receiver.is_none()).then_some(&self.owner)
    }

    /// An object whose class says in Python what its call does can do more than be called, so nothing takes its
    /// place: the function in the class is hooked, for this object.
    fn through_class(self) -> PyResult<Self> {
        let class = self.callable.get_type();
        let binds = self.owner.is_instance_of::<PyType>() && attributes::find(&class, "__get__")?.is_some();
        let class = class.into_any();
        let function = self.owner.py().get_type::<PyFunction>();
        match attribute(&class, "__call__").unless_interrupted(class.py())? {
            Ok(found) if !binds && found.raw.is_instance(&function)? => Ok(Self {
                owner: found.owner,
                name: found.name,
                heir: None,
                shell: Shell::None,
                raw: found.raw.clone(),
                callable: found.raw,
                own: found.own,
                is_method: true,
                receiver: Some(Receiver::Object(Reference::to(&self.callable)?)),
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

/// What stands under a name, and where.
pub(super) struct Found<'py> {
    /// The module or object, or the class in which it is hooked: the one that defines it, where that can be changed.
    pub(super) owner: Bound<'py, PyAny>,
    /// Its name there.
    pub(super) name: String,
    /// As it stands there, unbound.
    pub(super) raw: Bound<'py, PyAny>,
    /// Whether the owner has it itself.
    pub(super) own: bool,
    /// The class or object that was asked, where the owner is a class that has it for that.
    pub(super) heir: Option<Bound<'py, PyAny>>,
}

/// What a class or its first base that has it, a module or any other object has under a name.
///
/// A class that inherits it is not given it, nor an object of the class: which function runs is decided by what stands
/// in them, also in classes that come later, and a base that is changed is changed for its heirs.
///
/// # Errors
/// There is no such attribute; or only `object` has it, where an `__init__` or `__new__` of a class's own changes what
/// `object`'s accepts; or it stands nowhere, and is made by a metaclass or a `__getattr__`.
pub(super) fn attribute<'py>(owner: &Bound<'py, PyAny>, name: &str) -> PyResult<Found<'py>> {
    let Ok(class) = owner.cast::<PyType>() else {
        let raw = child(owner, name)?;
        if let Ok(module) = owner.cast::<PyModule>()
            && !module.dict().contains(name)?
        {
            return Err(error::<PyTypeError>(
                "does not stand in the module: its `__getattr__` or class makes it, maybe another one each time; name \
                 the module that defines it",
            ));
        }
        if let Some(found) = method_of(owner, name, &raw)? {
            return Ok(found);
        }
        return Ok(Found { owner: owner.clone(), name: name.to_owned(), raw, own: true, heir: None });
    };
    let Some(found) = attributes::find(class, name)? else { return Err(is_no_attribute(class, name)?) };
    let (name, raw) = (found.name, found.raw);
    if found.class.is(class) {
        return Ok(Found { owner: owner.clone(), name, raw, own: true, heir: None });
    }
    if found.class.is(owner.py().get_type::<PyAny>()) {
        return Err(error::<PyTypeError>("is `object`'s; name a method that the class or a base defines"));
    }
    if can_be_changed(&found.class) {
        return Ok(Found { owner: found.class.into_any(), name, raw, own: true, heir: Some(owner.clone()) });
    }
    Ok(Found { owner: owner.clone(), name, raw, own: false, heir: None })
}

/// Where the class of an object has what is a method of that object.
fn method_of<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    bound: &Bound<'py, PyAny>,
) -> PyResult<Option<Found<'py>>> {
    let Some(method) = wrapper::method(bound).filter(|(_, this)| this.is(object)) else { return Ok(None) };
    let found = attributes::find(&object.get_type(), name)?;
    let found = found.filter(|found| found.raw.is(&method.0) && can_be_changed(&found.class));
    Ok(found.map(|found| Found {
        owner: found.class.into_any(),
        name: found.name,
        raw: found.raw,
        own: true,
        heir: Some(object.clone()),
    }))
}

/// Why a class, which has no such attribute and inherits none, can't be hooked there.
fn is_no_attribute(class: &Bound<'_, PyType>, name: &str) -> PyResult<PyErr> {
    let metaclass = class.get_type();
    let meta = pending::name(&metaclass);
    if attributes::find(&metaclass, name)?.is_some() {
        let advice =
            if can_be_changed(&metaclass) { format!("; name `{meta}.{name}`") } else { String::new() };
        return Ok(error::<PyTypeError>(format!(
            "is a method of the metaclass `{meta}`, which objects of the class don't have{advice}"
        )));
    }
    class.getattr(name)?; // says what is missing
    Ok(error::<PyTypeError>(format!(
        "stands in no class: the metaclass `{meta}` makes it, maybe another one each time; name what it is made of"
    )))
}

/// Whether a class takes attributes: not one of CPython's own, nor of an extension that says so.
fn can_be_changed(class: &Bound<'_, PyType>) -> bool {
    let has = |flag: std::ffi::c_ulong| {
        // SAFETY: a type.
        unsafe { ffi::PyType_HasFeature(class.as_type_ptr(), flag) != 0 }
    };
    has(ffi::Py_TPFLAGS_HEAPTYPE) && !has(ffi::Py_TPFLAGS_IMMUTABLETYPE)
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
