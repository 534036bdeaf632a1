//! The capture file: a native Perfetto trace of TrackEvent packets. It opens in the Perfetto UI as it is, and files of
//! several processes join by `cat`. Packets come in blocks with checksums, so that damage costs what it hits, and is
//! found; `docs/trace-format.md` has the format.

mod annotations;
mod block;
mod blocks;
mod compress;
mod fields;
mod index;
mod interned;
mod left_open;
mod overlay;
mod packet;
mod part;
mod reader;
mod spans;
mod tracks;
mod walk;
mod writer;

pub use block::Stream;
pub use blocks::{Blocks, Elsewhere};
#[cfg(test)]
pub(crate) use compress::compressed;
pub use compress::unpack;
pub use index::{Damage, Index, SequenceIndex, Track, TrackKind};
pub use left_open::LeftOpen;
pub use overlay::{Overlay, OverlayTrack};
pub use packet::field;
pub use part::Part;
pub use reader::{Event, EventKind, OpenSpan, Resumed, SequenceReader};
pub use spans::{Lost, MOST_OPEN};
pub use tracks::{Process, Thread};
pub use writer::{Clocks, Sequence, Writer, sequence_id};

/// Semantic version of the capture's content (names of domains and attributes), in every file's `Meta` record.
pub const FORMAT_VERSION: &str = "1.2.0";

/// Domain of the records that say something about the process itself.
pub const META_DOMAIN: &str = "Meta";
