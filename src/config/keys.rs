//! Which keys of a JSON object are there twice: what reads it into a map keeps the last and says nothing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The keys that the object has more than once, in their order; none if the text is no object.
pub(super) fn twice(text: &str) -> Vec<String> {
    serde_json::from_str::<Twice>(text).map(|Twice(keys)| keys).unwrap_or_default()
}

struct Twice(Vec<String>);

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Twice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Twice, A::Error> {
        let (mut known, mut twice) = (rustc_hash::FxHashSet::default(), Vec::new());
        while let Some((key, IgnoredAny)) = entries.next_entry::<String, _>()? {
            if !known.insert(key.clone()) && !twice.contains(&key) {
                twice.push(key);
            }
        }
        Ok(Twice(twice))
    }
}
