//! Modules that are being imported when the hooks come, such as one that imports the profiler itself: the end of such
//! an import is seen, so that the module is hooked before anybody else can use it. `importlib` tells the end by an
//! attribute of the module's spec, which until then is of a class that notices.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::failure::error;
use super::imports::Finder;
use super::interrupt::Attempt;
use super::system;

/// The attribute of a spec that is true while its module is imported.
const INITIALIZING: &str = "_initializing";

/// Has a module's hooks put in when its import ends. A spec of another class than Python's own is left alone.
///
/// # Errors
/// The spec can't be given another class.
pub(super) fn watch(module: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = module.py();
    let spec = module.getattr(intern!(py, "__spec__"))?;
    if spec.get_type().is(ordinary(py)?) {
        spec.setattr(intern!(py, "__class__"), watched(py)?)?;
    }
    Ok(())
}

/// The class of specs.
fn ordinary(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        PyResult::Ok(system::import(py, "_frozen_importlib")?.getattr("ModuleSpec")?.unbind())
    })?;
    Ok(class.bind(py))
}

/// The class that a spec has while it is watched: the same but for one attribute.
fn watched(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let base = ordinary(py)?;
        let name = base.getattr("__name__")?;
        let members = PyDict::new(py);
        members.set_item("__slots__", PyTuple::empty(py))?;
        members.set_item("__module__", base.getattr("__module__")?)?;
        members.set_item(INITIALIZING, Bound::new(py, Initializing)?)?;
        PyResult::Ok(py.get_type::<PyType>().call1((name, (base,), members))?.unbind())
    })?;
    Ok(class.bind(py))
}

/// The attribute of a watched spec. Its value stands where the spec's others do.
#[pyclass(frozen, module = "msprof_rs._core", name = "initializing")]
struct Initializing;

#[pymethods]
impl Initializing {
    fn __get__<'py>(
        slf: Bound<'py, Self>,
        spec: Option<Bound<'py, PyAny>>,
        _class: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(spec) = spec else { return Ok(slf.into_any()) };
        let value = attributes(&spec)?.get_item(INITIALIZING)?;
        value.ok_or_else(|| error::<PyAttributeError>(INITIALIZING.to_owned()))
    }

    fn __set__(_slf: &Bound<'_, Self>, spec: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        attributes(spec)?.set_item(INITIALIZING, value)?;
        if value.is_truthy()? {
            return Ok(());
        }
        let py = spec.py();
        let restored = ordinary(py).and_then(|class| spec.setattr(intern!(py, "__class__"), class));
        restored.optional(py)?; // where it fails, the spec works as well
        Ok(Finder::hook_finished(spec)?)
    }
}

fn attributes<'py>(spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    Ok(spec.getattr(intern!(spec.py(), "__dict__"))?.cast_into()?)
}
