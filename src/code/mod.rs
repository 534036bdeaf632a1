//! Python code as a text: what a module defines, found by reading its source. Nothing is imported, nothing runs.
//!
//! [`Packages`] finds what a symbol names, through imports and base classes, as Python would.

mod module;
mod packages;

pub use module::{Class, Function, Item, Kind, Module};
pub use packages::{Found, Missing, Packages};
