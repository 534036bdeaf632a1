//! `@msprof_rs.timed`: a function of the user's own, with the hook that an entry of the symbol table would put on it.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::config::Level;
use crate::event::Label;
use crate::hook;
use crate::recorder::Gate;

/// Puts a timer on a function; gives what is to stand for it.
#[pyfunction]
#[pyo3(signature = (function, name, domain, level))]
pub(crate) fn timed<'py>(
    function: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    domain: &Bound<'py, PyString>,
    level: u32,
) -> PyResult<Bound<'py, PyAny>> {
    if !function.is_callable() {
        return Err(PyTypeError::new_err("only what can be called can be timed"));
    }
    let label = Label::new(domain.to_str()?, name.to_str()?);
    hook::time(function, label, Gate::new(Level::new(level), domain.to_str()?))
}
