//! Ctrl-C while outputs are written: what is not whole goes away, and the program ends at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::export::output::remove_partials;

/// As shells tell that a program was ended by a signal.
const ENDED_BY_SIGNAL: i32 = 128;

/// From now on SIGINT and SIGTERM end the program, after all files without a name of their own are removed.
pub(super) fn clean_up_on_signals() {
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            log::warn!("Ctrl-C may leave files *.partial behind: {error}");
            return;
        }
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            remove_partials();
            std::process::exit(ENDED_BY_SIGNAL + signal);
        }
    });
}
