//! What the command line knows of the Python that it was installed for.

use std::path::PathBuf;

/// A Python with this profiler in it.
pub struct Installation<'a> {
    /// Tells the folder that a top-level package is in, or none if it is not installed.
    pub locate: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// The serving frameworks that are there, with their versions.
    pub frameworks: Vec<(String, Option<String>)>,
    /// Whether it is told not to look into the current folder: `-P`, `-I`, `PYTHONSAFEPATH`.
    pub is_path_safe: bool,
    /// Whether functions are hooked in place, so that no alias is missed.
    pub hooks_in_place: bool,
    /// The folder of the Python package `msprof_rs`.
    pub package: PathBuf,
    /// The interpreter.
    pub executable: PathBuf,
}
