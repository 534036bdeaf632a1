//! Python objects as attribute values. Numbers and texts keep their type; containers are cut at a size that a person
//! would still read; of a tensor only shape and dtype are looked at, since its data may be on a device, or large.
//! Anything else (None in a container too: the file has no word for nothing) is its `str()`.

use std::borrow::Cow;
use std::fmt::Write;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::interrupt::{Attempt, Interrupt};
use super::limits::characters;
use super::text::utf8;
use super::walk::Base;
use super::{operators, system};
use crate::config::Limits;
use crate::event::Attributes;
use crate::event::request_id::CUT;
use crate::recorder;

/// Containers in containers deeper than this are only marked.
const DEEPEST: usize = 6;

/// Values of one attribute, those in containers counted; containers beyond are only marked. Lists that are in many
/// lists would else be written as often.
const MOST_VALUES: usize = 100_000;

/// Appends the value of a Python object.
///
/// # Errors
/// Its `str()` raised, or another method that had to be asked.
pub(crate) fn append(
    attributes: &mut Attributes,
    value: &Bound<'_, PyAny>,
    content: Content,
) -> PyResult<()> {
    Writer { attributes, content, limits: recorder::limits(), left: MOST_VALUES }.append(value, 0)
}

/// What the texts of a value are, which decides how they are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Anything.
    Any,
    /// Ids of requests, as the built-in handlers record them: the tables are built from these.
    RequestIds,
}

impl Content {
    /// What an attribute has, by its name.
    pub(crate) fn of(name: &str) -> Self {
        if matches!(name, "rid" | "http_rid") { Self::RequestIds } else { Self::Any }
    }
}

struct Writer<'a> {
    attributes: &'a mut Attributes,
    content: Content,
    limits: Limits,
    /// Values that may still be written.
    left: usize,
}

impl Writer<'_> {
    fn append(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        if value.is_instance_of::<PyString>() {
            self.text_value(value)?;
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.attributes.bool(truth.is_true());
        } else if value.is_instance_of::<PyInt>() {
            self.int(value)?;
        } else if let Ok(number) = value.cast::<PyFloat>() {
            self.attributes.double(number.value());
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.dict(dict, depth)?;
        } else if let Some(base) = Base::of(value).filter(|_| is_sequence(value)) {
            self.items(value, base, depth)?;
        } else if let Some([shape, dtype]) = shape_and_dtype(value)? {
            if is_numpy_scalar(value)? {
                return self.numpy_scalar(value, &dtype);
            }
            self.attributes.dict(2);
            self.attributes.key_text("shape");
            self.append(&shape, depth + 1)?;
            self.attributes.key_text("dtype");
            self.attributes.str(&self.text(&dtype)?);
        } else {
            self.text_value(value)?;
        }
        Ok(())
    }

    fn text_value(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let text = self.text(value)?;
        match self.content {
            Content::Any => self.attributes.str(&text),
            Content::RequestIds => self.attributes.id(&text),
        }
        Ok(())
    }

    fn int(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match value.extract::<i64>() {
            Ok(number) => self.attributes.int(number),
            Err(_) => self.text_value(value)?,
        }
        Ok(())
    }

    fn numpy_scalar(&mut self, value: &Bound<'_, PyAny>, dtype: &Bound<'_, PyAny>) -> PyResult<()> {
        match dtype.getattr(intern!(value.py(), "kind"))?.cast::<PyString>()?.to_str()? {
            "b" => self.attributes.bool(value.is_truthy()?),
            "i" | "u" => self.int(value)?,
            "f" => self.attributes.double(value.extract()?),
            _ => self.attributes.str(&self.text(value)?),
        }
        Ok(())
    }

    fn items(&mut self, container: &Bound<'_, PyAny>, base: Base, depth: usize) -> PyResult<()> {
        let length = base.len(container)?;
        let Some(count) = self.take(length, depth) else { return Ok(()) };
        // A copy of the references: `str()` of an item may change the container.
        let items = base.items(container, count)?;
        let more = length.saturating_sub(items.len());
        self.attributes.array(items.len() + usize::from(more > 0));
        for item in &items {
            self.append(item, depth + 1)?;
        }
        if more > 0 {
            self.attributes.str(&format!("{CUT} and {more} more"));
        }
        Ok(())
    }

    /// Only some values of a mapping are ids, and no key.
    fn dict(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> PyResult<()> {
        let content = std::mem::replace(&mut self.content, Content::Any);
        let written = self.entries(dict, depth);
        self.content = content;
        written
    }

    fn entries(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> PyResult<()> {
        let Some(count) = self.take(dict.len(), depth) else { return Ok(()) };
        let entries: Vec<_> = dict.iter().take(count).collect();
        let more = dict.len().saturating_sub(entries.len());
        self.attributes.dict(entries.len() + usize::from(more > 0));
        for (key, value) in &entries {
            let key = self.text(key)?;
            self.attributes.key_text(&key);
            self.content = Content::of(&key);
            self.append(value, depth + 1)?;
            self.content = Content::Any;
        }
        if more > 0 {
            self.attributes.key_text(CUT.encode_utf8(&mut [0; 4]));
            self.attributes.str(&format!("and {more} more"));
        }
        Ok(())
    }

    /// How many of `length` items are written. None: the container is marked as left out.
    fn take(&mut self, length: usize, depth: usize) -> Option<usize> {
        let count = match self.content {
            Content::Any => length.min(self.limits.max_items),
            Content::RequestIds => length,
        };
        if (depth >= DEEPEST && length > 0) || count > self.left {
            self.attributes.str(CUT.encode_utf8(&mut [0; 4]));
            return None;
        }
        self.left -= count;
        Some(count)
    }

    /// A text, or an object as text, cut to the longest that is kept; ids are whole.
    fn text<'a>(&self, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, str>> {
        let longest = match self.content {
            Content::Any => self.limits.text_length,
            Content::RequestIds => usize::MAX,
        };
        if let Ok(text) = value.cast::<PyString>() {
            return cut_text(text, longest);
        }
        if let Some((bytes, length)) = first_bytes(value, longest) {
            let mut text = cut(&readable(&bytes), longest).into_owned();
            if length > longest && !text.ends_with(CUT) {
                text.push(CUT);
            }
            return Ok(text.into());
        }
        let text = match enum_name(value)? {
            Some(name) => name,
            None => operators::text(value)?,
        };
        Ok(cut_text(&text, longest)?.into_owned().into())
    }
}

/// Only what is kept is taken out of a long text: UTF-8 of the whole would stay with the object.
fn cut_text<'a>(text: &'a Bound<'_, PyString>, longest: usize) -> PyResult<Cow<'a, str>> {
    if characters(text) <= longest {
        return Ok(utf8(text));
    }
    // SAFETY: a text, and indices within it; the new reference is taken over.
    let start = unsafe {
        let start = ffi::PyUnicode_Substring(text.as_ptr(), 0, longest as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(text.py(), start)?.cast_into::<PyString>()?
    };
    Ok(format!("{}{CUT}", utf8(&start)).into())
}

fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}{CUT}", &text[..end]).into(),
        None => text.into(),
    }
}

/// The first bytes of a bytes-like object, and how many it has.
fn first_bytes(value: &Bound<'_, PyAny>, count: usize) -> Option<(Vec<u8>, usize)> {
    let first = |bytes: &[u8]| (bytes[..bytes.len().min(count)].to_vec(), bytes.len());
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Some(first(bytes.as_bytes()));
    }
    // SAFETY: nothing of Python's runs between the look and the copy.
    value.cast::<PyByteArray>().ok().map(|array| first(unsafe { array.as_bytes() }))
}

/// UTF-8 as it is, other bytes as `\xff`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}"); // a String takes everything
        }
    }
    text
}

/// The name of a member of an enum. None: it is no such thing, or a combination of flags.
fn enum_name<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
    static ENUM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let kind =
        ENUM.get_or_try_init(py, || PyResult::Ok(system::import(py, "enum")?.getattr("Enum")?.unbind()));
    if !value.is_instance(kind?.bind(py))? {
        return Ok(None);
    }
    Ok(value.getattr(intern!(py, "name"))?.cast_into::<PyString>().ok())
}

fn is_sequence(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<PySet>()
        || value.is_instance_of::<PyFrozenSet>()
}

/// Arrays without dimensions are none: these hold their number themselves.
fn is_numpy_scalar(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static GENERIC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    // Where nobody has imported numpy there are no scalars of it.
    let is_there = GENERIC.get(py).is_some() || system::modules(py)?.contains(intern!(py, "numpy"))?;
    if !is_there {
        return Ok(false);
    }
    let kind = || PyResult::Ok(system::import(py, "numpy")?.getattr("generic")?.unbind());
    value.is_instance(GENERIC.get_or_try_init(py, kind)?.bind(py))
}

/// Shape and dtype of what has both, as the tensors of torch, numpy and jax do. Stand-ins that make up whatever
/// attribute they are asked for (mocks, the proxies of tracers) are not asked.
fn shape_and_dtype<'py>(value: &Bound<'py, PyAny>) -> Result<Option<[Bound<'py, PyAny>; 2]>, Interrupt> {
    let py = value.py();
    let own = |name: &Bound<'py, PyString>| {
        // SAFETY: two living objects; gives a new reference or raises.
        let attribute = unsafe { ffi::PyObject_GenericGetAttr(value.as_ptr(), name.as_ptr()) };
        // SAFETY: as said.
        unsafe { Bound::from_owned_ptr_or_err(py, attribute) }.optional(py)
    };
    let Some(shape) = own(intern!(py, "shape"))?.filter(is_sequence) else { return Ok(None) };
    Ok(own(intern!(py, "dtype"))?.map(|dtype| [shape, dtype]))
}

/// The number of elements of an array or tensor. None: it is nothing of the kind.
pub(super) fn elements(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let is_something_else = value.is_none()
        || value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyFloat>()
        || Base::of(value).is_some();
    let tensor = if is_something_else { None } else { shape_and_dtype(value)? };
    let Some([shape, _]) = tensor else { return Ok(None) };
    let mut all = 1_usize;
    // Not as a whole: that asks for its length first, and swallows what that raises.
    for size in shape.try_iter()? {
        all = all.saturating_mul(size?.extract()?);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        assert_eq!(cut(&"é".repeat(300), 2), "éé…");
        assert_eq!(cut("short", 5), "short");
    }

    #[test]
    fn bytes_are_texts_where_they_can() {
        assert_eq!(readable("naïve\n".as_bytes()), "naïve\n");
        assert_eq!(readable(b"a\xff\xc3b"), "a\\xff\\xc3b");
    }
}
