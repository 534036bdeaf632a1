//! Interned text: names of spans, domains and attributes, each stored once for the life of the process.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use once_cell::sync::{Lazy, OnceCell};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// A text that is stored once; cheap to copy and compare. Only for texts of a small set (names in code and
/// configuration), never for data such as request ids: nothing is ever freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(u32);

/// What a span, instant or counter is: its domain (a Perfetto category) and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label(u32);

type Ids<T> = FxHashMap<T, u32>;

/// Texts are read without a lock (the flusher does so all the time), added under one. Not `parking_lot`'s: what that
/// keeps about waiting threads could be copied by a fork in the middle of a change.
struct Table<T: 'static> {
    items: boxcar::Vec<T>,
    ids: Mutex<Ids<T>>,
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn new() -> Self {
        Self { items: boxcar::Vec::new(), ids: Mutex::new(FxHashMap::default()) }
    }

    fn add<Q>(&self, key: &Q, make: impl FnOnce() -> T) -> u32
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ?Sized,
    {
        let mut ids = self.lock();
        if let Some(id) = ids.get(key) {
            return *id;
        }
        let item = make();
        let id = self.items.push(item.clone()) as u32;
        ids.insert(item, id);
        // Under the lock: nobody gets the name before the listener has heard of it.
        if let Some(listener) = LISTENER.get() {
            listener();
        }
        id
    }

    fn find<Q>(&self, key: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ?Sized,
    {
        self.lock().get(key).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Ids<T>> {
        // A panic can't leave the map half changed.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The locks, while this thread forks.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

type Held = (MutexGuard<'static, Ids<Arc<str>>>, MutexGuard<'static, Ids<(Name, Name)>>);

/// To be called before a fork: the child would never get a lock that another thread has then.
pub(crate) fn before_fork() {
    let held = (NAMES.lock(), LABELS.lock());
    // Fails while the thread ends: then the fork takes place without.
    let _ = HELD.try_with(|place| place.replace(Some(held)));
}

/// To be called after a fork, in the parent and in the child.
pub(crate) fn after_fork() {
    let _ = HELD.try_with(|place| drop(place.take()));
}

static LISTENER: OnceCell<fn()> = OnceCell::new();

/// Has `listener` called after each name or label that is added, before anything can be recorded with it.
pub fn listen_to_names(listener: fn()) {
    // The first listener stays; there is one recorder in a process.
    let _ = LISTENER.set(listener);
}

static NAMES: Lazy<Table<Arc<str>>> = Lazy::new(Table::new);
static LABELS: Lazy<Table<(Name, Name)>> = Lazy::new(Table::new);

impl Name {
    /// The name of `text`, adding it if it is new.
    pub fn new(text: &str) -> Self {
        Self(NAMES.add(text, || Arc::from(text)))
    }

    /// The name of `text`, if there is one already.
    pub fn find(text: &str) -> Option<Self> {
        NAMES.find(text).map(Self)
    }

    /// The text.
    pub fn as_str(self) -> &'static str {
        NAMES.items.get(self.0 as usize).map_or("", |text| text)
    }

    /// Position in the table of names; what a ring record holds.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The name at a position, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        NAMES.items.get(index as usize).map(|_| Self(index))
    }
}

impl Label {
    /// The label of `name` in `domain`, adding it if it is new.
    pub fn new(domain: &str, name: &str) -> Self {
        let pair = (Name::new(domain), Name::new(name));
        Self(LABELS.add(&pair, || pair))
    }

    /// The label of `name` in `domain`, if there is one already.
    pub fn find(domain: &str, name: &str) -> Option<Self> {
        LABELS.find(&(Name::find(domain)?, Name::find(name)?)).map(Self)
    }

    /// The domain, empty for a label that is not in the table.
    pub fn domain(self) -> Name {
        self.pair().0
    }

    /// The name, empty for a label that is not in the table.
    pub fn name(self) -> Name {
        self.pair().1
    }

    fn pair(self) -> (Name, Name) {
        LABELS.items.get(self.0 as usize).copied().unwrap_or((Name(u32::MAX), Name(u32::MAX)))
    }

    /// Position in the table of labels; what a ring record holds.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The label at a position, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        LABELS.items.get(index as usize).map(|_| Self(index))
    }
}

/// All labels that exist, from position `start` on: what a session writes beside its rings, so that a ring
/// can be read after its process has died.
pub fn labels_from(start: u32) -> impl Iterator<Item = (u32, &'static str, &'static str)> {
    LABELS
        .items
        .iter()
        .skip(start as usize)
        .map(|(index, (domain, name))| (index as u32, domain.as_str(), name.as_str()))
}

/// All names that exist, from position `start` on.
pub fn names_from(start: u32) -> impl Iterator<Item = (u32, &'static str)> {
    NAMES.items.iter().skip(start as usize).map(|(index, text)| (index as u32, &**text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_name_and_different_texts_are_not() {
        assert_eq!(Name::new("rid"), Name::new("rid"));
        assert_ne!(Name::new("rid"), Name::new("iter"));
        assert_eq!(Name::new("rid").as_str(), "rid");
        assert_eq!(Name::from_index(Name::new("rid").index()), Some(Name::new("rid")));
    }

    #[test]
    fn a_label_knows_its_domain_and_its_name() {
        let label = Label::new("Execute", "forward");
        assert_eq!((label.domain().as_str(), label.name().as_str()), ("Execute", "forward"));
        assert_eq!(label, Label::new("Execute", "forward"));
        assert_ne!(label, Label::new("Schedule", "forward"));
    }

    #[test]
    fn to_look_for_a_label_adds_none() {
        let label = Label::new("found", "by its texts");
        assert_eq!(Label::find("found", "by its texts"), Some(label));
        assert_eq!(Label::find("found", "nowhere"), None);
        assert_eq!(Name::find("nowhere"), None);
    }

    #[test]
    fn names_can_be_added_from_many_threads() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let text = format!("many {n}");
                        assert_eq!(Name::new(&text).as_str(), text);
                    }
                });
            }
        });
    }
}
