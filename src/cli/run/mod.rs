//! `msprof-rs run -- COMMAND`: a Python command with collection on from its first line, its children included; then
//! its captures are parsed.

mod sessions;
mod signals;
mod supervised;
mod witness;

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::json;
use thiserror::Error;

use self::supervised::Supervised;
use super::installation::Installation;
use super::{EXIT_FAILED, interrupt};
use crate::config::Level;
use crate::control::Live;
use crate::files;
use crate::recorder::Attendance;

/// How long children of the command may take to end after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// As shells tell that a program was ended by a signal.
const ENDED_BY_SIGNAL: i32 = 128;

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// Folder for the captures and the outputs [default: msprof-MMDD-HHMMSS]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// The symbol file [default: that of `PROFILING_SYMBOLS_PATH`, else the built-in packs for what is installed]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,

    /// What is collected: ERROR, INFO, DETAILED or VERBOSE
    #[arg(long, value_name = "LEVEL", default_value = "INFO", value_parser = level)]
    level: String,

    /// Only these domains, as in "Schedule;Execute"
    #[arg(long, value_name = "DOMAINS", default_value = "")]
    domain: String,

    /// Leave the captures as they are
    #[arg(long)]
    no_parse: bool,

    /// The command and its arguments; a `script.py` is run by this Python
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn level(text: &str) -> Result<String, String> {
    match Level::from_name(text) {
        Some(level) => Ok(level.to_string()),
        None => Err("expected ERROR, INFO, DETAILED or VERBOSE".into()),
    }
}

#[derive(Debug, Error)]
enum RunError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is not empty; give another folder with --output")]
    NotEmpty { path: PathBuf },
    #[error(
        "{path:?} is not UTF-8, which the collection config has to be; give another folder with --output"
    )]
    NotUtf8 { path: PathBuf },
    #[error(
        "--symbols {path}: {error}. `msprof-rs init` writes a symbol file to begin with, docs/configuration.md says what \
         stands in one"
    )]
    Symbols { path: PathBuf, error: io::Error },
    #[error("{command} can't be run: {error}")]
    Command { command: String, error: io::Error },
}

/// An error of this path.
fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_path_buf();
    move |error| RunError::Io { path, error }
}

/// Where all that belongs to one run lies.
struct Folder {
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
}

impl Run {
    /// Gives the command's own exit code; where a signal has ended it, one does the same here.
    pub(super) fn run(&self, installation: &Installation<'_>) -> u8 {
        let status = match self.collect(installation) {
            Ok(status) => status,
            Err(error) => {
                log::error!("{error}");
                return EXIT_FAILED;
            }
        };
        if let Some(signal) = status.signal() {
            let _ = io::stdout().flush(); // nobody reads it
            signals::end_by(signal);
        }
        let code = status.code().or_else(|| status.signal().map(|signal| ENDED_BY_SIGNAL + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILED)
    }

    /// Runs the command, and parses what it has left.
    fn collect(&self, installation: &Installation<'_>) -> Result<ExitStatus, RunError> {
        let symbols = self.symbols.as_deref().map(found).transpose()?;
        let folder = self.folder()?;
        let config = folder.path.join("config.json");
        let captures = folder.path.join("captures");
        self.write_config(&config, &captures)?;
        // One process may begin when another has ended, as a daemon does: it is one session all the same.
        let attendance = Attendance::at(&config).inspect_err(|error| log::debug!("{error}")).ok();
        let mut command = self.command(installation, &config, symbols.as_deref());
        let mut supervised = Supervised::start(&mut command).map_err(|error| {
            folder.give_up(&config);
            let command = command.get_program().to_string_lossy().into_owned();
            RunError::Command { command, error }
        })?;
        let status = supervised.wait().map_err(at(Path::new("the command")))?;
        let recorders = || Live::all().into_iter().filter(|live| live.facts.config == config);
        supervised.wait_until(|| recorders().next().is_none(), PATIENCE);
        drop(attendance);
        let left: Vec<_> = recorders().map(|live| live.pid.to_string()).collect();
        if !left.is_empty() {
            log::warn!(
                "still running: process {}. What it records from now on lies in {}; `msprof-rs stop {}` ends that",
                left.join(", "),
                captures.display(),
                config.display()
            );
        }
        if self.no_parse {
            log::info!("the captures are in {}", captures.display());
        } else {
            interrupt::clean_up_on_signals();
            drop(supervised); // from here on a signal ends this program
            sessions::parse(&captures, &folder.path, symbols.as_deref());
        }
        Ok(status)
    }

    /// A folder for this run alone.
    fn folder(&self) -> Result<Folder, RunError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o750); // prompts may be in what is recorded
        let create = |path: &Path| match builder.create(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(at(path)(error)),
        };
        let (path, is_new) = if let Some(path) = &self.output {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                std::fs::create_dir_all(parent).map_err(at(parent))?;
            }
            (path.clone(), create(path)?)
        } else {
            let name = jiff::Zoned::now().strftime("msprof-%m%d-%H%M%S").to_string();
            let mut path = PathBuf::from(&name);
            let mut number = 1;
            while !create(&path)? {
                number += 1;
                path = format!("{name}-{number}").into();
            }
            (path, true)
        };
        let path = path.canonicalize().map_err(at(&path))?;
        if path.read_dir().map_err(at(&path))?.next().is_some() {
            return Err(RunError::NotEmpty { path });
        }
        Ok(Folder { path, is_new })
    }

    fn write_config(&self, config: &Path, captures: &Path) -> Result<(), RunError> {
        let Some(captures) = captures.to_str() else {
            return Err(RunError::NotUtf8 { path: captures.into() });
        };
        let settings = json!({
            "enable": 1, "prof_dir": captures, "profiler_level": self.level, "domain": self.domain,
        });
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(config);
        let written = file.and_then(|mut file| file.write_all(settings.to_string().as_bytes()));
        written.map_err(|error| match error.kind() {
            // Another run was given the same folder at the same time.
            io::ErrorKind::AlreadyExists => {
                RunError::NotEmpty { path: config.parent().unwrap_or(config).into() }
            }
            _ => at(config)(error),
        })
    }

    fn command(&self, installation: &Installation<'_>, config: &Path, symbols: Option<&Path>) -> Command {
        let mut words = self.command.iter();
        let first = words.next().cloned().unwrap_or_default(); // clap asks for one
        let is_script = Path::new(&first).extension().is_some_and(|it| it == "py");
        let mut command = if is_script {
            let mut command = Command::new(&installation.executable);
            command.arg(&first);
            command
        } else {
            Command::new(&first)
        };
        let mut path = installation.package.join("_bootstrap").into_os_string();
        if let Some(former) = std::env::var_os("PYTHONPATH").filter(|former| !former.is_empty()) {
            path.push(":");
            path.push(former);
        }
        command.args(words).env("PYTHONPATH", path).env("SERVICE_PROF_CONFIG_PATH", config);
        if let Some(symbols) = symbols {
            command.env("PROFILING_SYMBOLS_PATH", symbols);
        }
        if std::env::var_os("PROF_LOG_LEVEL").is_none() {
            command.env("PROF_LOG_LEVEL", "WARNING");
        }
        command
    }
}

impl Folder {
    /// Leaves things as they were, when nothing has run.
    fn give_up(&self, config: &Path) {
        // What can't be removed does no harm.
        let _ = std::fs::remove_file(config);
        if self.is_new {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// The path of a symbol file that is there. One that is not would be written with the built-in symbols, as
/// `PROFILING_SYMBOLS_PATH` says; but this one was given by its name, so that it is taken for a slip.
fn found(path: &Path) -> Result<PathBuf, RunError> {
    let error = |error| RunError::Symbols { path: path.into(), error };
    files::open_regular(path).map_err(error)?;
    std::path::absolute(path).map_err(error)
}
