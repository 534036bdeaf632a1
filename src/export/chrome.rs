//! `chrome_tracing.json`: the timeline as a JSON array of Chrome trace events, as msServiceProfiler writes it. Events
//! are written as they come; a viewer sorts them by time.
//!
//! Times are microseconds with three decimals since a base that the first event names (`clock_base`): of the time since
//! 1970 a reader's double keeps a quarter of a microsecond only.

use std::io::{self, Write};

use super::flows::Arrow;
use super::json::{self, text};
use super::output::{Output, OutputError};
use super::timeline::{Flow, ProcessRow, Row, Sample, Sink, Slice};
use super::times::Micros;
use crate::clock::Nanos;
use crate::model::Request;

/// Writes the array.
pub struct ChromeTrace {
    out: Output,
    base: Nanos,
    event: Vec<u8>,
    count: u64,
}

impl ChromeTrace {
    /// Begins the array. `base` is the time that others are told from, in unix nanoseconds.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn new(mut out: Output, base: Nanos) -> Result<Self, OutputError> {
        out.write_all(b"[").map_err(|error| out.error(error))?;
        let mut trace = Self { out, base, event: Vec::new(), count: 0 };
        trace.write(|event, _| {
            write!(
                event,
                "{{\"name\":\"clock_base\",\"ph\":\"M\",\"pid\":0,\"args\":{{\"unix_ns\":{}}}}}",
                base.0
            )
        })?;
        Ok(trace)
    }

    /// Ends the array. Gives the number of events.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn finish(mut self) -> Result<u64, OutputError> {
        self.out.write_all(b"\n]\n").map_err(|error| self.out.error(error))?;
        self.out.finish()?;
        Ok(self.count)
    }

    fn write(
        &mut self,
        event: impl FnOnce(&mut Vec<u8>, Nanos) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        self.event.clear();
        self.event.extend_from_slice(if self.count == 0 { b"\n" } else { b",\n" });
        self.count += 1;
        event(&mut self.event, self.base)
            .and_then(|()| self.out.write_all(&self.event))
            .map_err(|error| self.out.error(error))
    }
}

/// The fields that all events have, up to the last, which is left open.
fn begin(out: &mut Vec<u8>, name: &str, phase: &str, time: Micros) -> io::Result<()> {
    out.extend_from_slice(b"{\"name\":");
    text(out, name)?;
    out.extend_from_slice(b",\"ph\":\"");
    out.extend_from_slice(phase.as_bytes());
    out.extend_from_slice(b"\",\"ts\":");
    time.write(out);
    Ok(())
}

fn at(out: &mut Vec<u8>, row: &Row) -> io::Result<()> {
    out.extend_from_slice(b",\"pid\":");
    json::int(out, row.pid.into());
    out.extend_from_slice(b",\"tid\":");
    text(out, &row.text)
}

fn since(base: Nanos, time: Nanos) -> Micros {
    Micros(time.0.saturating_sub(base.0))
}

impl Sink for ChromeTrace {
    fn row(&mut self, row: &Row) -> Result<(), OutputError> {
        self.write(|out, _| {
            write!(out, "{{\"name\":\"thread_sort_index\",\"ph\":\"M\"")?;
            at(out, row)?;
            write!(out, ",\"args\":{{\"sort_index\":{}}}}}", row.sort_index)
        })
    }

    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), OutputError> {
        self.write(|out, base| {
            begin(out, slice.name, if slice.is_instant { "I" } else { "X" }, since(base, slice.start))?;
            out.extend_from_slice(b",\"dur\":");
            Micros(slice.end.0.saturating_sub(slice.start.0)).write(out);
            at(out, slice.row)?;
            out.extend_from_slice(b",\"args\":");
            out.extend_from_slice(slice.args);
            out.push(b'}');
            Ok(())
        })
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), OutputError> {
        self.write(|out, base| {
            begin(out, sample.name, "C", since(base, sample.time))?;
            at(out, sample.row)?;
            write!(out, ",\"args\":{{\"{}\":{}}}}}", sample.key, json::string(&sample.value)?)
        })
    }

    fn flow(&mut self, flow: &Flow<'_>) -> Result<(), OutputError> {
        self.write(|out, base| {
            let phase = match flow.arrow {
                Arrow::First => "s",
                Arrow::Between => "t",
                Arrow::Last => "f",
            };
            begin(out, &format!("flow_{}", flow.id), phase, since(base, flow.time))?;
            // A number, since Perfetto takes no other ids; name and category tell the request.
            write!(out, ",\"id\":{},\"cat\":", flow.number)?;
            text(out, flow.id)?;
            at(out, flow.row)?;
            out.push(b'}');
            Ok(())
        })
    }

    /// An async span on the request's own track, and one in it for each phase.
    fn request(&mut self, number: u32, pid: u32, request: &Request) -> Result<(), OutputError> {
        let (Some(start), Some(end)) = (request.arrival, request.end) else { return Ok(()) };
        let phases = request.phases().map(|(name, start, end)| (name, start, end, false));
        for (name, start, end, is_whole) in
            std::iter::once((request.id.as_str(), start, end, true)).chain(phases)
        {
            for (phase, time) in [("b", start), ("e", end)] {
                self.write(|out, base| {
                    begin(out, name, phase, since(base, time))?;
                    write!(out, ",\"cat\":\"Requests\",\"id\":{number},\"pid\":{pid},\"tid\":\"Requests\"")?;
                    if is_whole && phase == "b" {
                        let (prompt, output) = (request.prompt_tokens, request.output_tokens);
                        let [prompt, output] = [json::string(&prompt)?, json::string(&output)?];
                        write!(out, ",\"args\":{{\"prompt_tokens\":{prompt},\"output_tokens\":{output}}}")?;
                    }
                    out.push(b'}');
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn process(&mut self, process: &ProcessRow) -> Result<(), OutputError> {
        let ProcessRow { pid, name, labels, sort_index, .. } = process;
        for (what, key, value) in [
            ("process_name", "name", json::string(name)),
            ("process_labels", "labels", json::string(labels)),
            ("process_sort_index", "sort_index", Ok(sort_index.to_string())),
        ] {
            self.write(|out, _| {
                let value = value?;
                write!(
                    out,
                    "{{\"name\":\"{what}\",\"ph\":\"M\",\"pid\":{pid},\"args\":{{\"{key}\":{value}}}}}"
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::event::{Places, Process, ProcessId, Record, Thread, ThreadId, Value};
    use crate::export::timeline::Timeline;
    use crate::export::times::Calendar;
    use crate::model::{Ids, Resources};
    use crate::source::fixture::{record, text};

    fn places(processes: &[(u32, &str, Option<u32>)]) -> Places {
        let processes: Vec<_> = processes
            .iter()
            .map(|(pid, host, parent)| Process {
                pid: *pid,
                host: (*host).into(),
                parent: *parent,
                ..Process::default()
            })
            .collect();
        let threads = (0..processes.len() as u32).map(|n| Thread {
            process: ProcessId(n),
            tid: 70 + n,
            name: String::new(),
        });
        Places { threads: threads.collect(), processes }
    }

    fn events(places: &Places, records: &[Record]) -> Vec<serde_json::Value> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chrome_tracing.json");
        let mut trace = ChromeTrace::new(Output::create(&path).unwrap(), Nanos(0)).unwrap();
        let mut timeline = Timeline::new(places, Calendar::new(TimeZone::UTC), vec![&mut trace]);
        let (mut ids, mut resources) = (Ids::default(), Resources::default());
        for record in records {
            resources.read(record, &mut ids);
            timeline.push(record, &resources, &ids).unwrap();
        }
        timeline.finish(&ids, &[]).unwrap();
        let count = trace.finish().unwrap();
        let mut events: Vec<serde_json::Value> =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(count, events.len() as u64);
        assert_eq!(events.remove(0)["name"], "clock_base");
        events
    }

    fn at(place: u32, lane: u32, record: Record) -> Record {
        Record { process: ProcessId(place), thread: ThreadId(place), lane, ..record }
    }

    #[test]
    fn overlapping_spans_of_a_thread_have_rows_of_their_own() {
        let span = || record((5_000, 9_500), "Engine", "generate", &[]);
        let events =
            events(&places(&[(1, "h", None)]), &[at(0, 1, span()), at(0, 2, span()), at(0, 1, span())]);
        let rows: Vec<_> = events.iter().filter(|e| e["ph"] == "X").map(|e| &e["tid"]).collect();
        assert_eq!(rows, ["Engine(70)", "Engine(70) 2", "Engine(70)"]);
        let first = events.iter().find(|event| event["ph"] == "X").unwrap();
        assert_eq!((&first["ts"], &first["dur"]), (&5.0.into(), &4.5.into()));
    }

    #[test]
    fn an_empty_session_is_an_empty_array() {
        assert!(events(&Places::default(), &[]).is_empty());
    }

    #[test]
    fn what_is_no_number_becomes_null_and_text_is_escaped() {
        let attributes = [("x", Value::Double(f64::NAN)), ("y", text("a\"\n\u{1}é"))];
        let events =
            events(&places(&[(1, "h", None)]), &[record((1, 2), "Engine", "\"quoted\"", &attributes)]);
        let slice = events.iter().find(|event| event["ph"] == "X").unwrap();
        assert_eq!(slice["name"], "\"quoted\"");
        assert_eq!(
            (&slice["args"]["x"], &slice["args"]["y"]),
            (&serde_json::Value::Null, &"a\"\n\u{1}é".into())
        );
    }

    #[test]
    fn processes_of_two_hosts_with_one_pid_stay_apart_and_children_follow_their_parents() {
        let places = places(&[(9, "a", Some(7)), (7, "b", None), (7, "a", None), (8, "a", Some(9))]);
        let events = events(&places, &[at(3, 0, record((1, 2), "Engine", "s", &[]))]);
        let order: Vec<_> = events
            .iter()
            .filter(|event| event["name"] == "process_labels")
            .map(|event| (event["pid"].as_u64().unwrap(), event["args"]["labels"].as_str().unwrap()))
            .collect();
        assert_eq!(order, [(7, "b"), ((1 << 22) + 2 + 7, "a"), (9, "a"), (8, "a")]);
    }

    #[test]
    fn a_counter_without_its_number_is_left_out() {
        let status = |entries: &[(&str, Value)]| record((1, 1), "Schedule.KVCache", "KVCacheStatus", entries);
        let records = [
            status(&[]),
            status(&[("FreeBlocks=", Value::Int(4)), ("scope#dp", Value::Int(3))]),
            status(&[]),
        ];
        let events = events(&places(&[(1, "h", None)]), &records);
        let counters: Vec<_> = events.iter().filter(|event| event["ph"] == "C").collect();
        assert_eq!(counters.len(), 1);
        assert_eq!(counters[0]["name"], "Schedule.KVCache-dp3");
        assert_eq!(counters[0]["args"]["Device Block"], 4.0);
    }
}
