//! Whether a kind of event is collected: level and domain are decided once per start of collection, so that a
//! call pays for one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::config::{DomainFilter, Level};

/// The switch of all hooks of one level and domain. It lives as long as the process.
#[derive(Debug)]
pub struct Gate {
    open: AtomicBool,
    level: Level,
    domain: Box<str>,
}

/// What the running session collects.
#[derive(Debug)]
struct Rule {
    level: Level,
    domains: DomainFilter,
}

/// Walked by the flusher without a lock.
static GATES: Lazy<boxcar::Vec<&'static Gate>> = Lazy::new(boxcar::Vec::new);
/// The same, by what they are for.
static KNOWN: Lazy<Mutex<Known>> = Lazy::new(Mutex::default);

type Known = FxHashMap<(Level, Box<str>), &'static Gate>;
static RULE: ArcSwapOption<Rule> = ArcSwapOption::const_empty();

impl Gate {
    /// The gate of hooks whose events have this level and domain; open at once if a session collects them. Each
    /// level and domain that it is asked for stays in memory: they must be few.
    pub fn of(level: Level, domain: &str) -> &'static Self {
        KNOWN.lock().entry((level, domain.into())).or_insert_with(|| Self::new(level, domain))
    }

    fn new(level: Level, domain: &str) -> &'static Self {
        let gate: &'static Self =
            Box::leak(Box::new(Self { open: AtomicBool::new(false), level, domain: domain.into() }));
        // Known first, set second: a start that happens in between sees it in the list. One that happens while it is
        // set is seen by looking again.
        GATES.push(gate);
        loop {
            let rule = RULE.load_full();
            gate.set(rule.as_deref());
            if rule.as_ref().map(Arc::as_ptr) == RULE.load().as_ref().map(Arc::as_ptr) {
                return gate;
            }
        }
    }

    /// The gate of a hook that acts whether or not events are collected.
    pub fn always() -> &'static Self {
        static ALWAYS: Lazy<Gate> =
            Lazy::new(|| Gate { open: AtomicBool::new(true), level: Level::ERROR, domain: Box::default() });
        &ALWAYS
    }

    /// Whether the hook's events are collected now. A gate may stay open for an instant after a stop: what passes
    /// then finds no session and is not recorded.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn set(&self, rule: Option<&Rule>) {
        let open = rule.is_some_and(|rule| rule.level >= self.level && rule.domains.allows(&self.domain));
        self.open.store(open, Ordering::Relaxed);
    }
}

/// Whether events of this level are collected now, as far as their domain lets them.
pub fn collects(level: Level) -> bool {
    RULE.load().as_ref().is_some_and(|rule| rule.level >= level)
}

/// The domains that the running session is to collect and for which there is no gate: nothing has recorded in them.
pub(super) fn unmet_domains() -> Vec<String> {
    let rule = RULE.load();
    let names = rule.iter().flat_map(|rule| rule.domains.names());
    let is_unmet = |name: &&str| !GATES.iter().any(|(_, gate)| *gate.domain == **name);
    names.filter(is_unmet).map(str::to_owned).collect()
}

/// Opens the gates of what a session collects.
pub(super) fn open(level: Level, domains: DomainFilter) {
    set(Some(Arc::new(Rule { level, domains })));
}

/// Closes all gates.
pub(super) fn close() {
    set(None);
}

fn set(rule: Option<Arc<Rule>>) {
    RULE.store(rule);
    let rule = RULE.load();
    for (_, gate) in GATES.iter() {
        gate.set(rule.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_of_one_level_and_domain_share_a_gate() {
        let gate = Gate::of(Level::INFO, "shared");
        assert!(std::ptr::eq(gate, Gate::of(Level::INFO, "shared")));
        assert!(!std::ptr::eq(gate, Gate::of(Level::DETAILED, "shared")));
        assert!(!std::ptr::eq(gate, Gate::of(Level::INFO, "another")));
    }
}
