//! Follows futures: the span of a call ends when what it returned is done.

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::ending::{self, Ending, Outcome};
use super::trampoline::Trampoline;
use crate::clock::Ticks;
use crate::hook::args::OwnedArgs;
use crate::hook::evaluate::Evaluated;
use crate::hook::hooked::Hook;
use crate::hook::interrupt::{Attempt, Interrupt, message};
use crate::hook::system;
use crate::recorder::{self, AsyncOpen};

/// Ends the span when `returned` is done: a coroutine, or anything with `add_done_callback`.
///
/// # Errors
/// It was interrupted.
pub(in crate::hook) fn future<'py>(
    returned: Bound<'py, PyAny>,
    hook: &'static Hook,
    trampoline: &Trampoline,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
    open: AsyncOpen,
) -> Result<Bound<'py, PyAny>, Interrupt> {
    let py = returned.py();
    // SAFETY: alive.
    if unsafe { ffi::PyCoro_CheckExact(returned.as_ptr()) } == 1 {
        let followed =
            trampoline.follow(returned.clone(), hook, Ending::Timer(attributes, args, Some(open)))?;
        take_names(&returned, &followed)?;
        return Ok(followed);
    }
    let done = Done { hook, attributes, open: Mutex::new(Some((open, args))) };
    let added = Bound::new(py, done).and_then(|done| {
        let _muted = recorder::mute();
        let added = returned.call_method1(intern!(py, "add_done_callback"), (&done,));
        if added.is_err() {
            done.get().end(py, Outcome::Returned(&returned))?; // nobody will call back
        }
        added
    });
    if let Err(error) = added.unless_interrupted(py)? {
        let problem = message(py, &error)?;
        hook.say_once(|| {
            format!("what it returned is no future, so its span ended with the call: {problem}")
        });
    }
    Ok(returned)
}

/// The coroutine is not the hooked function's own, so it keeps its own names in `repr` and warnings.
fn take_names(coroutine: &Bound<'_, PyAny>, followed: &Bound<'_, PyAny>) -> Result<(), Interrupt> {
    for name in ["__name__", "__qualname__"] {
        let taken = coroutine.getattr(name).and_then(|text| followed.setattr(name, text));
        taken.optional(coroutine.py())?; // else it has the name of its function
    }
    Ok(())
}

/// The callback of a future.
#[pyclass(frozen, module = "msprof_rs._core", name = "done")]
struct Done {
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    /// Until it is done: there are futures that keep their callbacks for longer.
    open: Mutex<Option<(AsyncOpen, Option<OwnedArgs>)>>,
}

impl Done {
    fn end(&self, py: Python<'_>, outcome: Outcome<'_, '_>) -> Result<(), Interrupt> {
        let ticks = Ticks::now();
        let Some((open, args)) = self.open.lock().take() else { return Ok(()) };
        ending::record(py, self.hook, (self.attributes, args.as_ref()), open, ticks, outcome, None)
    }
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let outcome = {
            let _muted = recorder::mute();
            outcome_of(future)
        };
        Ok(match outcome {
            Ok(Some(Ok(result))) => self.end(py, Outcome::Returned(&result)),
            Ok(Some(Err(error))) => self.end(py, Outcome::Raised(&error)),
            Ok(None) => self.end(py, Outcome::Closed),
            Err(interrupt) => self.end(py, Outcome::Closed).and(Err(interrupt)),
        }?)
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        // Whoever holds the lock is alive, and so is this.
        match self.open.try_lock().as_deref() {
            Some(Some((_, Some(args)))) => args.traverse(&visit),
            _ => Ok(()),
        }
    }
}

/// How a future has ended, as far as it tells.
///
/// Looks past `result()` and `exception()`: whoever asks these has taken note of the exception, and a future whose
/// exception nobody took note of says so.
fn outcome_of<'py>(future: &Bound<'py, PyAny>) -> Result<Option<PyResult<Bound<'py, PyAny>>>, Interrupt> {
    let py = future.py();
    let cancelled = future.call_method0(intern!(py, "cancelled")).and_then(|it| it.is_truthy());
    let error = if cancelled.optional(py)?.unwrap_or(false) {
        let kind =
            system::import(py, "asyncio").and_then(|asyncio| asyncio.getattr("CancelledError")?.call0());
        kind.optional(py)?
    } else {
        let error = future.getattr(intern!(py, "_exception")).optional(py)?;
        error.filter(|error| !error.is_none())
    };
    if let Some(error) = error {
        return Ok(Some(Err(PyErr::from_value(error))));
    }
    Ok(future.getattr(intern!(py, "_result")).optional(py)?.map(Ok))
}
