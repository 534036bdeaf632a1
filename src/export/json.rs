//! Attributes and texts as JSON. Used by `timeline` and `chrome`.

use std::io::{self, Write};

use crate::event::View;

/// A value as JSON.
pub(super) fn string(value: &(impl serde::Serialize + ?Sized)) -> io::Result<String> {
    serde_json::to_string(value).map_err(Into::into)
}

/// Appends a text. Most have nothing to be escaped, and go as they are.
pub(super) fn text(out: &mut Vec<u8>, value: &str) -> io::Result<()> {
    if value.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return serde_json::to_writer(out, value).map_err(Into::into);
    }
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Appends an integer; millions are in a timeline, and `fmt` takes its time.
pub(super) fn int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an attribute's value.
pub(super) fn view(out: &mut Vec<u8>, value: &View<'_>) -> io::Result<()> {
    match value {
        View::Bool(b) => write!(out, "{b}"),
        View::Int(n) => {
            int(out, *n);
            Ok(())
        }
        // Not a number and infinity become null.
        View::Double(x) => serde_json::to_writer(out, x).map_err(Into::into),
        View::Str(value) => text(out, value),
        View::Array(items) => {
            out.push(b'[');
            for (position, item) in items.clone().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                view(out, &item)?;
            }
            out.push(b']');
            Ok(())
        }
        View::Dict(entries) => {
            out.push(b'{');
            for (position, (key, item)) in entries.clone().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                text(out, key)?;
                out.push(b':');
                view(out, &item)?;
            }
            out.push(b'}');
            Ok(())
        }
    }
}
