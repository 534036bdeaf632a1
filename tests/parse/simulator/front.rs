//! The front end: what clients ask becomes requests of the engine, whose outputs become answers.

use msprof_rs::event::Value;

use super::engine::Request;
use super::{Moments, Server, Truth, US, list, seconds, text};

/// How the front end's records name a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// By the API server's id alone, as in captures of other tools. Each call is one request.
    #[default]
    Apart,
    /// By the engine's id and with the API server's beside it, as for vLLM 0.32.
    Joined,
    /// There is no server: a program calls the engine, and its requests are numbered.
    Offline,
}

/// What clients do, unless the front end is [`Front::Apart`].
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// Most prompts of a call.
    pub prompts: u64,
    /// Most answers to a prompt.
    pub answers: u64,
    /// Of a hundred calls, so many bear the id of the one before, which may still go on.
    pub repeats: u64,
    /// Of a hundred calls, so many search with beams.
    pub searches: u64,
    /// Of a hundred calls, so many are answered piece by piece.
    pub streams: u64,
}

/// An HTTP request, or a call of `generate`.
#[derive(Default)]
pub(super) struct Call {
    /// What the engine makes of it.
    members: Vec<usize>,
    /// The API server's id and the engine's, of each prompt.
    ids: Vec<(String, String)>,
    unanswered: usize,
    is_streamed: bool,
    has_begun: bool,
    hangs_up_at: Option<u64>,
    pub(super) has_hung_up: bool,
}

/// A request that was given tokens.
pub(super) struct Spoken {
    pub(super) truth: usize,
    pub(super) call: usize,
    /// The engine's id.
    pub(super) id: String,
}

/// A prompt: its id, how many answers it gets, and most tokens of each.
struct Prompt {
    id: String,
    answers: u64,
    longest: u64,
}

impl Server<'_> {
    /// A client calls.
    pub(super) fn call(&mut self, number: usize, next: &mut u64) -> Vec<Request> {
        let arrival = self.front(*next);
        *next += 1 + self.random.below(2 * self.plan.arrival);
        if self.plan.front == Front::Apart {
            return vec![self.request_apart(number, arrival)];
        }
        let hangs_up = self.random.below(100) < self.plan.aborts;
        let hangs_up_at =
            (hangs_up && self.plan.front == Front::Joined).then(|| arrival + self.random.below(20_000 * US));
        let is_streamed = self.random.below(100) < self.plan.clients.streams;
        self.calls.push(Call { is_streamed, hangs_up_at, ..Call::default() });
        let prompts = self.prompts(number);
        let requests: Vec<Request> =
            prompts.into_iter().flat_map(|prompt| self.requests(prompt, arrival)).collect();
        if let Some(call) = self.calls.last_mut() {
            call.members = requests.iter().map(|request| request.truth).collect();
            call.unanswered = call.members.len();
            for member in &call.members {
                self.outcome.requests[*member].shares_answer = call.members.len() > 1;
            }
        }
        requests
    }

    fn prompts(&mut self, number: usize) -> Vec<Prompt> {
        let clients = &self.plan.clients;
        if self.random.below(100) >= clients.repeats || self.last_name.is_empty() {
            self.last_name = format!("cmpl-{:x}-{number}", self.plan.seed);
        }
        let longest = self.plan.longest.1;
        if self.plan.front == Front::Joined && self.random.below(100) < clients.searches {
            let turn = |turn: u64| {
                let id = format!("{}-0-{:032x}", self.last_name, self.random.next());
                (0..=turn.min(1)).map(move |beam| format!("{id}-beam-{beam}"))
            };
            let beams = (0..3).flat_map(turn);
            return beams.map(|id| Prompt { id, answers: 1, longest: 1 }).collect();
        }
        let count = 1 + self.random.below(clients.prompts);
        let prompt = |index: u64| {
            let answers = 1 + self.random.below(clients.answers);
            let id = if self.plan.front == Front::Offline {
                self.numbered += 1;
                (self.numbered - 1).to_string()
            } else {
                format!("{}-{index}", self.last_name)
            };
            Prompt { id, answers, longest }
        };
        (0..count).map(prompt).collect()
    }

    /// A prompt goes to the engine: each answer is a request.
    fn requests(&mut self, prompt: Prompt, arrival: u64) -> Vec<Request> {
        let engine_id = format!("{}-{:08x}", prompt.id, self.random.next() as u32);
        let tokens = 1 + self.random.below(self.plan.longest.0);
        let ids: Vec<(String, String)> = match prompt.answers {
            1 => vec![(prompt.id.clone(), engine_id.clone())],
            n => (0..n).map(|i| (format!("{i}_{}", prompt.id), format!("{i}_{engine_id}"))).collect(),
        };
        let input = self.front(arrival + 20 * US);
        self.instant(0, input, "Engine", "processInputs", &[("rid", text(&prompt.id))]);
        let tokenized = self.front(input + 10 * US);
        let is_asked = self.plan.front == Front::Joined;
        if is_asked {
            let rid = match &ids[..] {
                [(_, id)] => text(id),
                ids => list(ids.iter().map(|(_, id)| id.as_str())),
            };
            let attributes = [("rid", rid), ("http_rid", text(&prompt.id))];
            // Recorded when the engine has it, with the time at which it came.
            self.instant(0, arrival, "Engine", "httpReq", &attributes);
            self.instant(0, tokenized, "Engine", "tokenize", &attributes);
        }
        let call = self.calls.len() - 1;
        self.calls[call].ids.push((prompt.id, engine_id));
        let request = |(id, engine_id): (String, String)| {
            let told = seconds(arrival + 5 * US);
            let moments = Moments {
                input,
                told,
                asked: is_asked.then_some(input),
                tokenized: is_asked.then_some(tokenized),
                ..Moments::default()
            };
            let truth = Truth {
                id,
                engine_id: engine_id.clone(),
                arrival,
                prompt: tokens,
                moments,
                ..Truth::default()
            };
            self.outcome.requests.push(truth);
            let output = 1 + self.random.below(prompt.longest);
            let truth = self.outcome.requests.len() - 1;
            Request::new((truth, call), engine_id, tokenized + 100 * US, (tokens, output))
        };
        ids.into_iter().map(request).collect()
    }

    fn request_apart(&mut self, number: usize, arrival: u64) -> Request {
        let id = format!("cmpl-{:x}-{number}", self.plan.seed);
        let prompt = 1 + self.random.below(self.plan.longest.0);
        let output = 1 + self.random.below(self.plan.longest.1);
        self.instant(0, arrival, "Engine", "httpReq", &[("rid", text(&id))]);
        let tokenized = self.front(arrival + 30 * US);
        self.instant(0, tokenized, "Engine", "tokenize", &[("rid", text(&id))]);
        let is_aborted = self.random.below(100) < self.plan.aborts;
        let aborted_at = is_aborted.then(|| tokenized + self.random.below(20_000 * US));
        let engine_id = format!("{id}-{:08x}", self.random.next() as u32);
        self.outcome.requests.push(Truth { id, arrival, prompt, ..Truth::default() });
        let truth = self.outcome.requests.len() - 1;
        let mut request = Request::new((truth, 0), engine_id, tokenized + 100 * US, (prompt, output));
        request.aborted_at = aborted_at;
        request
    }

    /// Clients that have had enough by now; gives the time when the engine may hear of it.
    pub(super) fn hang_up(&mut self, calls: &[usize], now: u64) -> u64 {
        let mut heard = now;
        for number in calls {
            let call = &self.calls[*number];
            if call.has_hung_up || call.unanswered == 0 || call.hangs_up_at.is_none_or(|time| time > now) {
                continue;
            }
            let is_streamed = call.is_streamed;
            self.calls[*number].has_hung_up = true;
            heard = self.front(now);
            if !is_streamed && self.random.below(2) == 0 {
                self.send(*number, heard, "last");
            }
            for (id, engine_id) in self.calls[*number].ids.clone() {
                self.instant(0, heard, "Engine", "abort", &[("rid", text(&engine_id))]);
                self.instant(0, heard, "Engine", "generate", &[("rid", text(&id))]);
            }
        }
        heard
    }

    /// Outputs of a step come to the front end: of the requests that were given tokens, `ended` have all of theirs.
    pub(super) fn answer(&mut self, time: u64, spoken: &[Spoken], ended: &[Request]) {
        let time = self.front(time);
        // What comes for a client that has hung up is dropped.
        let has_left: Vec<bool> = self.calls.iter().map(|call| call.has_hung_up).collect();
        for request in ended.iter().filter(|request| !has_left[request.call]) {
            self.calls[request.call].unanswered -= 1;
            let truth = &mut self.outcome.requests[request.truth];
            (truth.moments.answered, truth.output) = (Some(time), request.generated);
            let named = self.calls[request.call].ids.iter().find(|(_, id)| request.engine_id.ends_with(id));
            let name = named.map(|(id, _)| text(id)).expect("it is of that call");
            let [prompt, output] = [request.prompt, request.generated].map(|n| Value::Int(n as i64));
            let rid = ("rid", text(&request.engine_id));
            let attributes =
                [rid, ("http_rid", name), ("recvTokenSize=", prompt), ("replyTokenSize=", output)];
            self.instant(0, time, "Engine", "httpRes", &attributes);
        }
        let heard: Vec<&Spoken> = spoken.iter().filter(|spoken| !has_left[spoken.call]).collect();
        if heard.is_empty() {
            return;
        }
        for spoken in &heard {
            self.outcome.requests[spoken.truth].moments.texts.push(time);
        }
        let ids = list(heard.iter().map(|spoken| spoken.id.as_str()));
        self.instant(0, time, "Engine", "detokenize", &[("rid", ids)]);
        if self.plan.front == Front::Offline {
            return;
        }
        for number in heard.iter().map(|spoken| spoken.call) {
            if self.calls[number].is_streamed && !self.calls[number].has_begun {
                self.calls[number].has_begun = true;
                let time = self.front(time + 10 * US);
                self.send(number, time, "first");
            }
            if self.calls[number].unanswered == 0 && !self.calls[number].ids.is_empty() {
                let time = self.front(time + 10 * US);
                self.send(number, time, "last");
                for (id, _) in std::mem::take(&mut self.calls[number].ids) {
                    self.instant(0, time, "Engine", "generate", &[("rid", text(&id))]);
                }
            }
        }
    }

    /// A piece of the answer goes out.
    fn send(&mut self, call: usize, time: u64, chunk: &str) {
        for truth in self.calls[call].members.clone() {
            let truth = &mut self.outcome.requests[truth];
            let moments = &mut truth.moments;
            *(if chunk == "first" { &mut moments.begun } else { &mut moments.sent }) = Some(time);
            let attributes = [("rid", text(&truth.engine_id)), ("chunk", text(chunk))];
            self.instant(0, time, "Engine", "sendResponse", &attributes);
        }
    }

    /// As [`Server::answer`], for a front end that has ids of its own.
    pub(super) fn answer_apart(&mut self, now: u64, spoken: &[Spoken], ended: &[Request]) {
        for request in ended {
            let time = self.front(now + 80 * US);
            let truth = &mut self.outcome.requests[request.truth];
            (truth.end, truth.output) = (Some(time), request.generated);
            let id = text(&truth.id);
            let [prompt, output] = [request.prompt, request.generated].map(|n| Value::Int(n as i64));
            let attributes = [("rid", id), ("recvTokenSize=", prompt), ("replyTokenSize=", output)];
            self.instant(0, time, "Engine", "httpRes", &attributes);
        }
        let time = self.front(now + 90 * US);
        for spoken in spoken {
            self.outcome.requests[spoken.truth].first_output.get_or_insert(time);
        }
        let ids = list(spoken.iter().map(|spoken| self.outcome.requests[spoken.truth].id.as_str()));
        self.instant(0, time, "Engine", "detokenize", &[("rid", ids)]);
    }
}
