//! What stands in the timeline: which records are slices, counters and arrows, in which rows, and with which arguments.
//! Each format takes it as a [`Sink`].

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::flows::{Anchor, Flows};
use super::json::{int, text, view};
use super::output::OutputError;
use super::process_rows::{distinct_pids, process_order};
use super::times::Calendar;
use crate::clock::Nanos;
use crate::event::{Kind, Places, ProcessId, Record, View};
use crate::model::{Ids, KvState, Request, RequestId, Resources, Shape, is_kv_domain};

pub use super::flows::Arrow;

/// Domains in the order in which a process's rows are shown.
const ROW_ORDER: [&str; 8] =
    ["Execute", "Schedule", "Communication", "KVCache", "Schedule.KVCache", "Engine", "Api", "Kernel"];

/// Domains whose records are not shown as slices.
const HIDDEN: [&str; 7] =
    ["npu", "Queue", "KVCache", "Schedule.KVCache", "PullKVCache", "Meta", "expert_hot"];

/// Domains that have one row in a process, whatever the thread.
const ONE_ROW: [&str; 4] = ["Request", "RequestState", "KVCache", "Schedule.KVCache"];

/// A format that a timeline is written in. A row is told before anything is put in it; processes come last.
pub trait Sink {
    /// A new row.
    ///
    /// # Errors
    /// The output can't be written; so it is with the others.
    fn row(&mut self, row: &Row) -> Result<(), OutputError>;
    /// A span or an instant.
    #[allow(missing_docs, clippy::missing_errors_doc, reason = "as above")]
    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), OutputError>;
    /// A sample of a counter.
    #[allow(clippy::missing_errors_doc, reason = "as above")]
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), OutputError>;
    /// A place that a request's arrow passes.
    #[allow(clippy::missing_errors_doc, reason = "as above")]
    fn flow(&mut self, flow: &Flow<'_>) -> Result<(), OutputError>;
    /// A request as a whole.
    #[allow(clippy::missing_errors_doc, reason = "as above")]
    fn request(&mut self, number: u32, pid: u32, request: &Request) -> Result<(), OutputError>;
    /// What a process is called, and where it stands.
    #[allow(clippy::missing_errors_doc, reason = "as above")]
    fn process(&mut self, process: &ProcessRow) -> Result<(), OutputError>;
}

/// A row of a process.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number, from 0 on.
    pub number: u32,
    /// The process, as the timeline shows it.
    pub pid: u32,
    /// The kernel thread id; the process id for what belongs to the process as a whole.
    pub tid: u32,
    /// What it is called: Chrome's `tid`.
    pub text: String,
    /// Where it stands among the rows of its process.
    pub sort_index: usize,
}

/// A span or an instant.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its domain.
    pub domain: &'static str,
    /// Whether it has no length.
    pub is_instant: bool,
    /// In unix nanoseconds.
    pub start: Nanos,
    /// In unix nanoseconds.
    pub end: Nanos,
    /// The row that it stands in.
    pub row: &'a Row,
    /// A JSON object.
    pub args: &'a [u8],
}

/// A sample of a counter.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The counter's name.
    pub name: &'a str,
    /// Its domain.
    pub domain: &'static str,
    /// In unix nanoseconds.
    pub time: Nanos,
    /// The row that it stands in.
    pub row: &'a Row,
    /// What is counted.
    pub key: &'a str,
    /// How much of it.
    pub value: f64,
}

/// A place that a request's arrow passes.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The request's number, from 1 on.
    pub number: u32,
    /// The request's id.
    pub id: &'a str,
    /// Whether the arrow begins, passes or ends.
    pub arrow: Arrow,
    /// In unix nanoseconds.
    pub time: Nanos,
    /// The row that it passes.
    pub row: &'a Row,
}

/// What a process is called, and where it stands.
#[derive(Clone, Debug)]
pub struct ProcessRow {
    /// As the timeline shows it.
    pub pid: u32,
    /// As the timeline shows it, if known.
    pub parent: Option<u32>,
    /// What it is called.
    pub name: String,
    /// Its host and rank.
    pub labels: String,
    /// Where it stands.
    pub sort_index: usize,
}

/// Decides what stands where, and gives it to the sinks.
pub struct Timeline<'a> {
    sinks: Vec<&'a mut dyn Sink>,
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
    args: Vec<u8>,
}

#[derive(PartialEq, Eq, Hash)]
struct RowKey {
    process: ProcessId,
    domain: &'static str,
    thread: u32,
    lane: u32,
}

impl<'a> Timeline<'a> {
    /// Begins a timeline.
    pub fn new(places: &'a Places, calendar: Calendar, sinks: Vec<&'a mut dyn Sink>) -> Self {
        Self {
            sinks,
            places,
            calendar,
            pids: distinct_pids(places),
            roles: vec![None; places.processes.len()],
            rows: Vec::new(),
            by_key: FxHashMap::default(),
            alike: FxHashMap::default(),
            flows: Flows::default(),
            args: Vec::new(),
        }
    }

    /// Puts in what a record is in the timeline.
    ///
    /// # Errors
    /// An output can't be written.
    pub fn push(&mut self, record: &Record, resources: &Resources, ids: &Ids) -> Result<(), OutputError> {
        if self.sinks.is_empty() {
            return Ok(());
        }
        let (domain, name) = (record.domain(), record.name());
        self.note_role(record.process, domain);
        if let Kind::Counter(value) = record.kind {
            return self.sample(record, name, domain, "value", value);
        }
        if is_kv_domain(domain) {
            return self.free_blocks(record, domain);
        }
        if name == "Queue" {
            return self.queue_size(record, domain);
        }
        if domain == "npu" || name == "npu" {
            let usage = record.get("usage=").and_then(|value| value.as_double());
            return usage.map_or(Ok(()), |usage| self.sample(record, "NPU Usage", domain, "Usage", usage));
        }
        if name.is_empty()
            || resources.is_link
            || HIDDEN.contains(&domain)
            || domain.starts_with("expert_hot")
        {
            return Ok(());
        }
        if name == "batchFrameworkProcessing" && resources.list.is_empty() {
            return Ok(()); // a step that schedules nothing is not shown
        }
        let row = self.row(record, domain)?;
        self.slice(record, resources, ids, row)?;
        for resource in &resources.list {
            let anchor = Anchor { time: record.start, row };
            if let Some((arrow, anchor)) = self.flows.push(resource.request, anchor) {
                self.flow(resource.request, arrow, anchor, ids)?;
            }
        }
        Ok(())
    }

    /// Puts in the last arrows, the requests, and what processes are called.
    ///
    /// # Errors
    /// An output can't be written.
    pub fn finish(mut self, ids: &Ids, requests: &[Request]) -> Result<(), OutputError> {
        if self.sinks.is_empty() {
            return Ok(());
        }
        for (request, arrow, anchor) in std::mem::take(&mut self.flows).finish() {
            self.flow(request, arrow, anchor, ids)?;
        }
        for (number, request) in requests.iter().enumerate() {
            let pid = self.pid(request.process);
            self.sinks.iter_mut().try_for_each(|sink| sink.request(number as u32 + 1, pid, request))?;
        }
        for (sort_index, process) in process_order(self.places, &self.roles).into_iter().enumerate() {
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
            let row = ProcessRow { pid, parent: known.parent, name, labels, sort_index };
            self.sinks.iter_mut().try_for_each(|sink| sink.process(&row))?;
        }
        Ok(())
    }

    fn slice(
        &mut self,
        record: &Record,
        resources: &Resources,
        ids: &Ids,
        row: u32,
    ) -> Result<(), OutputError> {
        let mut args = std::mem::take(&mut self.args);
        args.clear();
        // Writing to memory does not fail.
        let _ = self.write_args(record, resources, ids, &mut args);
        let slice = Slice {
            name: record.name(),
            domain: record.domain(),
            is_instant: record.kind == Kind::Instant,
            start: record.start,
            end: record.end,
            row: &self.rows[row as usize],
            args: &args,
        };
        let done = self.sinks.iter_mut().try_for_each(|sink| sink.slice(&slice));
        self.args = args;
        done
    }

    fn write_args(
        &mut self,
        record: &Record,
        resources: &Resources,
        ids: &Ids,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        out.push(b'{');
        let is_list = matches!(resources.shape, Shape::Ids | Shape::Steps);
        for (key, value) in record.entries() {
            let is_said_below = is_list && matches!(key, "batch_size" | "batch_type");
            if !is_said_below && !matches!(key, "domain" | "name" | "type" | "rid") {
                text(out, key)?;
                out.push(b':');
                view(out, &value)?;
                out.push(b',');
            }
        }
        out.extend_from_slice(b"\"start_datetime\":\"");
        out.extend_from_slice(self.calendar.text(record.start).as_bytes());
        out.extend_from_slice(b"\",\"end_datetime\":\"");
        out.extend_from_slice(self.calendar.text(record.end).as_bytes());
        out.extend_from_slice(b"\",\"tid\":");
        int(out, self.places.thread(record.thread).tid.into());
        if record.kind == Kind::Unfinished {
            out.extend_from_slice(b",\"unfinished\":true");
        }
        requests(record, resources, ids, out)?;
        out.push(b'}');
        Ok(())
    }

    fn free_blocks(&mut self, record: &Record, domain: &'static str) -> Result<(), OutputError> {
        let blocks = KvState::of(record).free;
        let blocks = blocks.or_else(|| record.get("deviceBlock=").and_then(|value| value.as_int()));
        // A record without the number says nothing about it; it is not zero.
        let Some(blocks) = blocks else { return Ok(()) };
        let rank = self.places.process(record.process).dp_rank.map(i64::from);
        let rank = rank.or_else(|| record.get("scope#dp").and_then(|value| value.as_int()));
        match rank {
            Some(rank) => {
                let name = format!("{domain}-dp{rank}");
                self.sample(record, &name, domain, "Device Block", blocks as f64)
            }
            None => self.sample(record, domain, domain, "Device Block", blocks as f64),
        }
    }

    fn queue_size(&mut self, record: &Record, domain: &'static str) -> Result<(), OutputError> {
        let queue = record.get("status").or_else(|| record.get("scope#QueueName"));
        let name = match queue.and_then(|queue| queue.as_str()) {
            Some(queue) if queue.eq_ignore_ascii_case("waiting") => "WaitingQueue",
            Some(queue) if queue.eq_ignore_ascii_case("running") => "RunningQueue",
            _ => return Ok(()),
        };
        let size = record.get("QueueSize=").and_then(|value| value.as_double());
        size.map_or(Ok(()), |size| self.sample(record, name, domain, "Queue Size", size))
    }

    fn sample(
        &mut self,
        record: &Record,
        name: &str,
        domain: &'static str,
        key: &str,
        value: f64,
    ) -> Result<(), OutputError> {
        let row = self.row(record, domain)?;
        let row = &self.rows[row as usize];
        let sample = Sample { name, domain, time: record.start, row, key, value };
        self.sinks.iter_mut().try_for_each(|sink| sink.sample(&sample))
    }

    fn flow(
        &mut self,
        request: RequestId,
        arrow: Arrow,
        anchor: Anchor,
        ids: &Ids,
    ) -> Result<(), OutputError> {
        let row = &self.rows[anchor.row as usize];
        let flow = Flow { number: request.0 + 1, id: ids.text(request), arrow, time: anchor.time, row };
        self.sinks.iter_mut().try_for_each(|sink| sink.flow(&flow))
    }

    fn pid(&self, process: ProcessId) -> u32 {
        self.pids.get(process.0 as usize).copied().unwrap_or_default()
    }

    fn row(&mut self, record: &Record, domain: &'static str) -> Result<u32, OutputError> {
        let is_one = ONE_ROW.contains(&domain);
        let thread = if is_one { u32::MAX } else { record.thread.0 };
        let lane = if is_one { 0 } else { record.lane };
        let key = RowKey { process: record.process, domain, thread, lane };
        if let Some(known) = self.by_key.get(&key) {
            return Ok(*known);
        }
        let tid = self.places.thread(record.thread).tid;
        let text = if is_one { domain.to_owned() } else { format!("{domain}({tid})") };
        // Spans of coroutines overlap; in one row a viewer would take them for nested. Most threads need one row.
        let alike = self.alike.entry((record.process, text.clone())).or_insert(0);
        *alike += 1;
        let text = if *alike == 1 { text } else { format!("{text} {alike}") };
        let sort_index = ROW_ORDER.iter().position(|known| *known == domain).unwrap_or(ROW_ORDER.len());
        let number = self.rows.len() as u32;
        let row = Row { number, pid: self.pid(record.process), tid, text, sort_index };
        self.sinks.iter_mut().try_for_each(|sink| sink.row(&row))?;
        self.rows.push(row);
        self.by_key.insert(key, number);
        Ok(number)
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

/// The requests that a record is about, with the ids that the user knows.
fn requests(record: &Record, resources: &Resources, ids: &Ids, out: &mut Vec<u8>) -> io::Result<()> {
    let mut ids_in_order = resources.list.iter().map(|resource| resource.request);
    match resources.shape {
        Shape::None => return Ok(()),
        Shape::One => {
            if let Some(request) = ids_in_order.next() {
                out.extend_from_slice(b",\"rid\":");
                text(out, ids.text(request))?;
            }
            return Ok(());
        }
        Shape::Ids | Shape::Steps => {}
    }
    // The number of requests, whatever the record itself calls a size (vLLM's is in tokens).
    write!(out, ",\"batch_size\":\"{}\"", resources.list.len())?;
    if let Some(batch_type) = resources.batch_type {
        out.extend_from_slice(b",\"batch_type\":");
        text(out, batch_type.as_str())?;
    }
    out.extend_from_slice(b",\"res_list\":");
    let Some(View::Array(items)) = record.get("rid") else {
        out.extend_from_slice(b"[]");
        return Ok(());
    };
    out.push(b'[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        // The item as it is, but with the id that the user knows.
        let id = ids_in_order.next().map(|request| ids.text(request));
        match (item, id) {
            (View::Dict(entries), Some(id)) => {
                out.push(b'{');
                for (position, (key, value)) in entries.enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    text(out, key)?;
                    out.push(b':');
                    if key == "rid" {
                        text(out, id)?;
                    } else {
                        view(out, &value)?;
                    }
                }
                out.push(b'}');
            }
            (_, Some(id)) => text(out, id)?,
            (item, None) => view(out, &item)?,
        }
    }
    out.push(b']');
    Ok(())
}
