//! Reads timelines in Chrome's JSON format: the traces of torch's profiler (`*.pt.trace.json`, also packed; Ascend's
//! `trace_view.json`), vLLM-Gaudi's `server_events_*.json`, which is never closed, and what `msprof` exports.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::imports::{Damaged, Imports, short};
use super::json;
use crate::clock::Nanos;
use crate::event::{Attributes, Kind, Process, ProcessId, Record};
use crate::files;

/// Torch writes its base time behind the events: it is looked for beforehand, under this key.
const BASE_TIME: &[u8] = b"\"baseTimeNanoseconds\"";

/// Most bytes of an event, and of a key beside the events. A packed file may have a thousand times as many as its own.
const LONGEST_EVENT: u64 = 16 << 20;

/// Most bytes of what stands beside the events: it is passed over, but how deep it is nested takes memory.
const LONGEST_OTHER: u64 = 256 << 20;

/// Most bytes of spans that have begun and not ended.
const MOST_OPEN: usize = 256 << 20;

/// Bytes that may be read before the next event, or whatever comes, is whole.
struct Allowance {
    left: Cell<u64>,
    event: u64,
}

impl Allowance {
    fn next_event(&self) {
        self.left.set(self.event);
    }
}

/// Reads no more than it is allowed to.
struct Allowed<R> {
    input: R,
    allowance: Rc<Allowance>,
}

impl<R: Read> Read for Allowed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.left.get();
        if left == 0 {
            let reason =
                format!("something in it has more than {} MB; the rest is left", self.allowance.event >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let count = self.input.read(into)?;
        self.allowance.left.set(left.saturating_sub(count as u64));
        Ok(count)
    }
}

/// An event, as far as it is looked at. Process and thread may be numbers or texts, times numbers or texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    ph: String,
    name: String,
    cat: String,
    pid: Value,
    tid: Value,
    id: Value,
    ts: Value,
    dur: Value,
    args: Option<Map<String, Value>>,
}

/// Reads one file.
pub(super) fn read(file: &Path, imports: &mut Imports) -> Vec<Damaged> {
    read_events(file, imports, LONGEST_EVENT)
}

fn read_events(file: &Path, imports: &mut Imports, longest: u64) -> Vec<Damaged> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let outcome = base_time(file).and_then(|base| {
        let allowance = Rc::new(Allowance { left: Cell::new(longest), event: longest });
        let mut taker = Taker::new(imports, base, &name, allowance.clone());
        let input = BufReader::with_capacity(1 << 18, Allowed { input: open(file)?, allowance });
        let mut deserializer = serde_json::Deserializer::from_reader(input);
        let done = Trace(&mut taker).deserialize(&mut deserializer).map_err(io::Error::from);
        taker.finish();
        // A file that is being written to, event by event, has no end.
        match done {
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof && name.starts_with("server_events") =>
            {
                Ok(())
            }
            done => done,
        }
    });
    outcome.err().map(|error| Damaged::new(file, error)).into_iter().collect()
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    let is_packed = file.extension().is_some_and(|ending| ending == "gz");
    let file = files::open_regular(file)?;
    Ok(if is_packed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

/// What must be added to the times of a file, in nanoseconds; 0 if they are unix times.
fn base_time(file: &Path) -> io::Result<u64> {
    let (mut input, mut window, mut chunk) = (open(file)?, Vec::new(), vec![0; 1 << 18]);
    loop {
        let count = input.read(&mut chunk)?;
        if count == 0 {
            return Ok(0);
        }
        window.extend_from_slice(&chunk[..count]);
        if let Some(at) = memchr::memmem::find(&window, BASE_TIME) {
            let mut rest = window.split_off(at + BASE_TIME.len());
            input.take(64).read_to_end(&mut rest)?;
            let digits = rest.iter().skip_while(|byte| b" :\n\t\r".contains(byte));
            let number: String =
                digits.take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
            return Ok(number.parse().unwrap_or_default());
        }
        window.drain(..window.len().saturating_sub(BASE_TIME.len()));
    }
}

/// Takes the events of one file in.
struct Taker<'a> {
    imports: &'a mut Imports,
    base: u64,
    capture: String,
    processes: HashMap<String, ProcessId>,
    names: HashMap<(ProcessId, String), String>,
    open: HashMap<(ProcessId, String), Vec<Record>>,
    /// What those take.
    open_bytes: usize,
    last: Nanos,
    allowance: Rc<Allowance>,
}

impl<'a> Taker<'a> {
    fn new(imports: &'a mut Imports, base: u64, name: &str, allowance: Rc<Allowance>) -> Self {
        let capture = name.split(".pt.trace").next().unwrap_or(name).trim_end_matches(".json").to_owned();
        let empty = HashMap::new;
        Self {
            imports,
            base,
            capture,
            processes: empty(),
            names: HashMap::new(),
            open: HashMap::new(),
            open_bytes: 0,
            last: Nanos(0),
            allowance,
        }
    }

    fn take(&mut self, event: Event) {
        if event.ph == "M" {
            self.meta(&event);
            return;
        }
        let Some(time) = nanos(&event.ts).map(|time| self.unix(time)) else {
            self.imports.malformed += u64::from(!matches!(event.ph.as_str(), "s" | "t" | "f"));
            return;
        };
        let process = self.process(&event.pid);
        let row = spelled(&event.tid);
        let key =
            (process, if matches!(event.ph.as_str(), "b" | "e") { spelled(&event.id) } else { row.clone() });
        match event.ph.as_str() {
            "X" | "I" | "i" | "n" => {
                let mut record = self.record(&event, process, &row, time);
                if event.ph == "X" {
                    record.kind = Kind::Span;
                    let length = nanos(&event.dur).unwrap_or_default().max(0) as u64;
                    record.end = Nanos((time.0 + length).min(i64::MAX as u64));
                }
                self.push(&record);
            }
            "C" => self.counters(&event, process, &row, time),
            "B" | "b" => {
                let record = self.record(&event, process, &row, time);
                let bytes = bytes_of(&record, &key);
                if self.open_bytes + bytes > MOST_OPEN {
                    self.imports.malformed += 1;
                    return;
                }
                self.open_bytes += bytes;
                self.open.entry(key).or_default().push(record);
            }
            "E" | "e" => {
                if let Some(mut record) = self.open.get_mut(&key).and_then(Vec::pop) {
                    self.open_bytes -= bytes_of(&record, &key);
                    (record.kind, record.end) = (Kind::Span, time.max(record.start));
                    self.push(&record);
                }
            }
            // Arrows are drawn anew, from request ids.
            _ => {}
        }
    }

    fn unix(&self, time: i64) -> Nanos {
        // The largest that the outputs can hold.
        Nanos(self.base.saturating_add_signed(time).min(i64::MAX as u64))
    }

    /// A sample for each number of the event.
    fn counters(&mut self, event: &Event, process: ProcessId, row: &str, time: Nanos) {
        for (key, value) in event.args.iter().flatten() {
            let Some(value) = value.as_f64() else { continue };
            let name = format!("{} {key}", event.name);
            let mut record = Record::instant(self.imports.label(&event.cat, &name), time);
            (record.kind, record.process) = (Kind::Counter(value), process);
            record.thread = self.imports.thread(process, row.parse().unwrap_or_default(), "");
            self.push(&record);
        }
    }

    fn record(&mut self, event: &Event, process: ProcessId, row: &str, time: Nanos) -> Record {
        let mut record = Record::instant(self.imports.label(&event.cat, &event.name), time);
        let mut attributes = Attributes::default();
        for (key, value) in event.args.iter().flatten().filter(|(_, value)| !value.is_null()) {
            self.imports.keys.write(key, &mut attributes);
            // What is already a tree can't fail to be walked.
            let _ = json::Value(&mut attributes).deserialize(value);
        }
        record.attributes = attributes.into_bytes();
        record.process = process;
        let name = self.names.get(&(process, row.to_owned())).map_or("", String::as_str);
        // A row that is called by a text has no number; its text is its name.
        let (tid, name) =
            row.parse().map_or((0, if name.is_empty() { row } else { name }), |tid| (tid, name));
        record.thread = self.imports.thread(process, tid, name);
        record
    }

    fn meta(&mut self, event: &Event) {
        let told = |key| {
            let text = event.args.as_ref().and_then(|args| args.get(key)?.as_str());
            short(text.unwrap_or_default()).to_owned()
        };
        let process = self.process(&event.pid);
        match event.name.as_str() {
            "process_name" => {
                let known = &mut self.imports.places.processes[process.0 as usize];
                if known.name.is_empty() {
                    known.name = told("name");
                }
            }
            "thread_name" => {
                let (row, name) = (spelled(&event.tid), told("name"));
                if self.imports.has_room_for(row.len() + name.len()) {
                    self.names.insert((process, row), name);
                }
            }
            _ => {}
        }
    }

    fn process(&mut self, pid: &Value) -> ProcessId {
        let text = spelled(pid);
        if let Some(id) = self.processes.get(&text) {
            return *id;
        }
        let capture = self.capture.clone();
        // Kinds of time that are no process ("Spans", "Traces") are called by a text.
        let known = match text.parse() {
            Ok(pid) => Process { pid, capture, ..Process::default() },
            Err(_) => {
                Process { name: text.clone(), capture: format!("{capture} {text}"), ..Process::default() }
            }
        };
        let id = if known.pid == 0 {
            let places = &mut self.imports.places;
            let id = ProcessId(places.processes.len() as u32);
            places.threads.push(crate::event::Thread { process: id, tid: 0, name: String::new() });
            places.processes.push(known);
            id
        } else {
            self.imports.process(known)
        };
        self.processes.insert(text, id);
        id
    }

    fn push(&mut self, record: &Record) {
        self.last = self.last.max(record.end);
        self.imports.push(record);
    }

    /// What never ended was running when the trace was written.
    fn finish(&mut self) {
        let mut left: Vec<Record> = std::mem::take(&mut self.open).into_values().flatten().collect();
        left.sort_by_key(|record| (record.start, record.process, record.thread, record.name().to_owned()));
        for mut record in left {
            (record.kind, record.end) = (Kind::Unfinished, self.last.max(record.start));
            self.imports.push(&record);
        }
    }
}

/// A time in microseconds as nanoseconds; exact to three decimals if it is spelled.
fn nanos(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(micros) => micros.checked_mul(1_000),
            None => number.as_f64().map(|micros| (micros * 1_000.0).round() as i64),
        },
        Value::String(text) => {
            let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
            let part: String = part.chars().chain("000".chars()).take(3).collect();
            whole.parse::<i64>().ok()?.checked_mul(1_000)?.checked_add(part.parse().ok()?)
        }
        _ => None,
    }
}

fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => short(text).to_owned(),
        Value::Null => String::new(),
        value => short(&value.to_string()).to_owned(),
    }
}

fn bytes_of(record: &Record, (_, row): &(ProcessId, String)) -> usize {
    size_of::<Record>() + record.attributes.len() + row.len()
}

/// The file: a list of events, or an object that has one.
struct Trace<'a, 'b>(&'a mut Taker<'b>);

impl<'de> DeserializeSeed<'de> for Trace<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Trace<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of trace events, or an object with \"traceEvents\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(text) = events.next_element::<Box<RawValue>>()? {
            self.0.allowance.next_event();
            match serde_json::from_str(text.get()) {
                Ok(event) => self.0.take(event),
                // Of another shape: the others may be well.
                Err(_) => self.0.imports.malformed += 1,
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            if key == "traceEvents" {
                entries.next_value_seed(Trace(self.0))?;
            } else {
                self.0.allowance.left.set(LONGEST_OTHER);
                entries.next_value::<IgnoredAny>()?;
            }
            self.0.allowance.next_event();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Places;

    /// Events may be as long as 1 MB.
    fn import(name: &str, text: &[u8]) -> (Imports, Vec<Damaged>, Vec<(String, u64, u64)>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let mut imports = Imports::new(Places::default());
        let damage = read_events(&file, &mut imports, 1 << 20);
        let sorted = std::mem::take(&mut imports.records).finish().unwrap();
        let seen = sorted.iter().map(|r| (r.name().to_owned(), r.start.0, r.end.0)).collect();
        (imports, damage, seen)
    }

    #[test]
    fn torchs_times_count_from_a_base_that_stands_behind_them() {
        let text = br#"{"schemaVersion": 1, "traceEvents": [
            {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "args": {"name": "worker"}},
            {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 7, "tid": 8, "ts": 2.125, "dur": 3, "args": {"Ev Idx": 4}},
            {"ph": "B", "name": "step", "pid": 7, "tid": 8, "ts": 1}, {"ph": "E", "pid": 7, "tid": 8, "ts": 9},
            {"ph": "X", "cat": "Trace", "name": "whole", "pid": "Spans", "tid": "PyTorch Profiler", "ts": 0, "dur": 10},
            {"ph": "B", "name": "left open", "pid": 7, "tid": 8, "ts": 4}
        ], "baseTimeNanoseconds": 1700000000000000000}"#;
        let base = 1_700_000_000_000_000_000;
        let (imports, damage, seen) = import("rank0.123.pt.trace.json", text);
        assert_eq!(damage, []);
        let expected = [
            ("aten::mm", 2_125, 5_125),
            ("step", 1_000, 9_000),
            ("whole", 0, 10_000),
            ("left open", 4_000, 10_000),
        ];
        let expected = expected.map(|(name, start, end)| (name.to_owned(), base + start, base + end));
        assert_eq!(seen, expected);
        let names: Vec<_> = imports.places.processes.iter().map(|process| process.name.as_str()).collect();
        assert_eq!(names, ["worker", "Spans"]);
    }

    #[test]
    fn gaudis_list_has_no_end_and_other_files_must_have_one() {
        let text = br#"[{"pid": 7, "tid": 3, "ph": "X", "name": "model_executable", "ts": 1700000000000000.0, "dur": 12.5, "args": null},{"pid": 7, "tid": 1, "ph": "C", "name": "utils", "ts": 1700000000000001.0, "args": {"decode_batch_size": 4}},"#;
        let (imports, damage, seen) = import("server_events_vllm.json", text);
        assert_eq!((damage.len(), imports.counters), (0, 1));
        assert_eq!(
            seen[1],
            ("model_executable".to_owned(), 1_700_000_000_000_000_000, 1_700_000_000_000_012_500)
        );
        let (_, damage, seen) = import("a.pt.trace.json", text);
        assert_eq!((damage.len(), seen.len()), (1, 2));
    }

    #[test]
    fn an_event_of_another_shape_is_passed_over_alone() {
        let text = br#"[{"ph": "i", "name": "a", "ts": 1}, null, {"ph": "i", "name": 5, "ts": 2}, [1, "}"],
            {"ph": "i", "name": "b", "ts": 3}]"#;
        let (imports, damage, seen) = import("trace_view.json", text);
        assert_eq!((damage, imports.malformed), (Vec::new(), 3));
        assert_eq!(seen, [("a".to_owned(), 1_000, 1_000), ("b".to_owned(), 3_000, 3_000)]);
    }

    /// A packed file of these texts, each so many times.
    fn packed(parts: &[(&str, usize)]) -> Vec<u8> {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for (text, times) in parts {
            let many = text.repeat(1 << 16);
            (0..times / (1 << 16)).for_each(|_| out.write_all(many.as_bytes()).unwrap());
            out.write_all(text.repeat(times % (1 << 16)).as_bytes()).unwrap();
        }
        out.finish().unwrap()
    }

    #[test]
    fn a_name_or_a_nesting_without_end_costs_the_rest_of_the_file_and_no_memory() {
        let good = r#"[{"ph": "i", "name": "a", "ts": 1}, {"ph": "i", "ts": 2, "name": ""#;
        for (parts, count) in [
            (vec![(good, 1), ("x", 3 << 20), (r#""}]"#, 1)], 1),
            (vec![(good, 1), (r#"", "args": "#, 1), ("[", 3 << 20)], 1),
            (vec![("[", 3 << 20)], 0),
            (vec![(r#"{""#, 1), ("k", 3 << 20)], 0),
        ] {
            let (imports, damage, seen) = import("r.pt.trace.json.gz", &packed(&parts));
            assert_eq!((seen.len(), imports.malformed), (count, 0));
            assert!(damage[0].reason.contains("more than 1 MB"), "{}", damage[0].reason);
        }
        // Deep, but not long: an event of a shape that none has.
        let (imports, damage, seen) = import(
            "r.pt.trace.json.gz",
            &packed(&[(good, 1), (r#"", "args": "#, 1), ("[", 300_000), ("]", 300_000), ("}]", 1)]),
        );
        assert_eq!((seen.len(), imports.malformed, damage.len()), (1, 1, 0));
    }

    #[test]
    fn of_a_long_name_the_beginning_is_kept() {
        let text = format!(r#"[{{"ph": "i", "name": "{}", "ts": 1}}]"#, "é".repeat(1 << 18));
        let (_, damage, seen) = import("trace_view.json", text.as_bytes());
        assert_eq!((damage, seen[0].0.chars().count()), (Vec::new(), 1_000));
    }

    #[test]
    fn spelled_times_are_exact() {
        let spelled = |text: &str| nanos(&Value::String(text.into()));
        assert_eq!(spelled("1700000000123456.789"), Some(1_700_000_000_123_456_789));
        assert_eq!(spelled("17.5"), Some(17_500));
        assert_eq!((spelled("17"), spelled("x"), spelled("")), (Some(17_000), None, None));
    }
}
