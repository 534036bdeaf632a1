//! The command line `msprof-rs`: one file for each verb. Called by the Python entry points of that name and of
//! `msserviceprofiler`.

mod logger;
mod parse;
mod summary;

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};
use log::LevelFilter;

pub use parse::{Format, ParseError, ParseOptions, Report, parse};
pub use summary::Summary;

/// Everything was read and written.
pub const EXIT_FINE: u8 = 0;
/// Nothing could be done; stderr says why.
pub const EXIT_FAILED: u8 = 1;
/// The outputs are written, but part of the input was damaged or left out.
pub const EXIT_DAMAGED: u8 = 3;

/// Where did the time of this request, of this step, go?
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Turn the captures of a session into a timeline and tables
    Parse(Parse),
}

#[derive(Debug, clap::Args)]
struct Parse {
    #[command(flatten)]
    options: ParseOptions,

    /// Messages to show, from this level on
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
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
/// 1 if nothing could be done, 2 if the arguments are wrong, 3 if part of the input was damaged.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and errors alike; where there is no stderr, nobody can be told.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(EXIT_FAILED);
        }
    };
    let Verb::Parse(verb) = arguments.verb;
    logger::install(verb.log_level.into());
    match parse(&verb.options) {
        Ok(report) => {
            summary::print(&Summary(&report));
            report.exit_code()
        }
        Err(error) => {
            log::error!("{error}");
            EXIT_FAILED
        }
    }
}
