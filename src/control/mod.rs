//! What other programs may know and ask of a process that records, without disturbing it: a page of figures in shared
//! memory, and folders whose being there asks for a dump.

mod dumps;
mod page;

pub use dumps::Dumps;
pub use page::{Facts, Figures, Live, Page, State};
