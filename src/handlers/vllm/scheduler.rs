//! `Scheduler`: the span of each scheduling step with its batch, the queues' movements, the KV cache's state.

use once_cell::sync::Lazy;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::batch::{Batch, append_ids};
use super::kv_cache::{Blocks, request_id};
use super::{QUEUE_NAME, QUEUE_SIZE, RID, label};
use crate::clock::Ticks;
use crate::event::Label;
use crate::hook::{Call, append_error, with_buffer};
use crate::recorder;

/// `schedule(self, …)`: decides what the next step computes.
pub(in crate::handlers) fn schedule(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let scheduler = call.this()?.to_owned();
    let running = requests(&scheduler)?;
    let manager = scheduler.getattr(intern!(py, "kv_cache_manager")).ok();
    let blocks = manager.as_ref().and_then(|manager| Blocks::of(manager).ok());
    let label = label!("Schedule", "batchFrameworkProcessing");
    let open = recorder::begin(label);
    let output = call.proceed().cloned();
    let ticks = Ticks::now();
    let mut batch = Ok(Batch::default());
    if let Some(output) = &output {
        batch = Batch::scheduled(output);
        if let Ok(batch) = &batch
            && !batch.is_empty()
        {
            // Whatever can't be read is left out; the span that is open must be ended in any case.
            let moved = record_queues(&scheduler, &running, ticks);
            let counted = record_blocks(manager.as_ref(), blocks, batch, ticks);
            batch_or_log(moved.and(counted));
        }
    }
    with_buffer(|attributes| {
        if let Ok(batch) = &batch
            && !batch.is_empty()
        {
            batch.append(attributes);
        }
        if let Some(error) = call.error() {
            append_error(attributes, error, py);
        }
        if let Some(open) = open {
            recorder::end(open, label, ticks, attributes.as_bytes());
        }
    });
    batch.map(|_| ())
}

fn batch_or_log(outcome: PyResult<()>) {
    if let Err(error) = outcome {
        log::debug!("a scheduler's queues or blocks could not be read: {error}");
    }
}

/// `add_request(self, request)`: a request enters the waiting queue.
pub(in crate::handlers) fn add_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let waiting = call.this()?.getattr(intern!(call.py, "waiting"))?.len()?;
    let rid = request_id(call)?;
    with_buffer(|attributes| {
        attributes.key(*RID).str(rid.to_str()?);
        attributes.key(*QUEUE_SIZE).int(waiting as i64);
        attributes.key(*QUEUE_NAME).str("WAITING");
        recorder::instant(label!("Schedule", "Enqueue"), ticks, attributes.as_bytes());
        Ok(())
    })
}

fn requests<'py>(scheduler: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let running = scheduler.getattr(intern!(scheduler.py(), "running"))?.cast_into::<PyList>()?;
    Ok(running.iter().collect())
}

/// What came into the running list came out of the waiting queue; what left it during the step was preempted, and
/// waits again. So the waiting queue, which may be long, is never walked.
fn record_queues(scheduler: &Bound<'_, PyAny>, before: &[Bound<'_, PyAny>], ticks: Ticks) -> PyResult<()> {
    let py = scheduler.py();
    let after = requests(scheduler)?;
    let waiting = scheduler.getattr(intern!(py, "waiting"))?.len()?;
    let started = ids(&after, before)?;
    let preempted = ids(before, &after)?;
    let record = |label: Label, queue: &str, size: usize, ids: &[String]| {
        if ids.is_empty() {
            return;
        }
        with_buffer(|attributes| {
            append_ids(attributes, ids);
            attributes.key(*QUEUE_SIZE).int(size as i64);
            attributes.key(*QUEUE_NAME).str(queue);
            recorder::instant(label, ticks, attributes.as_bytes());
        });
    };
    let (enqueue, dequeue) = (label!("Schedule", "Enqueue"), label!("Schedule", "Dequeue"));
    record(dequeue, "RUNNING", after.len(), &preempted);
    record(enqueue, "RUNNING", after.len(), &started);
    record(dequeue, "WAITING", waiting, &started);
    record(enqueue, "WAITING", waiting, &preempted);
    Ok(())
}

/// Ids of the requests in `all` that are not in `others`. The same request is the same object.
fn ids(all: &[Bound<'_, PyAny>], others: &[Bound<'_, PyAny>]) -> PyResult<Vec<String>> {
    let others: rustc_hash::FxHashSet<_> = others.iter().map(pyo3::Bound::as_ptr).collect();
    all.iter()
        .filter(|request| !others.contains(&request.as_ptr()))
        .map(|request| request.getattr(intern!(request.py(), "request_id"))?.extract())
        .collect()
}

fn record_blocks(
    manager: Option<&Bound<'_, PyAny>>,
    before: Option<Blocks>,
    batch: &Batch,
    ticks: Ticks,
) -> PyResult<()> {
    let (Some(manager), Some(before)) = (manager, before) else { return Ok(()) };
    let blocks = Blocks::of(manager)?;
    with_buffer(|attributes| {
        batch.append_ids(attributes);
        blocks.append(before, attributes);
        recorder::instant(label!("Schedule.KVCache", "KVCacheStatus"), ticks, attributes.as_bytes());
    });
    Ok(())
}
