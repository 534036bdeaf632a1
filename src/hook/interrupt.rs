//! Exceptions that are not the profiler's to handle: Ctrl-C, `SystemExit`, a cancellation, whatever is no `Exception`.
//! One that comes up while the profiler runs Python code is the program's, and goes on to the caller at once.

use std::ffi::{c_int, c_long, c_void};

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Such an exception on its way to the caller. Only [`Attempt`] tells one from a failure, so none is taken for one.
#[derive(Debug)]
#[must_use = "an interrupt goes on to the caller"]
pub(crate) struct Interrupt(PyErr);

/// What an attempt of the profiler's at something in Python came to.
pub(crate) trait Attempt<T>: Sized {
    /// The value, or what went wrong with the attempt, which is the profiler's to count and tell.
    ///
    /// # Errors
    /// It was interrupted.
    fn unless_interrupted(self, py: Python<'_>) -> Result<PyResult<T>, Interrupt>;

    /// None where the attempt has failed.
    ///
    /// # Errors
    /// It was interrupted.
    fn optional(self, py: Python<'_>) -> Result<Option<T>, Interrupt> {
        Ok(self.unless_interrupted(py)?.ok())
    }
}

impl<T> Attempt<T> for PyResult<T> {
    fn unless_interrupted(self, py: Python<'_>) -> Result<PyResult<T>, Interrupt> {
        match self {
            // A defect of ours looks like an interrupt too.
            Err(error)
                if !error.is_instance_of::<PyException>(py)
                    && !error.is_instance_of::<PanicException>(py) =>
            {
                Err(Interrupt(error))
            }
            outcome => Ok(outcome),
        }
    }
}

impl From<Interrupt> for PyErr {
    fn from(interrupt: Interrupt) -> Self {
        interrupt.0
    }
}

impl Interrupt {
    /// The interrupt of a call that had raised `earlier`, which becomes its context, as it does in an `except` block.
    pub(super) fn after(self, py: Python<'_>, earlier: &PyErr) -> Self {
        let is_in =
            |errors: &[PyErr], error: &PyErr| errors.iter().any(|it| it.value(py).is(error.value(py)));
        let before = with_contexts(py, earlier.clone_ref(py));
        // Both may have come up while the same exception was handled: the chains join there.
        let own = with_contexts(py, self.0.clone_ref(py));
        let own: Vec<_> = own.into_iter().take_while(|error| !is_in(&before, error)).collect();
        if let Some(last) = own.last() {
            last.set_context(py, Some(earlier.clone_ref(py)));
        }
        self
    }

    /// Sets it, for a caller that is given null.
    pub(super) fn restore(self, py: Python<'_>) {
        self.0.restore(py);
    }

    /// For a destructor, out of which nothing can be raised: the thread raises it as soon as it runs Python code again.
    pub(super) fn raise_soon(self, py: Python<'_>) {
        extern "C" fn raise(error: *mut c_void) -> c_int {
            // SAFETY: the reference that `raise_soon` has given away; the interpreter calls this with its lock held.
            let (py, error) = unsafe {
                let py = Python::assume_attached();
                (py, Bound::from_owned_ptr(py, error.cast()))
            };
            PyErr::from_value(error).restore(py);
            -1
        }
        let is_main = rustix::thread::gettid() == rustix::process::getpid();
        if !is_main {
            // SAFETY: a living type, and the calling thread. Another thread can be given no more than the type.
            unsafe {
                let thread = ffi::PyThread_get_thread_ident() as c_long;
                ffi::PyThreadState_SetAsyncExc(thread, self.0.get_type(py).as_ptr());
            }
            return;
        }
        let error = self.0.into_value(py).into_ptr();
        // SAFETY: the function takes the reference, unless it can't be called.
        unsafe {
            if ffi::Py_AddPendingCall(Some(raise), error.cast()) < 0 {
                PyErr::from_value(Bound::from_owned_ptr(py, error)).write_unraisable(py, None);
            }
        }
    }
}

/// An exception, its context, the context of that, and so on; each once.
fn with_contexts(py: Python<'_>, error: PyErr) -> Vec<PyErr> {
    let mut errors = vec![error];
    while let Some(context) = errors.last().and_then(|last| last.context(py))
        && !errors.iter().any(|known| known.value(py).is(context.value(py)))
    {
        errors.push(context);
    }
    errors
}

/// What a failure says of itself, for a message.
///
/// # Errors
/// Asked for it, it was interrupted.
pub(crate) fn message(py: Python<'_>, error: &PyErr) -> Result<String, Interrupt> {
    let kind = super::pending::name(&error.get_type(py)).into_owned();
    let said = error.value(py).str().and_then(|text| Ok(text.to_str()?.to_owned()));
    Ok(match said.optional(py)? {
        Some(text) if text.is_empty() => kind,
        Some(text) => format!("{kind}: {text}"),
        None => kind,
    })
}

/// Whether `text` is `name`, whatever a class derived from `str` makes of that question.
pub(super) fn is_text(text: &Bound<'_, PyString>, name: &Bound<'_, PyString>) -> bool {
    // SAFETY: two living texts, which are compared without running any Python code.
    unsafe { ffi::PyUnicode_Compare(text.as_ptr(), name.as_ptr()) == 0 }
}
