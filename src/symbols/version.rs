//! Versions by PEP 440, and the range of them for which an entry of the symbol table applies.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::printable::quoted;

/// A version by PEP 440, ordered as Python's `packaging` orders them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pep440_rs::Version);

/// A text that is no version.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} is not a version by PEP 440 (such as \"0.11.0\" or \"0.15.0rc1\")", quoted(text))]
pub struct VersionError {
    text: String,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        text.parse().map(Self).map_err(|_| VersionError { text: text.into() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Version {
    /// This version as it is held against a limit.
    ///
    /// A local part (`0.11.0+cpu`) says how a version was built, not what is in it, and does not count. A
    /// development build (`0.20.1rc1.dev3+gabc`) is held for the release that it leads to (`0.20.1`): it has nearly
    /// all of that release's code, and of two entries, one up to `0.20.0` and one from `0.20.1`, just one applies.
    /// A pre-release without `.dev` is what it says. A limit that has such a part itself is meant exactly.
    fn against(&self, limit: &Self) -> Self {
        let mut version = self.0.clone();
        if limit.0.local().is_empty() {
            version = version.without_local();
        }
        if version.is_dev() && !limit.0.is_dev() {
            version = version.with_dev(None).with_pre(None);
        }
        Self(version)
    }
}

/// The versions of the framework for which an entry applies. Both limits are included; a missing one limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionRange {
    /// The earliest.
    pub min: Option<Version>,
    /// The latest.
    pub max: Option<Version>,
}

impl VersionRange {
    /// Whether this version is in the range. One that is not known is.
    pub fn admits(&self, version: Option<&Version>) -> bool {
        let Some(version) = version else { return true };
        self.min.as_ref().is_none_or(|min| version.against(min) >= *min)
            && self.max.as_ref().is_none_or(|max| version.against(max) <= *max)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn range(min: &str, max: &str) -> VersionRange {
        let limit = |text: &str| (!text.is_empty()).then(|| version(text));
        VersionRange { min: limit(min), max: limit(max) }
    }

    #[test]
    fn both_limits_are_included_and_compared_as_versions() {
        let cases = [
            ("", "", "0.1", true),
            ("0.9.1", "", "0.9.1", true),
            ("0.9.1", "", "0.11.0", true),
            ("0.9.1", "", "0.9", false),
            ("0.9.1", "", "0.9.1rc1", false),
            ("", "0.11.0", "0.11.0", true),
            ("", "0.11.0", "0.11", true),
            ("", "0.11.0", "0.11.0rc2", true),
            ("", "0.11.0", "0.11.0.post2", false),
            ("", "0.14.0rc1", "0.14.0", false),
            ("0.15.0rc1", "", "0.15.0rc1", true),
            ("0.15.0rc1", "", "0.15.0", true),
            ("0.10", "0.10", "0.10.0", true),
            ("0.10", "", "0.9.2", false),
        ];
        for (min, max, text, admitted) in cases {
            assert_eq!(range(min, max).admits(Some(&version(text))), admitted, "{min} ≤ {text} ≤ {max}");
        }
    }

    #[test]
    fn how_a_version_was_built_does_not_count() {
        for text in ["0.11.0+cpu", "0.11.0+g1a2b3c.d20250101"] {
            assert!(range("0.11.0", "0.11.0").admits(Some(&version(text))), "{text}");
        }
        assert!(!range("0.11.0+cu128", "").admits(Some(&version("0.11.0+cpu"))), "unless the limit says so");
        assert!(range("0.11.0+cpu", "0.11.0+cpu").admits(Some(&version("0.11.0+cpu"))));
    }

    #[test]
    fn a_development_build_counts_as_the_release_that_it_leads_to() {
        for text in ["0.20.1rc1.dev3+gabc", "0.20.1.dev0", "0.20.1.dev12+g0.cpu"] {
            let build = version(text);
            assert!(range("0.20.1", "").admits(Some(&build)), "{text}");
            assert!(range("0.20.1rc2", "").admits(Some(&build)), "{text}");
            assert!(!range("", "0.20.0").admits(Some(&build)), "{text}");
            assert!(range("", "0.20.1").admits(Some(&build)), "{text}");
        }
        assert!(!range("0.20.1", "").admits(Some(&version("0.20.1rc1"))), "a pre-release is what it says");
        assert!(
            !range("0.20.1.dev5", "").admits(Some(&version("0.20.1.dev3"))),
            "unless the limit is one too"
        );
    }

    #[test]
    fn an_unknown_version_is_admitted() {
        assert!(range("99", "1").admits(None));
    }

    #[test]
    fn what_is_no_version_is_an_error_that_shows_it() {
        let error = "v0.9-nightly-x".parse::<Version>().unwrap_err();
        assert!(error.to_string().starts_with("\"v0.9-nightly-x\" is not a version"), "{error}");
    }

    /// Version-like texts, odd spellings and wrong ones among them.
    fn any_version() -> impl Strategy<Value = String> {
        let number = || 0u32..12;
        let release = prop::collection::vec(number(), 1..4)
            .prop_map(|parts| parts.iter().map(u32::to_string).collect::<Vec<_>>().join("."));
        let part = |choices: &'static [&'static str]| {
            prop::option::weighted(0.4, (prop::sample::select(choices), prop::option::of(number()))).prop_map(
                |part| {
                    part.map_or(String::new(), |(word, n)| {
                        format!("{word}{}", n.map_or(String::new(), |n| n.to_string()))
                    })
                },
            )
        };
        (
            prop::sample::select(vec!["", "", "", "v", "0!", "1!"]),
            release,
            part(&["a", "b", "rc", ".rc", "-alpha", "_beta.", "c", "preview", "x"]),
            part(&[".post", "post", "-", "-r", ".rev"]),
            part(&[".dev", "dev", "-dev"]),
            prop::sample::select(vec![
                "",
                "",
                "",
                "+cpu",
                "+g1a2b",
                "+ubuntu-1",
                "+1",
                "+01.A",
                "+",
                "+a..b",
            ]),
        )
            .prop_map(|(prefix, release, pre, post, dev, local)| {
                format!("{prefix}{release}{pre}{post}{dev}{local}")
            })
    }

    /// Reads pairs of texts, one a line; says for each what is a version and how they compare.
    const ORACLE: &str = r"
import sys
try:
    from packaging.version import InvalidVersion, Version
except ImportError:
    from pip._vendor.packaging.version import InvalidVersion, Version
def version(text):
    try:
        return Version(text)
    except InvalidVersion:
        return None
for line in sys.stdin:
    a, b = map(version, line.rstrip('\n').split('\t'))
    print('invalid' if a is None or b is None else '<' if a < b else '>' if a > b else '=')
";

    #[test]
    fn versions_are_read_and_ordered_as_pythons_packaging_does() {
        let mut runner = TestRunner::deterministic();
        let pair = (any_version(), any_version());
        let pairs: Vec<_> = (0..3000).map(|_| pair.new_tree(&mut runner).unwrap().current()).collect();
        let python = Command::new("python3")
            .arg("-c")
            .arg(ORACLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = python else { return eprintln!("skipped: there is no python3 to compare with") };
        let lines = pairs.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect::<Vec<_>>().concat();
        let mut stdin = python.stdin.take().unwrap();
        // It ends early if it has no `packaging`; its status tells.
        let writer = std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
        let output = python.wait_with_output().unwrap();
        writer.join().unwrap();
        if !output.status.success() {
            return eprintln!("skipped: python3 has neither packaging nor pip");
        }
        let answers = String::from_utf8(output.stdout).unwrap();
        let mut valid = 0;
        for ((a, b), answer) in pairs.iter().zip(answers.lines()) {
            let ours = match (a.parse::<Version>(), b.parse::<Version>()) {
                (Ok(a), Ok(b)) => {
                    valid += 1;
                    match a.cmp(&b) {
                        std::cmp::Ordering::Less => "<",
                        std::cmp::Ordering::Equal => "=",
                        std::cmp::Ordering::Greater => ">",
                    }
                }
                _ => "invalid",
            };
            assert_eq!(ours, answer, "{a} against {b}");
        }
        assert_eq!(answers.lines().count(), pairs.len());
        assert!(valid > 500, "enough of the pairs are versions: {valid}");
    }
}
