//! Collection that begins and ends in the middle, in each process at times of its own.

use std::path::Path;

use msprof_rs::event::Value;

use crate::forms::Captures;
use crate::simulator::{Outcome, Plan, Recorder, simulate};

/// From when until when a process records, in unix nanoseconds.
pub type Times = (u64, u64);

/// Runs the server, and captures what each process records between its times.
pub fn record_between(plan: &Plan, times: Vec<Times>, folder: &Path) -> Outcome {
    let (captures, now) = (Captures::create(folder, plan.engines), vec![0; times.len()]);
    let mut window = Window { captures, times, now, open: Vec::new() };
    let outcome = simulate(plan, &mut window);
    window.captures.finish();
    outcome
}

struct Window {
    captures: Captures,
    times: Vec<Times>,
    /// The last time of each process: an event may bear an earlier one than that at which it is recorded.
    now: Vec<u64>,
    /// For each open span, whether its beginning is there.
    open: Vec<bool>,
}

impl Window {
    fn is_on(&mut self, process: usize, time: u64) -> bool {
        let now = &mut self.now[process];
        *now = time.max(*now);
        let (begin, end) = self.times[process];
        begin <= *now && *now < end
    }
}

impl Recorder for Window {
    fn begin(&mut self, process: usize, time: u64, domain: &'static str, name: &'static str) {
        let is_on = self.is_on(process, time);
        self.open.push(is_on);
        if is_on {
            self.captures.begin(process, time, domain, name);
        }
    }

    fn end(&mut self, process: usize, time: u64, attributes: &[(&'static str, Value)]) {
        let is_on = self.is_on(process, time);
        if self.open.pop().unwrap() && is_on {
            self.captures.end(process, time, attributes);
        }
    }

    fn instant(
        &mut self,
        process: usize,
        time: u64,
        domain: &'static str,
        name: &'static str,
        attributes: &[(&'static str, Value)],
    ) {
        if self.is_on(process, time) {
            self.captures.instant(process, time, domain, name, attributes);
        }
    }
}
