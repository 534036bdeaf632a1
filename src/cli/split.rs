//! `msprof-rs split`: single batches of prefill or decode taken apart into their steps and the times between them.

use std::io;
use std::path::PathBuf;

use clap::Args;
use rustc_hash::FxHashMap;

use super::outputs::{deliver, identity};
use super::progress;
use super::report::RawCsv;
use super::{EXIT_FAILED, LogLevel, ParseError, told_exit_code};
use crate::clock::Nanos;
use crate::event::{Kind, Places, ProcessId, ThreadId};
use crate::export::delivery::Origin;
use crate::export::output::{self, Output};
use crate::export::spreadsheet::Csv;
use crate::export::times::Millis;
use crate::export::{self, Outcome};
use crate::model::{Distribution, Ids, Phase, RequestId, Resources};
use crate::source::Session;

/// Steps of a batch by the framework that recorded them: the record that tells a framework, and the steps' names in
/// their order. The last is vLLM, which no record tells.
const FRAMEWORKS: [(&str, &[&str]); 3] = [
    (
        "deserializeExecuteResponse",
        &["BatchSchedule", "preprocess", "forward", "sample", "deserializeExecuteResponse"],
    ),
    ("SerializeRequests", &["BatchSchedule", "SerializeRequests", "preprocess", "forward", "sample"]),
    ("", &["batchFrameworkProcessing", "modelExec", "preprocess", "forward"]),
];

/// Take single batches of prefill or decode apart
#[derive(Debug, Args)]
pub(super) struct Split {
    /// Folder with the captures of one session
    #[arg(long, value_name = "DIR")]
    input_path: PathBuf,

    /// Folder for the outputs, created if missing
    #[arg(long, value_name = "DIR", default_value = "output")]
    output_path: PathBuf,

    /// Requests of the prefill batches to take; 0 takes none
    #[arg(long, value_name = "N", default_value_t = 0)]
    prefill_batch_size: usize,

    /// Prefill batches to take
    #[arg(long, value_name = "N", default_value_t = 1)]
    prefill_number: usize,

    /// Take the prefill batch of this request
    #[arg(long, value_name = "ID", default_value = "-1", allow_hyphen_values = true, value_parser = request_id)]
    prefill_rid: String,

    /// Requests of the decode batches to take; 0 takes none
    #[arg(long, value_name = "N", default_value_t = 0)]
    decode_batch_size: usize,

    /// Decode batches to take
    #[arg(long, value_name = "N", default_value_t = 1)]
    decode_number: usize,

    /// Take the decode batches of this request
    #[arg(long, value_name = "ID", default_value = "-1", allow_hyphen_values = true, value_parser = request_id)]
    decode_rid: String,

    /// Messages to show, from this level on
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,

    #[command(flatten)]
    pub(super) cells: RawCsv,
}

fn request_id(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 100 || !text.chars().all(is_fine) {
        return Err("a request id has letters, digits, - and _, and 100 characters at most".to_owned());
    }
    Ok(text.to_owned())
}

/// A span of a batch.
#[derive(Clone, Debug)]
struct Part {
    name: &'static str,
    start: Nanos,
    end: Nanos,
    process: ProcessId,
    thread: ThreadId,
    requests: Box<[RequestId]>,
    phase: Option<Phase>,
}

/// What is taken: batches of so many requests, or those of one.
struct Wanted<'a> {
    phase: Phase,
    size: usize,
    number: usize,
    rid: Option<&'a str>,
}

impl Split {
    pub(super) fn run(&self) -> u8 {
        match self.split() {
            Ok(Some(code)) => code,
            Ok(None) => EXIT_FAILED,
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    /// The exit code, if something was written.
    fn split(&self) -> Result<Option<u8>, ParseError> {
        let session = Session::open(&self.input_path)?;
        let (mut ids, mut resources) = (Ids::of(session.places()), Resources::default());
        let (mut parts, mut framework) = (Vec::new(), FRAMEWORKS.len() - 1);
        let is_step = |name: &str| FRAMEWORKS.iter().any(|(_, steps)| steps.contains(&name));
        let tally = progress::read(&session, |record| {
            resources.read(record, &mut ids);
            if let Some(known) = FRAMEWORKS.iter().position(|(tells, _)| *tells == record.name()) {
                framework = framework.min(known);
            }
            if record.kind != Kind::Span || resources.list.is_empty() || !is_step(record.name()) {
                return Ok(());
            }
            let has = |phase| resources.list.iter().any(|resource| resource.phase() == Some(phase));
            let mut requests: Vec<RequestId> =
                resources.list.iter().map(|resource| resource.request).collect();
            requests.sort_unstable();
            parts.push(Part {
                name: record.name(),
                start: record.start,
                end: record.end,
                process: record.process,
                thread: record.thread,
                requests: requests.into(),
                phase: match (has(Phase::Prefill), has(Phase::Decode)) {
                    (true, false) => Some(Phase::Prefill),
                    (false, true) => Some(Phase::Decode),
                    _ => None,
                },
            });
            Ok(())
        })?;
        parts.sort_by_key(|part| part.start);
        let (_, steps) = FRAMEWORKS[framework];
        let mut wanted = Vec::new();
        for (name, phase, size, number, rid) in [
            ("prefill", Phase::Prefill, self.prefill_batch_size, self.prefill_number, &self.prefill_rid),
            ("decode", Phase::Decode, self.decode_batch_size, self.decode_number, &self.decode_rid),
        ] {
            let rid = (rid != "-1").then_some(rid.as_str());
            if size == 0 && rid.is_none() {
                continue;
            }
            let batches = chosen(&parts, steps, &Wanted { phase, size, number, rid }, &ids);
            if batches.is_empty() {
                missing(&parts, steps[0], phase, name, size, rid);
                continue;
            }
            wanted.push((format!("{name}.csv"), batches, phase == Phase::Prefill));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let name = identity(&self.input_path, &session);
        let origin = Origin { session: &name, inputs: session.inputs(), kinds: &[export::Kind::Batches] };
        deliver(&self.output_path, &origin, |folder| {
            for (file, batches, with_rid) in &wanted {
                output::write(&folder.join(file), |out| {
                    write(out, batches, session.places(), &ids, *with_rid)
                })?;
            }
            Ok(())
        })?;
        for (file, batches, _) in &wanted {
            log::info!(
                "written: {} ({} of the batches)",
                self.output_path.join(file).display(),
                batches.len()
            );
        }
        Ok(Some(told_exit_code(session.intake(), &tally)))
    }
}

/// The steps of each batch that is wanted, in their order.
fn chosen<'a>(parts: &'a [Part], steps: &[&str], wanted: &Wanted<'_>, ids: &Ids) -> Vec<Vec<&'a Part>> {
    let is_wanted = |part: &Part| {
        let is_it = |rid: &str| part.requests.iter().any(|request| ids.text(*request) == rid);
        part.name == steps[0]
            && part.phase == Some(wanted.phase)
            && wanted.rid.map_or(part.requests.len() == wanted.size, is_it)
    };
    let schedules = parts.iter().enumerate().filter(|(_, part)| is_wanted(part));
    let with_steps = |(position, schedule): (usize, &'a Part)| {
        let mut batch = vec![schedule];
        for step in &steps[1..] {
            let last = batch[batch.len() - 1].start;
            let is_next =
                |part: &&Part| part.name == *step && part.start >= last && part.requests == schedule.requests;
            batch.extend(parts[position..].iter().find(is_next));
        }
        batch
    };
    schedules.take(wanted.number).map(with_steps).collect()
}

fn missing(parts: &[Part], schedule: &str, phase: Phase, name: &str, size: usize, rid: Option<&str>) {
    let mut sizes: FxHashMap<usize, usize> = FxHashMap::default();
    for part in parts.iter().filter(|part| part.name == schedule && part.phase == Some(phase)) {
        *sizes.entry(part.requests.len()).or_default() += 1;
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(size, count)| (std::cmp::Reverse(*count), *size));
    let sizes: Vec<String> =
        sizes.iter().take(5).map(|(size, count)| format!("{size} ({count} batches)")).collect();
    let what = rid.map_or_else(|| format!("of {size} requests"), |rid| format!("with request {rid}"));
    let there = if sizes.is_empty() {
        "there is none at all".to_owned()
    } else {
        format!("most have {}", sizes.join(", "))
    };
    log::warn!("no {name} batch {what}: {there}");
}

/// One row for each step, for the time between two, and for all, over the chosen batches.
fn write(
    out: &mut Output,
    batches: &[Vec<&Part>],
    places: &Places,
    ids: &Ids,
    with_rid: bool,
) -> io::Result<Outcome> {
    let mut rows: Vec<(String, Distribution, &Part, (Nanos, Nanos))> = Vec::new();
    let mut add = |name: String, start: Nanos, end: Nanos, part| {
        let duration = end.0.saturating_sub(start.0);
        match rows.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, all, ..)) => all.push(duration),
            None => rows.push((name, std::iter::once(duration).collect(), part, (start, end))),
        }
    };
    for batch in batches {
        for (step, next) in batch.iter().zip(batch.iter().skip(1).map(Some).chain([None])) {
            add(step.name.to_owned(), step.start, step.end, *step);
            // A step within another is not between two.
            if let Some(next) = next.filter(|next| next.start >= step.end) {
                add(format!("Between-{}-{}", step.name, next.name), step.end, next.start, *step);
            }
        }
        if let (Some(first), Some(end)) = (batch.first(), batch.iter().map(|step| step.end).max()) {
            add("AllTime".to_owned(), first.start, end, first);
        }
    }
    let mut csv = Csv::new(out);
    let columns = [
        "name",
        "during_time(ms)",
        "max",
        "min",
        "mean",
        "std",
        "pid",
        "tid",
        "start_time(ms)",
        "end_time(ms)",
    ];
    csv.write_record(columns.iter().copied().chain(with_rid.then_some("rid")))?;
    let millis = |nanos: f64| format!("{:.6}", nanos / 1e6);
    for (name, all, part, (start, end)) in &rows {
        let rids: Vec<&str> = part.requests.iter().map(|request| ids.text(*request)).collect();
        let cells = [
            name.clone(),
            millis(end.0.saturating_sub(start.0) as f64),
            millis(all.max() as f64),
            millis(all.min() as f64),
            millis(all.mean()),
            millis(all.deviation()),
            places.process(part.process).pid.to_string(),
            places.thread(part.thread).tid.to_string(),
            Millis(start.0 as i64).to_string(),
            Millis(end.0 as i64).to_string(),
        ];
        csv.write_record(cells.into_iter().chain(with_rid.then(|| rids.join(","))))?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(rows.len() as u64))
}
