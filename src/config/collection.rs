//! What one reading of the collection config says. The recorder acts on it at the start of a collection.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::hardware::{self, Verdict};
use super::keys;
use super::{ConfigError, DomainFilter, Level, Limits, Mode, Storage, Warning};
use crate::printable::{self, shortened};

/// The longest that a collection can be limited to, in seconds.
const LONGEST: u64 = 7200;

/// Most keys that a warning names.
const MOST_SHOWN: usize = 10;

/// The keys that this profiler acts on.
const OWN_KEYS: [&str; 17] = [
    "enable",
    "metric_enable",
    "prof_dir",
    "profiler_level",
    "timelimit",
    "domain",
    "profiler_step_num",
    "attribute_text_length",
    "attribute_max_items",
    "mode",
    "flight_seconds",
    "dump_signal",
    "ring_mb",
    "rings_mb",
    "file_mb",
    "session_mb",
    "compress",
];

/// A collection config with every value checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Whether events are collected.
    pub enable: bool,
    /// Whether metrics are collected; independent of `enable`.
    pub metric_enable: bool,
    /// The folder of the session folders.
    pub prof_dir: PathBuf,
    /// The highest level that is collected.
    pub level: Level,
    /// The domains that are collected.
    pub domains: DomainFilter,
    /// Collection stops after this time; `None`: it goes on.
    pub timelimit: Option<Duration>,
    /// Collection stops after this many model steps (0: at once); `None`: it goes on.
    pub step_limit: Option<u64>,
    /// How much of an attribute's value is kept.
    pub limits: Limits,
    /// What becomes of the events.
    pub mode: Mode,
    /// How much memory and disk it takes.
    pub storage: Storage,
}

impl Collection {
    /// Collection off, and the default of everything else.
    pub fn off(home: &Path) -> Self {
        Self {
            enable: false,
            metric_enable: false,
            prof_dir: default_prof_dir(home),
            level: Level::INFO,
            domains: DomainFilter::default(),
            timelimit: None,
            step_limit: None,
            limits: Limits::DEFAULT,
            mode: Mode::Capture,
            storage: Storage::DEFAULT,
        }
    }

    /// Reads the text of the file `path`, which messages name. A value that a key can't have is replaced by its
    /// default and gives a warning. `home` is the user's home folder, for the default `prof_dir`.
    ///
    /// # Errors
    /// The text is no JSON object.
    pub fn parse(text: &str, path: &Path, home: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        // Some editors put a byte order mark in front.
        let text = text.trim_start_matches('\u{feff}');
        let value = serde_json::from_str(text)
            .map_err(|problem| ConfigError::Syntax { path: path.into(), problem: problem.to_string() })?;
        let Value::Object(object) = value else {
            return Err(ConfigError::NotAnObject { path: path.into() });
        };
        let mut check = Check { path, object: &object, warnings: Vec::new() };
        let collection = Self {
            enable: check.enable(),
            metric_enable: check.metric_enable(),
            prof_dir: check.prof_dir(home),
            level: check.level(),
            domains: check.domains(),
            timelimit: check.timelimit(),
            step_limit: check.step_limit(),
            limits: check.limits(),
            mode: check.mode(),
            storage: check.storage(),
        };
        check.hardware();
        check.unknown();
        check.twice(keys::twice(text));
        Ok((collection, check.warnings))
    }
}

/// `.ms_server_profiler` in the user's home folder, where existing tools look.
pub(super) fn default_prof_dir(home: &Path) -> PathBuf {
    home.join(".ms_server_profiler/")
}

/// One pass over the keys, collecting what is wrong.
struct Check<'a> {
    path: &'a Path,
    object: &'a Map<String, Value>,
    warnings: Vec<Warning>,
}

impl<'a> Check<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// Notes that `key` has a value that it can't have, and that `used` takes its place.
    fn invalid(&mut self, key: &'static str, expected: &'static str, used: &str) {
        let value = self.get(key).map(Value::to_string).unwrap_or_default();
        let value = shortened(&value);
        self.warnings.push(Warning::Invalid {
            path: self.path.into(),
            key,
            value,
            expected,
            used: used.into(),
        });
    }

    fn enable(&mut self) -> bool {
        match self.get("enable").map(Value::as_i64) {
            None | Some(Some(0)) => false,
            Some(Some(1)) => true,
            Some(_) => {
                self.invalid("enable", "0 or 1", "0 (off)");
                false
            }
        }
    }

    fn metric_enable(&mut self) -> bool {
        match self.get("metric_enable") {
            None => false,
            Some(Value::Bool(on)) => *on,
            Some(value) if value.as_i64() == Some(0) => false,
            Some(value) if value.as_i64() == Some(1) => true,
            Some(_) => {
                self.invalid("metric_enable", "0, 1, true or false", "0 (off)");
                false
            }
        }
    }

    fn prof_dir(&mut self, home: &Path) -> PathBuf {
        let default = default_prof_dir(home);
        let given = match self.get("prof_dir") {
            None => return default,
            Some(Value::String(folder)) if !folder.is_empty() => expanded(folder, home),
            Some(_) => None,
        };
        given.unwrap_or_else(|| {
            let expected = "the path of a folder (one that begins with ~/ or $HOME/ is in your home folder)";
            self.invalid("prof_dir", expected, &default.to_string_lossy());
            default
        })
    }

    fn level(&mut self) -> Level {
        let level = match self.get("profiler_level") {
            None => return Level::INFO,
            Some(Value::String(name)) => Level::from_name(name),
            Some(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()).map(Level::new),
        };
        level.unwrap_or_else(|| {
            self.invalid("profiler_level", "ERROR, INFO, DETAILED, VERBOSE or a number from 0 up", "INFO");
            Level::INFO
        })
    }

    fn domains(&mut self) -> DomainFilter {
        match self.get("domain") {
            None => DomainFilter::default(),
            Some(Value::String(list)) => DomainFilter::parse(list),
            Some(_) => {
                self.invalid("domain", "text such as \"Request;Schedule\"", "\"\" (all domains)");
                DomainFilter::default()
            }
        }
    }

    fn timelimit(&mut self) -> Option<Duration> {
        const EXPECTED: &str = "a number of seconds from 0 (no limit) to 7200";
        let value = self.get("timelimit")?;
        match value.as_u64() {
            Some(0) => None,
            Some(seconds) if seconds <= LONGEST => Some(Duration::from_secs(seconds)),
            Some(_) => {
                self.invalid("timelimit", EXPECTED, "7200");
                Some(Duration::from_secs(LONGEST))
            }
            None => {
                self.invalid("timelimit", EXPECTED, "0 (no limit)");
                None
            }
        }
    }

    fn step_limit(&mut self) -> Option<u64> {
        let value = self.get("profiler_step_num")?;
        if value.as_i64() == Some(-1) {
            return None;
        }
        let steps = value.as_u64().filter(|steps| *steps > 0);
        if steps.is_none() {
            self.invalid(
                "profiler_step_num",
                "a number from 1 up, or -1 (no limit)",
                "0 (collection stops at once)",
            );
        }
        Some(steps.unwrap_or(0))
    }

    fn limits(&mut self) -> Limits {
        const { assert!(Limits::HIGHEST == 65_536) } // as the text says
        let mut limit = |key, default: usize| {
            let range = 1..=Limits::HIGHEST as u64;
            self.number(key, range, "a number from 1 to 65536", default as u64) as usize
        };
        let Limits { text_length, max_items } = Limits::DEFAULT;
        Limits {
            text_length: limit("attribute_text_length", text_length),
            max_items: limit("attribute_max_items", max_items),
        }
    }

    fn mode(&mut self) -> Mode {
        let seconds = self.number("flight_seconds", 1..=LONGEST, "a number of seconds from 1 to 7200", 30);
        let dump_signal = self.dump_signal();
        match self.get("mode").map(Value::as_str) {
            None | Some(Some("capture")) => Mode::Capture,
            Some(Some("flight")) => Mode::Flight { keep: Duration::from_secs(seconds), dump_signal },
            Some(_) => {
                self.invalid("mode", "\"capture\" or \"flight\"", "\"capture\"");
                Mode::Capture
            }
        }
    }

    fn dump_signal(&mut self) -> Option<i32> {
        match self.get("dump_signal")?.as_str() {
            Some("") => None,
            Some("SIGUSR1") => Some(libc::SIGUSR1),
            Some("SIGUSR2") => Some(libc::SIGUSR2),
            _ => {
                self.invalid("dump_signal", "\"SIGUSR1\", \"SIGUSR2\" or \"\"", "\"\" (none)");
                None
            }
        }
    }

    fn storage(&mut self) -> Storage {
        const MOST: u64 = 1 << 20;
        const FROM_ONE: &str = "a number of megabytes from 1 up";
        const NO_LIMIT: &str = "a number of megabytes, or 0 for no limit";
        let Storage { ring, rings, file, session, .. } = Storage::DEFAULT;
        let mut bytes = |key, least, most, expected, default: u64| {
            self.number(key, least..=most, expected, default >> 20) << 20
        };
        let ring = bytes("ring_mb", 1, 1024, "a number of megabytes from 1 to 1024", ring);
        let rings = bytes("rings_mb", 1, MOST, FROM_ONE, rings);
        let file = bytes("file_mb", 1, MOST, FROM_ONE, file);
        let session = bytes("session_mb", 0, MOST, NO_LIMIT, session.unwrap_or(0));
        let compress = self.number("compress", 0..=1, "0 or 1", 0) == 1;
        Storage { ring, rings, file, session: (session > 0).then_some(session), compress }
    }

    fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        expected: &'static str,
        default: u64,
    ) -> u64 {
        let Some(value) = self.get(key) else { return default };
        value.as_u64().filter(|given| range.contains(given)).unwrap_or_else(|| {
            self.invalid(key, expected, &default.to_string());
            default
        })
    }

    fn hardware(&mut self) {
        let mut asking = Vec::new();
        for key in &hardware::KEYS {
            match self.get(key.name).map(|value| key.judge(value)) {
                None | Some(Verdict::Idle) => {}
                Some(Verdict::Asks) => asking.push(key.name),
                Some(Verdict::Invalid) => self.invalid(key.name, key.expected, key.default),
            }
        }
        if !asking.is_empty() {
            self.warnings.push(Warning::NoEffect { path: self.path.into(), keys: quoted(asking) });
        }
    }

    fn unknown(&mut self) {
        let is_known = |key: &str| {
            let is_comment = key.starts_with("//"); // JSON has no other
            is_comment || OWN_KEYS.contains(&key) || hardware::KEYS.iter().any(|known| known.name == key)
        };
        let unknown: Vec<_> = self.object.keys().map(String::as_str).filter(|key| !is_known(key)).collect();
        if !unknown.is_empty() {
            self.warnings.push(Warning::Unknown { path: self.path.into(), keys: quoted(unknown) });
        }
    }

    fn twice(&mut self, keys: Vec<String>) {
        if !keys.is_empty() {
            let keys = quoted(keys.iter().map(String::as_str).collect());
            self.warnings.push(Warning::Twice { path: self.path.into(), keys });
        }
    }
}

/// The folder that a text means: as in a shell, `~` and `$HOME` in front are the home folder. None: it begins with
/// something else that a shell would put in its place.
fn expanded(text: &str, home: &Path) -> Option<PathBuf> {
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    match first {
        "~" | "$HOME" | "${HOME}" => Some(home.join(rest.trim_start_matches('/'))),
        other if other.starts_with(['~', '$']) => None,
        _ => Some(text.into()),
    }
}

fn quoted(keys: Vec<&str>) -> String {
    let shown = keys.iter().take(MOST_SHOWN).map(|key| printable::quoted(key));
    let text = shown.collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(MOST_SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> (Collection, Vec<Warning>) {
        Collection::parse(text, Path::new("c.json"), Path::new("/home/u")).unwrap()
    }

    fn quiet(text: &str) -> Collection {
        let (collection, warnings) = parse(text);
        assert_eq!(warnings, [], "{text}");
        collection
    }

    #[test]
    fn an_empty_object_means_off_and_all_defaults() {
        let collection = quiet("{}");
        assert_eq!(collection, Collection::off(Path::new("/home/u")));
        assert_eq!(collection.prof_dir, Path::new("/home/u/.ms_server_profiler/"));
    }

    #[test]
    fn valid_values_are_taken_without_a_word() {
        let all = quiet(
            r#"{"enable": 1, "metric_enable": true, "prof_dir": "/data/p", "profiler_level": "verbose",
                "timelimit": 7200, "domain": "Request; Schedule", "profiler_step_num": 5,
                "attribute_text_length": 1, "attribute_max_items": 65536, "mode": "flight", "flight_seconds": 5,
                "dump_signal": "SIGUSR2", "ring_mb": 8, "rings_mb": 64, "file_mb": 100, "session_mb": 300,
                "compress": 1}"#,
        );
        let dump_signal = Some(libc::SIGUSR2);
        assert_eq!(all.mode, Mode::Flight { keep: Duration::from_secs(5), dump_signal });
        let (ring, rings, file, session) = (8 << 20, 64 << 20, 100 << 20, Some(300 << 20));
        assert_eq!(all.storage, Storage { ring, rings, file, session, compress: true });
        assert!(all.enable && all.metric_enable);
        assert_eq!(all.prof_dir, Path::new("/data/p"));
        assert_eq!(all.level, Level::VERBOSE);
        assert_eq!(all.timelimit, Some(Duration::from_secs(7200)));
        assert!(all.domains.allows("Schedule") && !all.domains.allows("Execute"));
        assert_eq!(all.step_limit, Some(5));
        assert_eq!(all.limits, Limits { text_length: 1, max_items: 65_536 });

        let off = quiet(r#"{"enable": 0, "metric_enable": 0}"#);
        assert!(!off.enable && !off.metric_enable);
        assert_eq!(quiet(r#"{"profiler_level": 25}"#).level, Level::new(25));
        assert_eq!(quiet(r#"{"timelimit": 0}"#).timelimit, None);
        assert_eq!(quiet(r#"{"profiler_step_num": -1}"#).step_limit, None);
    }

    #[test]
    fn an_invalid_value_is_named_with_file_key_value_and_what_is_used() {
        let cases = [
            ("enable", "true", "0 (off)"),
            ("enable", "2", "0 (off)"),
            ("enable", "-1", "0 (off)"),
            ("metric_enable", "2", "0 (off)"),
            ("prof_dir", "\"~root/p\"", "/home/u/.ms_server_profiler/"),
            ("prof_dir", "\"$SCRATCH/p\"", "/home/u/.ms_server_profiler/"),
            ("timelimit", "-4", "0 (no limit)"),
            ("enable", "1.0", "0 (off)"),
            ("enable", "\"1\"", "0 (off)"),
            ("metric_enable", "\"on\"", "0 (off)"),
            ("prof_dir", "7", "/home/u/.ms_server_profiler/"),
            ("prof_dir", "\"\"", "/home/u/.ms_server_profiler/"),
            ("profiler_level", "\"LOUD\"", "INFO"),
            ("profiler_level", "-1", "INFO"),
            ("profiler_level", "[]", "INFO"),
            ("timelimit", "7201", "7200"),
            ("timelimit", "\"60\"", "0 (no limit)"),
            ("timelimit", "1.5", "0 (no limit)"),
            ("domain", "[\"Request\"]", "\"\" (all domains)"),
            ("profiler_step_num", "0", "0 (collection stops at once)"),
            ("profiler_step_num", "null", "0 (collection stops at once)"),
            ("attribute_text_length", "0", "256"),
            ("attribute_text_length", "\"long\"", "256"),
            ("attribute_max_items", "65537", "1024"),
            ("attribute_max_items", "-1", "1024"),
            ("acl_task_time", "9", "0"),
            ("mode", "\"flying\"", "\"capture\""),
            ("flight_seconds", "0", "30"),
            ("dump_signal", "\"SIGKILL\"", "\"\" (none)"),
            ("ring_mb", "1025", "4"),
            ("rings_mb", "0", "256"),
            ("file_mb", "\"1G\"", "1024"),
            ("session_mb", "-1", "0"),
            ("compress", "true", "0"),
        ];
        for (key, value, used) in cases {
            let (collection, warnings) = parse(&format!("{{\"{key}\": {value}}}"));
            let [warning] = &warnings[..] else { panic!("{key}: {warnings:?}") };
            let text = warning.to_string();
            assert!(text.starts_with(&format!("c.json: \"{key}\": {value} is not ")), "{text}");
            assert!(text.ends_with(&format!("; {used} is used instead")), "{text}");
            assert!(!collection.enable && !collection.metric_enable);
        }
        assert_eq!(parse(r#"{"timelimit": 99999}"#).0.timelimit, Some(Duration::from_secs(7200)));
    }

    #[test]
    fn a_folder_is_written_as_in_a_shell() {
        for (text, expected) in [
            ("~", "/home/u/"),
            ("~/", "/home/u/"),
            ("~/a/b", "/home/u/a/b"),
            ("~//a", "/home/u/a"),
            ("$HOME/a", "/home/u/a"),
            ("${HOME}/a", "/home/u/a"),
            ("/a/~/b", "/a/~/b"),
            ("./~", "./~"),
            ("captures", "captures"),
        ] {
            assert_eq!(
                quiet(&format!("{{\"prof_dir\": \"{text}\"}}")).prof_dir,
                Path::new(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_long_value_and_many_keys_are_named_in_a_short_line() {
        let (_, warnings) = parse(&format!("{{\"mode\": \"{}\"}}", "x".repeat(1 << 20)));
        assert!(warnings[0].to_string().len() < 400, "{}", warnings[0]);
        let keys: Vec<_> = (0..10_000).map(|n| format!("\"key {n}\": 0")).collect();
        let (_, warnings) = parse(&format!("{{{}}}", keys.join(", ")));
        let text = warnings[0].to_string();
        assert!(text.ends_with("\"key 9\" and 9990 more"), "{text}");
        let (_, warnings) = parse(r#"{"\u001b[2J": 1}"#);
        assert!(warnings[0].to_string().ends_with(r#""\u001b[2J""#), "{}", warnings[0]);
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_counts_which_is_told() {
        let (collection, warnings) = parse(
            r#"{"enable": 0, "note": {"a": 1, "a": 2}, "enable": 1, "timelimit": 1, "timelimit": 2, "enable": 1}"#,
        );
        assert_eq!((collection.enable, collection.timelimit), (true, Some(Duration::from_secs(2))));
        let told = warnings.iter().map(ToString::to_string).find(|text| text.contains("twice")).unwrap();
        assert_eq!(
            told,
            r#"c.json: keys that are there twice, of which the last counts: "enable", "timelimit""#
        );
    }

    #[test]
    fn one_line_names_all_hardware_keys_that_ask_for_something() {
        let (_, warnings) = parse(
            r#"{"enable": 1, "acl_task_time": 1, "acl_prof_task_time_level": "L1", "npu_memory_usage_freq": 5,
                "torch_prof_stack": false, "api_filter": ""}"#,
        );
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let text = warning.to_string();
        assert!(text.ends_with("hardware: \"acl_task_time\", \"npu_memory_usage_freq\""), "{text}");
    }

    #[test]
    fn one_line_names_all_unknown_keys() {
        let (_, warnings) = parse(r#"{"enable": 1, "time_limit": 3, "note": {}}"#);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert_eq!(warning.to_string(), "c.json: unknown keys have no effect: \"time_limit\", \"note\"");
    }

    #[test]
    fn what_is_no_json_object_is_an_error_that_says_where() {
        let error =
            |text| Collection::parse(text, Path::new("c.json"), Path::new("/")).unwrap_err().to_string();
        assert!(error("{\"enable\": 1,\n}").starts_with("c.json: not valid JSON: "));
        assert!(error("{\"enable\": 1,\n}").contains("line 2 column 1"));
        assert!(error("").contains("not valid JSON"));
        assert!(error("[1]").contains("must be a JSON object"));
        assert!(Collection::parse("\u{feff}{}", Path::new("c.json"), Path::new("/")).is_ok());
    }

    proptest! {
        #[test]
        fn no_value_of_any_key_makes_parsing_fail(
            key in prop::sample::select(&OWN_KEYS[..]),
            value in prop_oneof![
                any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), any::<f64>().prop_map(Value::from),
                any::<String>().prop_map(Value::from), any::<bool>().prop_map(Value::from), Just(Value::Null),
            ],
        ) {
            let text = serde_json::json!({ key: value }).to_string();
            prop_assert!(Collection::parse(&text, Path::new("c.json"), Path::new("/")).is_ok());
        }
    }
}
