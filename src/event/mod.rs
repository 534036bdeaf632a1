//! The vocabulary that both wings speak: typed values, interned names, attributes, and the records made of them.

mod attributes;
mod name;
mod value;

pub use attributes::{AttributeReader, Attributes, Damaged, Key, Token};
pub use name::{Label, Name, labels_from, names_from};
pub use value::Value;
