//! `with msprof_rs.span("name", …) as s:`, `msprof_rs.event(…)`, `msprof_rs.counter(…)`.

use std::ffi::CStr;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::harmless::{self, harmless, tell};
use super::labels::{Known, label};
use crate::clock::Ticks;
use crate::event::{Attributes, Name};
use crate::hook::{
    self, Args, Attempt, Content, Interrupt, append_error, append_value, error, modules, utf8, with_buffer,
};
use crate::recorder::{self, AsyncOpen};

const INFO: u32 = 20;

/// A span of a `with` block. `s["key"] = value` adds an attribute while it runs.
#[pyclass(frozen, module = "msprof_rs", name = "Span")]
pub(crate) struct Span {
    /// None: it is not collected.
    known: Option<Known>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Attributes of every time that it is entered.
    given: Vec<u8>,
    /// One for each time that it was entered and not left: one object may be entered again.
    running: Vec<Running>,
}

/// A span that has begun.
struct Running {
    /// None: nothing was recorded at that time.
    open: Option<AsyncOpen>,
    thread: usize,
    /// Attributes that came since.
    added: Vec<u8>,
}

impl Running {
    /// Whatever a `with` block is in, it may end on another thread or after others that began later: a generator can hold
    /// it, a greenlet can switch. In an event loop that is the rule.
    fn begin(py: Python<'_>, known: Known) -> Result<Self, Interrupt> {
        let open = if recorder::is_muted() {
            None
        } else if is_in_event_loop(py)? {
            recorder::async_begin(known.label, Ticks::now())
        } else {
            recorder::loose_begin(known.label, Ticks::now())
        };
        Ok(Self { open, thread: this_thread(), added: Vec::new() })
    }
}

impl State {
    /// The one that is left: the last that was entered on this thread; else it was handed over from another.
    fn leave(&mut self) -> Option<Running> {
        let here = this_thread();
        let last = self.running.iter().rposition(|running| running.thread == here);
        last.or_else(|| self.running.len().checked_sub(1)).map(|last| self.running.remove(last))
    }
}

/// A number that no other running thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}

/// Adds `span`, `event` and `counter` to the module. They read their arguments as CPython passes them: to have a tuple and a
/// mapping made of them would cost more than all the rest, also while nothing is collected.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for definition in [&SPAN, &EVENT, &COUNTER] {
        // SAFETY: the definition is static, and its function is of the kind that its flags say.
        let function = unsafe {
            let definition = std::ptr::from_ref(&definition.0).cast_mut();
            let function = ffi::PyCFunction_NewEx(definition, std::ptr::null_mut(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(module.py(), function)?
        };
        module.add(function.getattr("__name__")?.cast::<PyString>()?.to_str()?, &function)?;
    }
    Ok(())
}

struct Definition(ffi::PyMethodDef);

// SAFETY: it is never written to.
unsafe impl Sync for Definition {}

static SPAN: Definition = definition(
    c"span",
    span,
    c"span($module, name, /, *, domain=None, rid=None, level=20, **attributes)\n--\n\nA span for a `with` block.",
);

static EVENT: Definition = definition(
    c"event",
    event,
    c"event($module, name, /, *, domain=None, rid=None, level=20, **attributes)\n--\n\nRecords that something happens now.",
);

static COUNTER: Definition = definition(
    c"counter",
    counter,
    c"counter($module, name, value, /, *, domain=None, level=20)\n--\n\nRecords the value that something has now.",
);

const fn definition(
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> Definition {
    Definition(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    })
}

/// Begins nothing yet: the span is that of the `with` block.
unsafe extern "C" fn span(
    _: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let run = |request: &Request<'_, '_>, py| {
        let Some(known) = request.known() else { return off(py) };
        let mut attributes = Attributes::default();
        request.append(py, &mut attributes)?;
        let state = State { given: attributes.into_bytes(), running: Vec::new() };
        Ok(Bound::new(py, Span { known: Some(known), state: Mutex::new(state) })?.into_any())
    };
    // SAFETY: the arguments of this call.
    unsafe { call("span", 1, (args, count, names), run, off) }
}

/// The span that is not collected.
fn off(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static OFF: PyOnceLock<Py<Span>> = PyOnceLock::new();
    let off = OFF.get_or_try_init(py, || Py::new(py, Span { known: None, state: Mutex::default() }))?;
    Ok(off.bind(py).clone().into_any())
}

/// Records that something happens now.
unsafe extern "C" fn event(
    _: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let run = |request: &Request<'_, '_>, py| {
        if let Some(known) = request.known() {
            let ticks = Ticks::now();
            with_buffer(|buffer| {
                let appended = request.append(py, buffer);
                recorder::instant(known.label, ticks, buffer.as_bytes());
                appended
            })?;
        }
        nothing(py)
    };
    // SAFETY: the arguments of this call.
    unsafe { call("event", 1, (args, count, names), run, nothing) }
}

/// Records the value that something has now.
unsafe extern "C" fn counter(
    _: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let run = |request: &Request<'_, '_>, py| {
        request.has_no_attributes(py)?;
        let value =
            request.args.positional(py, 1).ok_or_else(|| error::<PyTypeError>("the value is missing"))?;
        if let Some(known) = request.known() {
            recorder::counter(known.label, Ticks::now(), value.extract()?);
        }
        nothing(py)
    };
    // SAFETY: the arguments of this call.
    unsafe { call("counter", 2, (args, count, names), run, nothing) }
}

#[allow(clippy::unnecessary_wraps)] // it stands in for what can fail
fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(py.None().into_bound(py))
}

/// The frame of all: `run` where something is collected and the call makes sense, else `otherwise`.
///
/// # Safety
/// The arguments are those of a call with `METH_FASTCALL | METH_KEYWORDS`.
unsafe fn call<'py>(
    function: &'static str,
    positional: usize,
    (args, count, names): (*const *mut ffi::PyObject, ffi::Py_ssize_t, *mut ffi::PyObject),
    run: impl Fn(&Request<'_, 'py>, Python<'py>) -> PyResult<Bound<'py, PyAny>>,
    otherwise: fn(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this; the arguments live as long as the call.
    let (py, args) = unsafe { (Python::assume_attached(), Args::new(args, count as usize, names)) };
    let outcome = if recorder::is_recording() && !recorder::is_muted() {
        let attempt = || Request::read(py, args, positional).and_then(|request| run(&request, py)).map(Some);
        harmless(py, function, attempt, || None).and_then(|done| done.map_or_else(|| otherwise(py), Ok))
    } else {
        otherwise(py)
    };
    match outcome {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// What a call asks for.
struct Request<'a, 'py> {
    name: Bound<'py, PyString>,
    domain: Bound<'py, PyString>,
    level: u32,
    args: Args<'a>,
}

impl<'a, 'py> Request<'a, 'py> {
    fn read(py: Python<'py>, args: Args<'a>, positional: usize) -> PyResult<Self> {
        if args.count() > positional {
            return Err(error::<PyTypeError>("there are arguments that it does not take"));
        }
        let given = |name: &Bound<'py, PyString>| args.keyword(name).filter(|value| !value.is_none());
        Ok(Self {
            name: harmless::name(args.positional(py, 0).as_deref())?.clone(),
            domain: match given(intern!(py, "domain")) {
                Some(domain) => harmless::text(Some(&domain), "domain")?.clone(),
                None => intern!(py, "Default").clone(),
            },
            level: given(intern!(py, "level")).map_or(Ok(INFO), pyo3::Borrowed::extract)?,
            args,
        })
    }

    /// The label, if its events are collected.
    fn known(&self) -> Option<Known> {
        let known = label(&self.domain, &self.name, self.level);
        known.gate.is_open().then_some(known)
    }

    /// # Errors
    /// There are keywords that a counter does not take.
    fn has_no_attributes(&self, py: Python<'py>) -> PyResult<()> {
        let taken = [intern!(py, "domain"), intern!(py, "level")];
        let taken = taken.into_iter().filter(|name| self.args.keyword(name).is_some()).count();
        if self.args.names(py).map_or(0, |names| names.len()) > taken {
            return Err(error::<PyTypeError>("there are arguments that it does not take"));
        }
        Ok(())
    }

    fn append(&self, py: Python<'py>, buffer: &mut Attributes) -> Result<(), Interrupt> {
        let Some(names) = self.args.names(py) else { return Ok(()) };
        let values = self.args.values(py).skip(self.args.count());
        for (name, value) in names.iter_borrowed().zip(values) {
            let Ok(name) = name.cast::<PyString>() else { continue };
            let name = utf8(&name);
            let is_none = name == "rid" && value.is_none();
            if name != "domain" && name != "level" && !is_none {
                append(buffer, &name, &value)?;
            }
        }
        Ok(())
    }
}

/// Appends an attribute. A value that can't be told (its `str()` raises) is left out.
///
/// # Errors
/// It was interrupted.
pub(super) fn append(buffer: &mut Attributes, key: &str, value: &Bound<'_, PyAny>) -> Result<(), Interrupt> {
    append_as(buffer, key, value, Content::of(key))
}

/// Appends an attribute with that content.
///
/// # Errors
/// It was interrupted.
pub(super) fn append_as(
    buffer: &mut Attributes,
    key: &str,
    value: &Bound<'_, PyAny>,
    content: Content,
) -> Result<(), Interrupt> {
    // The trace's flows are made of the attribute of that very name.
    static RID: Lazy<Name> = Lazy::new(|| Name::new("rid"));
    let mark = buffer.mark();
    if key == "rid" {
        buffer.key(*RID)
    } else {
        buffer.key_text(key)
    };
    let _muted = recorder::mute();
    let appended = append_value(buffer, value, content);
    if appended.is_err() {
        buffer.truncate(mark);
    }
    if let Err(error) = appended.unless_interrupted(value.py())? {
        tell(value.py(), "", &format!("the attribute {key} is left out"), &error)?;
    }
    Ok(())
}

/// Whether an event loop runs on this thread: then spans of several tasks may overlap.
fn is_in_event_loop(py: Python<'_>) -> Result<bool, Interrupt> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
    let ask = || {
        if let Some(asyncio) = ASYNCIO.get(py) {
            return asyncio.runs_here(py);
        }
        // As long as nobody has imported asyncio there is no loop.
        let modules = MODULES.get_or_try_init(py, || modules(py).map(Bound::unbind))?.bind(py);
        if !modules.contains(intern!(py, "asyncio"))? {
            return Ok(false);
        }
        ASYNCIO.get_or_try_init(py, || Asyncio::find(py))?.runs_here(py)
    };
    let _muted = recorder::mute();
    Ok(ask().optional(py)?.unwrap_or(false))
}

/// What tells whether a loop runs.
struct Asyncio {
    running_loop: Py<PyAny>,
    /// Before CPython 3.12 the function above asks the kernel for the process's id, each time. There this mapping is
    /// looked at first: it is empty as long as no task runs in any thread.
    #[cfg(not(Py_3_12))]
    current_tasks: Py<PyDict>,
}

impl Asyncio {
    fn find(py: Python<'_>) -> PyResult<Self> {
        Ok(Self {
            running_loop: hook::import(py, "asyncio.events")?.getattr("_get_running_loop")?.unbind(),
            #[cfg(not(Py_3_12))]
            current_tasks: hook::import(py, "asyncio.tasks")?
                .getattr("_current_tasks")?
                .cast_into()?
                .unbind(),
        })
    }

    fn runs_here(&self, py: Python<'_>) -> PyResult<bool> {
        #[cfg(not(Py_3_12))]
        {
            thread_local!(static HAS_RUN_ONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
            if self.current_tasks.bind(py).is_empty() {
                return Ok(false);
            }
            if !HAS_RUN_ONE.get() {
                HAS_RUN_ONE.set(!self.running_loop.bind(py).call0()?.is_none());
            }
            Ok(HAS_RUN_ONE.get())
        }
        #[cfg(Py_3_12)]
        Ok(!self.running_loop.bind(py).call0()?.is_none())
    }
}

#[pymethods]
impl Span {
    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if let Some(known) = slf.get().known {
            let running = Running::begin(slf.py(), known)?;
            slf.get().state.lock().running.push(running);
        }
        Ok(slf)
    }

    #[pyo3(signature = (kind=None, error=None, trace=None, /, *rest, **unknown), text_signature = "($self, kind, error, trace, /)")]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        trace: Option<&Bound<'_, PyAny>>,
        rest: &Bound<'_, PyTuple>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let _ = (kind, trace, rest, unknown); // the protocol's, and what it does not have
        let end = || {
            let Some(known) = self.known else { return Ok(()) };
            let ticks = Ticks::now();
            let mut state = self.state.lock();
            let Some(Running { open: Some(open), added, .. }) = state.leave() else { return Ok(()) };
            if added.is_empty() && error.is_none() {
                recorder::async_end(open, known.label, ticks, &state.given);
                return Ok(());
            }
            let mut attributes = Attributes::from_bytes([&state.given[..], &added].concat());
            drop(state); // before Python runs
            if let Some(error) = error {
                append_error(&mut attributes, &PyErr::from_value(error.clone()), py);
            }
            recorder::async_end(open, known.label, ticks, attributes.as_bytes());
            Ok(())
        };
        harmless(py, "Span.__exit__", end, || ())
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.known.is_none() {
            return Ok(());
        }
        let add = || {
            // Not locked while the value is asked for its text.
            let mut buffer = Attributes::default();
            append(&mut buffer, &utf8(harmless::text(Some(key), "attribute's name")?), value)?;
            let mut state = self.state.lock();
            let State { given, running } = &mut *state;
            let attributes = running.last_mut().map_or(given, |running| &mut running.added);
            attributes.extend_from_slice(buffer.as_bytes());
            Ok(())
        };
        harmless(py, "Span.__setitem__", add, || ())
    }
}
