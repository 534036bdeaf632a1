//! What an expression can name: the parameters of the target.

/// The parameters of a target, as `inspect.signature` tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Parameters that may be given by position, in order; a method's instance is among them.
    pub positional: Vec<String>,
    /// Parameters that can be given by keyword only.
    pub keyword_only: Vec<String>,
    /// The name after `*`.
    pub varargs: Option<String>,
    /// The name after `**`.
    pub varkw: Option<String>,
    /// Whether the first positional argument is the instance (or the class).
    pub is_method: bool,
}

impl Signature {
    /// The names that an expression may use, for messages.
    pub(super) fn names(&self) -> String {
        let parameters =
            self.positional.iter().chain(&self.keyword_only).chain(&self.varargs).chain(&self.varkw);
        let names: Vec<_> = parameters.map(String::as_str).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}
