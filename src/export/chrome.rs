//! `chrome_tracing.json`: the timeline as a JSON array of Chrome trace events, as msServiceProfiler writes it. Events
//! are written as they come; a viewer sorts them by time.

use std::io::{self, Write};

use rustc_hash::{FxHashMap, FxHashSet};

use super::flows::{Anchor, Arrow, Flows};
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
            let (pid, text) = (self.pid(process), json(text)?);
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
                ("process_name", "name", json(&name)?),
                ("process_labels", "labels", json(&labels)?),
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
        let duration = Micros(record.end.0.saturating_sub(record.start.0));
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
        write!(self.event, ",\"args\":{{\"{key}\":{}}}", json(&value)?)?;
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
        let key = RowKey { process: record.process, domain, thread, lane: record.lane };
        *self.by_key.entry(key).or_insert_with(|| {
            let tid = self.places.thread(record.thread).tid;
            let text = match (is_one, record.lane) {
                (true, _) => domain.to_owned(),
                (false, 0) => format!("{domain}({tid})"),
                // Spans of coroutines overlap; in one row a viewer would take them for nested.
                (false, lane) => format!("{domain}({tid}) {lane}"),
            };
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

/// Each process's own pid, unless processes of several hosts (or containers) share it.
fn distinct_pids(places: &Places) -> Vec<u32> {
    let mut taken = FxHashSet::default();
    let distinct = |(position, process): (usize, &crate::event::Process)| {
        let mut pid = process.pid;
        // Above the largest pid that Linux gives out.
        while !taken.insert(pid) {
            pid = (1 << 22) + position as u32 + pid % (1 << 22);
        }
        pid
    };
    places.processes.iter().enumerate().map(distinct).collect()
}

/// Children after their parents; otherwise by role, rank and pid.
fn process_order(places: &Places, roles: &[Option<&str>]) -> Vec<ProcessId> {
    let parent = |process: &crate::event::Process| {
        let same =
            |other: &crate::event::Process| Some(other.pid) == process.parent && other.host == process.host;
        places.processes.iter().position(same)
    };
    let rank = |position: usize| {
        let process = &places.processes[position];
        let role = match roles.get(position) {
            Some(Some("schedule")) => 0,
            Some(Some(_)) => 1,
            _ => 2,
        };
        (role, process.dp_rank, process.pid)
    };
    let mut order = Vec::new();
    let mut waiting: Vec<usize> = (0..places.processes.len()).collect();
    waiting.sort_by_key(|position| std::cmp::Reverse(rank(*position)));
    let parents: Vec<Option<usize>> = places.processes.iter().map(parent).collect();
    // Depth first: the next is the best whose parent is the newest placed, then that of the one before, and so on.
    let mut line: Vec<Option<usize>> = vec![None];
    while let Some(ancestor) = line.last().copied() {
        let next = waiting.iter().rposition(|position| parents[*position] == ancestor);
        if let Some(next) = next {
            let position = waiting.remove(next);
            order.push(ProcessId(position as u32));
            line.push(Some(position));
        } else {
            line.pop();
        }
    }
    // Two that name each other as parent.
    order.extend(waiting.into_iter().rev().map(|position| ProcessId(position as u32)));
    order
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> io::Result<String> {
    serde_json::to_string(value).map_err(Into::into)
}

fn text(out: &mut Vec<u8>, value: &str) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(Into::into)
}

fn view(out: &mut Vec<u8>, value: &View<'_>) -> io::Result<()> {
    match value {
        View::Bool(b) => write!(out, "{b}"),
        View::Int(n) => write!(out, "{n}"),
        // Not a number and infinity become null.
        View::Double(x) => serde_json::to_writer(out, x).map_err(Into::into),
        View::Str(value) => text(out, value),
        View::Array(items) => {
            out.push(b'[');
            for (position, item) in items.clone().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                view(out, &item)?;
            }
            out.push(b']');
            Ok(())
        }
        View::Dict(entries) => {
            out.push(b'{');
            for (position, (key, item)) in entries.clone().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                text(out, key)?;
                out.push(b':');
                view(out, &item)?;
            }
            out.push(b'}');
            Ok(())
        }
    }
}
