//! Follows a coroutine to its end: calling a coroutine function only makes it, the work is done when it is awaited.

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::args::OwnedArgs;
use super::call::{append_error, with_buffer};
use super::evaluate::Evaluated;
use super::hooked::Hook;
use crate::clock::Ticks;
use crate::recorder::{self, AsyncOpen};

/// What is recorded of a coroutine.
pub(crate) enum Ending {
    /// A span from its first step to its end, with these attributes.
    Timer(&'static [Evaluated], Option<OwnedArgs>),
    /// Whatever a built-in handler makes of it.
    Handler(Box<dyn Follower>),
}

/// A built-in handler's view of a coroutine.
pub(crate) trait Follower: Send {
    /// The coroutine takes its first step now, in the context of the task that runs it.
    fn started(&mut self, py: Python<'_>) -> PyResult<()>;

    /// It has ended: with this result, or with this exception.
    fn ended(self: Box<Self>, py: Python<'_>, outcome: Result<&Bound<'_, PyAny>, &PyErr>, ticks: Ticks);
}

/// A coroutine that passes everything on to the one that it follows. `collections.abc.Coroutine` knows it, so that
/// `asyncio` takes it for one.
#[pyclass(frozen, weakref, module = "msprof_rs._core", name = "coroutine")]
pub(crate) struct FollowedCoroutine {
    inner: Py<PyAny>,
    hook: &'static Hook,
    state: Mutex<State>,
}

struct State {
    started: bool,
    ending: Option<Ending>,
    open: Option<AsyncOpen>,
}

impl FollowedCoroutine {
    /// Follows `coroutine`; gives it back as it is where that fails.
    pub(super) fn wrap<'py>(
        py: Python<'py>,
        coroutine: Bound<'py, PyAny>,
        hook: &'static Hook,
        ending: Ending,
    ) -> Bound<'py, PyAny> {
        let state = Mutex::new(State { started: false, ending: Some(ending), open: None });
        match Bound::new(py, Self { inner: coroutine.clone().unbind(), hook, state }) {
            Ok(followed) => followed.into_any(),
            Err(error) => {
                log::debug!("{}: its coroutine is not followed: {error}", hook.symbol);
                coroutine
            }
        }
    }

    fn begin(&self, py: Python<'_>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.started, true) {
            return;
        }
        match &mut state.ending {
            Some(Ending::Timer(..)) => state.open = recorder::async_begin(self.hook.label),
            Some(Ending::Handler(follower)) => {
                if let Err(error) = follower.started(py) {
                    self.hook.fail(py, &error);
                }
            }
            None => {}
        }
    }

    fn end(&self, py: Python<'_>, outcome: Result<&Bound<'_, PyAny>, &PyErr>) {
        let ticks = Ticks::now();
        let (ending, open) = {
            let mut state = self.state.lock();
            (state.ending.take(), state.open.take())
        };
        match ending {
            Some(Ending::Handler(follower)) => follower.ended(py, outcome, ticks),
            Some(Ending::Timer(attributes, args)) => {
                let Some(open) = open else { return };
                with_buffer(|buffer| {
                    if let Err(error) = outcome {
                        append_error(buffer, error, py);
                    }
                    if let Some(args) = &args {
                        let result = outcome.ok().map(|value| value.as_borrowed());
                        self.hook.evaluate(py, attributes, args.borrow(), result, buffer);
                    }
                    recorder::async_end(open, self.hook.label, ticks, buffer.as_bytes());
                });
            }
            None => {}
        }
    }

    /// A step that raised ended the coroutine, unless it says with `StopIteration` that it returned.
    fn raised(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if error.is_instance_of::<PyStopIteration>(py) {
            let value = error.value(py).getattr("value").unwrap_or_else(|_| py.None().into_bound(py));
            self.end(py, Ok(&value));
        } else {
            self.end(py, Err(&error));
        }
        error
    }
}

#[pymethods]
impl FollowedCoroutine {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py, py.None().into_bound(py))
    }

    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.begin(py);
        let mut result = std::ptr::null_mut();
        // SAFETY: both objects are alive; the result is a new reference or null with an exception set.
        let step = unsafe { ffi::PyIter_Send(self.inner.as_ptr(), value.as_ptr(), &raw mut result) };
        // SAFETY: as above.
        let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
        match (step, result) {
            (ffi::PySendResult::PYGEN_NEXT, Some(awaited)) => Ok(awaited),
            (ffi::PySendResult::PYGEN_RETURN, Some(value)) => {
                self.end(py, Ok(&value));
                Err(PyStopIteration::new_err((value.unbind(),)))
            }
            _ => {
                let error = PyErr::take(py)
                    .unwrap_or_else(|| PyRuntimeError::new_err("a coroutine failed without an exception"));
                Err(self.raised(py, error))
            }
        }
    }

    #[pyo3(signature = (*args))]
    fn throw<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).call_method1("throw", args).map_err(|error| self.raised(py, error))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let outcome = self.inner.bind(py).call_method0("close");
        let closed = PyErr::new::<pyo3::exceptions::PyGeneratorExit, _>(());
        self.end(py, Err(outcome.as_ref().err().unwrap_or(&closed)));
        outcome.map(|_| ())
    }

    /// `cr_frame`, `cr_await`, `__name__` … are those of the coroutine that is followed.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.inner.bind(py).repr()?.to_string())
    }
}
