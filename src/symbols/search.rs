//! Which symbol file is read: the user's, or the packs that come with this profiler.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Frameworks, Problem, Table};
use crate::config::{Stamp, create_file};
use crate::files;

/// Where the symbols come from.
///
/// `path` is what `PROFILING_SYMBOLS_PATH` says. A `.yaml` or `.yml` file there is read; one that is missing is made
/// from the built-in packs first, for the user to change. Anything else, or nothing, means the packs for what is
/// installed.
#[derive(Debug)]
pub struct SymbolFile {
    path: Option<PathBuf>,
    frameworks: Frameworks,
    read: Option<Stamp>,
}

impl SymbolFile {
    /// Reads the user's symbol table, and logs what is wrong with it. None: the packs take its place, which
    /// [`Frameworks::table`] reads.
    pub fn open(path: Option<PathBuf>, frameworks: Frameworks) -> (Self, Option<Table>) {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let stamp = || path.as_deref().and_then(Stamp::of);
        // Before it is read: what is written in between shows later. Or after it was made.
        let before = stamp();
        let (table, problems) = path.as_deref().map_or((None, Vec::new()), |path| find(path, &frameworks));
        log_all(&problems);
        let read = before.or_else(stamp);
        (Self { path, frameworks, read }, table)
    }

    /// Whether there is another file than the one that was read last.
    pub fn is_changed(&self) -> bool {
        self.path.as_deref().and_then(Stamp::of).is_some_and(|stamp| Some(stamp) != self.read)
    }

    /// Reads the file again. None if nothing in it can be used, which is logged: it may be half written.
    pub fn read_again(&mut self) -> Option<Table> {
        let path = self.path.as_deref()?;
        self.read = Some(Stamp::of(path)?);
        let file = path.display().to_string();
        let (table, problems) = match read(path, &self.frameworks) {
            Ok(text) => Table::parse(&text, &file),
            Err(message) => (Table::default(), vec![Problem { file: file.clone(), line: None, message }]),
        };
        log_all(&problems);
        if table.symbols.is_empty() && !problems.is_empty() {
            log::warn!("{file}: nothing in it can be used; the symbols stay as they are");
            return None;
        }
        Some(table)
    }
}

fn log_all(problems: &[Problem]) {
    for problem in problems {
        log::warn!("{problem}");
    }
}

/// No table where the user's file can't be had.
fn find(path: &Path, frameworks: &Frameworks) -> (Option<Table>, Vec<Problem>) {
    let file = path.display().to_string();
    match read(path, frameworks) {
        Ok(text) => {
            let (table, problems) = Table::parse(&text, &file);
            (Some(table), problems)
        }
        Err(message) => {
            let message = format!("{message}; the built-in symbols are used");
            (None, vec![Problem { file, line: None, message }])
        }
    }
}

/// The text of the user's file, made first if it is missing.
fn read(path: &Path, frameworks: &Frameworks) -> Result<String, String> {
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if !is_yaml {
        return Err("the name of a symbol file must end in .yaml or .yml".into());
    }
    if !path.exists() {
        if path.components().any(|part| part.as_os_str() == "~") {
            return Err("the file is missing, and there is no home folder that ~ could stand for".into());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let made = fs::create_dir_all(folder).and_then(|()| create_file(path, &frameworks.pack().1));
        made.map_err(|error| format!("the file is missing and can't be made: {error}"))?;
        log::info!("{}: made from the built-in symbols, for you to change", path.display());
    }
    files::read_text(path, files::SYMBOLS_LIMIT).map_err(|error| format!("the file can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &Path) -> (Option<Table>, Vec<Problem>) {
        super::find(path, &Frameworks::default())
    }

    #[test]
    fn without_a_file_the_packs_are_left_to_be_read_when_they_are_needed() {
        for path in [None, Some(PathBuf::new())] {
            let (file, table) = SymbolFile::open(path, Frameworks::default());
            assert_eq!(table, None);
            assert!(!file.is_changed());
        }
    }

    #[test]
    fn a_users_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["s.yaml", "s.yml"] {
            let path = folder.path().join(name);
            fs::write(&path, "- symbol: a:f\n").unwrap();
            let (table, problems) = find(&path);
            let table = table.unwrap();
            assert_eq!((table.symbols.len(), problems.len()), (1, 0));
            assert_eq!(table.file, path.display().to_string());
        }
    }

    #[test]
    fn a_missing_file_is_made_from_the_pack_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/s.yaml");
        let (table, problems) = find(&path);
        assert_eq!(problems, []);
        assert_eq!(table.unwrap().symbols, Frameworks::default().table().symbols);
        assert_eq!(fs::read_to_string(&path).unwrap(), Frameworks::default().pack().1);
    }

    #[test]
    fn a_file_that_can_not_be_had_gives_way_to_the_pack_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let is_file = folder.path().join("file");
        fs::write(&is_file, [0xff]).unwrap();
        let broken = folder.path().join("s.yaml");
        fs::write(&broken, [0xff]).unwrap();
        for (path, reason) in [
            (is_file.clone(), "must end in .yaml or .yml"),
            (is_file.join("s.yaml"), "can't be made"),
            (folder.path().join("~/s.yaml"), "no home folder"),
            (broken, "can't be read"),
        ] {
            let (table, problems) = find(&path);
            assert_eq!(table, None);
            let text = problems[0].to_string();
            assert!(text.starts_with(&path.display().to_string()) && text.contains(reason), "{text}");
            assert!(text.ends_with("the built-in symbols are used"), "{text}");
        }
        assert!(!folder.path().join("~").exists());
    }

    #[test]
    fn a_changed_file_is_noticed_and_one_that_makes_no_sense_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        fs::write(&path, "- symbol: a:f\n").unwrap();
        let (mut file, _) = SymbolFile::open(Some(path.clone()), Frameworks::default());
        assert!(!file.is_changed());
        fs::write(&path, "- symbol: a:f\n- symbol: a:g\n").unwrap();
        assert!(file.is_changed());
        assert_eq!(file.read_again().unwrap().symbols.len(), 2);
        assert!(!file.is_changed());
        fs::write(&path, "- symbol: 'a:\n").unwrap();
        assert!(file.is_changed() && file.read_again().is_none());
        fs::write(&path, "[]").unwrap();
        assert_eq!(file.read_again().unwrap().symbols, []);
        fs::remove_file(&path).unwrap();
        assert!(!file.is_changed() && file.read_again().is_none());
    }
}
