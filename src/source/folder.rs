//! Finds the capture files below a folder and puts the parts of one process's capture together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Ending of a capture file.
const ENDING: &str = ".pftrace";

/// The files of one capture, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureFiles {
    /// The first part's file name without ending: `<host>-<pid>`.
    pub name: String,
    /// The first part, then `<name>.1.pftrace` and so on.
    pub parts: Vec<PathBuf>,
}

/// All captures in `path`, which is a folder, searched with the folders in it, or one capture file. Links to folders
/// are not followed.
///
/// # Errors
/// `path` or a folder in it can't be read.
pub fn find(path: &Path) -> io::Result<Vec<CaptureFiles>> {
    let mut files = Vec::new();
    if path.metadata()?.is_file() {
        files.push(path.to_owned());
    } else {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().ends_with(ENDING) {
                    files.push(entry.path());
                }
            }
        }
    }
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
    Ok(captures.into_iter().map(in_order).collect())
}

/// `node-1.local-77.2.pftrace` is part 2 of `node-1.local-77`.
fn name_and_part(file: &Path) -> (String, u32) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(ENDING).unwrap_or(&name);
    let ends_with_pid = |name: &str| {
        name.rsplit_once('-')
            .is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
    };
    match stem.rsplit_once('.') {
        Some((name, part)) if ends_with_pid(name) => match part.parse() {
            Ok(part) => (name.to_owned(), part),
            Err(_) => (stem.to_owned(), 0),
        },
        _ => (stem.to_owned(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_number_is_told_from_a_hosts_name() {
        for (file, name, part) in [
            ("host-12.pftrace", "host-12", 0),
            ("host-12.1.pftrace", "host-12", 1),
            ("host-12.10.pftrace", "host-12", 10),
            ("10.0.0.1-12.pftrace", "10.0.0.1-12", 0),
            ("10.0.0.1-12.3.pftrace", "10.0.0.1-12", 3),
            ("a.b-1.local-12.pftrace", "a.b-1.local-12", 0),
            ("joined.pftrace", "joined", 0),
            ("v1.2.pftrace", "v1.2", 0),
            ("host-12.old.pftrace", "host-12.old", 0),
        ] {
            assert_eq!(name_and_part(Path::new(file)), (name.to_owned(), part), "{file}");
        }
    }

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
}
