//! The hot path's clock: the CPU's counter where it is invariant, else the kernel's boot-time clock.

use once_cell::race::OnceBool;

/// A reading of [`source`]. Only differences have a meaning until a calibration converts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// What ticks are made of; written into every trace file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The CPU's own counter: `rdtsc` on x86-64, `cntvct_el0` on aarch64.
    Counter,
    /// `CLOCK_BOOTTIME` by system call or vDSO.
    Kernel,
}

impl Source {
    /// The word that stands in a trace file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "cpu counter",
            Self::Kernel => "kernel",
        }
    }
}

static COUNTER: OnceBool = OnceBool::new();

/// Which clock [`Ticks::now`] reads on this machine.
#[inline]
pub fn source() -> Source {
    if COUNTER.get_or_init(counter_is_invariant) { Source::Counter } else { Source::Kernel }
}

impl Ticks {
    /// Reads the clock.
    #[inline]
    pub fn now() -> Self {
        match source() {
            Source::Counter => Self(counter()),
            Source::Kernel => Self(super::boottime().0),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 CPU has `rdtsc`, and Linux allows it in user mode unless a process asks otherwise.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// An invariant TSC ticks at one rate on all cores and in all sleep states; the kernel checks that and says
/// so in its flags. A TSC that the kernel itself distrusts is not its clock source and is not ours.
#[cfg(target_arch = "x86_64")]
fn counter_is_invariant() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let Some(line) = flags.lines().find(|line| line.starts_with("flags")) else { return false };
    let has = |flag| line.split_ascii_whitespace().any(|word| word == flag);
    let current = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let trusted =
        current.is_ok_and(|name| matches!(name.trim(), "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page"));
    has("constant_tsc") && has("nonstop_tsc") && trusted
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads the virtual counter, which Linux makes readable in user mode on every aarch64 CPU.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

#[cfg(target_arch = "aarch64")]
fn counter_is_invariant() -> bool {
    true // the architecture demands it of the generic timer
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn counter() -> u64 {
    super::boottime().0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn counter_is_invariant() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_never_go_back_on_one_thread() {
        let mut last = Ticks::now();
        for _ in 0..10_000 {
            let now = Ticks::now();
            assert!(now >= last);
            last = now;
        }
    }
}
