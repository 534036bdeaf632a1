//! How fast requests are computed, in windows of 100 ms: percentiles over the samples of each window.
//!
//! * Prefill: requests in the batch that scheduled its first step, by the time from that scheduling to the end of the
//!   step's execution.
//! * Decode: requests in the batch of a step, by the time since the end of the step before it.
//!
//! Both count requests a second; with one token for each request of a step they are tokens a second.

use rustc_hash::FxHashMap;

use super::batches::SCHEDULE_NAMES;
use super::distribution::{Distribution, percentile};
use super::ids::RequestId;
use super::resources::Resources;
use crate::clock::Nanos;
use crate::event::{Kind, Record};

/// Length of a window, in nanoseconds.
pub const WINDOW: u64 = 100_000_000;

/// Samples of the distribution over all time are kept in thousandths.
const PARTS: f64 = 1_000.0;

/// One window. Values are in the unit of the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// When it began, in unix nanoseconds.
    pub start: Nanos,
    /// The average.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// Half are below.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// Ninety-nine of a hundred are below.
    pub p99: f64,
}

/// The finished windows.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// Those that have samples, by time.
    pub rows: Vec<Window>,
    /// The median over all time.
    pub median: f64,
}

/// Puts samples into windows, of which the first begins with the first sample.
#[derive(Debug, Default)]
pub struct Windowed {
    first: Option<Nanos>,
    number: u64,
    samples: Vec<f64>,
    rows: Vec<Window>,
    all: Distribution,
}

/// Builds the windows.
#[derive(Debug, Default)]
pub struct Speeds {
    prefill: Windowed,
    decode: Windowed,
    requests: FxHashMap<RequestId, Steps>,
}

/// A request's last steps.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    /// Size and start of the batch that scheduled its first step.
    scheduled: Option<(usize, Nanos)>,
    /// Its last step, and when that ended.
    last: Option<(u32, Nanos)>,
}

impl Windowed {
    /// Takes a sample in. Samples come in the order of time.
    pub fn push(&mut self, time: Nanos, value: f64) {
        let first = *self.first.get_or_insert(time);
        let number = time.0.saturating_sub(first.0) / WINDOW;
        if number > self.number {
            self.close();
            self.number = number;
        }
        self.samples.push(value);
        self.all.push((value * PARTS).max(0.0) as u64);
    }

    fn close(&mut self) {
        let mut samples = std::mem::take(&mut self.samples);
        samples.sort_by(f64::total_cmp);
        if let (Some(first), Some(min)) = (self.first, samples.first()) {
            let rank = |rank| percentile(&samples, rank).unwrap_or_default();
            self.rows.push(Window {
                start: Nanos(first.0 + self.number * WINDOW),
                mean: samples.iter().sum::<f64>() / samples.len() as f64,
                min: *min,
                p50: rank(0.5),
                p90: rank(0.9),
                p99: rank(0.99),
            });
        }
    }

    /// The windows.
    pub fn finish(mut self) -> Windows {
        self.close();
        Windows { rows: self.rows, median: self.all.percentile(0.5) / PARTS }
    }
}

impl Speeds {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        if resources.list.is_empty() || record.kind != Kind::Span {
            return;
        }
        let size = resources.list.len();
        if SCHEDULE_NAMES.contains(&record.name()) {
            for resource in resources.list.iter().filter(|resource| resource.iter.get() == Some(0)) {
                let steps = self.requests.entry(resource.request).or_default();
                steps.scheduled = Some((size, record.start));
            }
        } else if record.name() == "modelExec" {
            for resource in &resources.list {
                let Some(iter) = resource.iter.get() else { continue };
                let steps = self.requests.entry(resource.request).or_default();
                let speed = |size: usize, since: Nanos| {
                    let seconds = record.end.0.saturating_sub(since.0) as f64 / 1e9;
                    (seconds > 0.0).then(|| size as f64 / seconds)
                };
                match (steps.scheduled.take(), steps.last) {
                    (Some((size, start)), _) if iter == 0 => {
                        speed(size, start).into_iter().for_each(|speed| self.prefill.push(record.end, speed));
                    }
                    (_, Some((last, end))) if iter == last + 1 => {
                        speed(size, end).into_iter().for_each(|speed| self.decode.push(record.end, speed));
                    }
                    _ => {}
                }
                steps.last = Some((iter, record.end));
            }
        } else if matches!(record.name(), "httpRes" | "coreRes") {
            for resource in &resources.list {
                self.requests.remove(&resource.request);
            }
        }
    }

    /// The windows of prefill and of decode.
    pub fn finish(self) -> (Windows, Windows) {
        (self.prefill.finish(), self.decode.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::model::Ids;
    use crate::source::fixture::{record, step};

    #[test]
    fn steps_are_timed_from_the_one_before_and_the_first_from_its_scheduling() {
        const MS: u64 = 1_000_000;
        let (mut ids, mut resources, mut speeds) = (Ids::default(), Resources::default(), Speeds::default());
        let both = |iter| {
            let computed = if iter == 0 { 0 } else { 7 + iter };
            [("rid", Value::Array(["a", "b"].map(|id| step(id, iter, 1, 8, computed)).into()))]
        };
        for record in [
            record((0, MS), "Schedule", "batchFrameworkProcessing", &both(0)),
            record((2 * MS, 10 * MS), "Execute", "modelExec", &both(0)),
            record((11 * MS, 14 * MS), "Execute", "modelExec", &both(1)),
            record((400 * MS, 514 * MS), "Execute", "modelExec", &both(2)),
        ] {
            resources.read(&record, &mut ids);
            speeds.push(&record, &resources);
        }
        let (prefill, decode) = speeds.finish();
        assert_eq!((prefill.rows.len(), prefill.rows[0].p50, prefill.median), (1, 200.0, 200.0));
        let seen: Vec<_> = decode.rows.iter().map(|row| (row.start.0 / MS, row.mean, row.p99)).collect();
        assert_eq!(seen, [(14, 500.0, 500.0), (514, 4.0, 4.0)]);
    }
}
