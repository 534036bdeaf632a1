//! `msprof-rs parse` and `analyze`: from the captures of a session to a timeline and tables, in one pass over the records.

mod csv_files;

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use clap::ValueEnum;
use jiff::tz::TimeZone;
use thiserror::Error;

use self::csv_files::{CsvFiles, copy_operators};
use super::exit_code;
use super::outputs::{deliver, identity};
use super::progress::{self, Progress};
use crate::clock::Nanos;
use crate::export::chrome::ChromeTrace;
use crate::export::delivery::Origin;
use crate::export::output::{Output, OutputError};
use crate::export::sqlite::{Database, TraceTables, write_tables};
use crate::export::timeline::{Sink, Timeline};
use crate::export::times::Calendar;
use crate::export::{Kind, Outcome, parquet, perfetto, request_csv};
use crate::model::{Figures, Model, Tables};
use crate::source::{Intake, Session, SourceError, Tally};

/// Kinds of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `request.csv`, `batch.csv`, `kvcache.csv`, `forward.csv` and the others
    Csv,
    /// `profiler.db`, an SQLite database of the timeline and all tables
    Db,
    /// `chrome_tracing.json`
    Json,
    /// `tables/`, Parquet files of all records and tables, for DuckDB, Polars or Spark
    Parquet,
    /// `timeline.pftrace`, for Perfetto: all processes, a track for each request, counters, idle times
    Perfetto,
}

impl Format {
    fn kind(self) -> Kind {
        match self {
            Self::Csv => Kind::Csv,
            Self::Db => Kind::Database,
            Self::Json => Kind::Json,
            Self::Parquet => Kind::Parquet,
            Self::Perfetto => Kind::Perfetto,
        }
    }
}

/// What `parse` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct ParseOptions {
    /// Folder with the captures of one session, ours (*.pftrace) or msServiceProfiler's (`ms_service_*.db`), beside traces
    /// of torch's profiler; the folders in it are searched too
    #[arg(long, value_name = "DIR")]
    pub input_path: PathBuf,

    /// Folder for the outputs, created if missing
    #[arg(long, value_name = "DIR", default_value = "output")]
    pub output_path: PathBuf,

    /// What to write
    #[arg(long, value_name = "FORMAT", num_args = 1.., value_delimiter = ',', default_values = ["csv", "db", "json", "perfetto"])]
    pub format: Vec<Format>,

    /// Time zone of dates in the outputs, such as Asia/Shanghai or UTC [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,

    /// Instead of all that: the spans of these names (and forward passes and schedules), one file for each, and statistics
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub span: Option<Vec<String>>,

    /// Pack the timeline: `chrome_tracing.json.gz`
    #[arg(long)]
    pub gzip: bool,
}

/// Why nothing could be written.
#[derive(Debug, Error)]
pub enum ParseError {
    /// The session can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An output can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The folder for outputs can't be made.
    #[error("cannot create the output folder {path}: {error}")]
    Folder {
        /// As given.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Long tables can't be put away.
    #[error("cannot write a temporary file: {0}. Set TMPDIR to a folder with more space")]
    Temporary(io::Error),
    /// The time zone is not known.
    #[error("unknown time zone {name:?} ({error}). Give a name such as Asia/Shanghai, or UTC")]
    TimeZone {
        /// As given.
        name: String,
        /// What is wrong with it.
        error: jiff::Error,
    },
}

/// What `parse` has done.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was opened.
    pub intake: Intake,
    /// Processes and threads.
    pub places: (usize, usize),
    /// What was read.
    pub tally: Tally,
    /// The folder that was written to.
    pub folder: PathBuf,
    /// By name of the output, what came of it.
    pub outputs: Vec<(&'static str, Outcome)>,
    /// Requests that do not stand in request.csv because of their id.
    pub unlisted_requests: usize,
    /// Requests whose id others had at the same time: the front end's times are of neither.
    pub shared_requests: usize,
    /// Ids that were cut in some records and not in others: what has them counts for no request.
    pub cut_ids: usize,
    /// The first figures.
    pub figures: Figures,
}

impl Report {
    /// How much was recorded.
    pub fn events(&self) -> u64 {
        let Tally { spans, unfinished, instants, counters, .. } = self.tally;
        spans + unfinished + instants + counters
    }

    /// The exit code that says how it went.
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.intake, &self.tally)
    }
}

/// The calendar of a time zone, or of this machine's.
pub(super) fn calendar(timezone: Option<&str>) -> Result<Calendar, ParseError> {
    let zone = match timezone {
        Some(name) => {
            TimeZone::get(name).map_err(|error| ParseError::TimeZone { name: name.to_owned(), error })?
        }
        None => TimeZone::system(),
    };
    Ok(Calendar::new(zone))
}

/// Reads the session and writes the outputs; those of `analyze` too if asked.
///
/// # Errors
/// There is nothing to read, or an output can't be written. Damage in part of the input is no error; the report
/// tells of it.
pub fn parse(options: &ParseOptions, summaries: bool) -> Result<Report, ParseError> {
    let calendar = calendar(options.timezone.as_deref())?;
    let session = Session::open(&options.input_path)?;
    let mut kinds: Vec<Kind> = options.format.iter().map(|format| format.kind()).collect();
    if summaries {
        kinds.push(Kind::Summaries);
    }
    let name = identity(&options.input_path, &session);
    let origin = Origin { session: &name, inputs: session.inputs(), kinds: &kinds };
    deliver(&options.output_path, &origin, |folder| write(options, summaries, &session, &calendar, folder))
}

fn write(
    options: &ParseOptions,
    summaries: bool,
    session: &Session,
    calendar: &Calendar,
    folder: &Path,
) -> Result<Report, ParseError> {
    let places = session.places();
    let is_asked = |format| options.format.contains(&format);
    let tables_folder = folder.join("tables");
    // What needs no tables goes beside what makes them.
    let (read, parquet_rows) = thread::scope(|scope| {
        let records = is_asked(Format::Parquet)
            .then(|| scope.spawn(|| parquet::write_records(&tables_folder, session)));
        let read = read(options, session, calendar, folder);
        (read, records.map(joined).transpose())
    });
    let (Read { mut model, tally, mut outputs, database }, parquet_rows) = (read?, parquet_rows?);
    if let Some(rows) = parquet_rows {
        outputs.push(("tables/*.parquet", Outcome::Rows(rows)));
    }
    let progress = Progress::unmeasured("writing tables and timeline");
    let written = thread::scope(|scope| {
        let model = &model;
        let timeline =
            is_asked(Format::Perfetto).then(|| scope.spawn(|| perfetto::write(folder, session, model)));
        let parquet = is_asked(Format::Parquet)
            .then(|| scope.spawn(|| parquet::write_tables(&tables_folder, places, model)));
        if let Some(database) = database {
            write_tables(&database, model, places, &mut calendar.clone())?;
            database.finish()?;
        }
        let mut files = CsvFiles { folder, outputs: Vec::new() };
        if is_asked(Format::Csv) {
            files.tables(model, places, &mut calendar.clone())?;
        }
        parquet.map(joined).transpose()?;
        outputs.extend(timeline.map(joined).transpose()?);
        Ok::<_, OutputError>(files.outputs)
    });
    progress.finish();
    outputs.extend(written?);
    copy_operators(&session.intake().operators, folder)?;
    if is_asked(Format::Csv) && summaries {
        let mut files = CsvFiles { folder, outputs: Vec::new() };
        files.summaries(&mut model)?;
        outputs.append(&mut files.outputs);
    }
    let listed = model.requests.iter().filter(|request| request_csv::is_listed(&request.id)).count();
    Ok(Report {
        intake: session.intake().clone(),
        places: places.count(),
        tally,
        folder: options.output_path.clone(),
        outputs,
        unlisted_requests: model.requests.len() - listed,
        shared_requests: model.ids.shared(),
        cut_ids: model.ids.cut().len(),
        figures: model.figures,
    })
}

/// What a pass over the records gives.
struct Read {
    model: Model,
    tally: Tally,
    outputs: Vec<(&'static str, Outcome)>,
    /// With its trace tables.
    database: Option<Database>,
}

/// Builds the tables, and writes the timelines that are written record by record.
fn read(
    options: &ParseOptions,
    session: &Session,
    calendar: &Calendar,
    folder: &Path,
) -> Result<Read, ParseError> {
    let places = session.places();
    let chrome_name = if options.gzip { "chrome_tracing.json.gz" } else { "chrome_tracing.json" };
    let mut chrome = if options.format.contains(&Format::Json) {
        let output = Output::create(&folder.join(chrome_name))?;
        Some(ChromeTrace::new(output, session.first_time().unwrap_or(Nanos(0)))?)
    } else {
        None
    };
    let mut database = if options.format.contains(&Format::Db) {
        Some(TraceTables::begin(Database::create(&folder.join("profiler.db"))?))
    } else {
        None
    };
    let sinks = chrome.as_mut().map(|sink| sink as &mut dyn Sink).into_iter();
    let sinks = sinks.chain(database.as_mut().map(|sink| sink as &mut dyn Sink)).collect();
    let mut timeline = Timeline::new(places, calendar.clone(), sinks);

    let mut tables = Tables::new(places);
    let tally = progress::read(session, |record| {
        let (resources, ids) = tables.push(record);
        timeline.push(record, resources, ids)?;
        Ok(())
    })?;
    let model = tables.finish(places).map_err(ParseError::Temporary)?;
    timeline.finish(&model.ids, &model.requests)?;
    let mut outputs = Vec::new();
    if let Some(chrome) = chrome {
        outputs.push((chrome_name, Outcome::Rows(chrome.finish()?)));
    }
    let database = database.map(TraceTables::finish).transpose()?.map(|(database, slices)| {
        outputs.push(("profiler.db", Outcome::Rows(slices)));
        database
    });
    Ok(Read { model, tally, outputs, database })
}

/// What a thread gives; if it panicked, so does this one.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{EXIT_DAMAGED, EXIT_FINE, Summary};
    use crate::source::fixture::session;

    fn options(input: &Path, output: &Path) -> ParseOptions {
        ParseOptions {
            input_path: input.to_owned(),
            output_path: output.to_owned(),
            format: vec![Format::Csv, Format::Json],
            timezone: Some("UTC".into()),
            gzip: false,
            span: None,
        }
    }

    fn rows(path: &Path) -> Vec<Vec<String>> {
        let mut csv = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
        csv.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
    }

    #[test]
    fn a_session_of_two_processes_becomes_the_tables() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        session(input.path());
        let report = parse(&options(input.path(), output.path()), false).unwrap();
        assert_eq!(report.exit_code(), EXIT_FINE);

        let at = |ms: u32| format!("2023-11-14 22:13:20:{ms:03}000");
        let unix = |ms: u32| format!("1700000000{ms:03}.000000");
        let requests = rows(&output.path().join("request.csv"));
        assert_eq!(
            requests[1..],
            [
                ["cmpl-a", &at(10), "3", "2", "32.000000", "9.000002", "22.000000", "N/A", &unix(10)],
                ["cmpl-b", &at(22), "5", "1", "20.000000", "10.000002", "20.000000", "N/A", &unix(22)],
            ]
        );

        let batches = rows(&output.path().join("batch.csv"));
        let names: Vec<_> = batches[1..].iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["batchFrameworkProcessing", "modelExec", "batchFrameworkProcessing", "modelExec"]);
        let column = |name: &str| {
            let position = batches[0].iter().position(|column| column == name).unwrap();
            batches[1..].iter().map(|row| row[position].clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            column("res_list")[0],
            "[{'rid': 'cmpl-a', 'iter': 0, 'type': 0, 'num_scheduled_tokens': 3, \
                                           'num_prompt_tokens': 3, 'num_computed_tokens': 0}]"
        );
        assert_eq!(column("batch_type"), ["Prefill", "Prefill", "Prefill,Decode", "Prefill,Decode"]);
        assert_eq!(column("batch_size"), ["1.0", "1.0", "2.0", "2.0"]);
        assert_eq!(column("used_blocks"), ["2", "", "5", ""]);
        assert_eq!(column("prefill_scheduled_tokens"), ["3", "3", "5", "5"]);
        assert_eq!(column("total_scheduled_tokens"), ["3", "3", "6", "6"]);
        assert_eq!(column("start_time(ms)")[0], unix(20));
        assert!(!batches[0].contains(&"blocks_freed".to_owned()), "zero everywhere");

        let forwards = rows(&output.path().join("forward.csv"));
        assert_eq!(
            forwards[1..],
            [
                [
                    "forward",
                    "0.00",
                    &at(26),
                    &at(29),
                    "3.000000",
                    "7.00",
                    "1",
                    "Prefill",
                    "1",
                    "",
                    "node-200",
                    "node",
                    &unix(26),
                    &unix(29)
                ],
                [
                    "forward",
                    "10.00",
                    &at(36),
                    &at(39),
                    "3.000000",
                    "",
                    "2",
                    "Prefill,Decode",
                    "2",
                    "",
                    "node-200",
                    "node",
                    &unix(36),
                    &unix(39)
                ],
            ]
        );

        let cache = rows(&output.path().join("kvcache.csv"));
        assert_eq!(
            cache[1..],
            [
                ["KVCacheStatus", &at(20), "10", "2", "8", "2", "0", "0.2"],
                ["KVCacheStatus", &at(33), "10", "5", "5", "3", "0", "0.5"],
                ["Free", &at(43), "", "", "", "", "", ""],
            ]
        );

        let figures = report.figures;
        assert_eq!(figures.requests, 2);
        assert_eq!(figures.first_token, Some((21e6, 21.98e6)));
        assert_eq!(figures.tokens_per_second, Some(3.0 / 0.032));
        assert_eq!(figures.idle_share, Some(5.0 / 15.0));
    }

    #[test]
    fn the_timeline_is_an_array_of_events_that_name_processes_and_follow_requests() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        session(input.path());
        parse(&options(input.path(), output.path()), false).unwrap();
        let text = std::fs::read_to_string(output.path().join("chrome_tracing.json")).unwrap();
        let events: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let of = |phase: &'static str| events.iter().filter(move |event| event["ph"] == phase);

        let names: Vec<_> = of("X").map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| **name == "forward").count(), 2);
        let exec = of("X").find(|event| event["name"] == "modelExec").unwrap();
        assert_eq!(
            (&exec["pid"], &exec["tid"], &exec["dur"]),
            (&200.into(), &"Execute(201)".into(), &5000.0.into())
        );
        assert!(text.contains("\"name\":\"modelExec\",\"ph\":\"X\",\"ts\":25000.000,\"dur\":5000.000"));
        assert_eq!(events[0]["args"]["unix_ns"], crate::source::fixture::BOOT);
        assert_eq!(exec["args"]["batch_size"], "1");
        assert_eq!(exec["args"]["res_list"][0]["rid"], "cmpl-a");
        assert_eq!(exec["args"]["tid"], 201);

        let free: Vec<_> = of("C").map(|event| event["args"]["Device Block"].as_f64().unwrap()).collect();
        assert_eq!(free, [8.0, 5.0, 9.0]);
        for (rid, places) in [("cmpl-a", 14), ("cmpl-b", 9)] {
            let phases: Vec<_> = events
                .iter()
                .filter(|e| e["name"] == format!("flow_{rid}"))
                .map(|e| e["ph"].as_str().unwrap())
                .collect();
            assert_eq!((phases[0], phases[phases.len() - 1], phases.len()), ("s", "f", places));
        }
        let labels: Vec<_> =
            of("M").filter(|e| e["name"] == "process_name").map(|e| &e["args"]["name"]).collect();
        assert_eq!(labels, ["api_server", "VLLM::EngineCore"]);
    }

    #[test]
    fn damage_is_reported_and_the_rest_is_written() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        session(input.path());
        let file = input.path().join("node-100.pftrace");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        let report = parse(&options(input.path(), output.path()), false).unwrap();
        assert_eq!(report.exit_code(), EXIT_DAMAGED);
        assert_eq!(report.intake.torn.len(), 1);
        assert!(output.path().join("request.csv").exists());
        let summary = Summary(&report).to_string();
        assert!(summary.contains("node-100.pftrace: its end is damaged"), "{summary}");
        assert!(summary.contains("request.csv          2 rows"), "{summary}");
    }

    #[test]
    fn only_what_was_asked_for_is_written() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        session(input.path());
        let format = vec![Format::Db];
        let report = parse(&ParseOptions { format, ..options(input.path(), output.path()) }, false).unwrap();
        let names = output.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let files: Vec<_> = names.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert_eq!(files, ["profiler.db"]);
        assert_eq!(report.outputs.len(), 1);
    }

    #[test]
    fn outputs_in_the_session_s_folder_are_no_captures_and_a_timeline_alone_is_one() {
        let input = tempfile::tempdir().unwrap();
        session(input.path());
        let output = input.path().join("output");
        let format = vec![Format::Perfetto, Format::Csv, Format::Json, Format::Db, Format::Parquet];
        let options = ParseOptions { format, ..options(input.path(), &output) };
        let first = parse(&options, false).unwrap();
        let second = parse(&options, false).unwrap();
        assert_eq!((&second.intake, second.tally), (&first.intake, first.tally));
        assert!(!output.join("former").exists(), "each output is known as such");

        for input_path in [output.join("timeline.pftrace"), output] {
            let alone = Session::open(&input_path).unwrap();
            let mut records = alone.records();
            while records.next().is_some() {}
            assert_eq!(records.tally(), first.tally);
            assert_eq!(alone.places().processes.len(), first.places.0);
        }
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let empty = parse(&options(input.path(), output.path()), false).unwrap_err();
        assert!(empty.to_string().starts_with("no captures in"), "{empty}");
        let timezone = Some("Mars/Olympus".into());
        let zone =
            parse(&ParseOptions { timezone, ..options(input.path(), output.path()) }, false).unwrap_err();
        assert!(zone.to_string().contains("Mars/Olympus"), "{zone}");
    }
}
