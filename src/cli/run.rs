//! `msprof-rs run -- COMMAND`: a Python command with collection on from its first line, its children included; then
//! its captures are parsed.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;

use super::installation::Installation;
use super::parse::{Format, ParseOptions};
use super::{EXIT_FAILED, interrupt, run_parse};
use crate::config::Level;
use crate::control::Live;

/// How long children of the command may take to end after it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// Folder for the captures and the outputs [default: msprof-MMDD-HHMMSS]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// The symbol file [default: the built-in packs for what is installed]
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
    #[error("{command} can't be run: {error}")]
    Command { command: String, error: io::Error },
}

impl Run {
    /// Gives the command's own exit code, as a shell does.
    pub(super) fn run(&self, installation: &Installation<'_>) -> u8 {
        match self.collect(installation) {
            Ok((status, captures, folder)) => {
                if !self.no_parse {
                    parse(&captures, &folder);
                }
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILED)
            }
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    fn collect(&self, installation: &Installation<'_>) -> Result<(ExitStatus, PathBuf, PathBuf), RunError> {
        let stamp = || jiff::Zoned::now().strftime("msprof-%m%d-%H%M%S").to_string();
        let folder = self.output.clone().unwrap_or_else(|| stamp().into());
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |error| RunError::Io { path, error }
        };
        std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let folder = folder.canonicalize().map_err(io_error(&folder))?;
        if folder.read_dir().map_err(io_error(&folder))?.next().is_some() {
            return Err(RunError::NotEmpty { path: folder });
        }
        let (config, captures) = (folder.join("config.json"), folder.join("captures"));
        let settings = json!({
            "enable": 1, "prof_dir": captures, "profiler_level": self.level, "domain": self.domain,
        });
        std::fs::write(&config, settings.to_string()).map_err(io_error(&config))?;
        let mut child = self.start(installation, &config)?;
        let status = wait(&mut child).map_err(io_error(Path::new("the command")))?;
        let deadline = Instant::now() + PATIENCE;
        while Live::all().iter().any(|live| live.facts.config == config) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((status, captures, folder))
    }

    fn start(&self, installation: &Installation<'_>, config: &Path) -> Result<Child, RunError> {
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
        match &self.symbols {
            Some(symbols) => command.env("PROFILING_SYMBOLS_PATH", symbols),
            None => &mut command,
        };
        if std::env::var_os("PROF_LOG_LEVEL").is_none() {
            command.env("PROF_LOG_LEVEL", "WARNING");
        }
        command.spawn().map_err(|error| RunError::Command { command: first.to_string_lossy().into(), error })
    }
}

/// Waits for the command, and hands it the signals that ask to end. A Ctrl-C of the terminal goes to both by itself:
/// the command ends by it, and then this one parses.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let pid = rustix::process::Pid::from_child(child);
    let forward = std::thread::spawn(move || {
        for signal in signals.forever().filter(|signal| *signal != SIGINT) {
            if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                let _ = rustix::process::kill_process(pid, signal); // gone already
            }
        }
    });
    let status = child.wait();
    handle.close();
    let _ = forward.join(); // it can't panic
    status
}

fn parse(captures: &Path, folder: &Path) {
    let session = captures.read_dir().ok().and_then(|mut sessions| sessions.next()).and_then(Result::ok);
    let Some(session) = session else {
        log::error!(
            "nothing was captured: is msprof-rs installed for the Python that ran, and did it import what the symbols name?"
        );
        return;
    };
    interrupt::clean_up_on_signals();
    let options = ParseOptions {
        input_path: session.path(),
        output_path: folder.join("output"),
        format: vec![Format::Csv, Format::Db, Format::Json, Format::Perfetto],
        timezone: None,
        gzip: false,
        span: None,
    };
    run_parse(&options, false, false);
}
