//! `msprof-rs check`: does a symbol file fit what is installed? Read from the source of the packages; nothing is
//! imported and no server is started.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::installation::Installation;
use super::report::say;
use super::{EXIT_FAILED, EXIT_FINE};
use crate::code::{Found, Kind, Missing, Packages};
use crate::expr::{self, Signature};
use crate::files;
use crate::printable::{Printable, message};
use crate::symbols::{Frameworks, HandlerRef, PACKS, Symbol, Table, Target};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The symbol file [default: the built-in packs for what is installed]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,

    /// The version of vLLM (of SGLang, for its entries) that limits are compared with [default: the installed one]
    #[arg(long, visible_alias = "framework-version", value_name = "VERSION")]
    vllm_version: Option<String>,

    /// Look for packages here instead of in this Python's path: an unpacked wheel, a checkout
    #[arg(long, value_name = "DIR")]
    path: Vec<PathBuf>,

    /// Tell also of entries that are fine
    #[arg(long, short)]
    all: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It is there, and everything fits.
    Fine,
    /// It is there, but something about the entry has no effect.
    Wrong,
    /// It is not there.
    Gone,
    /// It is for other versions.
    Other,
    /// Its package is not installed.
    Absent,
}

impl Verdict {
    fn style(self) -> Style {
        let color = match self {
            Self::Fine => AnsiColor::Green,
            Self::Wrong => AnsiColor::Yellow,
            Self::Gone => AnsiColor::Red,
            Self::Other | Self::Absent => AnsiColor::BrightBlack,
        };
        color.on_default()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Wrong => "wrong",
            Self::Gone => "gone",
            Self::Other => "other version",
            Self::Absent => "not installed",
        }
    }
}

/// One entry, checked.
#[derive(Debug, Serialize)]
struct Row {
    /// The line of the symbol file.
    line: u64,
    symbol: String,
    verdict: Verdict,
    /// Each function that it stands for; several for a pattern.
    places: Vec<PlaceRow>,
    /// What is wrong, and what to do.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlaceRow {
    file: PathBuf,
    /// None where there is no `def` to point at.
    line: Option<u64>,
    /// `module:Class.method`, where it is defined.
    defined_as: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct Report {
    symbols: String,
    frameworks: String,
    /// What is wrong with the file itself.
    problems: Vec<String>,
    entries: Vec<Row>,
}

impl Check {
    pub(super) fn run(&self, installation: &Installation<'_>) -> u8 {
        let report = match self.report(installation) {
            Ok(report) => report,
            Err(message) => {
                log::error!("{message}");
                return EXIT_FAILED;
            }
        };
        if self.json {
            let json = serde_json::to_string_pretty(&report).unwrap_or_default();
            json.lines().for_each(say); // a line break in a text is spelled out already
        } else {
            // A reader that has gone away (`| head`) is no reason to fail.
            let _ = write!(anstream::stdout(), "{}", self.text(&report));
        }
        let is_bad = |row: &Row| matches!(row.verdict, Verdict::Gone | Verdict::Wrong);
        let fine = report.problems.is_empty() && !report.entries.iter().any(is_bad);
        if fine { EXIT_FINE } else { EXIT_FAILED }
    }

    fn report(&self, installation: &Installation<'_>) -> Result<Report, String> {
        let is_module = |folder: &Path, top: &str| {
            folder.join(top).join("__init__.py").is_file() || folder.join(format!("{top}.py")).is_file()
        };
        let has = |folder: &Path, top: &str| folder.join(top).is_dir() || is_module(folder, top);
        let here = |top: &str| self.path.iter().find(|folder| has(folder, top)).cloned();
        // One's own module comes before an installed one, as for `python -c`. Not before a framework: `vllm serve` does not
        // look here at all, so that in vLLM's checkout the installed one is meant.
        let current = std::env::current_dir().ok().filter(|_| !installation.is_path_safe);
        let first = |top: &str| current.clone().filter(|folder| !is_framework(top) && is_module(folder, top));
        let last = |top: &str| current.clone().filter(|folder| has(folder, top));
        let anywhere = |top: &str| first(top).or_else(|| (installation.locate)(top)).or_else(|| last(top));
        let locate = |top: &str| if self.path.is_empty() { anywhere(top) } else { here(top) };
        let frameworks = self.frameworks(installation, &locate);
        let (file, text) = match &self.symbols {
            Some(path) => {
                let text = files::read_text(path, files::SYMBOLS_LIMIT);
                (path.display().to_string(), text.map_err(|error| format!("{}: {error}", path.display()))?)
            }
            None => frameworks.pack(),
        };
        let (table, problems) = Table::parse(&text, &file);
        let checker = Checker {
            packages: Packages::new(&locate),
            frameworks: &frameworks,
            hooks_in_place: installation.hooks_in_place,
            is_own: self.symbols.is_some(),
            searched: match &current {
                _ if !self.path.is_empty() => "in a folder of --path",
                Some(_) => "installed or in the current folder",
                None => "installed",
            },
        };
        let mut entries: Vec<_> = table.symbols.iter().map(|symbol| checker.check(symbol)).collect();
        note_inherited(&mut entries);
        Ok(Report {
            entries,
            symbols: file,
            frameworks: frameworks.to_string(),
            problems: problems.iter().map(ToString::to_string).collect(),
        })
    }

    /// What is installed, or is where `--path` says; there only the user can know the version.
    fn frameworks(
        &self,
        installation: &Installation<'_>,
        locate: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Frameworks {
        if self.path.is_empty() && self.vllm_version.is_none() {
            return Frameworks::new(installation.frameworks.iter().cloned());
        }
        let is_there = |package: &str| locate(package).is_some();
        // vLLM's version is also what its platforms go by, which may be all that is looked at.
        let is_vllm = |package: &str| {
            package == "vllm"
                && self.vllm_version.is_some()
                && PACKS.iter().any(|pack| pack.package.starts_with("vllm_") && is_there(pack.package))
        };
        let there = PACKS.iter().filter(|pack| is_there(pack.package) || is_vllm(pack.package));
        Frameworks::new(there.map(|pack| {
            let known = installation.frameworks.iter().find(|(package, _)| package == pack.package);
            let installed = known.and_then(|(_, version)| version.clone()).filter(|_| self.path.is_empty());
            (pack.package.to_owned(), self.vllm_version.clone().or(installed))
        }))
    }

    fn text(&self, report: &Report) -> String {
        let mut text = String::new();
        for problem in &report.problems {
            let style = Verdict::Wrong.style();
            let _ = writeln!(text, "{style}wrong{style:#}  {}", message(problem)); // into a text: can't fail
        }
        for row in &report.entries {
            let is_news = matches!(row.verdict, Verdict::Gone | Verdict::Wrong) || !row.notes.is_empty();
            if !self.all && !is_news {
                continue;
            }
            let (style, word) = (row.verdict.style(), row.verdict.word());
            let _ = writeln!(
                text,
                "{style}{word}{style:#}  {}:{}: {}",
                Printable(&report.symbols),
                row.line,
                Printable(&row.symbol)
            );
            if self.all {
                for place in &row.places {
                    let PlaceRow { file, line, defined_as, kind } = place;
                    let line = line.map_or(String::new(), |line| format!(":{line}"));
                    let _ = writeln!(
                        text,
                        "      {}{line}  {kind} {}",
                        Printable(file.display()),
                        Printable(defined_as)
                    );
                }
            }
            for note in &row.notes {
                let _ = writeln!(text, "      {}", message(note));
            }
        }
        let count = |verdict| report.entries.iter().filter(|row| row.verdict == verdict).count();
        let counts = [Verdict::Fine, Verdict::Wrong, Verdict::Gone, Verdict::Other, Verdict::Absent]
            .into_iter()
            .filter(|verdict| count(*verdict) > 0)
            .map(|verdict| {
                let style = verdict.style();
                format!("{style}{} {}{style:#}", count(verdict), verdict.word())
            });
        let counts: Vec<_> = counts.collect();
        let (all, frameworks) = (report.entries.len(), &report.frameworks);
        let (symbols, frameworks) = (Printable(&report.symbols), Printable(frameworks));
        let _ = writeln!(text, "{symbols}: {all} entries for {frameworks}: {}", counts.join(", "));
        text
    }
}

/// Whether a top-level package is one that there are built-in symbols for.
fn is_framework(top: &str) -> bool {
    PACKS.iter().any(|pack| pack.package == top)
}

struct Checker<'a> {
    packages: Packages<'a>,
    frameworks: &'a Frameworks,
    hooks_in_place: bool,
    /// Whether the symbol file is the user's, in which a name may be misspelt.
    is_own: bool,
    /// Where packages were looked for, as a message has it.
    searched: &'static str,
}

impl Checker<'_> {
    fn check(&self, symbol: &Symbol) -> Row {
        let mut row = Row {
            line: symbol.line,
            symbol: symbol.target.to_string(),
            verdict: Verdict::Fine,
            places: Vec::new(),
            notes: Vec::new(),
        };
        if !symbol.versions.admits(self.frameworks.version_for(&symbol.target)) {
            row.verdict = Verdict::Other;
            return row;
        }
        match self.find(&symbol.target) {
            Ok(found) => {
                for found in &found {
                    self.fits(symbol, found, &mut row);
                }
                row.places = found.iter().map(place_row).collect();
            }
            Err(missing) => {
                let absent = matches!(missing, Missing::Package(_));
                row.verdict = if absent { Verdict::Absent } else { Verdict::Gone };
                // A file may well name several frameworks, of which one is there.
                if !absent || (self.is_own && !is_framework(symbol.target.package())) {
                    row.notes.push(self.why(&missing));
                }
            }
        }
        row
    }

    /// Why something is missing.
    fn why(&self, missing: &Missing) -> String {
        match missing {
            Missing::Package(name) => {
                format!("no package or module {name} is {}: is it spelt right?", self.searched)
            }
            Missing::Module { .. } | Missing::Name { .. } => missing.to_string(),
        }
    }

    fn find(&self, target: &Target) -> Result<Vec<Found>, Missing> {
        match target {
            Target::Exact { module, path } => self.packages.find(module, path).map(|found| vec![found]),
            Target::Pattern(pattern) => {
                let top = target.package();
                let wanted =
                    |module: &str, class: &str| pattern.matches(module) && pattern.matches_class(class);
                let found = self.packages.matching(top, &pattern.method, &wanted);
                if found.is_empty() {
                    let (module, name) =
                        (pattern.module.clone(), format!("{}.{}", pattern.class, pattern.method));
                    // To ask for nothing tells whether the package is there at all.
                    if let Err(Missing::Package(name)) = self.packages.find(top, "") {
                        return Err(Missing::Package(name));
                    }
                    return Err(Missing::Name { module, name, instead: Vec::new() });
                }
                Ok(found)
            }
        }
    }

    /// Whether the entry's expressions and handler fit a function.
    fn fits(&self, symbol: &Symbol, found: &Found, row: &mut Row) {
        let default = Signature::default();
        let signature = found.function.as_ref().map_or(&default, |function| &function.signature);
        for attribute in &symbol.attributes {
            if let Err(error) = expr::compile(&attribute.expr, signature) {
                row.verdict = Verdict::Wrong;
                row.notes.push(format!("attribute {} of {}: {error}", attribute.name, found.path));
            }
        }
        if let HandlerRef::Custom { module, function } = &symbol.handler
            && let Err(missing) = self.packages.find(module, function)
        {
            row.verdict = Verdict::Wrong;
            row.notes.push(format!("the handler {module}:{function}: {}", self.why(&missing)));
        }
        // Where functions are hooked in place nothing can hold on to the bare one.
        let is_bare = !found.path.contains('.') && found.function.is_some();
        if is_bare && !self.hooks_in_place {
            let top = found.module.split('.').next().unwrap_or_default();
            for (file, line) in self.packages.holders(top, &found.path) {
                let (file, name) = (file.display(), &found.path);
                row.notes.push(format!(
                    "{file}:{line} keeps {name} itself, not by its name: calls from there are not seen on this Python"
                ));
            }
        }
    }
}

/// A class's method that is another's, which an entry of its own names: calls go through both hooks.
fn note_inherited(rows: &mut [Row]) {
    let named: Vec<(String, u64)> = rows
        .iter()
        .filter(|row| row.places.iter().any(|place| place.defined_as == row.symbol))
        .map(|row| (row.symbol.clone(), row.line))
        .collect();
    for row in rows {
        let Some(place) = row.places.iter().find(|place| place.defined_as != row.symbol) else { continue };
        if let Some((_, line)) = named.iter().find(|(symbol, _)| *symbol == place.defined_as) {
            let symbol = &place.defined_as;
            row.notes.push(format!("it is {symbol}, which line {line} names: its calls are seen twice"));
        }
    }
}

fn place_row(found: &Found) -> PlaceRow {
    PlaceRow {
        file: found.file.clone(),
        line: found.function.as_ref().map(|function| function.line),
        defined_as: format!("{}:{}", found.module, found.path),
        kind: kind(found),
    }
}

fn kind(found: &Found) -> &'static str {
    let Some(function) = &found.function else {
        let is_source = found.file.extension().is_some_and(|it| it == "py");
        return if is_source { "object" } else { "extension" };
    };
    let is = |name: &str| function.decorators.iter().any(|it| it.rsplit('.').next() == Some(name));
    match function.kind {
        _ if is("contextmanager") || is("asynccontextmanager") => "context manager",
        _ if is("property") || is("cached_property") => "property",
        Kind::Coroutine => "coroutine function",
        Kind::Generator => "generator function",
        Kind::AsyncGenerator => "async generator function",
        Kind::Function if is("staticmethod") => "static method",
        Kind::Function if is("classmethod") => "class method",
        Kind::Function if function.signature.is_method => "method",
        Kind::Function => "function",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULER: &str = "class Scheduler:\n    def schedule(self, throttle=False): ...\n    \
                             async def open(self): ...\n\nclass Fast(Scheduler): ...\n\ndef helper(x): ...\nTABLE = [helper]\n";

    fn check(symbols: &str, in_place: bool) -> (Report, u8) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        write("site/vllm/__init__.py", "");
        write("site/vllm/core.py", SCHEDULER);
        let file = write("symbols.yaml", symbols);
        let site = folder.path().join("site");
        let locate = |top: &str| Some(site.clone()).filter(|site: &PathBuf| site.join(top).is_dir());
        let installation = Installation {
            locate: &locate,
            frameworks: vec![("vllm".into(), Some("0.32.0".into()))],
            is_path_safe: false,
            hooks_in_place: in_place,
            package: "".into(),
            executable: "".into(),
        };
        let check = Check { symbols: Some(file), vllm_version: None, path: vec![], all: true, json: false };
        let report = check.report(&installation).unwrap();
        let text = anstream::adapter::strip_str(&check.text(&report)).to_string();
        assert_eq!(text.lines().last().unwrap().matches("entries for vllm 0.32.0").count(), 1, "{text}");
        (report, check.run(&installation))
    }

    #[test]
    fn what_is_there_is_told_with_file_line_and_kind() {
        let (report, code) =
            check("- symbol: vllm.core:Scheduler.schedule\n- symbol: vllm.core:Scheduler.open\n", true);
        assert_eq!(code, EXIT_FINE);
        let places: Vec<_> =
            report.entries.iter().map(|row| (row.places[0].line, row.places[0].kind)).collect();
        assert_eq!(places, [(Some(2), "method"), (Some(3), "coroutine function")]);
        assert!(report.entries[0].places[0].file.ends_with("vllm/core.py"));
    }

    #[test]
    fn each_way_of_not_fitting_has_its_verdict() {
        let symbols = "- symbol: vllm.core:Scheduler.scheduel\n\
                       - {symbol: 'vllm.core:Scheduler.schedule', attributes: [{name: a, expr: nothing_of_this}]}\n\
                       - {symbol: 'vllm.core:Gone.x', max_version: '0.11'}\n- symbol: elsewhere:f\n\
                       - {symbol: 'vllm.core:helper', handler: 'vllm.core:not_there'}\n\
                       - symbol: vllm.*:*.schedule\n- symbol: vllm.*:*.nothing\n\
                       - symbol: vllm.croe:Scheduler.schedule\n\
                       - {symbol: 'vllm.croe:Scheduler.schedule', max_version: '0.11'}\n";
        let (report, code) = check(symbols, true);
        assert_eq!(code, EXIT_FAILED);
        let verdicts: Vec<_> = report.entries.iter().map(|row| row.verdict).collect();
        let expected = [
            Verdict::Gone,
            Verdict::Wrong,
            Verdict::Other,
            Verdict::Absent,
            Verdict::Wrong,
            Verdict::Fine,
            Verdict::Gone,
            Verdict::Gone,
            Verdict::Other,
        ];
        assert_eq!(verdicts, expected);
        assert!(report.entries[0].notes[0].ends_with("perhaps it is now vllm.core:Scheduler.schedule"));
        assert!(report.entries[1].notes[0].contains("throttle"), "{:?}", report.entries[1].notes);
        assert_eq!(
            report.entries[3].notes,
            ["no package or module elsewhere is installed or in the current folder: is it spelt right?"]
        );
        assert!(report.entries[7].notes[0].starts_with("there is no module vllm.croe"));
    }

    #[test]
    fn a_method_that_another_entry_s_class_has_inherited_is_seen_twice() {
        let symbols = "- symbol: vllm.core:Fast.schedule\n- symbol: vllm.core:Scheduler.schedule\n- symbol: vllm.core:Fast.open\n";
        let (report, _) = check(symbols, true);
        let notes: Vec<_> = report.entries.iter().map(|row| row.notes.len()).collect();
        assert_eq!(notes, [1, 0, 0]);
        assert!(report.entries[0].notes[0].contains("which line 2 names"));
    }

    #[test]
    fn aliases_that_would_be_missed_are_told_where_there_are_any() {
        let notes = |in_place| check("- symbol: vllm.core:helper\n", in_place).0.entries.remove(0).notes;
        assert!(notes(true).is_empty());
        let told = notes(false);
        assert!(told.len() == 1 && told[0].contains("core.py:8 keeps helper itself"), "{told:?}");
    }
}
