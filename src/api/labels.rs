//! Labels by the Python texts that name them. Names in code are the same object at every call, so that a label is
//! found by an address.

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::Level;
use crate::event::{Label, Name};
use crate::hook::utf8;
use crate::recorder::Gate;

/// Names that are made up at run time must not fill the memory: those beyond share a label.
const MOST_LABELS: usize = 4096;

/// The same for domains, each of which has a switch that is set at every start of collection.
const MOST_DOMAINS: usize = 256;

/// The highest level that is told apart once there are too many names: more than any that has a name.
const MOST_LEVEL: u32 = 50;

/// What stands for names and domains beyond.
const OTHER: &str = "other";

/// A label and whether its events are collected.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) label: Label,
    pub(super) gate: &'static Gate,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    domain: usize,
    name: usize,
    level: u32,
}

struct Entry {
    known: Known,
    /// Held, so that their addresses stay theirs.
    _texts: (Py<PyString>, Py<PyString>),
}

#[derive(Default)]
struct Labels {
    by_address: FxHashMap<Key, Entry>,
    by_text: FxHashMap<(Label, u32), &'static Gate>,
    domains: FxHashSet<Name>,
    /// Whether it was said that there are too many.
    has_told: bool,
}

static LABELS: Lazy<Mutex<Labels>> = Lazy::new(Mutex::default);

/// The label of a name in a domain, at a level.
pub(super) fn label(domain: &Bound<'_, PyString>, name: &Bound<'_, PyString>, level: u32) -> Known {
    let key = Key { domain: domain.as_ptr() as usize, name: name.as_ptr() as usize, level };
    if let Some(entry) = LABELS.lock().by_address.get(&key) {
        return entry.known;
    }
    // Not under the lock: who makes the escapes may be Python code.
    let (domain_text, name_text) = (utf8(domain), utf8(name));
    let mut labels = LABELS.lock();
    let known = labels.by_text(&domain_text, &name_text, level);
    if labels.by_address.len() < MOST_LABELS {
        let texts = (domain.clone().unbind(), name.clone().unbind());
        labels.by_address.insert(key, Entry { known, _texts: texts });
    }
    known
}

impl Labels {
    fn by_text(&mut self, domain: &str, name: &str, level: u32) -> Known {
        if let Some(label) = Label::find(domain, name)
            && let Some(gate) = self.by_text.get(&(label, level))
        {
            return Known { label, gate };
        }
        let has_room = self.by_text.len() < MOST_LABELS;
        let is_known = Name::find(domain).is_some_and(|domain| self.domains.contains(&domain));
        let has_domain = is_known || self.domains.len() < MOST_DOMAINS;
        let is_bounded = !has_room || !has_domain;
        if is_bounded && !std::mem::replace(&mut self.has_told, true) {
            log::warn!(
                "more than {MOST_LABELS} names or {MOST_DOMAINS} domains of spans, events and counters: new ones are \
                 recorded as {OTHER:?} from here on; what is made up at run time ({domain:?}, {name:?}) belongs into \
                 an attribute"
            );
        }
        let label = Label::new(if has_domain { domain } else { OTHER }, if has_room { name } else { OTHER });
        // Levels can be made up as well.
        let level = if has_room { level } else { level.min(MOST_LEVEL).next_multiple_of(10) };
        self.domains.insert(label.domain());
        let gate = *self
            .by_text
            .entry((label, level))
            .or_insert_with(|| Gate::of(Level::new(level), label.domain().as_str()));
        Known { label, gate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_domains_and_levels_that_are_made_up_take_a_bounded_number_of_places() {
        let mut labels = Labels::default();
        let first = labels.by_text("bound 0", "bound 0", 20).label;
        for n in 0..20_000_u32 {
            labels.by_text(&format!("bound {n}"), &format!("bound {}", n % 7), 20 + n % 11);
            labels.by_text("bound 0", &format!("bound {n}"), n);
        }
        assert!(labels.domains.len() <= MOST_DOMAINS + 1, "{}", labels.domains.len());
        let most = MOST_LABELS + (MOST_DOMAINS + 1) * (MOST_LEVEL as usize / 10 + 1);
        assert!(labels.by_text.len() <= most, "{}", labels.by_text.len());
        assert!(Name::find("bound 19999").is_none());
        // What was there in time keeps its name, also under another text object.
        assert_eq!(labels.by_text("bound 0", "bound 0", 20).label, first);
        assert_eq!(labels.by_text("bound 19999", "bound 19999", 20).label, Label::new(OTHER, OTHER));
    }
}
