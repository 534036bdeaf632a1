//! What a user's own symbol file names and this process has not met: told when the process ends, as far as it can be
//! known here. A process of a server imports only a part of what the file names, so that a module that merely was not
//! imported is no news, and only one that can't be found is.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use rustc_hash::FxHashMap;

use super::interrupt::Attempt;
use super::system;
use crate::printable::shortened;
use crate::symbols::{Symbol, Table, Target};

/// Entries that a line names.
const MOST_NAMED: usize = 5;

/// What is not there of an entry that has met nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The module's package is there, and does not have it.
    Module,
    /// Its package is not there.
    Package,
    /// Modules that the pattern means were imported; none has such a method.
    Method,
}

/// The entries of a table that can't meet anything here.
pub(super) struct Unmet<'a> {
    table: &'a Table,
    entries: Vec<(Missing, &'a Symbol)>,
}

/// Which these are. `seen` has the numbers of entries of which a module has come, and whether anything of it was met,
/// even if the module can't be found any more; `finders` are those that find modules.
///
/// # Errors
/// It was interrupted.
pub(super) fn find<'a>(
    py: Python<'_>,
    table: &'a Table,
    seen: &FxHashMap<usize, bool>,
    finders: &[Bound<'_, PyAny>],
) -> PyResult<Unmet<'a>> {
    let modules = system::modules(py)?;
    let mut entries = Vec::new();
    for (number, symbol) in table.symbols.iter().enumerate() {
        let reason = match (seen.get(&number), module_of(&symbol.target)) {
            (Some(true), _) | (None, None) => None,
            (Some(false), _) => Some(Missing::Method),
            // Who can't be asked says nothing.
            (None, Some(module)) => missing(&modules, module, finders).optional(py)?.flatten(),
        };
        entries.extend(reason.map(|reason| (reason, symbol)));
    }
    Ok(Unmet { table, entries })
}

impl Unmet<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A line for each reason.
    pub(super) fn tell(&self) {
        for (level, reason, what) in [
            (log::Level::Warn, Missing::Module, "in modules that there are not"),
            (log::Level::Info, Missing::Package, "in packages that this process does not find"),
            (log::Level::Info, Missing::Method, "that match no method of the modules of this process"),
        ] {
            let of_it = self.entries.iter().filter(|(found, _)| *found == reason);
            let symbols: Vec<&Symbol> = of_it.map(|(_, symbol)| *symbol).collect();
            if !symbols.is_empty() {
                let (file, named) = (&self.table.file, named(&symbols));
                log::log!(level, "{file}: symbols {what}: {named}; `msprof-rs check` tells more");
            }
        }
    }
}

fn named(symbols: &[&Symbol]) -> String {
    let one = |symbol: &&Symbol| format!("{} (line {})", shortened(&symbol.target.to_string()), symbol.line);
    let text = symbols.iter().take(MOST_NAMED).map(one).collect::<Vec<_>>().join(", ");
    match symbols.len().saturating_sub(MOST_NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// The module that must be there for a symbol; of a pattern, the part before its first wildcard.
fn module_of(target: &Target) -> Option<&str> {
    match target {
        Target::Exact { module, .. } => Some(module),
        Target::Pattern(pattern) => {
            let end = pattern.module.find(['*', '?', '[']);
            let whole = end.map_or(Some(&pattern.module[..]), |end| {
                pattern.module[..end].rsplit_once('.').map(|(package, _)| package)
            });
            whole.filter(|module| !module.is_empty())
        }
    }
}

/// Why a module can't be imported; None if it has been, or its part that was not imported can be found.
fn missing<'py>(
    modules: &Bound<'py, PyDict>,
    name: &str,
    finders: &[Bound<'py, PyAny>],
) -> PyResult<Option<Missing>> {
    let mut package: Option<Bound<'py, PyAny>> = None;
    let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
    for end in ends {
        let module = &name[..end];
        if let Some(found) = modules.get_item(module)? {
            package = Some(found);
            continue;
        }
        let path = match &package {
            None => None,
            // Not by its attribute: one that is to be loaded when it is first used would be loaded by that.
            Some(package) => match package.cast::<PyModule>() {
                Ok(package) => match package.dict().get_item("__path__")? {
                    None => return Ok(Some(Missing::Module)),
                    path => path,
                },
                // Whatever stands there in a module's place may find its parts in its own way.
                Err(_) => return Ok(None),
            },
        };
        for finder in finders {
            let args = (module, path.as_ref(), None::<&Bound<'py, PyAny>>);
            if !finder.call_method1("find_spec", args)?.is_none() {
                return Ok(None);
            }
        }
        return Ok(Some(if package.is_some() { Missing::Module } else { Missing::Package }));
    }
    Ok(None)
}
