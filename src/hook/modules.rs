//! The modules whose globals live on because something in them is hooked.
//!
//! What symbols have hooked lives as long as the process, and the globals that it refers to with it. When CPython ends it
//! empties the globals of the modules that are alive then: files are flushed, destructors run. Of a module that is gone
//! nobody empties the globals, so the modules have to live on as well.

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString, PyType};

use super::interrupt::{Attempt, Interrupt};
use super::place::Place;

/// Modules that are kept, each once.
#[derive(Default)]
pub(super) struct KeptModules(Mutex<Vec<Py<PyAny>>>);

impl KeptModules {
    /// Keeps those that a hook in this place refers to: the function's own, and those of the classes that it is reached by.
    ///
    /// # Errors
    /// It was interrupted.
    pub(super) fn keep(&self, place: &Place<'_>) -> Result<(), Interrupt> {
        let py = place.owner.py();
        for name in names(place).optional(py)?.unwrap_or_default() {
            if let Some(module) = of_name(&name).optional(py)?.flatten() {
                let mut kept = self.0.lock();
                if !kept.iter().any(|it| it.is(&module)) {
                    kept.push(module.unbind());
                }
            }
        }
        Ok(())
    }
}

fn names<'py>(place: &Place<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = place.owner.py();
    let mut names = Vec::new();
    if let Ok(function) = place.callable.cast::<PyFunction>() {
        let globals = function.getattr(intern!(py, "__globals__"))?.cast_into::<PyDict>()?;
        names.extend(globals.get_item(intern!(py, "__name__"))?);
    }
    let object = place.object.as_ref().map(pyo3::Bound::get_type);
    let owner = place.owner.cast::<PyType>().ok().cloned();
    for class in owner.into_iter().chain(object) {
        for base in class.mro().iter() {
            names.extend(base.getattr_opt(intern!(py, "__module__"))?);
        }
    }
    Ok(names)
}

fn of_name<'py>(name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Ok(name) = name.cast::<PyString>() else { return Ok(None) };
    let modules = name.py().import(intern!(name.py(), "sys"))?.getattr(intern!(name.py(), "modules"))?;
    modules.cast::<PyDict>()?.get_item(name)
}
