//! `msprof-rs parse --span`: the spans of some names, one file for each, and how long they took: over all, by request, and
//! between the forward passes of a request.

use std::collections::HashMap;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::outputs::{deliver, identity};
use super::parse::{ParseOptions, calendar};
use super::progress;
use super::report::{Cell, Form, Report, print};
use super::{ParseError, tell_unfinished, told_exit_code};
use crate::clock::Nanos;
use crate::event::{Kind, Name, ProcessId};
use crate::export;
use crate::export::delivery::Origin;
use crate::export::output::{Output, OutputError};
use crate::export::spreadsheet::Csv;
use crate::export::times::Calendar;
use crate::files::Naming;
use crate::model::{Distribution, Ids, RequestId, Resources};
use crate::printable::quoted;
use crate::source::{Session, Tally};
use crate::spool::{Sorted, Spool};

const FORWARD: &str = "forward";

/// These are told in any case.
const ALWAYS: [&str; 3] = [FORWARD, "BatchSchedule", "batchFrameworkProcessing"];

/// Requests that are told one by one, of each name.
const REQUESTS: usize = 5;

/// A span on its way to its file.
#[derive(Debug, Serialize, Deserialize)]
struct Span {
    name: Name,
    start: Nanos,
    end: Nanos,
    process: ProcessId,
}

type Durations<K> = HashMap<K, Distribution, FxBuildHasher>;

/// What the spans add up to.
#[derive(Default)]
struct Totals {
    names: Durations<Name>,
    /// By request, its forward passes and the time between them.
    spent: FxHashMap<RequestId, u64>,
    bubbles: Bubbles,
}

/// The slowest requests, each of whose spans is told.
#[derive(Default)]
struct Slowest {
    requests: Durations<(Name, RequestId)>,
    bubbles: Durations<RequestId>,
}

/// The end of the last forward pass of a request in a process.
#[derive(Default)]
struct Bubbles(FxHashMap<(ProcessId, RequestId), Nanos>);

impl Bubbles {
    /// The time before this forward pass, if another came before.
    fn push(&mut self, span: &Span, request: RequestId) -> Option<u64> {
        let last = self.0.insert((span.process, request), span.end)?;
        (span.start > last).then(|| span.start.0 - last.0)
    }
}

/// Writes `span_info/` and prints the statistics. Gives the exit code.
pub(super) fn run(options: &ParseOptions, asked: &[String]) -> Result<u8, ParseError> {
    let mut calendar = calendar(options.timezone.as_deref())?;
    let session = Session::open(&options.input_path)?;
    let mut names = Vec::new();
    for name in asked.iter().map(String::as_str).chain(ALWAYS).map(Name::new) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let (mut spans, mut totals) = (Spool::default(), Totals::default());
    let (ids, tally) = each(&session, &names, |span, resources| {
        totals.push(&span, resources);
        spans.push(span.start.0, &span);
    })?;
    let slowest = totals.slowest();
    let mut told = Slowest::default();
    if !slowest.is_empty() {
        // All requests' durations would not fit in memory; a second pass knows whose are wanted.
        let mut bubbles = Bubbles::default();
        each(&session, &names, |span, resources| {
            for resource in resources.list.iter().filter(|resource| slowest.contains(&resource.request)) {
                told.push(&span, resource.request, &mut bubbles);
            }
        })?;
    }
    let spans = spans.finish().map_err(ParseError::Temporary)?;
    let name = identity(&options.input_path, &session);
    let origin = Origin { session: &name, inputs: session.inputs(), kinds: &[export::Kind::Spans] };
    deliver(&options.output_path, &origin, |folder| {
        let mut naming = Naming::default();
        for name in names.iter().filter(|name| totals.names.contains_key(name)) {
            let path = folder.join("span_info").join(format!("{}.csv", naming.name(name.as_str())));
            write(*name, &spans, &session, &path, &mut calendar)?;
        }
        Ok(())
    })?;
    for name in asked.iter().filter(|name| !totals.names.contains_key(&Name::new(name))) {
        log::warn!("there is no span {} in the session", quoted(name));
    }
    print(&reports(totals, told, &slowest, &ids), Form::default());
    log::info!("written: {}", options.output_path.join("span_info").display());
    tell_unfinished(&tally);
    Ok(told_exit_code(session.intake(), &tally))
}

/// Gives each span of these names to `take`. Numbers of requests are the same in each pass.
fn each(
    session: &Session,
    names: &[Name],
    mut take: impl FnMut(Span, &Resources),
) -> Result<(Ids, Tally), ParseError> {
    let (mut ids, mut resources) = (Ids::of(session.places()), Resources::default());
    let tally = progress::read(session, |record| {
        // Also what is not asked for tells the ids that the user knows.
        resources.read(record, &mut ids);
        if record.kind == Kind::Span && names.contains(&record.label.name()) {
            let (name, process) = (record.label.name(), record.process);
            take(Span { name, start: record.start, end: record.end, process }, &resources);
        }
        Ok(())
    })?;
    Ok((ids, tally))
}

fn write(
    name: Name,
    spans: &Sorted<Span>,
    session: &Session,
    path: &std::path::Path,
    calendar: &mut Calendar,
) -> Result<(), OutputError> {
    let mut output = Output::create(path)?;
    let mut rows = || {
        let mut csv = Csv::new(&mut output);
        csv.write_record([
            "span_name",
            "start_datetime",
            "end_datetime",
            "during_time(ms)",
            "hostname",
            "pid",
        ])?;
        for span in spans.iter().filter(|span| span.name == name) {
            let process = session.places().process(span.process);
            let start = calendar.text(span.start).to_owned();
            csv.write_record([
                name.as_str(),
                &start,
                calendar.text(span.end),
                &format!("{:.3}", span.duration() as f64 / 1e6),
                &process.host,
                &process.pid.to_string(),
            ])?;
        }
        csv.flush()
    };
    rows().map_err(|error| OutputError::new(path, error))?;
    output.finish()
}

impl Totals {
    fn push(&mut self, span: &Span, resources: &Resources) {
        self.names.entry(span.name).or_default().push(span.duration());
        if span.name.as_str() == FORWARD {
            for resource in &resources.list {
                let bubble = self.bubbles.push(span, resource.request).unwrap_or_default();
                let spent = self.spent.entry(resource.request).or_default();
                *spent = spent.saturating_add(span.duration()).saturating_add(bubble);
            }
        }
    }

    /// The requests that took longest, these first.
    fn slowest(&self) -> Vec<RequestId> {
        let mut all: Vec<(RequestId, u64)> = self.spent.iter().map(|(id, time)| (*id, *time)).collect();
        all.sort_by_key(|(request, time)| (std::cmp::Reverse(*time), *request));
        all.into_iter().take(REQUESTS).map(|(request, _)| request).collect()
    }
}

impl Slowest {
    fn push(&mut self, span: &Span, request: RequestId, bubbles: &mut Bubbles) {
        self.requests.entry((span.name, request)).or_default().push(span.duration());
        if span.name.as_str() == FORWARD
            && let Some(bubble) = bubbles.push(span, request)
        {
            self.bubbles.entry(request).or_default().push(bubble);
        }
    }
}

impl Span {
    fn duration(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

fn reports(totals: Totals, mut told: Slowest, slowest: &[RequestId], ids: &Ids) -> [Report; 3] {
    let mut names: Vec<(Name, Distribution)> = totals.names.into_iter().collect();
    names.sort_by_key(|(name, _)| name.as_str());
    let mut spans = report("Span Statistics (ms)", &["Span"]);
    let mut requests = report("Request Statistics (ms)", &["Span", "Request"]);
    let mut bubbles = report("Bubble Statistics (ms)", &["Request"]);
    let row = |head: &[&str], all: &mut Distribution| {
        head.iter().map(|text| Cell::Text((*text).to_owned())).chain(figures(all)).collect()
    };
    for (name, mut all) in names {
        spans.rows.push(row(&[name.as_str()], &mut all));
        requests.rows.push(row(&[name.as_str(), "ALL"], &mut all));
        for request in slowest {
            if let Some(own) = told.requests.get_mut(&(name, *request)) {
                requests.rows.push(row(&[name.as_str(), ids.text(*request)], own));
            }
        }
    }
    for request in slowest {
        if let Some(own) = told.bubbles.get_mut(request) {
            bubbles.rows.push(row(&[ids.text(*request)], own));
        }
    }
    [spans, requests, bubbles]
}

fn report(title: &str, head: &[&str]) -> Report {
    Report::new(title, &[head, &["min", "avg", "P50", "P90", "P99", "max", "total"]].concat())
}

fn figures(all: &mut Distribution) -> [Cell; 7] {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|rank| all.percentile(rank));
    [all.min() as f64, all.mean(), p50, p90, p99, all.max() as f64, all.sum() as f64]
        .map(|nanos| Cell::Number(nanos / 1e6, 2))
}
