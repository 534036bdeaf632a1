//! `msprof-rs init`: a collection config and a symbol file to begin with, for what is installed here.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use thiserror::Error;

use super::installation::Installation;
use super::{EXIT_FAILED, EXIT_FINE};
use crate::config::{create_file, replace_file};
use crate::symbols::Frameworks;

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Folder for the two files
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Error)]
enum InitError {
    #[error("{0} is there already; --force replaces it")]
    Exists(PathBuf),
    #[error(
        "{0} is a link, and what it stands for may be another's; remove it, or give the folder that it leads to"
    )]
    Link(PathBuf),
    #[error("{path} can't be written: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl Init {
    pub(super) fn run(&self, installation: &Installation<'_>) -> u8 {
        match self.write(installation) {
            Ok(text) => {
                print!("{text}");
                EXIT_FINE
            }
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    fn write(&self, installation: &Installation<'_>) -> Result<String, InitError> {
        let frameworks = Frameworks::new(installation.frameworks.iter().cloned());
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let (config, symbols) = (folder.join("msprof.json"), folder.join("msprof_symbols.yaml"));
        let (source, pack) = frameworks.pack();
        // Both or none.
        if !self.force
            && let Some(there) = [&config, &symbols].into_iter().find(|path| is_there(path))
        {
            return Err(InitError::Exists(there.clone()));
        }
        if let Some(link) = [&config, &symbols].into_iter().find(|path| path.is_symlink()) {
            return Err(InitError::Link(link.clone()));
        }
        std::fs::create_dir_all(&folder).map_err(|error| InitError::Io { path: folder.clone(), error })?;
        self.put(&config, &config_text(&folder))?;
        self.put(&symbols, &pack)?;
        Ok(format!(
            "{}\n{}  ({source}; {frameworks})\n\nStart the server with\n\n    \
             export SERVICE_PROF_CONFIG_PATH={}\n    export PROFILING_SYMBOLS_PATH={}\n\n\
             Then `msprof-rs start`, `msprof-rs stop`, and `msprof-rs parse --input-path {}/MMDD-HHMM`.\n",
            config.display(),
            symbols.display(),
            config.display(),
            symbols.display(),
            folder.join("captures").display(),
        ))
    }

    fn put(&self, path: &Path, text: &str) -> Result<(), InitError> {
        let outcome =
            if self.force && is_there(path) { replace_file(path, text) } else { create_file(path, text) };
        outcome.map_err(|error| InitError::Io { path: path.into(), error })
    }
}

/// Also if it is a link to nothing.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// JSON has no comments; keys that are not known have no effect, and stay when the file is rewritten.
fn config_text(folder: &Path) -> String {
    let text = serde_json::to_string_pretty(&json!({
        "// enable": "1 collects, 0 does not; followed within 100 ms while the server runs",
        "enable": 0,
        "// prof_dir": "each collection makes a folder in it",
        "prof_dir": folder.join("captures"),
        "// profiler_level": "ERROR: the core of it, INFO: what explains a step, DETAILED: all; see `level` in the symbols",
        "profiler_level": "INFO",
        "// domain": "only these domains, as in \"Schedule;Execute\"; empty: all",
        "domain": "",
        "// timelimit": "seconds after which collection ends by itself; 0: never",
        "timelimit": 0,
        "// profiler_step_num": "steps of the model after which collection ends by itself; -1: never",
        "profiler_step_num": -1,
        "// mode": "capture: write everything; flight: keep the last flight_seconds in memory until somebody asks",
        "mode": "capture",
        "flight_seconds": 30,
    }));
    text.unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Collection;
    use crate::symbols::Table;

    fn installation() -> Installation<'static> {
        Installation {
            locate: &|_| None,
            frameworks: vec![("sglang".into(), Some("0.5.9".into()))],
            is_path_safe: true,
            hooks_in_place: true,
            package: "".into(),
            executable: "".into(),
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [config, theirs] = ["msprof.json", "theirs"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink(&theirs, &config).unwrap();
        let init = |force| Init { folder: folder.path().into(), force }.write(&installation());
        assert!(matches!(init(false), Err(InitError::Exists(_))), "a link to nothing");
        std::fs::write(&theirs, "{}").unwrap();
        assert!(matches!(init(true), Err(InitError::Link(_))));
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "{}");
        assert!(!folder.path().join("msprof_symbols.yaml").exists(), "both or none");
    }

    #[test]
    fn both_files_are_written_once_and_are_read_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let init = |force| Init { folder: folder.path().join("new"), force }.write(&installation());
        let text = init(false).unwrap();
        assert!(text.contains("SERVICE_PROF_CONFIG_PATH=") && text.contains("sglang 0.5.9"));
        assert!(matches!(init(false), Err(InitError::Exists(_))));
        init(true).unwrap();
        let config = folder.path().join("new/msprof.json");
        let text = std::fs::read_to_string(&config).unwrap();
        let (collection, problems) = Collection::parse(&text, &config, Path::new("/")).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(collection.prof_dir, folder.path().join("new/captures"));
        let symbols = std::fs::read_to_string(folder.path().join("new/msprof_symbols.yaml")).unwrap();
        let (table, problems) = Table::parse(&symbols, "s");
        assert!(
            problems.is_empty() && table.symbols.iter().all(|symbol| symbol.target.package() == "sglang")
        );
    }
}
