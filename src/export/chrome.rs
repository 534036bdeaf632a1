//! `chrome_tracing.json`: the timeline as a JSON array of Chrome trace events, as msServiceProfiler writes it. Events
//! are written as they come; a viewer sorts them by time.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::flows::{Anchor, Arrow, Flows};
use super::json::{self, text, view};
use super::process_rows::{distinct_pids, process_order};
use super::times::{Calendar, Micros};
use crate::clock::Nanos;
use crate::event::{Kind, Places, ProcessId, Record, View};
use crate::model::{Ids, KvState, RequestId, Resources, Shape, batch_type, is_kv_domain};

/// Domains in the order in which a process's rows are shown.
const ROW_ORDER: [&str; 8] =
    ["Execute", "Schedule", "Communication", "KVCache", "Schedule.KVCache", "Engine", "Api", "Kernel"];

/// Domains whose records are not shown as slices.
const HIDDEN: [&str; 7] =
    ["npu", "Queue", "KVCache", "Schedule.KVCache", "PullKVCache", "Meta", "expert_hot"];

/// Domains that have one row in a process, whatever the thread.
const ONE_ROW: [&str; 4] = ["Request", "RequestState", "KVCache", "Schedule.KVCache"];

/// Writes the array.
pub struct ChromeTrace<'a, W> {
    out: W,
    places: &'a Places,
    calendar: Calendar,
    /// By process: the number that the timeline shows for it.
    pids: Vec<u32>,
    /// By process: what it does, as far as records have told.
    roles: Vec<Option<&'static str>>,
    rows: Vec<Row>,
    by_key: FxHashMap<RowKey, u32>,
    /// How many rows of a process would have the same text.
    alike: FxHashMap<(ProcessId, String), u32>,
    flows: Flows,
    event: Vec<u8>,
    count: u64,
}

/// A row of the timeline: Chrome's `tid`.
struct Row {
    process: ProcessId,
    domain: &'static str,
    text: String,
}

#[derive(PartialEq, Eq, Hash)]
struct RowKey {
    process: ProcessId,
    domain: &'static str,
    thread: u32,
    lane: u32,
}

impl<'a, W: Write> ChromeTrace<'a, W> {
    /// Begins the array.
    ///
    /// # Errors
    /// The writer fails.
    pub fn new(mut out: W, places: &'a Places, calendar: Calendar) -> io::Result<Self> {
        out.write_all(b"[")?;
        Ok(Self {
            out,
            places,
            calendar,
            pids: distinct_pids(places),
            roles: vec![None; places.processes.len()],
            rows: Vec::new(),
            by_key: FxHashMap::default(),
            alike: FxHashMap::default(),
            flows: Flows::default(),
            event: Vec::new(),
            count: 0,
        })
    }

    /// Writes what a record is in the timeline.
    ///
    /// # Errors
    /// The writer fails.
    pub fn push(&mut self, record: &Record, resources: &Resources, ids: &Ids) -> io::Result<()> {
        let (domain, name) = (record.domain(), record.name());
        self.note_role(record.process, domain);
        if let Kind::Counter(value) = record.kind {
            return self.counter(record, name, domain, "value", value);
        }
        if is_kv_domain(domain) {
            return self.free_blocks(record, domain);
        }
        if name == "Queue" {
            return self.queue_size(record, domain);
        }
        if name.is_empty() || HIDDEN.contains(&domain) || domain.starts_with("expert_hot") {
            return Ok(());
        }
        if name == "batchFrameworkProcessing" && resources.list.is_empty() {
            return Ok(()); // a step that schedules nothing is not shown
        }
        let row = self.row(record, domain);
        self.slice(record, resources, ids, row)?;
        for resource in &resources.list {
            let anchor = Anchor { time: record.start, row };
            if let Some((arrow, anchor)) = self.flows.push(resource.request, anchor) {
                self.flow(resource.request, arrow, anchor, ids)?;
            }
        }
        Ok(())
    }

    /// Writes the last arrows and what processes and rows are called, and ends the array. Gives the number of
    /// events and the writer.
    ///
    /// # Errors
    /// The writer fails.
    pub fn finish(mut self, ids: &Ids) -> io::Result<(u64, W)> {
        for (request, arrow, anchor) in std::mem::take(&mut self.flows).finish() {
            self.flow(request, arrow, anchor, ids)?;
        }
        for row in 0..self.rows.len() {
            let Row { process, domain, ref text } = self.rows[row];
            let index = ROW_ORDER.iter().position(|known| *known == domain).unwrap_or(ROW_ORDER.len());
            let (pid, text) = (self.pid(process), json::string(text)?);
            let head = r#""name":"thread_sort_index","ph":"M""#;
            self.meta(format_args!(
                "{head},\"pid\":{pid},\"tid\":{text},\"args\":{{\"sort_index\":{index}}}"
            ))?;
        }
        for (index, process) in process_order(self.places, &self.roles).into_iter().enumerate() {
            let (pid, known) = (self.pid(process), self.places.process(process));
            let name = if known.name.is_empty() {
                self.roles[process.0 as usize].map_or_else(|| known.pid.to_string(), Into::into)
            } else {
                known.name.clone()
            };
            let labels = match known.dp_rank {
                Some(rank) => format!("{},dp{rank}", known.host),
                None => known.host.clone(),
            };
            for (what, key, value) in [
                ("process_name", "name", json::string(&name)?),
                ("process_labels", "labels", json::string(&labels)?),
                ("process_sort_index", "sort_index", index.to_string()),
            ] {
                self.meta(format_args!(
                    "\"name\":\"{what}\",\"ph\":\"M\",\"pid\":{pid},\"args\":{{\"{key}\":{value}}}"
                ))?;
            }
        }
        self.out.write_all(b"\n]\n")?;
        self.out.flush()?;
        Ok((self.count, self.out))
    }

    fn slice(&mut self, record: &Record, resources: &Resources, ids: &Ids, row: u32) -> io::Result<()> {
        let is_event = record.kind == Kind::Instant;
        self.begin(record.name(), if is_event { "I" } else { "X" }, record.start)?;
        let duration = Micros(duration_as_read(record.start, record.end));
        write!(self.event, ",\"dur\":{duration}")?;
        self.at(row)?;

        self.event.extend_from_slice(b",\"args\":{");
        let is_list = matches!(resources.shape, Shape::Ids | Shape::Steps);
        for (key, value) in record.entries() {
            let is_said_below = is_list && matches!(key, "batch_size" | "batch_type");
            if !is_said_below && !matches!(key, "domain" | "name" | "type" | "rid") {
                text(&mut self.event, key)?;
                self.event.push(b':');
                view(&mut self.event, &value)?;
                self.event.push(b',');
            }
        }
        write!(self.event, "\"start_datetime\":\"{}\",", self.calendar.text(record.start))?;
        write!(self.event, "\"end_datetime\":\"{}\",", self.calendar.text(record.end))?;
        write!(self.event, "\"tid\":{}", self.places.thread(record.thread).tid)?;
        if record.kind == Kind::Unfinished {
            self.event.extend_from_slice(b",\"unfinished\":true");
        }
        self.requests(record, resources, ids)?;
        self.event.push(b'}');
        self.end()
    }

    fn requests(&mut self, record: &Record, resources: &Resources, ids: &Ids) -> io::Result<()> {
        let mut ids_in_order = resources.list.iter().map(|resource| resource.request);
        match resources.shape {
            Shape::None => return Ok(()),
            Shape::One => {
                if let Some(request) = ids_in_order.next() {
                    self.event.extend_from_slice(b",\"rid\":");
                    text(&mut self.event, ids.text(request))?;
                }
                return Ok(());
            }
            Shape::Ids | Shape::Steps => {}
        }
        // The number of requests, whatever the record itself calls a size (vLLM's is in tokens).
        write!(self.event, ",\"batch_size\":\"{}\"", resources.list.len())?;
        if let Some(batch_type) = batch_type(record, resources) {
            self.event.extend_from_slice(b",\"batch_type\":");
            text(&mut self.event, batch_type.as_str())?;
        }
        self.event.extend_from_slice(b",\"res_list\":");
        let Some(View::Array(items)) = record.get("rid") else {
            self.event.extend_from_slice(b"[]");
            return Ok(());
        };
        self.event.push(b'[');
        for (position, item) in items.enumerate() {
            if position > 0 {
                self.event.push(b',');
            }
            // The item as it is, but with the id that the user knows.
            let id = ids_in_order.next().map(|request| ids.text(request));
            match (item, id) {
                (View::Dict(entries), Some(id)) => {
                    self.event.push(b'{');
                    for (position, (key, value)) in entries.enumerate() {
                        if position > 0 {
                            self.event.push(b',');
                        }
                        text(&mut self.event, key)?;
                        self.event.push(b':');
                        if key == "rid" {
                            text(&mut self.event, id)?;
                        } else {
                            view(&mut self.event, &value)?;
                        }
                    }
                    self.event.push(b'}');
                }
                (_, Some(id)) => text(&mut self.event, id)?,
                (item, None) => view(&mut self.event, &item)?,
            }
        }
        self.event.push(b']');
        Ok(())
    }

    fn free_blocks(&mut self, record: &Record, domain: &'static str) -> io::Result<()> {
        let blocks = KvState::of(record).free;
        let blocks = blocks.or_else(|| record.get("deviceBlock=").and_then(|value| value.as_int()));
        // A record without the number says nothing about it; it is not zero.
        let Some(blocks) = blocks else { return Ok(()) };
        let rank = self.places.process(record.process).dp_rank.map(i64::from);
        let rank = rank.or_else(|| record.get("scope#dp").and_then(|value| value.as_int()));
        match rank {
            Some(rank) => {
                let name = format!("{domain}-dp{rank}");
                self.counter(record, &name, domain, "Device Block", blocks as f64)
            }
            None => self.counter(record, domain, domain, "Device Block", blocks as f64),
        }
    }

    fn queue_size(&mut self, record: &Record, domain: &'static str) -> io::Result<()> {
        let queue = record.get("status").or_else(|| record.get("scope#QueueName"));
        let name = match queue.and_then(|queue| queue.as_str()) {
            Some(queue) if queue.eq_ignore_ascii_case("waiting") => "WaitingQueue",
            Some(queue) if queue.eq_ignore_ascii_case("running") => "RunningQueue",
            _ => return Ok(()),
        };
        let size = record.get("QueueSize=").and_then(|value| value.as_double());
        size.map_or(Ok(()), |size| self.counter(record, name, domain, "Queue Size", size))
    }

    fn counter(
        &mut self,
        record: &Record,
        name: &str,
        domain: &'static str,
        key: &str,
        value: f64,
    ) -> io::Result<()> {
        let row = self.row(record, domain);
        self.begin(name, "C", record.start)?;
        self.at(row)?;
        write!(self.event, ",\"args\":{{\"{key}\":{}}}", json::string(&value)?)?;
        self.end()
    }

    fn flow(&mut self, request: RequestId, arrow: Arrow, anchor: Anchor, ids: &Ids) -> io::Result<()> {
        let id = ids.text(request);
        let phase = match arrow {
            Arrow::First => "s",
            Arrow::Between => "t",
            Arrow::Last => "f",
        };
        self.event.extend_from_slice(b"{\"name\":");
        text(&mut self.event, &format!("flow_{id}"))?;
        // A number, since Perfetto takes no other ids; name and category tell the request.
        write!(self.event, ",\"ph\":\"{phase}\",\"ts\":{},\"id\":{}", Micros(anchor.time.0), request.0 + 1)?;
        self.event.extend_from_slice(b",\"cat\":");
        text(&mut self.event, id)?;
        self.at(anchor.row)?;
        self.end()
    }

    fn begin(&mut self, name: &str, phase: &str, time: Nanos) -> io::Result<()> {
        self.event.extend_from_slice(b"{\"name\":");
        text(&mut self.event, name)?;
        write!(self.event, ",\"ph\":\"{phase}\",\"ts\":{}", Micros(time.0))
    }

    fn at(&mut self, row: u32) -> io::Result<()> {
        let Row { process, ref text, .. } = self.rows[row as usize];
        write!(
            self.event,
            ",\"pid\":{},\"tid\":",
            self.pids.get(process.0 as usize).copied().unwrap_or_default()
        )?;
        serde_json::to_writer(&mut self.event, text).map_err(Into::into)
    }

    fn end(&mut self) -> io::Result<()> {
        self.event.push(b'}');
        self.out.write_all(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.out.write_all(&self.event)?;
        self.event.clear();
        self.count += 1;
        Ok(())
    }

    fn meta(&mut self, fields: std::fmt::Arguments<'_>) -> io::Result<()> {
        write!(self.event, "{{{fields}")?;
        self.end()
    }

    fn pid(&self, process: ProcessId) -> u32 {
        self.pids.get(process.0 as usize).copied().unwrap_or_default()
    }

    fn row(&mut self, record: &Record, domain: &'static str) -> u32 {
        let is_one = ONE_ROW.contains(&domain);
        let thread = if is_one { u32::MAX } else { record.thread.0 };
        let lane = if is_one { 0 } else { record.lane };
        let key = RowKey { process: record.process, domain, thread, lane };
        *self.by_key.entry(key).or_insert_with(|| {
            let tid = self.places.thread(record.thread).tid;
            let text = if is_one { domain.to_owned() } else { format!("{domain}({tid})") };
            // Spans of coroutines overlap; in one row a viewer would take them for nested. Most threads need one row.
            let alike = self.alike.entry((record.process, text.clone())).or_insert(0);
            *alike += 1;
            let text = if *alike == 1 { text } else { format!("{text} {alike}") };
            self.rows.push(Row { process: record.process, domain, text });
            self.rows.len() as u32 - 1
        })
    }

    fn note_role(&mut self, process: ProcessId, domain: &str) {
        if let Some(role @ None) = self.roles.get_mut(process.0 as usize) {
            if domain.contains("Engine") || domain.contains("Request") {
                *role = Some("schedule");
            } else if domain.contains("Execute") {
                *role = Some("forward");
            }
        }
    }
}

/// A span's length between its start and end as a reader sees them that keeps `ts` in a double: at today's epoch that
/// is exact to 256 ns. With the exact length, spans that touch or nest would seem to overlap, and be dropped.
fn duration_as_read(start: Nanos, end: Nanos) -> u64 {
    as_read(end).saturating_sub(as_read(start))
}

/// Nanoseconds after they were microseconds in a double, as Perfetto reads `ts`: whole microseconds as an integer, others
/// multiplied as a double.
fn as_read(time: Nanos) -> u64 {
    let micros = (time.0 / 1_000) as f64 + (time.0 % 1_000) as f64 / 1e3;
    if micros.fract() == 0.0 { micros as u64 * 1_000 } else { (micros * 1e3).round() as u64 }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::event::{Process, Thread, ThreadId, Value};
    use crate::source::fixture::{record, text};

    #[test]
    fn spans_that_touch_or_nest_do_so_for_a_reader_of_doubles() {
        const NOW: u64 = 1_795_388_844_411_294_000;
        for start in NOW..NOW + 2_000 {
            for length in [1, 30, 200, 777, 5_000] {
                let (start, end) = (Nanos(start), Nanos(start + length));
                let duration = duration_as_read(start, end);
                assert!(duration.abs_diff(length) <= 512, "{length} became {duration}");
                assert_eq!(as_read(start) + duration, as_read(end));
            }
            assert!(as_read(Nanos(start)) <= as_read(Nanos(start + 1)));
        }
    }

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
        let mut trace = ChromeTrace::new(Vec::new(), places, Calendar::new(TimeZone::UTC)).unwrap();
        let (mut ids, mut resources) = (Ids::default(), Resources::default());
        for record in records {
            resources.read(record, &mut ids);
            trace.push(record, &resources, &ids).unwrap();
        }
        let (count, json) = trace.finish(&ids).unwrap();
        let events: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
        assert_eq!(count, events.len() as u64);
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
        assert_eq!((&events[0]["ts"], &events[0]["dur"]), (&5.0.into(), &4.5.into()));
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
        assert_eq!(events[0]["name"], "\"quoted\"");
        assert_eq!(
            (&events[0]["args"]["x"], &events[0]["args"]["y"]),
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
