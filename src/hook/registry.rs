//! The symbols that are to be hooked: which module has them, and how an entry of the table becomes a hook.

use std::sync::atomic::AtomicU32;

use pyo3::prelude::*;
use pyo3::types::{PyModule, PyType};

use super::custom::Custom;
use super::evaluate::Evaluated;
use super::hooked::{Action, Hook, Kind};
use super::install::{Place, install, locate};
use crate::event::Label;
use crate::expr::{self, Signature};
use crate::handlers;
use crate::recorder::Gate;
use crate::symbols::{HandlerRef, Symbol, Table, Target, Version};

/// The entries of the symbol table that this framework's version keeps, in file order.
pub(crate) struct Registry {
    symbols: Vec<Symbol>,
    /// For messages.
    file: String,
}

impl Registry {
    /// Keeps the entries that `version` admits; all of them if it is unknown or makes no sense.
    pub(crate) fn new(table: Table, version: Option<&str>) -> Self {
        let parsed = version.and_then(|text| {
            let version = text.parse::<Version>();
            if version.is_err() {
                log::warn!(
                    "the framework's version {text:?} is not one of PEP 440: version limits are not applied"
                );
            }
            version.ok()
        });
        let all = table.symbols.len();
        let symbols: Vec<_> =
            table.symbols.into_iter().filter(|symbol| symbol.versions.admits(parsed.as_ref())).collect();
        let (kept, version) = (symbols.len(), version.unwrap_or("unknown"));
        log::info!("{}: {kept} of {all} symbols apply (framework version {version})", table.file);
        Self { symbols, file: table.file }
    }

    /// Whether an entry names something in this module.
    pub(super) fn wants(&self, module: &str) -> bool {
        self.symbols.iter().any(|symbol| symbol.target.matches(module))
    }

    /// Hooks everything that the entries name in a module that has just been imported. An entry that fails is
    /// reported, and the others go on.
    pub(super) fn apply(&self, name: &str, module: &Bound<'_, PyModule>) {
        for symbol in self.symbols.iter().filter(|symbol| symbol.target.matches(name)) {
            let outcome = match &symbol.target {
                Target::Exact { path, .. } => self.hook(symbol, name, module, path),
                Target::Pattern(pattern) => self.hook_matching(symbol, name, module, pattern),
            };
            if let Err(error) = outcome {
                log::warn!("{}:{}: {} is not hooked: {error}", self.file, symbol.line, symbol.target);
            }
        }
    }

    /// Hooks the method of each class that the module itself defines and that defines the method itself.
    fn hook_matching(
        &self,
        symbol: &Symbol,
        name: &str,
        module: &Bound<'_, PyModule>,
        pattern: &crate::symbols::Pattern,
    ) -> PyResult<()> {
        let method = &pattern.method;
        for (_, value) in module.dict().iter() {
            let Ok(class) = value.cast_into::<PyType>() else { continue };
            let class_name = class.name()?.to_string();
            let home: String =
                class.getattr("__module__").and_then(|home| home.extract()).unwrap_or_default();
            if home == name
                && pattern.matches_class(&class_name)
                && class.getattr("__dict__")?.contains(method)?
            {
                self.hook(symbol, name, module, &format!("{class_name}.{method}"))?;
            }
        }
        Ok(())
    }

    fn hook(
        &self,
        symbol: &Symbol,
        module_name: &str,
        module: &Bound<'_, PyModule>,
        path: &str,
    ) -> PyResult<()> {
        let py = module.py();
        let place = locate(module, path)?;
        let inspect = py.import("inspect")?;
        let is = |question: &str| inspect.call_method1(question, (&place.callable,))?.is_truthy();
        let kind = if is("iscoroutinefunction")? {
            Kind::Coroutine
        } else if is("isasyncgenfunction")? {
            Kind::AsyncGenerator
        } else if is("isgeneratorfunction")? {
            Kind::Generator
        } else {
            Kind::Function
        };
        let name = symbol.name.as_deref().unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path));
        let (action, domain) = match self.handler(symbol, &place.callable, kind) {
            Some((action, domain)) => (action, domain.unwrap_or(&symbol.domain)),
            None => (Action::Timer(self.attributes(symbol, &place)?), symbol.domain.as_str()),
        };
        let is_generator = matches!(kind, Kind::Generator | Kind::AsyncGenerator);
        if is_generator && !matches!(action, Action::Custom(_)) {
            let problem = "is a generator function: its call only makes the generator, which a span would mistake for its run";
            return Err(pyo3::exceptions::PyTypeError::new_err(problem));
        }
        let hook = Hook {
            label: Label::new(&symbol.domain, name),
            gate: Gate::new(symbol.level, domain),
            caller: symbol.caller_filter.clone(),
            action,
            symbol: format!("{module_name}:{path}"),
            failures: AtomicU32::new(0),
        };
        install(py, &place, hook, kind)
    }

    /// The handler that the entry names, and the domain of its events if it has one of its own; None for the timer.
    fn handler(
        &self,
        symbol: &Symbol,
        target: &Bound<'_, PyAny>,
        kind: Kind,
    ) -> Option<(Action, Option<&'static str>)> {
        match &symbol.handler {
            HandlerRef::Timer => None,
            HandlerRef::BuiltIn(built_in) => {
                if let Some((handler, domain)) = handlers::code(*built_in) {
                    Some((Action::BuiltIn(handler), Some(domain)))
                } else {
                    log::warn!(
                        "{}:{}: this built-in handler does not exist yet; the timer is used",
                        self.file,
                        symbol.line
                    );
                    None
                }
            }
            HandlerRef::Custom { module, function } => match Custom::load(module, function, target, kind) {
                Ok(custom) => Some((Action::Custom(custom), None)),
                Err(problem) => {
                    log::warn!(
                        "{}:{}: the handler {module}:{function} can't be used for {}, the timer takes its place: {problem}",
                        self.file,
                        symbol.line,
                        symbol.target
                    );
                    None
                }
            },
        }
    }

    /// The attributes whose expressions fit the target's signature; the others are reported.
    fn attributes(&self, symbol: &Symbol, place: &Place<'_>) -> PyResult<Vec<Evaluated>> {
        if symbol.attributes.is_empty() {
            return Ok(Vec::new());
        }
        let signature = signature(place)?;
        let mut attributes = Vec::new();
        for attribute in &symbol.attributes {
            match expr::compile(&attribute.expr, &signature) {
                Ok(program) => attributes.push(Evaluated::new(&place.callable, &attribute.name, &program)?),
                Err(error) => {
                    log::warn!("{}:{}: attribute {}: {error}", self.file, attribute.line, attribute.name);
                }
            }
        }
        Ok(attributes)
    }
}

/// The target's parameters, as `inspect` tells them; none for what has no signature.
fn signature(place: &Place<'_>) -> PyResult<Signature> {
    let mut signature = Signature { is_method: place.is_method(), ..Signature::default() };
    let inspect = place.callable.py().import("inspect")?;
    let Ok(described) = inspect.call_method1("signature", (&place.callable,)) else { return Ok(signature) };
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
