//! One row for each request: when it came, how long it waited, when its first token was there, when it was done.

use rustc_hash::FxHashMap;

use super::ids::{Ids, RequestId};
use super::request::{Marks, Request};
use super::resources::{Resources, Shape};
use crate::clock::Nanos;
use crate::event::{ProcessId, Record};

/// Builds the requests.
///
/// The first output is, by what the capture has: when the first piece of a streamed answer went out (`sendResponse` with
/// `chunk` = `first`), or its own text was there (the end of the first `detokenize` or `decode` that names it) where that
/// was later, since several requests may share an answer; else that text; else the engine's `firstToken`; else the end of
/// the first `modelExec`, `modelRunnerExec` or `Execute` that completed its prefill; else the first `sendResponse`. It is
/// not known of a request that has begun before the capture.
#[derive(Debug, Default)]
pub struct Requests {
    states: Vec<State>,
    /// Whose answer began last, and when.
    begun_last: Option<(RequestId, Nanos)>,
    /// A server has told arrivals.
    is_served: bool,
}

#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all ways to combine them occur"
)]
struct State {
    /// Something other than the KV cache, a worker or an input speaks of it.
    seen: bool,
    process: ProcessId,
    arrival: Option<Nanos>,
    end: Option<Nanos>,
    /// When the first piece of a streamed answer, which may have no last, went out.
    begun_answer: Option<Nanos>,
    /// That piece was the answer's to several requests, and may have been another's.
    shares_answer: bool,
    /// The last piece went out, or what a client that hung up was sent.
    ended_answer: Option<Nanos>,
    /// The front end speaks of it.
    has_front: bool,
    /// And has from its beginning on.
    has_whole_front: bool,
    /// Its input, or that of another with its id, was made: without a server, the front end's first word.
    has_input: bool,
    /// It had run before the capture has it in a queue.
    ran_before: bool,
    engine: Engine,
    prompt_tokens: Option<i64>,
    output_tokens: Option<i64>,
    output_syncs: i64,
    marks: Marks,
    /// Since when it has been waiting.
    waiting: Option<Nanos>,
    waited: Option<u64>,
    execution: Option<u64>,
    is_asked: bool,
    last_execution: Option<Nanos>,
    streamed: Option<Nanos>,
    text: Option<Nanos>,
    prefilled: Option<Nanos>,
    sent: Option<Nanos>,
    cache_hit: Option<f64>,
}

/// What the engine alone knows of a request: all that there is where the front end is no Python.
#[derive(Clone, Debug, Default)]
struct Engine {
    arrival: Option<Nanos>,
    first_token: Option<Nanos>,
    end: Option<Nanos>,
    is_aborted: bool,
    prompt_tokens: Option<i64>,
    output_tokens: Option<i64>,
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
        self.is_served |= name == "httpReq";
        for resource in &resources.list {
            let state = self.state(resource.request);
            state.see(name);
            match name {
                "httpReq" => {
                    state.is_asked = true;
                    state.process = record.process;
                    earliest(&mut state.arrival, record.start);
                }
                "httpRes" => {
                    latest(&mut state.end, record.end);
                    latest(&mut state.marks.answered, record.end);
                }
                "DecodeEnd" => latest(&mut state.end, record.end),
                "sendResponse" => match record.get("chunk").and_then(|chunk| chunk.as_str()) {
                    Some("first") => {
                        earliest(&mut state.sent, record.end);
                        earliest(&mut state.streamed, record.end);
                        latest(&mut state.begun_answer, record.end);
                        self.begins(resource.request, record.end);
                    }
                    Some(_) => latest(&mut state.ended_answer, record.end),
                    None => {
                        earliest(&mut state.sent, record.end);
                        latest(&mut state.end, record.end);
                    }
                },
                "coreReq" => {
                    if !state.is_asked {
                        state.process = record.process;
                    }
                    earliest(&mut state.engine.arrival, told_arrival(record));
                }
                "firstToken" => earliest(&mut state.engine.first_token, record.end),
                "coreRes" => {
                    latest(&mut state.engine.end, record.end);
                    let reason = record.get("reason");
                    state.engine.is_aborted = reason
                        .is_some_and(|reason| reason.as_str().is_some_and(|it| it.starts_with("abort")));
                }
                "outputSync" => {
                    latest(&mut state.end, record.end);
                    state.output_syncs += 1;
                }
                "detokenize" | "decode" => earliest(&mut state.text, record.end),
                "modelExec" | "modelRunnerExec" | "Execute" => {
                    if resource.completes_prefill() {
                        earliest(&mut state.prefilled, record.end);
                    }
                    if name == "modelExec" {
                        let so_far = state.execution.unwrap_or(0);
                        state.execution = Some(so_far.saturating_add(record.duration()));
                    }
                    latest(&mut state.last_execution, record.end);
                    let prompt = resource.prompt.get().map(i64::from);
                    state.engine.prompt_tokens = state.engine.prompt_tokens.or(prompt);
                }
                "Enqueue" if is_waiting() => {
                    earliest(&mut state.marks.enqueued, record.start);
                    state.waiting = state.waiting.or(Some(record.start));
                }
                "Dequeue" if is_waiting() => {
                    earliest(&mut state.marks.scheduled, record.end);
                    if let Some(since) = state.waiting.take() {
                        let waited = record.end.0.saturating_sub(since.0);
                        state.waited = Some(state.waited.unwrap_or(0).saturating_add(waited));
                    }
                }
                "CacheHitRate" if state.cache_hit.is_none() && !state.ran_before => {
                    state.cache_hit = record.get("hitCache").and_then(|value| value.as_double());
                }
                _ => {}
            }
        }
        if resources.shape != Shape::Steps {
            self.count_tokens(record, resources); // a batch is long, and without these
        }
    }

    fn count_tokens(&mut self, record: &Record, resources: &Resources) {
        let is_engine = matches!(record.name(), "coreReq" | "coreRes");
        for (key, value) in record.entries() {
            let Some(tokens) = value.as_int() else { continue };
            for resource in &resources.list {
                let state = self.state(resource.request);
                match key {
                    "recvTokenSize=" if is_engine => state.engine.prompt_tokens = Some(tokens),
                    "recvTokenSize=" => state.prompt_tokens = Some(tokens),
                    "replyTokenSize=" if is_engine => state.engine.output_tokens = Some(tokens),
                    "replyTokenSize=" => state.output_tokens = Some(tokens),
                    _ => {}
                }
            }
        }
    }

    /// The rows in order of arrival; those whose arrival is not in the capture come last. What the front end knows of a
    /// request with several answers, it knows of each.
    pub fn finish(self, ids: &Ids) -> Vec<Request> {
        let fronts: FxHashMap<RequestId, State> = (0..self.states.len() as u32)
            .map(RequestId)
            .filter(|id| ids.has_parts(*id))
            .map(|id| (id, self.states[id.0 as usize].clone()))
            .collect();
        let cut = ids.cut();
        let row = |(position, mut state): (usize, State)| {
            let id = RequestId(position as u32);
            if cut.contains(&id) || ids.has_parts(id) && !state.is_run() || is_server_s_own(ids.text(id)) {
                return None;
            }
            if let Some(front) = ids.parent(id).and_then(|parent| fronts.get(&parent)) {
                state.inherit(front);
            }
            if ids.is_shared(id) {
                state.forget_front();
            }
            if !self.is_served && state.has_input {
                (state.has_front, state.has_whole_front) = (true, true);
            }
            state.forget_parts();
            let is_sync = state.output_syncs > 0;
            let marks = Marks {
                prefilled: state.prefilled.or(state.engine.first_token),
                finished: state.engine.end.or(state.last_execution).map(|time| match state.marks.answered {
                    Some(answered) => time.min(answered),
                    None => time,
                }),
                ..state.marks
            };
            let output_tokens = if is_sync {
                Some(state.output_syncs)
            } else {
                state.output_tokens.or(state.engine.output_tokens)
            };
            let row = Request {
                id: ids.text(id).to_owned(),
                number: id,
                process: state.process,
                arrival: state.arrival.or(state.engine.arrival),
                end: state.end(),
                prompt_tokens: state.prompt_tokens.or(state.engine.prompt_tokens),
                output_tokens,
                queue_wait: state.waited,
                // What an answer began with was another's, where the engine made nothing of this one.
                first_output: state
                    .first_output()
                    .filter(|_| !state.engine.is_aborted || output_tokens != Some(0)),
                cache_hit: state.cache_hit,
                execution: state.execution,
                is_whole: state.has_arrival()
                    && (state.marks.answered.is_some()
                        || state.end.is_none() && state.engine.end.is_some() && !state.engine.is_aborted),
                marks,
            };
            (state.seen && row.says_something()).then_some(row)
        };
        let mut rows: Vec<Request> = self.states.into_iter().enumerate().filter_map(row).collect();
        rows.sort_by_key(|request| (request.arrival.is_none(), request.arrival));
        rows
    }

    /// The first piece of an answer goes out, which is recorded for each of its requests at one instant.
    fn begins(&mut self, request: RequestId, time: Nanos) {
        if let Some((other, begun)) = self.begun_last.replace((request, time))
            && begun == time
            && other != request
        {
            self.state(other).shares_answer = true;
            self.state(request).shares_answer = true;
        }
    }

    fn state(&mut self, request: RequestId) -> &mut State {
        let position = request.0 as usize;
        if self.states.len() <= position {
            self.states.resize(position + 1, State::default());
        }
        &mut self.states[position]
    }
}

impl State {
    /// A record with this name speaks of it.
    fn see(&mut self, name: &str) {
        // A worker's warm-up steps, and inputs that became the request of another id, are no requests.
        self.seen |= !matches!(name, "modelRunnerExec" | "processInputs" | "generate" | "abort");
        let begins = matches!(name, "httpReq" | "tokenize");
        self.has_input |= name == "processInputs" && !self.has_front;
        self.has_whole_front |= begins && !self.has_front;
        self.has_front |= begins || matches!(name, "detokenize" | "sendResponse" | "httpRes");
        self.ran_before |= self.marks.enqueued.is_none()
            && matches!(name, "Dequeue" | "modelExec" | "batchFrameworkProcessing");
    }

    fn has_arrival(&self) -> bool {
        self.is_asked || self.engine.arrival.is_some()
    }

    /// Whether the engine, or what came of it, speaks of it.
    fn is_run(&self) -> bool {
        let engine = &self.engine;
        [engine.arrival, engine.end, self.marks.enqueued, self.last_execution].iter().any(Option::is_some)
            || self.output_tokens.is_some()
    }

    /// See [`Request::end`].
    fn end(&self) -> Option<Nanos> {
        if self.marks.answered.is_some() {
            return self.end.max(self.ended_answer);
        }
        let Some(end) = self.engine.end else { return self.end };
        // Its answer, if it got one, is not in the capture.
        let is_cut = self.has_front && !self.engine.is_aborted;
        (!is_cut).then(|| self.begun_answer.map_or(end, |begun| begun.max(end)))
    }

    /// What comes first in the capture is not the first that there was, where it has begun before.
    fn forget_parts(&mut self) {
        if !self.has_arrival() || self.has_front && !self.has_whole_front {
            (self.streamed, self.text, self.sent) = (None, None, None);
            (self.engine.first_token, self.prefilled) = (None, None);
        }
        if self.ran_before {
            (self.waited, self.marks.enqueued, self.marks.scheduled) = (None, None, None);
        }
        if self.marks.enqueued.is_none() && self.engine.arrival.is_none() {
            self.cache_hit = None;
        }
    }

    /// See [`Requests`].
    fn first_output(&self) -> Option<Nanos> {
        let streamed = match self.text {
            Some(text) => self.streamed.map(|time| time.max(text)),
            None => self.streamed.filter(|_| !self.shares_answer),
        };
        streamed
            .or(self.text)
            .or(self.engine.first_token)
            .or(self.prefilled)
            .or(self.sent.filter(|_| !self.shares_answer))
    }

    /// Takes over what the front end knows.
    fn inherit(&mut self, front: &Self) {
        if front.is_asked && !self.is_asked {
            (self.is_asked, self.process, self.arrival) = (true, front.process, front.arrival);
        }
        self.has_input |= front.has_input;
        self.has_front |= front.has_front;
        self.has_whole_front |= front.has_whole_front;
        front.end.into_iter().for_each(|time| latest(&mut self.end, time));
        front.ended_answer.into_iter().for_each(|time| latest(&mut self.ended_answer, time));
        self.shares_answer |= front.streamed.is_some();
        front.begun_answer.into_iter().for_each(|time| latest(&mut self.begun_answer, time));
        front.streamed.into_iter().for_each(|time| earliest(&mut self.streamed, time));
        front.sent.into_iter().for_each(|time| earliest(&mut self.sent, time));
    }

    /// What the front end said may be of another request.
    fn forget_front(&mut self) {
        (self.arrival, self.end, self.begun_answer, self.streamed) = (None, None, None, None);
        (self.ended_answer, self.has_front) = (None, false);
        (self.text, self.sent, self.marks.answered, self.is_asked) = (None, None, None, false);
        (self.prompt_tokens, self.output_tokens) = (None, None);
    }
}

/// SGLang asks its own engine for a token now and then, and its gRPC server once at start: those ids are of its making,
/// with the time in the latter.
fn is_server_s_own(id: &str) -> bool {
    let is_warm_up = |time: &str| time.contains('.') && time.parse::<f64>().is_ok();
    id.starts_with("HEALTH_CHECK") || id.strip_prefix("WARMUP_").is_some_and(is_warm_up)
}

/// When the front end got a request, by its own clock, or when the engine got it if that makes no sense.
fn told_arrival(record: &Record) -> Nanos {
    const LONGEST: u64 = 3_600_000_000_000;
    let told =
        record.get("arrival").and_then(|value| value.as_double()).map(|seconds| (seconds * 1e9) as u64);
    let makes_sense = |told: &u64| (record.start.0.saturating_sub(LONGEST)..=record.start.0).contains(told);
    told.filter(makes_sense).map_or(record.start, Nanos)
}

fn earliest(slot: &mut Option<Nanos>, time: Nanos) {
    *slot = Some(slot.map_or(time, |known| known.min(time)));
}

fn latest(slot: &mut Option<Nanos>, time: Nanos) {
    *slot = Some(slot.map_or(time, |known| known.max(time)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::source::fixture::{ids, record, step, text};

    fn build(records: &[Record]) -> Vec<Request> {
        let (mut ids, mut resources, mut requests) =
            (Ids::default(), Resources::default(), Requests::default());
        for record in records {
            resources.read(record, &mut ids);
            requests.push(record, &resources);
        }
        requests.finish(&ids)
    }

    fn arrival(time: u64, rid: &str) -> Record {
        record((time, time), "Engine", "httpReq", &[("rid", text(rid))])
    }

    #[test]
    fn the_first_output_is_the_first_text_else_the_end_of_the_prefill() {
        let execution = |times, iter, scheduled, computed| {
            let steps = Value::Array(vec![step("a-00000001", iter, scheduled, 8, computed)]);
            record(times, "Execute", "modelExec", &[("rid", steps)])
        };
        // A prompt of 8 tokens in chunks of 5 and 3, then a decode step.
        let engine =
            [execution((20, 30), 0, 5, 0), execution((31, 40), 1, 3, 5), execution((41, 50), 2, 1, 8)];
        let texts = [60, 70]
            .map(|time| record((time, time), "Engine", "detokenize", &[("rid", ids(&["b", "a-00000001"]))]));
        let first_token = |others: &[Record]| {
            let records: Vec<Record> =
                std::iter::once(arrival(10, "a")).chain(others.iter().cloned()).collect();
            build(&records).iter().find(|request| request.id == "a").and_then(Request::first_token)
        };
        assert_eq!(first_token(&engine), Some(30));
        assert_eq!(first_token(&[&engine[..], &texts[..]].concat()), Some(50));
        assert_eq!(first_token(&[]), None);
        // A streamed answer's first output is the first piece that goes out; another answer goes out as a whole.
        let sent = |time, chunk: &str| {
            record((time, time), "Engine", "sendResponse", &[("rid", text("a")), ("chunk", text(chunk))])
        };
        let streamed = [&texts[..], &[sent(65, "first"), sent(80, "last")]].concat();
        assert_eq!(first_token(&streamed), Some(55));
        assert_eq!(first_token(&[&texts[..], &[sent(80, "last")]].concat()), Some(50));
    }

    #[test]
    fn the_engine_alone_knows_a_request_s_times_and_the_front_end_knows_them_better() {
        let second = 1_000_000_000;
        let at = |time, name: &str, more: &[(&str, Value)]| {
            let mut attributes = vec![("rid", text("a-00000001"))];
            attributes.extend(more.iter().cloned());
            record((time * second, time * second), "Engine", name, &attributes)
        };
        let engine = [
            at(11, "coreReq", &[("arrival", Value::Double(10.5)), ("recvTokenSize=", Value::Int(7))]),
            at(12, "firstToken", &[]),
            at(15, "coreRes", &[("replyTokenSize=", Value::Int(3))]),
        ];
        let row = &build(&engine)[0];
        assert_eq!((row.first_token(), row.latency()), (Some(second * 3 / 2), Some(second * 9 / 2)));
        assert_eq!((row.prompt_tokens, row.output_tokens), (Some(7), Some(3)));
        // A clock that is wrong by hours is not believed.
        let wrong = at(11, "coreReq", &[("arrival", Value::Double(99_999.0))]);
        assert_eq!(build(&[wrong, engine[2].clone()])[0].latency(), Some(4 * second));
        let front = [arrival(10 * second, "a"), at(16, "httpRes", &[])];
        let all = build(&[&front[..], &engine[..]].concat());
        let row = all.iter().find(|row| row.id == "a").unwrap();
        assert_eq!(row.latency(), Some(6 * second));
    }

    #[test]
    fn waiting_is_all_time_in_the_waiting_queue_and_none_in_that_of_running_requests() {
        let queue = |time, name: &str, queue: &str| {
            let queue = ("scope#QueueName", text(queue));
            record((time, time), "Schedule", name, &[("rid", ids(&["a"])), queue])
        };
        let records = [
            queue(10, "Enqueue", "WAITING"),
            queue(20, "Enqueue", "RUNNING"),
            queue(20, "Dequeue", "WAITING"),
            // Preempted, and back again.
            queue(30, "Enqueue", "WAITING"),
            queue(45, "Dequeue", "WAITING"),
            queue(99, "Dequeue", "RUNNING"),
        ];
        assert_eq!(build(&records)[0].queue_wait, Some(25));
    }

    #[test]
    fn a_request_whose_client_hung_up_ends_where_the_engine_ended_it() {
        let at = |time, name: &str, more: (&str, &str)| {
            record((time, time), "Engine", name, &[("rid", text("a")), (more.0, text(more.1))])
        };
        let begun = [arrival(10, "a"), at(20, "sendResponse", ("chunk", "first"))];
        let row = &build(&begun)[0];
        assert_eq!((row.first_token(), row.latency()), (Some(10), None), "it may go on");
        let row = &build(&[&begun[..], &[at(220, "coreRes", ("reason", "aborted"))]].concat())[0];
        assert_eq!((row.first_token(), row.latency(), row.is_whole), (Some(10), Some(210), false));
        // Without streaming, vLLM sends nothing that counts to who has gone, and lets go of the request then.
        let left = [&begun[..1], &[at(200, "sendResponse", ("chunk", "last"))]].concat();
        let row = &build(&[&left[..], &[at(220, "coreRes", ("reason", "aborted"))]].concat())[0];
        assert_eq!(row.latency(), Some(210));
        // A stop string is the API server's to find: it has the whole text, and aborts what the engine goes on with.
        let stopped =
            [&begun[..], &[at(100, "httpRes", ("x", "")), at(110, "sendResponse", ("chunk", "last"))]];
        let row = &build(&[&stopped.concat()[..], &[at(220, "coreRes", ("reason", "aborted"))]].concat())[0];
        assert_eq!(row.latency(), Some(100));
    }

    #[test]
    fn of_several_in_one_answer_each_has_its_own_first_output() {
        let at = |time, name: &str, rid: &str, more: (&str, Value)| {
            record((time, time), "Engine", name, &[("rid", text(rid)), ("http_rid", text("c")), more])
        };
        let first = || ("chunk", text("first"));
        let rows = build(&[
            at(5, "httpReq", "0_c-00000003", first()),
            at(5, "httpReq", "1_c-00000003", first()),
            at(5, "httpReq", "2_c-00000003", first()),
            at(5, "httpReq", "3_c-00000003", first()),
            at(15, "detokenize", "0_c-00000003", first()),
            at(16, "sendResponse", "0_c-00000003", first()),
            at(16, "sendResponse", "1_c-00000003", first()),
            at(16, "sendResponse", "2_c-00000003", first()),
            at(16, "sendResponse", "3_c-00000003", first()),
            at(25, "detokenize", "1_c-00000003", first()),
            record(
                (30, 30),
                "Engine",
                "coreRes",
                &[
                    ("rid", text("2_c-00000003")),
                    ("replyTokenSize=", Value::Int(0)),
                    ("reason", text("aborted")),
                ],
            ),
        ]);
        let told: Vec<_> = rows.iter().map(|row| (&row.id[..], row.first_token())).collect();
        assert_eq!(told, [("0_c", Some(11)), ("1_c", Some(20)), ("2_c", None), ("3_c", None)]);
    }

    #[test]
    fn a_request_of_which_only_the_last_piece_was_seen_has_no_row() {
        let rid = ("rid", text("a-00000001"));
        let last = record((5, 5), "Engine", "sendResponse", &[rid.clone(), ("chunk", text("last"))]);
        assert!(build(std::slice::from_ref(&last)).is_empty());
        let step = Value::Array(vec![step("a-00000001", 7, 1, 12, 30)]);
        let row = &build(&[record((1, 3), "Execute", "modelExec", &[("rid", step)]), last])[0];
        assert_eq!((row.prompt_tokens, row.latency()), (Some(12), None));
    }

    #[test]
    fn offline_each_request_is_one_row_and_whole() {
        let at = |time, name: &str, rid: &str| record((time, time), "Engine", name, &[("rid", text(rid))]);
        let records = [
            at(1, "processInputs", "0"),
            at(2, "coreReq", "0-9eb57e76"),
            at(9, "coreRes", "0-9eb57e76"),
            at(10, "httpRes", "0-9eb57e76"),
        ];
        let rows = build(&records);
        assert_eq!(rows.iter().map(|row| (&row.id[..], row.is_whole)).collect::<Vec<_>>(), [("0", true)]);
    }

    #[test]
    fn retries_and_several_answers_have_a_row_each() {
        let at = |time, name: &str, rid: &str, tokens| {
            let tokens = ("replyTokenSize=", Value::Int(tokens));
            record((time, time), "Engine", name, &[("rid", text(rid)), tokens])
        };
        let once = |time, engine: &str| {
            [arrival(time, "a"), at(time + 1, "coreReq", engine, 0), at(time + 20, "httpRes", "a", 2)]
        };
        let rows = build(&[once(10, "a-00000001"), once(310, "a-00000002")].concat());
        let told: Vec<_> = rows.iter().map(|row| (&row.id[..], row.latency())).collect();
        assert_eq!(told, [("a", Some(20)), ("a#2", Some(20))]);
        let rows = build(&[
            arrival(5, "c"),
            at(6, "coreReq", "0_c-00000003", 0),
            at(6, "coreReq", "1_c-00000003", 0),
            at(15, "httpRes", "0_c-00000003", 3),
            at(25, "httpRes", "1_c-00000003", 4),
        ]);
        let told: Vec<_> = rows.iter().map(|row| (&row.id[..], row.latency(), row.output_tokens)).collect();
        assert_eq!(told, [("0_c", Some(10), Some(3)), ("1_c", Some(20), Some(4))]);
    }

    #[test]
    fn what_two_with_one_id_at_once_have_of_the_front_end_counts_for_neither() {
        let at = |time, name: &str, rid: &str| record((time, time), "Engine", name, &[("rid", text(rid))]);
        let rows = build(&[
            arrival(10, "a"),
            arrival(11, "a"),
            at(12, "coreReq", "a-00000001"),
            at(13, "coreReq", "a-00000002"),
            at(20, "coreRes", "a-00000001"),
            at(40, "coreRes", "a-00000002"),
            at(90, "sendResponse", "a"),
        ]);
        assert_eq!(rows.iter().map(Request::latency).collect::<Vec<_>>(), [Some(8), Some(27)]);
    }

    #[test]
    fn an_id_that_one_record_cut_makes_no_row_beside_the_whole_one() {
        let long = "x".repeat(10_000);
        let cut = format!("{}…", &long[..256]);
        let [first, second] = ["a", "b"].map(|last| long.clone() + last);
        let at = |time, name: &str, rid: &str| record((time, time), "Engine", name, &[("rid", text(rid))]);
        let rows = build(&[
            arrival(1, &first),
            at(2, "tokenize", &cut),
            arrival(3, &second),
            at(4, "tokenize", &cut),
            at(5, "sendResponse", &cut),
            at(10, "httpRes", &first),
            at(12, "httpRes", &second),
        ]);
        let told: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.latency())).collect();
        assert_eq!(told, [(&first[..], Some(9)), (&second[..], Some(9))]);
        // All have cut it: it is shown as it is.
        assert_eq!(build(&[arrival(1, &cut), at(3, "httpRes", &cut)])[0].latency(), Some(2));
    }

    #[test]
    fn what_only_the_cache_or_a_forward_pass_speaks_of_is_no_request() {
        let rid = ("rid", text("warm-up"));
        let records = [
            record((1, 1), "KVCache", "Allocate", std::slice::from_ref(&rid)),
            record((2, 3), "Execute", "modelRunnerExec", std::slice::from_ref(&rid)),
            record((2, 3), "Execute", "forward", &[rid]),
            arrival(4, "HEALTH_CHECK_1"),
            arrival(5, "WARMUP_1700000000.25"),
        ];
        assert!(build(&records).is_empty());
        assert_eq!(build(&[arrival(5, "WARMUP_of_mine")]).len(), 1, "a client's");
    }

    #[test]
    fn rows_are_by_arrival_and_those_that_came_before_the_capture_are_last() {
        let earlier =
            record((1, 1), "Engine", "httpRes", &[("rid", text("old")), ("replyTokenSize=", Value::Int(3))]);
        let rows = build(&[earlier, arrival(5, "second"), arrival(4, "first")]);
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["first", "second", "old"]);
        assert_eq!((rows[2].output_tokens, rows[2].latency()), (Some(3), None));
    }
}
