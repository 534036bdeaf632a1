//! A server that never was: its requests, queues, steps and KV blocks are computed, it records what a real one does, and
//! everything that a parser should find out is known. Used by the tests of `parse` and by its benchmark.

use std::collections::VecDeque;

use msprof_rs::event::Value;

/// Unix time at which the simulation begins: 2023-11-14 22:13:20 UTC.
pub const BEGIN: u64 = 1_700_000_000_000_000_000;

const US: u64 = 1_000;

/// Parts of a step.
const PARTS: [&str; 6] =
    ["_update_states", "_prepare_inputs", "preprocess", "_model_forward", "sample", "bookkeeping"];

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub requests: usize,
    /// Data-parallel engines, each a process on a host of its own.
    pub engines: usize,
    /// Nanoseconds between arrivals, on average.
    pub arrival: u64,
    /// Longest prompt and longest output, in tokens.
    pub longest: (u64, u64),
    /// Most tokens of a step: longer prompts are chunked.
    pub budget: u64,
    /// Most requests of a step.
    pub most: usize,
    /// KV blocks of an engine, of 16 tokens each; too few for all lead to preemption.
    pub blocks: u64,
    /// Tokens drafted for each decode of a step; 0 for no speculative decoding.
    pub drafts: u64,
    /// Of a hundred requests, so many find half their prompt in the prefix cache.
    pub hits: u64,
    /// Of a hundred requests, so many are aborted while they wait or run.
    pub aborts: u64,
    /// Spans within each step's execution that say nothing more than that they were: parts of the model runner.
    pub parts: usize,
}

/// What is true of a request. Times are unix nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    pub id: String,
    pub arrival: u64,
    pub first_output: Option<u64>,
    pub end: Option<u64>,
    pub queue_wait: Option<u64>,
    pub prompt: u64,
    pub output: u64,
    pub cache_hit: Option<f64>,
    pub preemptions: u64,
}

/// What is true of the session.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub requests: Vec<Truth>,
    /// By engine and step: start, requests in prefill and in decode, tokens of both, free blocks after it.
    pub batches: Vec<(u64, usize, usize, u64, u64)>,
    /// Time in which an engine ran nothing, and all time, from its first step to its last.
    pub idle: (u64, u64),
    /// Drafted and accepted tokens.
    pub drafted: (u64, u64),
    /// Forward passes: process, start, and the time until the next of its process begins.
    pub forwards: Vec<(usize, u64, Option<u64>)>,
    pub records: u64,
}

/// Takes what the server records; of each process in the order of time.
pub trait Recorder {
    fn begin(&mut self, process: usize, time: u64, domain: &'static str, name: &'static str);
    fn end(&mut self, process: usize, time: u64, attributes: &[(&'static str, Value)]);
    fn instant(
        &mut self,
        process: usize,
        time: u64,
        domain: &'static str,
        name: &'static str,
        attributes: &[(&'static str, Value)],
    );
}

/// A small generator of numbers (SplitMix64): the same plan is the same session everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

struct Request {
    truth: usize,
    engine_id: String,
    arrival: u64,
    prompt: u64,
    output: u64,
    /// Tokens computed, tokens that must be computed before the next comes out (the prompt, and what a preemption
    /// made forget), tokens generated, steps.
    computed: u64,
    target: u64,
    generated: u64,
    iter: i64,
    blocks: u64,
    aborted_at: Option<u64>,
    waiting_since: u64,
    /// Tokens were proposed for its next step.
    is_drafted: bool,
}

struct Engine {
    time: u64,
    arriving: VecDeque<Request>,
    waiting: VecDeque<Request>,
    running: Vec<Request>,
    free: u64,
    first_start: Option<u64>,
    last_end: u64,
    /// Its last forward pass, and when that ended.
    forward: Option<usize>,
    forward_end: u64,
}

struct Server<'a> {
    plan: &'a Plan,
    random: Random,
    recorder: &'a mut dyn Recorder,
    outcome: Outcome,
    /// Until when each of the API server's records has come: its clock never goes back.
    front: u64,
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn list<'a>(ids: impl Iterator<Item = &'a str>) -> Value {
    Value::Array(ids.map(text).collect())
}

/// Runs the server. Process 0 is the API server, 1 to `engines` are the engines.
pub fn simulate(plan: &Plan, recorder: &mut dyn Recorder) -> Outcome {
    let mut server =
        Server { plan, random: Random(plan.seed), recorder, outcome: Outcome::default(), front: BEGIN };
    let mut engines: Vec<Engine> = (0..plan.engines)
        .map(|_| Engine {
            time: BEGIN,
            arriving: VecDeque::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            free: plan.blocks,
            first_start: None,
            last_end: BEGIN,
            forward: None,
            forward_end: BEGIN,
        })
        .collect();
    let (mut made, mut next_arrival) = (0, BEGIN);
    loop {
        // The engine that is furthest behind goes on: so the API server hears of things in their order.
        let Some(current) =
            (0..engines.len()).filter(|n| !engines[*n].is_idle()).min_by_key(|n| engines[*n].time)
        else {
            if made == plan.requests {
                break;
            }
            let request = server.arrival(made, &mut next_arrival);
            engines[made % plan.engines].arriving.push_back(request);
            made += 1;
            continue;
        };
        while made < plan.requests && next_arrival <= engines[current].time {
            let request = server.arrival(made, &mut next_arrival);
            engines[made % plan.engines].arriving.push_back(request);
            made += 1;
        }
        server.step(current + 1, &mut engines[current]);
    }
    for engine in &engines {
        server.outcome.idle.1 += engine.last_end - engine.first_start.unwrap_or(engine.last_end);
    }
    server.outcome.batches.sort_unstable();
    server.outcome
}

impl Engine {
    fn is_idle(&self) -> bool {
        self.arriving.is_empty() && self.waiting.is_empty() && self.running.is_empty()
    }
}

impl Server<'_> {
    fn instant(
        &mut self,
        process: usize,
        time: u64,
        domain: &'static str,
        name: &'static str,
        attributes: &[(&'static str, Value)],
    ) {
        self.outcome.records += 1;
        self.recorder.instant(process, time, domain, name, attributes);
    }

    /// The API server's clock: at least `time`, and later than its last record.
    fn front(&mut self, time: u64) -> u64 {
        self.front = time.max(self.front + 1);
        self.front
    }

    fn arrival(&mut self, number: usize, next: &mut u64) -> Request {
        let time = self.front(*next);
        *next += 1 + self.random.below(2 * self.plan.arrival);
        let id = format!("cmpl-{:x}-{number}", self.plan.seed);
        let prompt = 1 + self.random.below(self.plan.longest.0);
        let output = 1 + self.random.below(self.plan.longest.1);
        self.instant(0, time, "Engine", "httpReq", &[("rid", text(&id))]);
        let tokenized = self.front(time + 30 * US);
        self.instant(0, tokenized, "Engine", "tokenize", &[("rid", text(&id))]);
        let aborted_at =
            (self.random.below(100) < self.plan.aborts).then(|| tokenized + self.random.below(20_000 * US));
        let engine_id = format!("{id}-{:08x}", self.random.next() as u32);
        self.outcome.requests.push(Truth { id, arrival: time, prompt, ..Truth::default() });
        Request {
            truth: self.outcome.requests.len() - 1,
            engine_id,
            arrival: tokenized + 100 * US,
            prompt,
            output,
            computed: 0,
            target: prompt,
            generated: 0,
            iter: 0,
            blocks: 0,
            aborted_at,
            waiting_since: 0,
            is_drafted: false,
        }
    }

    fn step(&mut self, process: usize, engine: &mut Engine) {
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
        while engine.arriving.front().is_some_and(|request| request.arrival <= engine.time) {
            let Some(mut request) = engine.arriving.pop_front() else { break };
            engine.time += US;
            request.waiting_since = engine.time;
            self.enter_queue(process, engine, &request);
            engine.waiting.push_back(request);
        }
    }

    fn abort(&mut self, process: usize, engine: &mut Engine) {
        let is_over = |request: &Request| request.aborted_at.is_some_and(|time| time <= engine.time);
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
        }
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
            if is_new {
                let share = hit as f64 / request.prompt as f64;
                self.outcome.requests[request.truth].cache_hit = Some(share);
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
        let (mut spoken, mut done) = (Vec::new(), Vec::new());
        for ((position, tokens), accepted) in scheduled.iter().zip(accepted) {
            let request = &mut engine.running[*position];
            let was_decoding = request.computed >= request.target;
            request.iter += 1;
            request.computed += if was_decoding { 1 + accepted } else { *tokens };
            if request.computed >= request.target {
                request.generated = (request.generated + 1 + accepted).min(request.output);
                spoken.push(request.truth);
                if request.generated == request.output {
                    done.push(*position);
                }
            }
        }
        let mut ended = Vec::new();
        for position in done.into_iter().rev() {
            let request = engine.running.remove(position);
            engine.free += request.blocks;
            engine.time += US;
            self.free(process, engine, &request.engine_id);
            ended.push(request);
        }
        if spoken.is_empty() {
            return;
        }
        for request in ended {
            let time = self.front(engine.time + 80 * US);
            let truth = &mut self.outcome.requests[request.truth];
            (truth.end, truth.output) = (Some(time), request.generated);
            let id = text(&truth.id);
            let sizes = [request.prompt as i64, request.generated as i64].map(Value::Int);
            let [prompt, output] = sizes;
            self.instant(
                0,
                time,
                "Engine",
                "httpRes",
                &[("rid", id), ("recvTokenSize=", prompt), ("replyTokenSize=", output)],
            );
        }
        let time = self.front(engine.time + 90 * US);
        for truth in &spoken {
            self.outcome.requests[*truth].first_output.get_or_insert(time);
        }
        let ids = list(spoken.iter().map(|truth| self.outcome.requests[*truth].id.as_str()));
        self.instant(0, time, "Engine", "detokenize", &[("rid", ids)]);
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
