//! Tells a signal for the whole process group, as Ctrl-C is one, from one for a single process.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Time for who sends a signal to all processes one by one, as systemd does, to get from us to the witness.
const ONE_BY_ONE: Duration = Duration::from_millis(20);

/// A process of our group that does nothing and takes no signal. What has reached it has reached the others of the group.
///
/// The system does not tell the receiver of a signal who else got it. It does show which signals wait for a process.
/// That is another program, so that one that is sent to processes called `msprof-rs` does not get to it. It ends with its
/// input, which is to say with us.
pub(super) struct Witness {
    process: Child,
    /// What has reached those before it, and was not told yet: a bit for each signal from 1 on.
    carried: u64,
}

impl Witness {
    /// Begins to watch. What the calling thread holds, the witness never takes.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: does nothing; that there is such a step has the mask of signals inherited.
        let command = unsafe { command.pre_exec(|| Ok(())) };
        Ok(Self { process: command.spawn()?, carried: 0 })
    }

    /// Whether a signal that has just come has come to the group; told once.
    pub(super) fn has_seen(&mut self, signal: i32) -> bool {
        let bit = 1 << (signal - 1);
        let holds = |witness: &Self| witness.pending() & bit != 0;
        let was_carried = self.carried & bit != 0;
        self.carried &= !bit;
        let is_held = holds(self)
            || !was_carried && {
                std::thread::sleep(ONE_BY_ONE);
                holds(self)
            };
        if is_held && let Ok(mut new) = Self::start() {
            // Signals come to us by their numbers: others that were sent before are still to come.
            new.carried = (self.carried | self.pending()) & !bit;
            *self = new;
        }
        is_held || was_carried
    }

    /// The signals that wait for it.
    fn pending(&self) -> u64 {
        fs::read_to_string(format!("/proc/{}/status", self.process.id())).map_or(0, |status| pending(&status))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // If it can't be waited for it is gone.
        let _ = self.process.wait();
    }
}

/// The signals that wait for a process, a bit for each from 1 on.
fn pending(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_signals_are_read_from_what_the_system_shows() {
        assert_eq!(pending("Name:\tcat\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\n"), 1 << 1);
        assert_eq!(pending("Name:\tcat\n"), 0);
    }
}
