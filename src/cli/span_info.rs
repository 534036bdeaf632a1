//! `msprof-rs parse --span`: the spans of some names, one file for each, and how long they took: over all, by request, and
//! between the forward passes of a request.

use std::collections::HashMap;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::parse::{ParseOptions, calendar, create_folder};
use super::progress::Progress;
use super::report::{Cell, Form, Report, print};
use super::{EXIT_DAMAGED, EXIT_FINE, ParseError};
use crate::clock::Nanos;
use crate::event::{Kind, Name, ProcessId};
use crate::export::output::{Output, OutputError};
use crate::export::times::Calendar;
use crate::model::{Distribution, Ids, RequestId, Resources};
use crate::source::Session;
use crate::spool::{Sorted, Spool};

/// These are told in any case.
const ALWAYS: [&str; 3] = ["forward", "BatchSchedule", "batchFrameworkProcessing"];

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
    requests: Durations<(Name, RequestId)>,
    bubbles: Durations<RequestId>,
    /// The end of the last forward pass of a request in a process.
    last: FxHashMap<(ProcessId, RequestId), Nanos>,
}

/// Writes `span_info/` and prints the statistics. Gives the exit code.
pub(super) fn run(options: &ParseOptions, asked: &[String]) -> Result<u8, ParseError> {
    let mut calendar = calendar(options.timezone.as_deref())?;
    let session = Session::open(&options.input_path)?;
    let names: Vec<Name> = asked.iter().map(String::as_str).chain(ALWAYS).map(Name::new).collect();
    let (mut spans, mut totals, mut ids) = (Spool::default(), Totals::default(), Ids::of(session.places()));
    let (mut records, mut resources) = (session.records(), Resources::default());
    let mut progress = Progress::new("reading", session.length());
    while let Some(record) = records.next() {
        // Also what is not asked for tells the ids that the user knows.
        resources.read(record, &mut ids);
        if record.kind != Kind::Span || !names.contains(&record.label.name()) {
            continue;
        }
        let (name, start, end, process) = (record.label.name(), record.start, record.end, record.process);
        totals.push(name, (start, end), process, &resources);
        spans.push(start.0, &Span { name, start, end, process });
        progress.tick(|| records.progress());
    }
    progress.finish();
    let spans = spans.finish().map_err(ParseError::Temporary)?;
    let folder = options.output_path.join("span_info");
    create_folder(&folder)?;
    for name in names.iter().filter(|name| totals.names.contains_key(name)) {
        write(*name, &spans, &session, &folder, &mut calendar)?;
    }
    for name in asked.iter().filter(|name| !totals.names.contains_key(&Name::new(name))) {
        log::warn!("there is no span {name:?} in the session");
    }
    print(&totals.reports(&ids), Form::default());
    log::info!("written: {}", folder.display());
    let is_whole = session.intake().damaged.is_empty() && session.intake().torn.is_empty();
    Ok(if is_whole { EXIT_FINE } else { EXIT_DAMAGED })
}

fn write(
    name: Name,
    spans: &Sorted<Span>,
    session: &Session,
    folder: &std::path::Path,
    calendar: &mut Calendar,
) -> Result<(), OutputError> {
    let path = folder.join(format!("{}.csv", name.as_str().replace('/', "_")));
    let mut output = Output::create(&path)?;
    let mut rows = || {
        let mut csv = csv::Writer::from_writer(&mut output);
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
                &format!("{:.3}", (span.end.0 - span.start.0) as f64 / 1e6),
                &process.host,
                &process.pid.to_string(),
            ])?;
        }
        csv.flush()
    };
    rows().map_err(|error| OutputError::new(&path, error))?;
    output.finish()
}

impl Totals {
    fn push(&mut self, name: Name, (start, end): (Nanos, Nanos), process: ProcessId, resources: &Resources) {
        let duration = end.0.saturating_sub(start.0);
        self.names.entry(name).or_default().push(duration);
        for resource in &resources.list {
            self.requests.entry((name, resource.request)).or_default().push(duration);
            if name.as_str() != "forward" {
                continue;
            }
            if let Some(last) = self.last.insert((process, resource.request), end)
                && start > last
            {
                self.bubbles.entry(resource.request).or_default().push(start.0 - last.0);
            }
        }
    }

    fn reports(mut self, ids: &Ids) -> [Report; 3] {
        let mut names: Vec<(Name, Distribution)> = self.names.drain().collect();
        names.sort_by_key(|(name, _)| name.as_str());
        let mut spans = report("Span Statistics (ms)", &["Span"]);
        let mut requests = report("Request Statistics (ms)", &["Span", "Request"]);
        let mut bubbles = report("Bubble Statistics (ms)", &["Request"]);
        let forward = Name::new("forward");
        let mut slowest: Vec<(RequestId, u128)> = ids
            .all()
            .map(|request| {
                let of = |all: Option<&Distribution>| all.map_or(0, Distribution::sum);
                (request, of(self.requests.get(&(forward, request))) + of(self.bubbles.get(&request)))
            })
            .collect();
        slowest.sort_by_key(|(request, time)| (std::cmp::Reverse(*time), *request));
        slowest.truncate(REQUESTS);
        let row = |head: &[&str], all: &mut Distribution| {
            head.iter().map(|text| Cell::Text((*text).to_owned())).chain(figures(all)).collect()
        };
        for (name, mut all) in names {
            spans.rows.push(row(&[name.as_str()], &mut all));
            requests.rows.push(row(&[name.as_str(), "ALL"], &mut all));
            for (request, _) in &slowest {
                if let Some(own) = self.requests.get_mut(&(name, *request)) {
                    requests.rows.push(row(&[name.as_str(), ids.text(*request)], own));
                }
            }
        }
        for (request, _) in &slowest {
            if let Some(own) = self.bubbles.get_mut(request) {
                bubbles.rows.push(row(&[ids.text(*request)], own));
            }
        }
        [spans, requests, bubbles]
    }
}

fn report(title: &str, head: &[&str]) -> Report {
    Report::new(title, &[head, &["min", "avg", "P50", "P90", "P99", "max", "total"]].concat())
}

fn figures(all: &mut Distribution) -> [Cell; 7] {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|rank| all.percentile(rank));
    [all.min() as f64, all.mean(), p50, p90, p99, all.max() as f64, all.sum() as f64]
        .map(|nanos| Cell::Number(nanos / 1e6, 2))
}
