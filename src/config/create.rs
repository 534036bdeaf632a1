//! Writing the collection config: with defaults where there is none, and `"enable": 0` when a limit is reached.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use serde::de::{MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::collection::default_prof_dir;
use super::write::{create_file, replace_file};
use super::{Collection, ConfigError};
use crate::files;

/// Makes the file with the default of each common key, collection off, so that a user only has to change values.
/// A file that is there stays as it is.
///
/// # Errors
/// [`ConfigError::Refused`] says which check the place fails: the path must end in `.json` and have no unusual
/// character; its folder must exist, be writable and belong to this user.
pub fn create_default(path: &Path, home: &Path) -> Result<(), ConfigError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(reason) = refusal(path) {
        return Err(ConfigError::Refused { path: path.into(), reason });
    }
    let Value::Object(defaults) = json!({
        "enable": 0,
        "prof_dir": format!("{}/", default_prof_dir(home).to_string_lossy().trim_end_matches('/')),
        "profiler_level": "INFO",
        "acl_task_time": 0,
        "acl_prof_task_time_level": "L0",
        "timelimit": 0,
        "domain": "",
    }) else {
        return Ok(());
    };
    create_file(path, &indented(&defaults)).map_err(io_error(path, "create"))
}

/// Why the file may not be made at this place.
fn refusal(path: &Path) -> Option<&'static str> {
    let text = path.to_str().unwrap_or("\0");
    if path.extension().is_none_or(|extension| extension != "json") {
        return Some("its name must end in .json");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.:/\\~-".contains(c)) {
        return Some("its path may have only letters, digits and _ . : / \\ ~ -");
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Ok(metadata) = fs::metadata(folder) else { return Some("its folder does not exist; make it first") };
    if !metadata.is_dir() {
        return Some("its folder is not a folder");
    }
    if metadata.uid() != rustix::process::getuid().as_raw() {
        return Some("its folder belongs to another user; take a folder of your own");
    }
    access(folder, Access::WRITE_OK).is_err().then_some("its folder is not writable")
}

/// Switches collection on or off in the file: puts another value in the place of the former one and leaves the rest.
///
/// # Errors
/// The file can't be read, is no JSON object, or can't be written.
pub fn rewrite_enable(path: &Path, enable: bool) -> Result<(), ConfigError> {
    let enable = i32::from(enable);
    let text = files::read_text(path, files::CONFIG_LIMIT).map_err(io_error(path, "read"))?;
    Collection::parse(&text, path, Path::new("/"))?;
    let switched = switched(&text, enable)
        .map_err(|problem| ConfigError::Syntax { path: path.into(), problem: problem.to_string() })?;
    let Some(switched) = switched else {
        return Ok(()); // another process of the server was first
    };
    replace_file(path, &switched).map_err(|source| {
        let (path, former) = (path.into(), 1 - enable);
        ConfigError::NotSwitched { path, enable, former, source }
    })
}

/// The text with this value of `enable`; None if it has it already.
fn switched(text: &str, enable: i32) -> serde_json::Result<Option<String>> {
    let json = text.trim_start_matches('\u{feff}');
    let (before, value, after) = match value_of("enable", json)? {
        Place::Value(Range { start, end }) => {
            if json[start..end] == enable.to_string() {
                return Ok(None);
            }
            (&json[..start], enable.to_string(), &json[end..])
        }
        Place::After(end) => {
            // As the first key is: on a line of its own, with the same indentation, or not.
            let inside = json.trim_start().trim_start_matches('{');
            let gap = &inside[..inside.len() - inside.trim_start().len()];
            let gap = if gap.contains('\n') { gap } else { " " };
            (&json[..end], format!(",{gap}\"enable\": {enable}"), &json[end..])
        }
        Place::Nothing => {
            let (before, after) = json.split_at(json.find('{').map_or(0, |brace| brace + 1));
            (before, format!("\"enable\": {enable}"), after)
        }
    };
    // `replace_file` may add a line break, each time.
    let rest = after.trim_end_matches('\n');
    let line_break = if after.ends_with('\n') { "\n" } else { "" };
    let mark = &text[..text.len() - json.len()];
    Ok(Some(format!("{mark}{before}{value}{rest}{line_break}")))
}

/// Where a key's value is in the text of an object, or would be.
enum Place {
    /// There. Of a key that is there twice it is the last one that counts.
    Value(Range<usize>),
    /// The key is not there; the last value ends here.
    After(usize),
    /// The object is empty.
    Nothing,
}

fn value_of(key: &str, json: &str) -> serde_json::Result<Place> {
    struct Wanted<'a>(&'a str);

    impl<'de> Visitor<'de> for Wanted<'_> {
        /// The value of the key, and the last one of all.
        type Value = (Option<&'de RawValue>, Option<&'de RawValue>);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut wanted, mut last) = (None, None);
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                if key == self.0 {
                    wanted = Some(value);
                }
                last = Some(value);
            }
            Ok((wanted, last))
        }
    }

    let (wanted, last) = serde_json::Deserializer::from_str(json).deserialize_map(Wanted(key))?;
    // A value is a part of the text.
    let range = |value: &RawValue| {
        let start = value.get().as_ptr().addr() - json.as_ptr().addr();
        start..start + value.get().len()
    };
    Ok(match (wanted, last) {
        (Some(value), _) => Place::Value(range(value)),
        (None, Some(last)) => Place::After(range(last).end),
        (None, None) => Place::Nothing,
    })
}

fn io_error<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(std::io::Error) -> ConfigError + 'a {
    move |source| ConfigError::Io { path: path.into(), action, source }
}

fn indented(object: &Map<String, Value>) -> String {
    let mut bytes = Vec::new();
    // A map of JSON values always serialises, and a vector takes every byte.
    let _ =
        object.serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    ")));
    bytes.push(b'\n');
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_file_has_the_common_keys_in_order_and_parses_silently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        create_default(&path, Path::new("/home/u")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\n    \"enable\": 0,\n    \"prof_dir\": \"/home/u/.ms_server_profiler/\",\n    \"profiler_level\": \
             \"INFO\",\n    \"acl_task_time\": 0,\n    \"acl_prof_task_time_level\": \"L0\",\n    \"timelimit\": 0,\n    \
             \"domain\": \"\"\n}\n"
        );
        let (collection, warnings) = Collection::parse(&text, &path, Path::new("/home/u")).unwrap();
        assert_eq!(collection, Collection::off(Path::new("/home/u")));
        assert_eq!(warnings, []);
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        fs::write(&path, "{}").unwrap();
        create_default(&path, Path::new("/home/u")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
    }

    #[test]
    fn a_place_that_fails_a_check_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            ("c.jsn", "end in .json"),
            ("my config.json", "only letters"),
            ("é.json", "only letters"),
            ("none/c.json", "does not exist"),
        ];
        for (name, reason) in cases {
            let error = create_default(&folder.path().join(name), Path::new("/")).unwrap_err();
            assert!(matches!(error, ConfigError::Refused { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_switch_changes_the_value_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let cases = [
            r#"{"zeta": [1, {"enable": 3}], "enable": %, "alpha": "é\u00e9", "timelimit": 5}"#,
            "{\n\t\"enable\" :%\n}\n",
            r#"{"enable": 7, "en\u0061ble": %}"#,
            "\u{feff}{\"enable\": %}",
        ];
        for text in cases {
            fs::write(&path, text.replace('%', "1")).unwrap();
            for enable in [false, true, false, true, false] {
                rewrite_enable(&path, enable).unwrap();
                let expected = text.replace('%', if enable { "1" } else { "0" });
                let written = fs::read_to_string(&path).unwrap();
                // One more line break shows a change that comes within a tick of the clock.
                assert_eq!(written.trim_end(), expected.trim_end());
                assert!(written.len() <= text.len() + 2, "{written:?}");
            }
        }
    }

    #[test]
    fn a_switch_that_is_not_there_is_added_in_the_style_of_the_file() {
        let cases = [
            ("{}", "{\"enable\": 1}"),
            ("\u{feff}{ }\n", "\u{feff}{\"enable\": 1 }\n"),
            (r#"{"zeta": [1, {"b": null}]}"#, r#"{"zeta": [1, {"b": null}], "enable": 1}"#),
            ("{\n\t\"a\":5,\n\t\"b\":6\n}\n", "{\n\t\"a\":5,\n\t\"b\":6,\n\t\"enable\": 1\n}\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(switched(text, 1).unwrap().as_deref(), Some(expected));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let key = prop_oneof![Just("enable".to_owned()), any::<String>()];
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((key, inner), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_switch_changes_no_other_key_of_any_object_and_can_be_taken_back(
            entries in vec((any::<String>(), value()), 0..5),
            at in option::of(0..6_usize),
            enable in 0..2_i32,
            space in "[ \n\r\t]{0,3}",
            end in "\r?\n?",
        ) {
            let mut parts: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}{space}:{value}", json!(key))).collect();
            if let Some(at) = at {
                parts.insert(at.min(parts.len()), format!("\"enable\":{space}{enable}"));
            }
            let text = format!("{space}{{{space}{}{space}}}{end}", parts.join(&format!(",{space}")));
            let mut object: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let other = switched(&text, 1 - enable).unwrap().unwrap();
            let _ = object.insert("enable".into(), (1 - enable).into());
            prop_assert_eq!(&object, &serde_json::from_str::<Map<String, Value>>(&other).unwrap());
            let back = switched(&other, enable).unwrap().unwrap();
            if at.is_some() {
                prop_assert_eq!(&back, &text);
            }
            prop_assert_eq!(switched(&back, 1 - enable).unwrap().unwrap(), other);
        }
    }

    #[test]
    fn a_file_that_is_off_already_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let text = "{\"enable\":0 }";
        fs::write(&path, text).unwrap();
        rewrite_enable(&path, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_missing_or_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        assert!(rewrite_enable(&path, false).unwrap_err().to_string().contains("can't read"));
        fs::write(&path, "{").unwrap();
        assert!(rewrite_enable(&path, false).unwrap_err().to_string().contains("c.json: not valid JSON"));
    }
}
