//! `Executor.execute_model`: the span of a step's computation, up to the moment when its result is there.

use once_cell::sync::Lazy;
use pyo3::intern;
use pyo3::prelude::*;

use super::batch::Batch;
use super::{BATCH_SIZE, label};
use crate::clock::Ticks;
use crate::event::{Attributes, Label};
use crate::hook::{Call, append_error, with_buffer};
use crate::recorder::{self, AsyncOpen};

/// `execute_model(self, scheduler_output, …)`. With asynchronous scheduling it gives a future at once, and the
/// next step begins before this one ends: so the span is one that may overlap others.
pub(in crate::handlers) fn execute_model(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let output = call.args.get(1, intern!(py, "scheduler_output"));
    let batch = output.map(|output| attributes(&output.to_owned())).transpose()?.flatten();
    let Some(batch) = batch else {
        call.proceed();
        return Ok(());
    };
    let label = label!("Execute", "modelExec");
    let Some(open) = recorder::async_begin(label, Ticks::now()) else {
        call.proceed();
        return Ok(());
    };
    let result = call.proceed().cloned();
    let ticks = Ticks::now();
    if let Some(future) = &result
        && future.hasattr(intern!(py, "add_done_callback"))?
    {
        let done = Bound::new(py, Done { label, rest: parking_lot::Mutex::new(Some((open, batch))) })?;
        future.call_method1(intern!(py, "add_done_callback"), (done,))?;
        return Ok(());
    }
    let mut batch = Attributes::from_bytes(batch);
    if let Some(error) = call.error() {
        append_error(&mut batch, error, py);
    }
    recorder::async_end(open, label, ticks, batch.as_bytes());
    recorder::step();
    Ok(())
}

/// The step's attributes, encoded; None where it computes nothing.
fn attributes(output: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let batch = Batch::executed(output)?;
    if batch.is_empty() {
        return Ok(None);
    }
    let tokens: i64 = output.getattr(intern!(output.py(), "total_num_scheduled_tokens"))?.extract()?;
    Ok(Some(with_buffer(|attributes| {
        batch.append(attributes);
        attributes.key(*BATCH_SIZE).int(tokens);
        attributes.as_bytes().to_vec()
    })))
}

/// Called by the future when the step's result is there.
#[pyclass(frozen, module = "msprof_rs._core", name = "step_done")]
struct Done {
    label: Label,
    rest: parking_lot::Mutex<Option<(AsyncOpen, Vec<u8>)>>,
}

#[pymethods]
impl Done {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        let ticks = Ticks::now();
        if let Some((open, attributes)) = self.rest.lock().take() {
            recorder::async_end(open, self.label, ticks, &attributes);
            recorder::step();
        }
    }
}
