//! The tables of `profiler.db` that are made from the model.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use rusqlite::{Connection, params};
use rustc_hash::{FxHashMap, FxHasher};

use super::super::batch_csv::{PythonList, positions};
use super::super::output::OutputError;
use super::super::request_csv::is_listed;
use super::super::times::Calendar;
use super::Database;
use crate::clock::Nanos;
use crate::event::{Name, Places, ProcessId};
use crate::model::{Batch, Distribution, KvState, Model, Phase, Request, Shape, Windowed, Windows};

/// Logical batches that are put together at a time: a schedule and its executions are never further apart.
const BATCHES_AT_ONCE: usize = 256;

/// At so many instants at most the latency so far is told.
const LATENCY_POINTS: usize = 100;

/// Addresses that have a column in `Coordinator_curve`; SQLite allows 2,000 columns.
const MOST_ADDRESSES: usize = 1_000;

/// Writes all tables.
///
/// # Errors
/// The database can't be written.
pub fn write(
    database: &Database,
    model: &Model,
    places: &Places,
    calendar: &mut Calendar,
) -> Result<(), OutputError> {
    let mut tables = Tables { connection: database.connection(), model, places, calendar };
    let mut all = || {
        tables.requests()?;
        tables.batches()?;
        tables.logical_batches()?;
        tables.kv_cache()?;
        tables.forwards()?;
        tables.queues()?;
        tables.speeds("prefill_gen_speed", &model.prefill_speed)?;
        tables.speeds("decode_gen_speed", &model.decode_speed)?;
        tables.first_tokens()?;
        tables.latencies()?;
        tables.handoff()
    };
    all().map_err(|error| database.error(error))
}

struct Tables<'a> {
    connection: &'a Connection,
    model: &'a Model,
    places: &'a Places,
    calendar: &'a mut Calendar,
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

impl Tables<'_> {
    fn requests(&mut self) -> rusqlite::Result<()> {
        let mut insert =
            self.connection.prepare("INSERT INTO request VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
        for request in self.model.requests.iter().filter(|request| is_listed(&request.id)) {
            insert.execute(params![
                request.id,
                request.arrival.map(|time| self.calendar.text(time).to_owned()),
                request.prompt_tokens,
                request.output_tokens,
                request.latency().map(millis),
                request.queue_wait.map(millis),
                request.first_token().map(millis),
                request.cache_hit.map_or("N/A".to_owned(), |share| share.to_string()),
                request.arrival.map(|time| millis(time.0)),
            ])?;
        }
        Ok(())
    }

    fn batches(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
             ?19, ?20, ?21, ?22, ?23, ?24)",
        )?;
        for batch in self.model.batches.iter() {
            let process = self.places.process(batch.process);
            let size = if batch.shape == Shape::One { 0 } else { batch.resources.len() };
            let kv = batch.kv.as_deref();
            let per_position = batch.draft.is_some().then(|| positions(&batch));
            insert.execute(params![
                batch.name.as_str(),
                PythonList { batch: &batch, ids: &self.model.ids }.to_string(),
                self.calendar.text(batch.start).to_owned(),
                self.calendar.text(batch.end),
                millis(batch.end.0.saturating_sub(batch.start.0)),
                batch.batch_type.map(Name::as_str),
                process.capture,
                size as f64,
                kv.and_then(|kv| kv.total),
                kv.and_then(KvState::used),
                kv.and_then(|kv| kv.free),
                kv.and_then(|kv| kv.allocated),
                kv.and_then(|kv| kv.freed),
                kv.and_then(|kv| kv.usage),
                batch.size(Phase::Prefill),
                batch.size(Phase::Decode),
                batch.tokens(Phase::Prefill).map(|count| count as i64),
                batch.tokens(Phase::Decode).map(|count| count as i64),
                batch.total_tokens().map(|count| count as i64),
                process.dp_rank,
                batch.accepted_share(),
                per_position,
                millis(batch.start.0),
                millis(batch.end.0),
            ])?;
        }
        Ok(())
    }

    /// A logical batch is a schedule and its executions: rows of the same requests at the same steps. Of each the first
    /// start and the last end, by name and process.
    fn logical_batches(&mut self) -> rusqlite::Result<()> {
        struct Logical {
            key: u64,
            id: i64,
            events: Vec<(&'static str, ProcessId, Nanos, Nanos)>,
        }
        let mut insert = self.connection.prepare("INSERT INTO batch_exec VALUES (?1, ?2, ?3, ?4, ?5)")?;
        let mut insert_request =
            self.connection.prepare("INSERT INTO batch_req VALUES (?1, ?2, ?2, ?3, '')")?;
        let mut write = |logical: Logical| {
            for (event, process, start, end) in logical.events {
                let pid = self.places.process(process).pid;
                insert.execute(params![logical.id, event, pid, start.0 as f64 / 1e3, end.0 as f64 / 1e3])?;
            }
            Ok::<_, rusqlite::Error>(())
        };
        let (mut open, mut next_id) = (VecDeque::<Logical>::new(), 0);
        for batch in self.model.batches.iter() {
            let key = key(&batch);
            let known = open.iter().rposition(|logical| logical.key == key);
            let position = if let Some(position) = known {
                position
            } else {
                for resource in &batch.resources {
                    let id = self.model.ids.text(resource.request);
                    insert_request.execute(params![next_id, id, resource.iter.get()])?;
                }
                open.push_back(Logical { key, id: next_id, events: Vec::new() });
                next_id += 1;
                if open.len() > BATCHES_AT_ONCE
                    && let Some(oldest) = open.pop_front()
                {
                    write(oldest)?;
                }
                open.len() - 1
            };
            let (name, process) = (batch.name.as_str(), batch.process);
            let events = &mut open[position].events;
            match events.iter_mut().find(|event| (event.0, event.1) == (name, process)) {
                Some((_, _, start, end)) => (*start, *end) = (batch.start.min(*start), batch.end.max(*end)),
                None => events.push((name, process, batch.start, batch.end)),
            }
        }
        open.into_iter().try_for_each(write)
    }

    fn kv_cache(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO kvcache (rid, name, start_datetime, total_blocks, used_blocks, free_blocks, blocks_allocated, \
             blocks_freed, device_kvcache_left, kvcache_usage_rate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let forms = self.model.kv_forms;
        for row in &self.model.kv_cache {
            let state = row.state;
            let usage = if forms.has_totals { state.usage } else { forms.usage(row.device_blocks) };
            insert.execute(params![
                row.request.map(|request| self.model.ids.text(request)),
                row.name.as_str(),
                self.calendar.text(row.start),
                state.total,
                state.used(),
                state.free,
                state.allocated,
                state.freed,
                row.device_blocks,
                usage,
            ])?;
        }
        Ok(())
    }

    fn forwards(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO forward VALUES ('forward', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        for forward in &self.model.forwards {
            let process = self.places.process(forward.process);
            insert.execute(params![
                millis(forward.since_first),
                self.calendar.text(forward.start).to_owned(),
                self.calendar.text(forward.end),
                millis(forward.end.0.saturating_sub(forward.start.0)),
                forward.bubble.map(|nanos| nanos as f64 / 1e6),
                forward.batch_size as i64,
                forward.batch_type.map(Name::as_str),
                forward.iter as i64,
                process.dp_rank,
                process.capture,
                process.host,
                millis(forward.start.0),
                millis(forward.end.0),
            ])?;
        }
        Ok(())
    }

    /// A row says the length of one queue; the others keep theirs.
    fn queues(&mut self) -> rusqlite::Result<()> {
        const COLUMNS: [&str; 4] = ["WAITING", "PENDING", "RUNNING", "SWAPPED"];
        let mut insert =
            self.connection.prepare("INSERT INTO request_status VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        let mut lengths: FxHashMap<ProcessId, [Option<i64>; COLUMNS.len()]> = FxHashMap::default();
        for row in &self.model.queues {
            let Some(column) = COLUMNS.iter().position(|column| *column == row.queue.as_str()) else {
                continue;
            };
            let lengths = lengths.entry(row.process).or_default();
            lengths[column] = Some(row.size);
            let process = self.places.process(row.process);
            let [waiting, pending, running, swapped] = *lengths;
            let time = self.calendar.text(row.time);
            insert.execute(params![time, process.host, process.pid, waiting, pending, running, swapped])?;
        }
        Ok(())
    }

    fn speeds(&mut self, table: &str, windows: &Windows) -> rusqlite::Result<()> {
        let mut insert =
            self.connection.prepare(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?;
        for window in &windows.rows {
            let time = self.calendar.text(window.start);
            insert.execute(params![time, window.p50, window.p90, window.p99, window.mean, windows.median])?;
        }
        Ok(())
    }

    fn first_tokens(&mut self) -> rusqlite::Result<()> {
        let mut windows = Windowed::default();
        for request in &self.model.requests {
            if let (Some(arrival), Some(latency)) = (request.arrival, request.first_token()) {
                windows.push(arrival, latency as f64 / 1e3);
            }
        }
        let windows = windows.finish();
        let mut insert =
            self.connection.prepare("INSERT INTO first_token_latency VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for row in &windows.rows {
            let time = self.calendar.text(row.start);
            insert.execute(params![time, row.p50, row.p90, row.p99, row.mean, row.min, windows.median])?;
        }
        Ok(())
    }

    /// The latencies of all requests that had ended by an instant.
    fn latencies(&mut self) -> rusqlite::Result<()> {
        let ended = |request: &Request| Some((request.end?, request.latency()?));
        let mut ended: Vec<(Nanos, u64)> = self.model.requests.iter().filter_map(ended).collect();
        ended.sort_unstable();
        let all: Distribution = ended.iter().map(|(_, latency)| *latency).collect();
        let median = { all }.percentile(0.5) / 1e3;
        let step = ended.len().div_ceil(LATENCY_POINTS).max(1);
        let mut so_far = Distribution::default();
        let mut insert =
            self.connection.prepare("INSERT INTO req_latency VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (number, (end, latency)) in ended.iter().enumerate() {
            so_far.push(*latency);
            if (number + 1).is_multiple_of(step) || number + 1 == ended.len() {
                let rounded = |nanos: f64| (nanos / 10.0).round() / 100.0;
                let [p99, p90, p50] = [0.99, 0.9, 0.5].map(|rank| rounded(so_far.percentile(rank)));
                let (time, mean) = (self.calendar.text(*end), rounded(so_far.mean()));
                insert.execute(params![time, mean, p99, p90, p50, median])?;
            }
        }
        Ok(())
    }

    fn handoff(&mut self) -> rusqlite::Result<()> {
        let tables = &self.model.handoff;
        let mut insert =
            self.connection.prepare("INSERT INTO pd_split_communication VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for row in &tables.handovers {
            let times = row.times.map(|time| time.map(|time| self.calendar.to_millis(time)));
            let id = self.model.ids.text(row.request);
            insert.execute(params![id, times[0], times[1], times[2], times[3], times[4]])?;
        }
        let mut insert = self
            .connection
            .prepare("INSERT INTO pd_split_kvcache VALUES ('PullKVCache', ?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for row in &tables.pulls {
            insert.execute(params![
                row.rank,
                row.request.map(|request| self.model.ids.text(request)),
                row.block_tables,
                row.lengths,
                millis(row.end.0 - row.start.0),
                self.calendar.to_millis(row.start),
                self.calendar.to_millis(row.end),
            ])?;
        }
        let mut insert =
            self.connection.prepare("INSERT INTO coordinator VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for row in &tables.dispatched {
            insert.execute(params![
                self.calendar.to_seconds(row.time),
                row.address,
                row.node_type,
                row.added as i64,
                row.ended as i64,
                row.running,
            ])?;
        }
        // A column for each address, which are known only now.
        let addresses: BTreeSet<_> =
            tables.dispatched.iter().map(|row| (row.node_type, &row.address)).collect();
        let column = |(node, address): &(&str, &String)| {
            let (name, text) =
                (format!("{node} {address}").replace('"', "\"\""), address.replace('\'', "''"));
            format!(
                ", sum(CASE WHEN node_type = '{node}' AND address = '{text}' THEN add_count END) AS \"{name}\""
            )
        };
        let columns: String = addresses.iter().take(MOST_ADDRESSES).map(column).collect();
        self.connection.execute_batch(&format!(
            "CREATE VIEW Coordinator_curve AS SELECT time{columns} FROM coordinator GROUP BY time ORDER BY time"
        ))
    }
}

fn key(batch: &Batch) -> u64 {
    let mut hasher = FxHasher::default();
    for resource in &batch.resources {
        (resource.request, resource.iter.get()).hash(&mut hasher);
    }
    hasher.finish()
}
