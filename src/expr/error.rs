//! An error of an expression, pointing at its place in the text.

use std::fmt;

/// What is wrong with an expression, and where. Shown with the text and a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ExprError {
    text: String,
    column: usize,
    message: String,
}

impl ExprError {
    /// `offset` is in bytes from the start of `text`.
    pub(super) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let column = text.get(..offset).unwrap_or(text).chars().count() + 1;
        // The caret must stand below its column, so the text is shown as one line.
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { text, column, message: message.into() }
    }

    /// The column of the error in characters, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, column, message } = self;
        write!(f, "column {column}: {message}\n    {text}\n    {:>column$}", "^")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place_counted_in_characters() {
        let error = ExprError::new("ü\n| foo", 5, "no");
        assert_eq!(error.column(), 5);
        assert_eq!(error.to_string(), "column 5: no\n    ü | foo\n        ^");
    }
}
