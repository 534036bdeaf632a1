//! Where a command's outputs go, and which session they are of.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::ParseError;
use crate::export::delivery::{Delivery, Origin};
use crate::source::{Intake, Session};

/// Writes outputs: all of them come to the folder `target`, or none.
pub(super) fn deliver<T>(
    target: &Path,
    origin: &Origin<'_>,
    write: impl FnOnce(&Path) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    create_folder(target)?;
    let delivery = Delivery::begin(target)?;
    let written = write(delivery.folder()).map_err(|error| match error {
        ParseError::Output(error) => ParseError::Output(delivery.error(error)),
        other => other,
    })?;
    delivery.finish(origin)?;
    Ok(written)
}

/// Tells a session from others, and from itself at another time.
pub(super) fn identity(input: &Path, session: &Session) -> String {
    let path = input.canonicalize().unwrap_or_else(|_| input.to_owned());
    let Intake { files, bytes, recovered, .. } = session.intake();
    format!("{}: {files} files, {bytes} bytes, {recovered} events in rings", path.display())
}

fn create_folder(folder: &Path) -> Result<(), ParseError> {
    // Prompts may be in request ids and attributes: outputs are not for everybody.
    let created = DirBuilder::new().recursive(true).mode(0o750).create(folder);
    created.map_err(|error| ParseError::Folder { path: folder.to_owned(), error })
}
