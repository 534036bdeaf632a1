//! What `analyze` sums up: the time between tokens, sizes and durations of batches, and the throughput of the service.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::batches::{BATCH_NAMES, SCHEDULE_NAMES};
use super::distribution::Distribution;
use super::ids::RequestId;
use super::request::Request;
use super::resources::Resources;
use crate::clock::Nanos;
use crate::event::{Kind, Name, Record};

/// Distributions over the requests whose arrival and end are both in the capture, and over batches. Durations are
/// nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// From arrival to the first output.
    pub first_token: Distribution,
    /// Between the ends of consecutive steps of a request, each the last end of all batches of that step.
    pub between_tokens: Distribution,
    /// From arrival to the end.
    pub latency: Distribution,
    /// Sum of the executions of a request.
    pub execution: Distribution,
    /// In the queue of waiting requests.
    pub waiting: Distribution,
    /// Tokens of the prompt.
    pub prompt_tokens: Distribution,
    /// Tokens generated.
    pub output_tokens: Distribution,
    /// Requests of each different batch that was scheduled, prefill and decode.
    pub batch_sizes: [Distribution; 2],
    /// Durations of its executions, prefill and decode.
    pub batch_executions: [Distribution; 2],
    /// From the first arrival to the last answer.
    pub window: u64,
}

/// Builds the summary.
#[derive(Debug, Default)]
pub struct Summaries {
    requests: FxHashMap<RequestId, Steps>,
    between_tokens: Distribution,
    batches: FxHashSet<u64>,
    sizes: [Distribution; 2],
    executions: [Distribution; 2],
}

/// The steps of a request that is being computed.
#[derive(Debug, Default)]
struct Steps {
    is_asked: bool,
    /// The step that is going on, and its last end so far.
    current: Option<(u32, Nanos)>,
    /// The end of the step before.
    before: Option<Nanos>,
    between: Vec<u64>,
}

impl Steps {
    fn end(&mut self, iter: u32, end: Nanos) {
        match &mut self.current {
            Some((current, last)) if *current == iter => *last = end.max(*last),
            Some((current, _)) if *current > iter => {}
            _ => {
                self.close();
                self.current = Some((iter, end));
            }
        }
    }

    fn close(&mut self) {
        if let Some((_, end)) = self.current.take() {
            self.between.extend(self.before.map(|before| end.0.saturating_sub(before.0)));
            self.before = Some(end);
        }
    }
}

impl Summaries {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        let name = record.name();
        match name {
            "httpReq" | "coreReq" => {
                for resource in &resources.list {
                    self.requests.entry(resource.request).or_default().is_asked = true;
                }
            }
            "httpRes" | "coreRes" => {
                for resource in &resources.list {
                    let Some(mut steps) = self.requests.remove(&resource.request) else { continue };
                    steps.close();
                    if steps.is_asked {
                        self.between_tokens.extend(steps.between);
                    }
                }
            }
            _ if record.kind == Kind::Span
                && (BATCH_NAMES.contains(&name) || SCHEDULE_NAMES.contains(&name)) =>
            {
                self.batch(record, resources);
            }
            _ => {}
        }
    }

    fn batch(&mut self, record: &Record, resources: &Resources) {
        for resource in &resources.list {
            let Some(iter) = resource.iter.get() else { continue };
            self.requests.entry(resource.request).or_default().end(iter, record.end);
        }
        let phase = match resources.batch_type.map(Name::as_str) {
            Some("Prefill") => 0,
            Some("Decode") => 1,
            _ => return,
        };
        if record.name() == "modelExec" {
            self.executions[phase].push(record.end.0.saturating_sub(record.start.0));
        }
        if SCHEDULE_NAMES.contains(&record.name()) && !resources.list.is_empty() {
            let mut hasher = FxHasher::default();
            phase.hash(&mut hasher);
            resources.list.iter().for_each(|resource| resource.request.hash(&mut hasher));
            if self.batches.insert(hasher.finish()) {
                self.sizes[phase].push(resources.list.len() as u64);
            }
        }
    }

    /// The summary.
    pub fn finish(self, requests: &[Request]) -> Summary {
        let whole = requests.iter().filter(|request| request.is_whole);
        let tokens = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        Summary {
            first_token: whole.clone().filter_map(Request::first_token).collect(),
            between_tokens: self.between_tokens,
            latency: whole.clone().filter_map(Request::latency).collect(),
            execution: whole.clone().filter_map(|request| request.execution).collect(),
            waiting: whole.clone().filter_map(|request| request.queue_wait).collect(),
            prompt_tokens: whole.clone().filter_map(|request| tokens(request.prompt_tokens)).collect(),
            output_tokens: whole.clone().filter_map(|request| tokens(request.output_tokens)).collect(),
            batch_sizes: self.sizes,
            batch_executions: self.executions,
            window: match (
                whole.clone().filter_map(|request| request.arrival).min(),
                whole.filter_map(|request| request.end).max(),
            ) {
                (Some(first), Some(last)) => last.0.saturating_sub(first.0),
                _ => 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::model::{Ids, Requests};
    use crate::source::fixture::{record, step, text};

    #[test]
    fn steps_of_a_request_are_apart_by_their_last_ends() {
        let (mut ids, mut resources) = (Ids::default(), Resources::default());
        let (mut summaries, mut requests) = (Summaries::default(), Requests::default());
        let steps =
            |iter| [("rid", Value::Array(vec![step("a", iter, 1, 8, if iter == 0 { 0 } else { 9 })]))];
        let rid = ("rid", text("a"));
        for record in [
            record((1, 1), "Engine", "httpReq", std::slice::from_ref(&rid)),
            record((2, 3), "Schedule", "batchFrameworkProcessing", &steps(0)),
            record((4, 9), "Execute", "modelRunnerExec", &steps(0)),
            record((4, 10), "Execute", "modelExec", &steps(0)),
            record((11, 17), "Execute", "modelExec", &steps(1)),
            record((18, 21), "Execute", "modelExec", &steps(2)),
            record(
                (31, 31),
                "Engine",
                "httpRes",
                &[rid, ("recvTokenSize=", Value::Int(8)), ("replyTokenSize=", Value::Int(3))],
            ),
        ] {
            resources.read(&record, &mut ids);
            summaries.push(&record, &resources);
            requests.push(&record, &resources);
        }
        let mut summary = summaries.finish(&requests.finish(&ids));
        assert_eq!(
            (summary.between_tokens.count(), summary.between_tokens.min(), summary.between_tokens.max()),
            (2, 4, 7)
        );
        assert_eq!((summary.window, summary.latency.max(), summary.execution.max()), (30, 30, 15));
        assert_eq!((summary.batch_sizes[0].count(), summary.batch_executions[1].percentile(0.5)), (1, 4.5));
    }
}
