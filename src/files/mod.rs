//! How files are opened that somebody else may have made, or may make where ours are expected: without waiting,
//! without following links in places that others share, and with room on the disk before they are mapped. And how those
//! are made that a command writes: under which name, and where they lie until they are whole.
//!
//! What a recorder has made itself, `own_file` keeps open and opens again.

mod filesystem;
mod naming;
mod private;
mod regular;
mod scratch;

pub use filesystem::{has_room, keeps_its_blocks, mounts, reserve};
pub use naming::{Naming, file_name};
pub use private::{private_folder, private_folders_of};
pub use regular::{
    CONFIG_LIMIT, Refusal, SYMBOLS_LIMIT, TEXT_LIMIT, create_private, open_or_create_private, open_own,
    open_own_to_write, open_regular, open_regular_to_write, open_unlinked, owner, read_text, read_to_limit,
    user,
};
pub use scratch::{SCRATCH_PREFIX, Scratch, create_in_scratch, remove_scratch, undisturbed};
