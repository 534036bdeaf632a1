//! Names of files that are made from data: whatever a host, a span or an instance is called, the file lies where it was
//! meant to, and a terminal can show its name.

use std::collections::HashSet;

/// Most bytes that a text gives to a name. File systems take 143 to 255, and there is more in a name than the text.
const LONGEST: usize = 100;

/// A text as part of a file's name: without separators and what can't be seen, no longer than a name may be, and not
/// hidden. Different texts may give the same.
pub fn cleaned(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        let is_leading = name.bytes().all(|byte| byte == b'_') && matches!(c, '.' | '-');
        let c = if is_leading || is_unfit(c) { '_' } else { c };
        if name.len() + c.len_utf8() > LONGEST {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// Separators, what has no width, and what turns the direction of a line.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '/' | '\\'
                | '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

/// The names of several files in one folder.
#[derive(Debug, Default)]
pub struct FileNames(HashSet<String>);

impl FileNames {
    /// The name of a file that is made from this text and ends so; another for each call.
    pub fn name(&mut self, text: &str, ending: &str) -> String {
        let text = cleaned(text);
        let mut name = format!("{text}{ending}");
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{text}-{number}{ending}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_data_says_a_name_stays_in_its_folder_and_can_be_seen() {
        for (text, name) in [
            ("modelExec", "modelExec"),
            ("../../etc/passwd", "______etc_passwd"),
            ("a/b\\c", "a_b_c"),
            (".hidden", "_hidden"),
            ("--help", "__help"),
            ("10.0.0.1", "10.0.0.1"),
            ("a\u{1b}[31m\n\0", "a_[31m__"),
            ("gpj.\u{202e}exe", "gpj._exe"),
            ("中文 名", "中文 名"),
            ("", "unknown"),
            ("..", "__"),
        ] {
            assert_eq!(cleaned(text), name);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(cleaned(&"x".repeat(300)), "x".repeat(100));
        let cut = cleaned(&"中".repeat(300));
        assert_eq!(cut, "中".repeat(33));
    }

    #[test]
    fn texts_that_are_cleaned_to_the_same_have_files_of_their_own() {
        let mut names = FileNames::default();
        assert_eq!(names.name("a/b", ".csv"), "a_b.csv");
        assert_eq!(names.name("a_b", ".csv"), "a_b-2.csv");
        assert_eq!(names.name("a\\b", ".csv"), "a_b-3.csv");
        assert_eq!(names.name("a_b", ".png"), "a_b.png");
    }
}
