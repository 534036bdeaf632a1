//! Python's texts as UTF-8. A `str` may hold halves of surrogate pairs, for which UTF-8 has no bytes: JSON of a client
//! brings them, and names of files that are not UTF-8. They are shown as Python writes them: `\udc80`.

use std::borrow::Cow;
use std::fmt::Write;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::limits::characters;

/// The text, with an escape for each character that UTF-8 can't say. No code of the program's runs.
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    text.to_str().map_or_else(|_| escaped(text).into(), Into::into)
}

#[cold]
fn escaped(text: &Bound<'_, PyString>) -> String {
    let mut escaped = String::new();
    for index in 0..characters(text) {
        // SAFETY: a living text, and an index within it.
        let code = unsafe { ffi::PyUnicode_ReadChar(text.as_ptr(), index as ffi::Py_ssize_t) };
        match char::from_u32(code) {
            Some(character) => escaped.push(character),
            None => _ = write!(escaped, "\\u{code:04x}"), // a String takes everything
        }
    }
    escaped
}
