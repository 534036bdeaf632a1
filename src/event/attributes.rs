//! Attributes as bytes: how typed values travel through a ring. Written by the hooks, read by the flusher.
//!
//! A list is `(key value)*` up to the end of its bytes. A key is a varint: `0` and an inline text, or the
//! position of an interned [`Name`] plus one. A value is a tag byte and its payload; lengths, counts and integers
//! (zigzag) are LEB128 varints; a text is its length and its UTF-8 bytes.

use thiserror::Error;

use super::request_id::shortened;
use super::{Name, Value};

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const INT: u8 = 2;
const DOUBLE: u8 = 3;
const STR: u8 = 4;
const ARRAY: u8 = 5;
const DICT: u8 = 6;

/// Deeper nesting than this is not read: it is damage, or nothing that a person could look at.
const DEEPEST: u32 = 16;

/// Appends attributes to a byte buffer. A container states its number of items first and then takes exactly so
/// many; the writer does not check.
#[derive(Debug, Default)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// An empty list that reuses `bytes`' memory.
    pub fn reuse(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes }
    }

    /// A list that [`Attributes::into_bytes`] gave, to be continued.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The encoded list.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the memory back.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Removes all attributes.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Length in bytes: a mark to go back to with [`Attributes::truncate`].
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Removes what came after a mark, such as a key whose value could not be had.
    pub fn truncate(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// The key of the next value.
    pub fn key(&mut self, name: Name) -> &mut Self {
        self.varint(u64::from(name.index()) + 1);
        self
    }

    /// A key that is data, such as a request id in a mapping.
    pub fn key_text(&mut self, text: &str) -> &mut Self {
        self.bytes.push(0);
        self.text(text);
        self
    }

    /// A key that is a request's id.
    pub fn key_id(&mut self, id: &str) -> &mut Self {
        self.key_text(&shortened(id))
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { TRUE } else { FALSE });
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        self.bytes.push(INT);
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A double.
    pub fn double(&mut self, value: f64) {
        self.bytes.push(DOUBLE);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A text.
    pub fn str(&mut self, value: &str) {
        self.bytes.push(STR);
        self.text(value);
    }

    /// A request's id, cut if it is long.
    pub fn id(&mut self, id: &str) {
        self.str(&shortened(id));
    }

    /// A list of `items` values, which follow.
    pub fn array(&mut self, items: usize) {
        self.bytes.push(ARRAY);
        self.varint(items as u64);
    }

    /// A mapping of `entries` keys and values, which follow.
    pub fn dict(&mut self, entries: usize) {
        self.bytes.push(DICT);
        self.varint(entries as u64);
    }

    /// A value that was encoded elsewhere.
    pub fn encoded(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// Any value.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(b) => self.bool(*b),
            Value::Int(n) => self.int(*n),
            Value::Double(x) => self.double(*x),
            Value::Str(text) => self.str(text),
            Value::Array(items) => {
                self.array(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Dict(entries) => {
                self.dict(entries.len());
                for (key, item) in entries {
                    self.key_text(key);
                    self.value(item);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Bytes that are no attributes: a record that was damaged on its way.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("attributes are cut or damaged at byte {0}")]
pub struct Damaged(pub usize);

/// The key of an attribute or of a mapping's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Position of an interned name in the writing process's table.
    Name(u32),
    /// A text that is data.
    Text(&'a str),
}

/// One step of reading: a scalar, or the head of a container whose items follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A text.
    Str(&'a str),
    /// A list of so many values.
    Array(usize),
    /// A mapping of so many keys and values.
    Dict(usize),
}

/// Reads what [`Attributes`] wrote, without allocating.
#[derive(Clone, Debug)]
pub struct AttributeReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> AttributeReader<'a> {
    /// Reads from the start of an encoded list.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Whether all has been read.
    pub fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next key.
    ///
    /// # Errors
    /// The bytes end or make no sense here.
    pub fn key(&mut self) -> Result<Key<'a>, Damaged> {
        match self.varint()? {
            0 => self.text().map(Key::Text),
            n => u32::try_from(n - 1).map(Key::Name).map_err(|_| Damaged(self.at)),
        }
    }

    /// The next value or head of a container.
    ///
    /// # Errors
    /// The bytes end or make no sense here.
    pub fn token(&mut self) -> Result<Token<'a>, Damaged> {
        let [tag] = *self.take(1)? else { return Err(Damaged(self.at)) };
        Ok(match tag {
            FALSE => Token::Bool(false),
            TRUE => Token::Bool(true),
            INT => {
                let zigzag = self.varint()?;
                Token::Int((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
            }
            DOUBLE => {
                let bytes = self.take(8)?;
                Token::Double(f64::from_le_bytes(bytes.try_into().map_err(|_| Damaged(self.at))?))
            }
            STR => Token::Str(self.text()?),
            ARRAY => Token::Array(self.count()?),
            DICT => Token::Dict(self.count()?),
            _ => return Err(Damaged(self.at - 1)),
        })
    }

    /// Passes over the next key.
    ///
    /// # Errors
    /// The bytes end or make no sense here.
    pub fn skip_key(&mut self) -> Result<(), Damaged> {
        if self.varint()? == 0 { self.skip_text() } else { Ok(()) }
    }

    /// Passes over the next scalar, or over the head of a container: its items, and whether they have keys.
    ///
    /// # Errors
    /// The bytes end or make no sense here. Texts are not looked at.
    pub fn skip_token(&mut self) -> Result<Option<(usize, bool)>, Damaged> {
        let [tag] = *self.take(1)? else { return Err(Damaged(self.at)) };
        match tag {
            FALSE | TRUE => {}
            INT => {
                self.varint()?;
            }
            DOUBLE => {
                self.take(8)?;
            }
            STR => self.skip_text()?,
            ARRAY => return Ok(Some((self.count()?, false))),
            DICT => return Ok(Some((self.count()?, true))),
            _ => return Err(Damaged(self.at - 1)),
        }
        Ok(None)
    }

    fn skip_text(&mut self) -> Result<(), Damaged> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Damaged(self.at))?).map(drop)
    }

    /// The next value, whole; `name` gives the text of an interned key.
    ///
    /// # Errors
    /// The bytes end or make no sense, or are nested too deeply.
    pub fn value(&mut self, name: &dyn Fn(u32) -> Box<str>) -> Result<Value, Damaged> {
        self.value_at(name, 0)
    }

    fn value_at(&mut self, name: &dyn Fn(u32) -> Box<str>, depth: u32) -> Result<Value, Damaged> {
        if depth > DEEPEST {
            return Err(Damaged(self.at));
        }
        Ok(match self.token()? {
            Token::Bool(b) => Value::Bool(b),
            Token::Int(n) => Value::Int(n),
            Token::Double(x) => Value::Double(x),
            Token::Str(text) => Value::Str(text.into()),
            Token::Array(n) => {
                Value::Array((0..n).map(|_| self.value_at(name, depth + 1)).collect::<Result<_, _>>()?)
            }
            Token::Dict(n) => Value::Dict(
                (0..n)
                    .map(|_| {
                        let key = match self.key()? {
                            Key::Name(index) => name(index),
                            Key::Text(text) => text.into(),
                        };
                        Ok((key, self.value_at(name, depth + 1)?))
                    })
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    /// A count of items can't be larger than the bytes that are left: each item takes at least one.
    fn count(&mut self) -> Result<usize, Damaged> {
        let count = self.varint()?;
        if count > (self.bytes.len() - self.at) as u64 { Err(Damaged(self.at)) } else { Ok(count as usize) }
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        let length = self.count()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| Damaged(self.at - length))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let bytes = self.bytes.get(self.at..self.at + length).ok_or(Damaged(self.at))?;
        self.at += length;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let [byte] = *self.take(1)? else { return Err(Damaged(self.at)) };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Damaged(self.at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e300..1e300).prop_map(Value::Double),
            ".{0,20}".prop_map(|text| Value::Str(text.into())),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((".{0,8}".prop_map(Into::into), inner), 0..6).prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(value in values(), key in ".{0,8}") {
            let mut attributes = Attributes::default();
            attributes.key_text(&key);
            attributes.value(&value);
            let mut reader = AttributeReader::new(attributes.as_bytes());
            prop_assert_eq!(reader.key(), Ok(Key::Text(key.as_str())));
            prop_assert_eq!(reader.value(&|_| unreachable!()), Ok(value));
            prop_assert!(reader.is_done());
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = AttributeReader::new(&bytes);
            while !reader.is_done() {
                if reader.key().is_err() || reader.value(&|_| "name".into()).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn an_interned_key_is_one_or_two_bytes() {
        let mut attributes = Attributes::default();
        let name = Name::new("num_scheduled_tokens");
        attributes.key(name).int(64);
        let mut reader = AttributeReader::new(attributes.as_bytes());
        assert_eq!(reader.key(), Ok(Key::Name(name.index())));
        assert_eq!(reader.token(), Ok(Token::Int(64)));
    }
}
