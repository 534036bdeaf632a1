//! Python's texts as UTF-8. A `str` may hold halves of surrogate pairs, for which UTF-8 has no bytes: JSON of a client
//! brings them, and names of files that are not UTF-8. They are shown as Python writes them: `\udc80`.

use std::borrow::Cow;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The text, with an escape for each character that UTF-8 can't say.
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    match text.to_str() {
        Ok(text) => text.into(),
        Err(_) => escaped(text).map_or_else(|_| text.to_string_lossy(), Into::into),
    }
}

#[cold]
fn escaped(text: &Bound<'_, PyString>) -> PyResult<String> {
    // SAFETY: a living text and two names that end with a null; gives new bytes or raises.
    let bytes = unsafe {
        let bytes =
            ffi::PyUnicode_AsEncodedString(text.as_ptr(), c"utf-8".as_ptr(), c"backslashreplace".as_ptr());
        Bound::from_owned_ptr_or_err(text.py(), bytes)?.cast_into::<PyBytes>()?
    };
    Ok(String::from_utf8_lossy(bytes.as_bytes()).into_owned())
}
