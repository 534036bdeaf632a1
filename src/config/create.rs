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

/// Switches collection on or off in the file: puts another value in the place of the former one. Only where there is none
/// the text is written anew.
///
/// # Errors
/// The file can't be read, is no JSON object, or can't be written.
pub fn rewrite_enable(path: &Path, enable: bool) -> Result<(), ConfigError> {
    let enable = i32::from(enable);
    let text = files::read_text(path, files::CONFIG_LIMIT).map_err(io_error(path, "read"))?;
    Collection::parse(&text, path, Path::new("/"))?;
    let syntax = |problem: serde_json::Error| {
        let problem = problem.to_string();
        ConfigError::Syntax { path: path.into(), problem }
    };
    let json = text.trim_start_matches('\u{feff}');
    let switched = match value_of("enable", json).map_err(syntax)? {
        Some(former) if json[former.clone()] == enable.to_string() => {
            return Ok(()); // another process of the server was first
        }
        Some(Range { start, end }) => {
            // `replace_file` may add a line break, each time.
            let rest = json[end..].trim_end_matches('\n');
            let line_break = if json.ends_with('\n') { "\n" } else { "" };
            let mark = &text[..text.len() - json.len()];
            format!("{mark}{}{enable}{rest}{line_break}", &json[..start])
        }
        None => {
            let mut object: Map<String, Value> = serde_json::from_str(json).map_err(syntax)?;
            object.insert("enable".into(), enable.into());
            indented(&object)
        }
    };
    replace_file(path, &switched).map_err(|source| {
        let (path, former) = (path.into(), 1 - enable);
        ConfigError::NotSwitched { path, enable, former, source }
    })
}

/// Where the value of a key is in the text of an object. Of a key that is there twice it is the last one that counts.
fn value_of(key: &str, json: &str) -> Result<Option<Range<usize>>, serde_json::Error> {
    struct Last<'a>(&'a str);

    impl<'de> Visitor<'de> for Last<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut last = None;
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                if key == self.0 {
                    last = Some(value);
                }
            }
            Ok(last)
        }
    }

    let value = serde_json::Deserializer::from_str(json).deserialize_map(Last(key))?.map(RawValue::get);
    // It is a part of the text.
    Ok(value.map(|value| {
        let start = value.as_ptr().addr() - json.as_ptr().addr();
        start..start + value.len()
    }))
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
    fn a_switch_that_is_not_there_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        fs::write(&path, r#"{"zeta": [1, {"b": null}], "timelimit": 5}"#).unwrap();
        rewrite_enable(&path, true).unwrap();
        let object: Map<String, Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(Value::Object(object), json!({"zeta": [1, {"b": null}], "timelimit": 5, "enable": 1}));
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
