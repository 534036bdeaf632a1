//! `msprof-rs status`, `start`, `stop` and `dump`: what the recorders of this machine do, and having them do something
//! else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::report::say;
use super::{EXIT_FAILED, EXIT_FINE, left_out};
use crate::config::{ConfigError, rewrite_enable};
use crate::control::{Dumps, Live, State};
use crate::files;
use crate::own_file::Identity;
use crate::printable::printable;
use crate::stem;

/// Between the two looks that give a rate.
const LOOK: Duration = Duration::from_millis(500);

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

    /// How long the processes may take to follow: they look ten times a second, but have to write what they hold
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,
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
    #[error(
        "{config}: \"enable\" is {enable} now, but within {wait} s not all processes have followed: {who}. Their logs say \
         more"
    )]
    NotFollowed { config: PathBuf, enable: u8, wait: u64, who: String },
    #[error(
        "{0} sees other mounts, as in a container: which file its config is can't be said here. Run the command there"
    )]
    Elsewhere(String),
    #[error("there is nothing to dump: no process of yours runs with {0}")]
    Unused(PathBuf),
    #[error("there is nothing to dump: collection is off in {0}. `msprof-rs start` switches it on")]
    Off(PathBuf),
    #[error(
        "there is nothing to dump: no process of {0} is in flight mode (\"mode\": \"flight\"); all that they record is in \
         their captures"
    )]
    NotInFlight(PathBuf),
    #[error("{path}: the dump could not be asked for: {error}")]
    Dump { path: PathBuf, error: std::io::Error },
    #[error("{folder}: within {wait} s not all processes have answered: {who}. What is there is whole")]
    NoAnswer { folder: PathBuf, wait: u64, who: String },
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
            say(serde_json::Value::Array(rows.collect()));
        } else if rows.is_empty() {
            say(LiveError::Nobody);
        } else {
            table(&rows).lines().for_each(say);
            for (_, Live { pid, facts, .. }) in &rows {
                if let Some(trouble) = &facts.trouble {
                    say(format_args!("{pid}: {trouble}"));
                }
            }
        }
        left_out::tell(&rows.iter().map(|(_, live)| live.pid).collect::<Vec<_>>());
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
        let place = facts.session.as_ref().unwrap_or(&facts.config).display();
        let is_here = facts.mounts == files::mounts();
        let place = if is_here { place.to_string() } else { format!("{place} (in other mounts)") };
        cells.push([
            pid.to_string(),
            format!("{state:?}").to_lowercase(),
            rate.to_string(),
            figures.events.to_string(),
            megabytes(figures.bytes),
            figures.dropped.to_string(),
            figures.threads.to_string(),
            fill,
            printable(&facts.role).into_owned(),
            printable(&place).into_owned(),
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
        let server = self.server()?;
        let Server { config, .. } = &server;
        rewrite_enable(config, on)?;
        let enable = u8::from(on);
        if server.processes().is_empty() {
            let outlook = if on { " yet; collection begins when one starts" } else { "" };
            say(format_args!("\"enable\" is {enable} in {}. No process uses it{outlook}", config.display()));
            return Ok(());
        }
        let is_late = |live: &Live| (live.state == State::Idle) == on;
        // One in trouble says why.
        let may_follow = |live: &Live| is_late(live) && !(on && live.facts.trouble.is_some());
        self.wait_until(|| !server.processes().iter().any(may_follow));
        let processes = server.processes();
        let late: Vec<_> = processes.iter().filter(|live| is_late(live)).map(name_with_trouble).collect();
        if !late.is_empty() {
            return Err(LiveError::NotFollowed {
                config: config.clone(),
                enable,
                wait: self.wait,
                who: late.join(", "),
            });
        }
        say(format_args!("collection is {}: {}", if on { "on" } else { "off" }, config.display()));
        if let Some(session) = processes.into_iter().find_map(|live| live.facts.session) {
            say(format_args!("session: {}", session.display()));
        }
        Ok(())
    }

    fn ask_for_dump(&self) -> Result<(), LiveError> {
        let server = self.server()?;
        let processes = server.processes();
        let config = server.config.clone();
        if processes.iter().all(|live| live.state == State::Idle) {
            return Err(if processes.is_empty() {
                LiveError::Unused(config)
            } else {
                LiveError::Off(config)
            });
        }
        let flying: Vec<_> = processes.into_iter().filter(|live| live.state == State::Flight).collect();
        let Some(session) = flying.iter().find_map(|live| live.facts.session.clone()) else {
            return Err(LiveError::NotInFlight(config));
        };
        let asked = Dumps::of(&session).ask();
        let folder = asked.map_err(|error| LiveError::Dump { path: session.clone(), error })?;
        let is_late = |live: &Live| !has_dump_of(&folder, live.pid);
        self.wait_until(|| !flying.iter().any(is_late));
        let late: Vec<_> = flying.iter().filter(|live| is_late(live)).map(name_with_trouble).collect();
        if !late.is_empty() {
            return Err(LiveError::NoAnswer { folder, wait: self.wait, who: late.join(", ") });
        }
        say(folder.display());
        Ok(())
    }

    /// Until it is so, or has taken too long.
    fn wait_until(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        while !condition() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server that is meant.
    fn server(&self) -> Result<Server, LiveError> {
        let live = Live::all();
        let Some(target) = &self.target else { return only_server(&live) };
        let path = std::path::absolute(target).unwrap_or_else(|_| target.into());
        let file = Identity::at(&path).ok();
        let is_meant = |live: &&Live| {
            let is_here = live.facts.mounts == files::mounts();
            live.pid.to_string() == *target
                || file.is_some() && live.facts.config_file == file
                || is_here && live.facts.config == path
                || is_here && live.facts.session.as_ref().is_some_and(|session| *session == path)
        };
        // Another container may have a process of the same number.
        let meant = live.iter().filter(is_meant).max_by_key(|live| live.facts.mounts == files::mounts());
        match meant {
            Some(live) if live.facts.config_file.is_some() && live.facts.config_file == file => {
                Ok(Server { config: path, file })
            }
            Some(live) => Server::of(live).ok_or_else(|| LiveError::Elsewhere(name_with_trouble(live))),
            // Of a server that does not run yet.
            None if path.is_file() => Ok(Server { config: path, file }),
            None => Err(LiveError::Unknown(target.clone())),
        }
    }
}

/// Processes that share a collection config.
struct Server {
    config: PathBuf,
    /// Which file that is.
    file: Option<Identity>,
}

impl Server {
    /// None: its config is not the file at that path here.
    fn of(live: &Live) -> Option<Self> {
        let (config, file) = (&live.facts.config, Identity::at(&live.facts.config).ok());
        let is_here =
            live.facts.mounts == files::mounts() || file.is_some() && file == live.facts.config_file;
        is_here.then(|| Self { config: config.clone(), file })
    }

    /// Those that run now.
    fn processes(&self) -> Vec<Live> {
        let is_of_it = |live: &Live| {
            self.file.is_some() && live.facts.config_file == self.file
                || live.facts.mounts == files::mounts() && live.facts.config == self.config
        };
        Live::all().into_iter().filter(is_of_it).collect()
    }
}

/// The only server whose config can be changed here.
fn only_server(live: &[Live]) -> Result<Server, LiveError> {
    let servers: BTreeMap<_, _> =
        live.iter().filter_map(Server::of).map(|server| (server.config.clone(), server)).collect();
    let paths: Vec<_> = servers.keys().map(|config| config.display().to_string()).collect();
    let mut servers = servers.into_values();
    match (servers.next(), servers.next(), live.first()) {
        (Some(only), None, _) => Ok(only),
        (Some(_), Some(_), _) => Err(LiveError::Several(paths.join(", "))),
        (None, _, Some(elsewhere)) => Err(LiveError::Elsewhere(name_with_trouble(elsewhere))),
        (None, _, None) => {
            left_out::tell(&[]);
            Err(LiveError::Nobody)
        }
    }
}

/// `process 4711 (EngineCore)`, and why it does nothing.
fn name_with_trouble(live: &Live) -> String {
    let trouble = live.facts.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
    format!("process {} ({}){trouble}", live.pid, live.facts.role)
}

fn has_dump_of(folder: &Path, pid: u32) -> bool {
    let of_it = |name: &str| {
        let stem = name.strip_suffix(".pftrace").map(|name| stem::split_part(name).0);
        stem.and_then(stem::pid) == Some(pid)
    };
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.into_iter().any(|entry| of_it(&entry.file_name().to_string_lossy()))
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
