//! Patterns: one entry of the symbol table for the same method of many classes.

/// A module pattern, a class pattern and a method's name, as in `pkg.sub.*:Class*.method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Matched against a module's whole dotted name; `pkg.sub.*` matches at any depth below `pkg.sub`, not itself.
    pub module: String,
    /// Matched against the name of a class that the module itself defines.
    pub class: String,
    /// The method, which the class itself must define.
    pub method: String,
}

impl Pattern {
    /// Whether classes of this module are meant.
    pub fn matches(&self, module: &str) -> bool {
        matches(&self.module, module)
    }

    /// Whether this class of such a module is meant.
    pub fn matches_class(&self, class: &str) -> bool {
        matches(&self.class, class)
    }
}

/// Python's `fnmatch.fnmatchcase`: `*` any text, `?` any character, `[ab]`, `[a-z]` and `[!ab]` one of a set.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if the last `*` must take one more character.
    let mut star = None;
    loop {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            None if t == text.len() => return true,
            Some(_) if t < text.len() => {
                let (taken, after) = matches_one(&pattern, p, text[t]);
                if taken {
                    (p, t) = (after, t + 1);
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((after_star, start)) if start < text.len() => {
                (p, t) = (after_star, start + 1);
                star = Some((after_star, start + 1));
            }
            _ => return false,
        }
    }
}

/// Whether the part of the pattern at `p` takes this character, and where the next part begins.
fn matches_one(pattern: &[char], p: usize, c: char) -> (bool, usize) {
    match pattern[p] {
        '?' => (true, p + 1),
        '[' => {
            let negated = pattern.get(p + 1) == Some(&'!');
            let first = p + 1 + usize::from(negated);
            // A `]` that comes first is one of the set.
            let end = (first + 1..pattern.len()).find(|&i| pattern[i] == ']');
            let Some(end) = end else { return (c == '[', p + 1) };
            (is_in_set(&pattern[first..end], c) != negated, end + 1)
        }
        same => (same == c, p + 1),
    }
}

fn is_in_set(set: &[char], c: char) -> bool {
    match set {
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || is_in_set(rest, c),
        [one, rest @ ..] => *one == c || is_in_set(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modules_below_a_package_match_at_any_depth_but_not_the_package() {
        let pattern =
            Pattern { module: "pkg.sub.*".into(), class: "*Attention".into(), method: "forward".into() };
        for (module, expected) in [
            ("pkg.sub.a", true),
            ("pkg.sub.a.b", true),
            ("pkg.sub", false),
            ("pkg.subway.a", false),
            ("other.pkg.sub.a", false),
        ] {
            assert_eq!(pattern.matches(module), expected, "{module}");
        }
        assert!(pattern.matches_class("FlashAttention") && pattern.matches_class("Attention"));
        assert!(!pattern.matches_class("AttentionBlock"));
    }

    #[test]
    fn wildcards_are_those_of_fnmatch() {
        let cases = [
            ("*", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("?b", "ab", true),
            ("?b", "b", false),
            ("[A-C]x", "Bx", true),
            ("[A-C]x", "Dx", false),
            ("[!A-C]x", "Dx", true),
            ("[]]x", "]x", true),
            ("[a", "[a", true),
            ("a.c", "abc", false),
            ("**a", "xa", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_any_part_replaced_by_a_star(text in "[a-z.]{0,20}", a in 0usize..20, b in 0usize..20) {
            let (from, to) = (a.min(b).min(text.len()), a.max(b).min(text.len()));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches(&pattern, &text));
            let longer = format!("{text}X");
            prop_assert_eq!(matches(&pattern, &longer), to == text.len());
        }

        #[test]
        fn no_pattern_panics(pattern in "[a*?!\\[\\]-]{0,12}", text in "[a\\[\\]!-]{0,8}") {
            matches(&pattern, &text);
        }
    }
}
