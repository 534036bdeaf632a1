//! What the command of a run has left: its sessions, one for each time that collection began.

use std::path::{Path, PathBuf};

use crate::cli::parse::{Format, ParseError, ParseOptions, Report, parse as parse_session};
use crate::cli::stats;
use crate::cli::summary::{self, Summary};

/// Parses every session by itself: what lies between two of them is time that nobody knows of. The first one's outputs go
/// to `output`, the others' to `output-2` and so on, as the sessions themselves are called.
pub(super) fn parse(captures: &Path, folder: &Path, symbols: Option<&Path>) {
    let sessions = in_order(captures);
    if sessions.is_empty() {
        log::error!(
            "nothing was captured: is msprof-rs installed for the Python that ran, and did collection ever begin?"
        );
        return;
    }
    if sessions.len() > 1 {
        log::info!(
            "collection was stopped and begun again: {} sessions, each with outputs of its own",
            sessions.len()
        );
    }
    let mut events = 0;
    for (number, session) in (1..).zip(sessions) {
        let output = if number == 1 { "output".to_owned() } else { format!("output-{number}") };
        match outputs_of(&session, folder.join(output)) {
            Ok(report) => {
                summary::print(&Summary(&report), false);
                events += report.events();
                let is_server = report.figures.is_of_a_server();
                if !is_server
                    && report.events() > 0
                    && let Err(error) = stats::print_spans(&session)
                {
                    log::error!("{}: {error}", session.display());
                }
            }
            Err(error) => log::error!("{}: {error}", session.display()),
        }
    }
    if events == 0 {
        log::warn!("{}", how_to_get_some(symbols));
    }
}

fn outputs_of(session: &Path, output: PathBuf) -> Result<Report, ParseError> {
    let options = ParseOptions {
        input_path: session.into(),
        output_path: output,
        format: vec![Format::Csv, Format::Db, Format::Json, Format::Perfetto],
        timezone: None,
        gzip: false,
        span: None,
    };
    parse_session(&options, false)
}

/// The session folders, oldest first.
fn in_order(captures: &Path) -> Vec<PathBuf> {
    let entries = captures.read_dir().into_iter().flatten().flatten();
    let mut sessions: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    sessions.sort_by_cached_key(|path| {
        // `1122-0930`, `1122-0930-2` … `1122-0930-10`
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbers: Vec<u64> = name.split('-').map(|number| number.parse().unwrap_or(u64::MAX)).collect();
        (numbers, name)
    });
    sessions
}

fn how_to_get_some(symbols: Option<&Path>) -> String {
    match symbols {
        Some(symbols) => format!(
            "no span was recorded: no function that {0} names was called, none is there, or the handlers recorded \
             nothing. `msprof-rs check --symbols {0}` tells which are there",
            symbols.display()
        ),
        None => "no span was recorded: the built-in symbols name functions of vLLM and SGLang, none of which was called. \
                 List functions of this program in a symbol file, as in `- symbol: module:function`, and give it with \
                 --symbols (docs/configuration.md); or have its code record by itself, with `msprof_rs.span` and \
                 `msprof_rs.timed` (docs/api.md)"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_in_the_order_in_which_they_began() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["1122-0930", "1122-0930-2", "1122-0930-10", "1122-0931", "other"];
        for name in names {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        let found = in_order(folder.path());
        assert_eq!(found, names.map(|name| folder.path().join(name)));
    }
}
