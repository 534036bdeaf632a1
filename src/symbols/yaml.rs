//! A YAML document as it was written: texts, lists and maps with the line of each. No type is guessed from a plain
//! text, so that the version `0.10` stays what it is. The table of symbols is read from it.

use std::fmt;

use rustc_hash::FxHashMap;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Options, Spanned};

use crate::printable::shortened;

/// Lists and maps in others, each of which takes some of the thread's stack. An entry has three.
const DEEPEST: usize = 16;

/// Keys that are there twice and told of, in a file.
const MOST_TWICE: usize = 20;

/// A part of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: u64,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Nothing, or `null` in one of its spellings.
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// A key that a map has more than once. As in PyYAML, the last one counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Twice {
    pub(super) key: String,
    /// The line of one that does not count.
    pub(super) first: u64,
    /// The line of the one that counts in its place.
    pub(super) last: u64,
}

/// Reads one document; and what is there twice in it.
///
/// # Errors
/// The text is no YAML: the line, if it is known, and what is wrong.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Twice>), (Option<u64>, String)> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok((Node { line: 1, content: Content::Null }, Vec::new()));
    }
    let mut options = Options::default();
    options.with_snippet = false;
    options.budget = serde_saphyr::budget! { max_depth: DEEPEST };
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        let message = error.without_snippet().to_string();
        match line.and_then(|line| line_with_tab(text, line)) {
            Some(with_tab) if Some(with_tab) == line || message.contains("tab") => {
                (Some(with_tab), "the line is indented with a tab; YAML takes spaces".into())
            }
            _ => (line, shortened(&message)),
        }
    })?;
    let mut twice = Vec::new();
    let document = raw_to_node(raw, text, &mut twice);
    Ok((document, twice))
}

/// The first line from this one on that is indented with a tab. What is said to be wrong with one may be told of the
/// text before it, which it seems to continue.
fn line_with_tab(text: &str, from: u64) -> Option<u64> {
    let is_indented_with_tab = |line: &str| {
        let rest = line.trim_start_matches([' ', '\t']);
        !rest.is_empty() && !rest.starts_with('#') && line[..line.len() - rest.len()].contains('\t')
    };
    let mut lines = text.lines().zip(1..).skip_while(|(_, number)| *number < from);
    lines.find(|(line, _)| is_indented_with_tab(line)).map(|(_, number)| number)
}

/// A node before its text is taken from the source.
enum Raw {
    Null,
    /// A quoted or folded text, or one that looks like nothing else.
    Text(String),
    /// A plain text that looks like a number or a truth value.
    Plain,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

fn raw_to_node(raw: Spanned<Raw>, source: &str, twice: &mut Vec<Twice>) -> Node {
    let content = match raw.value {
        Raw::Null => Content::Null,
        Raw::Text(text) => Content::Text(text),
        Raw::Plain => {
            let span = raw.defined.span();
            let range = span.byte_offset().zip(span.byte_len());
            let text =
                range.and_then(|(start, length)| source.get(start as usize..(start + length) as usize));
            Content::Text(text.unwrap_or_default().trim().to_owned())
        }
        Raw::List(items) => {
            Content::List(items.into_iter().map(|item| raw_to_node(item, source, twice)).collect())
        }
        Raw::Map(entries) => Content::Map(map(entries, source, twice)),
    };
    Node { line: raw.referenced.line(), content }
}

fn map(
    entries: Vec<(Spanned<Raw>, Spanned<Raw>)>,
    source: &str,
    twice: &mut Vec<Twice>,
) -> Vec<(String, Node)> {
    let mut map: Vec<(String, Node)> = Vec::with_capacity(entries.len());
    // By key: its place in the map, and its line.
    let mut places: FxHashMap<String, (usize, u64)> = FxHashMap::default();
    for (key, value) in entries {
        let Node { line, content: Content::Text(key) } = raw_to_node(key, source, twice) else { continue };
        let value = raw_to_node(value, source, twice);
        match places.insert(key.clone(), (map.len(), line)) {
            None => map.push((key, value)),
            Some((place, first)) => {
                places.insert(key.clone(), (place, line));
                map[place].1 = value;
                if twice.len() < MOST_TWICE {
                    twice.push(Twice { key, first, last: line });
                }
            }
        }
    }
    map
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The texts of a list of texts, `-` for nothing.
    fn texts(yaml: &str) -> Vec<String> {
        let Content::List(items) = parse(yaml).unwrap().0.content else { panic!("{yaml}") };
        items
            .into_iter()
            .map(|item| match item.content {
                Content::Text(text) => text,
                Content::Null => "-".into(),
                _ => panic!("{yaml}"),
            })
            .collect()
    }

    #[test]
    fn a_plain_text_stays_as_it_was_written() {
        let written = [
            "0.10",
            "0.11",
            "1",
            "1_000",
            "0x1F",
            "0o17",
            "010",
            "1e3",
            "1e999",
            ".inf",
            "-.5",
            "+1",
            "yes",
            "on",
            "True",
            "no",
            "99999999999999999999999",
            "12:30:45",
            "2024-01-01",
            "a b",
            "x | attr y",
            "é",
        ];
        let yaml = format!("- {}  # note\n", written.join("  # note\n- "));
        assert_eq!(texts(&yaml), written);
        assert_eq!(texts(&format!("[{}]", written.join(", "))), written, "in flow style too");
        let non_ascii = format!("- {} # ü\n", written.join(" # ünïcode before the next\n- "));
        assert_eq!(texts(&non_ascii), written);
    }

    #[test]
    fn quoted_and_folded_texts_are_what_they_mean() {
        let yaml = "- \"0.10\"\n- '~'\n- >-\n  a\n  b\n- |\n  x | len\n- plain\n  on two lines\n";
        assert_eq!(texts(yaml), ["0.10", "~", "a b", "x | len\n", "plain on two lines"]);
        assert_eq!(texts("- ~\n- null\n-\n- ''\n"), ["-", "-", "-", ""]);
    }

    #[test]
    fn anchors_and_merge_keys_give_what_they_stand_for() {
        let yaml = "- &base {domain: D, min_version: 0.10}\n- <<: *base\n  name: n\n- *base\n";
        let Content::List(items) = parse(yaml).unwrap().0.content else { panic!() };
        let Content::Map(merged) = &items[1].content else { panic!() };
        let get = |key: &str| &merged.iter().find(|(k, _)| k == key).unwrap().1.content;
        assert_eq!(*get("name"), Content::Text("n".into()));
        assert_eq!(*get("min_version"), Content::Text("0.10".into()));
        assert_eq!(items[2].line, 4, "an alias is where it is used");
    }

    #[test]
    fn every_node_knows_its_line() {
        let Content::List(items) = parse("# comment\n\n- a: 1\n  b:\n    - x\n- c\n").unwrap().0.content
        else {
            panic!()
        };
        assert_eq!((items[0].line, items[1].line), (3, 6));
        let Content::Map(entries) = &items[0].content else { panic!() };
        assert_eq!((entries[0].1.line, entries[1].1.line), (3, 5));
    }

    #[test]
    fn broken_yaml_is_an_error_with_its_line() {
        let (line, message) = parse("- a: 1\n- b: [1\n- c: 2\n").unwrap_err();
        assert!(line.is_some_and(|line| line >= 2), "{line:?} {message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn a_tab_is_told_of_the_line_that_has_it() {
        for yaml in
            ["- a: f\n\tb: x\n- c: g\n", "- a: f\n\n  b:\n\t- x\n", "- a: f\n- c: f\n  # note\n  \td: x\n"]
        {
            let (line, message) = parse(yaml).unwrap_err();
            let expected = yaml.lines().position(|line| line.contains('\t')).unwrap() as u64 + 1;
            assert_eq!(line, Some(expected), "{yaml:?}: {message}");
            assert!(message.contains("indented with a tab"), "{message}");
        }
    }

    #[test]
    fn a_document_that_grows_or_nests_without_measure_is_an_error() {
        let line = |n: usize| format!("- &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        let laughs =
            "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(line).collect::<String>();
        for yaml in [laughs, "[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            let (_, message) = parse(&yaml).unwrap_err();
            assert!(message.len() < 300, "{message}");
        }
    }

    #[test]
    fn an_empty_document_is_nothing() {
        for text in ["", "\n", "# only a comment\n", "\u{feff}"] {
            assert_eq!(parse(text).unwrap().0.content, Content::Null, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-z0-9:&*!|>'\"{}\\[\\], #\n.~é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
