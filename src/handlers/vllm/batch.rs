//! What one engine step computes: the requests of a `SchedulerOutput`, each with its iteration, phase and tokens.

use std::collections::VecDeque;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use rustc_hash::FxHashMap;

use super::{BATCH_TYPE, ITER, NUM_COMPUTED_TOKENS, NUM_PROMPT_TOKENS, NUM_SCHEDULED_TOKENS, RID, TYPE};
use crate::event::Attributes;

/// Requests that vanish without a word must not fill the memory: with so many known, all are forgotten.
const MOST_REQUESTS: usize = 100_000;

/// As many outputs may be scheduled and not yet executed (pipeline stages, asynchronous scheduling).
const MOST_WAITING: usize = 16;

/// What is remembered of a request from step to step. Engine and executor are one process's, and steps come one
/// after the other, so the lock is never waited for.
#[derive(Clone, Copy)]
struct Request {
    /// Steps that it was in so far.
    steps: i64,
    prompt_tokens: Option<i64>,
}

static REQUESTS: Lazy<Mutex<FxHashMap<Box<str>, Request>>> = Lazy::new(Mutex::default);

/// Batches that were scheduled, for the executor, which gets the same object. Holding the object keeps its address
/// from being used again.
static SCHEDULED: Lazy<Mutex<VecDeque<Scheduled>>> = Lazy::new(Mutex::default);

struct Scheduled {
    output: Py<PyAny>,
    batch: Batch,
}

/// The requests of one step, ready to be attributes.
#[derive(Clone, Default)]
pub(super) struct Batch {
    /// The encoded list under `rid`.
    entries: Vec<u8>,
    /// The ids alone.
    pub(super) ids: Vec<Box<str>>,
    has_prefill: bool,
    has_decode: bool,
}

impl Batch {
    /// The batch of a scheduler's output. To be asked once per step: it counts the requests' iterations.
    pub(super) fn scheduled(output: &Bound<'_, PyAny>) -> PyResult<Self> {
        let batch = Self::read(output)?;
        let mut scheduled = SCHEDULED.lock();
        if scheduled.len() == MOST_WAITING {
            scheduled.pop_front();
        }
        scheduled.push_back(Scheduled { output: output.clone().unbind(), batch: batch.clone() });
        Ok(batch)
    }

    /// The batch that the executor is given: the one that was scheduled, where the scheduler is hooked too.
    pub(super) fn executed(output: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut scheduled = SCHEDULED.lock();
        if let Some(index) = scheduled.iter().position(|known| known.output.is(output)) {
            Ok(scheduled.remove(index).map(|known| known.batch).unwrap_or_default())
        } else {
            drop(scheduled);
            Self::read(output)
        }
    }

    fn read(output: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = output.py();
        let tokens = output.getattr(intern!(py, "num_scheduled_tokens"))?.cast_into::<PyDict>()?;
        let mut requests = REQUESTS.lock();
        if requests.len() > MOST_REQUESTS {
            requests.clear();
        }
        let computed = computed_tokens(output, &mut requests)?;
        let mut batch = Self { ids: Vec::with_capacity(tokens.len()), ..Self::default() };
        let mut entries = Attributes::default();
        entries.array(tokens.len());
        for (rid, scheduled) in tokens.iter() {
            let rid = rid.cast_into::<PyString>()?;
            let rid = rid.to_str()?;
            let request = match requests.get_mut(rid) {
                Some(request) => request,
                None => requests.entry(rid.into()).or_insert(Request { steps: 0, prompt_tokens: None }),
            };
            let computed = computed.get(rid).copied();
            let is_prefill =
                matches!((computed, request.prompt_tokens), (Some(done), Some(all)) if done < all);
            batch.has_prefill |= is_prefill;
            batch.has_decode |= !is_prefill;
            let known = 4 + usize::from(computed.is_some()) + usize::from(request.prompt_tokens.is_some());
            entries.dict(known);
            entries.key(*RID).str(rid);
            entries.key(*ITER).int(request.steps);
            entries.key(*TYPE).int(i64::from(!is_prefill));
            entries.key(*NUM_SCHEDULED_TOKENS).int(scheduled.extract()?);
            if let Some(prompt) = request.prompt_tokens {
                entries.key(*NUM_PROMPT_TOKENS).int(prompt);
            }
            if let Some(computed) = computed {
                entries.key(*NUM_COMPUTED_TOKENS).int(computed);
            }
            request.steps += 1;
            batch.ids.push(rid.into());
        }
        batch.entries = entries.into_bytes();
        forget_finished(output, &mut requests);
        Ok(batch)
    }

    /// Whether the step computes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Appends `rid` and `batch_type`.
    pub(super) fn append(&self, attributes: &mut Attributes) {
        attributes.key(*RID).encoded(&self.entries);
        let kind = match (self.has_prefill, self.has_decode) {
            (true, true) => "Prefill,Decode",
            (true, false) => "Prefill",
            _ => "Decode",
        };
        attributes.key(*BATCH_TYPE).str(kind);
    }

    /// Appends `rid` as a list of ids.
    pub(super) fn append_ids(&self, attributes: &mut Attributes) {
        append_ids(attributes, &self.ids);
    }
}

/// Appends `rid` as a list of ids.
pub(super) fn append_ids<S: AsRef<str>>(attributes: &mut Attributes, ids: &[S]) {
    attributes.key(*RID).array(ids.len());
    ids.iter().for_each(|rid| attributes.str(rid.as_ref()));
}

/// Tokens of each request that were computed before this step; notes the prompt lengths of new requests.
fn computed_tokens(
    output: &Bound<'_, PyAny>,
    requests: &mut FxHashMap<Box<str>, Request>,
) -> PyResult<FxHashMap<String, i64>> {
    let py = output.py();
    let mut computed = FxHashMap::default();
    for new in output.getattr(intern!(py, "scheduled_new_reqs"))?.try_iter()? {
        let new = new?;
        let rid: String = new.getattr(intern!(py, "req_id"))?.extract()?;
        let prompt = prompt_tokens(&new);
        requests.insert(rid.as_str().into(), Request { steps: 0, prompt_tokens: prompt });
        computed.insert(rid, new.getattr(intern!(py, "num_computed_tokens"))?.extract()?);
    }
    let cached = output.getattr(intern!(py, "scheduled_cached_reqs"))?;
    if cached.is_instance_of::<PyList>() {
        // Up to vLLM 0.9: one object per request.
        for request in cached.try_iter()? {
            let request = request?;
            let rid = request.getattr(intern!(py, "req_id"))?.extract()?;
            computed.insert(rid, request.getattr(intern!(py, "num_computed_tokens"))?.extract()?);
        }
    } else {
        let ids = cached.getattr(intern!(py, "req_ids"))?.try_iter()?;
        let tokens = cached.getattr(intern!(py, "num_computed_tokens"))?.try_iter()?;
        for (rid, tokens) in ids.zip(tokens) {
            computed.insert(rid?.extract()?, tokens?.extract()?);
        }
    }
    Ok(computed)
}

/// A new request's prompt length; prompts given as embeddings have no token ids.
fn prompt_tokens(new: &Bound<'_, PyAny>) -> Option<i64> {
    let py = new.py();
    ["prompt_token_ids", "prompt_embeds"].into_iter().find_map(|name| {
        let prompt = new.getattr(PyString::intern(py, name)).ok()?;
        prompt.len().ok().map(|length| length as i64)
    })
}

fn forget_finished(output: &Bound<'_, PyAny>, requests: &mut FxHashMap<Box<str>, Request>) {
    let finished = output.getattr(intern!(output.py(), "finished_req_ids")).and_then(|ids| ids.try_iter());
    for rid in finished.into_iter().flatten().flatten() {
        if let Ok(rid) = rid.cast_into::<PyString>() {
            requests.remove(rid.to_str().unwrap_or_default());
        }
    }
}
