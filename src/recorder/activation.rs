//! The recorder of a process begins, ends, begins again in a forked child, and takes commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::Sender;
use thiserror::Error;

use super::flusher::{Command, Flusher};
use super::rendezvous::{self, Joined};
use super::{door, names_file, role, signals, thread};
use crate::clock::{Nanos, boottime};
use crate::config::{ConfigError, rewrite_enable};
use crate::event;
use crate::own_file;

/// How long a process that starts waits for a collection that is on already: so that nothing of it is missed.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// How long a process that ends waits for its last events to be written.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a caller waits for collection to begin or end.
const SWITCH_PATIENCE: Duration = Duration::from_secs(5);

/// How long a caller waits for a dump.
const DUMP_PATIENCE: Duration = Duration::from_secs(30);

/// A dump that nobody waits for comes at most once in this time: what made one slow makes others slow too.
const DUMP_PAUSE: Nanos = Nanos(10_000_000_000);

/// What a recorder needs to know about its process.
#[derive(Clone, Debug)]
pub struct Options {
    /// The collection config (a JSON file; made with defaults if missing).
    pub config: PathBuf,
    /// The user's home folder, for the default `prof_dir`.
    pub home: PathBuf,
    /// What this process is called, if that is better than its command line.
    pub process_name: Option<String>,
    /// The calling thread's name, if the program has given it one.
    pub thread_name: fn() -> Option<String>,
    /// The local time as `MMDD-HHMM`, which names a session's folder.
    pub stamp: fn() -> String,
    /// Called before each start of collection.
    pub before_start: fn(),
    /// The domains in which hooks may record, to tell which of the config's are none. A child leaves that to its parent.
    pub domains: Option<fn() -> Vec<String>>,
}

/// Why there is no dump.
#[derive(Debug, Error)]
pub enum DumpError {
    /// Nothing is kept in memory.
    #[error(
        "there is nothing to dump: all is in the capture; the collection config must have \"mode\": \"flight\""
    )]
    NotInFlight,
    /// Nothing is recorded.
    #[error("there is nothing to dump: collection is off; \"enable\" must be 1, and \"mode\" be \"flight\"")]
    Off,
    /// There is no recorder, or it is busy or gone.
    #[error("the recorder did not answer within {DUMP_PATIENCE:?}: is it active?")]
    NoAnswer,
    /// It could not be written.
    #[error("{path}: the dump could not be written: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// The running recorder.
struct Handle {
    options: Options,
    pid: u32,
    commands: Sender<Command>,
}

/// No lock, which a fork could find taken. Python's own lock keeps two threads from activating at once.
static HANDLE: ArcSwapOption<Handle> = ArcSwapOption::const_empty();
static FORK_HANDLER: AtomicBool = AtomicBool::new(false);
static NEXT_DUMP: AtomicU64 = AtomicU64::new(0);

/// Starts this process's recorder. A second call in the same process does nothing.
///
/// # Errors
/// The thread can't be made.
pub fn activate(options: Options) -> std::io::Result<()> {
    start(options, None)
}

fn start(options: Options, parents: Option<Arc<Joined>>) -> std::io::Result<()> {
    if HANDLE.load().as_ref().is_some_and(|handle| handle.pid == std::process::id()) {
        return Ok(());
    }
    if !FORK_HANDLER.swap(true, Ordering::Relaxed) {
        // SAFETY: the handlers touch atomics, the forking thread's own thread-locals, and locks that they hold together.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) };
    }
    signals::forget_reasons();
    let (sender, commands) = crossbeam_channel::unbounded();
    let flusher = Flusher::new(options.clone(), commands, parents);
    let (ready, wait) = crossbeam_channel::bounded(1);
    let is_on = flusher.is_to_start();
    own_file::prepare();
    let thread = std::thread::Builder::new().name("msprof-rs".into());
    signals::kept_away(|| thread.spawn(move || flusher.run(&ready)))?;
    // Where collection is off nothing is missed; on a loaded machine a new thread may not run for a while.
    if is_on && wait.recv_timeout(START_PATIENCE).is_err() {
        log::warn!(
            "the collection config has not been read within {START_PATIENCE:?}; the server goes on meanwhile"
        );
    }
    signals::watch();
    let pid = std::process::id();
    HANDLE.store(Some(Arc::new(Handle { options, pid, commands: sender })));
    Ok(())
}

/// Writes everything, closes the session and ends the recorder. Later events are not recorded.
pub fn shutdown() {
    let Some(handle) = HANDLE.swap(None) else { return };
    if handle.pid != std::process::id() {
        std::mem::forget(handle); // a fork's copy: what it holds belongs to the parent
        return;
    }
    signals::unwatch();
    let (done, wait) = crossbeam_channel::bounded(1);
    handle.command(Command::Shutdown(done));
    if wait.recv_timeout(SHUTDOWN_PATIENCE) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
        log::warn!(
            "the last events could not be written within {SHUTDOWN_PATIENCE:?}; the ring files have them"
        );
    }
}

/// To be called in a forked child: it gets a recorder, file and rings of its own.
///
/// # Errors
/// As [`activate`].
pub fn forked_child() -> std::io::Result<()> {
    door::forget_parents();
    names_file::forget_parents();
    role::forget();
    let Some(handle) = HANDLE.swap(None) else { return Ok(()) };
    let options = Options { domains: None, ..handle.options.clone() };
    std::mem::forget(handle);
    start(options, rendezvous::of_parent())
}

/// Switches collection on or off in the collection config, so for all processes that share it, and waits until this
/// one has followed: it records, or its capture is whole. Returns whether it has: a limit or an error may keep it from
/// that.
///
/// # Errors
/// The config can't be changed.
pub fn switch(on: bool) -> Result<bool, ConfigError> {
    let Some(handle) = HANDLE.load_full() else { return Ok(!on) };
    rewrite_enable(&handle.options.config, on)?;
    let deadline = Instant::now() + SWITCH_PATIENCE;
    while thread::is_recording() != on && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let has_followed = thread::is_recording() == on;
    if on || !has_followed {
        return Ok(has_followed);
    }
    // What was recorded until now may still be on its way to the file.
    let (done, wait) = crossbeam_channel::bounded(1);
    handle.command(Command::Answer(done));
    Ok(wait.recv_deadline(deadline).is_ok())
}

/// Has all flight recorders of this server write what they remember. Gives the folder once this process has written
/// its own.
///
/// # Errors
/// This process is no flight recorder, or its dump could not be written.
pub fn dump(reason: &str) -> Result<PathBuf, DumpError> {
    let handle = HANDLE.load_full().ok_or(DumpError::NoAnswer)?;
    let (done, wait) = crossbeam_channel::bounded(1);
    handle.command(Command::Dump { reason: reason.to_owned(), done: Some(done) });
    wait.recv_timeout(DUMP_PATIENCE).map_err(|_| DumpError::NoAnswer)?
}

/// As [`dump`], but nobody waits for it; at most one in ten seconds.
pub fn ask_for_dump(reason: impl FnOnce() -> String) {
    let now = boottime().0;
    let next = NEXT_DUMP.load(Ordering::Relaxed);
    let is_first =
        || NEXT_DUMP.compare_exchange(next, now + DUMP_PAUSE.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if now >= next
        && is_first()
        && let Some(handle) = &*HANDLE.load()
    {
        handle.command(Command::Dump { reason: reason(), done: None });
    }
}

extern "C" fn before_fork() {
    event::before_fork();
    own_file::before_fork();
}

extern "C" fn after_fork() {
    event::after_fork();
}

extern "C" fn after_fork_in_child() {
    event::after_fork();
    own_file::close_parents();
    thread::forget_parents();
    signals::unwatch();
}

impl Handle {
    fn command(&self, command: Command) {
        // Where the flusher has ended, the command's own channel tells whoever waits.
        let _ = self.commands.send(command);
        signals::wake();
    }
}
