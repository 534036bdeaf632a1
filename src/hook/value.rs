//! Python objects as attribute values: numbers and texts keep their type, containers are cut at a size that a person
//! would still read, anything else (None in a container too: the file has no word for nothing) is its `str()`.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};

use crate::event::Attributes;

/// Longest text; what is cut ends in an ellipsis.
const LONGEST_TEXT: usize = 256;

/// Most items of a container; what is cut is followed by a text that says how many.
const MOST_ITEMS: usize = 1024;

/// Containers in containers deeper than this are written as text.
const DEEPEST: usize = 6;

/// Appends the value of a Python object.
///
/// # Errors
/// Its `str()` raised.
pub(crate) fn append(attributes: &mut Attributes, value: &Bound<'_, PyAny>) -> PyResult<()> {
    append_at(attributes, value, 0)
}

fn append_at(attributes: &mut Attributes, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if let Ok(text) = value.cast::<PyString>() {
        append_text(attributes, &text.to_string_lossy());
    } else if let Ok(truth) = value.cast::<PyBool>() {
        attributes.bool(truth.is_true());
    } else if value.is_instance_of::<PyInt>() {
        match value.extract::<i64>() {
            Ok(number) => attributes.int(number),
            Err(_) => append_text(attributes, &value.str()?.to_string_lossy()),
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        attributes.double(number.value());
    } else if depth < DEEPEST && value.is_instance_of::<PyDict>() {
        append_dict(attributes, value.cast::<PyDict>()?, depth)?;
    } else if depth < DEEPEST && is_sequence(value) {
        append_items(attributes, value, depth)?;
    } else {
        append_text(attributes, &value.str()?.to_string_lossy());
    }
    Ok(())
}

fn is_sequence(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<PySet>()
        || value.is_instance_of::<PyFrozenSet>()
}

fn append_items(attributes: &mut Attributes, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    // A copy of the references: `str()` of an item may change the container.
    let items: Vec<_> = value.try_iter()?.take(MOST_ITEMS + 1).collect::<PyResult<_>>()?;
    let length = value.len()?;
    let kept = items.len().min(MOST_ITEMS);
    attributes.array(kept + usize::from(length > kept));
    for item in &items[..kept] {
        append_at(attributes, item, depth + 1)?;
    }
    if length > kept {
        attributes.str(&format!("… and {} more", length - kept));
    }
    Ok(())
}

fn append_dict(attributes: &mut Attributes, dict: &Bound<'_, PyDict>, depth: usize) -> PyResult<()> {
    let entries: Vec<_> = dict.iter().take(MOST_ITEMS).collect();
    let more = dict.len().saturating_sub(entries.len());
    attributes.dict(entries.len() + usize::from(more > 0));
    for (key, value) in &entries {
        attributes.key_text(&cut(&key.str()?.to_string_lossy()));
        append_at(attributes, value, depth + 1)?;
    }
    if more > 0 {
        attributes.key_text("…");
        attributes.str(&format!("and {more} more"));
    }
    Ok(())
}

/// Appends a text, cut to the longest that is kept.
pub(crate) fn append_text(attributes: &mut Attributes, text: &str) {
    attributes.str(&cut(text));
}

fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        let text = "é".repeat(300);
        let cut = cut(&text);
        assert!(cut.ends_with('…') && cut.len() <= LONGEST_TEXT + '…'.len_utf8());
        assert_eq!(super::cut("short"), "short");
    }
}
