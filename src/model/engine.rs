//! How busy the engine was: the time covered by executions of the model, by process.

use rustc_hash::FxHashMap;

use crate::clock::Nanos;
use crate::event::{Kind, ProcessId, Record};

/// Collects the executions (`modelExec`, or `forward` where there is none).
#[derive(Debug, Default)]
pub struct Engine {
    executions: FxHashMap<ProcessId, Vec<(Nanos, Nanos)>>,
    forwards: FxHashMap<ProcessId, Vec<(Nanos, Nanos)>>,
}

impl Engine {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record) {
        let spans = match (record.kind, record.name()) {
            (Kind::Span, "modelExec") => &mut self.executions,
            (Kind::Span, "forward") => &mut self.forwards,
            _ => return,
        };
        spans.entry(record.process).or_default().push((record.start, record.end));
    }

    /// The share of time, 0 to 1, in which no model ran: of each process, the time from the start of its first
    /// execution to the end of its last that no execution covers; summed over processes, by the sum of those times.
    pub fn finish(self) -> Option<f64> {
        let spans = if self.executions.is_empty() { self.forwards } else { self.executions };
        let (mut total, mut busy) = (0, 0);
        for mut spans in spans.into_values() {
            spans.sort_unstable();
            let (Some((first, _)), Some(last)) = (spans.first(), spans.iter().map(|(_, end)| *end).max())
            else {
                continue;
            };
            total += last.0 - first.0;
            let mut covered = *first;
            for (start, end) in &spans {
                busy += end.0.saturating_sub(start.0.max(covered.0));
                covered = covered.max(*end);
            }
        }
        (total > 0).then(|| (total - busy) as f64 / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Label;

    #[test]
    fn overlapping_executions_count_once_and_processes_are_weighed_by_time() {
        let mut engine = Engine::default();
        for (process, start, end) in [(0, 0, 10), (0, 5, 20), (0, 6, 8), (0, 40, 60), (1, 0, 40)] {
            let mut record = Record::instant(Label::new("Execute", "modelExec"), Nanos(start));
            (record.kind, record.end, record.process) = (Kind::Span, Nanos(end), ProcessId(process));
            engine.push(&record);
        }
        assert_eq!(engine.finish(), Some(0.2));
        assert_eq!(Engine::default().finish(), None);
    }
}
