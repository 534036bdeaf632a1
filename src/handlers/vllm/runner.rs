//! The model runner of a worker: the batch that it runs, what it drafts, and the named parts of its step.

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use rustc_hash::FxHashMap;

use super::batch::Batch;
use super::scheduler::append_accepted;
use crate::clock::Ticks;
use crate::config::Level;
use crate::event::{Attributes, Label};
use crate::handlers::record::{
    ACCEPTED_RATIO, ACCEPTED_RATIO_PER_POS, NUM_SPEC_ACCEPTED_TOKENS, NUM_SPEC_OUTPUT_TOKENS, RID, argument,
    datum, label, outermost, span, text,
};
use crate::hook::{Attempt, Call, Interrupt, append_error, utf8, with_buffer};
use crate::recorder::{self, Gate, Open};

/// Names of parts are the server's; should it make them up without end, the later ones share a label.
const MOST_PARTS: usize = 1000;

/// Parts that there are for each request: more than the default should cost.
const FOR_EACH_REQUEST: &str = "schedule: allocate_slots";

/// `compute_logits`. The reference waits for the device before and after; a profiler should not slow a server down,
/// so this is the time on the CPU.
pub(in crate::handlers) fn compute_logits(call: &mut Call<'_, '_>) -> PyResult<()> {
    span(call, label!("Execute", "computing_logits"), |_, _, _| Ok(()))
}

/// `Sampler.forward`; as above.
pub(in crate::handlers) fn sampler_forward(call: &mut Call<'_, '_>) -> PyResult<()> {
    span(call, label!("Execute", "sample"), |_, _, _| Ok(()))
}

/// `execute_model(self, scheduler_output, …)`: with the requests, and how many drafted tokens of each were accepted
/// where the result says so.
pub(in crate::handlers) fn execute_model_runner(call: &mut Call<'_, '_>) -> PyResult<()> {
    outermost!();
    let output = argument(call, 1, intern!(call.py, "scheduler_output"))?;
    let _running = Running::begin(&output);
    span(call, label!("Execute", "modelRunnerExec"), |_, result, attributes| {
        let py = output.py();
        datum(py, "SchedulerOutput.num_scheduled_tokens", append_requests(&output, attributes))?;
        if let Some(accepted) = accepted(&output, result).optional(py)?.flatten() {
            append_accepted(attributes, &accepted);
        }
        Ok(())
    })
}

/// The scheduler output that the model runs now, for the parts of the step.
static RUNNING: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// As long as it is there, the model runs.
struct Running;

impl Running {
    fn begin(output: &Bound<'_, PyAny>) -> Self {
        let former = RUNNING.lock().replace(output.clone().unbind());
        drop(former); // after the lock, since it may run Python code
        Self
    }

    fn output(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
        RUNNING.lock().as_ref().map(|output| output.bind(py).clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let former = RUNNING.lock().take();
        drop(former);
    }
}

/// `rid` as a list of `{"rid": id}`.
fn append_requests(output: &Bound<'_, PyAny>, attributes: &mut Attributes) -> PyResult<()> {
    append_each(output, attributes, |rid, attributes| {
        attributes.dict(1);
        attributes.key(*RID).id(rid);
    })
}

/// `rid` as a list of ids.
fn append_ids(output: &Bound<'_, PyAny>, attributes: &mut Attributes) -> PyResult<()> {
    append_each(output, attributes, |rid, attributes| attributes.id(rid))
}

fn append_each(
    output: &Bound<'_, PyAny>,
    attributes: &mut Attributes,
    append: impl Fn(&str, &mut Attributes),
) -> PyResult<()> {
    let tokens = output.getattr(intern!(output.py(), "num_scheduled_tokens"))?.cast_into::<PyDict>()?;
    attributes.key(*RID).array(tokens.len());
    for (rid, _) in tokens.iter() {
        // A list that was announced must be as long, so what is no text is nothing.
        append(&rid.cast::<PyString>().map_or_else(|_| "".into(), utf8), attributes);
    }
    Ok(())
}

/// From the tokens of a finished step, where they are on the host. Of each request's tokens the last is the model's.
fn accepted(output: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<Option<Vec<(String, i64)>>> {
    let py = output.py();
    let drafts = output.getattr(intern!(py, "scheduled_spec_decode_tokens"))?;
    if drafts.is_none() || drafts.len()? == 0 {
        return Ok(None);
    }
    let ids = result.getattr(intern!(py, "req_ids"))?.cast_into::<PyList>()?;
    let tokens = result.getattr(intern!(py, "sampled_token_ids"))?.cast_into::<PyList>()?;
    let mut counted = Vec::new();
    for (rid, tokens) in ids.iter().zip(tokens.iter()) {
        let one = || PyResult::Ok((drafts.contains(&rid)?, text(&rid)?, tokens.len()? as i64));
        if let Some((true, rid, count)) = one().optional(py)? {
            counted.push((rid, (count - 1).max(0)));
        }
    }
    Ok(Some(counted))
}

/// `propose_draft_token_ids(self, …, scheduler_output, …)`: drafts for the requests of this step. How many of them
/// will be accepted is known a step later.
pub(in crate::handlers) fn propose_draft_token_ids(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let named = intern!(py, "num_scheduled_tokens");
    let mut batch = Batch::default();
    for value in call.args.values(py) {
        if value.hasattr(named).optional(py)?.unwrap_or(false) {
            batch = Batch::executed(&value)?.unwrap_or_default();
            break;
        }
    }
    span(call, label!("Execute", "specDecoding"), |_, drafts, attributes| {
        if batch.is_empty() {
            return Ok(());
        }
        attributes.key(*RID).array(batch.entries().len());
        for (index, entry) in batch.entries().iter().enumerate() {
            let count = drafted(drafts, index).optional(py)?;
            entry.append(attributes, 1 + usize::from(count.is_some()));
            if let Some(count) = count {
                attributes.key(*NUM_SPEC_OUTPUT_TOKENS).int(count);
            }
            attributes.key(*NUM_SPEC_ACCEPTED_TOKENS).int(0);
        }
        batch.append_type(attributes);
        attributes.key(*ACCEPTED_RATIO).double(0.0);
        attributes.key(*ACCEPTED_RATIO_PER_POS).dict(0);
        Ok(())
    })
}

/// Tokens that were drafted for a request: the lists may differ in length, a tensor has as many for all.
fn drafted(drafts: &Bound<'_, PyAny>, index: usize) -> PyResult<i64> {
    if let Ok(lists) = drafts.cast::<PyList>() {
        return Ok(lists.get_item(index)?.len()? as i64);
    }
    drafts.getattr(intern!(drafts.py(), "shape"))?.get_item(1)?.extract()
}

/// `rejection_sample(…)`: the reference looks at its result, which waits for the device. What was accepted is known
/// without that, from [`execute_model_runner`] or the scheduler.
pub(in crate::handlers) fn capture_rejection_output(_: &mut Call<'_, '_>) -> PyResult<()> {
    Ok(())
}

/// `record_function_or_nullcontext(name)` and `capture_async(self, duration_tag)` give a context manager for a part
/// of a step; its `with` block is the span.
pub(in crate::handlers) fn part(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    // The function has the name alone; the method has it behind the instance.
    let name = call.args.values(py).find_map(|value| value.to_owned().cast_into::<PyString>().ok());
    let name = datum(py, "the name of a part", name.ok_or_else(|| missing("name")))?;
    let Some(name) = name else { return Ok(()) };
    let name = &*utf8(&name);
    if name == FOR_EACH_REQUEST && !detailed().is_open() {
        return Ok(());
    }
    let label = part_label(name);
    let is_forward = name == "forward" || name.ends_with(": forward");
    if let Some(manager) = call.proceed().cloned() {
        let part = Part { manager: manager.unbind(), label, is_forward, open: Mutex::new(Vec::new()) };
        call.replace_result(Bound::new(py, part)?.into_any());
    }
    Ok(())
}

fn missing(name: &str) -> PyErr {
    crate::hook::error::<pyo3::exceptions::PyTypeError>(format!("called without `{name}`"))
}

fn detailed() -> &'static Gate {
    static GATE: once_cell::sync::Lazy<&'static Gate> =
        once_cell::sync::Lazy::new(|| Gate::of(Level::DETAILED, "Execute"));
    &GATE
}

fn part_label(name: &str) -> Label {
    static LABELS: once_cell::sync::Lazy<Mutex<FxHashMap<Box<str>, Label>>> =
        once_cell::sync::Lazy::new(Mutex::default);
    let mut labels = LABELS.lock();
    if let Some(label) = labels.get(name) {
        return *label;
    }
    if labels.len() >= MOST_PARTS {
        return label!("Execute", "other part");
    }
    let label = Label::new("Execute", name);
    labels.insert(name.into(), label);
    label
}

/// Stands before the context manager of a part.
#[pyclass(frozen, module = "msprof_rs._core", name = "part")]
struct Part {
    manager: Py<PyAny>,
    label: Label,
    /// It is the forward pass, whose requests are told.
    is_forward: bool,
    /// The blocks that have been entered and not left.
    open: Mutex<Vec<Option<Open>>>,
}

#[pymethods]
impl Part {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = recorder::begin(self.label);
        let entered = self.manager.bind(py).call_method0(intern!(py, "__enter__"));
        match &entered {
            Ok(_) => self.open.lock().push(open),
            Err(error) => self.end(open, Some(error), py)?,
        }
        entered
    }

    #[pyo3(signature = (*error))]
    fn __exit__<'py>(&self, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = error.py();
        let left = self.manager.bind(py).call_method1(intern!(py, "__exit__"), error);
        let open = self.open.lock().pop().flatten();
        let swallowed = left.as_ref().map_or(Ok(false), Bound::is_truthy).optional(py);
        let is_swallowed = matches!(swallowed, Ok(Some(true)));
        let raised = error.get_item(1).ok().filter(|error| !error.is_none() && !is_swallowed);
        self.end(open, raised.map(PyErr::from_value).as_ref().or(left.as_ref().err()), py)?;
        swallowed?;
        left
    }

    /// Everything else is the manager's own.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.manager.bind(py).getattr(name)
    }

    fn __call__<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.manager.bind(py).call1(args)
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.manager)
    }
}

impl Part {
    fn end(&self, open: Option<Open>, error: Option<&PyErr>, py: Python<'_>) -> Result<(), Interrupt> {
        let Some(open) = open else { return Ok(()) };
        let ticks = Ticks::now();
        with_buffer(|attributes| {
            let read = match self.is_forward.then(|| Running::output(py)).flatten() {
                Some(output) => {
                    let _muted = recorder::mute();
                    let appended = append_ids(&output, attributes);
                    datum(py, "SchedulerOutput.num_scheduled_tokens", appended)
                }
                None => Ok(None),
            };
            if let Some(error) = error {
                append_error(attributes, error, py);
            }
            recorder::end(open, self.label, ticks, attributes.as_bytes());
            read.map(drop)
        })
    }
}
