//! `Profiler` as msServiceProfiler has it, for the handlers and programs that were written for that.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::labels::label;
use super::spans::append;
use crate::clock::Ticks;
use crate::config::Level;
use crate::event::{Attributes, Label};
use crate::hook::{Attempt, with_buffer};
use crate::recorder::{self, AsyncOpen};

/// Collects attributes, and records a span or events with them. Every method but the last gives the object itself.
/// When the level is not collected at its construction, or its domain is not, nothing has an effect.
#[pyclass(frozen, module = "msprof_rs", name = "Profiler")]
pub(crate) struct Profiler(Mutex<State>);

struct State {
    enabled: bool,
    level: u32,
    domain: Option<Py<PyString>>,
    attributes: Attributes,
    /// The span that has begun: it may end on another thread, and need not nest.
    open: Option<(AsyncOpen, Label)>,
}

impl State {
    /// Where an event of this name goes; None if it is not collected.
    fn label(&self, py: Python<'_>, name: &str) -> Option<Label> {
        let domain = self.domain.as_ref().map_or_else(|| PyString::intern(py, ""), |it| it.bind(py).clone());
        let known = label(&domain, &PyString::intern(py, name), self.level).ok()?;
        // Without a domain, no filter of domains applies.
        (self.domain.is_none() || known.gate.is_open()).then_some(known.label)
    }

    fn event(&mut self, py: Python<'_>, name: &str) {
        if let Some(label) = self.label(py, name) {
            recorder::instant(label, Ticks::now(), self.attributes.as_bytes());
        }
    }
}

impl Profiler {
    /// Changes what is collected, if it is.
    fn with<'py>(slf: Bound<'py, Self>, change: impl FnOnce(Python<'py>, &mut State)) -> Bound<'py, Self> {
        let mut state = slf.get().0.lock();
        if state.enabled {
            change(slf.py(), &mut state);
        }
        drop(state);
        slf
    }

    /// Adds an attribute. The lock is not held while the value is asked for its text.
    fn add<'py>(slf: Bound<'py, Self>, key: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        if !slf.get().0.lock().enabled {
            return Ok(slf);
        }
        let mut one = Attributes::default();
        append(&mut one, key, value)?;
        Ok(Self::with(slf, |_, state| {
            let mut all = std::mem::take(&mut state.attributes).into_bytes();
            all.extend_from_slice(one.as_bytes());
            state.attributes = Attributes::from_bytes(all);
        }))
    }
}

#[pymethods]
impl Profiler {
    /// Decides now whether this level is collected.
    #[new]
    fn new(level: u32) -> Self {
        let enabled = recorder::collects(Level::new(level));
        let attributes = Attributes::default();
        Self(Mutex::new(State { enabled, level, domain: None, attributes, open: None }))
    }

    /// Sets the domain; nothing is recorded if that is not collected.
    fn domain<'py>(slf: Bound<'py, Self>, domain: &Bound<'py, PyString>) -> Bound<'py, Self> {
        Self::with(slf, |py, state| {
            state.domain = Some(domain.clone().unbind());
            state.enabled = state.label(py, "").is_some();
        })
    }

    /// Sets an attribute.
    fn attr<'py>(slf: Bound<'py, Self>, key: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        Self::add(slf, key, value)
    }

    /// Sets the resource: the id of a request, or a list of them.
    fn res<'py>(slf: Bound<'py, Self>, resource: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        Self::add(slf, "rid", resource)
    }

    /// States the value of a metric.
    fn metric<'py>(
        slf: Bound<'py, Self>,
        name: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::add(slf, &format!("{name}="), value)
    }

    /// States by how much a metric has grown.
    fn metric_inc<'py>(
        slf: Bound<'py, Self>,
        name: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::add(slf, &format!("{name}+"), value)
    }

    /// States what the metrics are of.
    #[pyo3(signature = (name, value=None))]
    fn metric_scope<'py>(
        slf: Bound<'py, Self>,
        name: &str,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let zero = 0i64.into_pyobject(slf.py())?.into_any();
        Self::add(slf, &format!("scope#{name}"), value.unwrap_or(&zero))
    }

    /// The metrics are of each request.
    fn metric_scope_as_req_id(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let req = PyString::intern(slf.py(), "req");
        Self::add(slf, "scope#", req.as_any())
    }

    /// Records the event `Launch`.
    fn launch(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        Self::with(slf, |py, state| state.event(py, "Launch"))
    }

    /// Records that two ids are of the same request.
    fn link<'py>(
        slf: Bound<'py, Self>,
        from_rid: &Bound<'py, PyAny>,
        to_rid: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let mut ends = Attributes::default();
        append(&mut ends, "from", from_rid)?;
        append(&mut ends, "to", to_rid)?;
        Ok(Self::with(slf, |py, state| {
            state.attributes = ends;
            state.event(py, "Link");
        }))
    }

    /// Records an event.
    fn event<'py>(slf: Bound<'py, Self>, name: &str) -> Bound<'py, Self> {
        Self::with(slf, |py, state| state.event(py, name))
    }

    /// Begins a span.
    fn span_start<'py>(slf: Bound<'py, Self>, name: &str) -> Bound<'py, Self> {
        Self::with(slf, |py, state| {
            if let Some(label) = state.label(py, name) {
                state.open = recorder::async_begin(label, Ticks::now()).map(|open| (open, label));
            }
        })
    }

    /// Ends it; where none has begun, or a second time, nothing happens.
    fn span_end(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        let ticks = Ticks::now();
        Self::with(slf, |_, state| {
            if let Some((open, label)) = state.open.take() {
                recorder::async_end(open, label, ticks, state.attributes.as_bytes());
            }
        })
    }

    /// Records a fact about the process.
    fn add_meta_info<'py>(
        slf: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let text = {
            let _muted = recorder::mute();
            value.str().map(|text| text.to_string()).optional(slf.py())?
        };
        Ok(Self::with(slf, |_, _| {
            let Some(text) = text else { return };
            with_buffer(|buffer| {
                buffer.key_text(key).str(&text);
                recorder::meta(Label::new(crate::trace::META_DOMAIN, "user"), buffer.as_bytes());
            });
        }))
    }

    /// Whether anything is recorded.
    #[getter]
    fn enable(&self) -> bool {
        self.0.lock().enabled
    }

    /// Does not begin a span: `with Profiler(…).span_start(…)` does.
    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(slf: Bound<'_, Self>, _error: &Bound<'_, pyo3::types::PyTuple>) {
        Self::span_end(slf);
    }
}
