//! The JSON texts of the table `Mstx`: three forms, and what has to be mended in them.

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use super::super::json::{self, Keys};
use crate::event::Attributes;

/// Domain and name of a message; its other entries go to `out`. None if nothing can be made of it.
///
/// A message is the whole object, or an object of `name`, `domain` and `msg`, in which `msg` is the text of the rest.
/// Old senders write `^` for `"`, leave out the outer braces, or end with a comma.
pub(super) fn read(message: &str, keys: &mut Keys, out: &mut Attributes) -> Option<(String, String)> {
    let mut object = mended(message)?;
    let mut take = |key| match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (name, domain) = (take("name"), take("domain"));
    if let Some(Value::String(inner)) = object.get("msg") {
        if inner.is_empty() {
            object.shift_remove("msg");
        } else if let Some(inner) = mended(inner) {
            object.shift_remove("msg");
            object.extend(inner);
        }
    }
    // What is already a tree can't fail to be walked.
    let _ = json::Object { out, keys }.deserialize(Value::Object(object));
    Some((domain, name))
}

fn mended(text: &str) -> Option<Map<String, Value>> {
    if let Ok(object) = serde_json::from_str(text) {
        return Some(object);
    }
    let text = text.trim().trim_end_matches(',');
    let braced = |text: &str| {
        let inner = text.trim().trim_end_matches(',');
        let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
        format!("{{{}}}", inner.trim().trim_end_matches(','))
    };
    let quoted: Cow<'_, str> = if text.contains('^') { text.replace('^', "\"").into() } else { text.into() };
    [braced(text), braced(&quoted)].iter().find_map(|text| serde_json::from_str(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Entries;

    fn keys_of(message: &str) -> Option<(String, String, Vec<String>)> {
        let mut out = Attributes::default();
        let (domain, name) = read(message, &mut Keys::default(), &mut out)?;
        Some((domain, name, Entries::of(out.as_bytes()).map(|(key, _)| key.to_owned()).collect()))
    }

    #[test]
    fn all_forms_say_the_same() {
        let expected =
            Some(("Engine".to_owned(), "httpReq".to_owned(), vec!["rid".to_owned(), "a b".to_owned()]));
        for message in [
            r#"{"name": "httpReq", "domain": "Engine", "rid": "x", "a b": [1, {"c": 2}]}"#,
            r#"{"name": "httpReq", "domain": "Engine", "msg": "{\"rid\": \"x\", \"a b\": 1}"}"#,
            "{^name^:^httpReq^,^domain^:^Engine^,^rid^:^x^,^a b^:1,}",
            "^name^:^httpReq^,^domain^:^Engine^,^rid^:^x^,^a b^:1,",
            r#""name":"httpReq","domain":"Engine","rid":"x","a b":1"#,
            r#" {"name":"httpReq","domain":"Engine","rid":"x","a b":1}, "#,
        ] {
            assert_eq!(keys_of(message), expected, "{message}");
        }
        assert_eq!(keys_of(r#"{"name": "n", "domain": "d", "msg": ""}"#).unwrap().2, Vec::<String>::new());
        assert_eq!(keys_of(r#"{"name": "n", "msg": "no object"}"#).unwrap().2, ["msg"]);
        for broken in ["", "{", "span", r#"{"name": "unquoted "inside""}"#] {
            assert_eq!(keys_of(broken).map(|seen| seen.1).filter(|name| !name.is_empty()), None, "{broken}");
        }
    }
}
