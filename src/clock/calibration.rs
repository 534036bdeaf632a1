//! Ticks to nanoseconds, piecewise: between two anchors by their own slope, after the last by its slope.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Nanos, Ticks};

/// Nanoseconds per tick, as bits: what [`Calibration::publish`] said last.
static RATE: AtomicU64 = AtomicU64::new(1.0_f64.to_bits());

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The counter.
    pub ticks: Ticks,
    /// `CLOCK_BOOTTIME`.
    pub boot: Nanos,
}

impl Anchor {
    /// Reads both clocks; of a few tries, the one with the least time between the two tick readings around
    /// the kernel's clock, so that a preemption in between does no harm.
    pub fn now() -> Self {
        let attempt = || {
            let before = Ticks::now().0;
            let boot = super::boottime();
            let after = Ticks::now().0;
            (after.wrapping_sub(before), Self { ticks: Ticks(before + (after - before) / 2), boot })
        };
        let mut best = attempt();
        for _ in 0..4 {
            let next = attempt();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }
}

/// A line through the newest two anchors. Feed it an anchor before each batch of events: events between the
/// two are interpolated, those a little after the newest are extrapolated by nanoseconds.
#[derive(Clone, Debug)]
pub struct Calibration {
    base: Anchor,
    newest: Anchor,
    nanos_per_tick: f64,
}

/// Anchors closer than this would make the slope noisy: an anchor is exact to some 30 ns.
const LEAST_SPAN: u64 = 1_000_000;

impl Calibration {
    /// Starts from two anchors, at best a millisecond or more apart.
    pub fn new(base: Anchor, newest: Anchor) -> Self {
        let mut calibration = Self { base, newest, nanos_per_tick: 1.0 };
        calibration.fit();
        calibration
    }

    /// Continues from `anchor` on; one that comes too soon after the last is passed over.
    pub fn advance(&mut self, anchor: Anchor) {
        if anchor.boot.0 < self.newest.boot.0 + LEAST_SPAN || anchor.ticks <= self.newest.ticks {
            return;
        }
        self.base = self.newest;
        self.newest = anchor;
        self.fit();
    }

    fn fit(&mut self) {
        let ticks = self.newest.ticks.0.saturating_sub(self.base.ticks.0);
        if ticks > 0 {
            let nanos = self.newest.boot.0.saturating_sub(self.base.boot.0);
            self.nanos_per_tick = nanos as f64 / ticks as f64;
        }
    }

    /// The `CLOCK_BOOTTIME` of a reading.
    pub fn to_boot(&self, ticks: Ticks) -> Nanos {
        let offset = ticks.0.wrapping_sub(self.base.ticks.0) as i64 as f64 * self.nanos_per_tick;
        Nanos(self.base.boot.0.saturating_add_signed(offset.round() as i64))
    }

    /// Makes this the rate for [`duration`].
    pub fn publish(&self) {
        RATE.store(self.nanos_per_tick.to_bits(), Ordering::Relaxed);
    }

    /// The line that a ring's header states (see [`Calibration::line`]).
    pub fn from_line((nanos_per_tick, anchor): (f64, Anchor)) -> Self {
        Self { base: anchor, newest: anchor, nanos_per_tick }
    }

    /// Length of one tick in nanoseconds, and the anchor that conversions start from.
    pub fn line(&self) -> (f64, Anchor) {
        (self.nanos_per_tick, self.base)
    }
}

/// The time between two readings that lie so many ticks apart, by the rate of this process's running session.
pub fn duration(ticks: u64) -> Nanos {
    Nanos((ticks as f64 * f64::from_bits(RATE.load(Ordering::Relaxed))).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(ticks: u64, boot: u64) -> Anchor {
        Anchor { ticks: Ticks(ticks), boot: Nanos(boot) }
    }

    #[test]
    fn instants_between_two_anchors_are_interpolated() {
        let line = Calibration::new(anchor(1_000, 5_000_000), anchor(4_001_000, 7_000_000));
        assert_eq!(line.to_boot(Ticks(1_000)), Nanos(5_000_000));
        assert_eq!(line.to_boot(Ticks(2_001_000)), Nanos(6_000_000));
        assert_eq!(line.to_boot(Ticks(4_001_000)), Nanos(7_000_000));
    }

    #[test]
    fn an_instant_before_the_first_anchor_is_extrapolated_backwards() {
        let line = Calibration::new(anchor(10_000, 5_000_000), anchor(4_010_000, 7_000_000));
        assert_eq!(line.to_boot(Ticks(0)), Nanos(4_995_000));
    }

    #[test]
    fn a_drifting_counter_stays_within_a_microsecond_over_an_hour() {
        // A counter of 3 GHz whose rate wanders by 200 ppm; an anchor every 10 ms.
        let (mut ticks, mut boot) = (0_f64, 1e9);
        let mut line = Calibration::new(anchor(0, 1_000_000_000), anchor(30_000_000, 1_010_000_000));
        let mut worst = 0.0_f64;
        for step in 0..360_000_u32 {
            let rate = 3.0 * (1.0 + 200e-6 * f64::from(step % 60_000) / 60_000.0);
            ticks += 10_000_000.0 * rate;
            boot += 10_000_000.0;
            line.advance(anchor(ticks as u64, boot as u64));
            let halfway = Ticks((ticks - 5_000_000.0 * rate) as u64);
            worst = worst.max((line.to_boot(halfway).0 as f64 - (boot - 5_000_000.0)).abs());
        }
        assert!(worst < 1_000.0, "off by {worst} ns");
    }

    #[test]
    fn an_anchor_that_comes_too_soon_does_not_bend_the_line() {
        let mut line = Calibration::new(anchor(0, 0), anchor(4_000_000, 2_000_000));
        line.advance(anchor(4_000_100, 2_000_999));
        assert_eq!(line.to_boot(Ticks(2_000_000)), Nanos(1_000_000));
    }

    #[test]
    fn real_anchors_convert_the_present_to_the_present() {
        let first = Anchor::now();
        let second = loop {
            let anchor = Anchor::now();
            if anchor.boot.0 > first.boot.0 + 2_000_000 {
                break anchor;
            }
        };
        let line = Calibration::new(first, second);
        let converted = line.to_boot(Ticks::now());
        let now = crate::clock::boottime();
        assert!(now.0 >= converted.0.saturating_sub(10_000));
        assert!(now.0 - second.boot.0 < 1_000_000_000);
    }
}
