//! Looking at encoded attributes without taking them apart: keys and values as borrowed views. Used by everything
//! that reads records.

use std::fmt;

use super::{AttributeReader, Key, Name, Token};

/// A value, borrowed from its record.
#[derive(Clone, Debug)]
pub enum View<'a> {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text.
    Str(&'a str),
    /// A list.
    Array(Items<'a>),
    /// A mapping.
    Dict(Entries<'a>),
}

/// The values of a list.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    left: usize,
    reader: AttributeReader<'a>,
}

/// The keys and values of a mapping, or of a whole record.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    left: usize,
    reader: AttributeReader<'a>,
}

impl<'a> View<'a> {
    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&'a str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The integer, if this is an integer, a truth value, a whole double, or a text that spells an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            Self::Double(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(*x as i64),
            Self::Str(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The number as a double, if this is a number or a text that spells one.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Self::Double(x) => Some(*x),
            Self::Str(text) => text.trim().parse().ok(),
            _ => self.as_int().map(|n| n as f64),
        }
    }

    fn read(reader: &mut AttributeReader<'a>) -> Option<Self> {
        Some(match reader.token().ok()? {
            Token::Bool(b) => Self::Bool(b),
            Token::Int(n) => Self::Int(n),
            Token::Double(x) => Self::Double(x),
            Token::Str(text) => Self::Str(text),
            Token::Array(left) => {
                let items = Items { left, reader: reader.clone() };
                skip(reader, left, false)?;
                Self::Array(items)
            }
            Token::Dict(left) => {
                let entries = Entries { left, reader: reader.clone() };
                skip(reader, left, true)?;
                Self::Dict(entries)
            }
        })
    }
}

/// As Python shows it; texts bare at the outermost, quoted within containers.
impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn inner(view: View<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if let View::Str(text) = view { write!(f, "'{text}'") } else { write!(f, "{view}") }
        }
        match self {
            Self::Bool(b) => f.write_str(if *b { "True" } else { "False" }),
            Self::Int(n) => write!(f, "{n}"),
            Self::Double(x) => write!(f, "{x:?}"),
            Self::Str(text) => f.write_str(text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (position, item) in items.clone().enumerate() {
                    f.write_str(if position > 0 { ", " } else { "" })?;
                    inner(item, f)?;
                }
                f.write_str("]")
            }
            Self::Dict(entries) => {
                f.write_str("{")?;
                for (position, (key, item)) in entries.clone().enumerate() {
                    write!(f, "{}'{key}': ", if position > 0 { ", " } else { "" })?;
                    inner(item, f)?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Items<'_> {
    /// How many values are left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        self.left = self.left.checked_sub(1)?;
        View::read(&mut self.reader)
    }
}

impl<'a> Entries<'a> {
    /// The keys and values of encoded attributes.
    pub fn of(attributes: &'a [u8]) -> Self {
        // They go on to the end of the bytes; no count is written.
        Self { left: usize::MAX, reader: AttributeReader::new(attributes) }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, View<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.reader.is_done() {
            return None;
        }
        let key = match self.reader.key().ok()? {
            Key::Name(index) => Name::from_index(index)?.as_str(),
            Key::Text(text) => text,
        };
        Some((key, View::read(&mut self.reader)?))
    }
}

/// Passes over the items of a container and of those within it. No recursion, so that no nesting is too deep.
fn skip(reader: &mut AttributeReader<'_>, items: usize, keyed: bool) -> Option<()> {
    let mut open = vec![(items, keyed)];
    while let Some((left, keyed)) = open.last_mut() {
        let Some(rest) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = rest;
        if *keyed {
            reader.skip_key().ok()?;
        }
        open.extend(reader.skip_token().ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Attributes, Value};

    fn sample() -> Attributes {
        let mut attributes = Attributes::default();
        let entry = |rid: &str, iter| {
            Value::Dict(vec![("rid".into(), Value::Str(rid.into())), ("iter".into(), Value::Int(iter))])
        };
        attributes.key(Name::new("rid"));
        attributes.value(&Value::Array(vec![entry("a", 0), entry("b", 3)]));
        attributes.key_text("QueueSize=").int(7);
        attributes
    }

    #[test]
    fn a_nested_list_is_walked_without_disturbing_what_follows() {
        let attributes = sample();
        let mut entries = Entries::of(attributes.as_bytes());
        let Some(("rid", View::Array(items))) = entries.next() else { panic!("no list") };
        assert_eq!(items.len(), 2);
        let iters: Vec<_> = items
            .filter_map(|item| match item {
                View::Dict(mut entries) => entries.find(|(k, _)| *k == "iter").and_then(|(_, v)| v.as_int()),
                _ => None,
            })
            .collect();
        assert_eq!(iters, [0, 3]);
        let (key, value) = entries.next().unwrap();
        assert_eq!((key, value.as_int()), ("QueueSize=", Some(7)));
        assert!(entries.next().is_none());
    }

    #[test]
    fn numbers_are_taken_from_whatever_spells_them() {
        for (value, int, double) in [
            (View::Int(4), Some(4), Some(4.0)),
            (View::Bool(true), Some(1), Some(1.0)),
            (View::Double(2.5), None, Some(2.5)),
            (View::Double(2.0), Some(2), Some(2.0)),
            (View::Str(" 12 "), Some(12), Some(12.0)),
            (View::Str("0.5"), None, Some(0.5)),
            (View::Str("none"), None, None),
        ] {
            assert_eq!((value.as_int(), value.as_double()), (int, double), "{value:?}");
        }
    }

    #[test]
    fn cut_attributes_end_the_walk() {
        let whole = sample();
        for length in 0..whole.as_bytes().len() {
            let entries = Entries::of(&whole.as_bytes()[..length]);
            assert!(entries.count() < 2, "cut to {length} bytes");
        }
    }
}
