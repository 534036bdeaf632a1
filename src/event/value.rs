//! The typed value of an attribute.

/// A value as it was in the server: it keeps its type on the way through ring, file and tables.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// Any integer that fits 64 bits; larger ones are recorded as text.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text.
    Str(Box<str>),
    /// A list or tuple.
    Array(Vec<Value>),
    /// A mapping with text keys, in its own order.
    Dict(Vec<(Box<str>, Value)>),
}

impl Value {
    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The integer, if this is an integer (or a truth value, as Python counts them).
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// The number as a double, if this is a number.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Self::Double(x) => Some(*x),
            _ => self.as_int().map(|n| n as f64),
        }
    }

    /// The items, if this is a list.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Dict(entries) => entries.iter().find(|(k, _)| **k == *key).map(|(_, v)| v),
            _ => None,
        }
    }
}
