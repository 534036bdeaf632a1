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
use crate::recorder::AsyncOpen;

/// Ends the span when `returned` is done: a coroutine, or anything with `add_done_callback`.
pub(in crate::hook) fn future<'py>(
    returned: Bound<'py, PyAny>,
    hook: &'static Hook,
    trampoline: &Trampoline,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
    open: AsyncOpen,
) -> Bound<'py, PyAny> {
    let py = returned.py();
    // SAFETY: alive.
    if unsafe { ffi::PyCoro_CheckExact(returned.as_ptr()) } == 1 {
        let followed = trampoline.follow(returned.clone(), hook, Ending::Timer(attributes, args, Some(open)));
        take_names(&returned, &followed);
        return followed;
    }
    let done = Done { hook, attributes, args, open: Mutex::new(Some(open)) };
    let added = Bound::new(py, done).and_then(|done| {
        let added = returned.call_method1(intern!(py, "add_done_callback"), (&done,));
        if added.is_err() {
            done.get().end(py, Outcome::Returned(&returned)); // nobody will call back
        }
        added
    });
    if let Err(error) = added {
        hook.say_once(|| format!("what it returned is no future, so its span ended with the call: {error}"));
    }
    returned
}

/// The coroutine is not the hooked function's own, so it keeps its own names in `repr` and warnings.
fn take_names(coroutine: &Bound<'_, PyAny>, followed: &Bound<'_, PyAny>) {
    for name in ["__name__", "__qualname__"] {
        let taken = coroutine.getattr(name).and_then(|text| followed.setattr(name, text));
        if let Err(error) = taken {
            log::debug!("a followed coroutine has the name of its function: {error}");
        }
    }
}

/// The callback of a future.
#[pyclass(frozen, module = "msprof_rs._core", name = "done")]
struct Done {
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Option<OwnedArgs>,
    open: Mutex<Option<AsyncOpen>>,
}

impl Done {
    fn end(&self, py: Python<'_>, outcome: Outcome<'_, '_>) {
        let ticks = Ticks::now();
        let Some(open) = self.open.lock().take() else { return };
        ending::record(py, self.hook, (self.attributes, self.args.as_ref()), open, ticks, outcome, None);
    }
}

#[pymethods]
impl Done {
    /// Looks past `result()` and `exception()`: whoever asks these has taken note of the exception, and a future whose
    /// exception nobody took note of says so.
    fn __call__(&self, py: Python<'_>, future: &Bound<'_, PyAny>) {
        let error = future.getattr(intern!(py, "_exception")).ok().filter(|error| !error.is_none());
        let cancelled = future.call_method0(intern!(py, "cancelled"));
        let error = if cancelled.is_ok_and(|cancelled| cancelled.is_truthy().unwrap_or(false)) {
            let kind = py.import("asyncio").and_then(|asyncio| asyncio.getattr("CancelledError")?.call0());
            kind.ok()
        } else {
            error
        };
        if let Some(error) = error {
            return self.end(py, Outcome::Raised(&PyErr::from_value(error)));
        }
        match future.getattr(intern!(py, "_result")) {
            Ok(result) => self.end(py, Outcome::Returned(&result)),
            Err(_) => self.end(py, Outcome::Closed),
        }
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        self.args.as_ref().map_or(Ok(()), |args| args.traverse(&visit))
    }
}
