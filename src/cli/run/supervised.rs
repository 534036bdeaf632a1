//! A command that runs as if whoever started us had started it: signals reach it, each once; it ends with us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, c_int};
use rustix::process::set_parent_process_death_signal;
use rustix::process::{Pid, Signal, getpgid, getpgrp, getpid, getppid, kill_process};

use super::signals::{self, Held};
use super::witness::Witness;

/// What asks a program to end.
const ENDING: [c_int; 4] = [SIGINT, SIGTERM, SIGQUIT, SIGHUP];

/// What is handed on, and the news of a child's end.
const HELD: [c_int; 10] =
    [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT, SIGCHLD];

/// How often it is looked whether something has come to be that sends no signal.
const LOOK: Duration = Duration::from_millis(20);

/// A command that runs.
pub(super) struct Supervised {
    held: Held,
    child: Child,
    /// None: it can't be had, and then nobody knows who else got a signal.
    witness: Option<Witness>,
}

impl Supervised {
    /// Starts it. It stays in our process group, and with it in the shell's job and at the terminal.
    ///
    /// If we are killed it gets SIGTERM; unless it is a program that runs as another user, from which the kernel keeps that.
    ///
    /// # Errors
    /// It can't be run.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        signals::reset(SIGCHLD); // where it is ignored, the kernel keeps no exit status
        let held = Held::new(&HELD);
        let release = held.releaser();
        let parent = getpid();
        let before_exec = move || {
            // Python ignores it. Its own children get the default too.
            signals::reset(libc::SIGXFSZ);
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::NotFound.into()); // killed before the line above
            }
            release();
            Ok(())
        };
        // SAFETY: only makes system calls. The thread that starts the child waits for it: its end would count as ours.
        let child = unsafe { command.pre_exec(before_exec) }.spawn()?;
        // After the child: what came in between has not reached the witness, and it is better to have a signal twice than
        // never.
        Ok(Self { held, child, witness: Witness::start().ok() })
    }

    /// Waits for its end, and hands on what signals come meanwhile.
    ///
    /// # Errors
    /// It can't be waited for.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            match self.held.next(None) {
                None | Some(SIGCHLD) => {}
                Some(signal) => self.hand_on(signal),
            }
        }
    }

    /// Waits, when the command has ended, until something is so; not for ever, and only until a signal asks us to end.
    pub(super) fn wait_until(&self, condition: impl Fn() -> bool, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !condition() {
            match self.held.next(Some(LOOK)) {
                Some(SIGTSTP) => self.held.act(SIGTSTP),
                Some(signal) if ENDING.contains(&signal) => return,
                _ if Instant::now() > deadline => return,
                _ => {}
            }
        }
    }

    fn hand_on(&mut self, signal: c_int) {
        let pid = Pid::from_child(&self.child);
        let is_of_our_group = getpgid(Some(pid)).is_ok_and(|group| group == getpgrp());
        let has_it = is_of_our_group && self.witness.as_mut().is_some_and(|it| it.has_seen(signal));
        if !has_it && let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(pid, signal); // it has just ended, or it is another user's
        }
        if signal == SIGTSTP {
            self.held.act(SIGTSTP);
        }
    }
}
