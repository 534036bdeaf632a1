//! Interned names and texts of a packet sequence, and the annotations that lean on them. Used by the reader.

use rustc_hash::FxHashMap;

use super::fields::{Fields, Malformed, Wire};
use super::packet::field;
use crate::event::{Attributes, Label, Name};

/// Annotations nested deeper than this are left out: they are damage, or nothing that a person could look at.
const DEEPEST: u32 = 16;

/// A value that our writer does not write, but Perfetto's own SDKs do.
const LEGACY_JSON_VALUE: u32 = 9;

/// What the sequence has stated by id since its state was last cleared.
#[derive(Debug, Default)]
pub(super) struct Interned {
    categories: FxHashMap<u64, Name>,
    names: FxHashMap<u64, Name>,
    keys: FxHashMap<u64, Name>,
    texts: FxHashMap<u64, Box<str>>,
    /// By ids of category and name: spares a look into the table of labels for each event.
    labels: FxHashMap<(u64, u64), Label>,
}

impl Interned {
    /// Takes in what a packet states.
    pub(super) fn state(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(bytes);
        while let Some((table, value)) = fields.next()? {
            let (mut iid, mut text) = (0, Wire::Number(0));
            let mut entry = Fields(value.bytes());
            while let Some((field, value)) = entry.next()? {
                match field {
                    field::interned::IID => iid = value.number(),
                    field::interned::NAME => text = value,
                    _ => {}
                }
            }
            match table {
                field::interned_data::EVENT_CATEGORIES => {
                    self.categories.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::EVENT_NAMES => {
                    self.names.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::DEBUG_ANNOTATION_NAMES => {
                    self.keys.insert(iid, Name::new(&text.text()));
                }
                field::interned_data::DEBUG_ANNOTATION_STRING_VALUES => {
                    self.texts.insert(iid, text.text().into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The label of a category and a name; empty texts for ids that were never stated.
    pub(super) fn label(&mut self, category: u64, name: u64) -> Label {
        *self.labels.entry((category, name)).or_insert_with(|| {
            let text =
                |table: &FxHashMap<u64, Name>, iid| table.get(&iid).map_or("", |name: &Name| name.as_str());
            Label::new(text(&self.categories, category), text(&self.names, name))
        })
    }

    /// Appends one annotation: its key, if it is an entry, and its value. One without a value is an empty list.
    pub(super) fn annotation(
        &self,
        bytes: &[u8],
        out: &mut Attributes,
        is_entry: bool,
        depth: u32,
    ) -> Result<(), Malformed> {
        if depth > DEEPEST {
            return Err(Malformed);
        }
        let (mut key_iid, mut key_text, mut scalar) = (0, None, None);
        let (mut entries, mut items) = (0, 0);
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                field::annotation::NAME_IID => key_iid = value.number(),
                field::annotation::NAME => key_text = Some(value.text()),
                field::annotation::DICT_ENTRIES => entries += 1,
                field::annotation::ARRAY_VALUES => items += 1,
                _ => scalar = Some((field, value)),
            }
        }
        if is_entry {
            match (key_text, self.keys.get(&key_iid)) {
                (Some(text), _) => out.key_text(&text),
                (None, Some(name)) => out.key(*name),
                (None, None) => out.key_text(""),
            };
        }
        if entries + items == 0 {
            self.scalar(scalar, out);
            return Ok(());
        }
        let container =
            if entries > 0 { field::annotation::DICT_ENTRIES } else { field::annotation::ARRAY_VALUES };
        if entries > 0 {
            out.dict(entries);
        } else {
            out.array(items);
        }
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            if field == container {
                self.annotation(value.bytes(), out, entries > 0, depth + 1)?;
            }
        }
        Ok(())
    }

    fn scalar(&self, scalar: Option<(u32, Wire<'_>)>, out: &mut Attributes) {
        let Some((field, value)) = scalar else {
            out.array(0);
            return;
        };
        match field {
            field::annotation::BOOL_VALUE => out.bool(value.number() != 0),
            field::annotation::INT_VALUE => out.int(value.number() as i64),
            field::annotation::UINT_VALUE => match i64::try_from(value.number()) {
                Ok(number) => out.int(number),
                Err(_) => out.str(&value.number().to_string()),
            },
            field::annotation::DOUBLE_VALUE => out.double(f64::from_bits(value.number())),
            field::annotation::STRING_VALUE | LEGACY_JSON_VALUE => out.str(&value.text()),
            field::annotation::STRING_VALUE_IID => {
                out.str(self.texts.get(&value.number()).map_or("", |text| text));
            }
            field::annotation::NESTED_VALUE if is_dict(value.bytes()) => out.dict(0),
            _ => out.array(0),
        }
    }
}

fn is_dict(nested: &[u8]) -> bool {
    let mut fields = Fields(nested);
    let mut kinds = std::iter::from_fn(|| fields.next().ok().flatten());
    kinds.any(|(field, value)| field == field::nested::TYPE && value.number() == field::nested::DICT)
}
