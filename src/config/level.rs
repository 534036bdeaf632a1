//! The level of detail: events have one, and the config sets the highest that is collected.

use std::fmt;

/// A level of detail; a larger number is more detail. An event is collected if its level is at most the config's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u32);

/// Every name, in upper case; the first of a level is the one that is shown.
const NAMES: [(&str, Level); 13] = [
    ("ERROR", Level::ERROR),
    ("LEVEL_CORE_TRACE", Level::ERROR),
    ("LEVEL_OUTLIER_ENENT", Level::ERROR), // spelt so in the files that users have
    ("L0", Level::ERROR),
    ("CORE", Level::ERROR),
    ("INFO", Level::INFO),
    ("LEVEL_NORMAL_TRACE", Level::INFO),
    ("L1", Level::INFO),
    ("NORMAL", Level::INFO),
    ("DETAILED", Level::DETAILED),
    ("LEVEL_DETAILED_TRACE", Level::DETAILED),
    ("L2", Level::DETAILED),
    ("VERBOSE", Level::VERBOSE),
];

impl Level {
    /// Only what is core.
    pub const ERROR: Self = Self(10);
    /// What is collected by default.
    pub const INFO: Self = Self(20);
    /// More than the default.
    pub const DETAILED: Self = Self(30);
    /// Everything.
    pub const VERBOSE: Self = Self(40);

    /// The level of this number; the named ones are 10, 20, 30 and 40, those between them are allowed.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The level of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, level)| level == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_alias_is_known_in_any_case() {
        let cases = [
            ("error", 10),
            ("Level_Core_Trace", 10),
            ("LEVEL_OUTLIER_ENENT", 10),
            ("l0", 10),
            ("INFO", 20),
            ("L1", 20),
            ("LEVEL_NORMAL_TRACE", 20),
            ("detailed", 30),
            ("L2", 30),
            ("LEVEL_DETAILED_TRACE", 30),
            ("Verbose", 40),
        ];
        for (name, number) in cases {
            assert_eq!(Level::from_name(name).map(Level::number), Some(number), "{name}");
        }
        assert_eq!(Level::from_name("L3"), None);
    }

    #[test]
    fn a_level_shows_its_main_name_or_its_number() {
        assert_eq!(Level::INFO.to_string(), "INFO");
        assert_eq!(Level::new(25).to_string(), "25");
    }
}
