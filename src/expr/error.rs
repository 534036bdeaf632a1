//! An error of an expression, pointing at its place in the text.

use std::fmt;

use crate::printable;

/// So much of a long text is shown before the place and behind it, in characters.
const AROUND: usize = 90;

/// What is wrong with an expression, and where. Shown with the text and a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ExprError {
    /// The part around the place.
    text: String,
    /// Characters before that part.
    first: usize,
    column: usize,
    message: String,
}

impl ExprError {
    /// `offset` is in bytes from the start of `text`.
    pub(super) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let column = text.get(..offset).unwrap_or(text).chars().count() + 1;
        let first = (column - 1).saturating_sub(AROUND);
        // The caret must stand below its column, so the text is shown as one line.
        let shown = text.chars().skip(first).take(2 * AROUND);
        let text = shown.map(|c| if printable::steers(c) { ' ' } else { c }).collect();
        Self { text, first, column, message: message.into() }
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
        let Self { text, first, column, message } = self;
        write!(f, "column {column}: {message}\n    {text}\n    {:>1$}", "^", column - first)
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

    #[test]
    fn of_a_long_text_only_the_part_around_the_place_is_shown() {
        let text = format!("{}!{}", "a".repeat(1 << 20), "b".repeat(1 << 20));
        let error = ExprError::new(&text, 1 << 20, "no").to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines[0], "column 1048577: no");
        assert!(lines[1].len() < 200 && lines[2].find('^') == lines[1].find('!'), "{error}");
    }
}
