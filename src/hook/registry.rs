//! The symbols that are to be hooked: which module has them, and how an entry of the table becomes a hook.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyType};
use rustc_hash::FxHashMap;

use super::aliases::Exchanges;
use super::attributes;
use super::custom::Custom;
use super::evaluate::Evaluated;
use super::follow::Trampoline;
use super::hooked::{Action, Hook, Kind, Origin, Until};
use super::install::{Seats, has_hook};
use super::interrupt::{Attempt, Interrupt, message};
use super::place::Place;
use super::stack::with_room;
use super::{dynamo, pending, system, unmet};
use crate::event::Label;
use crate::expr::{self, Signature};
use crate::handlers;
use crate::recorder::{self, Gate};
use crate::symbols::{self, Frameworks, HandlerRef, Pattern, Symbol, SymbolFile, Table, Target};

/// The entries of the symbol table for the installed versions, and what they have hooked.
pub(crate) struct Registry {
    file: Mutex<SymbolFile>,
    frameworks: Frameworks,
    /// The packs' is read when the first of the modules comes that it may name. Many processes of a server import none.
    table: OnceLock<ArcSwap<Table>>,
    seats: Seats,
    /// Entries of which a module has come, by their number; of a pattern, whether one of its methods was hooked.
    seen: Mutex<FxHashMap<usize, bool>>,
}

impl Registry {
    /// Reads the symbols at `path` (see [`SymbolFile`]). Keeps the entries that the installed versions admit.
    pub(crate) fn open(path: Option<PathBuf>, frameworks: Frameworks) -> Self {
        let (file, table) = with_room(|| SymbolFile::open(path.clone(), frameworks.clone()));
        let table = table.map(|table| ArcSwap::from_pointee(admitted(table, &frameworks)).into());
        Self {
            file: Mutex::new(file),
            frameworks,
            table: table.unwrap_or_default(),
            seats: Seats::default(),
            seen: Mutex::default(),
        }
    }

    fn table(&self) -> &ArcSwap<Table> {
        self.table.get_or_init(|| {
            let packs = with_room(|| self.frameworks.table());
            ArcSwap::from_pointee(admitted(packs, &self.frameworks))
        })
    }

    /// The table, unless it is known without reading it that it names nothing in this module.
    fn table_for(&self, module: &str) -> Option<&ArcSwap<Table>> {
        let may_name = self.table.get().is_some() || self.frameworks.packs_may_name(module);
        may_name.then(|| self.table())
    }

    /// Whether there is something to do when this module is there.
    pub(super) fn wants(&self, module: &str) -> bool {
        module == dynamo::MODULE
            || self
                .table_for(module)
                .is_some_and(|table| table.load().symbols.iter().any(|symbol| symbol.target.matches(module)))
    }

    /// Whether the symbol file is another than the one that was read.
    pub(super) fn is_outdated(&self) -> bool {
        // A fork may have copied it locked.
        self.file.try_lock().is_some_and(|file| file.is_changed())
    }

    /// Reads the symbol file again; no hook acts from then on until [`Registry::apply`] puts it back. Returns whether
    /// the file says anything new.
    pub(super) fn read_again(&self) -> bool {
        let Some(table) = self.file.lock().read_again() else { return false };
        let table = admitted(table, &self.frameworks);
        if table == **self.table().load() {
            return false;
        }
        self.table().store(Arc::new(table));
        self.seen.lock().clear();
        self.seats.clear();
        true
    }

    /// Makes the functions that no entry names any more what they were.
    pub(super) fn take_out_unused(&self, py: Python<'_>) -> PyResult<()> {
        self.seats.take_out_unused(py)
    }

    /// Hooks everything that the entries name in a module. An entry that fails is reported, and the others go on.
    /// What is hooked already stays so. `is_new`: the module has just been made.
    ///
    /// # Errors
    /// It was interrupted: some of the entries may be hooked and others not.
    #[cfg_attr(not(Py_3_13), expect(unused_variables, reason = "only newer interpreters call past a hook"))]
    pub(super) fn apply(&self, name: &str, module: &Bound<'_, PyAny>, is_new: bool) -> Result<(), Interrupt> {
        let py = module.py();
        let _muted = recorder::mute();
        let table = self.table_for(name).map(ArcSwap::load_full).unwrap_or_default();
        self.seats.forget_dead(py);
        let mut aliases = Exchanges::default();
        for (number, symbol) in table.symbols.iter().enumerate() {
            if !symbol.target.matches(name) {
                continue;
            }
            let mut entry =
                Entry { registry: self, table: &table, number, symbol, name, aliases: &mut aliases };
            let outcome = match &symbol.target {
                Target::Exact { path, .. } => {
                    self.seen.lock().insert(number, true); // if it fails, that is told here
                    entry.hook(module, path)
                }
                Target::Pattern(pattern) => entry.hook_matching(module, pattern).map(|count| {
                    *self.seen.lock().entry(number).or_default() |= count > 0;
                }),
            };
            if let Err(error) = outcome.unless_interrupted(py)? {
                let error = message(py, &error)?;
                let hint = if name == "__main__" { SCRIPT } else { "" };
                // What a pack names and this version lacks is for `msprof-rs check` to tell, not for every process.
                let level = if table.is_built_in() { log::Level::Debug } else { log::Level::Warn };
                log::log!(
                    level,
                    "{}:{}: {} is not hooked: {error}{hint}",
                    table.file,
                    symbol.line,
                    symbol.target
                );
            }
        }
        #[cfg(Py_3_13)]
        if is_new {
            aliases.are_new();
        }
        if let Err(error) = aliases.apply(py).unless_interrupted(py)? {
            let error = message(py, &error)?;
            log::warn!("{name}: other names of what was hooked could not all be found: {error}");
        }
        dynamo::teach(py, name)
    }
}

impl Registry {
    /// Says which entries of a user's own file can't meet anything in this process.
    ///
    /// # Errors
    /// What Python raised meanwhile.
    pub(super) fn tell_unmet(&self, py: Python<'_>, finders: &[Bound<'_, PyAny>]) -> PyResult<()> {
        let Some(table) = self.table.get().map(ArcSwap::load_full) else { return Ok(()) };
        if table.is_built_in() {
            return Ok(());
        }
        let seen = self.seen.lock().clone();
        let unmet = unmet::find(py, &table, &seen, finders)?;
        // A copy of the packs, which a missing file was made from, is not the user's own yet.
        let is_copy = || {
            self.frameworks
                .table()
                .symbols
                .iter()
                .filter(|it| applies(it, &self.frameworks))
                .eq(&table.symbols)
        };
        if !unmet.is_empty() && !is_copy() {
            unmet.tell();
        }
        Ok(())
    }

    /// The domains in which the entries may record.
    pub(super) fn domains(&self) -> Vec<String> {
        let table = self.table().load();
        let of = |symbol: &Symbol| match &symbol.handler {
            HandlerRef::BuiltIn(built_in) => handlers::code(*built_in).1.map(str::to_owned),
            _ => Some(symbol.domain.clone()),
        };
        let mut domains: Vec<String> = table.symbols.iter().filter_map(of).collect();
        domains.sort_unstable();
        domains.dedup();
        domains
    }
}

/// Why a function of the script is not there.
const SCRIPT: &str = " (a script's own functions are made after symbols are applied: put them into a module that it \
                      imports, or write @msprof_rs.timed above them)";

/// The entries for the versions that are installed.
fn admitted(mut table: Table, frameworks: &Frameworks) -> Table {
    let all = table.symbols.len();
    table.symbols.retain(|symbol| applies(symbol, frameworks));
    let kept = table.symbols.len();
    log::info!("{}: {kept} of {all} symbols apply ({frameworks})", table.file);
    table
}

fn applies(symbol: &Symbol, frameworks: &Frameworks) -> bool {
    symbol.versions.admits(frameworks.version_for(&symbol.target))
}

/// An entry as it is applied to one module.
struct Entry<'a> {
    registry: &'a Registry,
    table: &'a Table,
    number: usize,
    symbol: &'a Symbol,
    /// The module's.
    name: &'a str,
    aliases: &'a mut Exchanges,
}

impl Entry<'_> {
    /// Hooks the method of each class that the module itself defines and that defines the method itself.
    /// Gives the number of such classes.
    fn hook_matching(&mut self, module: &Bound<'_, PyAny>, pattern: &Pattern) -> PyResult<usize> {
        let (method, mut count) = (&pattern.method, 0);
        let globals = match module.cast::<PyModule>() {
            Ok(module) => module.dict(),
            Err(_) => match module.getattr("__dict__")?.cast_into::<PyDict>() {
                Ok(globals) => globals,
                Err(_) => return Ok(count),
            },
        };
        for value in globals.copy()?.values() {
            let Ok(class) = value.cast_into::<PyType>() else { continue };
            let class_name = pending::name(&class).into_owned();
            let home = attributes::own(&class, "__module__")?;
            if home.and_then(|home| home.raw.extract::<String>().ok()).is_some_and(|home| home == self.name)
                && pattern.matches_class(&class_name)
                && attributes::own(&class, method)?.is_some()
            {
                self.hook(module, &format!("{class_name}.{method}"))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn hook(&mut self, module: &Bound<'_, PyAny>, path: &str) -> PyResult<()> {
        let symbol = self.symbol;
        let mut place = Place::locate(module, path)?;
        if has_hook(&place, self.number) {
            return Ok(());
        }
        let kind = Kind::of(&place.callable)?;
        let name = symbol.name.as_deref().unwrap_or_else(|| place.span_name(path));
        let (action, gate) = match self.handler(&place.callable, kind)? {
            Some(handled) => handled,
            None => (Action::Timer(self.attributes(&place)?), Gate::of(symbol.level, &symbol.domain)),
        };
        let until = self.until(&place, kind)?;
        if let Some(base) = place.shared_with() {
            log::log!(
                if self.table.is_built_in() { log::Level::Debug } else { log::Level::Warn },
                "{}:{}: {} is {}'s: its calls through other classes are recorded too, since nothing in them tells these \
                 apart",
                self.table.file,
                symbol.line,
                symbol.target,
                base.cast::<PyType>().map_or(Cow::Borrowed("another class"), |base| pending::name(base))
            );
        }
        let receiver = place.receiver.take();
        let hook = Hook {
            origin: Origin::Symbol(self.number),
            label: Label::new(&symbol.domain, name),
            gate,
            caller: symbol.caller_filter.clone(),
            is_plain_timer: matches!(until, Until::Return)
                && symbol.sample.get() == 1
                && symbol.dump_over.is_none()
                && symbol.caller_filter.is_none()
                && receiver.is_none()
                && matches!(&action, Action::Timer(attributes) if attributes.is_empty()),
            receiver,
            sample: if matches!(action, Action::Timer(_)) { symbol.sample.get() } else { 1 },
            calls: AtomicU32::new(0),
            dump_over: symbol.dump_over,
            action,
            until,
            symbol: format!("{}:{path}", self.name),
            failures: AtomicU32::new(0),
            has_spoken: AtomicBool::new(false),
        };
        self.registry.seats.put(&place, hook, self.aliases)
    }

    /// How far what the target returns is followed.
    fn until(&self, place: &Place<'_>, kind: Kind) -> PyResult<Until> {
        let trampoline = || Trampoline::new(&place.callable, kind);
        Ok(match (self.symbol.until, kind) {
            (Some(symbols::Until::Return), _) | (None, Kind::Function) => Until::Return,
            (Some(symbols::Until::Done), Kind::Function) => Until::Done(trampoline()?),
            (Some(symbols::Until::Exit), Kind::Function) => Until::Exit,
            // What is awaited or iterated over is no context manager.
            (None | Some(symbols::Until::Done | symbols::Until::Exit), _) => Until::End(trampoline()?),
        })
    }

    /// The handler that the entry names, and its gate; None for the timer.
    fn handler(
        &self,
        target: &Bound<'_, PyAny>,
        kind: Kind,
    ) -> Result<Option<(Action, &'static Gate)>, Interrupt> {
        let symbol = self.symbol;
        let py = target.py();
        Ok(match &symbol.handler {
            HandlerRef::Timer => None,
            HandlerRef::BuiltIn(built_in) => {
                let (handler, domain) = handlers::code(*built_in);
                let gate = domain.map_or_else(Gate::always, |domain| Gate::of(symbol.level, domain));
                Some((Action::BuiltIn(handler), gate))
            }
            HandlerRef::Custom { module, function } => {
                match Custom::load(module, function, target, kind).unless_interrupted(py)? {
                    Ok(custom) => Some((Action::Custom(custom), Gate::of(symbol.level, &symbol.domain))),
                    Err(error) => {
                        let problem = message(py, &error)?;
                        log::warn!(
                            "{}:{}: the handler {module}:{function} can't be used for {}, the timer takes its place: {problem}",
                            self.table.file,
                            symbol.line,
                            symbol.target
                        );
                        None
                    }
                }
            }
        })
    }

    /// The attributes whose expressions fit the target's signature; the others are reported.
    fn attributes(&self, place: &Place<'_>) -> PyResult<Vec<Evaluated>> {
        let symbol = self.symbol;
        if symbol.attributes.is_empty() {
            return Ok(Vec::new());
        }
        let signature = signature(place)?;
        let mut attributes = Vec::new();
        for attribute in &symbol.attributes {
            match expr::compile(&attribute.expr, &signature) {
                Ok(program) => attributes.push(Evaluated::new(&place.callable, &attribute.name, &program)?),
                Err(error) => {
                    log::warn!(
                        "{}:{}: attribute {}: {error}",
                        self.table.file,
                        attribute.line,
                        attribute.name
                    );
                }
            }
        }
        Ok(attributes)
    }
}

/// The target's parameters, as `inspect` tells them; none for what has no signature.
fn signature(place: &Place<'_>) -> PyResult<Signature> {
    let mut signature = Signature { is_method: place.is_method, ..Signature::default() };
    let inspect = system::inspect(place.callable.py())?;
    let described = inspect.call_method1("signature", (&place.callable,));
    let Some(described) = described.optional(place.callable.py())? else { return Ok(signature) };
    for parameter in described.getattr("parameters")?.call_method0("values")?.try_iter()? {
        let parameter = parameter?;
        let name: String = parameter.getattr("name")?.extract()?;
        match parameter.getattr("kind")?.getattr("name")?.extract::<String>()?.as_str() {
            "KEYWORD_ONLY" => signature.keyword_only.push(name),
            "VAR_POSITIONAL" => signature.varargs = Some(name),
            "VAR_KEYWORD" => signature.varkw = Some(name),
            _ => signature.positional.push(name),
        }
    }
    Ok(signature)
}
