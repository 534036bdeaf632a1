//! What one engine step computes: the requests of a `SchedulerOutput`, each with its iteration, phase and tokens.

use std::collections::VecDeque;
use std::sync::Arc;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::requests::{Requests, requests};
use crate::event::Attributes;
use crate::handlers::record::{
    BATCH_TYPE, ITER, NUM_COMPUTED_TOKENS, NUM_PROMPT_TOKENS, NUM_SCHEDULED_TOKENS, RID, TYPE, datum, each,
};
use crate::hook::{Attempt, Interrupt, utf8};

/// As many outputs may be scheduled and not yet executed (pipeline stages, asynchronous scheduling).
const MOST_WAITING: usize = 16;

/// Batches by their scheduler output, which steps are told apart by. Holding the object keeps its address from being
/// used again.
#[derive(Default)]
struct Steps {
    /// Scheduled, and not yet executed.
    scheduled: VecDeque<Step>,
    /// The one that was executed last, for those who come after the executor.
    executed: Option<Step>,
}

struct Step {
    output: Py<PyAny>,
    batch: Batch,
}

static STEPS: Lazy<Mutex<Steps>> = Lazy::new(Mutex::default);

/// A request in a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) rid: Arc<str>,
    pub(super) iter: i64,
    pub(super) is_prefill: bool,
    scheduled: i64,
    prompt: Option<i64>,
    computed: Option<i64>,
}

impl Entry {
    /// Appends it as a mapping, which has as many items more as `more` says; those come next.
    pub(super) fn append(&self, attributes: &mut Attributes, more: usize) {
        attributes.dict(4 + more + usize::from(self.computed.is_some()) + usize::from(self.prompt.is_some()));
        attributes.key(*RID).id(&self.rid);
        attributes.key(*ITER).int(self.iter);
        attributes.key(*TYPE).int(i64::from(!self.is_prefill));
        attributes.key(*NUM_SCHEDULED_TOKENS).int(self.scheduled);
        if let Some(prompt) = self.prompt {
            attributes.key(*NUM_PROMPT_TOKENS).int(prompt);
        }
        if let Some(computed) = self.computed {
            attributes.key(*NUM_COMPUTED_TOKENS).int(computed);
        }
    }
}

/// The requests of one step, in the order in which they were scheduled.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch(Arc<Contents>);

#[derive(Debug, Default)]
struct Contents {
    entries: Vec<Entry>,
    /// The list of them, as an attribute value: several records have it.
    encoded: Vec<u8>,
    has_prefill: bool,
    has_decode: bool,
}

impl Batch {
    /// The batch of a scheduler's output. To be asked once per step: it counts the requests' iterations.
    pub(super) fn scheduled(
        output: &Bound<'_, PyAny>,
        scheduler: &Bound<'_, PyAny>,
    ) -> Result<Option<Self>, Interrupt> {
        let read = Self::read(output, Some(scheduler));
        let Some(batch) = datum(output.py(), "a scheduler's output", read)? else { return Ok(None) };
        let mut steps = STEPS.lock();
        let oldest = if steps.scheduled.len() == MOST_WAITING { steps.scheduled.pop_front() } else { None };
        steps.scheduled.push_back(Step { output: output.clone().unbind(), batch: batch.clone() });
        drop(steps);
        drop(oldest); // may run Python code, for which nothing may be locked
        Ok(Some(batch))
    }

    /// The batch that the executor or the model runner is given: the one that was scheduled, where the scheduler is
    /// hooked in this process too.
    pub(super) fn executed(output: &Bound<'_, PyAny>) -> Result<Option<Self>, Interrupt> {
        let mut steps = STEPS.lock();
        if let Some(step) = steps.executed.as_ref().filter(|step| step.output.is(output)) {
            return Ok(Some(step.batch.clone()));
        }
        let index = steps.scheduled.iter().position(|known| known.output.is(output));
        let step = if let Some(step) = index.and_then(|index| steps.scheduled.remove(index)) {
            step
        } else {
            drop(steps);
            let read = Self::read(output, None);
            let Some(batch) = datum(output.py(), "a scheduler's output", read)? else { return Ok(None) };
            steps = STEPS.lock();
            Step { output: output.clone().unbind(), batch }
        };
        let batch = step.batch.clone();
        let former = steps.executed.replace(step);
        drop(steps);
        drop(former); // as above
        Ok(Some(batch))
    }

    /// Python is asked for everything first: the requests are locked only while none of its code can run.
    fn read(output: &Bound<'_, PyAny>, scheduler: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = output.py();
        let tokens = output.getattr(intern!(py, "num_scheduled_tokens"))?.cast_into::<PyDict>()?;
        let tokens = tokens.iter().map(|(rid, count)| Ok((rid.cast_into::<PyString>()?, count.extract()?)));
        let tokens: Vec<(Bound<'_, PyString>, i64)> = tokens.collect::<PyResult<_>>()?;
        let computed = Computed::read(output);
        let computed = datum(py, "a scheduler's computed tokens", computed)?.unwrap_or_default();
        let finished = finished(output)?;
        let unknown = requests().begin(&computed.new, tokens.iter().map(|(rid, _)| rid));
        let mut prompts = Vec::new();
        for (scheduler, rid) in scheduler.iter().flat_map(|it| unknown.iter().map(move |rid| (it, rid))) {
            prompts.push((rid, prompt_of(scheduler, rid).optional(py)?));
        }
        let contents = requests().step(&prompts, tokens, computed, &finished)?;
        Ok(Self(Arc::new(contents)))
    }

    /// The requests.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    /// Whether the step computes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// Appends `rid` with all that is known of each request, and `batch_type`.
    pub(super) fn append(&self, attributes: &mut Attributes) {
        attributes.key(*RID).encoded(&self.0.encoded);
        self.append_type(attributes);
    }

    /// Appends `batch_type`.
    pub(super) fn append_type(&self, attributes: &mut Attributes) {
        let kind = match (self.0.has_prefill, self.0.has_decode) {
            (true, true) => "Prefill,Decode",
            (true, false) => "Prefill",
            _ => "Decode",
        };
        attributes.key(*BATCH_TYPE).str(kind);
    }

    /// Appends `rid` as a list of ids.
    pub(super) fn append_ids(&self, attributes: &mut Attributes) {
        attributes.key(*RID).array(self.0.entries.len());
        self.0.entries.iter().for_each(|entry| attributes.id(&entry.rid));
    }
}

impl Requests {
    /// Notes the new requests; gives those of the step whose prompt is not known.
    fn begin<'a, 'py: 'a>(
        &mut self,
        new: &[(Bound<'py, PyString>, Option<i64>)],
        step: impl Iterator<Item = &'a Bound<'py, PyString>>,
    ) -> Vec<Bound<'py, PyString>> {
        for (rid, prompt) in new {
            self.update(&utf8(rid), |_, request| {
                // One that was preempted comes as new again, in some versions.
                request.is_whole |= request.steps == 0;
                request.prompt_tokens = request.prompt_tokens.or(*prompt);
            });
        }
        let is_unknown = |rid: &&Bound<'_, PyString>| {
            self.find(&utf8(rid)).is_none_or(|request| request.prompt_tokens.is_none())
        };
        step.filter(is_unknown).cloned().collect()
    }

    /// Counts a step of its requests, and forgets the finished ones.
    fn step<'py>(
        &mut self,
        prompts: &[(&Bound<'py, PyString>, Option<i64>)],
        tokens: Vec<(Bound<'py, PyString>, i64)>,
        mut computed: Computed<'py>,
        finished: &[Bound<'py, PyString>],
    ) -> PyResult<Contents> {
        for (rid, prompt) in prompts {
            self.update(&utf8(rid), |_, request| request.prompt_tokens = *prompt);
        }
        let mut contents = Contents { entries: Vec::with_capacity(tokens.len()), ..Contents::default() };
        for (rid, scheduled) in &tokens {
            let computed = computed.of(rid);
            let entry = self.update(&utf8(rid), |name, request| {
                let prompt = request.prompt_tokens;
                let is_prefill = matches!((computed, prompt), (Some(done), Some(all)) if done < all);
                let iter = request.steps;
                request.steps += 1;
                Entry { rid: name.clone(), iter, is_prefill, scheduled: *scheduled, prompt, computed }
            });
            contents.has_prefill |= entry.is_prefill;
            contents.has_decode |= !entry.is_prefill;
            contents.entries.push(entry);
        }
        for rid in finished {
            self.forget(&utf8(rid));
        }
        let mut list = Attributes::default();
        list.array(contents.entries.len());
        contents.entries.iter().for_each(|entry| entry.append(&mut list, 0));
        contents.encoded = list.into_bytes();
        Ok(contents)
    }
}

/// Tokens of each request that were computed before this step.
#[derive(Default)]
struct Computed<'py> {
    /// In the order of the scheduler's output: first those that ran before, then new ones.
    known: Vec<(Bound<'py, PyString>, i64)>,
    /// The new ones with the lengths of their prompts.
    new: Vec<(Bound<'py, PyString>, Option<i64>)>,
    /// Where the next request is likely to be: batches have nearly the same order.
    next: usize,
}

impl<'py> Computed<'py> {
    fn read(output: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = output.py();
        let (id, count) = (intern!(py, "req_id"), intern!(py, "num_computed_tokens"));
        let cached = output.getattr(intern!(py, "scheduled_cached_reqs"))?;
        let mut computed = Self::default();
        if let Ok(cached) = cached.cast::<PyList>() {
            // Up to vLLM 0.9: one object per request.
            for request in cached.iter() {
                computed.known.push((request.getattr(id)?.cast_into()?, request.getattr(count)?.extract()?));
            }
        } else {
            let ids = cached.getattr(intern!(py, "req_ids"))?.cast_into::<PyList>()?;
            let counts = cached.getattr(count)?.cast_into::<PyList>()?;
            computed.known.reserve(ids.len());
            for (rid, count) in ids.iter().zip(counts.iter()) {
                computed.known.push((rid.cast_into()?, count.extract()?));
            }
        }
        for new in output.getattr(intern!(py, "scheduled_new_reqs")).and_then(|new| each(&new))? {
            let rid = new.getattr(id)?.cast_into::<PyString>()?;
            computed.new.push((rid.clone(), prompt_tokens(&new)?));
            computed.known.push((rid, new.getattr(count)?.extract()?));
        }
        Ok(computed)
    }

    fn of(&mut self, rid: &Bound<'py, PyString>) -> Option<i64> {
        let is_it = |(known, _): &(Bound<'py, PyString>, i64)| known.is(rid);
        let found = match self.known.get(self.next).filter(|known| is_it(known)) {
            Some(_) => Some(self.next),
            // In another order, or (in a worker, where all was unpickled) another object of the same text.
            None => self.known.iter().position(is_it).or_else(|| {
                let text = utf8(rid);
                self.known.iter().position(|(known, _)| utf8(known) == text)
            }),
        };
        self.next = found.map_or(self.next, |found| found + 1);
        found.map(|found| self.known[found].1)
    }
}

/// A new request's prompt length; prompts given as embeddings have no token ids.
fn prompt_tokens(new: &Bound<'_, PyAny>) -> Result<Option<i64>, Interrupt> {
    let py = new.py();
    for name in [intern!(py, "prompt_token_ids"), intern!(py, "prompt_embeds")] {
        if let Some(length) = new.getattr(name).and_then(|prompt| prompt.len()).optional(py)? {
            return Ok(Some(length as i64));
        }
    }
    Ok(None)
}

/// The prompt length of a request that was running when collection began.
fn prompt_of(scheduler: &Bound<'_, PyAny>, rid: &Bound<'_, PyString>) -> PyResult<i64> {
    let py = scheduler.py();
    let request = scheduler.getattr(intern!(py, "requests"))?.get_item(rid)?;
    request.getattr(intern!(py, "num_prompt_tokens"))?.extract()
}

fn finished<'py>(output: &Bound<'py, PyAny>) -> Result<Vec<Bound<'py, PyString>>, Interrupt> {
    let ids = output.getattr(intern!(output.py(), "finished_req_ids")).and_then(|ids| each(&ids));
    let ids = ids.optional(output.py())?.unwrap_or_default();
    Ok(ids.into_iter().filter_map(|rid| rid.cast_into().ok()).collect())
}
