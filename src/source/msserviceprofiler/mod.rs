//! Reads `ms_service_*.db`, the captures of msServiceProfiler, in both forms: table `slice`, or the older `Mstx` with a
//! JSON text in each row; and `ascend_service_profiler_*.db`, what MSPTI has recorded beside them.

mod message;
mod mspti;

use std::path::Path;
use std::time::Duration;

use rusqlite::Row;

use super::imports::{Damaged, Imports};
use super::json;
use crate::clock::Nanos;
use crate::database::{Database, Views};
use crate::event::{Attributes, Kind, Label, Process, ProcessId, Record};

pub(super) use mspti::read as read_mspti;

/// Without a row for so long, a database is one that is made to keep its readers busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the table `Meta` says.
#[derive(Debug, Default)]
struct Meta {
    host: String,
    parent: Option<u32>,
    dp_rank: Option<u32>,
    /// Times and pids are those that the simulator made up (`service_type` = `liuren_simulation`).
    is_simulated: bool,
}

/// Reads one database. What can't be read of it is said in the answer.
pub(super) fn read(file: &Path, imports: &mut Imports) -> Vec<Damaged> {
    let mut read = || {
        let database = open(file)?;
        let tables = columns_by_table(&database)?;
        let has = |table: &str, column: &str| {
            tables.iter().any(|(name, of)| name == table && of.iter().any(|c| c == column))
        };
        let meta = if has("Meta", "name") { Meta::read(&database)? } else { Meta::default() };
        let mut reader = Reader { imports: &mut *imports, meta, capture: stem(file), processes: Vec::new() };
        if has("slice", "timestamp") && has("Meta", "slice") {
            let pid = if has("slice", "pid") { "pid, tid" } else { "0, track_id" };
            let columns = format!("rowid, timestamp, end_time, name, cat, args, {pid}");
            each_row(&database, "slice", "rowid", &columns, |row| reader.slice(row))
        } else if has("Mstx", "message") {
            let columns = "rowid, timestamp, endTimestamp, message, flag, pid, tid";
            each_row(&database, "Mstx", "rowid", columns, |row| {
                reader.message(row);
                Ok(())
            })
        } else {
            Ok(Some("it has neither a table slice nor a table Mstx: nothing was recorded in it".to_owned()))
        }
    };
    let problem: rusqlite::Result<Option<String>> = read();
    match problem {
        Ok(None) => Vec::new(),
        Ok(Some(reason)) => vec![Damaged::new(file, reason)],
        Err(error) => vec![Damaged::new(file, error)],
    }
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn open(file: &Path) -> rusqlite::Result<Database> {
    Database::open(file, PATIENCE, Views::Refused)
}

fn columns_by_table(database: &Database) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let mut tables = database.connection().prepare(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
    )?;
    let mut rows = tables.query([])?;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
        match found.last_mut() {
            Some((last, columns)) if *last == table => columns.push(column),
            _ => found.push((table, vec![column])),
        }
    }
    Ok(found)
}

/// Gives each row of a table to `take`, with its number in the first column. Behind a damaged page the rest is read
/// from the end on; the answer says what is missing then.
fn each_row(
    database: &Database,
    table: &str,
    number: &str,
    columns: &str,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Option<String>> {
    database.go_on();
    let sql = format!("SELECT {columns} FROM {table} ORDER BY {number}");
    let mut statement = database.connection().prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut last = i64::MIN;
    let damage = loop {
        match rows.next() {
            Ok(Some(row)) => {
                let this = row.get(0)?;
                if this <= last {
                    break "its pages go in a circle".to_owned();
                }
                last = this;
                take(row)?;
                database.go_on();
            }
            Ok(None) => return Ok(None),
            Err(error) if database.took_too_long(&error) => {
                return Ok(Some(format!("table {table} gives no row for minutes; the rest is left")));
            }
            Err(error) => break error.to_string(),
        }
    };
    let sql = format!("SELECT {columns} FROM {table} WHERE {number} > ?1 ORDER BY {number} DESC");
    let mut statement = database.connection().prepare(&sql)?;
    let mut rows = statement.query([last])?;
    let mut first = None;
    while let Ok(Some(row)) = rows.next() {
        let this: Option<i64> = row.get(0).ok();
        if this.zip(first).is_some_and(|(this, first)| this >= first) {
            break;
        }
        first = this.or(first);
        take(row)?;
        database.go_on();
    }
    let lost = first.map_or("the rows behind it".to_owned(), |first: i64| {
        format!("{} rows", first.saturating_sub(last).saturating_sub(1))
    });
    Ok(Some(format!("table {table} is damaged after row {last} ({damage}): {lost} could not be read")))
}

impl Meta {
    fn read(database: &Database) -> rusqlite::Result<Self> {
        let mut meta = Self::default();
        let mut statement = database.connection().prepare("SELECT name, value FROM Meta")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, value): (String, String) = (text(row, 0), text(row, 1));
            match name.as_str() {
                "hostname" => meta.host = value,
                "ppid" => meta.parent = value.parse().ok(),
                // -1 stands for none.
                "dpRankId" => meta.dp_rank = value.parse().ok(),
                "service_type" => meta.is_simulated = value == "liuren_simulation",
                _ => {}
            }
        }
        Ok(meta)
    }
}

/// Texts are read as they are; msServiceProfiler's C++ side checks no encoding.
fn text(row: &Row<'_>, column: usize) -> String {
    match row.get_ref(column) {
        Ok(rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Ok(rusqlite::types::ValueRef::Integer(number)) => number.to_string(),
        Ok(rusqlite::types::ValueRef::Real(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn number(row: &Row<'_>, column: usize) -> u64 {
    row.get_ref(column).ok().and_then(|value| value.as_i64().ok()).map_or(0, |n| n.max(0) as u64)
}

/// Turns rows into records.
struct Reader<'a> {
    imports: &'a mut Imports,
    meta: Meta,
    capture: String,
    processes: Vec<(u32, ProcessId)>,
}

impl Reader<'_> {
    fn slice(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let (start, end) = (number(row, 1), number(row, 2));
        let label = self.imports.label(&text(row, 4), &text(row, 3));
        let mut attributes = Attributes::default();
        let args = row.get_ref(5)?.as_bytes().unwrap_or_default();
        let is_whole = match std::str::from_utf8(args) {
            Ok(args) => args.is_empty() || json::object(args, &mut self.imports.keys, &mut attributes),
            Err(_) => false,
        };
        self.imports.malformed += u64::from(!is_whole);
        self.record(label, (start, end), None, (number(row, 6), number(row, 7)), attributes);
        Ok(())
    }

    fn message(&mut self, row: &Row<'_>) {
        let (start, end) = (number(row, 1), number(row, 2));
        let mut attributes = Attributes::default();
        let Some((domain, name)) = message::read(&text(row, 3), &mut self.imports.keys, &mut attributes)
        else {
            self.imports.malformed += 1;
            return;
        };
        let is_span = number(row, 4) == 2;
        let label = self.imports.label(&domain, &name);
        self.record(label, (start, end), Some(is_span), (number(row, 5), number(row, 6)), attributes);
    }

    fn record(
        &mut self,
        label: Label,
        (start, end): (u64, u64),
        is_span: Option<bool>,
        (pid, tid): (u64, u64),
        attributes: Attributes,
    ) {
        let mut record = Record::instant(label, Nanos(start));
        record.attributes = attributes.into_bytes();
        let mut pid = pid;
        if self.meta.is_simulated {
            let stated = |key| record.get(key).and_then(|value| value.as_int()).map(|n| n.max(0) as u64);
            let (told_start, told_end) = (stated("logical_start_time="), stated("logical_end_time="));
            pid = stated("logical_pid=").unwrap_or(pid);
            record.start = Nanos(told_start.unwrap_or(start));
            record.end = Nanos(told_end.or(told_start).unwrap_or(end)).max(record.start);
        } else {
            record.end = Nanos(end.max(start));
        }
        // Type 2 is a span. Old rows do not say; what takes time is one.
        let stated = || record.get("type").and_then(|value| value.as_int()).map(|n| n == 2);
        let is_span = is_span.or_else(stated).unwrap_or(end > start);
        if is_span {
            record.kind = Kind::Span;
        } else {
            record.end = record.start;
        }
        record.process = self.process(pid as u32);
        record.thread = self.imports.thread(record.process, tid as u32, "");
        self.imports.push(&record);
    }

    fn process(&mut self, pid: u32) -> ProcessId {
        if let Some((_, id)) = self.processes.iter().find(|(known, _)| *known == pid) {
            return *id;
        }
        let id = self.imports.process(Process {
            pid,
            name: String::new(),
            host: self.meta.host.clone(),
            parent: self.meta.parent,
            dp_rank: self.meta.dp_rank,
            capture: self.capture.clone(),
            ..Process::default()
        });
        self.processes.push((pid, id));
        id
    }
}
