//! `msprof-rs compare`: the spans of two sessions beside each other, and which differences are larger than the noise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::outputs::{deliver, identity};
use super::progress;
use super::report::{Cell, Form, Report, print};
use super::{EXIT_FAILED, LogLevel, ParseError, tell_unfinished, told_exit_code};
use crate::event::{Kind, Name};
use crate::export::delivery::Origin;
use crate::export::spreadsheet::Csv;
use crate::export::{self, Outcome, output};
use crate::model::{Difference, Distribution, Series, difference};
use crate::source::Session;

/// The output.
const FILE: &str = "span_comparation_result.csv";

/// Compare the spans of two sessions
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Folder with the captures of the session that is looked at
    input: PathBuf,

    /// Folder with the captures of the session that it is compared with
    golden: PathBuf,

    /// Folder for the outputs, created if missing
    #[arg(long, value_name = "DIR", default_value = "compare_result")]
    output_path: PathBuf,

    /// Messages to show, from this level on
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,

    #[command(flatten)]
    pub(super) form: Form,
}

/// The durations of a session's spans of one name.
#[derive(Default)]
struct Durations {
    all: Distribution,
    series: Series,
}

/// What was read of one session.
struct Read {
    spans: Spans,
    /// The exit code that says whether they are all.
    code: u8,
    identity: String,
    inputs: Vec<PathBuf>,
}

type Spans = HashMap<Name, Durations, rustc_hash::FxBuildHasher>;

/// A name that one session or both have.
struct Compared {
    name: &'static str,
    golden: Distribution,
    input: Distribution,
    difference: Option<Difference>,
}

impl Compare {
    pub(super) fn run(&self) -> u8 {
        match self.compare() {
            Ok((report, code)) => {
                print(&[report], self.form);
                log::info!("written: {}", self.output_path.join(FILE).display());
                code
            }
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    /// The table, and the exit code.
    fn compare(&self) -> Result<(Report, u8), ParseError> {
        let (new, former) = (read(&self.input)?, read(&self.golden)?);
        let inputs = [new.inputs, former.inputs].concat();
        let (mut input, mut golden) = (new.spans, former.spans);
        let mut names: Vec<&'static str> =
            input.keys().chain(golden.keys()).map(|name| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let mut compared: Vec<Compared> = names
            .into_iter()
            .map(|name| {
                let of = |spans: &mut Spans| spans.remove(&Name::new(name)).unwrap_or_default();
                let (input, golden) = (of(&mut input), of(&mut golden));
                let difference = difference(&golden.series, &input.series);
                Compared { name, golden: golden.all, input: input.all, difference }
            })
            .filter(|row| row.golden.max() > 0 || row.input.max() > 0)
            .collect();

        let session = format!("{}, compared with {}", new.identity, former.identity);
        let kinds = &[export::Kind::Comparison];
        let origin = Origin { session: &session, inputs: &inputs, kinds };
        let write = |out: &mut output::Output| {
            let mut csv = Csv::new(out);
            csv.write_record([
                "name",
                "Golden-AVG",
                "Golden-P50",
                "Golden-P90",
                "Input-AVG",
                "Input-P50",
                "Input-P90",
                "DIFF-AVG",
                "DIFF-P50",
                "DIFF-P90",
                "RDIFF-AVG(%)",
                "RDIFF-P50(%)",
                "RDIFF-P90(%)",
            ])?;
            for row in &mut compared {
                csv.write_record(columns(row))?;
            }
            csv.flush()?;
            Ok(Outcome::Rows(compared.len() as u64))
        };
        deliver(&self.output_path, &origin, |folder| Ok(output::write(&folder.join(FILE), write)?))?;
        Ok((report(&compared), new.code.max(former.code)))
    }
}

/// In microseconds with two decimals, as msServiceProfiler has them.
fn columns(row: &mut Compared) -> Vec<String> {
    let figures = |all: &mut Distribution| {
        let is_there = all.count() > 0;
        [all.mean(), all.percentile(0.5), all.percentile(0.9)].map(|nanos| is_there.then_some(nanos / 1e3))
    };
    let (golden, input) = (figures(&mut row.golden), figures(&mut row.input));
    let text = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
    let difference = |n: usize| Some(input[n]? - golden[n]?);
    let relative = |n: usize| Some(difference(n)? / golden[n].filter(|golden| *golden != 0.0)? * 100.0);
    let mut columns = vec![row.name.to_owned()];
    columns.extend(golden.iter().chain(&input).map(|value| text(*value)));
    columns.extend((0..3).map(|n| text(difference(n))));
    columns.extend((0..3).map(|n| text(relative(n))));
    columns
}

/// The largest differences first, by the time that they cost or save over all; then what was too short to tell.
fn report(compared: &[Compared]) -> Report {
    let columns = ["Golden ms", "Input ms", "Difference ms", "99 % from", "to", "Real", "Instances", "Name"];
    let mut report = Report::new("", &columns);
    let mut rows: Vec<_> =
        compared.iter().filter(|row| row.golden.count() > 0 && row.input.count() > 0).collect();
    let change = |row: &Compared| row.input.mean() - row.golden.mean();
    let cost = |row: &Compared| change(row).abs() * row.input.count() as f64;
    rows.sort_by(|a, b| {
        let is_judged = |row: &Compared| row.difference.is_some();
        is_judged(b).cmp(&is_judged(a)).then(cost(b).total_cmp(&cost(a)))
    });
    for row in rows {
        let verdict = match row.difference {
            Some(difference) if difference.is_real() => "yes",
            Some(_) => "noise",
            None => "too short",
        };
        report.rows.push(vec![
            Cell::millis(row.golden.mean()),
            Cell::millis(row.input.mean()),
            Cell::millis(change(row)),
            Cell::or_empty(row.difference, |difference| Cell::millis(difference.low)),
            Cell::or_empty(row.difference, |difference| Cell::millis(difference.high)),
            Cell::Text(verdict.to_owned()),
            Cell::count(row.input.count()),
            Cell::Text(row.name.to_owned()),
        ]);
    }
    report
}

fn read(folder: &Path) -> Result<Read, ParseError> {
    let session = Session::open(folder)?;
    let mut spans = Spans::default();
    let tally = progress::read(&session, |record| {
        if matches!(record.kind, Kind::Span | Kind::Instant) && !record.name().is_empty() {
            let known = spans.entry(record.label.name()).or_default();
            known.all.push(record.duration());
            known.series.push(record.end.0, record.duration());
        }
        Ok(())
    })?;
    tell_unfinished(&tally);
    let code = told_exit_code(session.intake(), &tally);
    Ok(Read { spans, code, identity: identity(folder, &session), inputs: session.inputs().to_vec() })
}
