//! The five figures that a person asks first.

use super::distribution::percentile;
use super::request::Request;

/// The figures of a session. Times are nanoseconds; none where the capture does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Requests that arrived.
    pub requests: usize,
    /// Time from a request's arrival to its first output: median and 99th percentile.
    pub first_token: Option<(f64, f64)>,
    /// Time from a request's arrival to its end: median and 99th percentile.
    pub latency: Option<(f64, f64)>,
    /// Output tokens of all requests that ended, by the time from the first arrival to the last end.
    pub tokens_per_second: Option<f64>,
    /// Share of time in which the engine was idle: see [`Engine::finish`](super::Engine::finish).
    pub idle_share: Option<f64>,
}

impl Figures {
    /// Whether there is anything to tell: a request, or steps of an engine.
    pub fn is_of_a_server(&self) -> bool {
        self.requests > 0 || self.idle_share.is_some()
    }

    /// Computes the figures.
    pub fn of(requests: &[Request], idle_share: Option<f64>) -> Self {
        let both = |mut times: Vec<u64>| {
            times.sort_unstable();
            Some((percentile(&times, 0.5)?, percentile(&times, 0.99)?))
        };
        let first_arrival = requests.iter().filter_map(|request| request.arrival).min();
        let ended = requests.iter().filter(|request| request.end.is_some());
        let last_end = ended.clone().filter_map(|request| request.end).max();
        let tokens: f64 = ended.filter_map(|request| request.output_tokens).map(|tokens| tokens as f64).sum();
        let seconds =
            first_arrival.zip(last_end).map(|(first, last)| last.0.saturating_sub(first.0) as f64 / 1e9);
        Self {
            requests: requests.iter().filter(|request| request.arrival.is_some()).count(),
            first_token: both(requests.iter().filter_map(Request::first_token).collect()),
            latency: both(requests.iter().filter_map(Request::latency).collect()),
            tokens_per_second: seconds.filter(|s| *s > 0.0 && tokens > 0.0).map(|s| tokens / s),
            idle_share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;

    #[test]
    fn throughput_counts_only_requests_that_ended() {
        let request = |arrival, end, tokens| Request {
            arrival: Some(Nanos(arrival)),
            end,
            output_tokens: Some(tokens),
            first_output: Some(Nanos(arrival + 5)),
            ..Request::default()
        };
        let second = 1_000_000_000;
        let rows = [
            request(second, Some(Nanos(2 * second)), 30),
            request(2 * second, Some(Nanos(3 * second)), 30),
            request(2 * second, None, 500),
        ];
        let figures = Figures::of(&rows, None);
        assert_eq!((figures.requests, figures.tokens_per_second), (3, Some(30.0)));
        assert_eq!((figures.first_token, figures.latency), (Some((5.0, 5.0)), Some((1e9, 1e9))));
        assert_eq!(Figures::of(&[], Some(0.5)), Figures { idle_share: Some(0.5), ..Figures::default() });
    }
}
