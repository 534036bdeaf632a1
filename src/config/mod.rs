//! The collection config: the JSON file by which a user switches collection on and says what is collected.
//!
//! [`Watch`] follows the file for the recorder; [`Collection`] is what one reading of it says.

mod collection;
mod create;
mod domain;
mod error;
mod hardware;
mod keys;
mod level;
mod limits;
mod stamp;
mod storage;
mod watch;
mod write;

pub use collection::Collection;
pub use create::{create_default, rewrite_enable};
pub use domain::DomainFilter;
pub use error::{ConfigError, Warning};
pub use level::Level;
pub use limits::Limits;
pub(crate) use stamp::Stamp;
pub use storage::{Mode, Storage};
pub use watch::Watch;
pub(crate) use write::{create_file, replace_file};
