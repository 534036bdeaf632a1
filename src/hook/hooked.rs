//! A hook: one entry of the symbol table on one function. And the function with all hooks that are on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::args::Args;
use super::call::Call;
use super::custom::Custom;
use super::evaluate::Evaluated;
use super::follow::Trampoline;
use super::interrupt::{self, Attempt, Interrupt};
use crate::clock::{self, Ticks};
use crate::event::{Attributes, Label};
use crate::recorder::{self, Gate};

/// A handler that fails so often is not called any more; the plain timer takes its place.
const MOST_FAILURES: u32 = 5;

/// One entry of the symbol table on one function.
pub(crate) struct Hook {
    /// The number of the entry in its file.
    pub(super) entry: usize,
    pub(super) label: Label,
    pub(super) gate: &'static Gate,
    /// Only calls below a function of this name count.
    pub(super) caller: Option<String>,
    /// Only calls of this object count: the function is `__call__` of its class.
    pub(super) object: Option<Py<PyAny>>,
    pub(super) action: Action,
    /// A timer of all plain calls that looks at nothing: the short way.
    pub(super) is_plain_timer: bool,
    /// What ends the timer's span.
    pub(super) until: Until,
    /// Of so many calls one is recorded.
    pub(super) sample: u32,
    pub(super) calls: AtomicU32,
    /// A call that takes longer asks for a dump.
    pub(super) dump_over: Option<Duration>,
    /// `module:Class.method`, for messages.
    pub(super) symbol: String,
    pub(super) failures: AtomicU32,
    /// Whether [`Hook::say_once`] has spoken.
    pub(super) has_spoken: AtomicBool,
}

/// How far a hook follows what a call returns.
pub(super) enum Until {
    /// Not at all.
    Return,
    /// It is a coroutine or generator: to its end.
    End(Trampoline),
    /// It is a future: until it is done. A coroutine instead is followed by this.
    Done(Trampoline),
    /// It is a context manager: until its `with` block is left.
    Exit,
}

/// What a hook does around the call.
pub(crate) enum Action {
    /// A span, with attributes evaluated after the call.
    Timer(Vec<Evaluated>),
    /// A built-in handler.
    BuiltIn(Handler),
    /// A handler from the user's own code.
    Custom(Custom),
}

/// A built-in handler. It calls [`Call::proceed`] where the original has its place; one that does not, or that fails
/// before it, has the original run after it all the same.
pub(crate) type Handler = fn(&mut Call<'_, '_>) -> PyResult<()>;

/// What a call of the function gives: its result, or something that has still to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Coroutine,
    Generator,
    AsyncGenerator,
}

impl Kind {
    /// What `inspect` says of a callable.
    pub(super) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let inspect = callable.py().import("inspect")?;
        let is = |question: &str| inspect.call_method1(question, (callable,))?.is_truthy();
        Ok(if is("iscoroutinefunction")? {
            Self::Coroutine
        } else if is("isasyncgenfunction")? {
            Self::AsyncGenerator
        } else if is("isgeneratorfunction")? {
            Self::Generator
        } else {
            Self::Function
        })
    }
}

/// A function and the hooks on it. Lives as long as the process: calls may run through it at any time.
pub(crate) struct Hooked {
    /// What was there before: the entry and the object that it is called with.
    pub(super) entry: ffi::vectorcallfunc,
    pub(super) target: *mut ffi::PyObject,
    /// A list that is leaked when another takes its place: a call may be running through it.
    hooks: AtomicPtr<Hooks>,
}

/// The hooks on a function in file order: later ones are outside.
type Hooks = Vec<&'static Hook>;

// SAFETY: the target is a strong reference that is never given up, and everything else is immutable or atomic.
unsafe impl Send for Hooked {}
// SAFETY: as above.
unsafe impl Sync for Hooked {}

impl Hooked {
    /// No hooks yet. Keeps `callable` alive from now on. `is_method`: it stands directly in a class.
    pub(super) fn new(callable: &Bound<'_, PyAny>, is_method: bool) -> &'static Self {
        let target = callable.clone().into_ptr();
        // SAFETY: alive; the entry is null for what has no vectorcall.
        let entry = unsafe {
            if is_method && binds_in_its_own_way(target) {
                call_bound
            } else {
                ffi::PyVectorcall_Function(target).unwrap_or(call_object)
            }
        };
        let hooks = AtomicPtr::new(Box::into_raw(Box::default()));
        Box::leak(Box::new(Self { entry, target, hooks }))
    }

    /// The hooks, innermost first.
    #[inline]
    pub(super) fn hooks(&self) -> &'static [&'static Hook] {
        // SAFETY: never null, and no list is ever freed.
        unsafe { &*self.hooks.load(Ordering::Acquire) }
    }

    /// Adds a hook at its place in the order of the file; not a second time for the same entry.
    pub(super) fn add(&self, hook: &'static Hook) {
        // Two threads may import modules that have the same function.
        static WRITER: Mutex<()> = Mutex::new(());
        let _only = WRITER.lock();
        let mut hooks = self.hooks().to_vec();
        if let Err(place) = hooks.binary_search_by_key(&hook.entry, |hook| hook.entry) {
            hooks.insert(place, hook);
            self.set_hooks(hooks);
        }
    }

    /// Puts a list of hooks in place of the one that is there. Calls that are on their way keep theirs.
    pub(super) fn set_hooks(&self, hooks: Hooks) {
        self.hooks.store(Box::into_raw(Box::new(hooks)), Ordering::Release);
    }

    /// The function itself.
    pub(super) fn target<'py>(&self, py: Python<'py>) -> Borrowed<'static, 'py, PyAny> {
        // SAFETY: the reference is never given up.
        unsafe { Borrowed::from_ptr(py, self.target) }
    }
}

/// Calls what has no vectorcall of its own.
unsafe extern "C" fn call_object(
    callable: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the arguments of a vectorcall, passed on.
    unsafe { ffi::PyObject_Vectorcall(callable, args, nargsf, names) }
}

/// Whether calling it with the instance first may be something else than binding it and calling the result: objects
/// of `wrapt`, for instance, do different things.
unsafe fn binds_in_its_own_way(callable: *mut ffi::PyObject) -> bool {
    // SAFETY: callers have a living object.
    unsafe {
        let kind = ffi::Py_TYPE(callable);
        (*kind).tp_descr_get.is_some()
            && ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_METHOD_DESCRIPTOR as _) == 0
    }
}

/// Binds to the first argument, as an access by attribute does, and calls the result with the others.
unsafe extern "C" fn call_bound(
    callable: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the arguments of a vectorcall; all but the first are passed on.
    unsafe {
        let count = nargsf & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let Some(bind) = (*ffi::Py_TYPE(callable)).tp_descr_get.filter(|_| count > 0) else {
            return ffi::PyObject_Vectorcall(callable, args, nargsf, names);
        };
        let bound = bind(callable, *args, ffi::Py_TYPE(*args).cast());
        if bound.is_null() {
            return bound;
        }
        let result = ffi::PyObject_Vectorcall(bound, args.add(1), count - 1, names);
        ffi::Py_DECREF(bound);
        result
    }
}

impl Hook {
    /// Evaluates a timer's attributes. One that fails is left out.
    ///
    /// # Errors
    /// It was interrupted: those that come after are not evaluated.
    pub(super) fn evaluate(
        &self,
        py: Python<'_>,
        attributes: &[Evaluated],
        args: Args<'_>,
        result: Option<Borrowed<'_, '_, PyAny>>,
        buffer: &mut Attributes,
    ) -> Result<(), Interrupt> {
        let _muted = recorder::mute();
        for attribute in attributes {
            let mark = buffer.mark();
            let outcome = catch_unwind(AssertUnwindSafe(|| attribute.append(py, args, result, buffer)));
            if matches!(outcome, Ok(Ok(()))) {
                continue;
            }
            buffer.truncate(mark);
            let outcome = outcome.unwrap_or_else(|_| Err(a_defect()));
            if let Err(error) = outcome.unless_interrupted(py)? {
                attribute.report(py, &self.symbol, &error)?;
            }
        }
        Ok(())
    }

    /// Whether this call is one of those that are not recorded.
    #[inline]
    pub(super) fn leaves_out(&self) -> bool {
        self.sample > 1 && !self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.sample)
    }

    /// Asks for a dump if what ran from `start` to `end` took too long.
    pub(super) fn watch_duration(&self, start: Ticks, end: Ticks) {
        let Some(limit) = self.dump_over else { return };
        let took = clock::duration(end.0.saturating_sub(start.0));
        if u128::from(took.0) > limit.as_nanos() {
            recorder::ask_for_dump(|| {
                let took = took.0 as f64 / 1e6;
                format!("{} took {took:.1} ms; dump_over is {limit:?}", self.symbol)
            });
        }
    }

    /// Tells once for the hook what could not be done.
    pub(super) fn say_once(&self, message: impl FnOnce() -> String) {
        if !self.has_spoken.swap(true, Ordering::Relaxed) {
            log::warn!("{}: {}; this is said once", self.symbol, message());
        }
    }

    /// Whether the timer has taken the handler's place.
    pub(super) fn is_retired(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= MOST_FAILURES
    }

    /// Runs a handler's own code: an exception or a panic is counted and logged, and goes no further.
    ///
    /// # Errors
    /// It was interrupted.
    pub(super) fn guard(&self, py: Python<'_>, run: impl FnOnce() -> PyResult<()>) -> Result<(), Interrupt> {
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(a_defect()));
        match outcome.unless_interrupted(py)? {
            Ok(()) => Ok(()),
            Err(error) => self.fail(py, &error),
        }
    }

    /// Counts a failure of the handler; the last one that counts has the traceback.
    ///
    /// # Errors
    /// The exception was asked for its text, and that was interrupted.
    pub(super) fn fail(&self, py: Python<'_>, error: &PyErr) -> Result<(), Interrupt> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures > MOST_FAILURES {
            return Ok(());
        }
        let _muted = recorder::mute();
        let problem = interrupt::message(py, error)?;
        if failures < MOST_FAILURES {
            log::warn!("{}: its handler failed: {problem}", self.symbol);
            return Ok(());
        }
        let traceback = error.traceback(py).map(|traceback| traceback.format().optional(py)).transpose()?;
        log::error!(
            "{}: its handler has failed {failures} times and is not called any more, the timer takes its place: \
             {problem}\n{}",
            self.symbol,
            traceback.flatten().unwrap_or_default()
        );
        Ok(())
    }
}

/// What is said of a panic.
fn a_defect() -> PyErr {
    PyRuntimeError::new_err("a defect in msprof_rs")
}
