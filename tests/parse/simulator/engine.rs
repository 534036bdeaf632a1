//! The engine: it schedules in steps, preempts where blocks run out, and gives tokens.

use std::collections::VecDeque;

use msprof_rs::event::Value;

use super::front::{Front, Spoken};
use super::{BEGIN, Moments, PARTS, Random, Server, US, list, text};

pub(super) struct Request {
    pub(super) truth: usize,
    pub(super) call: usize,
    pub(super) engine_id: String,
    arrival: u64,
    pub(super) prompt: u64,
    output: u64,
    /// Tokens computed, tokens that must be computed before the next comes out (the prompt, and what a preemption
    /// made forget), tokens generated, steps.
    computed: u64,
    target: u64,
    pub(super) generated: u64,
    iter: i64,
    blocks: u64,
    pub(super) aborted_at: Option<u64>,
    waiting_since: u64,
    /// Tokens were proposed for its next step.
    is_drafted: bool,
}

pub(super) struct Engine {
    pub(super) time: u64,
    pub(super) arriving: VecDeque<Request>,
    waiting: VecDeque<Request>,
    running: Vec<Request>,
    free: u64,
    pub(super) first_start: Option<u64>,
    pub(super) last_end: u64,
    /// Its last forward pass, and when that ended.
    forward: Option<usize>,
    forward_end: u64,
}

impl Request {
    /// What is true of it, and whose call it is of; its id; when the engine gets it; the tokens of its prompt and output.
    pub(super) fn new(
        (truth, call): (usize, usize),
        engine_id: String,
        arrival: u64,
        (prompt, output): (u64, u64),
    ) -> Self {
        Self {
            truth,
            call,
            engine_id,
            arrival,
            prompt,
            output,
            computed: 0,
            target: prompt,
            generated: 0,
            iter: 0,
            blocks: 0,
            aborted_at: None,
            waiting_since: 0,
            is_drafted: false,
        }
    }
}

impl Engine {
    pub(super) fn new(blocks: u64) -> Self {
        Self {
            time: BEGIN,
            arriving: VecDeque::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            free: blocks,
            first_start: None,
            last_end: BEGIN,
            forward: None,
            forward_end: BEGIN,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.arriving.is_empty() && self.waiting.is_empty() && self.running.is_empty()
    }
}

impl Server<'_> {
    pub(super) fn step(&mut self, process: usize, engine: &mut Engine) {
        if engine.waiting.is_empty() && engine.running.is_empty() {
            let next = engine.arriving.front().map_or(engine.time, |request| request.arrival);
            engine.time = engine.time.max(next);
        }
        self.take_arrivals(process, engine);
        self.abort(process, engine);
        if engine.waiting.is_empty() && engine.running.is_empty() {
            return;
        }
        let start = engine.time;
        self.recorder.begin(process, start, "Schedule", "batchFrameworkProcessing");
        let scheduled = self.schedule(process, engine);
        let steps: Vec<Value> = scheduled
            .iter()
            .map(|(position, tokens)| {
                let request = &engine.running[*position];
                step(request, *tokens)
            })
            .collect();
        let prefills =
            scheduled.iter().filter(|(p, _)| engine.running[*p].computed < engine.running[*p].prompt).count();
        let tokens = scheduled.iter().map(|(_, tokens)| tokens).sum();
        let batch_type = match (prefills, scheduled.len() - prefills) {
            (_, 0) => "Prefill",
            (0, _) => "Decode",
            _ => "Prefill,Decode",
        };
        engine.time += 20 * US + self.random.below(40 * US);
        let rid = Value::Array(steps);
        self.outcome.records += 1;
        self.recorder.end(process, engine.time, &[("rid", rid.clone()), ("batch_type", text(batch_type))]);
        self.outcome.batches.push((start, prefills, scheduled.len() - prefills, tokens, engine.free));

        let began = engine.time + 5 * US;
        if engine.first_start.is_none() {
            engine.first_start = Some(began);
        } else {
            self.outcome.idle.0 += began - engine.last_end;
        }
        self.recorder.begin(process, began, "Execute", "modelExec");
        engine.time = began + 500 * US + tokens * US;
        engine.last_end = engine.time;
        for (position, tokens) in &scheduled {
            let request = &engine.running[*position];
            let completes = request.computed < request.prompt && request.computed + tokens >= request.prompt;
            self.moments(request).runs.push((began, engine.time, completes));
        }
        let accepted = self.accept(engine, &scheduled);
        if self.plan.drafts > 0 {
            self.recorder.begin(process, began + US, "Execute", "modelRunnerExec");
        }
        let (forward, forward_end) = (began + 2 * US, engine.time - 2 * US);
        self.outcome.records += 1;
        self.recorder.begin(process, forward, "Execute", "forward");
        let pace = (forward_end - forward) / (self.plan.parts as u64 + 1);
        for part in 0..self.plan.parts {
            let (start, name) = (forward + part as u64 * pace, PARTS[part % PARTS.len()]);
            self.outcome.records += 1;
            self.recorder.begin(process, start, "Execute", name);
            self.recorder.end(process, start + pace, &[]);
        }
        let ids = scheduled.iter().map(|(position, _)| engine.running[*position].engine_id.as_str());
        self.recorder.end(process, forward_end, &[("rid", list(ids))]);
        if let Some(last) = engine.forward.replace(self.outcome.forwards.len()) {
            self.outcome.forwards[last].2 = Some(forward - engine.forward_end);
        }
        engine.forward_end = forward_end;
        self.outcome.forwards.push((process, forward, None));
        if self.plan.drafts > 0 {
            self.outcome.records += 1;
            let requests = scheduled.iter().map(|(position, _)| &engine.running[*position]);
            let ids = requests.clone().map(|request| request.engine_id.as_str());
            let drafted = requests.zip(&accepted).filter(|(request, _)| request.is_drafted);
            let by_request =
                drafted.map(|(request, n)| (request.engine_id.as_str().into(), Value::Int(*n as i64)));
            let by_request = Value::Dict(by_request.collect());
            let attributes = [("rid", list(ids)), ("spec_decode_accepted_by_req", by_request)];
            self.recorder.end(process, engine.time - US, &attributes);
        }
        self.outcome.records += 1;
        let attributes =
            [("rid", rid), ("batch_type", text(batch_type)), ("batch_size", Value::Int(tokens as i64))];
        self.recorder.end(process, engine.time, &attributes);
        self.outputs(process, engine, &scheduled, &accepted);
        self.draft(process, engine);
    }

    /// How many drafted tokens each request of the step accepts.
    fn accept(&mut self, engine: &Engine, scheduled: &[(usize, u64)]) -> Vec<u64> {
        let mut accepted = Vec::new();
        for (position, tokens) in scheduled {
            let request = &engine.running[*position];
            let drafted = if request.computed >= request.target { tokens - 1 } else { 0 };
            let count = self.random.below(drafted + 1);
            if request.is_drafted {
                self.outcome.drafted.0 += self.plan.drafts;
                self.outcome.drafted.1 += count;
            }
            accepted.push(count);
        }
        accepted
    }

    /// The draft model proposes tokens for all that decode; the next step accepts some of those that it computes.
    fn draft(&mut self, process: usize, engine: &mut Engine) {
        engine.running.iter_mut().for_each(|request| request.is_drafted = false);
        let mut drafts = Vec::new();
        for request in engine.running.iter_mut().filter(|request| request.computed >= request.target) {
            request.is_drafted = true;
            let number = |key: &str, value: i64| (key.into(), Value::Int(value));
            drafts.push(Value::Dict(vec![
                ("rid".into(), text(&request.engine_id)),
                number("iter", request.iter),
                number("num_spec_output_tokens", self.plan.drafts as i64),
            ]));
        }
        if self.plan.drafts > 0 && !drafts.is_empty() {
            self.outcome.records += 1;
            self.recorder.begin(process, engine.time, "Execute", "specDecoding");
            engine.time += 30 * US;
            self.recorder.end(process, engine.time, &[("rid", Value::Array(drafts))]);
        }
    }

    fn take_arrivals(&mut self, process: usize, engine: &mut Engine) {
        // What a client has left goes to the engine before the word of that.
        let is_due = |server: &Self, request: &Request, time| {
            request.arrival <= time || server.calls.get(request.call).is_some_and(|call| call.has_hung_up)
        };
        while engine.arriving.front().is_some_and(|request| is_due(self, request, engine.time)) {
            let Some(mut request) = engine.arriving.pop_front() else { break };
            engine.time += US;
            if self.plan.front != Front::Apart {
                self.outcome.requests[request.truth].process = process;
                let moments = self.moments(&request);
                moments.received = Some(engine.time);
                let (prompt, told) = (Value::Int(request.prompt as i64), Value::Double(moments.told));
                let rid = ("rid", text(&request.engine_id));
                let attributes = [rid, ("recvTokenSize=", prompt), ("arrival", told)];
                self.instant(process, engine.time, "Engine", "coreReq", &attributes);
                engine.time += US;
            }
            request.waiting_since = engine.time;
            self.enter_queue(process, engine, &request);
            engine.waiting.push_back(request);
        }
    }

    fn abort(&mut self, process: usize, engine: &mut Engine) {
        let is_over = |request: &Request| match self.calls.get(request.call) {
            Some(call) => call.has_hung_up,
            None => request.aborted_at.is_some_and(|time| time <= engine.time),
        };
        let gone: Vec<Request> = engine.running.extract_if(.., |request| is_over(request)).collect();
        let (over, waiting): (VecDeque<Request>, _) =
            std::mem::take(&mut engine.waiting).into_iter().partition(is_over);
        engine.waiting = waiting;
        for request in &over {
            engine.time += US;
            self.leave_queue(process, engine, request);
        }
        for request in gone.iter().chain(&over) {
            engine.free += request.blocks;
            engine.time += US;
            self.free(process, engine, &request.engine_id);
            self.release(process, engine, request, "aborted");
        }
        if self.plan.front == Front::Joined {
            let requests = engine.arriving.iter().chain(&engine.waiting).chain(&engine.running);
            let calls: Vec<usize> = requests.map(|request| request.call).collect();
            engine.time = self.hang_up(&calls, engine.time);
        }
    }

    /// The engine lets go of a request.
    fn release(&mut self, process: usize, engine: &Engine, request: &Request, reason: &str) {
        if self.plan.front == Front::Apart {
            return;
        }
        self.moments(request).released = Some((engine.time, reason == "aborted", request.generated));
        let [prompt, output] = [request.prompt, request.generated].map(|n| Value::Int(n as i64));
        let (rid, reason) = (text(&request.engine_id), text(reason));
        let attributes =
            [("rid", rid), ("recvTokenSize=", prompt), ("replyTokenSize=", output), ("reason", reason)];
        self.instant(process, engine.time, "Engine", "coreRes", &attributes);
    }

    fn moments(&mut self, request: &Request) -> &mut Moments {
        &mut self.outcome.requests[request.truth].moments
    }

    fn enter_queue(&mut self, process: usize, engine: &Engine, request: &Request) {
        let size = Value::Int(engine.waiting.len() as i64 + 1);
        let (rid, queue) = (text(&request.engine_id), text("WAITING"));
        self.instant(
            process,
            engine.time,
            "Schedule",
            "Enqueue",
            &[("rid", rid), ("QueueSize=", size), ("scope#QueueName", queue)],
        );
    }

    fn leave_queue(&mut self, process: usize, engine: &Engine, request: &Request) {
        let wait = engine.time - request.waiting_since;
        *self.outcome.requests[request.truth].queue_wait.get_or_insert(0) += wait;
        self.moments(request).stays.push((request.waiting_since, engine.time));
        let size = Value::Int(engine.waiting.len() as i64);
        let (rid, queue) = (list([request.engine_id.as_str()].into_iter()), text("WAITING"));
        self.instant(
            process,
            engine.time,
            "Schedule",
            "Dequeue",
            &[("rid", rid), ("QueueSize=", size), ("scope#QueueName", queue)],
        );
    }

    fn free(&mut self, process: usize, engine: &Engine, id: &str) {
        let free = Value::Int(engine.free as i64);
        self.instant(
            process,
            engine.time,
            "Schedule.KVCache",
            "Free",
            &[("rid", text(id)), ("deviceBlock=", free)],
        );
    }

    /// Chooses who is computed: position in `running`, and tokens. Those that were waiting go behind the others.
    fn schedule(&mut self, process: usize, engine: &mut Engine) -> Vec<(usize, u64)> {
        let (mut budget, mut scheduled, mut position) = (self.plan.budget, Vec::new(), 0);
        while position < engine.running.len() && budget > 0 {
            let request = &engine.running[position];
            let left = request.target.saturating_sub(request.computed);
            let tokens = if left > 0 { left } else { 1 + self.plan.drafts }.min(budget);
            let needed = (request.computed + tokens).div_ceil(16).saturating_sub(request.blocks);
            if needed > engine.free {
                // The last one has to give its blocks back, if it is not this one alone.
                if engine.running.len() == 1 {
                    break;
                }
                let Some(mut victim) = engine.running.pop() else { break };
                engine.free += victim.blocks;
                engine.time += US;
                // What was proposed for it is lost.
                victim.is_drafted = false;
                (victim.target, victim.blocks, victim.computed) = (victim.prompt + victim.generated, 0, 0);
                self.outcome.requests[victim.truth].preemptions += 1;
                if self.plan.front != Front::Apart {
                    let rid = list([victim.engine_id.as_str()].into_iter());
                    let queue = [("rid", rid), ("scope#QueueName", text("RUNNING"))];
                    self.instant(process, engine.time, "Schedule", "Dequeue", &queue);
                }
                victim.waiting_since = engine.time;
                self.enter_queue(process, engine, &victim);
                engine.waiting.push_front(victim);
                scheduled.retain(|(chosen, _)| *chosen < engine.running.len());
                continue;
            }
            engine.free -= needed;
            engine.running[position].blocks += needed;
            budget -= tokens;
            scheduled.push((position, tokens));
            position += 1;
        }
        while budget > 0 && engine.running.len() < self.plan.most {
            let Some(request) = engine.waiting.front() else { break };
            let is_new = request.iter == 0;
            let hit = if is_new && self.hits(request) { request.prompt / 2 } else { 0 };
            let tokens = (request.target - hit).min(budget);
            let needed = (hit + tokens).div_ceil(16);
            if needed > engine.free {
                break;
            }
            let Some(mut request) = engine.waiting.pop_front() else { break };
            engine.free -= needed;
            engine.time += US;
            (request.computed, request.blocks) = (hit, needed);
            // Of one that comes back, vLLM looks up again.
            if is_new || self.plan.front != Front::Apart {
                let share = if is_new { hit as f64 / request.prompt as f64 } else { 0.875 };
                self.outcome.requests[request.truth].cache_hit.get_or_insert(share);
                self.moments(&request).looked_up.get_or_insert(engine.time);
                self.instant(
                    process,
                    engine.time,
                    "Schedule.KVCache",
                    "CacheHitRate",
                    &[("rid", text(&request.engine_id)), ("hitCache", Value::Double(share))],
                );
            }
            self.leave_queue(process, engine, &request);
            budget -= tokens;
            scheduled.push((engine.running.len(), tokens));
            engine.running.push(request);
        }
        engine.time += US;
        let (total, free) = (self.plan.blocks as i64, engine.free as i64);
        let usage = (total - free) as f64 / total as f64;
        self.instant(
            process,
            engine.time,
            "Schedule.KVCache",
            "KVCacheStatus",
            &[
                ("TotalBlocks=", Value::Int(total)),
                ("UsedBlocks=", Value::Int(total - free)),
                ("FreeBlocks=", Value::Int(free)),
                ("UsagePercent=", Value::Double(usage)),
            ],
        );
        scheduled
    }

    fn hits(&self, request: &Request) -> bool {
        Random(self.plan.seed ^ request.truth as u64).below(100) < self.plan.hits
    }

    /// What came out of a step: tokens for those whose prompt is computed, which the API server then turns into text.
    fn outputs(&mut self, process: usize, engine: &mut Engine, scheduled: &[(usize, u64)], accepted: &[u64]) {
        let (mut spoken, mut done, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for ((position, tokens), accepted) in scheduled.iter().zip(accepted) {
            let request = &mut engine.running[*position];
            let was_decoding = request.computed >= request.target;
            request.iter += 1;
            request.computed += if was_decoding { 1 + accepted } else { *tokens };
            if request.computed >= request.target {
                let (truth, call, id) = (request.truth, request.call, request.engine_id.clone());
                if request.generated == 0 {
                    first.push(id.clone());
                    self.outcome.requests[truth].moments.first_token = Some(engine.time);
                }
                request.generated = (request.generated + 1 + accepted).min(request.output);
                spoken.push(Spoken { truth, call, id });
                if request.generated == request.output {
                    done.push(*position);
                }
            }
        }
        if self.plan.front != Front::Apart && !first.is_empty() {
            let rid = list(first.iter().map(String::as_str));
            self.instant(process, engine.time, "Engine", "firstToken", &[("rid", rid)]);
        }
        let mut ended = Vec::new();
        for position in done.into_iter().rev() {
            let request = engine.running.remove(position);
            engine.free += request.blocks;
            engine.time += US;
            self.free(process, engine, &request.engine_id);
            self.release(process, engine, &request, "length");
            ended.push(request);
        }
        if spoken.is_empty() {
            return;
        }
        if self.plan.front == Front::Apart {
            self.answer_apart(engine.time, &spoken, &ended);
        } else {
            self.answer(engine.time + 80 * US, &spoken, &ended);
        }
    }
}

fn step(request: &Request, tokens: u64) -> Value {
    let number = |key: &str, value: i64| (key.into(), Value::Int(value));
    Value::Dict(vec![
        ("rid".into(), text(&request.engine_id)),
        number("iter", request.iter),
        number("type", i64::from(request.computed >= request.prompt)),
        number("num_scheduled_tokens", tokens as i64),
        number("num_prompt_tokens", request.prompt as i64),
        number("num_computed_tokens", request.computed as i64),
    ])
}
