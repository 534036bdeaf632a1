//! The HTTP server in front of the engine (uvicorn): the span of each request from its arrival, and when the first and
//! the last piece of its answer went out. A request waits for milliseconds on a busy event loop before vLLM gets to
//! it, and so does its answer.

use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use super::record::{self, RID, argument, event};
use crate::clock::Ticks;
use crate::event::{Label, Name};
use crate::hook::{self, Attempt, Call, Ending, Follower, Interrupt, append_error, with_buffer};
use crate::recorder::{self, AsyncOpen};

static REQUEST: Lazy<Label> = Lazy::new(|| Label::new("Server", "httpRequest"));
static SEND: Lazy<Label> = Lazy::new(|| Label::new("Engine", "sendResponse"));
static METHOD: Lazy<Name> = Lazy::new(|| Name::new("method"));
static PATH: Lazy<Name> = Lazy::new(|| Name::new("path"));
static CHUNK: Lazy<Name> = Lazy::new(|| Name::new("chunk"));

/// The context variable that holds the [`Served`] of a task; the tasks that it starts inherit it.
static SERVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The HTTP request that a task serves.
#[pyclass(frozen, module = "msprof_rs._core", name = "served")]
pub(super) struct Served {
    arrival: Ticks,
    /// The engine's requests that it led to: a completion of several prompts makes several.
    requests: Mutex<Vec<String>>,
    answered: AtomicBool,
}

impl Served {
    /// When it arrived.
    pub(super) fn arrival(&self) -> Ticks {
        self.arrival
    }

    /// Notes a request that it leads to.
    pub(super) fn leads_to(&self, rid: &str) {
        self.requests.lock().push(rid.to_owned());
    }

    fn record(&self, chunk: &str) {
        let ticks = Ticks::now();
        for rid in &*self.requests.lock() {
            event(*SEND, ticks, |attributes| {
                attributes.key(*RID).id(rid);
                attributes.key(*CHUNK).str(chunk);
            });
        }
    }
}

/// What the current task serves; None where that is no HTTP request.
pub(super) fn served(py: Python<'_>) -> PyResult<Option<Bound<'_, Served>>> {
    let Some(variable) = SERVED.get(py) else { return Ok(None) };
    let mut value = std::ptr::null_mut();
    // SAFETY: a context variable; gives a new reference, or null where it is not set.
    let value = unsafe {
        if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_opt(py, value)
    };
    Ok(value.and_then(|value| value.cast_into().ok()))
}

/// `async run_asgi(self, app)` of uvicorn's request cycle: one HTTP request, until its response is sent. It is called
/// when the request's first bytes have been parsed, and takes its first step when the event loop gets to it.
pub(super) fn request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let arrival = Ticks::now();
    let open = recorder::async_begin(*REQUEST, arrival);
    let scope = call.this()?.getattr(intern!(py, "scope"))?;
    let text = |key: &str| {
        let text = scope.get_item(key).and_then(|value| record::text(&value)).optional(py)?;
        Ok::<String, Interrupt>(text.unwrap_or_default())
    };
    let request = Request { arrival, method: text("method")?, path: text("path")?, open };
    call.when_ended(Ending::Handler(Box::new(request)));
    Ok(())
}

/// `async send(self, message)` of uvicorn's request cycle: a piece of a response goes out.
pub(super) fn send(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let Some(served) = served(py)? else { return Ok(()) };
    let message = argument(call, 1, intern!(py, "message"))?;
    // The start of a response has no body.
    let Some(body) = message.get_item(intern!(py, "body")).optional(py)? else { return Ok(()) };
    let more = message.get_item(intern!(py, "more_body")).and_then(|more| more.is_truthy());
    if !more.optional(py)?.unwrap_or(false) {
        served.get().record("last");
    } else if body.cast::<PyBytes>().is_ok_and(|body| !body.as_bytes().is_empty())
        && !served.get().answered.swap(true, Ordering::Relaxed)
    {
        served.get().record("first");
    }
    Ok(())
}

struct Request {
    arrival: Ticks,
    method: String,
    path: String,
    open: Option<AsyncOpen>,
}

impl Follower for Request {
    fn started(&mut self, py: Python<'_>) -> PyResult<()> {
        let variable = SERVED.get_or_try_init(py, || {
            let variable = hook::import(py, "contextvars")?.getattr("ContextVar")?;
            PyResult::Ok(variable.call1(("msprof_rs_served",))?.unbind())
        })?;
        let served =
            Served { arrival: self.arrival, requests: Mutex::default(), answered: AtomicBool::new(false) };
        variable.bind(py).call_method1(intern!(py, "set"), (Bound::new(py, served)?,))?;
        Ok(())
    }

    fn ended(
        self: Box<Self>,
        py: Python<'_>,
        outcome: Result<&Bound<'_, PyAny>, &PyErr>,
        ticks: Ticks,
    ) -> PyResult<()> {
        let Some(open) = self.open else { return Ok(()) };
        with_buffer(|attributes| {
            attributes.key(*METHOD).str(&self.method);
            attributes.key(*PATH).str(&self.path);
            if let Err(error) = outcome {
                append_error(attributes, error, py);
            }
            recorder::async_end(open, *REQUEST, ticks, attributes.as_bytes());
        });
        Ok(())
    }
}
