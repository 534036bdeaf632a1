//! The recorder's one native thread: it follows the config file, starts and stops sessions, and drains the rings.
//! It never takes Python's lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender};

use super::rendezvous::{Membership, Rendezvous};
use super::session::{self, Session};
use super::termination::{self, Waker, Woken};
use super::{gate, limits, thread};
use crate::config::{self, Collection, Watch};

/// How often the config file is looked at: the contract is 100 ms, half of which leaves room for a busy machine.
const CONFIG_PERIOD: Duration = Duration::from_millis(50);

/// Between two visits to the rings: short while much comes, long otherwise, since each visit takes a core from the
/// server for an instant. A thread that suddenly makes ten million events a second fills its ring in 26 ms.
const BUSY_PERIOD: Duration = Duration::from_millis(2);
const CALM_PERIOD: Duration = Duration::from_millis(25);

/// A visit that found more records than this is soon followed by another.
const BUSY_RECORDS: usize = 2_000;

/// How long a process that starts waits for a collection that is on already: so that nothing of it is missed.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// How long a process that ends waits for its last events to be written.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

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
}

/// The running recorder.
struct Handle {
    options: Options,
    pid: u32,
    waker: Arc<Waker>,
    shutdown: Sender<Sender<()>>,
}

/// No lock, which a fork could find taken. Python's own lock keeps two threads from activating at once.
static HANDLE: ArcSwapOption<Handle> = ArcSwapOption::const_empty();
static FORK_HANDLER: AtomicBool = AtomicBool::new(false);

/// Starts this process's recorder. A second call in the same process does nothing.
///
/// # Errors
/// The thread or its waker can't be made.
pub fn activate(options: Options) -> std::io::Result<()> {
    if HANDLE.load().as_ref().is_some_and(|handle| handle.pid == std::process::id()) {
        return Ok(());
    }
    if !FORK_HANDLER.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler touches only atomics and the forking thread's own thread-locals.
        unsafe { libc::pthread_atfork(None, None, Some(thread::after_fork_in_child)) };
    }
    let waker = Arc::new(Waker::new()?);
    let (shutdown, commands) = crossbeam_channel::unbounded();
    let flusher = Flusher::new(options.clone(), waker.clone(), commands);
    let (ready, wait) = crossbeam_channel::bounded(1);
    std::thread::Builder::new().name("msprof-rs".into()).spawn(move || flusher.run(&ready))?;
    if wait.recv_timeout(START_PATIENCE).is_err() {
        log::warn!(
            "the collection config has not been read within {START_PATIENCE:?}; the server goes on meanwhile"
        );
    }
    termination::watch(&waker);
    HANDLE.store(Some(Arc::new(Handle { options, pid: std::process::id(), waker, shutdown })));
    Ok(())
}

/// Writes everything, closes the session and ends the recorder. Later events are not recorded.
pub fn shutdown() {
    let Some(handle) = HANDLE.swap(None) else { return };
    if handle.pid != std::process::id() {
        std::mem::forget(handle); // a fork's copy: what it holds belongs to the parent
        return;
    }
    termination::unwatch();
    let (done, wait) = crossbeam_channel::bounded(1);
    if handle.shutdown.send(done).is_ok() {
        handle.waker.wake();
        if wait.recv_timeout(SHUTDOWN_PATIENCE) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            log::warn!(
                "the last events could not be written within {SHUTDOWN_PATIENCE:?}; the ring files have them"
            );
        }
    }
}

/// To be called in a forked child: it gets a recorder, file and rings of its own.
///
/// # Errors
/// As [`activate`].
pub fn forked_child() -> std::io::Result<()> {
    session::forget_parents();
    let Some(handle) = HANDLE.swap(None) else { return Ok(()) };
    let options = handle.options.clone();
    std::mem::forget(handle);
    activate(options)
}

/// The thread's own state.
struct Flusher {
    options: Options,
    waker: Arc<Waker>,
    commands: Receiver<Sender<()>>,
    watch: Watch,
    rendezvous: Rendezvous,
    running: Option<Running>,
}

struct Running {
    session: Session,
    membership: Membership,
    ends: Option<Instant>,
}

impl Flusher {
    fn new(options: Options, waker: Arc<Waker>, commands: Receiver<Sender<()>>) -> Self {
        let watch = Watch::new(&options.config, &options.home);
        let rendezvous = Rendezvous::new(&options.config);
        Self { options, waker, commands, watch, rendezvous, running: None }
    }

    /// The thread's life. Says when it has looked at the config for the first time.
    fn run(mut self, ready: &Sender<()>) {
        termination::block_signals();
        self.follow_config();
        // Nobody waits any more if this took too long.
        let _ = ready.send(());
        let mut next_look = Instant::now() + CONFIG_PERIOD;
        loop {
            if Instant::now() >= next_look {
                self.follow_config();
                next_look = Instant::now() + CONFIG_PERIOD;
            }
            let period = match self.drain() {
                Some(records) if records > BUSY_RECORDS => BUSY_PERIOD,
                Some(_) => CALM_PERIOD,
                None => CONFIG_PERIOD,
            };
            let woken = self.waker.sleep(period.min(next_look.saturating_duration_since(Instant::now())));
            if woken == Woken::Terminated {
                self.leave();
                termination::die();
                return;
            }
            if let Ok(done) = self.commands.try_recv() {
                self.leave();
                // The caller may have given up waiting.
                let _ = done.send(());
                return;
            }
        }
    }

    fn follow_config(&mut self) {
        if let Some(collection) = self.watch.poll().cloned() {
            match (collection.enable, self.running.is_some()) {
                (true, false) => self.start(&collection),
                (false, true) => self.conclude(),
                _ => {}
            }
        }
        let Some(running) = &self.running else { return };
        if self.rendezvous.has_newer(&running.membership) {
            let collection = self.watch.collection().clone();
            self.leave();
            self.start(&collection);
        } else if running.ends.is_some_and(|end| Instant::now() >= end) {
            log::info!("timelimit reached: collection stops");
            self.conclude();
            if let Err(error) = config::rewrite_disabled(&self.options.config) {
                log::error!("{error}");
            }
        }
    }

    fn start(&mut self, collection: &Collection) {
        (self.options.before_start)();
        let membership = match self.rendezvous.join(&collection.prof_dir, &(self.options.stamp)()) {
            Ok(membership) => membership,
            Err(error) => {
                let folder = collection.prof_dir.display();
                log::error!("collection does not start: no session folder in {folder}: {error}");
                return;
            }
        };
        match Session::start(&membership.folder, &self.options) {
            Ok(session) => {
                log::info!("collection started: {}", session.path().display());
                limits::set(collection.limits);
                gate::open(collection.level, collection.domains.clone());
                let ends = collection.timelimit.map(|limit| Instant::now() + limit);
                self.running = Some(Running { session, membership, ends });
            }
            Err(error) => log::error!("collection does not start: {error}"),
        }
    }

    /// The switch was turned off: for all processes of the server.
    fn conclude(&mut self) {
        if let Some(running) = &self.running
            && let Err(error) = self.rendezvous.conclude(&running.membership)
        {
            log::error!("the end of the session could not be noted: {error}");
        }
        self.leave();
    }

    /// Ends this process's part of the session.
    fn leave(&mut self) {
        let Some(running) = self.running.take() else { return };
        gate::close();
        let path = running.session.path().to_owned();
        match running.session.stop() {
            Ok(_) => log::info!("collection stopped: {}", path.display()),
            Err(error) => log::error!("{}: the last events could not be written: {error}", path.display()),
        }
    }

    fn drain(&mut self) -> Option<usize> {
        let running = self.running.as_mut()?;
        match running.session.drain() {
            Ok(records) => Some(records),
            Err(error) => {
                log::error!(
                    "{}: {error}; collection stops, the server goes on",
                    running.session.path().display()
                );
                self.leave();
                None
            }
        }
    }
}
