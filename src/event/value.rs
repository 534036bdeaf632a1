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
