//! Messages of a command line run: to stderr, one line each. Where a logger is installed already, that one stays.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

use crate::printable::message;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            let text = record.args().to_string();
            // Where stderr is gone, nobody can be told.
            let _ = writeln!(std::io::stderr(), "msprof-rs: {level}: {}", message(&text));
        }
    }

    fn flush(&self) {}
}

/// Shows messages from `level` on.
pub(super) fn install(level: LevelFilter) {
    // An error says that there is a logger already.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}
