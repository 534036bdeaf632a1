//! The symbol table: a YAML list of entries, each checked by itself, so that a bad one costs only itself.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::yaml::{self, Content, Node, Twice};
use super::{HandlerRef, Target, Version, VersionRange};
use crate::config::Level;
use crate::expr;
use crate::printable::{quoted, shortened};

/// The entries of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The file, for messages.
    pub file: String,
    /// Its usable entries, in file order. Several may name the same function: later ones are outside.
    pub symbols: Vec<Symbol>,
}

/// An entry: a function to be seen, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    /// The function.
    pub target: Target,
    /// What is done with its calls.
    pub handler: HandlerRef,
    /// The domain of its spans.
    pub domain: String,
    /// The name of its spans; `None`: the function's own.
    pub name: Option<String>,
    /// The versions of the framework for which the entry applies.
    pub versions: VersionRange,
    /// What the timer records with a span. The grammar of each is right; its names are not checked yet.
    pub attributes: Vec<Attribute>,
    /// Only calls below a function of this name count.
    pub caller_filter: Option<String>,
    /// How long the timer's span lasts; `None`: as long as what the call makes runs, if it makes a coroutine or a
    /// generator, else as long as the call.
    pub until: Option<Until>,
    /// Of so many calls one is recorded.
    pub sample: NonZeroU32,
    /// A call that takes longer has flight recorders write what they remember.
    pub dump_over: Option<Duration>,
    /// The level of its events.
    pub level: Level,
    /// The line of the entry in the file, from 1.
    pub line: u64,
}

/// What ends a timer's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The call returns.
    Return,
    /// The future or awaitable that it returns is done.
    Done,
    /// The `with` block of the context manager that it returns is left.
    Exit,
}

/// A value that is recorded with a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in the record.
    pub name: String,
    /// The expression that gives its value.
    pub expr: String,
    /// The line of the expression in the file, from 1.
    pub line: u64,
}

/// Something in a symbol file that the user should know. The rest of the file has its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1, if it is known.
    pub line: Option<u64>,
    /// What is wrong and what is done about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, message } = self;
        match line {
            Some(line) => write!(f, "{file}:{line}: {message}"),
            None => write!(f, "{file}: {message}"),
        }
    }
}

const DEFAULT_DOMAIN: &str = "Default";

/// The keys of an entry.
const KEYS: [&str; 12] = [
    "symbol",
    "handler",
    "name",
    "domain",
    "attributes",
    "min_version",
    "max_version",
    "caller_filter",
    "until",
    "sample",
    "dump_over",
    "level",
];

/// Unknown keys of a file that are reported.
const MOST_UNKNOWN: usize = 20;

/// How the name of a file of packs begins.
pub(super) const BUILT_IN: &str = "built-in ";

impl Table {
    /// Whether these are packs that come with this profiler.
    pub fn is_built_in(&self) -> bool {
        self.file.starts_with(BUILT_IN)
    }

    /// Reads the text of `file`. What is wrong with it is in the list; an entry without a usable `symbol` is left
    /// out, and another bad value is replaced by its default.
    pub fn parse(text: &str, file: &str) -> (Self, Vec<Problem>) {
        let mut reader = Reader { file, problems: Vec::new(), unknown: Vec::new() };
        let symbols = reader.document(text);
        (Self { file: file.into(), symbols }, reader.problems)
    }
}

struct Reader<'a> {
    file: &'a str,
    problems: Vec<Problem>,
    /// Unknown keys that have been reported.
    unknown: Vec<String>,
}

impl Reader<'_> {
    fn report(&mut self, line: impl Into<Option<u64>>, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.into(), line: line.into(), message: message.into() });
    }

    fn document(&mut self, text: &str) -> Vec<Symbol> {
        let parsed = yaml::parse(text).map(|(document, twice)| {
            for Twice { key, first, last } in twice {
                let key = shortened(&key);
                let message =
                    format!("the key `{key}` is there twice, also in line {first}; this one counts");
                self.report(last, message);
            }
            document
        });
        match parsed {
            Ok(Node { content: Content::List(items), .. }) => {
                items.iter().filter_map(|item| self.symbol(item)).collect()
            }
            Ok(other) => {
                let kind = other.kind();
                self.report(
                    other.line,
                    format!("the file must be a list of `- symbol: …` entries, not {kind}; it is ignored"),
                );
                Vec::new()
            }
            Err((line, message)) => {
                self.report(line, format!("not valid YAML, the whole file is ignored: {message}"));
                Vec::new()
            }
        }
    }

    fn symbol(&mut self, item: &Node) -> Option<Symbol> {
        let line = item.line;
        let Content::Map(entries) = &item.content else {
            let kind = item.kind();
            self.report(
                line,
                format!("an entry must be a map that begins with `- symbol: …`, not {kind}; it is skipped"),
            );
            return None;
        };
        let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, node)| node);
        let Some(text) = self.text(get("symbol"), "symbol") else {
            self.report(line, "the entry has no `symbol`, which names the function; it is skipped");
            return None;
        };
        let target = match Target::parse(&text) {
            Ok(target) => target,
            Err(problem) => {
                self.report(line, format!("{problem}; the entry is skipped"));
                return None;
            }
        };
        let handler = self.handler(get("handler"));
        let attributes = self.attributes(get("attributes"));
        if handler != HandlerRef::Timer && !attributes.is_empty() {
            self.report(line, "`attributes` are recorded by the timer; with a handler they have no effect");
        }
        let until = self.until(get("until"));
        if handler != HandlerRef::Timer && until.is_some() {
            self.report(line, "`until` tells the timer when to end; with a handler it has no effect");
        }
        let sample = self.sample(get("sample"));
        if handler != HandlerRef::Timer && sample > NonZeroU32::MIN {
            self.report(line, "`sample` tells the timer what to leave out; with a handler it has no effect");
        }
        let min = self.parsed(get("min_version"), "min_version", "it limits nothing");
        let max: Option<Version> = self.parsed(get("max_version"), "max_version", "it limits nothing");
        if let (Some(min), Some(max)) = (&min, &max)
            && min > max
        {
            self.report(
                line,
                format!("`min_version` {min} is later than `max_version` {max}: no version has both"),
            );
        }
        self.report_unknown(entries);
        Some(Symbol {
            target,
            handler,
            domain: self.text(get("domain"), "domain").unwrap_or_else(|| DEFAULT_DOMAIN.into()),
            name: self.text(get("name"), "name"),
            versions: VersionRange { min, max },
            attributes,
            caller_filter: self.text(get("caller_filter"), "caller_filter"),
            until,
            sample,
            dump_over: self.dump_over(get("dump_over")),
            level: self.level(get("level")),
            line,
        })
    }

    /// The text under a key; none if there is no such key, or nothing in it.
    fn text(&mut self, node: Option<&Node>, key: &str) -> Option<String> {
        let node = node?;
        match &node.content {
            Content::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned),
            Content::Null => None,
            Content::List(_) | Content::Map(_) => {
                self.report(node.line, format!("`{key}` must be a text, not {}; it is ignored", node.kind()));
                None
            }
        }
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        node: Option<&Node>,
        key: &str,
        outcome: &str,
    ) -> Option<T> {
        let text = self.text(node, key)?;
        text.parse()
            .map_err(|error| self.report(node.map(|node| node.line), format!("`{key}`: {error}; {outcome}")))
            .ok()
    }

    fn handler(&mut self, node: Option<&Node>) -> HandlerRef {
        let text = self.text(node, "handler").unwrap_or_default();
        HandlerRef::parse(&text).unwrap_or_else(|problem| {
            self.report(node.map(|node| node.line), problem);
            HandlerRef::Timer
        })
    }

    fn until(&mut self, node: Option<&Node>) -> Option<Until> {
        match self.text(node, "until")?.as_str() {
            "return" => Some(Until::Return),
            "done" => Some(Until::Done),
            "exit" => Some(Until::Exit),
            other => {
                let message =
                    format!("`until`: {} is not return, done or exit; it has no effect", quoted(other));
                self.report(node.map(|node| node.line), message);
                None
            }
        }
    }

    fn sample(&mut self, node: Option<&Node>) -> NonZeroU32 {
        let Some(text) = self.text(node, "sample") else { return NonZeroU32::MIN };
        let every = text.strip_prefix("1/").and_then(|every| every.trim().parse().ok());
        every.unwrap_or_else(|| {
            let message = format!(
                "`sample`: {} is not like 1/100 (one call of a hundred); all are recorded",
                quoted(&text)
            );
            self.report(node.map(|node| node.line), message);
            NonZeroU32::MIN
        })
    }

    fn dump_over(&mut self, node: Option<&Node>) -> Option<Duration> {
        let text = self.text(node, "dump_over")?;
        let number = text.trim_end_matches(char::is_alphabetic);
        let unit = match &text[number.len()..] {
            "s" => Some(1.0),
            "ms" => Some(1e-3),
            "us" => Some(1e-6),
            _ => None,
        };
        let seconds = number.trim().parse::<f64>().ok().zip(unit).map(|(number, unit)| number * unit);
        let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if limit.is_none() {
            let message = format!(
                "`dump_over`: {} is not a time such as 500ms, 2s or 80us; it has no effect",
                quoted(&text)
            );
            self.report(node.map(|node| node.line), message);
        }
        limit
    }

    fn level(&mut self, node: Option<&Node>) -> Level {
        let Some(text) = self.text(node, "level") else { return Level::INFO };
        let number = || text.parse().ok().map(Level::new).filter(|level| *level <= Level::VERBOSE);
        let level = Level::from_name(&text).or_else(number);
        level.unwrap_or_else(|| {
            let text = quoted(&text);
            let message = format!(
                "`level`: {text} is not core, normal, detailed, verbose or a number up to 40; normal is used"
            );
            self.report(node.map(|node| node.line), message);
            Level::INFO
        })
    }

    fn attributes(&mut self, node: Option<&Node>) -> Vec<Attribute> {
        let Some(node) = node else { return Vec::new() };
        match &node.content {
            Content::List(items) => items.iter().filter_map(|item| self.attribute(item)).collect(),
            Content::Null => Vec::new(),
            Content::Text(_) | Content::Map(_) => {
                let kind = node.kind();
                self.report(
                    node.line,
                    format!(
                        "`attributes` must be a list of `- name: …` with `expr: …`, not {kind}; it is ignored"
                    ),
                );
                Vec::new()
            }
        }
    }

    fn attribute(&mut self, item: &Node) -> Option<Attribute> {
        let entries = match &item.content {
            Content::Map(entries) => &entries[..],
            _ => &[],
        };
        let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, node)| node);
        let (name, expr) = (self.text(get("name"), "name"), self.text(get("expr"), "expr"));
        let (Some(name), Some(expr)) = (name, expr) else {
            self.report(item.line, "an attribute needs `name: …` and `expr: …`; it is left out");
            return None;
        };
        let line = get("expr").map_or(item.line, |node| node.line);
        if let Err(error) = expr::check(&expr) {
            self.report(line, format!("the attribute `{}` is left out: {error}", shortened(&name)));
            return None;
        }
        Some(Attribute { name, expr, line })
    }

    /// Says once for each unknown key of the file that it has no effect: it may be a slip.
    fn report_unknown(&mut self, entries: &[(String, Node)]) {
        for (key, node) in entries {
            if KEYS.contains(&key.as_str()) || self.unknown.contains(key) {
                continue;
            }
            self.unknown.push(key.clone());
            if self.unknown.len() > MOST_UNKNOWN {
                continue;
            }
            let (key, keys) = (shortened(key), KEYS.join(", "));
            self.report(node.line, format!("the key `{key}` has no effect; there are: {keys}"));
        }
    }
}

#[cfg(test)]
mod tests;
