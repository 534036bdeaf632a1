//! `Scheduler`: the span of each scheduling step with its batch, the queues' movements, the KV cache's state; what the
//! step's output brought to its requests. The life of a request is here even where the server's front end is no Python.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::batch::Batch;
use super::kv_cache::{Blocks, request_id};
use super::requests::requests;
use crate::clock::Ticks;
use crate::event::{Attributes, Label};
use crate::handlers::record::{
    ARRIVAL, NEW_TOKENS, QUEUE_NAME, QUEUE_SIZE, REASON, RECV_TOKEN_SIZE, REPLY_TOKEN_SIZE, RID,
    SPEC_DECODE_ACCEPTED_BY_REQ, append_ids, argument, begin, datum, each, event, label, outermost, text,
};
use crate::hook::{Attempt, Call, Interrupt, append_error, utf8, with_buffer};
use crate::recorder;

/// `schedule(self, …)`: decides what the next step computes.
pub(in crate::handlers) fn schedule(call: &mut Call<'_, '_>) -> PyResult<()> {
    outermost!();
    let py = call.py;
    let scheduler = call.this()?.to_owned();
    let running = datum(py, "Scheduler.running", running(&scheduler))?;
    let manager = scheduler.getattr(intern!(py, "kv_cache_manager")).optional(py)?;
    let blocks = match &manager {
        Some(manager) => datum(py, "KVCacheManager.block_pool", Blocks::of(manager))?,
        None => None,
    };
    let label = label!("Schedule", "batchFrameworkProcessing");
    let open = begin(label);
    let output = call.proceed().cloned();
    let ticks = Ticks::now();
    let read = || -> Result<Batch, Interrupt> {
        let batch = output.map(|output| Batch::scheduled(&output, &scheduler)).transpose()?.flatten();
        let batch = batch.unwrap_or_default();
        if !batch.is_empty() {
            if let Some(running) = running {
                datum(py, "Scheduler.waiting", record_queues(&scheduler, &running, ticks))?;
            }
            if let (Some(manager), Some(before)) = (&manager, blocks) {
                datum(py, "KVCacheManager.block_pool", record_blocks(manager, before, &batch, ticks))?;
            }
        }
        Ok(batch)
    };
    let batch = read();
    if let Some(open) = open {
        with_buffer(|attributes| {
            if let Ok(batch) = &batch
                && !batch.is_empty()
            {
                batch.append(attributes);
            }
            if let Some(error) = call.error() {
                append_error(attributes, error, py);
            }
            recorder::end(open, label, ticks, attributes.as_bytes());
        });
    }
    batch?;
    Ok(())
}

/// `add_request(self, request)`: a request enters the waiting queue.
pub(in crate::handlers) fn add_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let waiting = datum(call.py, "Scheduler.waiting", waiting(&call.this()?.to_owned()))?;
    let rid = request_id(call)?;
    event(label!("Schedule", "Enqueue"), ticks, |attributes| {
        attributes.key(*RID).id(&rid);
        if let Some(waiting) = waiting {
            attributes.key(*QUEUE_SIZE).int(waiting);
        }
        attributes.key(*QUEUE_NAME).str("WAITING");
    });
    Ok(())
}

/// `EngineCore.add_request(self, request, …)`: the engine has a request, from whatever front end.
pub(in crate::handlers) fn engine_add_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let ticks = Ticks::now();
    let request = argument(call, 1, intern!(py, "request"))?;
    let rid = request_id(call)?;
    let prompt = request.getattr(intern!(py, "prompt_token_ids")).and_then(|prompt| prompt.len());
    let prompt = prompt.optional(py)?;
    let arrival = request.getattr(intern!(py, "arrival_time")).and_then(|time| time.extract::<f64>());
    let arrival = datum(py, "Request.arrival_time", arrival)?;
    event(label!("Engine", "coreReq"), ticks, |attributes| {
        attributes.key(*RID).id(&rid);
        if let Some(prompt) = prompt {
            attributes.key(*RECV_TOKEN_SIZE).int(prompt as i64);
        }
        if let Some(arrival) = arrival {
            attributes.key(*ARRIVAL).double(arrival);
        }
    });
    Ok(())
}

/// `_preempt_request(self, request, …)`: a running request gives its blocks back and waits again.
pub(in crate::handlers) fn preempt_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    if call.proceed().is_some() {
        let (rid, ticks) = (request_id(call)?, Ticks::now());
        event(label!("Schedule", "Preempt"), ticks, |attributes| attributes.key(*RID).id(&rid));
    }
    Ok(())
}

/// `finish_requests(self, request_ids, finished_status)`: requests end from outside, as by an abort.
pub(in crate::handlers) fn finish_requests(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let ids = argument(call, 1, intern!(py, "request_ids"))?;
    let status = argument(call, 2, intern!(py, "finished_status"))?;
    // An iterator may be there for one pass, which is the server's.
    let scheduler = call.this()?.to_owned();
    let all = datum(py, "Scheduler.requests", scheduler.getattr(intern!(py, "requests")))?;
    let each = |ids: &Bound<'_, PyAny>| -> PyResult<Vec<String>> {
        let mut texts = Vec::new();
        for id in each(ids)? {
            texts.extend(text(&id).optional(py)?);
        }
        Ok(texts)
    };
    let ids: Vec<String> = if let Ok(id) = ids.cast::<PyString>() {
        vec![utf8(id).into_owned()]
    } else if ids.is_none() {
        all.as_ref().map_or(Ok(Vec::new()), each)?
    } else if ids.len().optional(py)?.is_none() {
        Vec::new()
    } else {
        each(&ids)?
    };
    let mut leavers = Vec::new();
    for rid in ids {
        leavers.extend(Leaver::of(rid, all.as_ref())?);
    }
    let running = datum(py, "Scheduler.running", running(&scheduler))?;
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let reason = status.getattr(intern!(py, "name")).and_then(|name| text(&name));
    let reason = datum(py, "RequestStatus", reason)?.unwrap_or_default();
    if let Some(running) = running {
        datum(py, "Scheduler.waiting", record_leavers(&scheduler, &running, &leavers, ticks))?;
    }
    let reason = reason.trim_start_matches("FINISHED_").to_lowercase();
    for leaver in leavers {
        record_end(&leaver.rid, &reason, leaver.tokens, ticks);
    }
    Ok(())
}

/// `update_from_output(self, scheduler_output, model_runner_output)`: the requests get their new tokens.
pub(in crate::handlers) fn update_from_output(call: &mut Call<'_, '_>) -> PyResult<()> {
    outermost!();
    let py = call.py;
    let scheduled = argument(call, 1, intern!(py, "scheduler_output"))?;
    let scheduler = call.this()?.to_owned();
    let running = datum(py, "Scheduler.running", running(&scheduler))?;
    let label = label!("Schedule", "updateFromOutput");
    let open = begin(label);
    let result = call.proceed().cloned();
    let ticks = Ticks::now();
    let read = || -> Result<_, Interrupt> {
        let answers = result.map(|result| datum(py, "EngineCoreOutputs", Answer::all(&result)));
        let answers = answers.transpose()?.flatten().unwrap_or_default();
        let accepted = accepted(&scheduled, &answers);
        let accepted = datum(py, "SchedulerOutput.scheduled_spec_decode_tokens", accepted)?;
        Ok((answers, accepted.unwrap_or_default()))
    };
    let answers = read();
    if let Some(open) = open {
        with_buffer(|attributes| {
            if let Ok((answers, accepted)) = &answers {
                append_ids(attributes, answers);
                attributes.key(*NEW_TOKENS).int(answers.iter().map(|answer| answer.tokens).sum());
                append_accepted(attributes, accepted);
            }
            if let Some(error) = call.error() {
                append_error(attributes, error, py);
            }
            recorder::end(open, label, ticks, attributes.as_bytes());
        });
    }
    let (answers, _) = answers?;
    let first = count_tokens(&answers);
    if !first.is_empty() {
        event(label!("Engine", "firstToken"), ticks, |attributes| append_ids(attributes, &first));
    }
    let ended: Vec<_> = answers.iter().filter(|answer| !answer.reason.is_empty()).collect();
    if let Some(running) = running.filter(|_| !ended.is_empty()) {
        datum(py, "Scheduler.waiting", record_leavers(&scheduler, &running, &ended, ticks))?;
    }
    for answer in ended {
        record_end(answer.as_ref(), &answer.reason, (None, None), ticks);
    }
    Ok(())
}

/// A request that ends from outside, and how long its prompt and its answer are. The scheduler knows this of one that never
/// ran, and of one that collection began in the middle of.
struct Leaver {
    rid: String,
    tokens: (Option<i64>, Option<i64>),
}

impl AsRef<str> for Leaver {
    fn as_ref(&self) -> &str {
        &self.rid
    }
}

impl Leaver {
    /// None for one that is not there, or is there still though it has ended: its blocks may be another engine's to read.
    fn of(rid: String, all: Option<&Bound<'_, PyAny>>) -> Result<Option<Self>, Interrupt> {
        let Some(all) = all else { return Ok(Some(Self { rid, tokens: (None, None) })) };
        let py = all.py();
        let Some(request) = all.get_item(&rid).optional(py)? else { return Ok(None) };
        let has_ended = request.call_method0(intern!(py, "is_finished")).and_then(|ended| ended.is_truthy());
        if has_ended.optional(py)?.unwrap_or(false) {
            return Ok(None);
        }
        let number = |name| request.getattr(name).and_then(|number| number.extract()).optional(py);
        let tokens = (number(intern!(py, "num_prompt_tokens"))?, number(intern!(py, "num_output_tokens"))?);
        Ok(Some(Self { rid, tokens }))
    }
}

/// What a step brought to a request.
struct Answer<'py> {
    rid: Bound<'py, PyString>,
    tokens: i64,
    /// Why it ends with this; empty if it goes on.
    reason: String,
}

impl AsRef<str> for Answer<'_> {
    fn as_ref(&self) -> &str {
        self.rid.to_str().unwrap_or_default()
    }
}

impl<'py> Answer<'py> {
    /// Of an `EngineCoreOutputs`, or of a mapping of them by client.
    fn all(outputs: &Bound<'py, PyAny>) -> PyResult<Vec<Self>> {
        let py = outputs.py();
        let mut answers = Vec::new();
        let mut add = |outputs: &Bound<'py, PyAny>| -> PyResult<()> {
            let outputs = outputs.getattr(intern!(py, "outputs"))?.cast_into::<PyList>()?;
            answers.reserve(outputs.len());
            for output in outputs.iter() {
                let tokens = output.getattr(intern!(py, "new_token_ids"))?.len()? as i64;
                let reason = output.getattr(intern!(py, "finish_reason"))?;
                let reason = if reason.is_none() { String::new() } else { reason.str()?.to_string() };
                let rid = output.getattr(intern!(py, "request_id"))?.cast_into()?;
                answers.push(Self { rid, tokens, reason });
            }
            Ok(())
        };
        match outputs.cast::<PyDict>() {
            Ok(by_client) => by_client.values().iter().try_for_each(|outputs| add(&outputs))?,
            Err(_) => add(outputs)?,
        }
        Ok(answers)
    }
}

/// Counts the tokens of the requests; gives those that got their first.
fn count_tokens<'a>(answers: &'a [Answer<'_>]) -> Vec<&'a str> {
    let mut requests = requests();
    let is_first = |answer: &&Answer<'_>| {
        answer.tokens > 0
            && requests.find(answer.as_ref()).is_some_and(|request| {
                let first = request.is_whole && request.replied == 0;
                request.replied += answer.tokens;
                first
            })
    };
    answers.iter().filter(is_first).map(AsRef::as_ref).collect()
}

/// How many drafted tokens of each request were accepted; the last token that a step gives is the model's own.
fn accepted(output: &Bound<'_, PyAny>, answers: &[Answer<'_>]) -> PyResult<Vec<(String, i64)>> {
    let drafts = output.getattr(intern!(output.py(), "scheduled_spec_decode_tokens"))?;
    if drafts.is_none() || drafts.len()? == 0 {
        return Ok(Vec::new());
    }
    let mut accepted = Vec::new();
    for answer in answers.iter().filter(|answer| answer.tokens > 0) {
        if drafts.contains(&answer.rid)? {
            accepted.push((answer.as_ref().to_owned(), answer.tokens - 1));
        }
    }
    Ok(accepted)
}

pub(super) fn append_accepted(attributes: &mut Attributes, accepted: &[(String, i64)]) {
    if !accepted.is_empty() {
        attributes.key(*SPEC_DECODE_ACCEPTED_BY_REQ).dict(accepted.len());
        for (rid, count) in accepted {
            attributes.key_id(rid).int(*count);
        }
    }
}

/// A request has ended for the engine; `prompt` and `replied` are its tokens, as far as its end tells them.
fn record_end(rid: &str, reason: &str, (prompt, replied): (Option<i64>, Option<i64>), ticks: Ticks) {
    let known = requests().find(rid).copied();
    // Where collection began in the middle of it, the tokens before are not known.
    let counted = known.filter(|request| request.is_whole).map(|request| request.replied);
    event(label!("Engine", "coreRes"), ticks, |attributes| {
        attributes.key(*RID).id(rid);
        if let Some(prompt) = prompt.or(known.and_then(|request| request.prompt_tokens)) {
            attributes.key(*RECV_TOKEN_SIZE).int(prompt);
        }
        if let Some(replied) = replied.or(counted) {
            attributes.key(*REPLY_TOKEN_SIZE).int(replied);
        }
        attributes.key(*REASON).str(reason);
    });
}

/// The running requests, as they are now.
fn running<'py>(scheduler: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let running = scheduler.getattr(intern!(scheduler.py(), "running"))?.cast_into::<PyList>()?;
    Ok(running.to_tuple())
}

fn waiting(scheduler: &Bound<'_, PyAny>) -> PyResult<i64> {
    Ok(scheduler.getattr(intern!(scheduler.py(), "waiting"))?.len()? as i64)
}

/// What came into the running list came out of the waiting queue; what left it during the step was preempted, and
/// waits again. So the waiting queue, which may be long, is never walked.
fn record_queues(scheduler: &Bound<'_, PyAny>, before: &Bound<'_, PyTuple>, ticks: Ticks) -> PyResult<()> {
    let after = running(scheduler)?;
    let (before, after) = (before.as_slice(), after.as_slice());
    if before.len() == after.len() && before.iter().zip(after).all(|(a, b)| a.is(b)) {
        return Ok(());
    }
    let waiting = waiting(scheduler)?;
    let started = ids(after, before)?;
    let preempted = ids(before, after)?;
    let (enqueue, dequeue) = (label!("Schedule", "Enqueue"), label!("Schedule", "Dequeue"));
    let running = after.len() as i64;
    record_move(dequeue, "RUNNING", running, &preempted, ticks);
    record_move(enqueue, "RUNNING", running, &started, ticks);
    record_move(dequeue, "WAITING", waiting, &started, ticks);
    record_move(enqueue, "WAITING", waiting, &preempted, ticks);
    Ok(())
}

/// Requests that ended have left the running list, or else the waiting queue.
fn record_leavers(
    scheduler: &Bound<'_, PyAny>,
    before: &Bound<'_, PyTuple>,
    ended: &[impl AsRef<str>],
    ticks: Ticks,
) -> PyResult<()> {
    let after = running(scheduler)?;
    let stopped = ids(before.as_slice(), after.as_slice())?;
    let is_stopped: rustc_hash::FxHashSet<_> = stopped.iter().map(String::as_str).collect();
    let waited: Vec<&str> = ended.iter().map(AsRef::as_ref).filter(|rid| !is_stopped.contains(rid)).collect();
    let dequeue = label!("Schedule", "Dequeue");
    record_move(dequeue, "RUNNING", after.len() as i64, &stopped, ticks);
    if !waited.is_empty() {
        record_move(dequeue, "WAITING", waiting(scheduler)?, &waited, ticks);
    }
    Ok(())
}

/// Requests came into a queue or left it; `size` is how long it is now.
fn record_move(label: Label, queue: &str, size: i64, ids: &[impl AsRef<str>], ticks: Ticks) {
    if !ids.is_empty() {
        event(label, ticks, |attributes| {
            append_ids(attributes, ids);
            attributes.key(*QUEUE_SIZE).int(size);
            attributes.key(*QUEUE_NAME).str(queue);
        });
    }
}

/// Ids of the requests in `all` that are not in `others`. The same request is the same object.
fn ids(all: &[Bound<'_, PyAny>], others: &[Bound<'_, PyAny>]) -> PyResult<Vec<String>> {
    let others: rustc_hash::FxHashSet<_> = others.iter().map(Bound::as_ptr).collect();
    all.iter()
        .filter(|request| !others.contains(&request.as_ptr()))
        .map(|request| text(&request.getattr(intern!(request.py(), "request_id"))?))
        .collect()
}

fn record_blocks(manager: &Bound<'_, PyAny>, before: Blocks, batch: &Batch, ticks: Ticks) -> PyResult<()> {
    let blocks = Blocks::of(manager)?;
    event(label!("Schedule.KVCache", "KVCacheStatus"), ticks, |attributes| {
        batch.append_ids(attributes);
        blocks.append(before, attributes);
    });
    Ok(())
}
