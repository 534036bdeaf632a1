//! `msprof-rs stats`: where the time went, as tables on the terminal: by span, domain, process; by request; by gap.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::notes;
use super::progress;
use super::report::{Cell, Form, Report, print};
use super::{EXIT_FAILED, ParseError, tell_unfinished, told_exit_code};
use crate::event::{Kind, Label, Name, Places, ProcessId};
use crate::model::{Distribution, Gap, Model, Request, Tables};
use crate::source::{Session, Tally};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Spans of the same name
    Spans,
    /// Spans of the same domain
    Domains,
    /// Spans of the same process
    Processes,
    /// Requests, the slowest first, and where each spent its time
    Requests,
    /// Times between two executions of an engine, the longest first. Start ms: since the end of the execution before the
    /// first gap; Waiting for: the span that took most of the gap; Waiting ms: how much of it
    Gaps,
}

impl Subject {
    /// Whether it is made of the durations of spans.
    fn adds_up_spans(self) -> bool {
        matches!(self, Self::Spans | Self::Domains | Self::Processes)
    }
}

/// Where did the time go?
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// Folder with the captures of one session
    #[arg(default_value = ".")]
    folder: PathBuf,

    /// What to tell
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',', default_value = "spans")]
    report: Vec<Subject>,

    /// Rows of each table
    #[arg(long, default_value_t = 30)]
    limit: usize,

    #[command(flatten)]
    pub(super) form: Form,
}

/// Durations by what spans have in common.
struct Durations<K>(Option<HashMap<K, Distribution, rustc_hash::FxBuildHasher>>);

impl<K: Eq + Hash> Durations<K> {
    fn asked(is_asked: bool) -> Self {
        Self(is_asked.then(HashMap::default))
    }

    fn push(&mut self, key: K, duration: u64) {
        if let Some(all) = &mut self.0 {
            all.entry(key).or_default().push(duration);
        }
    }

    fn report(self, title: &str, limit: usize, name: impl Fn(&K) -> String) -> Option<Report> {
        let mut all: Vec<_> = self.0?.into_iter().collect();
        all.sort_by_key(|(key, times)| (std::cmp::Reverse(times.sum()), name(key)));
        let total: u128 = all.iter().map(|(_, times)| times.sum()).sum();
        let columns =
            ["Time %", "Total ms", "Instances", "Avg ms", "Med ms", "Min ms", "Max ms", "StdDev ms", "Name"];
        let mut report = Report::new(title, &columns);
        for (key, mut times) in all.into_iter().take(limit) {
            let share = if total > 0 { times.sum() as f64 / total as f64 * 100.0 } else { 0.0 };
            report.rows.push(vec![
                Cell::Number(share, 1),
                Cell::millis(times.sum() as f64),
                Cell::count(times.count()),
                Cell::millis(times.mean()),
                Cell::millis(times.percentile(0.5)),
                Cell::millis(times.min() as f64),
                Cell::millis(times.max() as f64),
                Cell::millis(times.deviation()),
                Cell::Text(name(&key)),
            ]);
        }
        Some(report)
    }
}

impl Stats {
    pub(super) fn run(&self) -> u8 {
        match self.reports() {
            Ok((reports, session, tally)) => {
                if self.report.iter().any(|subject| subject.adds_up_spans()) {
                    tell_unfinished(&tally);
                }
                if self.report.contains(&Subject::Gaps) && session.intake().is_damaged() {
                    log::warn!("{}", notes::IDLE_DAMAGE);
                }
                let code = told_exit_code(session.intake(), &tally);
                print(&reports, self.form);
                code
            }
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    /// The tables, and what they are made from.
    fn reports(&self) -> Result<(Vec<Report>, Session, Tally), ParseError> {
        let is_asked = |subject| self.report.contains(&subject);
        let mut labels = Durations::<Label>::asked(is_asked(Subject::Spans));
        let mut domains = Durations::<Name>::asked(is_asked(Subject::Domains));
        let mut processes = Durations::<ProcessId>::asked(is_asked(Subject::Processes));
        let session = Session::open(&self.folder)?;
        let needs_tables = is_asked(Subject::Requests) || is_asked(Subject::Gaps);
        let mut tables = needs_tables.then(|| Tables::new(session.places()));
        let tally = progress::read(&session, |record| {
            if record.kind == Kind::Span {
                let duration = record.duration();
                labels.push(record.label, duration);
                domains.push(record.label.domain(), duration);
                processes.push(record.process, duration);
            }
            if let Some(tables) = &mut tables {
                tables.push(record);
            }
            Ok(())
        })?;
        let places = session.places();
        let label = |label: &Label| format!("{}/{}", label.domain().as_str(), label.name().as_str());
        let mut reports = Vec::new();
        reports.extend(labels.report("spans", self.limit, label));
        reports.extend(domains.report("domains", self.limit, |domain| domain.as_str().to_owned()));
        reports.extend(processes.report("processes", self.limit, |process| shown(places, *process)));
        if let Some(tables) = tables {
            let model = tables.finish(places).map_err(ParseError::Temporary)?;
            if is_asked(Subject::Requests) {
                reports.push(requests(&model, self.limit));
            }
            if is_asked(Subject::Gaps) {
                reports.push(gaps(&model, places, self.limit));
            }
        }
        Ok((reports, session, tally))
    }
}

/// Prints the spans of a session that took the most time, after a summary that has told the rest.
///
/// # Errors
/// The session can't be read.
pub(super) fn print_spans(folder: &Path) -> Result<(), ParseError> {
    let stats =
        Stats { folder: folder.into(), report: vec![Subject::Spans], limit: 15, form: Form::default() };
    let (reports, ..) = stats.reports()?;
    print(&reports, stats.form);
    Ok(())
}

/// `VLLM::EngineCore dp0 (host, 4711)`
fn shown(places: &Places, process: ProcessId) -> String {
    let known = places.process(process);
    let host = if known.host.is_empty() { String::new() } else { format!("{}, ", known.host) };
    format!("{} ({host}{})", known.name, known.pid).trim_start().to_owned()
}

fn requests(model: &Model, limit: usize) -> Report {
    let columns = [
        "Latency ms",
        "TTFT ms",
        "Queue ms",
        "Prefill ms",
        "Decode ms",
        "Host ms",
        "Network ms",
        "Prompt",
        "Output",
        "Request",
    ];
    let mut report = Report::new("requests", &columns);
    let mut all: Vec<&Request> = model.requests.iter().collect();
    all.sort_by_key(|request| std::cmp::Reverse(request.latency()));
    for request in all.into_iter().take(limit) {
        let shares = request.shares();
        let millis = |nanos: Option<u64>| Cell::or_empty(nanos, |nanos| Cell::millis(nanos as f64));
        let parts = [shares.queue, shares.prefill, shares.decode, shares.host, shares.network];
        let mut row = vec![millis(request.latency()), millis(request.first_token())];
        row.extend(parts.map(millis));
        row.extend(
            [request.prompt_tokens, request.output_tokens].map(|count| Cell::or_empty(count, Cell::Int)),
        );
        row.push(Cell::Text(request.id.clone()));
        report.rows.push(row);
    }
    report
}

fn gaps(model: &Model, places: &Places, limit: usize) -> Report {
    let first = model.gaps.iter().map(|gap| gap.start).min().unwrap_or_default();
    let mut report = Report::new("gaps", &["Idle ms", "Start ms", "Waiting for", "Waiting ms", "Engine"]);
    let mut all: Vec<&Gap> = model.gaps.iter().collect();
    all.sort_by_key(|gap| std::cmp::Reverse(gap.end.0 - gap.start.0));
    for gap in all.into_iter().take(limit) {
        report.rows.push(vec![
            Cell::millis((gap.end.0 - gap.start.0) as f64),
            Cell::millis((gap.start.0 - first.0) as f64),
            Cell::Text(gap.blamed.map_or("-", |(name, _)| waited_for(name)).to_owned()),
            Cell::or_empty(gap.blamed, |(_, time)| Cell::millis(time as f64)),
            Cell::Text(shown(places, gap.process)),
        ]);
    }
    report
}

/// What a span in a gap means.
fn waited_for(name: &'static str) -> &'static str {
    match name {
        "inputQueue" => "requests (inputQueue)",
        "batchFrameworkProcessing" | "BatchSchedule" => "the scheduler (batchFrameworkProcessing)",
        "updateFromOutput" => "the scheduler (updateFromOutput)",
        "syncEngines" | "dummyBatch" => "other engines (syncEngines)",
        name => name,
    }
}
