//! Handlers from the user's own code. A plain function takes the target's place: it is called as
//! `handler(original_func, this, *args, **kwargs)`. Handlers of coroutine functions and those that are contexts are
//! driven by `msprof_rs/_handlers/`. Whatever the handler does, the original runs exactly once and the caller gets
//! an outcome of this call.

use std::ptr;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::args::Args;
use super::failure::error;
use super::hooked::{Held, Hook, Hooked, Kind};
use super::interrupt::message;
use super::system;
use crate::recorder;

const NOT_CALLED: &str = "its handler returned without a call of the original, and is taken at its word";

/// A user's handler.
pub(crate) struct Custom {
    /// The handler, or what drives it.
    callable: Py<PyAny>,
    is_driven: bool,
    /// The handler's. A hook lives as long as the process, and CPython empties the globals of living modules alone when
    /// it ends: files are flushed, destructors run.
    _module: Py<PyAny>,
}

impl Custom {
    /// Imports a handler for calls of `target`.
    ///
    /// # Errors
    /// There is none, or it does not fit the target.
    pub(super) fn load(
        module: &str,
        function: &str,
        target: &Bound<'_, PyAny>,
        kind: Kind,
    ) -> PyResult<Self> {
        let py = target.py();
        let module = system::import(py, module)?;
        let handler = module.getattr(function)?;
        let own = system::inspect(py)?.call_method1("getmodule", (&handler,))?;
        let module = if own.is_none() { module.into_any() } else { own };
        if !handler.is_callable() {
            return Err(error::<PyTypeError>("it can't be called"));
        }
        let kind = match kind {
            Kind::Function => "function",
            Kind::Coroutine => "coroutine",
            Kind::Generator => "generator",
            Kind::AsyncGenerator => "async generator",
        };
        let driver =
            system::import(py, "msprof_rs._handlers")?.call_method1("driver", (&handler, target, kind))?;
        let is_driven = !driver.is_none();
        let callable = if is_driven { driver } else { handler }.unbind();
        Ok(Self { callable, is_driven, _module: module.unbind() })
    }
}

/// Calls a function of the profiler's own: no hook acts on what that calls.
#[pyfunction]
#[pyo3(signature = (function, *arguments))]
pub(crate) fn quietly<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let _muted = recorder::mute();
    function.call1(arguments)
}

/// Calls the handler in place of the target; gives what a vectorcall gives.
pub(super) fn call(
    py: Python<'_>,
    custom: &'static Custom,
    hooked: &'static Hooked,
    hook: &'static Hook,
    hooks: &'static [&'static Hook],
    args: Args<'_>,
) -> *mut ffi::PyObject {
    let inner = Inner { hooked: hooked.hold(py), hooks, without_this: args.count() == 0 };
    let outcome = if custom.is_driven {
        drive(py, custom, hook, inner, args)
    } else {
        replace(py, custom, hook, inner, args)
    };
    match outcome {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// The call that is being handled, as it was made.
fn go_on(hooked: &'static Hooked, hooks: &'static [&'static Hook], args: Args<'_>) -> *mut ffi::PyObject {
    let (values, positional, names) = args.raw();
    // SAFETY: the very arguments of a vectorcall that has not returned yet.
    unsafe { hooked.run(hooks, values, positional, names) }
}

/// The call as it goes on inside of the hook.
#[pyclass(frozen, module = "msprof_rs._core", name = "inner")]
struct Inner {
    hooked: Held,
    hooks: &'static [&'static Hook],
    /// The target was called without a positional argument, so the handler's `this` is None and not passed on.
    without_this: bool,
}

#[pymethods]
impl Inner {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let drop_this = self.without_this && args.get_item(0).is_ok_and(|this| this.is_none());
        let mut values: Vec<Bound<'_, PyAny>> = args.iter().skip(usize::from(drop_this)).collect();
        let positional = values.len();
        let mut names = Vec::new();
        for (name, value) in kwargs.into_iter().flat_map(pyo3::types::PyDictMethods::iter) {
            names.push(name);
            values.push(value);
        }
        let names = (!names.is_empty()).then(|| PyTuple::new(py, names)).transpose()?;
        let names = names.as_ref().map_or(std::ptr::null_mut(), pyo3::Bound::as_ptr);
        // SAFETY: a `Bound` is one pointer, so the vector is an array of them; all live until the call has returned.
        unsafe {
            let result = self.hooked.get().run(self.hooks, values.as_ptr().cast(), positional, names);
            Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind)
        }
    }

    /// `original_func.__name__` and the like are those of the target.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.hooked.get().target(py).getattr(name)
    }
}

const _: () = assert!(size_of::<Bound<'static, PyAny>>() == size_of::<*mut ffi::PyObject>());

/// What a driver tells of its handler.
#[pyclass(frozen, module = "msprof_rs._core", name = "report")]
struct Report {
    hook: &'static Hook,
}

#[pymethods]
impl Report {
    fn failed(&self, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        Ok(self.hook.fail(py, &PyErr::from_value(error))?)
    }

    fn not_called(&self) {
        self.hook.say_once(|| NOT_CALLED.into());
    }

    fn not_awaited(&self) {
        self.hook.say_once(|| "its handler does not await the original, which is run after it".into());
    }
}

/// Leaves the call to the handler's driver.
fn drive(
    py: Python<'_>,
    custom: &'static Custom,
    hook: &'static Hook,
    inner: Inner,
    args: Args<'_>,
) -> PyResult<Py<PyAny>> {
    let (hooked, hooks) = (inner.hooked.get(), inner.hooks);
    let made = Bound::new(py, inner).and_then(|inner| Ok((inner, Bound::new(py, Report { hook })?)));
    let (inner, report) = match made {
        Ok((inner, report)) => (inner.into_any(), report.into_any()),
        Err(error) => return without_handler(py, hook, hooked, hooks, args, &error),
    };
    call_with(custom.callable.bind(py), vec![inner, report], args)
}

/// What a handler gets as `original_func`.
#[pyclass(frozen, module = "msprof_rs._core", name = "original")]
struct Original {
    inner: Inner,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// How far the one run of the original has come.
enum Progress {
    NotCalled,
    /// In this thread, which need not be the handler's.
    Running(usize),
    Done(PyResult<Py<PyAny>>),
    /// The hooked call has returned. Nothing is kept: an exception's frames hold the `Original`, which would hold it.
    Over,
}

#[pymethods]
impl Original {
    /// The first call runs the original, later ones give its outcome again.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.once(py, || self.inner.__call__(py, args, kwargs))
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.inner.__getattr__(py, name)
    }
}

impl Original {
    fn once(&self, py: Python<'_>, run: impl FnOnce() -> PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let this_thread = this_thread();
        loop {
            let mut progress = self.progress.lock();
            match &*progress {
                Progress::NotCalled => {
                    *progress = Progress::Running(this_thread);
                    break;
                }
                Progress::Running(thread) if *thread == this_thread => {
                    return Err(error::<PyRuntimeError>(
                        "the original function is still running in this call",
                    ));
                }
                Progress::Running(_) => {
                    drop(progress);
                    py.detach(|| self.wait());
                }
                Progress::Done(outcome) => return copy(py, outcome),
                Progress::Over => {
                    let problem = "the call that this original function belongs to is over";
                    return Err(error::<PyRuntimeError>(problem));
                }
            }
        }
        let outcome = run();
        let kept = copy(py, &outcome); // not under the lock: to complete an exception may run Python
        let mut progress = self.progress.lock();
        if let Progress::Running(_) = &*progress {
            *progress = Progress::Done(kept);
        }
        self.changed.notify_all();
        outcome
    }

    /// Until it does not run any more. Without the interpreter's lock, which the running thread needs.
    fn wait(&self) {
        self.changed.wait_while(&mut self.progress.lock(), |now| matches!(now, Progress::Running(_)));
    }

    fn was_called(&self) -> bool {
        !matches!(&*self.progress.lock(), Progress::NotCalled)
    }

    /// Whether it is the original's own exception.
    fn raised(&self, py: Python<'_>, error: &PyErr) -> bool {
        matches!(&*self.progress.lock(), Progress::Done(Err(own)) if own.value(py).is(error.value(py)))
    }

    /// The call is over.
    fn close(&self) {
        let last = std::mem::replace(&mut *self.progress.lock(), Progress::Over);
        self.changed.notify_all();
        // Not under the lock: this may run a destructor, and that anything.
        drop(last);
    }
}

/// What tells a thread from all others that are alive, also while it ends (then `thread::current` panics).
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| ptr::from_ref(place).addr())
}

fn copy(py: Python<'_>, outcome: &PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(result) => Ok(result.clone_ref(py)),
        Err(error) => Err(error.clone_ref(py)),
    }
}

/// Calls a function handler in the target's place.
fn replace(
    py: Python<'_>,
    custom: &'static Custom,
    hook: &'static Hook,
    inner: Inner,
    args: Args<'_>,
) -> PyResult<Py<PyAny>> {
    let original = Original { inner, progress: Mutex::new(Progress::NotCalled), changed: Condvar::new() };
    let (hooked, hooks) = (original.inner.hooked.get(), original.inner.hooks);
    let original = match Bound::new(py, original) {
        Ok(original) => original,
        Err(error) => return without_handler(py, hook, hooked, hooks, args, &error),
    };
    let mut leading = vec![original.clone().into_any()];
    if args.count() == 0 {
        leading.push(py.None().into_bound(py));
    }
    let result = call_with(custom.callable.bind(py), leading, args);
    let original = original.get();
    if result.is_ok() && !original.was_called() {
        hook.say_once(|| NOT_CALLED.into());
    }
    let outcome = result.or_else(|error| original.after_failure(py, hook, error, args));
    original.close();
    outcome
}

impl Original {
    /// The call's outcome after the handler has raised.
    fn after_failure(
        &self,
        py: Python<'_>,
        hook: &'static Hook,
        error: PyErr,
        args: Args<'_>,
    ) -> PyResult<Py<PyAny>> {
        // Interrupts and exits are nobody's failure, and no reason to begin with the original.
        if !error.is_instance_of::<PyException>(py) || self.raised(py, &error) {
            return Err(error);
        }
        hook.fail(py, &error)?;
        if let Some(interruption) = interruption(py, error) {
            return Err(interruption);
        }
        self.once(py, || {
            let result = go_on(self.inner.hooked.get(), self.inner.hooks, args);
            // SAFETY: a new reference or null with an exception set, as every call gives.
            unsafe { Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind) }
        })
    }
}

/// The interrupt or the like that `error` came up while handling; None for one that it was raised from.
fn interruption(py: Python<'_>, mut error: PyErr) -> Option<PyErr> {
    while error.cause(py).is_none() {
        error = error.context(py)?;
        if !error.is_instance_of::<PyException>(py) {
            return Some(error);
        }
    }
    None
}

/// The call, where there is no memory to leave it to the handler.
#[cold]
fn without_handler(
    py: Python<'_>,
    hook: &'static Hook,
    hooked: &'static Hooked,
    hooks: &'static [&'static Hook],
    args: Args<'_>,
    error: &PyErr,
) -> PyResult<Py<PyAny>> {
    let problem = message(py, error)?;
    hook.say_once(|| format!("a call went past its handler, which could not be called: {problem}"));
    let result = go_on(hooked, hooks, args);
    // SAFETY: a new reference or null with an exception set, as every call gives.
    unsafe { Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind) }
}

/// Calls with `leading` before the arguments of the call that is being handled.
fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    leading: Vec<Bound<'py, PyAny>>,
    args: Args<'_>,
) -> PyResult<Py<PyAny>> {
    let py = callable.py();
    let mut values = leading;
    let positional = values.len() + args.count();
    values.extend(args.values(py).map(pyo3::Borrowed::to_owned));
    let names = args.names(py).map_or(std::ptr::null_mut(), pyo3::Borrowed::as_ptr);
    // SAFETY: as in `Inner::__call__`; the names are those of the values at the end.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), values.as_ptr().cast(), positional, names);
        Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind)
    }
}
