//! The vocabulary that both wings speak: typed values, interned names, attributes, and the records made of them.

mod attributes;
mod name;
pub mod names_log;
mod record;
pub mod request_id;
mod value;
mod view;

pub use attributes::{AttributeReader, Attributes, Damaged, Key, Token};
pub use name::{Label, Name, labels_from, listen_to_names, names_from};
pub(crate) use name::{after_fork, before_fork};
pub use record::{Kind, Places, Process, ProcessId, Record, Thread, ThreadId};
pub use value::Value;
pub use view::{Entries, Items, View};
