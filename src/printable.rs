//! Text from outside - names, ids, values, paths - as a person may see it. What would steer a terminal, hide or turn
//! text around is spelled out, and a value that a message quotes is cut.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Most characters of a value that a message quotes.
const QUOTED: usize = 200;

/// Most characters of a message.
const MESSAGE: usize = 4_000;

/// What goes on in a message's next line stands behind these, so that no text from outside can pass for a line of its
/// own.
const INDENT: &str = "    ";

/// The text on one line: a line break becomes `\n`, an escape `\u001b`. Python and JSON read these spellings as what
/// they stand for.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| spell(c, &mut out));
    out.into()
}

/// A message: cut if it is very long, and on one line but for what is indented below it.
pub fn message(text: &str) -> Cow<'_, str> {
    let text = cut(text, MESSAGE);
    if !text.contains(steers) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (number, line) in text.split(&format!("\n{INDENT}")).enumerate() {
        if number > 0 {
            let _ = write!(out, "\n{INDENT}"); // into a text: can't fail
        }
        line.chars().for_each(|c| spell(c, &mut out));
    }
    out.into()
}

/// Several lines as they go on below a message.
pub fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = write!(out, "\n{INDENT}{line}"); // into a text: can't fail
        out
    })
}

/// A value as a message quotes it: printable, in quotation marks, cut if it is long.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", shortened(value))
}

/// A value as a message shows it: printable, cut if it is long.
pub fn shortened(value: &str) -> String {
    printable(&cut(value, QUOTED)).into_owned()
}

/// At most so many characters; in place of the others stands how many they are.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some((end, _)) => {
            let rest = text[end..].chars().count();
            format!("{}… ({rest} more characters)", &text[..end]).into()
        }
    }
}

/// Something whose text is made printable as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0.to_string()))
    }
}

/// Control characters, and those that have no width, break lines or turn the direction of text.
pub fn steers(c: char) -> bool {
    // Most text is of these alone.
    !matches!(c, ' '..='~')
        && (c.is_control()
            || matches!(
                c,
                '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            ))
}

fn spell(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if steers(c) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}"); // into a text: can't fail
            }
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_or_turns_text_around_is_spelled_out() {
        for (text, expected) in [
            ("plain é 漢 👩‍💻", "plain é 漢 👩‍💻"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u001b[2J\\u001b]0;title\\u0007"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{9b}31m\u{7f}", "\\u009b31m\\u007f"),
            ("user\u{202e}nimda\u{2066}\u{200b}", "user\\u202enimda\\u2066\\u200b"),
            ("\u{2028}\u{feff}\u{e0041}", "\\u2028\\ufeff\\udb40\\udc41"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn a_message_goes_on_only_in_indented_lines() {
        assert_eq!(message("column 3: no\n    a b\n      ^"), "column 3: no\n    a b\n      ^");
        assert_eq!(message("x\n[msprof_rs] [ERROR] forged\r"), "x\\n[msprof_rs] [ERROR] forged\\r");
        let long = message(&"é".repeat(5_000_000)).into_owned();
        assert!(long.chars().count() < 4_100 && long.ends_with("é… (4996000 more characters)"));
    }

    #[test]
    fn a_value_is_quoted_in_two_hundred_characters() {
        assert_eq!(quoted("a\n"), "\"a\\n\"");
        let long = quoted(&"x".repeat(25 << 20));
        assert_eq!(long, format!("\"{}… (26214200 more characters)\"", "x".repeat(200)));
    }

    proptest! {
        #[test]
        fn json_stays_the_same_json(text in "\\PC{0,5}[\u{7f}-\u{9f}\u{202a}-\u{202e}\u{e0000}-\u{e007f}]{0,5}.{0,5}") {
            let json = serde_json::to_string(&text).unwrap();
            let shown = printable(&json);
            prop_assert!(!shown.contains(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
