//! Time: cheap ticks for the hot path, and their conversion to `CLOCK_BOOTTIME` nanoseconds afterwards.
//!
//! The producer reads raw ticks (10 ns); the flusher turns them into nanoseconds with [`Calibration`], which
//! takes an anchor every few milliseconds, so that drift never adds up.

mod calibration;
mod ticks;
mod zone;

pub use calibration::{Anchor, Calibration, duration};
pub use ticks::{Distrust, Source, Ticks, distrust, source};
pub use zone::time_zone;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on some clock; which one, the field's doc says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nanos(pub u64);

/// The three clocks read at (nearly) the same instant; what a trace file's clock snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `CLOCK_BOOTTIME`, the clock of every event in a trace file.
    pub boot: Nanos,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Nanos,
    /// `CLOCK_REALTIME`, since 1970 UTC.
    pub real: Nanos,
}

impl Snapshot {
    /// Reads the three clocks.
    pub fn now() -> Self {
        Self {
            boot: read(ClockId::Boottime),
            monotonic: read(ClockId::Monotonic),
            real: read(ClockId::Realtime),
        }
    }
}

/// `CLOCK_BOOTTIME` now.
pub fn boottime() -> Nanos {
    read(ClockId::Boottime)
}

fn read(id: ClockId) -> Nanos {
    let time = clock_gettime(id);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
