//! What is said about an event: attributes as annotations, with interned names, and the flows of requests.

use super::packet::{Encode, field};
use super::writer::Writer;
use crate::event::{AttributeReader, Damaged, Key, Name, Token};

/// Which interned ids a sequence has stated.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<bool>);

impl Known {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn intern(&mut self, out: &mut Vec<u8>, field: u32, name: Name) {
        let index = name.index() as usize;
        if self.0.get(index) == Some(&true) {
            return;
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, false);
        }
        self.0[index] = true;
        let mut entry = Vec::new();
        entry.number(field::interned::IID, iid(name));
        entry.bytes(field::interned::NAME, name.as_str().as_bytes());
        out.bytes(field, &entry);
    }
}

/// Perfetto's interned ids begin at 1.
pub(super) fn iid(name: Name) -> u64 {
    u64::from(name.index()) + 1
}

impl Writer {
    pub(super) fn annotations(
        &mut self,
        keys: &mut Known,
        event: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        attributes: &[u8],
    ) -> Result<(), Damaged> {
        let mut reader = AttributeReader::new(attributes);
        while !reader.is_done() {
            let mut annotation = self.nested.pop().unwrap_or_default();
            let outcome = self.entry(keys, &mut annotation, interned, &mut reader, 0);
            if outcome.is_ok() {
                event.bytes(field::track_event::DEBUG_ANNOTATIONS, &annotation);
            }
            annotation.clear();
            self.nested.push(annotation);
            outcome?;
        }
        Ok(())
    }

    /// A key and its value.
    fn entry(
        &mut self,
        keys: &mut Known,
        out: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        reader: &mut AttributeReader<'_>,
        depth: u32,
    ) -> Result<(), Damaged> {
        let mut is_request = false;
        match reader.key()? {
            Key::Name(index) => {
                let name = Name::from_index(index).ok_or(Damaged(0))?;
                is_request = name == self.rid;
                keys.intern(interned, field::interned_data::DEBUG_ANNOTATION_NAMES, name);
                out.number(field::annotation::NAME_IID, iid(name));
            }
            Key::Text(text) => out.bytes(field::annotation::NAME, text.as_bytes()),
        }
        self.annotation(keys, out, interned, reader, is_request, depth)
    }

    fn annotation(
        &mut self,
        keys: &mut Known,
        out: &mut Vec<u8>,
        interned: &mut Vec<u8>,
        reader: &mut AttributeReader<'_>,
        is_request: bool,
        depth: u32,
    ) -> Result<(), Damaged> {
        if depth > 16 {
            return Err(Damaged(0));
        }
        let (items, is_dict) = match reader.token()? {
            Token::Bool(value) => {
                out.number(field::annotation::BOOL_VALUE, u64::from(value));
                return Ok(());
            }
            Token::Int(value) => {
                out.number(field::annotation::INT_VALUE, value as u64);
                return Ok(());
            }
            Token::Double(value) => {
                out.fixed64(field::annotation::DOUBLE_VALUE, value.to_bits());
                return Ok(());
            }
            Token::Str(text) => {
                if is_request {
                    self.flows.push(flow_id(text));
                }
                out.bytes(field::annotation::STRING_VALUE, text.as_bytes());
                return Ok(());
            }
            Token::Array(items) => (items, false),
            Token::Dict(0) => {
                // Nothing at all is an empty list.
                let nested = &mut self.nested.pop().unwrap_or_default();
                out.message(field::annotation::NESTED_VALUE, nested, |nested| {
                    nested.number(field::nested::TYPE, field::nested::DICT);
                });
                return Ok(());
            }
            Token::Dict(items) => (items, true),
        };
        let field = if is_dict { field::annotation::DICT_ENTRIES } else { field::annotation::ARRAY_VALUES };
        for _ in 0..items {
            let mut item = self.nested.pop().unwrap_or_default();
            let outcome = if is_dict {
                self.entry(keys, &mut item, interned, reader, depth + 1)
            } else {
                self.annotation(keys, &mut item, interned, reader, is_request, depth + 1)
            };
            out.bytes(field, &item);
            item.clear();
            self.nested.push(item);
            outcome?;
        }
        Ok(())
    }
}

/// A request's flow id: FNV-1a of its id, without the suffix `-<8 hex digits>` that vLLM's engine adds to the API
/// server's id, so that both processes' events are one flow.
fn flow_id(rid: &str) -> u64 {
    let base = match rid.rsplit_once('-') {
        Some((base, suffix)) if suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit()) => base,
        _ => rid,
    };
    base.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_id_and_the_api_servers_id_are_one_flow() {
        assert_eq!(flow_id("cmpl-abc-0"), flow_id("cmpl-abc-0-1a2b3c4d"));
        assert_ne!(flow_id("cmpl-abc-0"), flow_id("cmpl-abc-1"));
    }
}
