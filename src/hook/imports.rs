//! Hooks modules when they are imported: a finder at the front of `sys.meta_path` that lets the other finders find,
//! and has the loader call back right after the module's code has run, before any other module can copy a name.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyModule, PyString};
use rustc_hash::FxHashSet;

use super::attributes;
use super::interrupt::{Attempt, Interrupt, message};
use super::registry::Registry;
use super::stack::has_room_to_hook;
use super::system;
use super::text::utf8;
use super::unfinished;
use crate::recorder;

/// The finder. It stays for the life of the process and costs a few comparisons of names per imported module.
#[pyclass(frozen, module = "msprof_rs._core", name = "finder")]
pub(crate) struct Finder {
    registry: Registry,
    /// Modules that were in the middle of their import when the hooks came.
    unfinished: Mutex<FxHashSet<String>>,
    /// Modules whose hooks wait for a thread with enough stack.
    postponed: Mutex<FxHashSet<String>>,
    /// For those who must not wait for that lock.
    has_postponed: AtomicBool,
    /// The process that the finder was made for.
    pid: u32,
}

/// The finder of this process.
static FINDER: OnceLock<Py<Finder>> = OnceLock::new();

/// How long a start of collection waits for changed symbols to be applied, which needs Python's lock.
const RELOAD_PATIENCE: Duration = Duration::from_secs(2);

impl Finder {
    /// Hooks what is imported already, and goes to the front of `sys.meta_path` for the rest.
    pub(crate) fn install(py: Python<'_>, registry: Registry) -> PyResult<()> {
        let finder = Self {
            registry,
            unfinished: Mutex::default(),
            postponed: Mutex::default(),
            has_postponed: AtomicBool::new(false),
            pid: std::process::id(),
        };
        let finder = Bound::new(py, finder)?;
        finder.get().hook_loaded(&finder)?;
        let _ = FINDER.set(finder.clone().unbind()); // there is one: activation happens once
        Self::go_first(&finder, &system::meta_path(py)?)
    }

    /// To the front of the list, in one step: imports may be going through it.
    fn go_first(this: &Bound<'_, Self>, finders: &Bound<'_, PyList>) -> PyResult<()> {
        let mut order = vec![this.clone().into_any()];
        order.extend(finders.iter().filter(|finder| !finder.is(this)));
        finders.set_slice(0, finders.len(), PyList::new(this.py(), order)?.as_any())
    }

    /// Others that went to the front may have found modules that are to be hooked, as pytest's does to rewrite
    /// assertions.
    fn stay_first(this: &Bound<'_, Self>) -> PyResult<()> {
        let finders = system::meta_path(this.py())?;
        if finders.iter().next().is_none_or(|first| first.is(this)) {
            return Ok(());
        }
        Self::go_first(this, &finders)?;
        this.get().hook_loaded(this)
    }

    fn hook_loaded(&self, this: &Bound<'_, Self>) -> PyResult<()> {
        let modules = system::modules(this.py())?;
        for (name, module) in modules.copy()?.iter() {
            let Ok(name) = name.cast::<PyString>().map(utf8) else { continue };
            if !self.registry.wants(&name) || module.is_none() {
                continue;
            }
            if let Some(spec) = unloaded(&module)? {
                Loader::stand_before(this, &spec)?;
            } else {
                self.hook(&name, &module)?;
            }
        }
        Ok(())
    }

    fn hook(&self, name: &str, module: &Bound<'_, PyAny>) -> Result<(), Interrupt> {
        if is_initializing(module)? {
            self.unfinished.lock().insert(name.to_owned());
            // Where its end can't be seen, the next import comes upon the module.
            unfinished::watch(module).optional(module.py())?;
            return Ok(());
        }
        self.apply(name, module, false)
    }

    /// Hooks the module of a spec whose import has ended. It is not there where that has failed.
    ///
    /// # Errors
    /// It was interrupted.
    pub(super) fn hook_finished(spec: &Bound<'_, PyAny>) -> Result<(), Interrupt> {
        let py = spec.py();
        let Some(finder) = FINDER.get() else { return Ok(()) };
        let hook = || {
            let name = spec.getattr("name")?.cast_into::<PyString>()?;
            let (module, name) = (system::modules(py)?.get_item(&name)?, utf8(&name));
            finder.get().unfinished.lock().remove(&*name);
            module.map_or(Ok(()), |module| Ok(finder.get().hook(&name, &module)?))
        };
        tell(py, "a module", hook())
    }

    fn apply(&self, name: &str, module: &Bound<'_, PyAny>, is_new: bool) -> Result<(), Interrupt> {
        if !has_room_to_hook() {
            self.postpone(name);
            return Ok(());
        }
        self.registry.apply(name, module, is_new)
    }

    /// What is done for a module runs code of Python's own, and of the program's: who knows how much stack that takes.
    fn postpone(&self, name: &str) {
        if self.postponed.lock().insert(name.to_owned()) {
            self.has_postponed.store(true, Ordering::Relaxed);
            log::warn!(
                "{name} is not hooked yet: the thread that imports it has too small a stack; its hooks come with \
                 the next import on a thread that has more, or when collection is started again"
            );
        }
    }

    /// Looks again at the modules that were not finished, and at those whose hooks wait.
    fn look_again(&self, py: Python<'_>) -> PyResult<()> {
        let mut names = std::mem::take(&mut *self.unfinished.lock());
        if self.has_postponed.load(Ordering::Relaxed) && has_room_to_hook() {
            self.has_postponed.store(false, Ordering::Relaxed);
            names.extend(std::mem::take(&mut *self.postponed.lock()));
        }
        if names.is_empty() {
            return Ok(());
        }
        let modules = system::modules(py)?;
        for name in names {
            if let Some(module) = modules.get_item(&name)? {
                self.hook(&name, &module)?;
            }
        }
        Ok(())
    }
}

/// Applies the symbol file if it has changed, and what waits for a thread with enough stack. For the recorder before each
/// start of collection: the caller does not have Python's lock and may not wait for it, so a thread of its own does the
/// work.
pub(crate) fn follow_symbols() {
    let is_to_do =
        |finder: &Finder| finder.registry.is_outdated() || finder.has_postponed.load(Ordering::Relaxed);
    let Some(finder) = FINDER.get().filter(|finder| is_to_do(finder.get())) else { return };
    let (done, wait) = crossbeam_channel::bounded(1);
    let work = move || {
        Python::try_attach(|py| {
            let _muted = recorder::mute();
            let finder = finder.bind(py);
            let registry = &finder.get().registry;
            let renewed = if registry.read_again() {
                finder.get().hook_loaded(finder).and_then(|()| registry.take_out_unused(py))
            } else {
                Ok(())
            };
            if let Err(error) = renewed.and_then(|()| finder.get().look_again(py)) {
                log::error!("the changed symbols could not all be applied: {error}");
            }
        });
        let _ = done.send(()); // nobody waits any more
    };
    let thread = std::thread::Builder::new().name("msprof-rs-hooks".into()).spawn(work);
    if thread.is_err() || wait.recv_timeout(RELOAD_PATIENCE).is_err() {
        log::warn!("the changed symbols have not been applied within {RELOAD_PATIENCE:?}; collection starts");
    }
}

/// For the end of a process: says what a user's own symbol file names and can't be met here. A fork leaves that to its
/// parent.
///
/// # Errors
/// It was interrupted.
pub(crate) fn tell_unmet(py: Python<'_>) -> PyResult<()> {
    let Some(finder) = FINDER.get().filter(|finder| finder.get().pid == std::process::id()) else {
        return Ok(());
    };
    let _muted = recorder::mute();
    let finder = finder.bind(py);
    let others: Vec<_> = system::meta_path(py)?.iter().filter(|other| !other.is(finder)).collect();
    finder.get().registry.tell_unmet(py, &others).unless_interrupted(py)?.or_else(|error| {
        log::debug!("what the symbol file names could not be looked for: {error}");
        Ok(())
    })
}

/// The domains in which hooks of this process may record.
pub(crate) fn symbol_domains() -> Vec<String> {
    FINDER.get().map(|finder| finder.get().registry.domains()).unwrap_or_default()
}

pub(super) fn is_initializing(module: &Bound<'_, PyAny>) -> Result<bool, Interrupt> {
    let spec = module.getattr("__spec__");
    let initializing = spec.and_then(|spec| spec.getattr("_initializing")?.is_truthy());
    Ok(initializing.optional(module.py())?.unwrap_or(false))
}

/// The spec of a module that `importlib.util.LazyLoader` has not loaded yet; reading any attribute would load it.
fn unloaded<'py>(module: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let kind = module.get_type();
    if kind.name()? != "_LazyModule" || kind.module()? != "importlib.util" {
        return Ok(None);
    }
    let Some(spec) = module.cast::<PyModule>()?.dict().get_item("__spec__")? else { return Ok(None) };
    // CPython ≥ 3.13 keeps the lazy class until the module's code has run.
    let state = spec.getattr("loader_state");
    let is_loading = state.and_then(|state| state.get_item("is_loading")?.is_truthy());
    let is_loading = is_loading.optional(module.py())?.unwrap_or(false);
    Ok(Some(spec).filter(|_| !is_loading))
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
        if !has_room_to_hook() {
            if this.registry.wants(&utf8(name)) {
                this.postpone(&utf8(name));
            }
            return Ok(None);
        }
        if let Some(_at_work) = AtWork::begin() {
            let up_to_date = Self::stay_first(slf).and_then(|()| this.look_again(py));
            tell(py, "modules that were there before", up_to_date)?;
        }
        if !this.registry.wants(&utf8(name)) {
            return Ok(None);
        }
        for finder in system::meta_path(py).optional(py)?.into_iter().flatten() {
            let Some(find_spec) = finder.getattr("find_spec").optional(py)? else { continue };
            if finder.is(slf) {
                continue;
            }
            let spec = find_spec.call1((name, path.as_ref(), target.as_ref()))?;
            if spec.is_none() {
                continue;
            }
            tell(py, &utf8(name), Loader::stand_before(slf, &spec))?;
            return Ok(Some(spec));
        }
        Ok(None)
    }
}

/// Whether the finder puts hooks on modules in this thread. What that imports is found without the same work.
struct AtWork;

thread_local!(static AT_WORK: Cell<bool> = const { Cell::new(false) });

impl AtWork {
    fn begin() -> Option<Self> {
        (!AT_WORK.replace(true)).then_some(Self)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(false);
    }
}

/// An import is the program's, and does not fail with our part in it.
///
/// # Errors
/// That was interrupted.
fn tell(py: Python<'_>, what: &str, outcome: PyResult<()>) -> Result<(), Interrupt> {
    if let Err(error) = outcome.unless_interrupted(py)? {
        let problem = message(py, &error)?;
        log::warn!("{what}: not all hooks are in place: {problem}");
    }
    Ok(())
}

/// Stands before a module's own loader until the module's code has run.
#[pyclass(frozen, module = "msprof_rs._core", name = "loader")]
struct Loader {
    finder: Py<Finder>,
    loader: Py<PyAny>,
}

impl Loader {
    /// Takes the place of the loader's `exec_module`, or of the loader in its spec.
    fn stand_before(finder: &Bound<'_, Finder>, spec: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = finder.py();
        let loader = spec.getattr("loader")?;
        if !loader.hasattr("exec_module")? || loader.is_instance_of::<Self>() {
            return Ok(());
        }
        let this = Self { finder: finder.clone().unbind(), loader: loader.clone().unbind() };
        let this = Bound::new(py, this)?;
        if !is_of_one_module(&loader)? {
            return spec.setattr("loader", this);
        }
        // Who asks for the spec finds the loader that Python would have.
        loader.setattr(EXECUTE, this.getattr(EXECUTE)?)
    }
}

/// The method of a loader that runs a module's code.
const EXECUTE: &str = "exec_module";

/// Whether a loader is one of Python's own that are made anew for each module, and so can have a method of its own.
fn is_of_one_module(loader: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = loader.get_type();
    Ok(kind.module()? == "_frozen_importlib_external"
        && ["SourceFileLoader", "SourcelessFileLoader", "ExtensionFileLoader"]
            .iter()
            .any(|own| kind.name().is_ok_and(|name| name == *own)))
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

    fn exec_module(&self, py: Python<'_>, module: &Bound<'_, PyAny>) -> PyResult<()> {
        // The module shall see its own loader, as it was, also while its code runs.
        let loader = self.loader.bind(py);
        let spec = module.getattr("__spec__")?; // not after the code has run: that may have made the module lazy
        if is_of_one_module(loader)? {
            loader.delattr(EXECUTE).optional(py)?; // a second run does not come through here
        } else {
            attributes::set(module, intern!(py, "__loader__"), loader)?;
            spec.setattr("loader", loader)?;
        }
        loader.call_method1(EXECUTE, (module,))?;
        Ok(tell(py, "a module", self.hook(module, &spec))?)
    }

    /// `get_source`, `is_package` and all else are the loader's own.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.loader.bind(py).getattr(name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.loader)
    }
}

impl Loader {
    /// Hooks a module whose code has run.
    fn hook(&self, module: &Bound<'_, PyAny>, spec: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = module.py();
        if unloaded(module)?.is_some() {
            // It has put the loader there that is to run later.
            return Self::stand_before(self.finder.bind(py), spec);
        }
        // A package may have replaced itself in `sys.modules`.
        let Ok(name) = spec.getattr("name")?.cast_into::<PyString>() else { return Ok(()) };
        let current = system::modules(py)?.get_item(&name)?.filter(|current| !current.is_none());
        Ok(self.finder.get().apply(&utf8(&name), current.as_ref().unwrap_or(module), true)?)
    }
}
