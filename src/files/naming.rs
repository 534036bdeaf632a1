//! Names of files that data has given: of spans, of hosts.

use rustc_hash::FxHashSet;

use crate::printable;

/// Most bytes of such a name: what is added to it must fit into the 255 that file systems take.
const LONGEST: usize = 180;

/// Gives names to files, each its own.
#[derive(Debug, Default)]
pub struct Naming {
    taken: FxHashSet<String>,
}

/// A name after this text, in one folder on any system: what does not fit there becomes `_`, a long one is cut.
pub fn file_name(text: &str) -> String {
    let fits = |c: char| !printable::steers(c) && !"/\\:*?\"<>|".contains(c);
    let mut name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    // A dot in front would hide it.
    if name.is_empty() || name.starts_with('.') {
        name.replace_range(..name.len().min(1), "_");
    }
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

impl Naming {
    /// The [`file_name`] of this text, with a number behind it if it is taken.
    pub fn name(&mut self, text: &str) -> String {
        let short = file_name(text);
        let mut name = short.clone();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{short}-{number}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder_and_fits_there() {
        let mut naming = Naming::default();
        for (text, expected) in [
            ("modelExec", "modelExec"),
            ("a/b", "a_b"),
            ("a_b", "a_b-2"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_."),
            ("", "_"),
            ("C:\\x\u{1b}[2J\n", "C__x_[2J_"),
        ] {
            assert_eq!(naming.name(text), expected, "{text:?}");
        }
        let long = naming.name(&"漢".repeat(300));
        assert!(long.len() <= LONGEST && long.starts_with("漢漢"));
        assert_ne!(naming.name(&"漢".repeat(301)), long);
    }
}
