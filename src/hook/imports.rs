//! Hooks modules when they are imported: a finder at the front of `sys.meta_path` that lets the other finders find,
//! and has the loader call back right after the module's code has run, before any other module can copy a name.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple};
use rustc_hash::FxHashSet;

use super::registry::Registry;

/// The finder. It stays for the life of the process and costs a few comparisons of names per imported module.
#[pyclass(frozen, module = "msprof_rs._core", name = "finder")]
pub(crate) struct Finder {
    registry: Registry,
    /// Modules that were in the middle of their import when the hooks came.
    unfinished: Mutex<FxHashSet<String>>,
}

impl Finder {
    /// Hooks what is imported already, and goes to the front of `sys.meta_path` for the rest.
    pub(crate) fn install(py: Python<'_>, registry: Registry) -> PyResult<()> {
        let finder = Bound::new(py, Self { registry, unfinished: Mutex::default() })?;
        let sys = py.import("sys")?;
        let modules = sys.getattr("modules")?.cast_into::<PyDict>()?;
        for (name, module) in modules.copy()?.iter() {
            let (Ok(name), Ok(module)) = (name.extract::<String>(), module.cast_into::<PyModule>()) else {
                continue;
            };
            if finder.get().registry.wants(&name) {
                finder.get().hook(&name, &module);
            }
        }
        sys.getattr("meta_path")?.call_method1("insert", (0, finder))?;
        Ok(())
    }

    fn hook(&self, name: &str, module: &Bound<'_, PyModule>) {
        if is_initializing(module) {
            self.unfinished.lock().insert(name.to_owned());
        } else {
            self.registry.apply(name, module);
        }
    }

    /// Looks again at the modules that were not finished.
    fn look_again(&self, py: Python<'_>) -> PyResult<()> {
        if self.unfinished.lock().is_empty() {
            return Ok(());
        }
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let names = std::mem::take(&mut *self.unfinished.lock());
        for name in names {
            if let Some(Ok(module)) = modules.get_item(&name)?.map(pyo3::Bound::cast_into::<PyModule>) {
                self.hook(&name, &module);
            }
        }
        Ok(())
    }
}

fn is_initializing(module: &Bound<'_, PyModule>) -> bool {
    let spec = module.getattr("__spec__").and_then(|spec| spec.getattr("_initializing"));
    spec.is_ok_and(|initializing| initializing.is_truthy().unwrap_or(false))
}

#[pymethods]
impl Finder {
    #[pyo3(signature = (name, path=None, target=None))]
    fn find_spec<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        path: Option<Bound<'py, PyAny>>,
        target: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        this.look_again(py)?;
        if !this.registry.wants(name.to_str()?) {
            return Ok(None);
        }
        for finder in py.import("sys")?.getattr("meta_path")?.try_iter()? {
            let finder = finder?;
            let Ok(find_spec) = finder.getattr("find_spec") else { continue };
            if finder.is(slf) {
                continue;
            }
            let spec = find_spec.call1((name, path.as_ref(), target.as_ref()))?;
            if spec.is_none() {
                continue;
            }
            let loader = spec.getattr("loader")?;
            if loader.hasattr("exec_module")? {
                let hooking = Loader { finder: slf.clone().unbind(), loader: loader.unbind() };
                spec.setattr("loader", Bound::new(py, hooking)?)?;
            }
            return Ok(Some(spec));
        }
        Ok(None)
    }
}

/// Stands before a module's own loader until the module's code has run.
#[pyclass(frozen, module = "msprof_rs._core", name = "loader")]
struct Loader {
    finder: Py<Finder>,
    loader: Py<PyAny>,
}

#[pymethods]
impl Loader {
    fn create_module<'py>(&self, py: Python<'py>, spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let loader = self.loader.bind(py);
        if loader.hasattr("create_module")? {
            loader.call_method1("create_module", (spec,))
        } else {
            Ok(py.None().into_bound(py))
        }
    }

    fn exec_module(&self, py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
        // The module shall see its own loader, also while its code runs.
        let loader = self.loader.bind(py);
        module.setattr("__loader__", loader)?;
        let spec = module.getattr("__spec__")?;
        spec.setattr("loader", loader)?;
        loader.call_method1("exec_module", PyTuple::new(py, [module])?)?;
        // A package may have replaced itself in `sys.modules`.
        let name: String = spec.getattr("name")?.extract()?;
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let current = modules.get_item(&name)?.and_then(|current| current.cast_into::<PyModule>().ok());
        self.finder.get().registry.apply(&name, current.as_ref().unwrap_or(module));
        Ok(())
    }

    /// `get_source`, `is_package` and all else are the loader's own.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.loader.bind(py).getattr(name)
    }
}
