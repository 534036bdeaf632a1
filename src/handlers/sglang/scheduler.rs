//! SGLang's scheduler process: requests arrive and queue, batches are put together, run, and their results processed.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::ids_of;
use crate::clock::Ticks;
use crate::event::Label;
use crate::handlers::record::{
    BATCH_TYPE, FREE_BLOCKS, FULL_EVICTABLE_SIZE, HIT_RATE, QUEUE_NAME, QUEUE_SIZE, RECV_TOKEN_SIZE,
    REPLY_TOKEN_SIZE, RID, SWA_AVAILABLE_SIZE, SWA_EVICTABLE_SIZE, append_ids, argument, datum, each, event,
    label, span, text,
};
use crate::hook::{Attempt, Call, Interrupt, error, with_buffer};
use crate::recorder;

/// `recv_requests(self, …)`: an event for each request that came in.
pub(in crate::handlers) fn receive(call: &mut Call<'_, '_>) -> PyResult<()> {
    let Some(received) = call.proceed().cloned() else { return Ok(()) };
    if received.is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    for request in each(&received)? {
        // Control messages have no id; several requests may come in one message.
        let batch = request.getattr(intern!(call.py, "batch")).and_then(|batch| each(&batch));
        for request in batch.optional(call.py)?.unwrap_or_else(|| vec![request]) {
            for rid in ids_of(&request).optional(call.py)?.unwrap_or_default() {
                event(label!("Schedule", "recvReq"), ticks, |attributes| attributes.key(*RID).id(&rid));
            }
        }
    }
    Ok(())
}

/// `handle_generate_request(self, recv_req, …)`, `handle_embedding_request(self, recv_req, …)`.
pub(in crate::handlers) fn process_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let request = argument(call, 1, intern!(call.py, "recv_req"))?;
    let rid = datum(call.py, "a request's rid", ids_of(&request))?.unwrap_or_default();
    span(call, label!("Schedule", "processReq"), |_, _, attributes| {
        if let [rid] = &rid[..] {
            attributes.key(*RID).id(rid);
        }
        Ok(())
    })
}

/// `get_next_batch_to_run(self, …)`. An idle server asks without end; only what gives a batch is recorded, and known
/// when it is over. So the span is one that does not have to nest.
pub(in crate::handlers) fn next_batch(call: &mut Call<'_, '_>) -> PyResult<()> {
    let start = Ticks::now();
    let this = call.this()?.to_owned();
    let Some(result) = call.proceed().cloned() else { return Ok(()) };
    let Some(batch) = planned(&result)? else { return Ok(()) };
    let ticks = Ticks::now();
    let label = label!("Schedule", "batchFrameworkProcessing");
    let Some(open) = recorder::async_begin(label, start) else { return Ok(()) };
    let read = || Ok::<_, Interrupt>((ids(&batch)?, phase(&batch)?));
    let read = read();
    with_buffer(|attributes| {
        if let Ok((ids, phase)) = &read {
            append_ids(attributes, ids);
            attributes.key(*BATCH_TYPE).str(phase);
        }
        recorder::async_end(open, label, ticks, attributes.as_bytes());
    });
    read?;
    Ok(record_cache(&this, label!("KVCache", "allocate"), ticks)?)
}

/// `run_batch(self, batch, …)`.
pub(in crate::handlers) fn run_batch(call: &mut Call<'_, '_>) -> PyResult<()> {
    batch_span(call, label!("ModelExecute", "modelExec"))
}

/// `process_batch_result(self, batch, result)`.
pub(in crate::handlers) fn process_result(call: &mut Call<'_, '_>) -> PyResult<()> {
    batch_span(call, label!("ModelExecute", "postprocess"))
}

/// `ForwardBatch.init_new(cls, batch, …)`.
pub(in crate::handlers) fn preprocess(call: &mut Call<'_, '_>) -> PyResult<()> {
    batch_span(call, label!("ModelExecute", "preprocess"))
}

/// `ModelRunner.forward(self, …)`.
pub(in crate::handlers) fn forward(call: &mut Call<'_, '_>) -> PyResult<()> {
    span(call, label!("ModelExecute", "forward"), |_, _, _| Ok(()))
}

/// `ModelRunner.sample(self, …)`.
pub(in crate::handlers) fn sample(call: &mut Call<'_, '_>) -> PyResult<()> {
    span(call, label!("ModelExecute", "sample"), |_, _, _| Ok(()))
}

/// `_add_request_to_queue(self, req, …)`.
pub(in crate::handlers) fn enqueue(call: &mut Call<'_, '_>) -> PyResult<()> {
    let request = argument(call, 1, intern!(call.py, "req"))?;
    let this = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let (name, size) = queue(&this)?;
    for rid in datum(call.py, "Req.rid", ids_of(&request))?.unwrap_or_default() {
        event(label!("Schedule", "Enqueue"), ticks, |attributes| {
            attributes.key(*RID).id(&rid);
            attributes.key(*QUEUE_NAME).str(name);
        });
    }
    record_queue(name, size, ticks);
    Ok(())
}

/// `get_new_batch_prefill(self, …)`: requests leave the queue.
pub(in crate::handlers) fn dequeue(call: &mut Call<'_, '_>) -> PyResult<()> {
    let this = call.this()?.to_owned();
    let Some(result) = call.proceed().cloned() else { return Ok(()) };
    let Some(batch) = planned(&result)? else { return Ok(()) };
    let ticks = Ticks::now();
    let (name, size) = queue(&this)?;
    record_queue(name, size, ticks);
    for rid in ids(&batch)? {
        event(label!("Schedule", "Dequeue"), ticks, |attributes| {
            attributes.key(*RID).id(&rid);
            attributes.key(*QUEUE_NAME).str(name);
        });
    }
    Ok(())
}

/// `Req.init_next_round_input(self, …)`: how much of the prompt the prefix cache has.
pub(in crate::handlers) fn hit_cache(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let request = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let length = |names: &[&Bound<'_, PyString>]| -> PyResult<usize> {
        for name in names {
            if let Some(length) = request.getattr(*name).and_then(|ids| ids.len()).optional(py)? {
                return Ok(length);
            }
        }
        Err(error::<pyo3::exceptions::PyAttributeError>("the request has no token ids"))
    };
    let all = length(&[intern!(py, "full_untruncated_fill_ids"), intern!(py, "fill_ids")]);
    let (all, hit) = (datum(py, "Req.fill_ids", all)?, length(&[intern!(py, "prefix_indices")]));
    let (Some(all), Some(hit)) = (all, datum(py, "Req.prefix_indices", hit)?) else { return Ok(()) };
    for rid in datum(py, "Req.rid", ids_of(&request))?.unwrap_or_default() {
        event(label!("HitCache", "HitCache"), ticks, |attributes| {
            attributes.key(*RID).id(&rid);
            // A text, as the reference has it.
            attributes.key(*HIT_RATE).str(&(hit as f64 / all.max(1) as f64).to_string());
        });
    }
    Ok(())
}

/// `process_batch_result_prefill(self, batch, result)`.
pub(in crate::handlers) fn prefill_end(call: &mut Call<'_, '_>) -> PyResult<()> {
    let batch = argument(call, 1, intern!(call.py, "batch"))?;
    let this = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    for request in requests(&batch)? {
        record_sizes(&request, label!("Request", "PrefillEnd"), ticks)?;
    }
    Ok(record_cache(&this, label!("KVCache", "free"), ticks)?)
}

/// `process_batch_result_decode(self, batch, result)`: one span with all requests, and an event with its token counts
/// for each that has finished.
pub(in crate::handlers) fn decode_end(call: &mut Call<'_, '_>) -> PyResult<()> {
    let batch = argument(call, 1, intern!(call.py, "batch"))?;
    let this = call.this()?.to_owned();
    let before = requests(&batch)?;
    batch_span(call, label!("Request", "DecodeEnd"))?;
    if call.error().is_some() {
        return Ok(());
    }
    let ticks = Ticks::now();
    for request in before {
        let finished = request.call_method0(intern!(call.py, "finished")).and_then(|it| it.is_truthy());
        if datum(call.py, "Req.finished", finished)?.unwrap_or(false) {
            record_sizes(&request, label!("Request", "DecodeEnd"), ticks)?;
        }
    }
    Ok(record_cache(&this, label!("KVCache", "free"), ticks)?)
}

fn record_sizes(request: &Bound<'_, PyAny>, label: Label, ticks: Ticks) -> Result<(), Interrupt> {
    let py = request.py();
    let length = |name: &Bound<'_, PyString>| {
        datum(py, "Req.origin_input_ids and output_ids", request.getattr(name).and_then(|ids| ids.len()))
    };
    let (prompt, reply) = (length(intern!(py, "origin_input_ids"))?, length(intern!(py, "output_ids"))?);
    for rid in datum(py, "Req.rid", ids_of(request))?.unwrap_or_default() {
        event(label, ticks, |attributes| {
            attributes.key(*RID).id(&rid);
            if let Some(prompt) = prompt {
                attributes.key(*RECV_TOKEN_SIZE).int(prompt as i64);
            }
            if let Some(reply) = reply {
                attributes.key(*REPLY_TOKEN_SIZE).int(reply as i64);
            }
        });
    }
    Ok(())
}

/// A span of the call with the requests of its `batch`, as they are before it: results leave finished ones out.
fn batch_span(call: &mut Call<'_, '_>, label: Label) -> PyResult<()> {
    let batch = argument(call, 1, intern!(call.py, "batch"))?;
    let ids = ids(&batch)?;
    span(call, label, |_, _, attributes| {
        append_ids(attributes, &ids);
        Ok(())
    })
}

/// The batch of a result: itself, or in newer versions that of a plan.
fn planned<'py>(result: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>, Interrupt> {
    let py = result.py();
    let planned = result.getattr(intern!(py, "batch_to_run")).optional(py)?;
    Ok(Some(planned.unwrap_or_else(|| result.clone())).filter(|batch| !batch.is_none()))
}

fn requests<'py>(batch: &Bound<'py, PyAny>) -> Result<Vec<Bound<'py, PyAny>>, Interrupt> {
    let py = batch.py();
    let requests = batch.getattr(intern!(py, "reqs")).and_then(|it| Ok(it.cast_into::<PyList>()?));
    let requests = datum(py, "ScheduleBatch.reqs", requests)?;
    Ok(requests.map(|requests| requests.iter().collect()).unwrap_or_default())
}

fn ids(batch: &Bound<'_, PyAny>) -> Result<Vec<String>, Interrupt> {
    let mut ids = Vec::new();
    for request in requests(batch)? {
        ids.extend(ids_of(&request).optional(batch.py())?.unwrap_or_default());
    }
    Ok(ids)
}

fn phase(batch: &Bound<'_, PyAny>) -> Result<&'static str, Interrupt> {
    let py = batch.py();
    let is = |question: &Bound<'_, PyString>| {
        let mode = batch.getattr(intern!(py, "forward_mode"));
        mode.and_then(|mode| mode.call_method0(question)?.is_truthy()).optional(py)
    };
    Ok(if is(intern!(py, "is_decode"))?.unwrap_or(false) {
        "decode"
    } else if is(intern!(py, "is_extend"))?.unwrap_or(false) {
        "prefill"
    } else {
        "unknown"
    })
}

/// The name and the length of the queue that requests wait in: disaggregated servers have others.
fn queue(scheduler: &Bound<'_, PyAny>) -> Result<(&'static str, Option<i64>), Interrupt> {
    let py = scheduler.py();
    let mode = scheduler
        .getattr(intern!(py, "disaggregation_mode"))
        .and_then(|mode| mode.getattr(intern!(py, "name")));
    let mode: String = mode.and_then(|mode| text(&mode)).optional(py)?.unwrap_or_default();
    let (name, attribute) = match mode.as_str() {
        "PREFILL" => ("PrefillBootstrap", intern!(py, "disagg_prefill_bootstrap_queue")),
        "DECODE" => ("DecodePrealloc", intern!(py, "disagg_decode_prealloc_queue")),
        _ => ("WAITING", intern!(py, "waiting_queue")),
    };
    let size = scheduler.getattr(attribute).and_then(|queue| {
        let inner = queue.getattr(intern!(py, "queue")).optional(py)?;
        inner.unwrap_or(queue).len()
    });
    Ok((name, datum(py, "a queue of the scheduler", size)?.map(|size| size as i64)))
}

fn record_queue(name: &str, size: Option<i64>, ticks: Ticks) {
    event(label!("Schedule", "Queue"), ticks, |attributes| {
        if let Some(size) = size {
            attributes.key(*QUEUE_SIZE).int(size);
        }
        attributes.key(*QUEUE_NAME).str(name);
    });
}

/// Free and evictable tokens of the KV cache; with sliding windows, of both its parts.
fn record_cache(owner: &Bound<'_, PyAny>, label: Label, ticks: Ticks) -> Result<(), Interrupt> {
    let py = owner.py();
    let (pool, tree) =
        (owner.getattr(intern!(py, "token_to_kv_pool_allocator")), owner.getattr(intern!(py, "tree_cache")));
    let (Some(pool), Some(tree)) =
        (datum(py, "token_to_kv_pool_allocator", pool)?, datum(py, "tree_cache", tree)?)
    else {
        return Ok(());
    };
    let number = |object: &Bound<'_, PyAny>, names: &[&Bound<'_, PyString>]| {
        for name in names {
            let number = object.call_method0(*name).and_then(|number| number.extract::<i64>());
            if let Some(number) = number.optional(py)? {
                return Ok::<_, Interrupt>(Some(number));
            }
        }
        Ok(None)
    };
    let free = number(&pool, &[intern!(py, "full_available_size"), intern!(py, "available_size")])?;
    let evictable = number(&tree, &[intern!(py, "full_evictable_size"), intern!(py, "evictable_size")])?;
    let window = (
        number(&pool, &[intern!(py, "swa_available_size")])?,
        number(&tree, &[intern!(py, "swa_evictable_size")])?,
    );
    event(label, ticks, |attributes| {
        let all = [
            (*FREE_BLOCKS, free),
            (*FULL_EVICTABLE_SIZE, evictable),
            (*SWA_AVAILABLE_SIZE, window.0),
            (*SWA_EVICTABLE_SIZE, window.1),
        ];
        for (name, value) in all {
            if let Some(value) = value {
                attributes.key(name).int(value);
            }
        }
    });
    Ok(())
}
