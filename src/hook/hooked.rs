//! A hook: one entry of the symbol table, or a decorator, on one function. And the function with all hooks that are on
//! it.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;

use super::args::Args;
use super::call::Call;
use super::custom::Custom;
use super::evaluate::Evaluated;
use super::failure::{caught, contained};
use super::follow::Trampoline;
use super::interrupt::{self, Attempt, Interrupt};
use super::receiver::Receiver;
use super::system;
use crate::clock::{self, Ticks};
use crate::event::{Attributes, Label};
use crate::printable::indented;
use crate::recorder::{self, Gate};

/// A handler that fails so often is not called any more; the plain timer takes its place.
const MOST_FAILURES: u32 = 5;

/// One entry of the symbol table on one function; or what a decorator puts on all functions of one name.
pub(crate) struct Hook {
    pub(super) origin: Origin,
    pub(super) label: Label,
    pub(super) gate: &'static Gate,
    /// Only calls below a function of this name count.
    pub(super) caller: Option<String>,
    /// Only these calls count: others share the function.
    pub(super) receiver: Option<Receiver>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Function,
    Coroutine,
    Generator,
    AsyncGenerator,
}

impl Kind {
    /// What `inspect` says of a callable.
    pub(super) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let inspect = system::inspect(callable.py())?;
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

/// What is called, and the hooks on it.
///
/// It belongs to an object and goes with it, but its memory is never freed: a call that went through it may still be on
/// its way out when the object dies. It is used again for the next object.
pub(crate) struct Hooked {
    /// What was there before: the entry and the object that it is called with.
    entry: AtomicPtr<()>,
    target: AtomicPtr<ffi::PyObject>,
    /// A list of [`list_of`]: a call may be running through it when another takes its place.
    hooks: AtomicPtr<Hooks>,
    /// What it belongs to, which keeps the target alive.
    owner: AtomicPtr<ffi::PyObject>,
}

/// The hooks on a function, innermost first.
type Hooks = Vec<&'static Hook>;

/// Who has put a hook on a function. What the symbol file names lies inside, in the order of the file; decorators lie
/// outside, in the order in which they were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The entry of the symbol table with this number.
    Symbol(usize),
    /// `msprof_rs.timed`.
    Decorator,
}

/// Those whose objects have died.
static UNUSED: Mutex<Vec<&'static Hooked>> = Mutex::new(Vec::new());

/// Held by whoever changes a list: two threads may import modules that have the same function.
static WRITER: Mutex<()> = Mutex::new(());

impl Hooked {
    /// How `target` is called now; no hooks yet. Whoever owns this keeps the target alive.
    ///
    /// # Safety
    /// `target` is alive.
    pub(super) unsafe fn new(target: *mut ffi::PyObject) -> &'static Self {
        // SAFETY: alive; the entry is null for what has no vectorcall.
        let entry = unsafe { ffi::PyVectorcall_Function(target) }.unwrap_or(call_object);
        Self::with_entry(entry, target)
    }

    fn with_entry(entry: ffi::vectorcallfunc, target: *mut ffi::PyObject) -> &'static Self {
        let hooked = UNUSED.lock().pop().unwrap_or_else(|| {
            let hooks = AtomicPtr::new(list_of(Vec::new()));
            let (entry, target, owner) = Default::default();
            Box::leak(Box::new(Self { entry, target, hooks, owner }))
        });
        hooked.entry.store(entry as *mut (), Ordering::Relaxed);
        hooked.target.store(target, Ordering::Relaxed);
        hooked.belongs_to(target);
        hooked
    }

    /// Names the object that it belongs to, if that is not the target itself.
    pub(super) fn belongs_to(&self, owner: *mut ffi::PyObject) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// For what `target` gave when it was bound to an instance: a call's first argument is the instance, which `bound`
    /// knows already.
    pub(super) fn passing(bound: *mut ffi::PyObject, has_instance: bool) -> &'static Self {
        let entry = if has_instance { call_without_first } else { call_object };
        Self::with_entry(entry, bound)
    }

    /// For what only passes calls on to a function, in whose own way they are seen.
    #[cfg(Py_3_13)]
    pub(super) fn forwarding(function: *mut ffi::PyObject) -> &'static Self {
        Self::with_entry(call_object, function)
    }

    /// The object that it belonged to has died.
    pub(super) fn give_back(&'static self) {
        self.set_hooks(Vec::new());
        UNUSED.lock().push(self);
    }

    /// Calls what was there before.
    ///
    /// # Safety
    /// The arguments are those of a vectorcall, the object that this belongs to is alive.
    #[inline]
    pub(super) unsafe fn call_original(
        &self,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: only `with_entry` sets it, to an entry that goes with the target; the rest is passed on.
        unsafe {
            let entry: ffi::vectorcallfunc = std::mem::transmute(self.entry.load(Ordering::Relaxed));
            entry(self.target.load(Ordering::Relaxed), args, nargsf, names)
        }
    }

    /// The entry that was there before.
    #[cfg(Py_3_12)]
    pub(super) fn entry(&self) -> ffi::vectorcallfunc {
        // SAFETY: only `with_entry` sets it.
        unsafe { std::mem::transmute(self.entry.load(Ordering::Relaxed)) }
    }

    /// The hooks, innermost first.
    #[inline]
    pub(super) fn hooks(&self) -> &'static [&'static Hook] {
        // SAFETY: never null, and no list is ever freed.
        unsafe { &*self.hooks.load(Ordering::Acquire) }
    }

    /// Whether the entry of this number is on it, for these calls.
    pub(super) fn has_symbol(&self, py: Python<'_>, number: usize, receiver: Option<&Receiver>) -> bool {
        self.hooks().iter().any(|hook| hook.is_entry(py, Origin::Symbol(number), receiver))
    }

    /// Whether a decorator's hook is on it.
    pub(super) fn is_decorated(&self) -> bool {
        self.hooks().iter().any(|hook| hook.origin == Origin::Decorator)
    }

    /// Adds the hook of an entry at its place in the order of the file; not a second time for the same calls. The
    /// classes and objects of earlier ones may have gone, as where a module is imported again and a base is another's.
    pub(super) fn add_symbol(&self, py: Python<'_>, hook: Hook) {
        let _only = WRITER.lock();
        let mut hooks = self.hooks().to_vec();
        if hooks.iter().any(|other| other.is_entry(py, hook.origin, hook.receiver.as_ref())) {
            return;
        }
        hooks.retain(|hook| hook.receiver.as_ref().is_none_or(|receiver| receiver.is_there(py)));
        let place = hooks.partition_point(|other| other.origin <= hook.origin);
        hooks.insert(place, Box::leak(Box::new(hook)));
        self.set_hooks(hooks);
    }

    /// Adds the hook of a decorator around all others.
    pub(super) fn add_decorator(&self, hook: &'static Hook) {
        let _only = WRITER.lock();
        let mut hooks = self.hooks().to_vec();
        hooks.push(hook);
        self.set_hooks(hooks);
    }

    /// Takes the entries of the symbol table off. Calls that are on their way keep them.
    pub(super) fn drop_symbols(&self) {
        let _only = WRITER.lock();
        let others = self.hooks().iter().copied().filter(|hook| hook.origin == Origin::Decorator);
        self.set_hooks(others.collect());
    }

    fn set_hooks(&self, hooks: Hooks) {
        self.hooks.store(list_of(hooks), Ordering::Release);
    }

    /// The function itself.
    pub(super) fn target<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, PyAny> {
        // SAFETY: whoever has this knows that the object that it belongs to is alive, which owns the target.
        unsafe { Borrowed::from_ptr(py, self.target.load(Ordering::Relaxed)) }
    }

    /// Keeps it what it is, also if the program lets go of what is hooked in the middle of a call.
    pub(super) fn hold(&'static self, py: Python<'_>) -> Held {
        // SAFETY: whoever has this knows that the object that it belongs to is alive.
        let owner = unsafe { Bound::from_borrowed_ptr(py, self.owner.load(Ordering::Relaxed)) };
        Held { hooked: self, _owner: owner.unbind() }
    }
}

/// A [`Hooked`] that belongs to the same object as long as this is there.
pub(super) struct Held {
    hooked: &'static Hooked,
    _owner: Py<PyAny>,
}

impl Held {
    pub(super) fn get(&self) -> &'static Hooked {
        self.hooked
    }
}

/// The one list of these hooks, which is never freed: there are as many as there are ways to combine hooks, whatever
/// the number of functions that have them.
fn list_of(hooks: Hooks) -> *mut Hooks {
    static LISTS: Mutex<BTreeMap<Vec<usize>, &'static Hooks>> = Mutex::new(BTreeMap::new());
    let key = hooks.iter().map(|hook| ptr::from_ref(*hook).addr()).collect();
    let list = *LISTS.lock().entry(key).or_insert_with(|| Box::leak(Box::new(hooks)));
    ptr::from_ref(list).cast_mut()
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

/// Calls what is bound to the first argument already.
unsafe extern "C" fn call_without_first(
    bound: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let count = nargsf & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: the arguments of a vectorcall; a handler may leave the first one out.
    unsafe {
        ffi::PyObject_Vectorcall(bound, args.add(usize::from(count > 0)), count.saturating_sub(1), names)
    }
}

impl Hook {
    /// Whether it is of this origin, and for the same calls.
    fn is_entry(&self, py: Python<'_>, origin: Origin, receiver: Option<&Receiver>) -> bool {
        let has_receiver = match (&self.receiver, receiver) {
            (None, None) => true,
            (Some(own), Some(other)) => own.is_same(py, other),
            _ => false,
        };
        self.origin == origin && has_receiver
    }

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
            let appended = contained(py, || {
                let appended = caught(py, || attribute.append(py, args, result, buffer));
                if appended.is_err() {
                    buffer.truncate(mark);
                }
                match appended.unless_interrupted(py)? {
                    Ok(()) => Ok(()),
                    Err(error) => attribute.report(py, &self.symbol, &error),
                }
            });
            appended?;
        }
        Ok(())
    }

    /// Whether this call is one of those that `sample` leaves out. Asked once, of a call that nothing else leaves out.
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
        let handled = contained(py, || match caught(py, run).unless_interrupted(py)? {
            Ok(()) => Ok(()),
            Err(error) => self.fail(py, &error),
        });
        handled.map(|_| ())
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
             {problem}{}",
            self.symbol,
            indented(&traceback.flatten().unwrap_or_default())
        );
        Ok(())
    }
}
