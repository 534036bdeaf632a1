//! Ctrl-C, a closed terminal, or another end while outputs are written: what is not whole goes away, and the program
//! ends at once, by the signal.

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::files::remove_scratch;

/// As shells tell that a program was ended by a signal.
const ENDED_BY_SIGNAL: i32 = 128;

/// From now on these signals end the program after what is not whole is removed. One that is ignored, as `nohup` has it,
/// stays so.
pub(super) fn clean_up_on_signals() {
    let ignored = ignored();
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter();
    let mut signals = match Signals::new(signals.filter(|signal| ignored >> (signal - 1) & 1 == 0)) {
        Ok(signals) => signals,
        Err(error) => {
            log::warn!("Ctrl-C may leave a folder {}* behind: {error}", crate::files::SCRATCH_PREFIX);
            return;
        }
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            remove_scratch();
            // The first process of a container can't be killed by a signal of its own.
            if std::process::id() != 1 {
                let _ = emulate_default_handler(signal); // which fails for unknown signals only
            }
            std::process::exit(ENDED_BY_SIGNAL + signal);
        }
    });
}

/// A bit for each signal that this process ignores.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
