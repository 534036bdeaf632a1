//! Follows context managers: the span of a call covers the `with` block of what it returned.

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::ending::{self, Ending, Outcome};
use super::slots::make_fast;
use super::step::Step;
use crate::clock::Ticks;
use crate::hook::args::OwnedArgs;
use crate::hook::evaluate::Evaluated;
use crate::hook::hooked::{Hook, Kind};
use crate::hook::interrupt::{Attempt, Interrupt, message};
use crate::hook::system;
use crate::recorder::{self, AsyncOpen};

/// Follows the context manager; gives it back as it is where that fails.
///
/// # Errors
/// It was interrupted.
pub(in crate::hook) fn context<'py>(
    manager: Bound<'py, PyAny>,
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
) -> Result<Bound<'py, PyAny>, Interrupt> {
    let py = manager.py();
    let followed = {
        let _muted = recorder::mute();
        match generator(&manager) {
            Ok(Some((generator, kind))) => exchange(&manager, generator, kind, hook, attributes, args),
            Ok(None) => stand_before(&manager, hook, attributes, args),
            Err(error) => Err(error),
        }
    };
    let problem = match followed.unless_interrupted(py)? {
        Ok(followed) if !followed.is_none() => return Ok(followed),
        Ok(_) => "it is no context manager".into(),
        Err(error) => message(py, &error)?,
    };
    hook.say_once(|| format!("what it returned can't be followed, so it has no span: {problem}"));
    Ok(manager)
}

/// The generator that a manager made by `contextlib`'s decorators runs.
fn generator<'py>(manager: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, Kind)>> {
    static TYPES: PyOnceLock<[(Py<PyType>, Kind); 2]> = PyOnceLock::new();
    let py = manager.py();
    let types = TYPES.get_or_try_init(py, || {
        make_fast(py);
        let contextlib = system::import(py, "contextlib")?;
        let kind = |name: &str| PyResult::Ok(contextlib.getattr(name)?.cast_into::<PyType>()?.unbind());
        PyResult::Ok([
            (kind("_GeneratorContextManager")?, Kind::Generator),
            (kind("_AsyncGeneratorContextManager")?, Kind::AsyncGenerator),
        ])
    })?;
    for (class, kind) in types {
        if !manager.is_instance(class.bind(py))? {
            continue;
        }
        let generator = manager.getattr(intern!(py, "gen"))?;
        // SAFETY: alive.
        let is_own = unsafe {
            match kind {
                Kind::AsyncGenerator => ffi::PyAsyncGen_CheckExact(generator.as_ptr()),
                _ => ffi::PyGen_CheckExact(generator.as_ptr()),
            }
        } == 1;
        // Where another hook has been, it is that one's step.
        return Ok((is_own || generator.is_instance_of::<Step>()).then_some((generator, *kind)));
    }
    Ok(None)
}

/// Has the manager run a step in place of its generator. The manager stays the object that it is.
fn exchange<'py>(
    manager: &Bound<'py, PyAny>,
    generator: Bound<'py, PyAny>,
    kind: Kind,
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = manager.py();
    let step = Step::new(generator.unbind(), kind, hook, Ending::Block(attributes, args, None));
    manager.setattr(intern!(py, "gen"), Bound::new(py, step)?)?;
    Ok(manager.clone())
}

/// A Python object that takes the manager's place; None where it is no manager.
fn stand_before<'py>(
    manager: &Bound<'py, PyAny>,
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
) -> PyResult<Bound<'py, PyAny>> {
    static CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = manager.py();
    let span = Span { hook, attributes, args, open: Mutex::new(Vec::new()) };
    let context = CONTEXT.get_or_try_init(py, || {
        PyResult::Ok(system::import(py, "msprof_rs._follow")?.getattr("context")?.unbind())
    })?;
    context.bind(py).call1((manager, Bound::new(py, span)?))
}

/// The time in a `with` block.
#[pyclass(frozen, module = "msprof_rs._core", name = "span")]
struct Span {
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
    /// The blocks that have been entered and not left: there are managers for more than one.
    open: Mutex<Vec<Option<AsyncOpen>>>,
}

#[pymethods]
impl Span {
    fn begin(&self) {
        let open =
            if recorder::is_muted() { None } else { recorder::async_begin(self.hook.label, Ticks::now()) };
        self.open.lock().push(open);
    }

    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let ticks = Ticks::now();
        let Some(open) = self.open.lock().pop().flatten() else { return Ok(()) };
        let error = error.map(PyErr::from_value);
        let outcome = error.as_ref().map_or(Outcome::Closed, Outcome::Raised);
        let attributes = (self.attributes, self.args.as_ref());
        Ok(ending::record(py, self.hook, attributes, open, ticks, outcome, None)?)
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        self.args.as_ref().map_or(Ok(()), |args| args.traverse(&visit))
    }
}
