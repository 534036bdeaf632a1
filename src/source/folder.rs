//! Finds what can be read below a folder, by the names of the files, and puts the parts of one process's capture
//! together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::SCRATCH_PREFIX;
use crate::stem;

/// What `parse` itself writes, perhaps into the session's folder: captures with more laid over them. It is read where
/// nothing else is left.
const OUTPUT: &str = "timeline.pftrace";

/// Ending of a capture file.
const ENDING: &str = ".pftrace";

/// The files of one capture, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureFiles {
    /// The first part's file name without ending (see [`stem`]).
    pub name: String,
    /// The first part, then `<name>.1.pftrace` and so on.
    pub parts: Vec<PathBuf>,
}

impl CaptureFiles {
    /// Whether they are what a flight recorder remembered at some time.
    pub(super) fn is_dump(&self) -> bool {
        let folder = self.parts.first().and_then(|part| part.parent()?.file_name());
        folder.is_some_and(|name| stem::is_dump(&name.to_string_lossy()))
    }
}

/// What lies in a session's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Our own captures.
    pub(super) captures: Vec<CaptureFiles>,
    /// What other tools wrote.
    pub(super) imports: Vec<(Form, PathBuf)>,
    /// Folders of an Ascend profiler (`PROF_*`) whose results have not been exported.
    pub(super) unexported: Vec<PathBuf>,
    /// Tables of operators that an Ascend profiler has exported.
    pub(super) operators: Vec<PathBuf>,
}

/// The forms that other tools' files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// `ms_service_*.db`
    ServiceDatabase,
    /// `ascend_service_profiler_*.db`
    Mspti,
    /// A timeline in Chrome's format.
    ChromeTrace,
}

/// All captures in `path`, which is a folder, searched with the folders in it, or one capture file. Links to folders
/// are not followed.
///
/// # Errors
/// `path` or a folder in it can't be read.
pub fn find(path: &Path) -> io::Result<Vec<CaptureFiles>> {
    search(path).map(|found| found.captures)
}

/// All that can be read in `path`.
///
/// # Errors
/// As [`find`].
pub(super) fn search(path: &Path) -> io::Result<Found> {
    let (mut files, mut timelines, mut found) = (Vec::new(), Vec::new(), Found::default());
    if path.metadata()?.is_file() {
        match form(path) {
            Some(form) => found.imports.push((form, path.to_owned())),
            // Whatever it is called: who names one file means it.
            None => files.push(path.to_owned()),
        }
    } else {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            let mut is_exported = false;
            for entry in folder.read_dir()? {
                let entry = entry?;
                let (is_folder, path) = (entry.file_type()?.is_dir(), entry.path());
                if is_folder && entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                    // A command is writing there.
                } else if is_folder {
                    is_exported |= entry.file_name() == "mindstudio_profiler_output";
                    folders.push(path);
                } else if let Some(form) = form(&path) {
                    found.imports.push((form, path));
                } else if is_operators(&path) {
                    found.operators.push(path);
                } else if entry.file_name() == OUTPUT {
                    timelines.push(path);
                } else if entry.file_name().to_string_lossy().ends_with(ENDING) {
                    files.push(path);
                }
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("PROF_") && !is_exported {
                found.unexported.push(folder);
            }
        }
    }
    if files.is_empty() && found.imports.is_empty() {
        files = timelines;
    }
    found.imports.sort();
    let mut captures: BTreeMap<(PathBuf, String), Vec<(u32, PathBuf)>> = BTreeMap::new();
    for file in files {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let (name, part) = name_and_part(&file);
        captures.entry((folder, name)).or_default().push((part, file));
    }
    let in_order = |((_, name), mut parts): (_, Vec<_>)| {
        parts.sort();
        CaptureFiles { name, parts: parts.into_iter().map(|(_, file)| file).collect() }
    };
    found.captures = captures.into_iter().map(in_order).collect();
    Ok(found)
}

/// Whether it is a table of operators below a folder `PROF_*`.
fn is_operators(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    (name.starts_with("op_summary_") || name.starts_with("op_statistic_"))
        && file.extension().is_some_and(|ending| ending == "csv")
        && file
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|folder| folder == "mindstudio_profiler_output")
}

/// The form of another tool's file, by its name and its folder's.
fn form(file: &Path) -> Option<Form> {
    let name = file.file_name()?.to_str()?;
    let above = |part: &str| {
        file.ancestors().skip(1).any(|f| f.file_name().is_some_and(|n| n.to_string_lossy().contains(part)))
    };
    let ending = file.extension()?.to_str()?;
    let is_json = ending == "json";
    if name.starts_with("ms_service_") && ending == "db" {
        Some(Form::ServiceDatabase)
    } else if name.starts_with("ascend_service_profiler_") && ending == "db" {
        Some(Form::Mspti)
    } else if name.ends_with(".pt.trace.json")
        || name.ends_with(".pt.trace.json.gz")
        || is_json && name.starts_with("server_events_")
        || is_json && name.starts_with("msprof_") && above("PROF_")
        || name == "trace_view.json" && above("_ascend_pt")
    {
        Some(Form::ChromeTrace)
    } else {
        None
    }
}

fn name_and_part(file: &Path) -> (String, u32) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let (name, part) = stem::split_part(name.strip_suffix(ENDING).unwrap_or(&name));
    (name.to_owned(), part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_the_order_of_their_numbers_and_folders_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("1122-0900");
        std::fs::create_dir(&inner).unwrap();
        for file in ["h-7.10.pftrace", "h-7.pftrace", "h-7.2.pftrace", "h-8.pftrace", "h-8.ring", "notes.txt"]
        {
            std::fs::write(inner.join(file), b"").unwrap();
        }
        let found = find(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|capture| capture.name.as_str()).collect();
        assert_eq!(names, ["h-7", "h-8"]);
        let parts = ["h-7.pftrace", "h-7.2.pftrace", "h-7.10.pftrace"].map(|file| inner.join(file));
        assert_eq!(found[0].parts, parts);
        assert_eq!(find(&inner.join("h-8.pftrace")).unwrap(), found[1..]);
    }

    #[test]
    fn other_tools_files_are_known_by_their_names() {
        for (file, expected) in [
            ("Trace_Service/ms_service_node-1.a-77.db", Some(Form::ServiceDatabase)),
            ("profiler.db", None),
            ("ms_service_node-77.db-wal", None),
            ("ascend_service_profiler_node-77.db", Some(Form::Mspti)),
            ("dp0.1700.pt.trace.json.gz", Some(Form::ChromeTrace)),
            ("chrome_tracing.json", None),
            ("x_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json", Some(Form::ChromeTrace)),
            ("trace_view.json", None),
            ("PROF_1/mindstudio_profiler_output/msprof_2024.json", Some(Form::ChromeTrace)),
            ("server_events_vllm-instance-1.json", Some(Form::ChromeTrace)),
            ("host-7.pftrace", None),
        ] {
            assert_eq!(form(Path::new(file)), expected, "{file}");
        }
    }
}
