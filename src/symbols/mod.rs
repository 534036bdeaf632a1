//! The symbol table: which functions a user wants to see, read from a YAML file.
//!
//! [`SymbolFile`] finds and reads the file for the hook room, which installs each [`Symbol`] of the [`Table`].

mod frameworks;
mod handler;
mod pattern;
mod private;
mod search;
mod table;
mod target;
mod version;
mod yaml;

pub use frameworks::{Frameworks, PACKS, Pack};
pub use handler::{BuiltIn, HandlerRef};
pub use pattern::Pattern;
pub use private::mangled;
pub use search::SymbolFile;
pub use table::{Attribute, Problem, Symbol, Table, Until};
pub use target::Target;
pub use version::{Version, VersionError, VersionRange};
