//! A server that never was: its requests, queues, steps and KV blocks are computed, it records what a real one does, and
//! everything that a parser should find out is known. Used by the tests of `parse` and by its benchmark.

mod engine;
mod front;

use msprof_rs::event::Value;

use engine::Engine;
use front::Call;
pub use front::{Clients, Front};

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
    /// How the front end's records name them.
    pub front: Front,
    pub clients: Clients,
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

/// What is true of a request. Times are unix nanoseconds. Its first output and its end follow from `moments`, unless the
/// front end is [`Front::Apart`].
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
    /// The engine's id, and the process of that engine.
    pub engine_id: String,
    pub process: usize,
    /// Whether others are answered with it.
    pub shares_answer: bool,
    pub moments: Moments,
}

/// When the records of a request were made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// `processInputs`.
    pub input: u64,
    /// `httpReq`, which has the time of the arrival.
    pub asked: Option<u64>,
    /// `tokenize`.
    pub tokenized: Option<u64>,
    /// `coreReq`, and the arrival that it tells, in seconds.
    pub received: Option<u64>,
    pub told: f64,
    /// In the queue of waiting requests: `Enqueue` and `Dequeue`.
    pub stays: Vec<(u64, u64)>,
    /// The first `CacheHitRate`.
    pub looked_up: Option<u64>,
    /// `modelExec`, and whether it completed the prompt.
    pub runs: Vec<(u64, u64, bool)>,
    pub first_token: Option<u64>,
    /// `detokenize`.
    pub texts: Vec<u64>,
    /// `sendResponse`, of the first and of the last piece.
    pub begun: Option<u64>,
    pub sent: Option<u64>,
    /// `httpRes`.
    pub answered: Option<u64>,
    /// `coreRes`: when, whether it was aborted, and the tokens that it had been given.
    pub released: Option<(u64, bool, u64)>,
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

struct Server<'a> {
    plan: &'a Plan,
    random: Random,
    recorder: &'a mut dyn Recorder,
    outcome: Outcome,
    calls: Vec<Call>,
    /// The id of the last call.
    last_name: String,
    /// Requests of the program, where there is no server.
    numbered: u64,
    /// Until when each of the API server's records has come: its clock never goes back.
    front: u64,
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn list<'a>(ids: impl Iterator<Item = &'a str>) -> Value {
    Value::Array(ids.map(text).collect())
}

fn seconds(time: u64) -> f64 {
    time as f64 / 1e9
}

/// Runs the server. Process 0 is the API server, 1 to `engines` are the engines.
pub fn simulate(plan: &Plan, recorder: &mut dyn Recorder) -> Outcome {
    let mut server = Server {
        plan,
        random: Random(plan.seed),
        recorder,
        outcome: Outcome::default(),
        calls: Vec::new(),
        last_name: String::new(),
        numbered: 0,
        front: BEGIN,
    };
    let mut engines: Vec<Engine> = (0..plan.engines).map(|_| Engine::new(plan.blocks)).collect();
    let (mut made, mut next_arrival) = (0, BEGIN);
    loop {
        // The engine that is furthest behind goes on: so the API server hears of things in their order.
        let Some(current) =
            (0..engines.len()).filter(|n| !engines[*n].is_idle()).min_by_key(|n| engines[*n].time)
        else {
            if made == plan.requests {
                break;
            }
            let requests = server.call(made, &mut next_arrival);
            engines[made % plan.engines].arriving.extend(requests);
            made += 1;
            continue;
        };
        while made < plan.requests && next_arrival <= engines[current].time {
            let requests = server.call(made, &mut next_arrival);
            engines[made % plan.engines].arriving.extend(requests);
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
}
