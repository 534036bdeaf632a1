//! SGLang: a file for each process of its server.

pub(super) mod scheduler;
pub(super) mod tokenizer;

use pyo3::intern;
use pyo3::prelude::*;

use super::record::{each, text};

/// The id of a request, as each of its forms has it: one text, or a list of them for several prompts at once.
fn ids_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let rid = object.getattr(intern!(object.py(), "rid"))?;
    text(&rid).map(|rid| vec![rid]).or_else(|_| texts(&rid))
}

fn texts(values: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    each(values)?.iter().map(text).collect()
}
