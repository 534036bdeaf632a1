//! `Profiler` as msServiceProfiler has it, for the handlers and programs that were written for that.

use std::array;

use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::harmless::{self, complete, harmless};
use super::labels::label;
use super::spans::{append, append_as};
use crate::clock::Ticks;
use crate::config::Level;
use crate::event::{Attributes, Label};
use crate::hook::{self, Content, text_of, utf8, with_buffer};
use crate::recorder::{self, AsyncOpen};

type This<'py> = Bound<'py, Profiler>;
/// Arguments by position.
type Given<'a, 'py> = &'a Bound<'py, PyTuple>;
/// Arguments by keyword.
type Named<'a, 'py> = &'a Bound<'py, PyDict>;

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
        let known = label(&domain, &PyString::intern(py, name), self.level);
        // Without a domain, no filter of domains applies.
        (self.domain.is_none() || known.gate.is_open()).then_some(known.label)
    }

    fn event(&mut self, py: Python<'_>, name: &str) {
        if let Some(label) = self.label(py, name) {
            recorder::instant(label, Ticks::now(), self.attributes.as_bytes());
        }
    }
}

/// The arguments that a method has names for; None where one was not given, or None was.
fn arguments<'py, const N: usize>(
    names: [&str; N],
    given: Given<'_, 'py>,
    named: Option<Named<'_, 'py>>,
) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
    let first = array::from_fn(|at| given.get_item(at).ok().filter(|value| !value.is_none()));
    complete(names, first, &given.get_slice(N, given.len().max(N)), named)
}

impl Profiler {
    /// Does what a method is for, where the call makes sense; gives the object itself.
    fn quietly<'py, const N: usize>(
        slf: This<'py>,
        method: &'static str,
        names: [&str; N],
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
        act: impl FnOnce(&This<'py>, [Option<Bound<'py, PyAny>>; N]) -> PyResult<()>,
    ) -> PyResult<This<'py>> {
        harmless(slf.py(), method, || act(&slf, arguments(names, given, named)?), || ())?;
        Ok(slf)
    }

    /// Changes what is collected, if it is.
    fn with<'py>(slf: &Bound<'py, Self>, change: impl FnOnce(Python<'py>, &mut State)) {
        let mut state = slf.get().0.lock();
        if state.enabled {
            change(slf.py(), &mut state);
        }
    }

    /// Ends the span that has begun.
    fn end(slf: &Bound<'_, Self>) {
        let ticks = Ticks::now();
        Self::with(slf, |_, state| {
            if let Some((open, label)) = state.open.take() {
                recorder::async_end(open, label, ticks, state.attributes.as_bytes());
            }
        });
    }

    /// Adds an attribute. The lock is not held while the value is asked for its text.
    fn add(slf: &Bound<'_, Self>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if !slf.get().0.lock().enabled {
            return Ok(());
        }
        let mut one = Attributes::default();
        append(&mut one, key, value)?;
        Self::with(slf, |_, state| {
            let mut all = std::mem::take(&mut state.attributes).into_bytes();
            all.extend_from_slice(one.as_bytes());
            state.attributes = Attributes::from_bytes(all);
        });
        Ok(())
    }

    /// Adds an attribute whose name is made of the one that was given.
    fn add_named<'py>(
        slf: &Bound<'py, Self>,
        name: Option<&Bound<'py, PyAny>>,
        key: impl FnOnce(&str) -> String,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let name = utf8(harmless::name(name)?);
        Self::add(slf, &key(&name), value.unwrap_or(&slf.py().None().into_bound(slf.py())))
    }
}

// Each takes whatever it is given, and sorts it out itself, so that no call of it raises.
#[pymethods]
impl Profiler {
    /// Decides now whether this level is collected.
    #[new]
    #[pyo3(signature = (*given, **named), text_signature = "(level)")]
    fn new<'py>(py: Python<'py>, given: Given<'_, 'py>, named: Option<Named<'_, 'py>>) -> PyResult<Self> {
        let read = || {
            let [level] = arguments(["level"], given, named)?;
            let level = level.ok_or_else(|| hook::error::<PyTypeError>("the level is missing"))?.extract()?;
            Ok((level, recorder::collects(Level::new(level))))
        };
        let (level, enabled) = harmless(py, "Profiler", read, || (0, false))?;
        let attributes = Attributes::default();
        Ok(Self(Mutex::new(State { enabled, level, domain: None, attributes, open: None })))
    }

    /// Sets the domain; nothing is recorded if that is not collected.
    #[pyo3(signature = (*given, **named), text_signature = "($self, domain)")]
    fn domain<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.domain", ["domain"], given, named, |slf, [domain]| {
            let domain = harmless::text(domain.as_ref(), "domain")?.clone().unbind();
            Self::with(slf, |py, state| {
                state.domain = Some(domain);
                state.enabled = state.label(py, "").is_some();
            });
            Ok(())
        })
    }

    /// Sets an attribute.
    #[pyo3(signature = (*given, **named), text_signature = "($self, key, value)")]
    fn attr<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.attr", ["key", "value"], given, named, |slf, [key, value]| {
            Self::add_named(slf, key.as_ref(), str::to_owned, value.as_ref())
        })
    }

    /// Sets the resource: the id of a request, or a list of them.
    #[pyo3(signature = (*given, **named), text_signature = "($self, resource)")]
    fn res<'py>(slf: This<'py>, given: Given<'_, 'py>, named: Option<Named<'_, 'py>>) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.res", ["resource"], given, named, |slf, [resource]| {
            let none = slf.py().None().into_bound(slf.py());
            Self::add(slf, "rid", &resource.unwrap_or(none))
        })
    }

    /// States the value of a metric.
    #[pyo3(signature = (*given, **named), text_signature = "($self, name, value)")]
    fn metric<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.metric", ["name", "value"], given, named, |slf, [name, value]| {
            Self::add_named(slf, name.as_ref(), |name| format!("{name}="), value.as_ref())
        })
    }

    /// States by how much a metric has grown.
    #[pyo3(signature = (*given, **named), text_signature = "($self, name, value)")]
    fn metric_inc<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.metric_inc", ["name", "value"], given, named, |slf, [name, value]| {
            Self::add_named(slf, name.as_ref(), |name| format!("{name}+"), value.as_ref())
        })
    }

    /// States what the metrics are of.
    #[pyo3(signature = (*given, **named), text_signature = "($self, name, value=None)")]
    fn metric_scope<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.metric_scope", ["name", "value"], given, named, |slf, [name, value]| {
            let zero = 0i64.into_pyobject(slf.py())?.into_any();
            Self::add_named(slf, name.as_ref(), |name| format!("scope#{name}"), Some(&value.unwrap_or(zero)))
        })
    }

    /// The metrics are of each request.
    #[pyo3(signature = (*given, **named), text_signature = "($self)")]
    fn metric_scope_as_req_id<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.metric_scope_as_req_id", [], given, named, |slf, []| {
            Self::add(slf, "scope#", PyString::intern(slf.py(), "req").as_any())
        })
    }

    /// Records the event `Launch`.
    #[pyo3(signature = (*given, **named), text_signature = "($self)")]
    fn launch<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.launch", [], given, named, |slf, []| {
            Self::with(slf, |py, state| state.event(py, "Launch"));
            Ok(())
        })
    }

    /// Records that two ids are of the same request.
    #[pyo3(signature = (*given, **named), text_signature = "($self, from_rid, to_rid)")]
    fn link<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(
            slf,
            "Profiler.link",
            ["from_rid", "to_rid"],
            given,
            named,
            |slf, [from_rid, to_rid]| {
                let mut ends = Attributes::default();
                for (end, rid) in [("from", from_rid), ("to", to_rid)] {
                    let rid = rid.ok_or_else(|| hook::error::<PyTypeError>("an id is missing"))?;
                    append_as(&mut ends, end, &rid, Content::RequestIds)?;
                }
                Self::with(slf, |py, state| {
                    state.attributes = ends;
                    state.event(py, "Link");
                });
                Ok(())
            },
        )
    }

    /// Records an event.
    #[pyo3(signature = (*given, **named), text_signature = "($self, name)")]
    fn event<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.event", ["name"], given, named, |slf, [name]| {
            let name = utf8(harmless::name(name.as_ref())?);
            Self::with(slf, |py, state| state.event(py, &name));
            Ok(())
        })
    }

    /// Begins a span.
    #[pyo3(signature = (*given, **named), text_signature = "($self, name)")]
    fn span_start<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.span_start", ["name"], given, named, |slf, [name]| {
            let name = utf8(harmless::name(name.as_ref())?);
            Self::with(slf, |py, state| {
                if let Some(label) = state.label(py, &name) {
                    state.open = recorder::async_begin(label, Ticks::now()).map(|open| (open, label));
                }
            });
            Ok(())
        })
    }

    /// Ends it; where none has begun, or a second time, nothing happens.
    #[pyo3(signature = (*given, **named), text_signature = "($self)")]
    fn span_end<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.span_end", [], given, named, |slf, []| {
            Self::end(slf);
            Ok(())
        })
    }

    /// Records a fact about the process.
    #[pyo3(signature = (*given, **named), text_signature = "($self, key, value)")]
    fn add_meta_info<'py>(
        slf: This<'py>,
        given: Given<'_, 'py>,
        named: Option<Named<'_, 'py>>,
    ) -> PyResult<This<'py>> {
        Self::quietly(slf, "Profiler.add_meta_info", ["key", "value"], given, named, |slf, [key, value]| {
            let key = utf8(harmless::text(key.as_ref(), "name")?);
            let none = slf.py().None().into_bound(slf.py());
            let text = {
                let _muted = recorder::mute();
                text_of(&value.unwrap_or(none))?
            };
            Self::with(slf, |_, _| {
                with_buffer(|buffer| {
                    buffer.key_text(&key).str(&utf8(&text));
                    recorder::meta(Label::new(crate::trace::META_DOMAIN, "user"), buffer.as_bytes());
                });
            });
            Ok(())
        })
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

    #[pyo3(signature = (*_error, **_unknown))]
    fn __exit__(
        slf: Bound<'_, Self>,
        _error: &Bound<'_, PyTuple>,
        _unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let end = || {
            Self::end(&slf);
            Ok(())
        };
        harmless(slf.py(), "Profiler.__exit__", end, || ())
    }
}
