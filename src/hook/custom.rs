//! Handlers from the user's own code: `handler(original_func, this, *args, **kwargs)`, called instead of the target.
//! Whatever the handler does, the original runs exactly once and the caller gets a result of this call.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::args::Args;
use super::hooked::{Hook, Hooked};

/// What the handler gets as `original_func`: the call goes on inside. A second call gives the first outcome again.
#[pyclass(frozen, module = "msprof_rs._core", name = "original")]
struct Original {
    hooked: &'static Hooked,
    inner: &'static [&'static Hook],
    /// The target was called without a positional argument, so the handler's `this` is None and not passed on.
    without_this: bool,
    outcome: Mutex<Option<PyResult<Py<PyAny>>>>,
    called: AtomicBool,
}

#[pymethods]
impl Original {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        if self.called.swap(true, Ordering::Relaxed) {
            return match &*self.outcome.lock() {
                Some(Ok(result)) => Ok(result.clone_ref(py)),
                Some(Err(error)) => Err(error.clone_ref(py)),
                None => Err(PyRuntimeError::new_err("the original function is still running in this call")),
            };
        }
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
        let outcome = unsafe {
            let result = self.hooked.run(self.inner, values.as_ptr().cast(), positional, names);
            Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind)
        };
        let kept = match &outcome {
            Ok(result) => Ok(result.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        };
        *self.outcome.lock() = Some(kept);
        outcome
    }

    /// `original_func.__name__` and the like are those of the target.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.hooked.target(py).getattr(name)
    }
}

const _: () = assert!(size_of::<Bound<'static, PyAny>>() == size_of::<*mut ffi::PyObject>());

/// Calls the handler in place of the target; gives what a vectorcall gives.
pub(super) fn call(
    py: Python<'_>,
    hooked: &'static Hooked,
    hook: &'static Hook,
    inner: &'static [&'static Hook],
    handler: &Bound<'_, PyAny>,
    args: Args<'_>,
) -> *mut ffi::PyObject {
    let original = Original {
        hooked,
        inner,
        without_this: args.count() == 0,
        outcome: Mutex::new(None),
        called: AtomicBool::new(false),
    };
    match around(py, hook, handler, args, original) {
        Around::Done(result) => result.into_ptr(),
        Around::Raised(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
        Around::NotCalled => {
            let (values, positional, names) = args.raw();
            // SAFETY: the very arguments of the vectorcall that is being handled.
            unsafe { hooked.run(inner, values, positional, names) }
        }
    }
}

enum Around<'py> {
    Done(Bound<'py, PyAny>),
    Raised(PyErr),
    /// The handler failed before it called the original.
    NotCalled,
}

fn around<'py>(
    py: Python<'py>,
    hook: &'static Hook,
    handler: &Bound<'py, PyAny>,
    args: Args<'_>,
    original: Original,
) -> Around<'py> {
    let original = match Bound::new(py, original) {
        Ok(original) => original,
        Err(error) => {
            hook.fail(py, &error);
            return Around::NotCalled;
        }
    };
    let error = match call_handler(py, handler, &original, args) {
        Ok(result) => return Around::Done(result),
        Err(error) => error,
    };
    match original.get().outcome.lock().take() {
        None => {
            hook.fail(py, &error);
            Around::NotCalled
        }
        Some(Ok(result)) => {
            hook.fail(py, &error);
            Around::Done(result.into_bound(py))
        }
        Some(Err(own)) => {
            // The original's exception that passed through the handler is no failure of the handler.
            if !error.value(py).is(own.value(py)) {
                hook.fail(py, &error);
            }
            Around::Raised(own)
        }
    }
}

fn call_handler<'py>(
    py: Python<'py>,
    handler: &Bound<'py, PyAny>,
    original: &Bound<'py, Original>,
    args: Args<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut values = vec![original.clone().into_any()];
    if args.count() == 0 {
        values.push(py.None().into_bound(py));
    }
    let positional = values.len() + args.count();
    values.extend(args.values(py).map(pyo3::Borrowed::to_owned));
    let names = args.names(py).map_or(std::ptr::null_mut(), pyo3::Borrowed::as_ptr);
    // SAFETY: as in `Original::__call__`; the names are those of the values at the end.
    unsafe {
        let result = ffi::PyObject_Vectorcall(handler.as_ptr(), values.as_ptr().cast(), positional, names);
        Bound::from_owned_ptr_or_err(py, result)
    }
}
