//! How far a long step is: a bar on a terminal, a line every ten seconds in a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::ParseError;
use crate::event::Record;
use crate::source::{Session, Tally};

/// Ticks between two looks at the clock.
const TICKS: u64 = 1 << 14;

/// Time between two lines in a log.
const LINES_APART: Duration = Duration::from_secs(10);

/// Time between two movements of what only turns.
const SPIN: Duration = Duration::from_millis(100);

/// Tells how far a step is.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    length: u64,
    ticks: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// A step of this length.
    pub(super) fn new(what: &'static str, length: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length);
            let style =
                ProgressStyle::with_template("{prefix} {bar:40} {percent:>3} % · {per_sec} · {eta} left");
            match style {
                Ok(style) => bar.with_style(style).with_prefix(what),
                Err(_) => bar,
            }
        });
        Self { what, length, ticks: 0, bar, last_line: Instant::now() }
    }

    /// A step that is as long as it is: what is done in it goes side by side.
    pub(super) fn unmeasured(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(what);
            bar.enable_steady_tick(SPIN);
            bar
        });
        Self { what, length: 0, ticks: 0, bar, last_line: Instant::now() }
    }

    /// One more is done; `position` tells how far that is.
    pub(super) fn tick(&mut self, position: impl FnOnce() -> u64) {
        self.ticks += 1;
        if !self.ticks.is_multiple_of(TICKS) {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(position());
        } else if self.last_line.elapsed() >= LINES_APART {
            self.last_line = Instant::now();
            let percent = position() as f64 / self.length.max(1) as f64 * 100.0;
            log::info!("{}: {percent:.0} %", self.what);
        }
    }

    /// The step is done.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Gives each record of the session to `take`, and tells how far that is.
///
/// # Errors
/// The first of `take`.
pub(super) fn read(
    session: &Session,
    mut take: impl FnMut(&Record) -> Result<(), ParseError>,
) -> Result<Tally, ParseError> {
    let mut records = session.records();
    let mut progress = Progress::new("reading", session.length());
    while let Some(record) = records.next() {
        take(record)?;
        progress.tick(|| records.progress());
    }
    progress.finish();
    Ok(records.tally())
}
