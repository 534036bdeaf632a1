//! Takes protobuf messages apart, field by field, borrowed from the bytes. Used by the index and the reader.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    /// A varint or a fixed number.
    Number(u64),
    /// A text, a byte string or a nested message.
    Bytes(&'a [u8]),
}

/// The bytes end within a field, or are no protobuf at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; none at the message's end.
    #[allow(clippy::inline_always, reason = "a third faster: each loop over fields has branches of its own")]
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if field == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed)?)?)
            }
            5 => {
                Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?)))
            }
            _ => return Err(Malformed),
        };
        Ok(Some((field, value)))
    }

    /// How many bytes the next field has, whether they are all here or not. Its number and length must be.
    pub(super) fn length(mut self) -> Result<usize, Malformed> {
        let before = self.0.len();
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if field == 0 || tag & 7 != 2 {
            return Err(Malformed); // the others are never longer than their number and length can be
        }
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        length.checked_add(before - self.0.len()).ok_or(Malformed)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let [byte, tail @ ..] = self.0
            && *byte < 0x80
        {
            self.0 = tail;
            return Ok(u64::from(*byte));
        }
        let mut value = 0;
        for (position, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * position);
            if *byte < 0x80 {
                self.0 = &self.0[position + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl<'a> Wire<'a> {
    /// The number; 0 for bytes.
    #[inline]
    pub(super) fn number(self) -> u64 {
        if let Self::Number(value) = self { value } else { 0 }
    }

    /// The bytes; none for a number.
    #[inline]
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// The bytes as text, with replacement characters where they are not UTF-8.
    pub(super) fn text(self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::Encode;
    use super::*;

    #[test]
    fn what_the_encoder_writes_is_read_field_by_field() {
        let mut bytes = Vec::new();
        bytes.number(1, 0);
        bytes.number(300, u64::MAX);
        bytes.fixed64(2, 42);
        bytes.bytes(3, b"text");
        let mut fields = Fields(&bytes);
        assert_eq!(fields.next(), Ok(Some((1, Wire::Number(0)))));
        assert_eq!(fields.next(), Ok(Some((300, Wire::Number(u64::MAX)))));
        assert_eq!(fields.next(), Ok(Some((2, Wire::Number(42)))));
        assert_eq!(fields.next(), Ok(Some((3, Wire::Bytes(b"text")))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn a_field_that_is_cut_or_impossible_is_malformed() {
        for bytes in
            [&[0x0a, 5, 1][..], &[0x80], &[0x00, 1], &[0x09, 1, 2], &[0x0b], &[0x08; 1], &[0x08, 0xff]]
        {
            assert_eq!(Fields(bytes).next(), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_go_on_forever(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut fields = Fields(&bytes);
            let mut count = 0;
            while let Ok(Some(_)) = fields.next() {
                count += 1;
            }
            prop_assert!(count <= bytes.len());
        }
    }
}
