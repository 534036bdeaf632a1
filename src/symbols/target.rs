//! What an entry of the symbol table names: one function or method, or a pattern of methods.

use std::fmt;

use super::Pattern;
use crate::printable::{quoted, shortened};

/// The `symbol` of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `package.module:Class.method` or `package.module:function`.
    Exact {
        /// The dotted name of the module.
        module: String,
        /// The way from the module to the function: names separated by dots.
        path: String,
    },
    /// `package.*:Class*.method`.
    Pattern(Pattern),
}

impl Target {
    /// Reads the text of a `symbol`.
    ///
    /// # Errors
    /// The text names nothing; the message says why and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((module, path)) = text.split_once(':') else {
            return Err(match with_colon(text) {
                Some(better) => format!(
                    "{} does not say where the module ends: put a colon there, perhaps `{}`",
                    quoted(text),
                    shortened(&better)
                ),
                None => format!("{} names no function: write `package.module:Class.method`", quoted(text)),
            });
        };
        if text.contains('*') {
            return Self::parse_pattern(text, module, path);
        }
        for (part, what) in [(module, "module"), (path, "function")] {
            if !part.split('.').all(is_identifier) {
                let (part, text) = (quoted(part), quoted(text));
                return Err(format!(
                    "{part} in {text} is not the name of a {what}: write `package.module:Class.method`"
                ));
            }
        }
        Ok(Self::Exact { module: module.into(), path: path.into() })
    }

    fn parse_pattern(text: &str, module: &str, path: &str) -> Result<Self, String> {
        let text = quoted(text);
        let Some((class, method)) = path.rsplit_once('.') else {
            return Err(format!("the pattern {text} names no class: write `package.*:Class*.method`"));
        };
        if !is_identifier(method) {
            let method = quoted(method);
            return Err(format!(
                "{method} in the pattern {text} is not the whole name of a method: wildcards stand in the module and in \
                 the class, as in `package.*:Class*.method`; write an entry for each method"
            ));
        }
        if class.contains('.') || class.is_empty() || module.is_empty() {
            return Err(format!("the pattern {text} must have one class: write `package.*:Class*.method`"));
        }
        Ok(Self::Pattern(Pattern { module: module.into(), class: class.into(), method: method.into() }))
    }

    /// Whether this module has, or may have, what is named.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact { module, .. } => module == name,
            Self::Pattern(pattern) => pattern.matches(name),
        }
    }

    /// The top-level package that it is in.
    pub fn package(&self) -> &str {
        let module = match self {
            Self::Exact { module, .. } => module,
            Self::Pattern(pattern) => &pattern.module,
        };
        module.split('.').next().unwrap_or(module)
    }

    /// The name of the function or method itself.
    pub fn function(&self) -> &str {
        match self {
            Self::Exact { path, .. } => path.rsplit('.').next().unwrap_or(path),
            Self::Pattern(pattern) => &pattern.method,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact { module, path } => write!(f, "{module}:{path}"),
            Self::Pattern(Pattern { module, class, method }) => write!(f, "{module}:{class}.{method}"),
        }
    }
}

/// A Python name.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

/// The same dotted name with a colon where the module probably ends: before the first class, else before the last name.
fn with_colon(dotted: &str) -> Option<String> {
    let parts: Vec<_> = dotted.split('.').collect();
    if parts.len() < 2 || !parts.iter().all(|part| is_identifier(part)) {
        return None;
    }
    let is_class = |part: &&str| part.starts_with(char::is_uppercase);
    let end = parts.iter().position(is_class).filter(|&index| index > 0).unwrap_or(parts.len() - 1);
    Some(format!("{}:{}", parts[..end].join("."), parts[end..].join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_methods_and_nested_classes_are_named_exactly() {
        let cases = [
            ("a.b:f", "a.b", "f", "f"),
            ("a:C.m", "a", "C.m", "m"),
            (" a.b:C.D.m ", "a.b", "C.D.m", "m"),
            (
                "vllm.v1.worker.gpu_model_runner:GPUModelRunner._pool",
                "vllm.v1.worker.gpu_model_runner",
                "GPUModelRunner._pool",
                "_pool",
            ),
        ];
        for (text, module, path, function) in cases {
            let target = Target::parse(text).unwrap();
            assert_eq!(target, Target::Exact { module: module.into(), path: path.into() }, "{text}");
            assert_eq!(target.function(), function);
            assert_eq!(target.to_string(), text.trim());
            assert!(target.matches(module) && !target.matches("a.b.c"));
        }
    }

    #[test]
    fn a_star_anywhere_makes_a_pattern() {
        for (text, module, class) in [
            ("vllm.model_executor.models.*:*.embed_multimodal", "vllm.model_executor.models.qwen", "Qwen"),
            ("a.b:C*.m", "a.b", "Cat"),
            ("a.*.c:C.m", "a.b.c", "C"),
        ] {
            let Target::Pattern(pattern) = Target::parse(text).unwrap() else { panic!("{text}") };
            assert!(pattern.matches(module) && pattern.matches_class(class), "{text}");
            assert_eq!(Target::Pattern(pattern).to_string(), text);
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_to_write() {
        let cases = [
            (
                "vllm.v1.core.sched.scheduler.Scheduler.schedule",
                "perhaps `vllm.v1.core.sched.scheduler:Scheduler.schedule`",
            ),
            ("json.dumps", "perhaps `json:dumps`"),
            ("schedule", "write `package.module:Class.method`"),
            ("", "write `package.module:Class.method`"),
            ("a:b:c", "\"b:c\" in \"a:b:c\" is not the name of a function"),
            ("a.:f", "\"a.\" in \"a.:f\" is not the name of a module"),
            (":f", "is not the name of a module"),
            ("a:", "is not the name of a function"),
            ("a b:f", "is not the name of a module"),
            ("a.*:f", "names no class"),
            ("a.*:C.m*", "write an entry for each method"),
            ("a.*:C.D.m", "must have one class"),
        ];
        for (text, message) in cases {
            let error = Target::parse(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
