//! Walking over the items of a value without taking them from the program. An iterator gives each item once, to us or
//! to the server; only what is known to give them again is walked.

use std::ptr;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyIterator, PyList, PyType};

use super::failure::error;
use super::limits::{MOST_ITEMS, check_items, check_length, refused};
use super::system;
use super::value::elements;

/// A container type of Python's own that a value's class is, or is made from. What the value holds is read by the
/// type's own functions, past what the class has in their place: no code of the program's runs.
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub(super) kind: Kind,
    python: *mut ffi::PyTypeObject,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Characters or bytes.
    Text,
    /// Other objects.
    Row,
    /// The same, and it finds a member without a look at the others.
    Set,
    /// Keys and values.
    Mapping,
    /// Numbers.
    Array,
    Range,
    MemoryView,
}

impl Base {
    pub(super) fn of(value: &Bound<'_, PyAny>) -> Option<Self> {
        // SAFETY: a living object.
        let python = unsafe { ffi::Py_TYPE(value.as_ptr()) };
        let known = bases(value.py());
        let found = known.iter().find(|base| ptr::eq(base.python, python)).or_else(|| {
            // SAFETY: two living types.
            known.iter().find(|base| unsafe { ffi::PyType_IsSubtype(python, base.python) } != 0)
        });
        found.copied()
    }

    /// Whether it finds a member without a look at the others.
    fn looks_up(self, item: &Bound<'_, PyAny>) -> bool {
        match self.kind {
            Kind::Set | Kind::Mapping => true,
            Kind::Range => item.is_exact_instance_of::<PyInt>(),
            Kind::Text | Kind::Row | Kind::Array | Kind::MemoryView => false,
        }
    }

    /// How many items the value holds.
    pub(super) fn len(self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        // SAFETY: the value is of this type, and the type has one of the two slots, as all in `bases` do.
        let length = unsafe {
            let sequence = (*self.python).tp_as_sequence.as_ref().and_then(|slots| slots.sq_length);
            let mapping = (*self.python).tp_as_mapping.as_ref().and_then(|slots| slots.mp_length);
            sequence.or(mapping).map_or(0, |length| length(value.as_ptr()))
        };
        usize::try_from(length).map_err(|_| PyErr::fetch(value.py()))
    }

    /// Walks over what the value holds; a mapping gives its keys.
    pub(super) fn walk<'py>(self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
        // SAFETY: the value is of this type; gives a new iterator or raises.
        unsafe {
            let Some(walk) = (*self.python).tp_iter else { return value.try_iter() };
            Ok(Bound::from_owned_ptr_or_err(value.py(), walk(value.as_ptr()))?.cast_into_unchecked())
        }
    }

    /// The first items; of a mapping the first keys and values.
    pub(super) fn entries<'py>(
        self,
        value: &Bound<'py, PyAny>,
        count: usize,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        match value.cast::<PyDict>() {
            Ok(dict) => Ok(dict.iter().take(count).flat_map(|(key, value)| [key, value]).collect()),
            Err(_) => self.items(value, count),
        }
    }

    /// The first items; of a mapping the first keys.
    pub(super) fn items<'py>(
        self,
        value: &Bound<'py, PyAny>,
        count: usize,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut items = Vec::new();
        let most = self.len(value)?.min(count);
        items.try_reserve(most).map_err(|_| error::<PyMemoryError>(format!("for {most} items")))?;
        // Not `collect`: that asks Python how many there are, and prints what this raises.
        let mut walk = self.walk(value)?;
        while items.len() < count
            && let Some(item) = walk.next()
        {
            items.push(item?);
        }
        Ok(items)
    }

    /// Whether Python walks over the value as its type does.
    fn is_walked_as_such(self, value: &Bound<'_, PyAny>) -> bool {
        // SAFETY: two living types.
        unsafe {
            let own = (*ffi::Py_TYPE(value.as_ptr())).tp_iter;
            own.map(|walk| walk as usize) == (*self.python).tp_iter.map(|walk| walk as usize)
        }
    }
}

// SAFETY: types that are never freed; they are used with the interpreter's lock.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

/// The containers of Python's own, those that are made from others before these.
pub(super) fn bases(py: Python<'_>) -> &'static [Base] {
    static BASES: PyOnceLock<Vec<Base>> = PyOnceLock::new();
    BASES.get_or_init(py, || {
        let import = |kind, module: &str, name: &str| {
            let python = system::import(py, module)
                .and_then(|module| Ok(module.getattr(name)?.cast_into::<PyType>()?));
            python.ok().map(|python| Base { kind, python: python.into_ptr().cast() }) // kept for ever
        };
        let builtin = [
            (Kind::Text, &raw mut ffi::PyUnicode_Type),
            (Kind::Row, &raw mut ffi::PyList_Type),
            (Kind::Row, &raw mut ffi::PyTuple_Type),
            (Kind::Mapping, &raw mut ffi::PyDict_Type),
            (Kind::Set, &raw mut ffi::PySet_Type),
            (Kind::Set, &raw mut ffi::PyFrozenSet_Type),
            (Kind::Text, &raw mut ffi::PyBytes_Type),
            (Kind::Text, &raw mut ffi::PyByteArray_Type),
            (Kind::Range, &raw mut ffi::PyRange_Type),
            (Kind::MemoryView, &raw mut ffi::PyMemoryView_Type),
            (Kind::Set, &raw mut ffi::PyDictKeys_Type),
            (Kind::Row, &raw mut ffi::PyDictValues_Type),
            (Kind::Set, &raw mut ffi::PyDictItems_Type),
        ];
        let imported = [
            import(Kind::Mapping, "collections", "OrderedDict"),
            import(Kind::Row, "collections", "deque"),
            import(Kind::Array, "array", "array"),
        ];
        let builtin = builtin.map(|(kind, python)| Base { kind, python });
        imported.into_iter().flatten().chain(builtin).collect()
    })
}

/// The same items as something that Python can walk without harm, and that ends.
///
/// # Errors
/// The value may give its items only once, or has too many.
pub(super) fn walkable<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Some(base) = Base::of(value) {
        check_items(base.len(value)?)?;
        if base.is_walked_as_such(value) {
            return Ok(value.clone());
        }
        let items = base.walk(value)?.take(MOST_ITEMS).collect::<PyResult<Vec<_>>>()?;
        return Ok(PyList::new(value.py(), items)?.into_any());
    }
    check_gives_items_again(value)?;
    let mut items = Vec::new();
    for item in value.try_iter()? {
        check_items(items.len() + 1)?;
        items.push(item?);
    }
    Ok(PyList::new(value.py(), items)?.into_any())
}

/// # Errors
/// Walking over the value may take its items from the program.
pub(super) fn check_gives_items_again(value: &Bound<'_, PyAny>) -> PyResult<()> {
    refuse_iterator(value)?;
    if Base::of(value).is_some() || is_collection(value)? || elements(value)?.is_some() {
        return Ok(());
    }
    let kind = value.get_type().name()?;
    Err(refused(format!(
        "a {kind} is not known to give its items more than once; those of Python's own containers and of what is \
         registered as a Sequence, Set or Mapping can be looked at"
    )))
}

/// # Errors
/// The value is an iterator: who looks at its items takes them.
pub(crate) fn refuse_iterator(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_iterator(value) {
        let kind = value.get_type().name()?;
        return Err(refused(format!("a {kind} gives each item once, and the program needs it")));
    }
    Ok(())
}

/// Whether it gives each item once.
pub(super) fn is_iterator(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a living object.
    unsafe { ffi::PyIter_Check(value.as_ptr()) != 0 }
}

/// Whether anything can walk over it.
pub(super) fn is_iterable(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a living object's type.
    unsafe { (*ffi::Py_TYPE(value.as_ptr())).tp_iter.is_some() }
}

/// Whether its class says by an abstract one that its items stay.
fn is_collection(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static KINDS: [PyOnceLock<Py<PyAny>>; 4] = [const { PyOnceLock::new() }; 4];
    let kinds = KINDS.iter().zip(["Sequence", "Set", "Mapping", "MappingView"]);
    for (kept, kind) in kinds {
        if is_iterable(value) && is_a(value, kept, kind)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether its class is one of `collections.abc`'s. The class is asked: an object may say that it is of another.
fn is_a(value: &Bound<'_, PyAny>, kept: &PyOnceLock<Py<PyAny>>, kind: &str) -> PyResult<bool> {
    let py = value.py();
    let import = || PyResult::Ok(system::import(py, "collections.abc")?.getattr(kind)?.unbind());
    let kind = kept.get_or_try_init(py, import)?;
    // SAFETY: two living objects.
    let answer = unsafe { ffi::PyObject_IsSubclass(value.get_type().as_ptr(), kind.as_ptr()) };
    if answer < 0 { Err(PyErr::fetch(py)) } else { Ok(answer == 1) }
}

/// `item in container`.
///
/// # Errors
/// The answer may take items from the program, or needs a look at too many; or the container's own code raised.
pub(super) fn contains(container: &Bound<'_, PyAny>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
    static SEQUENCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Some(base) = Base::of(container) {
        if base.kind == Kind::Text {
            check_length(base.len(container)?)?;
        } else if !base.looks_up(item) {
            check_items(base.len(container)?)?;
        }
        return container.contains(item);
    }
    refuse_iterator(container)?;
    // SAFETY: a living object's type.
    let has_an_answer = unsafe {
        let slots = (*ffi::Py_TYPE(container.as_ptr())).tp_as_sequence;
        slots.as_ref().is_some_and(|slots| slots.sq_contains.is_some())
    };
    if let Some(count) = elements(container)? {
        check_items(count)?;
    } else if !has_an_answer {
        return walkable(container)?.contains(item);
    } else if is_a(container, &SEQUENCE, "Sequence")? {
        check_items(container.len()?)?;
    }
    container.contains(item)
}
