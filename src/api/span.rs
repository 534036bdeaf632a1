//! `with msprof_rs.span("name", …) as s:`, `msprof_rs.event(…)`, `msprof_rs.counter(…)`.

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use super::labels::{Known, label};
use crate::clock::Ticks;
use crate::event::Attributes;
use crate::hook::{append_error, append_value, with_buffer};
use crate::recorder::{self, AsyncOpen, Open};

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
    running: Option<Running>,
    attributes: Vec<u8>,
}

/// A span that has begun.
enum Running {
    /// On this thread, around what else runs on it.
    Nested(Open),
    /// In a task: others run in between.
    Free(AsyncOpen),
}

impl Running {
    fn begin(py: Python<'_>, known: Known) -> Option<Self> {
        if is_in_event_loop(py) {
            recorder::async_begin(known.label, Ticks::now()).map(Self::Free)
        } else {
            recorder::begin(known.label).map(Self::Nested)
        }
    }

    fn end(self, known: Known, attributes: &[u8]) {
        let ticks = Ticks::now();
        match self {
            Self::Nested(open) => recorder::end(open, known.label, ticks, attributes),
            Self::Free(open) => recorder::async_end(open, known.label, ticks, attributes),
        }
    }
}

/// Begins nothing yet: the span is that of the `with` block.
#[pyfunction]
#[pyo3(signature = (name, /, *, domain=None, rid=None, level=INFO, **attributes))]
pub(crate) fn span<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    domain: Option<&Bound<'py, PyString>>,
    rid: Option<&Bound<'py, PyAny>>,
    level: u32,
    attributes: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Span>> {
    static OFF: PyOnceLock<Py<Span>> = PyOnceLock::new();
    let known = if recorder::is_recording() { collected(py, domain, name, level)? } else { None };
    if known.is_none() {
        let off = || Py::new(py, Span { known: None, state: Mutex::default() });
        return Ok(OFF.get_or_try_init(py, off)?.bind(py).clone());
    }
    let state = State { running: None, attributes: encoded(rid, attributes) };
    Bound::new(py, Span { known, state: Mutex::new(state) })
}

/// The label, if its events are collected.
fn collected(
    py: Python<'_>,
    domain: Option<&Bound<'_, PyString>>,
    name: &Bound<'_, PyString>,
    level: u32,
) -> PyResult<Option<Known>> {
    let known = label(domain.unwrap_or(intern!(py, "Default")), name, level)?;
    Ok(known.gate.is_open().then_some(known))
}

fn encoded(rid: Option<&Bound<'_, PyAny>>, attributes: Option<&Bound<'_, PyDict>>) -> Vec<u8> {
    let mut buffer = Attributes::default();
    append_all(&mut buffer, rid, attributes);
    buffer.into_bytes()
}

fn append_all(
    buffer: &mut Attributes,
    rid: Option<&Bound<'_, PyAny>>,
    attributes: Option<&Bound<'_, PyDict>>,
) {
    if let Some(rid) = rid {
        append(buffer, "rid", rid);
    }
    for (key, value) in attributes.into_iter().flat_map(pyo3::types::PyDictMethods::iter) {
        if let Ok(key) = key.cast::<PyString>() {
            append(buffer, &key.to_string_lossy(), &value);
        }
    }
}

/// Appends an attribute. A value that can't be told (its `str()` raises) is left out.
pub(super) fn append(buffer: &mut Attributes, key: &str, value: &Bound<'_, PyAny>) {
    let mark = buffer.mark();
    buffer.key_text(key);
    if let Err(error) = append_value(buffer, value) {
        buffer.truncate(mark);
        log::debug!("the attribute {key} is left out: {error}");
    }
}

/// Whether an event loop runs on this thread: then spans of several tasks may overlap.
fn is_in_event_loop(py: Python<'_>) -> bool {
    static ASKS: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    static LOADED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    use std::sync::atomic::Ordering;
    // As long as nobody has imported asyncio there is no loop.
    if !LOADED.load(Ordering::Relaxed) {
        let modules = py.import(intern!(py, "sys")).and_then(|sys| sys.getattr(intern!(py, "modules")));
        if !modules.is_ok_and(|modules| modules.contains(intern!(py, "asyncio")).unwrap_or(false)) {
            return false;
        }
        LOADED.store(true, Ordering::Relaxed);
    }
    let ask = ASKS.get_or_init(py, || {
        let asyncio = py.import("asyncio.events").ok()?;
        Some(asyncio.getattr("_get_running_loop").ok()?.unbind())
    });
    ask.as_ref().is_some_and(|ask| ask.bind(py).call0().is_ok_and(|running| !running.is_none()))
}

#[pymethods]
impl Span {
    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        if let Some(known) = slf.get().known {
            let running = Running::begin(slf.py(), known);
            slf.get().state.lock().running = running;
        }
        slf
    }

    #[pyo3(signature = (kind, error, trace, /))]
    fn __exit__(&self, kind: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>, trace: &Bound<'_, PyAny>) {
        let _ = (kind, trace); // the protocol's
        let Some(known) = self.known else { return };
        let State { running, attributes } = std::mem::take(&mut *self.state.lock());
        let Some(running) = running else { return };
        if error.is_none() {
            return running.end(known, &attributes);
        }
        let mut attributes = Attributes::from_bytes(attributes);
        append_error(&mut attributes, &PyErr::from_value(error.clone()), error.py());
        running.end(known, attributes.as_bytes());
    }

    fn __setitem__(&self, key: &str, value: &Bound<'_, PyAny>) {
        if self.known.is_some() {
            // Not locked while the value is asked for its text.
            let mut buffer = Attributes::default();
            append(&mut buffer, key, value);
            self.state.lock().attributes.extend_from_slice(buffer.as_bytes());
        }
    }
}

/// Records that something happens now.
#[pyfunction]
#[pyo3(signature = (name, /, *, domain=None, rid=None, level=INFO, **attributes))]
pub(crate) fn event(
    py: Python<'_>,
    name: &Bound<'_, PyString>,
    domain: Option<&Bound<'_, PyString>>,
    rid: Option<&Bound<'_, PyAny>>,
    level: u32,
    attributes: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    if !recorder::is_recording() {
        return Ok(());
    }
    if let Some(known) = collected(py, domain, name, level)? {
        let ticks = Ticks::now();
        with_buffer(|buffer| {
            append_all(buffer, rid, attributes);
            recorder::instant(known.label, ticks, buffer.as_bytes());
        });
    }
    Ok(())
}

/// Records the value that something has now.
#[pyfunction]
#[pyo3(signature = (name, value, /, *, domain=None, level=INFO))]
pub(crate) fn counter(
    py: Python<'_>,
    name: &Bound<'_, PyString>,
    value: f64,
    domain: Option<&Bound<'_, PyString>>,
    level: u32,
) -> PyResult<()> {
    if recorder::is_recording()
        && let Some(known) = collected(py, domain, name, level)?
    {
        recorder::counter(known.label, Ticks::now(), value);
    }
    Ok(())
}
