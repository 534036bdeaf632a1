//! How busy the engines were: the time covered by executions of the model, by process, and the gaps in between.

use rustc_hash::FxHashMap;

use crate::clock::Nanos;
use crate::event::{Kind, ProcessId, Record};

/// Who an engine was waiting for when nothing ran: spans of its own that lie in gaps and in none of each other.
const BLAMED: [&str; 10] = [
    "inputQueue",
    "batchFrameworkProcessing",
    "BatchSchedule",
    "updateFromOutput",
    "grammarBitmask",
    "syncEngines",
    "dummyBatch",
    "postStep",
    "preprocess",
    "postprocess",
];

/// A time in which an engine ran no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The engine's process.
    pub process: ProcessId,
    /// When the last execution ended, in unix nanoseconds.
    pub start: Nanos,
    /// When the next began, in unix nanoseconds.
    pub end: Nanos,
    /// The span that took most of it, and how much; none if no known span lies in it.
    pub blamed: Option<(&'static str, u64)>,
}

/// Collects the executions (`modelExec`, or `forward` where there is none), merged as they come.
#[derive(Debug, Default)]
pub struct Engine {
    executions: FxHashMap<ProcessId, Line>,
    forwards: FxHashMap<ProcessId, Line>,
}

/// The executions of one process.
#[derive(Debug, Default)]
struct Line {
    first: Option<Nanos>,
    covered: Nanos,
    busy: u64,
    gaps: Vec<Gap>,
    /// Spans since the last execution ended, that may explain a gap.
    between: Vec<(&'static str, Nanos, Nanos)>,
}

/// Spans that are remembered between two executions.
const MOST_BETWEEN: usize = 64;

impl Engine {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record) {
        if record.kind != Kind::Span {
            return;
        }
        match record.name() {
            "modelExec" => self.executions.entry(record.process).or_default().execution(record),
            "forward" => self.forwards.entry(record.process).or_default().execution(record),
            name => {
                let Some(name) = BLAMED.iter().find(|known| **known == name) else { return };
                for lines in [&mut self.executions, &mut self.forwards] {
                    if let Some(line) = lines.get_mut(&record.process)
                        && line.between.len() < MOST_BETWEEN
                    {
                        line.between.push((name, record.start, record.end));
                    }
                }
            }
        }
    }

    /// All gaps, and the share of time, 0 to 1, in which no model ran: of each process, the time from the start of its
    /// first execution to the end of its last that no execution covers; summed over processes, by the sum of those
    /// times.
    pub fn finish(self) -> (Vec<Gap>, Option<f64>) {
        let lines = if self.executions.is_empty() { self.forwards } else { self.executions };
        let (mut total, mut idle, mut gaps) = (0.0, 0.0, Vec::new());
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(process, _)| *process);
        for (_, line) in lines {
            let time = line.covered.0 - line.first.unwrap_or(line.covered).0;
            total += time as f64;
            idle += (time - line.busy) as f64;
            gaps.extend(line.gaps);
        }
        (gaps, (total > 0.0).then(|| idle / total))
    }
}

impl Line {
    /// Executions come in the order of their ends: one that began before a gap closes it, as far as it reaches.
    fn execution(&mut self, record: &Record) {
        let (start, end) = (record.start, record.end);
        if let Some(first) = self.first {
            // It began before the others.
            self.busy += first.0.saturating_sub(start.0);
        } else {
            self.covered = start;
        }
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
        if start > self.covered {
            let blamed = self.blame(self.covered, start);
            self.gaps.push(Gap { process: record.process, start: self.covered, end: start, blamed });
        } else {
            // It reaches back over gaps that shorter executions had left.
            while let Some(gap) = self.gaps.last_mut().filter(|gap| gap.end > start) {
                if gap.start >= start {
                    self.busy += gap.end.0 - gap.start.0;
                    self.gaps.pop();
                } else {
                    self.busy += gap.end.0 - start.0;
                    gap.end = start;
                }
            }
        }
        self.busy += end.0.saturating_sub(start.0.max(self.covered.0));
        self.covered = self.covered.max(end);
        self.between.clear();
    }

    fn blame(&self, from: Nanos, to: Nanos) -> Option<(&'static str, u64)> {
        let mut times: Vec<(&'static str, u64)> = Vec::new();
        for (name, start, end) in &self.between {
            let inside = (*end).min(to).0.saturating_sub((*start).max(from).0);
            match times.iter_mut().find(|(known, _)| known == name) {
                Some((_, time)) => *time = time.saturating_add(inside),
                None => times.push((name, inside)),
            }
        }
        times.into_iter().filter(|(_, time)| *time > 0).max_by_key(|(_, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Label;

    fn span(process: u32, (start, end): (u64, u64), name: &str) -> Record {
        let mut record = Record::instant(Label::new("Execute", name), Nanos(start));
        (record.kind, record.end, record.process) = (Kind::Span, Nanos(end), ProcessId(process));
        record
    }

    #[test]
    fn overlapping_executions_count_once_and_processes_are_weighed_by_time() {
        let mut engine = Engine::default();
        for (process, start, end) in
            [(0, 0, 10), (0, 6, 12), (0, 15, 18), (0, 5, 20), (0, 40, 60), (1, 0, 40)]
        {
            engine.push(&span(process, (start, end), "modelExec"));
        }
        let (gaps, idle) = engine.finish();
        assert_eq!(idle, Some(0.2));
        let gaps: Vec<_> = gaps.iter().map(|gap| (gap.process.0, gap.start.0, gap.end.0)).collect();
        assert_eq!(gaps, [(0, 20, 40)]);
        assert_eq!(Engine::default().finish(), (Vec::new(), None));
    }

    proptest! {
        #[test]
        fn the_idle_share_is_that_of_the_moments_that_nothing_covers(
            mut times in prop::collection::vec((0..60_u64, 1..20_u64).prop_map(|(start, time)| (start, start + time)), 1..12),
        ) {
            times.sort_by_key(|(_, end)| *end);
            let mut engine = Engine::default();
            times.iter().for_each(|times| engine.push(&span(0, *times, "modelExec")));
            let (gaps, idle) = engine.finish();
            let is_covered = |moment: u64| times.iter().any(|(start, end)| *start <= moment && moment < *end);
            let first = times.iter().map(|(start, _)| *start).min().unwrap();
            let last = times.iter().map(|(_, end)| *end).max().unwrap();
            let uncovered = (first..last).filter(|moment| !is_covered(*moment)).count();
            prop_assert_eq!(idle, Some(uncovered as f64 / (last - first) as f64));
            prop_assert_eq!(gaps.iter().map(|gap| gap.end.0 - gap.start.0).sum::<u64>(), uncovered as u64);
        }
    }

    #[test]
    fn a_gap_is_blamed_on_what_took_most_of_it() {
        let mut engine = Engine::default();
        for (times, name) in [
            ((0, 10), "modelExec"),
            ((5, 12), "updateFromOutput"),
            ((12, 17), "batchFrameworkProcessing"),
            ((20, 30), "modelExec"),
        ] {
            engine.push(&span(0, times, name));
        }
        assert_eq!(engine.finish().0[0].blamed, Some(("batchFrameworkProcessing", 5)));
    }
}
