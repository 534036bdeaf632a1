//! A request's row: its times, and what follows from them.

use super::ids::RequestId;
use crate::clock::Nanos;
use crate::event::ProcessId;

/// What is known of a request. Times are unix nanoseconds, durations nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its id, as the user knows it.
    pub id: String,
    /// What other tables know it by.
    pub number: RequestId,
    /// The process that it came to: the front end's, or the engine's where that is all there is.
    pub process: ProcessId,
    /// Start of its first `httpReq`; where the front end is not seen, the arrival that it has told the engine.
    pub arrival: Option<Nanos>,
    /// End of the last of `httpRes`, `DecodeEnd`, `sendResponse`, `outputSync`; without an answer (its client hung up: it was
    /// aborted, without `httpRes`; or there is no front end), `coreRes`. The first piece of a streamed answer ends nothing.
    pub end: Option<Nanos>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<i64>,
    /// Tokens generated.
    pub output_tokens: Option<i64>,
    /// Time in the queue of waiting requests; that after preemptions counts too.
    pub queue_wait: Option<u64>,
    /// When its first output was there: see [`Requests`](super::Requests).
    pub first_output: Option<Nanos>,
    /// Share of its prompt that was in the prefix cache, 0 to 1.
    pub cache_hit: Option<f64>,
    /// Sum of the durations of the `modelExec` spans that name it; none does where those aren't recorded.
    pub execution: Option<u64>,
    /// Whether the capture has its arrival and its end, and it was not aborted.
    pub is_whole: bool,
    /// When it went from one hand to the next.
    pub marks: Marks,
}

/// When a request went from one hand to the next, in unix nanoseconds; all between its arrival and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// First in the queue of waiting requests.
    pub enqueued: Option<Nanos>,
    /// First taken out of it.
    pub scheduled: Option<Nanos>,
    /// The end of the execution that read the last of its prompt; without one, the engine's `firstToken`.
    pub prefilled: Option<Nanos>,
    /// The engine was done with it: `coreRes`, else the end of the last execution that names it.
    pub finished: Option<Nanos>,
    /// The front end had its whole text: `httpRes`.
    pub answered: Option<Nanos>,
}

/// Where a request's time went, in nanoseconds; a part is known only if all marks that enclose it are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// In the queue of waiting requests.
    pub queue: Option<u64>,
    /// From the first scheduling to the end of its prompt.
    pub prefill: Option<u64>,
    /// From then to the last step, without waiting after preemptions.
    pub decode: Option<u64>,
    /// In Python beside the engine: from arrival to the queue, and from the last step to the whole text.
    pub host: Option<u64>,
    /// From the whole text to the last piece of the answer that was sent.
    pub network: Option<u64>,
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

    /// Whether there is anything to tell: of one that ended when collection began, the last piece of its answer may be all.
    pub(super) fn says_something(&self) -> bool {
        let numbers = [self.prompt_tokens, self.output_tokens];
        self.arrival.is_some()
            || self.queue_wait.is_some()
            || self.execution.is_some()
            || numbers.iter().any(Option::is_some)
    }

    /// Where its time went.
    pub fn shares(&self) -> Shares {
        let between = |from: Option<Nanos>, to: Option<Nanos>| Some(to?.0.saturating_sub(from?.0));
        let Marks { enqueued, scheduled, prefilled, finished, answered } = self.marks;
        // Where no queue is recorded, no preemption is either.
        let waited_later = self
            .queue_wait
            .zip(between(enqueued, scheduled))
            .map_or(0, |(waited, first)| waited.saturating_sub(first));
        Shares {
            queue: self.queue_wait,
            prefill: between(scheduled, prefilled),
            decode: between(prefilled, finished).map(|time| time.saturating_sub(waited_later)),
            host: between(self.arrival, enqueued)
                .zip(between(finished, answered))
                .map(|(before, after)| before.saturating_add(after)),
            // Where no last piece is recorded, the whole text is the end.
            network: between(answered, self.end).filter(|time| *time > 0),
        }
    }

    /// Queued, prefill and decode, as far as they are known: name, beginning, end.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, Nanos, Nanos)> {
        let Marks { enqueued, scheduled, prefilled, finished, .. } = self.marks;
        [("queued", enqueued, scheduled), ("prefill", scheduled, prefilled), ("decode", prefilled, finished)]
            .into_iter()
            .filter_map(|(name, start, end)| Some((name, start?, end?)))
            .filter(|(_, start, end)| start <= end)
    }
}
