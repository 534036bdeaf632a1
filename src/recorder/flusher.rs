//! The recorder's one native thread: it follows the config file, starts and stops sessions, and looks after the rings.
//! It never takes Python's lock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::activation::{DumpError, Options};
use super::rendezvous::{Joined, Membership, Rendezvous};
use super::session::Session;
use super::signals::{self, Woken};
use super::trouble::Losses;
use super::{facts, gate, limits, role, steps};
use crate::clock;
use crate::config::{self, Collection, Mode, Watch};
use crate::control::{self, Dumps, Page, State};
use crate::files;
use crate::own_file::Identity;
use crate::printable::{quoted, shortened};

/// How often the config file is looked at: the contract is 100 ms; each look is all that an idle server pays.
const CONFIG_PERIOD: Duration = Duration::from_millis(80);

/// Between two visits to the rings: short while much comes, long otherwise, since each visit takes a core from the
/// server for an instant. A thread that suddenly makes ten million events a second fills its ring in 26 ms.
const BUSY_PERIOD: Duration = Duration::from_millis(2);
const CALM_PERIOD: Duration = Duration::from_millis(25);

/// A visit that found more records than this is soon followed by another.
const BUSY_RECORDS: u64 = 2_000;

/// How often it is made sure that the session's folder is there, and what the process is called.
const CHECK_PERIOD: Duration = Duration::from_millis(500);

/// Between two tries to start a collection that is on and could not be started.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How much less than the server's threads the flusher wants a core that both could use.
const NICENESS: i32 = 5;

/// What others have the flusher do.
pub(super) enum Command {
    /// Write everything, say so, and end.
    Shutdown(Sender<()>),
    /// Say that what came before is done.
    Answer(Sender<()>),
    /// Write what is remembered; answer with the folder.
    Dump { reason: String, done: Option<Sender<Result<PathBuf, DumpError>>> },
}

/// The thread's own state.
pub(super) struct Flusher {
    options: Options,
    commands: Receiver<Command>,
    watch: Watch,
    rendezvous: Rendezvous,
    running: Option<Running>,
    failed: Option<Failed>,
    page: Option<Page>,
    /// The domains that were told to be unknown.
    unknown_domains: Vec<String>,
    /// What was last stated there.
    stated: control::Facts,
    /// How often the role had changed then.
    role_changes: u64,
}

/// A collection that is on and could not be started.
struct Failed {
    next_try: Instant,
    reason: String,
}

struct Running {
    session: Session,
    membership: Membership,
    mode: Mode,
    ends: Option<Instant>,
    dumps: Dumps,
}

impl Flusher {
    /// A forked child goes on with its `parents` session.
    pub(super) fn new(options: Options, commands: Receiver<Command>, parents: Option<Arc<Joined>>) -> Self {
        let watch = Watch::new(&options.config, &options.home);
        let mut rendezvous = Rendezvous::new(&options.config);
        rendezvous.inherit(parents);
        Self {
            options,
            commands,
            watch,
            rendezvous,
            running: None,
            failed: None,
            page: None,
            unknown_domains: Vec::new(),
            stated: control::Facts::default(),
            role_changes: 0,
        }
    }

    /// Whether collection is on already.
    pub(super) fn is_to_start(&self) -> bool {
        self.watch.switches_on()
    }

    /// The thread's life. Says when it has looked at the config for the first time.
    pub(super) fn run(mut self, ready: &Sender<()>) {
        self.follow_config();
        self.rendezvous.inherit(None);
        // Nobody waits any more if this took too long.
        let _ = ready.send(());
        if let Err(error) = rustix::process::nice(NICENESS) {
            log::debug!("the flusher keeps its priority: {error}");
        }
        self.stated = self.facts();
        self.page = Page::create(&self.stated)
            .inspect_err(|error| log::warn!("msprof-rs status does not see this process: {error}"))
            .ok();
        self.state_figures();
        let mut next_look = Instant::now() + CONFIG_PERIOD;
        let mut next_check = Instant::now() + CHECK_PERIOD;
        loop {
            if Instant::now() >= next_look {
                self.hold_page();
                self.follow_config();
                self.follow_dumps();
                let is_time = Instant::now() >= next_check;
                if is_time {
                    next_check = Instant::now() + CHECK_PERIOD;
                    self.look_for_session();
                }
                if is_time
                    || self.role_changes != role::changes()
                    || self.trouble() != self.stated.trouble.as_deref()
                {
                    self.state_facts();
                }
                next_look = Instant::now() + CONFIG_PERIOD;
            }
            let period = match self.visit() {
                Some(records) if records > BUSY_RECORDS => BUSY_PERIOD,
                Some(_) => CALM_PERIOD,
                None => CONFIG_PERIOD,
            };
            match signals::sleep(period.min(next_look.saturating_duration_since(Instant::now()))) {
                Woken::Terminated => {
                    self.end();
                    signals::die();
                    return;
                }
                Woken::Dump => {
                    if let Err(error) = self.dump("a signal asked for it") {
                        log::error!("{error}");
                    }
                }
                Woken::Work => {}
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Shutdown(done) => {
                        self.end();
                        // The caller may have given up waiting.
                        let _ = done.send(());
                        return;
                    }
                    Command::Answer(done) => drop(done.send(())), // as above
                    Command::Dump { reason, done } => {
                        let outcome = self.dump(&reason);
                        match (done, outcome) {
                            (Some(done), outcome) => drop(done.send(outcome)), // as above
                            (None, Err(DumpError::NotInFlight | DumpError::Off) | Ok(_)) => {}
                            (None, Err(error)) => log::error!("{error}"),
                        }
                    }
                }
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
            if !collection.enable {
                self.failed = None;
            }
        }
        if self.failed.as_ref().is_some_and(|failed| Instant::now() >= failed.next_try) {
            let collection = self.watch.collection().clone();
            self.start(&collection);
        }
        let Some(running) = &mut self.running else { return };
        if let Err(error) = running.membership.hold() {
            log::debug!("other processes take the session for ended: {error}");
        }
        if self.rendezvous.has_newer(&mut running.membership) {
            if running.session.has_lost_file() {
                return self.go_on_elsewhere();
            }
            let collection = self.watch.collection().clone();
            self.leave();
            self.start(&collection);
        } else if running.ends.is_some_and(|end| Instant::now() >= end) {
            self.end_for_all("timelimit");
        } else if steps::is_over() {
            self.end_for_all("profiler_step_num");
        }
    }

    /// A limit was reached: the switch is turned off in the file, for all processes of the server.
    fn end_for_all(&mut self, limit: &str) {
        log::info!("{limit} reached: collection stops");
        self.conclude();
        if let Err(error) = config::rewrite_enable(&self.options.config, false) {
            log::error!("{error}");
        }
    }

    fn start(&mut self, collection: &Collection) {
        (self.options.before_start)();
        let membership = match self.rendezvous.join(&collection.prof_dir, &(self.options.stamp)()) {
            Ok(membership) => membership,
            Err(error) => {
                let folder = collection.prof_dir.display();
                return self.fail(format!("no session folder in {folder}: {error}"));
            }
        };
        steps::allow(collection.step_limit);
        let ends = collection.timelimit.map(|limit| Instant::now() + limit);
        self.begin(membership, collection, ends, Losses::default());
    }

    /// Collection is on and can't be started: another try is made in a while.
    fn fail(&mut self, reason: String) {
        if self.failed.as_ref().is_none_or(|failed| failed.reason != reason) {
            log::error!("collection does not start: {reason}; another try is made every second");
        }
        self.failed = Some(Failed { next_try: Instant::now() + RETRY_PERIOD, reason });
    }

    fn begin(
        &mut self,
        membership: Membership,
        collection: &Collection,
        ends: Option<Instant>,
        before: Losses,
    ) {
        match Session::start(membership.folder(), &self.options, collection.mode, collection.storage) {
            Ok(mut session) => {
                log::info!("collection started: {}", session.path().display());
                session.inherit(before);
                say_what_the_clock_costs();
                limits::set(collection.limits);
                gate::open(collection.level, collection.domains.clone());
                session.let_in(); // after the gates: who asks whether there is a recording can rely on it
                if let Mode::Flight { dump_signal: Some(signal), .. } = collection.mode {
                    signals::watch_for_dump(signal);
                }
                let dumps = Dumps::of(membership.folder());
                self.running = Some(Running { session, membership, mode: collection.mode, ends, dumps });
                self.failed = None;
                self.state_facts();
                self.state_figures();
            }
            Err(error) => {
                // If nobody else captures into it: the next try makes another.
                let _ = std::fs::remove_dir(membership.folder());
                self.fail(error.to_string());
            }
        }
    }

    /// A session whose folder was removed or moved goes on as a new one.
    fn look_for_session(&mut self) {
        if self.running.as_mut().is_some_and(|running| !running.session.look_for_file()) {
            self.go_on_elsewhere();
        }
    }

    /// Goes on in a new session, in which the former says what it has lost. Another process may have begun it.
    fn go_on_elsewhere(&mut self) {
        let Some(running) = &mut self.running else { return };
        let former = running.membership.folder().display().to_string();
        let collection = self.watch.collection().clone();
        let moved =
            self.rendezvous.join(&collection.prof_dir, &(self.options.stamp)()).and_then(|membership| {
                running.session.leave_file(Some(membership.folder())).map(|()| membership)
            });
        let membership = match moved {
            Ok(membership) => membership,
            Err(error) => {
                let error = io::Error::new(
                    error.kind(),
                    format!("the session's folder is gone, and there is no other: {error}"),
                );
                return running.session.stall(&error);
            }
        };
        log::error!("{former}: the session's folder was removed or moved away; a new session begins");
        let (ends, losses) = (running.ends, running.session.losses());
        // The former goes on until the new one has its threads: no event falls between the two.
        let former = self.running.take();
        self.begin(membership, &collection, ends, losses);
        if self.running.is_none() {
            gate::close();
        }
        let losses = former.and_then(|former| finish(former.session));
        if let (Some(running), Some(losses)) = (&mut self.running, losses) {
            running.session.inherit(losses); // with the ends that nobody can record any more
        }
        self.state_facts();
        self.state_figures();
    }

    /// The switch was turned off: for all processes of the server.
    fn conclude(&mut self) {
        if let Some(running) = &self.running
            && let Err(error) = running.membership.conclude()
        {
            log::error!("the end of the session could not be noted: {error}");
        }
        self.leave();
    }

    /// Ends this process's part of the session.
    fn leave(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.tell_unknown_domains();
        gate::close();
        finish(running.session);
        self.state_facts();
        self.state_figures();
    }

    /// A domain of the config that nothing here has recorded in, and no symbol could, may be a slip, which is told once.
    fn tell_unknown_domains(&mut self) {
        let Some(domains) = self.options.domains else { return };
        let mut unmet = gate::unmet_domains();
        if unmet.is_empty() {
            return;
        }
        let known = domains();
        unmet.retain(|domain| !known.contains(domain));
        if unmet.is_empty() || unmet == self.unknown_domains {
            return;
        }
        let (config, unknown) = (self.options.config.display(), quoted(&unmet.join(";")));
        let known = shortened(&known.join(", "));
        log::warn!("{config}: \"domain\": nothing was recorded in {unknown}; the symbols have: {known}");
        self.unknown_domains = unmet;
    }

    /// The process ends, and leaves nothing but its captures.
    fn end(&mut self) {
        self.leave();
        self.watch.conclude();
        self.page = None;
        if let Err(error) = self.rendezvous.tidy_up() {
            log::debug!("what processes share could not be removed: {error}");
        }
    }

    /// Looks after the rings. Gives the number of records that were taken from them.
    fn visit(&mut self) -> Option<u64> {
        let records = self.running.as_mut()?.session.visit();
        self.state_figures();
        Some(records)
    }

    /// Somebody wants a dump of this server: what this process remembers goes there too.
    fn follow_dumps(&mut self) {
        let Some(running) = self.running.as_mut() else { return };
        while let Some(folder) = running.dumps.asked() {
            if let Err(error) = write_dump(running, &folder, "asked for from outside") {
                log::error!("{error}");
            }
        }
    }

    /// Asks all processes of the server for a dump, and writes this one's.
    fn dump(&mut self, reason: &str) -> Result<PathBuf, DumpError> {
        let running = self.running.as_mut().ok_or(DumpError::Off)?;
        if !matches!(running.mode, Mode::Flight { .. }) {
            return Err(DumpError::NotInFlight);
        }
        let session = running.membership.folder().to_owned();
        running.dumps.ask().map_err(|error| DumpError::Io { path: session.clone(), error })?;
        let mut last = session;
        while let Some(folder) = running.dumps.asked() {
            write_dump(running, &folder, reason)?;
            last = folder;
        }
        Ok(last)
    }

    fn facts(&self) -> control::Facts {
        control::Facts {
            role: facts::process(self.options.process_name.as_deref()).name,
            config: std::path::absolute(&self.options.config).unwrap_or_else(|_| self.options.config.clone()),
            session: self.running.as_ref().map(|running| running.membership.folder().to_owned()),
            config_file: Identity::at(&self.options.config).ok(),
            mounts: files::mounts(),
            trouble: self.trouble().map(str::to_owned),
        }
    }

    /// Why nothing is recorded or written, though collection is on.
    fn trouble(&self) -> Option<&str> {
        let failed = self.failed.as_ref().map(|failed| failed.reason.as_str());
        failed.or_else(|| self.running.as_ref().and_then(|running| running.session.trouble()))
    }

    /// The program may have closed its descriptor.
    fn hold_page(&mut self) {
        if let Some(Err(error)) = self.page.as_mut().map(Page::hold) {
            log::debug!("the next process that starts removes this one's page: {error}");
        }
    }

    fn state_facts(&mut self) {
        self.role_changes = role::changes();
        let facts = self.facts();
        if let Some(page) = self.page.as_ref().filter(|_| facts != self.stated) {
            page.set_facts(&facts);
        }
        self.stated = facts;
    }

    fn state_figures(&self) {
        let Some(page) = &self.page else { return };
        let Some(Running { session, mode, .. }) = &self.running else {
            return page.set(State::Idle, control::Figures::default());
        };
        let state = if *mode == Mode::Capture { State::Recording } else { State::Flight };
        page.set(state, session.figures());
    }
}

/// Ends a session. Gives what it has lost, if all else was written.
fn finish(session: Session) -> Option<Losses> {
    let path = session.path().to_owned();
    let outcome = session.stop();
    match &outcome {
        Ok(_) => log::info!("collection stopped: {}", path.display()),
        Err(error) => log::error!("{}: the last events could not be written: {error}", path.display()),
    }
    outcome.ok()
}

fn write_dump(running: &mut Running, folder: &Path, reason: &str) -> Result<(), DumpError> {
    if running.mode == Mode::Capture {
        return Ok(()); // all of it is in the capture
    }
    let path = folder.join(running.session.path().file_name().unwrap_or_default());
    let dumped = running.session.dump(&path, reason);
    dumped.map_err(|error| DumpError::Io { path: path.clone(), error })?;
    log::info!("dumped ({reason}): {}", path.display());
    Ok(())
}

/// Says once where each event costs more than it need.
fn say_what_the_clock_costs() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Some(reason) = clock::distrust() {
            log::warn!(
                "the clock is the kernel's, which takes longer to read than the CPU's counter (a recorded call costs \
                 some three times as much): {reason}"
            );
        }
    });
}
