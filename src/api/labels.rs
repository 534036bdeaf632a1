//! Labels by the Python texts that name them. Names in code are the same object at every call, so that a label is
//! found by an address.

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustc_hash::FxHashMap;

use crate::config::Level;
use crate::event::Label;
use crate::hook::utf8;
use crate::recorder::Gate;

/// Names that are made up at run time must not fill the memory: those beyond share a label.
const MOST_LABELS: usize = 4096;

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
    let text = if labels.by_text.len() < MOST_LABELS { &*name_text } else { "other" };
    let label = Label::new(&domain_text, text);
    let gate = if let Some(gate) = labels.by_text.get(&(label, level)) {
        gate
    } else {
        let gate = Gate::new(Level::new(level), &domain_text);
        labels.by_text.insert((label, level), gate);
        gate
    };
    let known = Known { label, gate };
    if labels.by_address.len() < MOST_LABELS {
        let texts = (domain.clone().unbind(), name.clone().unbind());
        labels.by_address.insert(key, Entry { known, _texts: texts });
    }
    known
}
