//! The methods by which Python runs a [`Step`].

use std::ptr;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyAttributeError, PyBaseException, PyGeneratorExit};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::ending::{Ending, Outcome};
use super::slots::stop;
use super::step::Step;
use super::thrown;
use crate::hook::failure::error;

#[pymethods]
impl Step {
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
        let mut result = ptr::null_mut();
        // SAFETY: the value is alive; no exception is set when CPython calls a method.
        let step = unsafe { self.advance(py, value.as_ptr(), &raw mut result) };
        // SAFETY: a new reference, or null with an exception set.
        let result = unsafe { Bound::from_owned_ptr_or_err(py, result) }?;
        match step {
            ffi::PySendResult::PYGEN_RETURN => {
                stop(&result);
                Err(PyErr::fetch(py))
            }
            _ => Ok(result),
        }
    }

    /// Whether this exception was thrown at the caller, and not raised by the original. The next step throws it into that.
    fn takes(&self, error: Bound<'_, PyBaseException>) -> PyResult<bool> {
        if self.has_ended() {
            return Ok(false);
        }
        thrown::without_own_frame(&error)?;
        self.thrown.put(error);
        Ok(true)
    }

    /// `throw`, where there is one: see `__getattr__`.
    #[pyo3(signature = (*error))]
    fn throw_on<'py>(&self, py: Python<'py>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let (outcome, ticks) = self.run(py, || self.target(py).call_method1(intern!(py, "throw"), error))?;
        match &outcome {
            Ok(_) => self.yielded(ticks),
            Err(error) => self.raised(py, ticks, error).map_err(|interrupt| interrupt.after(py, error))?,
        }
        outcome
    }

    /// What stands before this gets a `GeneratorExit` next, for the original: it may be no end.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.stands_alone {
            return Ok(py.None().into_bound(py));
        }
        let (outcome, ticks) = self.run(py, || self.target(py).call_method0(intern!(py, "close")))?;
        match &outcome {
            Ok(_) => self.end(py, ticks, Outcome::Closed)?,
            Err(error) => {
                let ended = self.end(py, ticks, Outcome::Raised(error));
                ended.map_err(|interrupt| interrupt.after(py, error))?;
            }
        }
        outcome
    }

    fn asend<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().closing.store(false, Ordering::Relaxed);
        Ok(Self::to_await(slf, slf.get().inner.bind(py).call_method1(intern!(py, "asend"), (value,))?))
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::asend(slf, slf.py().None().into_bound(slf.py()))
    }

    #[pyo3(signature = (*error))]
    fn athrow<'py>(slf: &Bound<'py, Self>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let (py, step) = (slf.py(), slf.get());
        let mut is_exit = false;
        if !step.stands_alone
            && let Ok(error) = error.get_item(0)?.cast::<PyBaseException>()
        {
            thrown::without_own_frame(error)?;
            is_exit = error.is_instance_of::<PyGeneratorExit>();
        }
        step.closing.store(is_exit, Ordering::Relaxed);
        Ok(Self::to_await(slf, step.inner.bind(py).call_method1(intern!(py, "athrow"), error)?))
    }

    fn aclose<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().closing.store(true, Ordering::Relaxed);
        Ok(Self::to_await(slf, slf.get().inner.bind(py).call_method0(intern!(py, "aclose"))?))
    }

    /// `cr_frame`, `cr_await`, `gi_frame` … are those of what is followed: debuggers walk along them.
    ///
    /// CPython finds a `throw` only where the original takes its arguments unchecked.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (py, step) = (slf.py(), slf.get());
        let original = step.inner.bind(py);
        if name != "throw" {
            return original.getattr(name);
        }
        if step.stands_alone || thrown::throws_on(original)? {
            slf.getattr(intern!(py, "throw_on"))
        } else {
            Err(error::<PyAttributeError>("throw"))
        }
    }

    /// There is no `__clear__`: coroutines have none either, the cycle is broken elsewhere.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inner)?;
        self.thrown.traverse(&visit)?;
        // Whoever holds a lock is alive, and so is this.
        for held in [&self.awaited, &self.value] {
            if let Some(held) = held.try_lock() {
                visit.call(&*held)?;
            }
        }
        if let Some(ending) = self.ending.try_lock()
            && let Some(Ending::Timer(_, Some(args), _) | Ending::Block(_, Some(args), _)) = &*ending
        {
            args.traverse(&visit)?;
        }
        Ok(())
    }
}
