//! The API server's side of a request: it comes in (`AsyncLLM.add_request`), its outputs go out
//! (`OutputProcessor.process_outputs`).

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::clock::Ticks;
use crate::event::Label;
use crate::handlers::http;
use crate::handlers::record::{
    HTTP_RID, RECV_TOKEN_SIZE, REPLY_TOKEN_SIZE, RID, append_ids, argument, datum, each, event, label, text,
};
use crate::hook::{Attempt, Call, Ending, Follower, Interrupt, utf8};

/// `async add_request(self, request_id, prompt, params, …)`: `httpReq` at the moment when the request reached this
/// server, `tokenize` when it is on its way to the engine. Both are recorded when the engine has it, since only then the
/// ids are known by which the engine knows it: they name the request by those, and have this server's beside them.
pub(in crate::handlers) fn add_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let rid = argument(call, 1, intern!(py, "request_id")).and_then(|rid| text(&rid))?;
    let params = argument(call, 3, intern!(py, "params"));
    let answers = params.and_then(|params| params.getattr(intern!(py, "n"))?.extract()).optional(py)?;
    let answers = answers.unwrap_or(1).min(MOST_ANSWERS);
    call.when_ended(Ending::Handler(Box::new(Adding { rid, answers, arrival: None, served: None })));
    Ok(())
}

/// Nobody asks for more answers to one prompt.
const MOST_ANSWERS: usize = 1_000;

struct Adding {
    rid: String,
    answers: usize,
    arrival: Option<Ticks>,
    served: Option<Py<http::Served>>,
}

impl Adding {
    fn record(&self, label: Label, ticks: Ticks, ids: &[String]) {
        event(label, ticks, |attributes| {
            match ids {
                [rid] => attributes.key(*RID).id(rid),
                ids => append_ids(attributes, ids),
            }
            if *ids != [self.rid.as_str()] {
                attributes.key(*HTTP_RID).id(&self.rid);
            }
        });
    }

    /// By which the engine knows it: the collector of its outputs has the id, in versions where that is another one;
    /// each of several answers is a request of its own.
    fn engine_ids(&self, collector: &Bound<'_, PyAny>) -> Result<Vec<String>, Interrupt> {
        let py = collector.py();
        let id = collector.getattr(intern!(py, "request_id")).and_then(|id| text(&id)).optional(py)?;
        let id = id.unwrap_or_else(|| self.rid.clone());
        Ok(match self.answers {
            0 | 1 => vec![id],
            answers => (0..answers).map(|index| format!("{index}_{id}")).collect(),
        })
    }
}

impl Follower for Adding {
    fn started(&mut self, py: Python<'_>) -> PyResult<()> {
        let served = http::served(py)?;
        self.arrival = Some(served.as_ref().map_or_else(Ticks::now, |served| served.get().arrival()));
        self.served = served.map(Bound::unbind);
        Ok(())
    }

    fn ended(
        self: Box<Self>,
        _: Python<'_>,
        outcome: Result<&Bound<'_, PyAny>, &PyErr>,
        ticks: Ticks,
    ) -> PyResult<()> {
        let Some(arrival) = self.arrival else { return Ok(()) };
        let Ok(collector) = outcome else {
            // Turned away: the engine has no id for it.
            self.record(label!("Engine", "httpReq"), arrival, std::slice::from_ref(&self.rid));
            return Ok(());
        };
        let ids = self.engine_ids(collector)?;
        if let Some(served) = &self.served {
            ids.iter().for_each(|rid| served.get().leads_to(rid));
        }
        self.record(label!("Engine", "httpReq"), arrival, &ids);
        self.record(label!("Engine", "tokenize"), ticks, &ids);
        Ok(())
    }
}

/// `process_outputs(self, engine_core_outputs, …)`: one `httpRes` for each request that ended with it, and one
/// `detokenize` for all that got output.
pub(in crate::handlers) fn process_outputs(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let processor = call.this()?.to_owned();
    let outputs = call.args.get(1, intern!(py, "engine_core_outputs")).map(pyo3::Borrowed::to_owned);
    let states = processor.getattr(intern!(py, "request_states"));
    let Some(states) = datum(py, "OutputProcessor.request_states", states)? else { return Ok(()) };
    let mut before = Vec::new();
    let outputs = outputs.map(|outputs| each(&outputs).optional(py)).transpose()?.flatten();
    for output in outputs.unwrap_or_default() {
        let rid = output.getattr(intern!(py, "request_id"))?.cast_into::<PyString>()?;
        // Gone from the table when the request has ended, so it is taken now.
        if let Some(state) = states.get_item(&rid).optional(py)? {
            before.push((rid, state));
        }
    }
    if call.proceed().is_none() || before.is_empty() {
        return Ok(());
    }
    let ticks = Ticks::now();
    for (rid, state) in &before {
        if !states.contains(rid)? {
            record_result(rid, state, ticks)?;
        }
    }
    let ids = before.iter().map(|(rid, _)| utf8(rid)).collect::<Vec<_>>();
    event(label!("Engine", "detokenize"), ticks, |attributes| append_ids(attributes, &ids));
    Ok(())
}

fn record_result(rid: &Bound<'_, PyString>, state: &Bound<'_, PyAny>, ticks: Ticks) -> PyResult<()> {
    let py = rid.py();
    let prompt = match state.getattr(intern!(py, "prompt_len")).optional(py)? {
        Some(length) => length.extract::<i64>(),
        None => state.getattr(intern!(py, "prompt_token_ids")).and_then(|ids| Ok(ids.len()? as i64)),
    };
    let prompt = datum(py, "RequestState.prompt_len", prompt)?;
    let generated = generated_tokens(state)?;
    let http_rid = state.getattr(intern!(py, "external_req_id")).and_then(|id| text(&id)).optional(py)?;
    let rid = &*utf8(rid);
    event(label!("Engine", "httpRes"), ticks, |attributes| {
        attributes.key(*RID).id(rid);
        if let Some(http_rid) = http_rid.filter(|http_rid| http_rid != rid) {
            attributes.key(*HTTP_RID).id(&http_rid);
        }
        if let Some(prompt) = prompt {
            attributes.key(*RECV_TOKEN_SIZE).int(prompt);
        }
        if let Some(generated) = generated {
            attributes.key(*REPLY_TOKEN_SIZE).int(generated);
        }
    });
    Ok(())
}

/// The detokenizer knows how many tokens it was given; without one, the request's statistics do.
fn generated_tokens(state: &Bound<'_, PyAny>) -> Result<Option<i64>, Interrupt> {
    let py = state.py();
    if let Some(detokenizer) = state.getattr(intern!(py, "detokenizer")).optional(py)? {
        let count = detokenizer.call_method0(intern!(py, "num_output_tokens")).and_then(|it| it.extract());
        if let Some(count) = count.optional(py)? {
            return Ok(Some(count));
        }
        let ids = detokenizer.getattr(intern!(py, "token_ids")).and_then(|ids| ids.len());
        if let Some(count) = ids.optional(py)? {
            return Ok(Some(count as i64));
        }
    }
    let stats = state.getattr(intern!(py, "stats"));
    let count = stats.and_then(|stats| stats.getattr(intern!(py, "num_generation_tokens"))?.extract());
    count.optional(py)
}
