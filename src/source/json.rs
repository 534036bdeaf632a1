//! JSON of other tools as attributes, without a tree in between. Used by the importers.

use std::fmt;

use rustc_hash::FxHashSet;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::event::{Attributes, Name};

/// Keys of attributes are interned, unless a file has so many that they must be data.
const MOST_KEYS: usize = 10_000;

/// A longer key is data as well, in bytes.
const LONGEST_KEY: usize = 1_000;

/// The keys that have been interned.
#[derive(Debug, Default)]
pub(super) struct Keys(FxHashSet<Box<str>>);

impl Keys {
    pub(super) fn write(&mut self, key: &str, out: &mut Attributes) {
        if self.0.contains(key) {
            out.key(Name::new(key));
        } else if self.0.len() < MOST_KEYS && key.len() <= LONGEST_KEY {
            self.0.insert(key.into());
            out.key(Name::new(key));
        } else {
            out.key_text(key);
        }
    }
}

/// Appends one value; what has no counterpart (`null`) becomes the text `None`.
pub(super) struct Value<'a>(pub(super) &'a mut Attributes);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.bool(value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.int(value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.0.int(value),
            Err(_) => self.0.str(&value.to_string()),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.double(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.str(value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.str("None");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut count, mut inner) = (0, Attributes::default());
        while items.next_element_seed(Value(&mut inner))?.is_some() {
            count += 1;
        }
        self.0.array(count);
        self.0.encoded(inner.as_bytes());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (mut count, mut inner) = (0, Attributes::default());
        while let Some(key) = entries.next_key_seed(Text)? {
            inner.key_text(&key);
            entries.next_value_seed(Value(&mut inner))?;
            count += 1;
        }
        self.0.dict(count);
        self.0.encoded(inner.as_bytes());
        Ok(())
    }
}

/// Appends the entries of an object, as the attributes of a record; top-level `null` says nothing.
pub(super) struct Object<'a> {
    pub(super) out: &'a mut Attributes,
    pub(super) keys: &'a mut Keys,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut value = Attributes::default();
        while let Some(key) = entries.next_key_seed(Text)? {
            value.clear();
            let is_null = entries.next_value_seed(Nullable(&mut value))?;
            if !is_null {
                self.keys.write(&key, self.out);
                self.out.encoded(value.as_bytes());
            }
        }
        Ok(())
    }
}

/// A value, or nothing: tells whether it was nothing.
struct Nullable<'a>(&'a mut Attributes);

impl<'de> DeserializeSeed<'de> for Nullable<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nullable<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        Value(self.0).deserialize(deserializer).map(|()| false)
    }
}

/// A key, copied only if it has escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }
}

/// Appends the entries of the object that `text` spells; false, and nothing appended, if it spells none.
pub(super) fn object(text: &str, keys: &mut Keys, out: &mut Attributes) -> bool {
    let mark = out.mark();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let done = Object { out, keys }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if done.is_err() {
        out.truncate(mark);
    }
    done.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Entries, View};

    #[test]
    fn values_keep_their_types_and_nothing_is_left_of_what_is_no_object() {
        let (mut keys, mut out) = (Keys::default(), Attributes::default());
        let text = r#"{"a": 1, "n": null, "b": [2.5, {"r\u0069d": "x", "n": null}], "c": true, "d": 18446744073709551615}"#;
        assert!(object(text, &mut keys, &mut out));
        for broken in ["", "[]", "{\"a\": 1", "{\"a\": 1}}", "text"] {
            assert!(!object(broken, &mut keys, &mut out), "{broken}");
        }
        let shown: Vec<String> =
            Entries::of(out.as_bytes()).map(|(key, view)| format!("{key}={}", show(view))).collect();
        assert_eq!(shown, ["a=1", "b=[2.5 {rid:x n:None}]", "c=true", "d=18446744073709551615"]);
    }

    fn show(view: View<'_>) -> String {
        match view {
            View::Bool(b) => b.to_string(),
            View::Int(n) => n.to_string(),
            View::Double(x) => x.to_string(),
            View::Str(text) => text.to_owned(),
            View::Array(items) => format!("[{}]", items.map(show).collect::<Vec<_>>().join(" ")),
            View::Dict(entries) => {
                let shown: Vec<_> = entries.map(|(key, value)| format!("{key}:{}", show(value))).collect();
                format!("{{{}}}", shown.join(" "))
            }
        }
    }
}
