//! Follows context managers: the span of a call covers the `with` block of what it returned.

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;

use super::ending::{self, Outcome};
use crate::clock::Ticks;
use crate::hook::args::OwnedArgs;
use crate::hook::evaluate::Evaluated;
use crate::hook::hooked::Hook;
use crate::recorder::{self, AsyncOpen};

/// Stands before the context manager; gives it back as it is where it is none.
pub(in crate::hook) fn context<'py>(
    manager: Bound<'py, PyAny>,
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
) -> Bound<'py, PyAny> {
    let py = manager.py();
    let span = Span { hook, attributes, args, open: Mutex::new(None) };
    let outcome = py
        .import(intern!(py, "msprof_rs._follow"))
        .and_then(|module| module.call_method1(intern!(py, "context"), (&manager, Bound::new(py, span)?)));
    let problem: String = match outcome {
        Ok(context) if !context.is_none() => return context,
        Ok(_) => "it is no context manager".into(),
        Err(error) => error.to_string(),
    };
    hook.say_once(|| format!("what it returned can't be followed, so it has no span: {problem}"));
    manager
}

/// The time in a `with` block.
#[pyclass(frozen, module = "msprof_rs._core", name = "span")]
struct Span {
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
    open: Mutex<Option<AsyncOpen>>,
}

#[pymethods]
impl Span {
    fn begin(&self) {
        *self.open.lock() = recorder::async_begin(self.hook.label, Ticks::now());
    }

    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        let ticks = Ticks::now();
        let Some(open) = self.open.lock().take() else { return };
        let error = error.map(PyErr::from_value);
        let outcome = error.as_ref().map_or(Outcome::Closed, Outcome::Raised);
        ending::record(py, self.hook, (self.attributes, self.args.as_ref()), open, ticks, outcome, None);
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        self.args.as_ref().map_or(Ok(()), |args| args.traverse(&visit))
    }
}
