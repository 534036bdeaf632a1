//! The hot path's clock: the CPU's counter where it is invariant, else the kernel's boot-time clock.

use once_cell::race::OnceBool;
use thiserror::Error;

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
    if COUNTER.get_or_init(|| judge_counter().is_ok()) { Source::Counter } else { Source::Kernel }
}

/// Why the CPU's counter is not what [`Ticks::now`] reads.
#[derive(Debug, Error)]
#[cfg_attr(not(any(target_arch = "x86_64", test)), allow(dead_code))]
pub enum Distrust {
    /// Nothing is known about it.
    #[error("{path} can't be read ({error}), so nothing is known about the CPU's counter")]
    Unread {
        /// The file of the kernel's.
        path: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// It does not tick at one rate.
    #[error("/proc/cpuinfo does not say `constant_tsc nonstop_tsc` of the CPU's counter")]
    Varies,
    /// The kernel uses another clock.
    #[error("the kernel's own clock source is `{0}`")]
    OtherSource(String),
    /// There is none.
    #[error("this CPU has no counter that is known here")]
    None,
}

/// Why it is the kernel's clock that is read. None: it is the CPU's.
pub fn distrust() -> Option<Distrust> {
    match source() {
        Source::Counter => None,
        Source::Kernel => judge_counter().err(),
    }
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
fn judge_counter() -> Result<(), Distrust> {
    judge_tsc(read("/proc/cpuinfo")?, read(CLOCK_SOURCE)?)
}

#[cfg(any(target_arch = "x86_64", test))]
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

#[cfg(target_arch = "x86_64")]
fn read(path: &'static str) -> Result<String, Distrust> {
    std::fs::read_to_string(path).map_err(|error| Distrust::Unread { path, error })
}

/// What the kernel says of the TSC.
#[cfg(any(target_arch = "x86_64", test))]
fn judge_tsc(cpuinfo: String, clock_source: String) -> Result<(), Distrust> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag| flags.split_ascii_whitespace().any(|word| word == flag);
    if !(has("constant_tsc") && has("nonstop_tsc")) {
        return Err(Distrust::Varies);
    }
    match clock_source.trim() {
        "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" => Ok(()),
        other => Err(Distrust::OtherSource(other.into())),
    }
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
#[allow(clippy::unnecessary_wraps)] // as elsewhere
fn judge_counter() -> Result<(), Distrust> {
    Ok(()) // the architecture demands it of the generic timer
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn counter() -> u64 {
    super::boottime().0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn judge_counter() -> Result<(), Distrust> {
    Err(Distrust::None)
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

    #[test]
    fn the_counter_is_trusted_where_the_kernel_trusts_it_and_else_the_reason_is_known() {
        let judge = |flags: &str, source: &str| {
            judge_tsc(format!("processor: 0\nflags\t: {flags}\n"), format!("{source}\n"))
        };
        assert!(judge("fpu constant_tsc nonstop_tsc", "tsc").is_ok());
        assert!(judge("fpu constant_tsc nonstop_tsc", "kvm-clock").is_ok());
        let reason = |outcome: Result<(), Distrust>| outcome.err().unwrap().to_string();
        assert_eq!(
            reason(judge("constant_tsc nonstop_tsc", "hpet")),
            "the kernel's own clock source is `hpet`"
        );
        assert!(reason(judge("fpu constant_tsc", "tsc")).contains("nonstop_tsc"));
        assert!(reason(judge_tsc(String::new(), "tsc".into())).contains("/proc/cpuinfo"));
    }
}
