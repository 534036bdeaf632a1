//! Has Ascend's `msprof` write the timelines of folders `PROF_*`, which it alone can read, where it is installed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Exports these folders, into themselves. True if one of them has been.
pub(super) fn export(folders: &[PathBuf]) -> bool {
    let mut is_any_exported = false;
    for folder in folders {
        match run(folder) {
            // The summary says what to do about it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return is_any_exported,
            Err(error) => log::warn!("{}: cannot be exported: {error}", folder.display()),
            Ok(()) => is_any_exported = true,
        }
    }
    is_any_exported
}

fn run(folder: &Path) -> io::Result<()> {
    let mut output = OsString::from("--output=");
    output.push(folder);
    let mut command = Command::new("msprof");
    command.arg("--export=on").arg(output);
    log::info!("{}: exporting with msprof", folder.display());
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!(
        "msprof: {}; {}",
        done.status,
        told.trim().lines().last().unwrap_or_default()
    )))
}
