//! What it says about itself, on standard error; how much, `PROF_LOG_LEVEL` tells.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use once_cell::sync::OnceCell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::stdio::stderr;

use crate::own_file::Identity;
use crate::printable::{message, quoted};

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("msprof_rs")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (pid, level, text) = (std::process::id(), record.level(), record.args().to_string());
            let line = format!("[msprof_rs] [PID:{pid}] [{level}] {}\n", message(&text));
            if is_stderr() {
                write(&line);
            }
        }
    }

    fn flush(&self) {}
}

/// Most bytes of a line. So many a pipe takes without waiting if it takes any.
const LONGEST: usize = rustix::pipe::PIPE_BUF;

/// Lines that nobody was there to take.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes a line unless that would wait: a pipe may be full that nobody reads. The next line says how many are missing.
fn write(line: &str) {
    let takes_more = || {
        let stderr = stderr();
        poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec::default()))
            .is_ok_and(|ready| ready > 0)
    };
    // Not through `eprintln`: its lock could be copied by a fork while the flusher writes a line.
    let try_to_write = |line: &str| takes_more() && rustix::io::write(stderr(), cut(line).as_bytes()).is_ok();
    let unwritten = UNWRITTEN.swap(0, Ordering::Relaxed);
    let is_told = unwritten == 0
        || try_to_write(&format!(
            "[msprof_rs] [PID:{}] [WARN] lines missing here, since nobody read them: {unwritten}\n",
            std::process::id()
        ));
    let missing = if is_told { 0 } else { unwritten } + u64::from(!(is_told && try_to_write(line)));
    if missing > 0 {
        UNWRITTEN.fetch_add(missing, Ordering::Relaxed);
    }
}

/// The line, or its beginning and the end of a line.
fn cut(line: &str) -> Cow<'_, str> {
    if line.len() <= LONGEST {
        return line.into();
    }
    let end = (0..=LONGEST - 4).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…\n", &line[..end]).into()
}

/// What descriptor 2 stood for when the first line could have come.
static FIRST: OnceCell<Option<Identity>> = OnceCell::new();

/// Whether descriptor 2 is standard error: what it was at first, or what the program has put there since. Its
/// children are meant to have that too. A file that only got the number because standard error was closed is closed
/// on exec, as all are that Python opens.
fn is_stderr() -> bool {
    let first = *FIRST.get_or_init(|| Identity::of(stderr()).ok());
    first.is_some() && Identity::of(stderr()).ok() == first
        || fcntl_getfd(stderr()).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

/// Once per process; a second call does nothing.
pub(super) fn init() {
    let given = std::env::var_os("PROF_LOG_LEVEL").unwrap_or_default();
    let given = given.to_string_lossy();
    let level = match given.trim().to_ascii_uppercase().as_str() {
        "DEBUG" => Some(LevelFilter::Debug),
        "INFO" | "" => Some(LevelFilter::Info),
        "WARNING" | "WARN" => Some(LevelFilter::Warn),
        "ERROR" | "FATAL" | "CRITICAL" => Some(LevelFilter::Error),
        "NONE" => Some(LevelFilter::Off),
        _ => None,
    };
    is_stderr(); // which notes what it is
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
        if level.is_none() {
            let given = quoted(&given);
            log::warn!("PROF_LOG_LEVEL: {given} is not DEBUG, INFO, WARNING, ERROR or NONE; INFO is used");
        }
    }
}
