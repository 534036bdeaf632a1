//! The forms in which the simulated server is captured.

use std::path::Path;

use msprof_rs::clock::{Nanos, Snapshot};
use msprof_rs::event::{Attributes, Label, Name, Value};
use msprof_rs::trace::{Clocks, Process, Sequence, Thread, Writer, sequence_id};

use crate::simulator::{BEGIN, Recorder};

/// Our own form: one file for each process.
pub struct Captures {
    processes: Vec<(Writer, Sequence, u64, std::fs::File)>,
}

impl Captures {
    /// Begins the files. Each host was booted at a time of its own.
    pub fn create(folder: &Path, engines: usize) -> Self {
        let process = |number: usize| {
            let (host, boot) = (format!("node{number}"), BEGIN - (number as u64 + 1) * 86_400_000_000_123);
            let clocks = Clocks::Fixed(Snapshot { boot: Nanos(0), monotonic: Nanos(0), real: Nanos(boot) });
            let name =
                if number == 0 { "APIServer".to_owned() } else { format!("EngineCore dp{}", number - 1) };
            let pid = 100 + number as u32;
            let process = Process { pid, name, command: vec!["vllm".into(), "serve".into()] };
            let rank = (number as i64 - 1).to_string();
            let facts = [("hostname", host.as_str()), ("ppid", "1"), ("dpRankId", rank.as_str())];
            let mut writer = Writer::new(process, clocks, &facts);
            let sequence = sequence_id(number as u32 * 1_000 + 17);
            let sequence = writer.thread(&Thread { tid: pid, name: "main".into(), sequence });
            let file = std::fs::File::create(folder.join(format!("{host}-{pid}.pftrace"))).unwrap();
            (writer, sequence, boot, file)
        };
        Self { processes: (0..=engines).map(process).collect() }
    }

    /// Ends the files.
    pub fn finish(mut self) {
        (0..self.processes.len()).for_each(|process| self.save(process, 0));
    }

    fn save(&mut self, process: usize, least: usize) {
        let (writer, _, _, file) = &mut self.processes[process];
        if writer.pending().len() > least {
            std::io::Write::write_all(file, writer.pending()).unwrap();
            writer.written();
        }
    }
}

fn encoded(entries: &[(&'static str, Value)]) -> Attributes {
    let mut attributes = Attributes::default();
    for (key, value) in entries {
        attributes.key(Name::new(key)).value(value);
    }
    attributes
}

impl Recorder for Captures {
    fn begin(&mut self, process: usize, time: u64, domain: &'static str, name: &'static str) {
        let (writer, sequence, boot, _) = &mut self.processes[process];
        writer.begin(sequence, Nanos(time - *boot), Label::new(domain, name));
    }

    fn end(&mut self, process: usize, time: u64, attributes: &[(&'static str, Value)]) {
        let (writer, sequence, boot, _) = &mut self.processes[process];
        writer.end(sequence, Nanos(time - *boot), encoded(attributes).as_bytes()).unwrap();
        self.save(process, 1 << 20);
    }

    fn instant(
        &mut self,
        process: usize,
        time: u64,
        domain: &'static str,
        name: &'static str,
        attributes: &[(&'static str, Value)],
    ) {
        let (writer, sequence, boot, _) = &mut self.processes[process];
        let label = Label::new(domain, name);
        writer.instant(sequence, Nanos(time - *boot), label, encoded(attributes).as_bytes()).unwrap();
    }
}

/// A span that has begun: when, its domain and its name.
type Open = (u64, &'static str, &'static str);

/// msServiceProfiler's form: one database for each process, with table `slice` or with the older `Mstx`.
pub struct Databases {
    processes: Vec<(rusqlite::Connection, Vec<Open>)>,
    is_old: bool,
}

impl Databases {
    /// Begins the databases.
    pub fn create(folder: &Path, engines: usize, is_old: bool) -> Self {
        let process = |number: usize| {
            let (host, pid) = (format!("node{number}"), 100 + number);
            let database =
                rusqlite::Connection::open(folder.join(format!("ms_service_{host}-{pid}.db"))).unwrap();
            let tables = if is_old {
                "CREATE TABLE Meta (name TEXT, value TEXT);
                 CREATE TABLE Mstx (message TEXT, flag INTEGER, markId INTEGER, timestamp INTEGER, endTimestamp INTEGER,
                    pid INTEGER, tid INTEGER);"
            } else {
                "CREATE TABLE Meta (name TEXT, value TEXT, slice TEXT);
                 CREATE TABLE slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, duration INTEGER, name TEXT,
                    depth INTEGER, track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER, flag_id TEXT,
                    pid INTEGER, tid INTEGER);"
            };
            database.execute_batch(&format!("PRAGMA synchronous = OFF; {tables} BEGIN;")).unwrap();
            let rank = (number as i64 - 1).to_string();
            for (key, value) in [("hostname", host.as_str()), ("ppid", "1"), ("dpRankId", rank.as_str())] {
                database.execute("INSERT INTO Meta (name, value) VALUES (?1, ?2)", [key, value]).unwrap();
            }
            (database, Vec::new())
        };
        Self { processes: (0..=engines).map(process).collect(), is_old }
    }

    /// Ends the databases.
    pub fn finish(self) {
        for (database, _) in self.processes {
            database.execute_batch("COMMIT").unwrap();
        }
    }

    fn record(
        &mut self,
        process: usize,
        (start, end): (u64, u64),
        label: (&str, &str),
        (kind, attributes): (i64, &[(&'static str, Value)]),
    ) {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), json(value)));
        let args = std::iter::once(("type".to_owned(), kind.into())).chain(attributes).collect();
        self.row(process, (start as i64, end as i64), label, &args);
    }

    /// A row as it stands there, whatever it says.
    pub fn row(
        &mut self,
        process: usize,
        (start, end): (i64, i64),
        (domain, name): (&str, &str),
        args: &serde_json::Map<String, serde_json::Value>,
    ) {
        let (database, pid) = (&self.processes[process].0, 100 + process as i64);
        let flag = if args.get("type") == Some(&2.into()) { 2 } else { 1 };
        let args = serde_json::to_string(args).unwrap();
        if self.is_old {
            let message = serde_json::json!({"name": name, "domain": domain, "msg": args}).to_string();
            let sql = "INSERT INTO Mstx (message, flag, markId, timestamp, endTimestamp, pid, tid) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5)";
            let mut insert = database.prepare_cached(sql).unwrap();
            insert.execute(rusqlite::params![message, flag, start, end, pid]).unwrap();
        } else {
            let sql = "INSERT INTO slice (timestamp, duration, name, cat, args, end_time, pid, tid) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
            let mut insert = database.prepare_cached(sql).unwrap();
            insert
                .execute(rusqlite::params![start, end.wrapping_sub(start), name, domain, args, end, pid])
                .unwrap();
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Double(x) => (*x).into(),
        Value::Str(text) => (**text).into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Dict(entries) => serde_json::Value::Object(
            entries.iter().map(|(key, value)| (key.to_string(), json(value))).collect(),
        ),
    }
}

impl Recorder for Databases {
    fn begin(&mut self, process: usize, time: u64, domain: &'static str, name: &'static str) {
        self.processes[process].1.push((time, domain, name));
    }

    fn end(&mut self, process: usize, time: u64, attributes: &[(&'static str, Value)]) {
        let (start, domain, name) = self.processes[process].1.pop().unwrap();
        self.record(process, (start, time), (domain, name), (2, attributes));
    }

    fn instant(
        &mut self,
        process: usize,
        time: u64,
        domain: &'static str,
        name: &'static str,
        attributes: &[(&'static str, Value)],
    ) {
        self.record(process, (time, time), (domain, name), (0, attributes));
    }
}
