//! `Executor`: the span of a step's computation, from the moment when the workers get it until its tokens are there.
//!
//! With asynchronous scheduling both calls of a step give futures at once, and the next step begins before this one
//! ends. So the span is one that may overlap others, and belongs to a scheduler output, not to a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;

use super::batch::Batch;
use crate::clock::Ticks;
use crate::event::{Attributes, Label};
use crate::handlers::record::{BATCH_SIZE, argument, datum, label, outermost};
use crate::hook::{Attempt, Call, Interrupt, append_error, with_buffer};
use crate::recorder::{self, AsyncOpen};

/// Whether somebody samples in a call of its own (vLLM from 0.11.1 on) and the symbols have that call. Known after
/// the first one.
static SAMPLES_APART: AtomicBool = AtomicBool::new(false);

/// The step whose `execute_model` was called last, for its `sample_tokens`: no other step's comes between.
static LAST: Mutex<Option<Arc<Step>>> = Mutex::new(None);

/// A step's computation, until it has ended.
struct Step(Mutex<Option<Running>>);

struct Running {
    open: AsyncOpen,
    attributes: Vec<u8>,
    /// When the call gave nothing, having left the rest to `sample_tokens`.
    executed: Option<Ticks>,
}

impl Step {
    /// It ends; a second time nothing happens.
    fn end(&self, ticks: Ticks) {
        let Some(running) = self.0.lock().take() else { return };
        recorder::async_end(running.open, label(), ticks, &running.attributes);
        recorder::step();
    }

    /// The model has run. With tokens (or whatever it gives) the step has ended, else they come later.
    fn executed(&self, has_result: bool, ticks: Ticks) {
        if has_result || !SAMPLES_APART.load(Ordering::Relaxed) {
            self.end(ticks);
        } else if let Some(running) = &mut *self.0.lock() {
            running.executed = Some(ticks);
        }
    }

    /// Nobody has sampled for it, so it had ended before.
    fn end_as_executed(&self) {
        let ticks = self.0.lock().as_ref().and_then(|running| running.executed);
        if let Some(ticks) = ticks {
            self.end(ticks);
        }
    }

    fn fail(&self, error: &PyErr, py: Python<'_>, ticks: Ticks) {
        let mut raised = Attributes::default(); // not under the lock: it asks Python
        append_error(&mut raised, error, py);
        if let Some(running) = &mut *self.0.lock() {
            running.attributes.extend_from_slice(raised.as_bytes());
        }
        self.end(ticks);
    }
}

fn label() -> Label {
    label!("Execute", "modelExec")
}

/// `execute_model(self, scheduler_output, …)`.
pub(in crate::handlers) fn execute_model(call: &mut Call<'_, '_>) -> PyResult<()> {
    outermost!();
    let py = call.py;
    let output = argument(call, 1, intern!(py, "scheduler_output"))?;
    let Some(attributes) = attributes(&output)? else { return Ok(()) };
    let Some(open) = recorder::async_begin(label(), Ticks::now()) else { return Ok(()) };
    let step = Arc::new(Step(Mutex::new(Some(Running { open, attributes, executed: None }))));
    if let Some(former) = LAST.lock().replace(step.clone()) {
        former.end_as_executed();
    }
    let result = call.proceed().cloned();
    let ticks = Ticks::now();
    match (result, call.error()) {
        (Some(result), _) => when_done(&result, step, Stage::Execute, ticks)?,
        (None, Some(error)) => step.fail(error, py, ticks),
        (None, None) => {}
    }
    Ok(())
}

/// `sample_tokens(self, grammar_output, …)`: the second half of the step whose `execute_model` came before.
pub(in crate::handlers) fn sample_tokens(call: &mut Call<'_, '_>) -> PyResult<()> {
    SAMPLES_APART.store(true, Ordering::Relaxed);
    let step = LAST.lock().take();
    let Some(result) = call.proceed().cloned() else { return Ok(()) };
    let ticks = Ticks::now();
    step.map_or(Ok(()), |step| when_done(&result, step, Stage::Sample, ticks))
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Execute,
    Sample,
}

/// Has the step end with a call's result, which may be a future of it.
fn when_done(result: &Bound<'_, PyAny>, step: Arc<Step>, stage: Stage, ticks: Ticks) -> PyResult<()> {
    let py = result.py();
    if result.hasattr(intern!(py, "add_done_callback"))? {
        let done = Bound::new(py, Done { step, stage })?;
        result.call_method1(intern!(py, "add_done_callback"), (done,))?;
    } else if stage == Stage::Execute {
        step.executed(!result.is_none(), ticks);
    } else {
        step.end(ticks);
    }
    Ok(())
}

/// The step's attributes, encoded; None where it computes nothing.
fn attributes(output: &Bound<'_, PyAny>) -> Result<Option<Vec<u8>>, Interrupt> {
    let Some(batch) = Batch::executed(output)?.filter(|batch| !batch.is_empty()) else { return Ok(None) };
    let tokens = output.getattr(intern!(output.py(), "total_num_scheduled_tokens"));
    let tokens = tokens.and_then(|tokens| tokens.extract::<i64>());
    let tokens = datum(output.py(), "SchedulerOutput.total_num_scheduled_tokens", tokens)?;
    Ok(Some(with_buffer(|attributes| {
        batch.append(attributes);
        if let Some(tokens) = tokens {
            attributes.key(*BATCH_SIZE).int(tokens);
        }
        attributes.as_bytes().to_vec()
    })))
}

/// Called by a future when its result is there.
#[pyclass(frozen, module = "msprof_rs._core", name = "step_done")]
struct Done {
    step: Arc<Step>,
    stage: Stage,
}

#[pymethods]
impl Done {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let ticks = Ticks::now();
        let py = future.py();
        if self.stage == Stage::Sample {
            self.step.end(ticks);
            return Ok(());
        }
        let _muted = recorder::mute();
        // It is done, so this waits for nothing. What it raises is the future's outcome, unless it is an interrupt;
        // a cancellation looks like one.
        match future.call_method0(intern!(py, "result")) {
            Ok(result) => self.step.executed(!result.is_none(), ticks),
            Err(error) => {
                self.step.fail(&error, py, ticks);
                let cancelled = future.call_method0(intern!(py, "cancelled")).and_then(|it| it.is_truthy());
                if !cancelled.optional(py)?.unwrap_or(false) && !is_own(future, &error)? {
                    Err::<(), _>(error).optional(py)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether an exception is what the future has ended with.
fn is_own(future: &Bound<'_, PyAny>, error: &PyErr) -> Result<bool, Interrupt> {
    let py = future.py();
    let own = future.call_method0(intern!(py, "exception")).optional(py)?;
    Ok(own.is_some_and(|own| own.is(error.value(py))))
}
