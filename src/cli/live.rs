//! `msprof-rs status`, `start`, `stop` and `dump`: what the recorders of this machine do, and having them do something
//! else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{EXIT_FAILED, EXIT_FINE};
use crate::config::{ConfigError, rewrite_enable};
use crate::control::{Dumps, Live, State};
use crate::stem;

/// Between the two looks that give a rate.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait for processes to act: they look every 50 ms, and a dump takes a while to write.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Print JSON, one array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// A process id, a session folder, or a collection config [default: the only server there is]
    #[arg(value_name = "PID|SESSION|CONFIG")]
    target: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, Error)]
enum LiveError {
    #[error(
        "no process of yours runs with msprof_rs. Is SERVICE_PROF_CONFIG_PATH set where the server starts?"
    )]
    Nobody,
    #[error("several servers run; say which: {0}")]
    Several(String),
    #[error(
        "{0} is no process with msprof_rs, no session that is being recorded and no collection config. `msprof-rs status` lists them"
    )]
    Unknown(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("there is nothing to dump: no process of {0} is in flight mode (\"mode\": \"flight\")")]
    NotInFlight(PathBuf),
    #[error("{path}: the dump could not be asked for: {error}")]
    Dump { path: PathBuf, error: std::io::Error },
    #[error("{0}: not all processes have answered within {PATIENCE:?}; what is there is whole")]
    NoAnswer(PathBuf),
}

impl Status {
    pub(super) fn run(&self) -> u8 {
        let before = Live::all();
        std::thread::sleep(LOOK);
        let rows: Vec<_> = Live::all()
            .into_iter()
            .map(|live| {
                let former = before.iter().find(|former| former.page == live.page);
                let events = former.map_or(0, |it| live.figures.events.saturating_sub(it.figures.events));
                (events * 1000 / LOOK.as_millis() as u64, live)
            })
            .collect();
        if self.json {
            let rows = rows.iter().map(|(rate, live)| {
                let mut row = serde_json::to_value(live).unwrap_or_default();
                row["events_per_second"] = (*rate).into();
                row
            });
            println!("{}", serde_json::Value::Array(rows.collect()));
        } else if rows.is_empty() {
            println!("{}", LiveError::Nobody);
        } else {
            print!("{}", table(&rows));
        }
        EXIT_FINE
    }
}

fn table(rows: &[(u64, Live)]) -> String {
    let head =
        ["PID", "STATE", "EVENTS/S", "EVENTS", "WRITTEN", "DROPPED", "THREADS", "RINGS", "ROLE", "SESSION"];
    let mut cells = vec![head.map(str::to_owned)];
    for (rate, Live { pid, state, facts, figures, .. }) in rows {
        let fill = match (figures.ring_filled * 100).checked_div(figures.ring_size) {
            Some(percent) => format!("{percent} % of {}", megabytes(figures.ring_size)),
            None => "-".into(),
        };
        let session = facts.session.as_ref().unwrap_or(&facts.config);
        cells.push([
            pid.to_string(),
            format!("{state:?}").to_lowercase(),
            rate.to_string(),
            figures.events.to_string(),
            megabytes(figures.bytes),
            figures.dropped.to_string(),
            figures.threads.to_string(),
            fill,
            facts.role.clone(),
            session.display().to_string(),
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 10] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &cells {
        let line: String = row
            .iter()
            .zip(widths)
            .fold(String::new(), |line, (cell, width)| line + &format!("{cell:<width$}  "));
        // Into a text: it can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}

impl Target {
    pub(super) fn start(&self) -> u8 {
        told(self.switch(true))
    }

    pub(super) fn stop(&self) -> u8 {
        told(self.switch(false))
    }

    pub(super) fn dump(&self) -> u8 {
        told(self.ask_for_dump())
    }

    fn switch(&self, on: bool) -> Result<(), LiveError> {
        let config = self.config()?;
        rewrite_enable(&config, on)?;
        let has_followed = |live: &Live| live.facts.config != config || (live.state != State::Idle) == on;
        // A limit or an error may keep a process from following; then `status` tells.
        wait_until(|| Live::all().iter().all(has_followed));
        println!("collection is {}: {}", if on { "on" } else { "off" }, config.display());
        let session = Live::all()
            .into_iter()
            .filter(|live| live.facts.config == config)
            .find_map(|it| it.facts.session);
        if let Some(session) = session {
            println!("session: {}", session.display());
        }
        Ok(())
    }

    fn ask_for_dump(&self) -> Result<(), LiveError> {
        let config = self.config()?;
        let flying: Vec<_> = Live::all()
            .into_iter()
            .filter(|live| live.facts.config == config && live.state == State::Flight)
            .collect();
        let Some(session) = flying.iter().find_map(|live| live.facts.session.clone()) else {
            return Err(LiveError::NotInFlight(config));
        };
        let asked = Dumps::of(&session).ask();
        let folder = asked.map_err(|error| LiveError::Dump { path: session.clone(), error })?;
        let has_written = || flying.iter().all(|live| has_dump_of(&folder, live.pid));
        if !wait_until(has_written) {
            return Err(LiveError::NoAnswer(folder));
        }
        println!("{}", folder.display());
        Ok(())
    }

    /// The collection config of the server that is meant.
    fn config(&self) -> Result<PathBuf, LiveError> {
        let live = Live::all();
        let Some(target) = &self.target else {
            let configs: BTreeSet<_> = live.into_iter().map(|live| live.facts.config).collect();
            let mut configs = configs.into_iter();
            return match (configs.next(), configs.next()) {
                (None, _) => Err(LiveError::Nobody),
                (Some(config), None) => Ok(config),
                (Some(first), Some(second)) => {
                    let all = [first, second].into_iter().chain(configs);
                    let all: Vec<_> = all.map(|config| config.display().to_string()).collect();
                    Err(LiveError::Several(all.join(", ")))
                }
            };
        };
        let path = std::path::absolute(target).unwrap_or_else(|_| target.into());
        let is_meant = |live: &&Live| {
            live.pid.to_string() == *target
                || live.facts.config == path
                || live.facts.session.as_ref().is_some_and(|session| *session == path)
        };
        match live.iter().find(is_meant) {
            Some(live) => Ok(live.facts.config.clone()),
            // Of a server that does not run yet.
            None if path.is_file() => Ok(path),
            None => Err(LiveError::Unknown(target.clone())),
        }
    }
}

fn has_dump_of(folder: &Path, pid: u32) -> bool {
    let of_it = |name: &str| {
        let stem = name.strip_suffix(".pftrace").map(|name| stem::split_part(name).0);
        stem.and_then(stem::pid) == Some(pid)
    };
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.into_iter().any(|entry| of_it(&entry.file_name().to_string_lossy()))
}

/// False: it took too long.
fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn told(outcome: Result<(), LiveError>) -> u8 {
    match outcome {
        Ok(()) => EXIT_FINE,
        Err(error) => {
            log::error!("{error}");
            EXIT_FAILED
        }
    }
}
