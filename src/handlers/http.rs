//! The HTTP server in front of the engine (uvicorn): the span of each request, and the moment when it arrived. From there
//! to the engine a request may wait for milliseconds, on a busy event loop or for its tokenization.

use once_cell::sync::Lazy;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::clock::Ticks;
use crate::event::{Label, Name};
use crate::hook::{Call, Ending, Follower, append_error, with_buffer};
use crate::recorder::{self, AsyncOpen};

static LABEL: Lazy<Label> = Lazy::new(|| Label::new("Server", "httpRequest"));
static METHOD: Lazy<Name> = Lazy::new(|| Name::new("method"));
static PATH: Lazy<Name> = Lazy::new(|| Name::new("path"));

/// Ticks at the arrival of the HTTP request that the current task serves. The tasks that it starts inherit it.
static ARRIVAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// `async run_asgi(self, app)` of uvicorn's request cycle: one HTTP request, until its response is sent.
pub(super) fn request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let scope = call.this()?.getattr(intern!(py, "scope"))?;
    let text = |key: &str| scope.get_item(key).and_then(|value| value.extract()).unwrap_or_default();
    let request = Request { method: text("method"), path: text("path"), open: None };
    call.when_ended(Ending::Handler(Box::new(request)));
    Ok(())
}

/// When the HTTP request that the current task serves arrived; None where there is none.
pub(super) fn arrival(py: Python<'_>) -> PyResult<Option<Ticks>> {
    let Some(variable) = ARRIVAL.get(py) else { return Ok(None) };
    let mut value = std::ptr::null_mut();
    // SAFETY: a context variable; gives a new reference, or null where it is not set.
    let value = unsafe {
        if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_opt(py, value)
    };
    value.map(|value| value.extract().map(Ticks)).transpose()
}

fn set_arrival(py: Python<'_>, ticks: Ticks) -> PyResult<()> {
    let variable = ARRIVAL.get_or_try_init(py, || {
        let variable = py.import("contextvars")?.getattr("ContextVar")?;
        PyResult::Ok(variable.call1(("msprof_rs_arrival",))?.unbind())
    })?;
    variable.bind(py).call_method1(intern!(py, "set"), (ticks.0,))?;
    Ok(())
}

struct Request {
    method: String,
    path: String,
    open: Option<AsyncOpen>,
}

impl Follower for Request {
    fn started(&mut self, py: Python<'_>) -> PyResult<()> {
        self.open = recorder::async_begin(*LABEL);
        set_arrival(py, Ticks::now())
    }

    fn ended(self: Box<Self>, py: Python<'_>, outcome: Result<&Bound<'_, PyAny>, &PyErr>, ticks: Ticks) {
        let Some(open) = self.open else { return };
        with_buffer(|attributes| {
            attributes.key(*METHOD).str(&self.method);
            attributes.key(*PATH).str(&self.path);
            if let Err(error) = outcome {
                append_error(attributes, error, py);
            }
            recorder::async_end(open, *LABEL, ticks, attributes.as_bytes());
        });
    }
}
