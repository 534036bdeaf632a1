//! One row for each request: when it came, how long it waited, when its first token was there, when it was done.

use super::resources::{Ids, RequestId, Resources};
use crate::clock::Nanos;
use crate::event::Record;

/// What is known of a request. Times are unix nanoseconds, durations nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its id, as the user knows it.
    pub id: String,
    /// Start of its first `httpReq`.
    pub arrival: Option<Nanos>,
    /// End of the last of `httpRes`, `DecodeEnd`, `sendResponse`, `outputSync`.
    pub end: Option<Nanos>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<i64>,
    /// Tokens generated.
    pub output_tokens: Option<i64>,
    /// From its first entry into the queue of waiting requests to its last leaving it.
    pub queue_wait: Option<u64>,
    /// When its first output was there: see [`Requests`].
    pub first_output: Option<Nanos>,
    /// Share of its prompt that was in the prefix cache, 0 to 1.
    pub cache_hit: Option<f64>,
}

/// Builds the requests.
///
/// The first output is, by what the capture has: the end of the first `detokenize` or `decode` that names the
/// request (the API server has its text); else the end of the first `modelExec`, `modelRunnerExec` or `Execute` that
/// completed its prefill; else the first `sendResponse`.
#[derive(Debug, Default)]
pub struct Requests {
    states: Vec<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// A row is written only for a request that something other than the KV cache speaks of.
    seen: bool,
    arrival: Option<Nanos>,
    end: Option<Nanos>,
    prompt_tokens: Option<i64>,
    output_tokens: Option<i64>,
    output_syncs: i64,
    enqueued: Option<Nanos>,
    dequeued: Option<Nanos>,
    text: Option<Nanos>,
    prefilled: Option<Nanos>,
    sent: Option<Nanos>,
    cache_hit: Option<f64>,
}

impl Request {
    /// From arrival to the first output, in nanoseconds.
    pub fn first_token(&self) -> Option<u64> {
        Some(self.first_output?.0.saturating_sub(self.arrival?.0))
    }

    /// From arrival to the end, in nanoseconds.
    pub fn latency(&self) -> Option<u64> {
        Some(self.end?.0.saturating_sub(self.arrival?.0))
    }
}

impl Requests {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        if resources.list.is_empty() {
            return;
        }
        let name = record.name();
        if matches!(record.domain(), "KVCache" | "PullKVCache") || name == "forward" {
            return;
        }
        // Old captures name the queue in `status`; those without either mean the waiting queue.
        let is_waiting = || {
            let queue = record.get("scope#QueueName").or_else(|| record.get("status"));
            queue.is_none_or(|queue| queue.as_str().is_some_and(|q| q.eq_ignore_ascii_case("waiting")))
        };
        for resource in &resources.list {
            let state = self.state(resource.request);
            state.seen = true;
            match name {
                "httpReq" => earliest(&mut state.arrival, record.start),
                "httpRes" | "DecodeEnd" => latest(&mut state.end, record.end),
                "sendResponse" => {
                    latest(&mut state.end, record.end);
                    earliest(&mut state.sent, record.end);
                }
                "outputSync" => {
                    latest(&mut state.end, record.end);
                    state.output_syncs += 1;
                }
                "detokenize" | "decode" => earliest(&mut state.text, record.end),
                "modelExec" | "modelRunnerExec" | "Execute" if resource.completes_prefill() => {
                    earliest(&mut state.prefilled, record.end);
                }
                "Enqueue" if is_waiting() => earliest(&mut state.enqueued, record.start),
                "Dequeue" if is_waiting() => latest(&mut state.dequeued, record.end),
                "CacheHitRate" if state.cache_hit.is_none() => {
                    state.cache_hit = record.get("hitCache").and_then(|value| value.as_double());
                }
                _ => {}
            }
        }
        if let Some(tokens) = record.get("recvTokenSize=").and_then(|value| value.as_int()) {
            resources.list.iter().for_each(|r| self.state(r.request).prompt_tokens = Some(tokens));
        }
        if let Some(tokens) = record.get("replyTokenSize=").and_then(|value| value.as_int()) {
            resources.list.iter().for_each(|r| self.state(r.request).output_tokens = Some(tokens));
        }
    }

    /// The rows in order of arrival; those whose arrival is not in the capture come last.
    pub fn finish(self, ids: &Ids) -> Vec<Request> {
        let row = |(position, state): (usize, State)| {
            let is_sync = state.output_syncs > 0;
            let wait = |enqueued: Nanos| Some(state.dequeued?.0.saturating_sub(enqueued.0));
            state.seen.then(|| Request {
                id: ids.text(RequestId(position as u32)).to_owned(),
                arrival: state.arrival,
                end: state.end,
                prompt_tokens: state.prompt_tokens,
                output_tokens: if is_sync { Some(state.output_syncs) } else { state.output_tokens },
                queue_wait: state.enqueued.and_then(wait),
                first_output: state.text.or(state.prefilled).or(state.sent),
                cache_hit: state.cache_hit,
            })
        };
        let mut rows: Vec<Request> = self.states.into_iter().enumerate().filter_map(row).collect();
        rows.sort_by_key(|request| (request.arrival.is_none(), request.arrival));
        rows
    }

    fn state(&mut self, request: RequestId) -> &mut State {
        let position = request.0 as usize;
        if self.states.len() <= position {
            self.states.resize(position + 1, State::default());
        }
        &mut self.states[position]
    }
}

fn earliest(slot: &mut Option<Nanos>, time: Nanos) {
    *slot = Some(slot.map_or(time, |known| known.min(time)));
}

fn latest(slot: &mut Option<Nanos>, time: Nanos) {
    *slot = Some(slot.map_or(time, |known| known.max(time)));
}
