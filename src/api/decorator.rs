//! `@msprof_rs.timed`: a function of the user's own, with the hook that an entry of the symbol table would put on it.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::harmless::{self, harmless, no_more};
use super::labels::label;
use crate::hook;

/// Puts a timer on a function; gives what is to stand for it: the function itself where that can't be.
#[pyfunction]
#[pyo3(signature = (function, name, domain, level, more, unknown))]
pub(crate) fn timed<'py>(
    function: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
    domain: &Bound<'py, PyAny>,
    level: &Bound<'py, PyAny>,
    more: &Bound<'py, PyTuple>,
    unknown: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let hook = || {
        no_more(more, Some(unknown))?;
        if function.is_instance_of::<PyType>() {
            return Err(hook::error::<PyTypeError>(
                "it is a class; decorate its `__init__` or another method",
            ));
        }
        if !function.is_callable() {
            return Err(hook::error::<PyTypeError>("only what can be called can be timed"));
        }
        let domain = harmless::text(Some(domain), "domain")?;
        let name = if name.is_none() { &name_of(function)? } else { harmless::name(Some(name))? };
        let known = label(domain, name, level.extract()?);
        hook::time(function, known.label, known.gate)
    };
    harmless(function.py(), "timed", hook, || function.clone())
}

/// What the program calls it.
fn name_of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let name = function.getattr_opt("__qualname__")?.and_then(|name| name.cast_into::<PyString>().ok());
    name.map_or_else(|| function.get_type().qualname(), Ok)
}
