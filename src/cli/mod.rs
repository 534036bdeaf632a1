//! The command line `msprof-rs`: one file for each verb. Called by the Python entry points of that name and of
//! `msserviceprofiler`.

mod check;
mod compare;
mod init;
mod installation;
mod interrupt;
mod left_out;
mod live;
mod logger;
mod notes;
mod outputs;
mod parse;
mod progress;
mod query;
mod recover;
mod report;
mod run;
mod span_info;
mod split;
mod stats;
mod summary;

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};
use log::LevelFilter;

pub use installation::Installation;
pub use parse::{Format, ParseError, ParseOptions, Report, parse};
pub use summary::Summary;

use crate::export::spreadsheet::leave_texts_raw;
use crate::source::{Intake, Tally};

/// Everything was read and written.
pub const EXIT_FINE: u8 = 0;
/// Nothing could be done; stderr says why.
pub const EXIT_FAILED: u8 = 1;
/// The outputs are written, but part of the input was damaged or left out, or the server has lost events.
pub const EXIT_DAMAGED: u8 = 3;

const PARSE_EXAMPLES: &str = "\
Examples:
  msprof-rs parse --input-path /data/prof/1122-0900
  msprof-rs parse --input-path /data/prof/1122-0900 --output-path tables --format csv
  msserviceprofiler parse --input-path . --timezone UTC --gzip";

const COMPARE_EXAMPLES: &str = "\
Examples:
  msprof-rs compare /data/prof/after /data/prof/before
  msserviceprofiler compare after before --output-path differences

A difference is called real if its interval of 99 % does not hold 0. The interval comes from the spread between blocks of \
time, and is 10 % of the average wider each way, since two runs of one program differ so much anyway. Where a name has \
calls for less than five seconds, or none in an eighth of its time, it is too short to tell.";

const SPLIT_EXAMPLES: &str = "\
Examples:
  msprof-rs split --input-path /data/prof/1122-0900 --prefill-batch-size 1 --decode-batch-size 8 --decode-number 20
  msserviceprofiler split --input-path . --prefill-rid cmpl-4711";

const STATS_EXAMPLES: &str = "\
Examples:
  msprof-rs stats /data/prof/1122-0900
  msprof-rs stats /data/prof/1122-0900 --report requests,gaps --limit 10
  msprof-rs stats . --report domains --json";

const QUERY_EXAMPLES: &str = "\
Examples:
  msprof-rs query output \"SELECT name, count(*), sum(duration) / 1e6 AS ms FROM slice GROUP BY name ORDER BY ms DESC\"
  msprof-rs query /data/prof/1122-0900 \"SELECT * FROM request_data ORDER BY 5 DESC LIMIT 5\" --json";

/// Where did the time of this request, of this step, go?
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a collection config and a symbol file to begin with
    Init(init::Init),
    /// Run a Python command with collection on, then parse what was captured
    Run(run::Run),
    /// Turn the captures of a session into a timeline and tables
    #[command(after_help = PARSE_EXAMPLES)]
    Parse(Parse),
    /// Parse, and sum up requests, batches and the service as a whole
    #[command(after_help = PARSE_EXAMPLES)]
    Analyze(Parse),
    /// Tell where the time went: spans, domains, processes, requests, idle times
    #[command(after_help = STATS_EXAMPLES)]
    Stats(stats::Stats),
    /// Ask a session's tables with SQL
    #[command(after_help = QUERY_EXAMPLES)]
    Query(query::Query),
    /// Compare the spans of two sessions
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(compare::Compare),
    /// Take single batches of prefill or decode apart
    #[command(after_help = SPLIT_EXAMPLES)]
    Split(split::Split),
    /// Put what killed processes left in their rings into their captures
    Recover(recover::Recover),
    /// Tell whether a symbol file fits what is installed
    ///
    /// Packages are looked for in the current folder (not with PYTHONSAFEPATH), then where this Python looks for them;
    /// frameworks in the current folder last. Nothing is imported. Fails if a symbol is gone or an entry makes no sense. An
    /// entry whose package is not there does not fail.
    Check(check::Check),
    /// List the processes on this machine that have a recorder, and how they do
    Status(live::Status),
    /// Switch collection on
    Start(live::Target),
    /// Switch collection off
    Stop(live::Target),
    /// Have flight recorders write what they remember
    Dump(live::Target),
}

#[derive(Debug, clap::Args)]
struct Parse {
    #[command(flatten)]
    options: ParseOptions,

    /// Messages to show, from this level on
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,

    /// Say also why a table was not written: which records it would have needed
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    cells: report::RawCsv,
}

/// Levels by the names that msServiceProfiler has for them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
    Critical,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warning => Self::Warn,
            LogLevel::Error | LogLevel::Fatal | LogLevel::Critical => Self::Error,
        }
    }
}

/// Runs the command line; `arguments` begin with the program's name. Gives the exit code: 0 if all went well,
/// 1 if nothing could be done, 2 if the arguments are wrong, 3 if part of the input was damaged or the server has lost events.
pub fn main(arguments: impl IntoIterator<Item = OsString>, installation: &Installation<'_>) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and errors alike; where there is no stderr, nobody can be told.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(EXIT_FAILED);
        }
    };
    logger::install(match &arguments.verb {
        Verb::Parse(verb) | Verb::Analyze(verb) => verb.log_level.into(),
        Verb::Compare(verb) => verb.log_level.into(),
        Verb::Split(verb) => verb.log_level.into(),
        _ => LevelFilter::Info,
    });
    let cells = match &arguments.verb {
        Verb::Parse(verb) | Verb::Analyze(verb) => verb.cells,
        Verb::Stats(verb) => verb.form.cells,
        Verb::Query(verb) => verb.form.cells,
        Verb::Compare(verb) => verb.form.cells,
        Verb::Split(verb) => verb.cells,
        _ => report::RawCsv::default(),
    };
    leave_texts_raw(cells.raw_csv);
    if matches!(
        &arguments.verb,
        Verb::Parse(_)
            | Verb::Analyze(_)
            | Verb::Query(_)
            | Verb::Compare(_)
            | Verb::Split(_)
            | Verb::Recover(_)
    ) {
        interrupt::clean_up_on_signals();
    }
    match arguments.verb {
        Verb::Init(verb) => verb.run(installation),
        Verb::Run(verb) => verb.run(installation),
        Verb::Parse(verb) => run_parse(&verb.options, false, verb.verbose),
        Verb::Analyze(verb) => run_parse(&verb.options, true, verb.verbose),
        Verb::Stats(verb) => verb.run(),
        Verb::Query(verb) => verb.run(),
        Verb::Compare(verb) => verb.run(),
        Verb::Split(verb) => verb.run(),
        Verb::Recover(verb) => verb.run(),
        Verb::Check(verb) => verb.run(installation),
        Verb::Status(verb) => verb.run(),
        Verb::Start(target) => target.start(),
        Verb::Stop(target) => target.stop(),
        Verb::Dump(target) => target.dump(),
    }
}

/// As [`exit_code`], where the answer has no place for what is missing: stderr says it, whatever form the answer has.
fn told_exit_code(intake: &Intake, tally: &Tally) -> u8 {
    notes::tell_losses(intake, tally);
    exit_code(intake, tally)
}

/// Says how many spans a sum of durations lacks, since they have none yet.
fn tell_unfinished(tally: &Tally) {
    if tally.unfinished > 0 {
        let spans = notes::count(tally.unfinished, "span");
        log::info!("left out: {spans} without an end in the capture");
    }
}

/// The exit code that says whether all was read, or only part.
fn exit_code(intake: &Intake, tally: &Tally) -> u8 {
    if intake.is_whole() && tally.malformed == 0 && !tally.has_losses() { EXIT_FINE } else { EXIT_DAMAGED }
}

fn run_parse(options: &ParseOptions, summaries: bool, is_verbose: bool) -> u8 {
    if let Some(names) = &options.span {
        return span_info::run(options, names).unwrap_or_else(|error| {
            log::error!("{error}");
            EXIT_FAILED
        });
    }
    match parse(options, summaries) {
        Ok(report) => {
            summary::print(&Summary(&report), is_verbose);
            report.exit_code()
        }
        Err(error) => {
            log::error!("{error}");
            EXIT_FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixture::session;

    fn run(arguments: &[&std::path::Path]) -> u8 {
        let installation = Installation {
            locate: &|_| None,
            frameworks: Vec::new(),
            is_path_safe: true,
            hooks_in_place: true,
            package: "".into(),
            executable: "".into(),
        };
        main(std::iter::once("msprof-rs".into()).chain(arguments.iter().map(Into::into)), &installation)
    }

    #[test]
    fn the_exit_code_says_how_it_went() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let parse = |input: &std::path::Path| {
            let (verb, from, to) = ("parse".as_ref(), "--input-path".as_ref(), "--output-path".as_ref());
            run(&[verb, from, input, to, output.path(), "--format".as_ref(), "csv".as_ref(), "json".as_ref()])
        };
        assert_eq!(parse(&input.path().join("missing")), EXIT_FAILED);
        assert_eq!(parse(input.path()), EXIT_FAILED, "no captures");
        session(input.path());
        assert_eq!(parse(input.path()), EXIT_FINE);
        // A process that died before it wrote anything has left its rings.
        std::fs::write(input.path().join("node-300.pftrace"), b"").unwrap();
        assert_eq!(parse(input.path()), EXIT_DAMAGED);
        std::fs::write(input.path().join("node-300.pftrace"), b"no trace").unwrap();
        assert_eq!(parse(input.path()), EXIT_DAMAGED);
        assert_eq!(run(&["parse".as_ref(), "--no-such-option".as_ref()]), 2);
        assert_eq!(run(&["--help".as_ref()]), EXIT_FINE);
    }
}
