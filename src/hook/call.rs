//! One call of a hooked function: the hooks around it, outermost last, and the original in the middle, which runs
//! exactly once. All state of a call lives on its stack.

use std::ptr;

use once_cell::sync::Lazy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::args::Args;
use super::custom;
use super::evaluate::{self, Evaluated};
use super::failure::{caught, error};
use super::follow::{self, Ending};
use super::hooked::{Action, Handler, Hook, Hooked, Until};
use super::pending::{self, Pending};
use super::receiver::Receiver;
use super::stack;
use crate::clock::Ticks;
use crate::event::{Attributes, Label, Name};
use crate::recorder;

impl Hooked {
    /// The call, as CPython makes it.
    ///
    /// # Safety
    /// The arguments are those of a vectorcall, the interpreter's lock is held, no exception is set.
    #[inline]
    pub(super) unsafe fn call(
        &'static self,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: passed on.
        unsafe { self.run(self.hooks(), args, nargsf, names) }
    }

    /// The call through these hooks, the innermost of all that are on it.
    ///
    /// # Safety
    /// As [`Hooked::call`].
    pub(super) unsafe fn run(
        &'static self,
        hooks: &'static [&'static Hook],
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: passed on; the target is alive.
        unsafe {
            let Some((hook, inner)) = hooks.split_last() else {
                return self.call_original(args, nargsf, names);
            };
            if !hook.gate.is_open() {
                return self.run(inner, args, nargsf, names);
            }
            if !hook.is_plain_timer {
                if hook.passes_by(Args::new(args, nargsf, names)) {
                    return self.run(inner, args, nargsf, names);
                }
                return self.run_full(hook, inner, args, nargsf, names);
            }
            let open = recorder::begin(hook.label);
            // One hook is the rule: its call should not go round again.
            let result = if inner.is_empty() {
                self.call_original(args, nargsf, names)
            } else {
                self.run(inner, args, nargsf, names)
            };
            if let Some(open) = open {
                let ticks = Ticks::now();
                if result.is_null() {
                    end_with_error(open, hook.label, ticks);
                } else {
                    recorder::end(open, hook.label, ticks, &[]);
                }
            }
            result
        }
    }

    /// A hook that looks at arguments or result.
    #[inline(never)]
    unsafe fn run_full(
        &'static self,
        hook: &'static Hook,
        inner: &'static [&'static Hook],
        values: *const *mut ffi::PyObject,
        nargsf: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: the arguments live as long as the call.
        let args = unsafe { Args::new(values, nargsf, names) };
        // SAFETY: passed on.
        let mut original = || unsafe { self.run(inner, values, nargsf, names) };
        let mut start = hook.dump_over.map(|_| Ticks::now());
        // PyO3 has to know that it is attached: else it puts off the release of references that are dropped here.
        let outcome = Python::try_attach(|py| {
            let _held = self.hold(py);
            let is_left_out =
                |name| !caught(py, || Ok(stack::is_below(py, name))).unwrap_or(false) || hook.leaves_out();
            if hook.caller.as_deref().is_some_and(is_left_out) {
                start = None;
                return original();
            }
            match &hook.action {
                _ if hook.is_retired() => hook.time(py, &[], args, &mut original),
                Action::Timer(attributes) => hook.time(py, attributes, args, &mut original),
                Action::BuiltIn(handler) => hook.hand_over(py, *handler, args, &mut original),
                Action::Custom(custom) => custom::call(py, custom, self, hook, inner, args),
            }
        });
        let result = outcome.unwrap_or_else(original); // the interpreter is ending
        if let Some(start) = start
            && matches!(hook.until, Until::Return)
        {
            hook.watch_duration(start, Ticks::now());
        }
        result
    }
}

/// Runs what is inside of a hook: gives a new reference, or null with an exception set.
type Original<'a> = &'a mut dyn FnMut() -> *mut ffi::PyObject;

impl Hook {
    /// Whether this call goes on without a look at it. Apart, so that plain calls don't pay for the thread-locals.
    #[inline(never)]
    fn passes_by(&self, args: Args<'_>) -> bool {
        // SAFETY: a call has the interpreter's lock.
        let is_of = |receiver: &Receiver| receiver.is_of(unsafe { Python::assume_attached() }, args);
        // What our own code calls is not the program's doing, and may be what that very code is about.
        recorder::is_muted()
            || !self.receiver.as_ref().is_none_or(is_of)
            || (self.caller.is_none() && self.leaves_out())
            || !stack::has_room()
    }

    /// Records a span of the call, or of what it makes.
    #[inline(never)]
    fn time(
        &'static self,
        py: Python<'_>,
        attributes: &'static [Evaluated],
        args: Args<'_>,
        original: Original<'_>,
    ) -> *mut ffi::PyObject {
        if !matches!(self.until, Until::Return) {
            return self.time_what_is_made(py, attributes, args, original);
        }
        let open = recorder::begin(self.label);
        let result = original();
        match open {
            Some(open) => self.record_call(py, open, attributes, args, result),
            None => result,
        }
    }

    /// Ends the span of a call that gave this result, or null with an exception set; gives what the caller gets.
    ///
    /// Apart from what runs the call, as is all that follows it: recursion should not take its stack too.
    #[inline(never)]
    fn record_call(
        &'static self,
        py: Python<'_>,
        open: recorder::Open,
        attributes: &'static [Evaluated],
        args: Args<'_>,
        result: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        let ticks = Ticks::now();
        // SAFETY: null, or a reference that is ours until it is the caller's.
        let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
        let pending = result.is_none().then(|| Pending::set_aside(py));
        let evaluated = with_buffer(|buffer| {
            if let Some(kind) = pending.as_ref().and_then(Pending::kind) {
                append_kind(buffer, &kind);
            }
            let returned = result.as_ref().map(Bound::as_borrowed);
            let evaluated = self.evaluate(py, attributes, args, returned, buffer);
            recorder::end(open, self.label, ticks, buffer.as_bytes());
            evaluated
        });
        if let Err(interrupt) = evaluated {
            drop(result);
            match pending {
                Some(pending) => pending.give_way_to(interrupt),
                None => interrupt.restore(py),
            }
            return ptr::null_mut();
        }
        result.map_or(ptr::null_mut(), Bound::into_ptr)
    }

    /// A call whose span may last longer than it does.
    #[inline(never)]
    fn time_what_is_made(
        &'static self,
        py: Python<'_>,
        attributes: &'static [Evaluated],
        args: Args<'_>,
        original: Original<'_>,
    ) -> *mut ffi::PyObject {
        let begun = match self.until {
            Until::Done(_) => recorder::async_begin(self.label, Ticks::now()),
            Until::Return | Until::End(_) | Until::Exit => None,
        };
        // SAFETY: what `Original` gives.
        let Some(made) = (unsafe { Bound::from_owned_ptr_or_opt(py, original()) }) else {
            if let Some(open) = begun {
                let pending = Pending::set_aside(py);
                if let Err(interrupt) = follow::record_failure(py, self, attributes, args, open, &pending) {
                    pending.give_way_to(interrupt);
                }
            }
            return ptr::null_mut();
        };
        let kept = (!attributes.is_empty()).then(|| evaluate::kept(py, attributes, args));
        let followed = match (&self.until, begun) {
            (Until::End(trampoline), _) => {
                trampoline.follow(made, self, Ending::Timer(attributes, kept, None))
            }
            (Until::Done(trampoline), Some(open)) => {
                follow::future(made, self, trampoline, attributes, kept, open)
            }
            (Until::Exit, _) => follow::context(made, self, attributes, kept),
            (Until::Done(_), None) | (Until::Return, _) => Ok(made),
        };
        into_result(py, followed.map_err(PyErr::from))
    }

    /// Leaves the call to a built-in handler.
    #[inline(never)]
    fn hand_over(
        &'static self,
        py: Python<'_>,
        handler: Handler,
        args: Args<'_>,
        original: Original<'_>,
    ) -> *mut ffi::PyObject {
        let is_followed = matches!(self.until, Until::End(_));
        let mut call = Call { py, args, original, outcome: None, follow: None, is_followed };
        let handled = {
            let _muted = recorder::mute();
            self.guard(py, || handler(&mut call))
        };
        if let Err(interrupt) = handled {
            // If it came before the original, that does not begin any more.
            let interrupt = match call.error() {
                Some(error) => interrupt.after(py, error),
                None => interrupt,
            };
            drop(call);
            return into_result(py, Err(interrupt.into()));
        }
        call.proceed();
        let follow = call.follow.take();
        let outcome = match (call.into_outcome(), follow, &self.until) {
            (Ok(made), Some(ending), Until::End(trampoline)) => {
                trampoline.follow(made, self, ending).map_err(PyErr::from)
            }
            (outcome, ..) => outcome,
        };
        into_result(py, outcome)
    }
}

/// As a vectorcall gives it.
fn into_result(py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match outcome {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// A call in the hands of a built-in handler.
pub(crate) struct Call<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) args: Args<'a>,
    original: Original<'a>,
    outcome: Option<PyResult<Bound<'py, PyAny>>>,
    follow: Option<Ending>,
    is_followed: bool,
}

impl<'a, 'py> Call<'a, 'py> {
    /// The instance whose method was called.
    ///
    /// # Errors
    /// There is no positional argument.
    pub(crate) fn this(&self) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        self.args
            .positional(self.py, 0)
            .ok_or_else(|| error::<pyo3::exceptions::PyTypeError>("called without an instance"))
    }

    /// Runs the original; later calls give the first outcome again. None: it raised.
    pub(crate) fn proceed(&mut self) -> Option<&Bound<'py, PyAny>> {
        if self.outcome.is_none() {
            let result = recorder::unmuted(|| (self.original)());
            // SAFETY: a new reference or null with an exception set, as every call gives.
            self.outcome = Some(unsafe { Bound::from_owned_ptr_or_err(self.py, result) });
        }
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok())
    }

    /// The exception that the original raised.
    pub(crate) fn error(&self) -> Option<&PyErr> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err())
    }

    /// Whether the original makes a coroutine or a generator, which [`Call::when_ended`] can follow.
    pub(crate) fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// Has `ending` run when the coroutine that the original returns has ended.
    pub(crate) fn when_ended(&mut self, ending: Ending) {
        self.follow = Some(ending);
    }

    /// Has the caller get this object, which stands for what the original returned.
    pub(crate) fn replace_result(&mut self, result: Bound<'py, PyAny>) {
        self.outcome = Some(Ok(result));
    }

    fn into_outcome(self) -> PyResult<Bound<'py, PyAny>> {
        self.outcome
            .unwrap_or_else(|| Err(error::<pyo3::exceptions::PySystemError>("the original did not run")))
    }
}

/// The span of a call that raised, with the exception's type; the exception stays set.
#[cold]
fn end_with_error(open: recorder::Open, label: Label, ticks: Ticks) {
    // SAFETY: the interpreter's lock is held; gives a borrowed type, or null.
    let kind = unsafe {
        let py = Python::assume_attached();
        Borrowed::from_ptr_or_opt(py, ffi::PyErr_Occurred()).map(|kind| kind.cast_unchecked::<PyType>())
    };
    with_buffer(|buffer| {
        if let Some(kind) = kind {
            append_kind(buffer, &kind);
        }
        recorder::end(open, label, ticks, buffer.as_bytes());
    });
}

/// The attribute `error`: the exception's type.
pub(crate) fn append_error(buffer: &mut Attributes, error: &PyErr, py: Python<'_>) {
    append_kind(buffer, &error.get_type(py));
}

/// As [`append_error`], of the type itself.
pub(super) fn append_kind(buffer: &mut Attributes, kind: &Bound<'_, PyType>) {
    static ERROR: Lazy<Name> = Lazy::new(|| Name::new("error"));
    buffer.key(*ERROR).str(&pending::name(kind));
}

thread_local! {
    static BUFFER: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// An empty attribute list in memory that is used again. Nested use (evaluation that calls a hooked function) takes
/// memory of its own.
pub(crate) fn with_buffer<R>(use_it: impl FnOnce(&mut Attributes) -> R) -> R {
    // A thread that has given up its own data still runs destructors, and they may run Python.
    let mut buffer = Attributes::reuse(BUFFER.try_with(std::cell::Cell::take).unwrap_or_default());
    let outcome = use_it(&mut buffer);
    let _ = BUFFER.try_with(|place| place.set(buffer.into_bytes()));
    outcome
}
