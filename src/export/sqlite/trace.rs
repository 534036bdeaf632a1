//! The trace tables of `profiler.db`: slices, counters, flows, processes, threads. Written by a thread of their own.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use rusqlite::params;

use super::super::flows::Arrow;
use super::super::json;
use super::super::output::OutputError;
use super::super::timeline::{Flow, ProcessRow, Row, Sample, Sink, Slice};
use super::Database;
use crate::model::Request;

/// Rows that go to the writing thread at once.
const BUNDLE: usize = 1024;

/// Bundles that may wait for it.
const WAITING: usize = 4;

/// Takes the timeline.
#[derive(Debug)]
pub struct TraceTables {
    bundle: Bundle,
    sender: Option<Sender<Bundle>>,
    writer: Option<JoinHandle<Result<Database, OutputError>>>,
    path: PathBuf,
    slices: u64,
}

/// Rows on their way, with their texts one behind the other.
#[derive(Debug, Default)]
struct Bundle {
    rows: Vec<Line>,
    text: String,
}

/// A row whose texts are the next in the bundle, each of so many bytes.
#[derive(Debug)]
enum Line {
    Slice { start: u64, end: u64, track: u32, name: &'static str, domain: &'static str, args: usize },
    Counter { name: usize, pid: u32, time: u64, domain: &'static str, args: usize },
    Flow { id: usize, track: u32, time: u64, kind: &'static str },
    Thread { track: u32, pid: u32, text: usize, sort_index: usize },
    Process { pid: u32, parent: Option<u32>, name: usize, labels: usize, sort_index: usize },
}

impl TraceTables {
    /// Begins to write into the database.
    pub fn begin(database: Database) -> Self {
        let (sender, receiver) = bounded::<Bundle>(WAITING);
        let path = database.path.clone();
        let write = move || {
            for bundle in receiver {
                bundle.write(&database).map_err(|error| database.error(error))?;
            }
            Ok(database)
        };
        let writer = Some(thread::spawn(write));
        Self { bundle: Bundle::default(), sender: Some(sender), writer, path, slices: 0 }
    }

    /// Waits until all is written. Gives the database, and the number of slices.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish(mut self) -> Result<(Database, u64), OutputError> {
        self.send()?;
        Ok((self.join()?, self.slices))
    }

    fn push(&mut self, line: Line) -> Result<(), OutputError> {
        self.bundle.rows.push(line);
        if self.bundle.rows.len() >= BUNDLE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), OutputError> {
        let bundle = std::mem::take(&mut self.bundle);
        match &self.sender {
            Some(sender) if sender.send(bundle).is_err() => {
                Err(self.join().err().unwrap_or_else(|| self.lost()))
            }
            _ => Ok(()),
        }
    }

    fn join(&mut self) -> Result<Database, OutputError> {
        self.sender = None;
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(database)) => database,
            Some(Err(_)) | None => Err(self.lost()),
        }
    }

    fn lost(&self) -> OutputError {
        OutputError::other(&self.path, "the thread that writes it has ended")
    }
}

impl Sink for TraceTables {
    fn row(&mut self, row: &Row) -> Result<(), OutputError> {
        self.bundle.text.push_str(&row.text);
        self.push(Line::Thread {
            track: row.number + 1,
            pid: row.pid,
            text: row.text.len(),
            sort_index: row.sort_index,
        })
    }

    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), OutputError> {
        self.slices += 1;
        let args = String::from_utf8_lossy(slice.args);
        self.bundle.text.push_str(&args);
        self.push(Line::Slice {
            start: slice.start.0,
            end: slice.end.0,
            track: slice.row.number + 1,
            name: slice.name,
            domain: slice.domain,
            args: args.len(),
        })
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), OutputError> {
        let value = json::string(&sample.value).map_err(|error| OutputError::new(&self.path, error))?;
        let args = format!("{{\"{}\":{value}}}", sample.key);
        self.bundle.text.push_str(sample.name);
        self.bundle.text.push_str(&args);
        self.push(Line::Counter {
            name: sample.name.len(),
            pid: sample.row.pid,
            time: sample.time.0,
            domain: sample.domain,
            args: args.len(),
        })
    }

    fn flow(&mut self, flow: &Flow<'_>) -> Result<(), OutputError> {
        self.bundle.text.push_str(flow.id);
        let kind = match flow.arrow {
            Arrow::First => "s",
            Arrow::Between => "t",
            Arrow::Last => "f",
        };
        self.push(Line::Flow { id: flow.id.len(), track: flow.row.number + 1, time: flow.time.0, kind })
    }

    /// Requests have a table of their own.
    fn request(&mut self, _number: u32, _pid: u32, _request: &Request) -> Result<(), OutputError> {
        Ok(())
    }

    fn process(&mut self, process: &ProcessRow) -> Result<(), OutputError> {
        self.bundle.text.push_str(&process.name);
        self.bundle.text.push_str(&process.labels);
        self.push(Line::Process {
            pid: process.pid,
            parent: process.parent,
            name: process.name.len(),
            labels: process.labels.len(),
            sort_index: process.sort_index,
        })
    }
}

impl Bundle {
    fn write(&self, database: &Database) -> rusqlite::Result<()> {
        let connection = database.connection();
        let mut slice = connection.prepare_cached(
            "INSERT INTO slice (timestamp, duration, name, depth, track_id, cat, args, cname, end_time, flag_id) \
             VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, '', ?7, '')",
        )?;
        let mut counter = connection.prepare_cached(
            "INSERT INTO counter (name, pid, timestamp, cat, args) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let mut flow = connection.prepare_cached(
            "INSERT INTO flow (flow_id, name, cat, track_id, timestamp, type) VALUES (?1, 'flow_' || ?1, ?1, ?2, ?3, ?4)",
        )?;
        let mut left = self.text.as_str();
        let mut take = |length: usize| {
            let (text, rest) = left.split_at_checked(length).unwrap_or((left, ""));
            left = rest;
            text
        };
        for row in &self.rows {
            match *row {
                Line::Slice { start, end, track, name, domain, args } => {
                    let (start, end) = (start as i64, end as i64);
                    slice.execute(params![start, end - start, name, track, domain, take(args), end])?;
                }
                Line::Counter { name, pid, time, domain, args } => {
                    counter.execute(params![take(name), pid.to_string(), time as i64, domain, take(args)])?;
                }
                Line::Flow { id, track, time, kind } => {
                    flow.execute(params![take(id), track, time as i64, kind])?;
                }
                Line::Thread { track, pid, text, sort_index } => {
                    let text = take(text);
                    connection.execute(
                        "INSERT INTO thread VALUES (?1, ?2, ?3, ?2, ?4)",
                        params![track, text, pid.to_string(), sort_index as i64],
                    )?;
                }
                Line::Process { pid, parent, name, labels, sort_index } => {
                    let parent = parent.map(|parent| parent.to_string()).unwrap_or_default();
                    connection.execute(
                        "INSERT OR REPLACE INTO process VALUES (?1, ?2, ?3, ?4, ?5)",
                        params![pid.to_string(), take(name), take(labels), sort_index as i64, parent],
                    )?;
                }
            }
        }
        Ok(())
    }
}
