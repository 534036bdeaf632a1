//! Runs a part of a test in a process of its own, and reads what that has recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use msprof_rs::clock::Ticks;
use msprof_rs::event::{Attributes, Kind, Label, Name};
use msprof_rs::recorder::{self, Options};
use msprof_rs::source::Captures;

const FOLDER: &str = "MSPROF_TEST_FOLDER";

/// A folder with a config file, shared by a test and its child.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// Runs `body` in a child, with a recorder that collects as `config` says, to its end. Gives the folder.
pub(crate) fn record(config: &str, body: impl FnOnce(&Folder)) -> Folder {
    let (folder, mut child) = start(config, body);
    let output = child.wait_with_output();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// As [`record`], while the test goes on.
pub(crate) fn start(config: &str, body: impl FnOnce(&Folder)) -> (Folder, Running) {
    start_behind(&[], config, body)
}

/// As [`start`], with the child's command behind these words.
pub(crate) fn start_behind(before: &[&str], config: &str, body: impl FnOnce(&Folder)) -> (Folder, Running) {
    if let Some(path) = std::env::var_os(FOLDER) {
        let folder = Folder::at(path);
        folder.activate();
        body(&folder);
        recorder::shutdown();
        std::process::exit(0);
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = Folder { path: temporary.path().to_owned(), _temporary: Some(temporary) };
    folder.configure(config);
    let child = one_more(before, &folder);
    (folder, child)
}

/// One more child of the calling test that shares the folder.
pub(crate) fn one_more(before: &[&str], folder: &Folder) -> Running {
    let mut command = this_test(before);
    command.env(FOLDER, &folder.path).stdout(std::process::Stdio::null());
    Running(Some(command.stderr(std::process::Stdio::piped()).spawn().unwrap()))
}

/// The command that runs the calling test in another process, behind these words.
pub(crate) fn this_test(before: &[&str]) -> Command {
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    assert_ne!(test, "main", "run by a harness that gives each test a thread of its name");
    let this = std::env::current_exe().unwrap();
    let mut words = before.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args([test, "--exact", "--nocapture"]);
    command
}

/// Words that have a command run with pids of its own, as in a container. It ends with them. None: only root can.
pub(crate) fn container() -> Option<&'static [&'static str]> {
    const WORDS: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let outcome = Command::new(WORDS[0]).args(&WORDS[1..]).arg("true").output();
    outcome.is_ok_and(|outcome| outcome.status.success()).then_some(WORDS)
}

/// A child; it does not outlive the test.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn kill(&mut self) {
        self.0.as_mut().unwrap().kill().unwrap();
    }

    /// After a kill: it has ended, and nobody has waited for it.
    pub(crate) fn wait_until_it_is_a_zombie(&self) {
        let pid = self.pid() as libc::id_t;
        // SAFETY: zeroes are such a structure, and it is only written to.
        let outcome = unsafe {
            let mut information = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &raw mut information, libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(outcome, 0);
    }

    pub(crate) fn wait_with_output(&mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Records a span of this name with its number.
pub(crate) fn span(name: &str, number: i64) {
    let label = Label::new("Test", name);
    let open = recorder::begin(label);
    let mut attributes = Attributes::default();
    attributes.key(Name::new("number")).int(number);
    if let Some(open) = open {
        recorder::end(open, label, Ticks::now(), attributes.as_bytes());
    }
}

impl Folder {
    /// One that another process keeps.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _temporary: None }
    }

    /// Replaces the config file, with the captures below this folder.
    pub(crate) fn configure(&self, config: &str) {
        let config = config.trim_start_matches('{');
        let text = format!(r#"{{"prof_dir": "{}", {config}"#, self.path.join("captures").display());
        let next = self.path.join("config.next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.path.join("config.json")).unwrap();
    }

    pub(crate) fn activate(&self) {
        let options = Options {
            config: self.path.join("config.json"),
            home: self.path.clone(),
            process_name: None,
            thread_name: || std::thread::current().name().map(str::to_owned),
            stamp: || "1122-2130".into(),
            before_start: || {},
            domains: None,
        };
        recorder::activate(options).unwrap();
    }

    /// Files of this ending in the session folders, sorted.
    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let sessions = std::fs::read_dir(self.path.join("captures")).into_iter().flatten().flatten();
        let files = sessions.flat_map(|session| std::fs::read_dir(session.path()).into_iter().flatten());
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.to_string_lossy().ends_with(ending));
        files.sort();
        files
    }

    pub(crate) fn read(&self) -> Recorded {
        Recorded::read(&self.path.join("captures"))
    }
}

/// What a capture has.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The numbers of finished spans, by name, in the order of their ends.
    pub(crate) numbers: BTreeMap<String, Vec<i64>>,
    /// Names of spans without an end.
    pub(crate) unfinished: Vec<String>,
    /// Events that were dropped, as the capture says.
    pub(crate) dropped: i64,
    /// Events of threads that got no ring, and those threads, as the capture says.
    pub(crate) ringless: (u64, u64),
    /// Records that went with files which were removed, as the capture says.
    pub(crate) vanished: u64,
    /// Parts that were removed, as the capture says.
    pub(crate) removed: i64,
    /// Events in them.
    pub(crate) removed_events: u64,
    pub(crate) threads: usize,
    /// Rings in private memory that went with the process.
    pub(crate) lost_rings: u64,
    /// Files that are damaged, or whose beginning or end is missing, and rings that are, or are not read.
    pub(crate) damaged: Vec<String>,
}

impl Recorded {
    pub(crate) fn read(path: &Path) -> Self {
        let captures = Captures::open(path).unwrap();
        let intake = captures.intake();
        let torn = intake.torn.iter().map(|torn| format!("{torn:?}"));
        let unbegun = intake.unbegun.iter().map(|unbegun| format!("{unbegun:?}"));
        let unread = intake.unread.iter().map(|unread| &unread.capture);
        let files = intake.unended.iter().chain(&intake.damaged_rings).chain(&intake.copies).chain(unread);
        let files = files.map(|file| file.display().to_string());
        let damaged = torn.chain(unbegun).chain(files).collect();
        let threads = captures.places().threads.len();
        let mut recorded = Self { threads, damaged, ..Self::default() };
        let mut records = captures.records();
        while let Some(record) = records.next() {
            let attribute = |key| record.get(key).and_then(|value| value.as_int());
            let name = record.label.name().as_str();
            match (record.label.domain().as_str(), record.kind) {
                ("Test", Kind::Span) => {
                    recorded.numbers.entry(name.into()).or_default().extend(attribute("number"));
                }
                ("Test", Kind::Unfinished) => recorded.unfinished.push(name.into()),
                _ => {}
            }
        }
        let tally = records.tally();
        recorded.ringless = (tally.ringless, tally.ringless_threads);
        (recorded.vanished, recorded.removed_events) = (tally.vanished, tally.removed_events);
        recorded.lost_rings = tally.lost_rings;
        (recorded.dropped, recorded.removed) = (tally.dropped as i64, tally.removed_parts as i64);
        recorded
    }

    /// The numbers of all spans, sorted.
    pub(crate) fn all(&self) -> Vec<i64> {
        let mut all: Vec<_> = self.numbers.values().flatten().copied().collect();
        all.sort_unstable();
        all
    }
}
