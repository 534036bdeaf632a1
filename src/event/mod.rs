//! The vocabulary that both wings speak: typed values, interned names, and the records made of them.

mod value;

pub use value::Value;
