//! What becomes of recorded events, and how much memory and disk they may take.

use std::time::Duration;

/// What becomes of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All are written to the capture's files as they come.
    Capture,
    /// The newest stay in memory, and are written when somebody asks for them.
    Flight {
        /// Older events are forgotten.
        keep: Duration,
        /// The signal at which they are written.
        dump_signal: Option<i32>,
    },
}

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The ring of a busy thread.
    pub ring: u64,
    /// All rings of a process.
    pub rings: u64,
    /// One part of a capture; then a new one is begun.
    pub file: u64,
    /// All captures of a session; then the oldest parts are removed.
    pub session: Option<u64>,
    /// Whether the packets are compressed.
    pub compress: bool,
}

impl Storage {
    /// Rings for 260,000 events between two visits of the flusher; parts that a browser still opens.
    pub const DEFAULT: Self =
        Self { ring: 4 << 20, rings: 256 << 20, file: 1024 << 20, session: None, compress: false };
}
