//! How much an expression may look at and make. Beyond it the attribute is refused: a walk over endless items, or a
//! text of gigabytes, would be the server's time and memory.

use std::ptr;

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyString, PyType};
use pyo3::{create_exception, intern};

use super::failure::error;
use super::stack::has_room_inside;
use super::walk::{Base, Kind};

/// Items that one step of an expression walks or builds.
pub(super) const MOST_ITEMS: usize = 100_000;

/// Characters or bytes of a text that one step of an expression makes or searches.
pub(super) const MOST_TEXT: usize = 1_000_000;

/// Bits of an integer that is multiplied, divided or shown: some 2,400 digits.
pub(super) const MOST_BITS: usize = 8_192;

/// Digits of a text that becomes an integer, and those that `round` is told: the time grows with their square.
pub(super) const MOST_DIGITS: usize = 2_400;

/// Containers in containers whose text is made.
const DEEPEST: usize = 100;

create_exception!(msprof_rs, Refused, PyException, "What an expression may not do.");

/// An operation that would change what it looks at, or is too much.
pub(super) fn refused(problem: impl Into<String>) -> PyErr {
    error::<Refused>(problem)
}

/// # Errors
/// `count` items are more than an expression may walk or build.
pub(super) fn check_items(count: usize) -> PyResult<()> {
    if count > MOST_ITEMS {
        return Err(refused(format!("{count} items; an expression walks and makes {MOST_ITEMS} at most")));
    }
    Ok(())
}

/// # Errors
/// A text of `length` is longer than an expression may make.
pub(super) fn check_length(length: usize) -> PyResult<()> {
    if length > MOST_TEXT {
        return Err(refused(format!(
            "a text of {length} characters; an expression searches and makes {MOST_TEXT} at most"
        )));
    }
    Ok(())
}

/// # Errors
/// An integer of so many bits is larger than an expression may calculate with.
pub(super) fn check_bits(bits: usize) -> PyResult<()> {
    if bits > MOST_BITS {
        return Err(refused(format!("an integer of {bits} bits; an expression uses {MOST_BITS} at most")));
    }
    Ok(())
}

/// The size of an integer in bits. None: it is no `int`.
pub(super) fn bits(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if !value.is_instance_of::<PyInt>() {
        return Ok(None);
    }
    let (mut overflow, py) = (0, value.py());
    // SAFETY: a living `int`; what does not fit is told by `overflow` and raises nothing.
    unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
    if overflow == 0 {
        return Ok(Some(64));
    }
    let bits = py.get_type::<PyInt>().call_method1(intern!(py, "bit_length"), (value,))?;
    bits.extract().map(Some)
}

/// # Errors
/// Making the text of this value would take too much. The size is an estimate, and counts what is in containers.
/// What an object's own `__str__` makes can't be foreseen.
pub(super) fn check_text(value: &Bound<'_, PyAny>) -> PyResult<()> {
    Scales { items: MOST_ITEMS, text: MOST_TEXT, path: Vec::new() }.put(value)
}

/// What is left of the limits while a value is weighed.
struct Scales {
    items: usize,
    text: usize,
    /// The containers around the one that is looked at.
    path: Vec<*mut ffi::PyObject>,
}

impl Scales {
    fn put(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(bits) = bits(value)? {
            check_bits(bits)?;
            return self.text(bits / 3);
        }
        if value.is_none() || value.is_instance_of::<PyFloat>() {
            return Ok(());
        }
        if let Some(base) = Base::of(value) {
            let length = base.len(value)?;
            return match base.kind {
                Kind::Text => self.text(length),
                Kind::Array => self.items(length),
                Kind::Range | Kind::MemoryView => Ok(()), // their text has only their ends
                Kind::Row | Kind::Set | Kind::Mapping => self.inside(value, |scales| {
                    scales.items(length)?;
                    base.entries(value, length)?.iter().try_for_each(|item| scales.put(item))
                }),
            };
        }
        match fields(value) {
            Some(fields) => self.inside(value, |scales| scales.put(fields.as_any())),
            None => Ok(()),
        }
    }

    /// Does `look` one container deeper. A container in itself is shown as `...`.
    fn inside(
        &mut self,
        value: &Bound<'_, PyAny>,
        look: impl FnOnce(&mut Self) -> PyResult<()>,
    ) -> PyResult<()> {
        if self.path.contains(&value.as_ptr()) {
            return Ok(());
        }
        if self.path.len() >= DEEPEST {
            return Err(refused(format!("containers in containers, more than {DEEPEST} deep, as one text")));
        }
        if !has_room_inside() {
            return Err(refused(
                "containers in containers, deeper than a thread with so small a stack can show",
            ));
        }
        self.path.push(value.as_ptr());
        let outcome = look(self);
        self.path.pop();
        outcome
    }

    fn items(&mut self, count: usize) -> PyResult<()> {
        let left = self.items.checked_sub(count);
        self.items = left.ok_or_else(|| refused(format!("more than {MOST_ITEMS} items as one text")))?;
        Ok(())
    }

    fn text(&mut self, length: usize) -> PyResult<()> {
        let left = self.text.checked_sub(length);
        self.text = left.ok_or_else(|| refused(format!("a text of more than {MOST_TEXT} characters")))?;
        Ok(())
    }
}

/// The fields of a dataclass, which its generated `__repr__` shows.
fn fields<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    let py = value.py();
    let name = intern!(py, "__dataclass_fields__");
    // SAFETY: living objects. The type is asked past its metaclass, the object past its own `__getattr__`; nothing
    // of the program's runs. What raises (it has neither) is dropped.
    unsafe {
        let kind = ffi::Py_TYPE(value.as_ptr()).cast::<ffi::PyObject>();
        if ptr::eq(kind, (&raw mut ffi::PyType_Type).cast()) {
            return None;
        }
        let kind = Borrowed::from_ptr(py, kind).cast_unchecked::<PyType>().to_owned();
        let is_dataclass = kind.mro().iter().any(|base| {
            let own = (*base.as_ptr().cast::<ffi::PyTypeObject>()).tp_dict;
            !own.is_null() && ffi::PyDict_Contains(own, name.as_ptr()) == 1
        });
        if !is_dataclass {
            return None;
        }
        let fields = ffi::PyObject_GenericGetDict(value.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, fields).ok()?.cast_into().ok()
    }
}

/// The length of a text in characters, past what a class of the program's says.
pub(super) fn characters(text: &Bound<'_, PyString>) -> usize {
    // SAFETY: a living text, for which this does not fail.
    unsafe { ffi::PyUnicode_GetLength(text.as_ptr()) }.max(0) as usize
}
