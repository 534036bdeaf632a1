//! Which symbol file is read: the user's, or the pack that comes with this profiler.

use std::fs;
use std::path::Path;

use super::{Problem, Table};
use crate::config::create_file;

/// The pack for vLLM, as it is in the Python package.
const PACK: &str = include_str!("../../python/msprof_rs/packs/vllm.yaml");
const PACK_NAME: &str = "built-in vllm.yaml";

/// Finds and reads the symbol table, and logs what is wrong with it.
///
/// `path` is what `PROFILING_SYMBOLS_PATH` says. A `.yaml` or `.yml` file there is read; one that is missing is made
/// from the built-in pack first, for the user to change. Anything else, or nothing, means the built-in pack.
pub fn load(path: Option<&Path>) -> Table {
    let (table, problems) = find(path);
    for problem in problems {
        log::warn!("{problem}");
    }
    table
}

fn find(path: Option<&Path>) -> (Table, Vec<Problem>) {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Table::parse(PACK, PACK_NAME);
    };
    let file = path.display().to_string();
    match read(path) {
        Ok(text) => Table::parse(&text, &file),
        Err(message) => {
            let (table, mut problems) = Table::parse(PACK, PACK_NAME);
            let message = format!("{message}; the built-in symbols are used");
            problems.insert(0, Problem { file, line: None, message });
            (table, problems)
        }
    }
}

/// The text of the user's file, made first if it is missing.
fn read(path: &Path) -> Result<String, String> {
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if !is_yaml {
        return Err("the name of a symbol file must end in .yaml or .yml".into());
    }
    if !path.exists() {
        let folder = path.parent().unwrap_or(Path::new(""));
        let made = fs::create_dir_all(folder).and_then(|()| create_file(path, PACK));
        made.map_err(|error| format!("the file is missing and can't be made: {error}"))?;
        log::info!("{}: made from the built-in symbols, for you to change", path.display());
    }
    fs::read_to_string(path).map_err(|error| format!("the file can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> Vec<super::super::Symbol> {
        Table::parse(PACK, PACK_NAME).0.symbols
    }

    #[test]
    fn the_built_in_pack_is_read_without_a_word() {
        for path in [None, Some(Path::new(""))] {
            let (table, problems) = find(path);
            assert_eq!(problems, []);
            assert_eq!(table.file, "built-in vllm.yaml");
            assert!(!table.symbols.is_empty());
        }
    }

    #[test]
    fn a_users_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["s.yaml", "s.yml"] {
            let path = folder.path().join(name);
            fs::write(&path, "- symbol: a:f\n").unwrap();
            let (table, problems) = find(Some(&path));
            assert_eq!((table.symbols.len(), problems.len()), (1, 0));
            assert_eq!(table.file, path.display().to_string());
        }
    }

    #[test]
    fn a_missing_file_is_made_from_the_pack_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/s.yaml");
        let (table, problems) = find(Some(&path));
        assert_eq!(problems, []);
        assert_eq!(table.symbols, built_in());
        assert_eq!(fs::read_to_string(&path).unwrap(), PACK);
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
            (broken, "can't be read"),
        ] {
            let (table, problems) = find(Some(&path));
            assert_eq!(table.symbols, built_in());
            let text = problems[0].to_string();
            assert!(text.starts_with(&path.display().to_string()) && text.contains(reason), "{text}");
            assert!(text.ends_with("the built-in symbols are used"), "{text}");
        }
    }
}
