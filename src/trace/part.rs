//! The bytes of a capture, a piece at a time. Files are read and not mapped: one that somebody cuts meanwhile just ends
//! there, where who looks at a mapping would be ended by SIGBUS.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::fields::{Fields, Malformed, Wire};

/// So much is read at once by who goes through a whole file.
pub(super) const LARGE_PIECE: usize = 256 << 10;

/// So much is read at once for one of many sequences: there is a buffer for each.
pub(super) const SMALL_PIECE: usize = 16 << 10;

/// No field that makes sense is longer: a packet of ours is at most a piece of a ring, compressed.
const LONGEST: usize = 256 << 20;

/// Bytes that hold the number and the length of any field.
const FIELD_HEAD: usize = 20;

/// A part of a capture. A clone has the same bytes.
#[derive(Clone, Debug)]
pub struct Part {
    bytes: Bytes,
    length: usize,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl From<Vec<u8>> for Part {
    fn from(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len(), bytes: Bytes::Memory(bytes.into()) }
    }
}

impl Part {
    /// The first `length` bytes of a file.
    pub fn of_file(file: File, length: usize) -> Self {
        Self { bytes: Bytes::File(Arc::new(file)), length }
    }

    /// Leaves out what is behind the first `length` bytes.
    pub fn shorten(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// How many bytes there were when it was opened.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes of one that is no file.
    pub fn memory(&self) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::File(_) => None,
            Bytes::Memory(bytes) => Some(bytes),
        }
    }

    /// Writes a range of the bytes, as far as they are there.
    ///
    /// # Errors
    /// `out` can't be written to.
    pub fn copy(&self, range: std::ops::Range<usize>, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let (mut at, mut piece) = (range.start, vec![0; LARGE_PIECE.min(range.len())]);
        while at < range.end {
            let wanted = piece.len().min(range.end - at);
            let read = self.read(at, &mut piece[..wanted]);
            if read == 0 {
                break;
            }
            out.write_all(&piece[..read])?;
            at += read;
        }
        Ok(())
    }

    /// Reads bytes from `at` on, up to the end or as many as there is room for; gives their number.
    pub(super) fn read_all(&self, at: usize, into: &mut [u8]) -> usize {
        let wanted = into.len().min(self.length.saturating_sub(at));
        let mut count = 0;
        while count < wanted {
            match self.read(at + count, &mut into[count..wanted]) {
                0 => break,
                read => count += read,
            }
        }
        count
    }

    /// Reads bytes from `at` on; gives their number, 0 at the end.
    fn read(&self, at: usize, into: &mut [u8]) -> usize {
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let there = bytes.get(at..).unwrap_or_default();
                let count = there.len().min(into.len());
                into[..count].copy_from_slice(&there[..count]);
                count
            }
            Bytes::File(file) => loop {
                match file.read_at(into, at as u64) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What can't be read is lost, as what was cut off is; both are told.
                    outcome => return outcome.inspect_err(|error| log::warn!("{error}")).unwrap_or(0),
                }
            },
        }
    }
}

/// Goes through a range of a part, field by field.
#[derive(Debug)]
pub(super) struct Window {
    /// Bytes that are read at once.
    piece: usize,
    /// What was read, from `offset` on; beyond `filled` it means nothing.
    buffer: Vec<u8>,
    filled: usize,
    offset: usize,
    /// Where the latest field begins in the buffer, and where it ends.
    field: usize,
    next: usize,
    /// End of the range in the part.
    end: usize,
    is_cut: bool,
}

impl Window {
    /// One that is nowhere yet, and reads so much at once.
    pub(super) fn new(piece: usize) -> Self {
        Self { piece, buffer: Vec::new(), filled: 0, offset: 0, field: 0, next: 0, end: 0, is_cut: false }
    }

    /// Goes to another range.
    pub(super) fn go_to(&mut self, start: usize, end: usize) {
        (self.filled, self.offset, self.field, self.next) = (0, start, 0, 0);
        (self.end, self.is_cut) = (end, false);
    }

    /// The next field's number and value; none at the range's end.
    #[allow(clippy::inline_always, reason = "as of Fields::next")]
    #[inline(always)]
    pub(super) fn next(&mut self, part: &Part) -> Result<Option<(u32, Wire<'_>)>, Malformed> {
        self.next_before(part, usize::MAX)
    }

    /// The next field's number and value; none at the range's end. One that goes beyond `end` is malformed.
    #[allow(clippy::inline_always, reason = "as of Fields::next")]
    #[inline(always)]
    pub(super) fn next_before(
        &mut self,
        part: &Part,
        end: usize,
    ) -> Result<Option<(u32, Wire<'_>)>, Malformed> {
        loop {
            let unread = &self.buffer[self.next..self.filled];
            let mut fields = Fields(unread);
            if let Ok(Some((number, value))) = fields.next() {
                self.field = self.next;
                self.next += unread.len() - fields.0.len();
                if self.position() > end {
                    return Err(Malformed);
                }
                // Once more from the buffer, which may not be lent while it may still be filled.
                let value = match value {
                    Wire::Number(value) => Wire::Number(value),
                    Wire::Bytes(bytes) => {
                        let start = self.next - bytes.len();
                        Wire::Bytes(&self.buffer[start..self.next])
                    }
                };
                return Ok(Some((number, value)));
            }
            let is_at_end = unread.is_empty();
            if !self.fill(part) {
                return if is_at_end { Ok(None) } else { Err(Malformed) };
            }
        }
    }

    /// Goes on from another place, up to the range's end.
    pub(super) fn seek(&mut self, at: usize) {
        if let Some(next) = at.checked_sub(self.offset).filter(|at| *at <= self.filled) {
            (self.field, self.next) = (next, next);
        } else {
            (self.filled, self.offset, self.field, self.next) = (0, at, 0, 0);
        }
    }

    /// The next bytes, which stay the next. None: so many are not there.
    pub(super) fn peek(&mut self, part: &Part, count: usize) -> Option<&[u8]> {
        let unread = self.filled - self.next;
        if count > unread {
            let left = self.end.saturating_sub(self.offset + self.filled);
            if count > LONGEST || count - unread > left {
                return None;
            }
            self.read(part, count - unread);
        }
        self.buffer.get(self.next..(self.next + count).min(self.filled)).filter(|bytes| bytes.len() == count)
    }

    /// All bytes of the latest field.
    pub(super) fn field(&self) -> &[u8] {
        &self.buffer[self.field..self.next]
    }

    /// Where the next field begins in the part.
    pub(super) fn position(&self) -> usize {
        self.offset + self.next
    }

    /// Whether the part has ended before the range has.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Reads so much more that the next field is whole. False: there is no more, or it makes no sense.
    #[cold]
    fn fill(&mut self, part: &Part) -> bool {
        let unread = self.filled - self.next;
        let left = self.end.saturating_sub(self.offset + self.filled);
        let missing = if unread < FIELD_HEAD {
            1
        } else {
            match Fields(&self.buffer[self.next..self.filled]).length() {
                Ok(length) if length <= LONGEST => length.saturating_sub(unread),
                _ => 0,
            }
        };
        if missing == 0 || missing > left {
            return false;
        }
        self.read(part, missing)
    }

    /// Reads so many bytes more, and what comes behind them. False: not even one is there.
    fn read(&mut self, part: &Part, missing: usize) -> bool {
        let unread = self.filled - self.next;
        let left = self.end.saturating_sub(self.offset + self.filled);
        self.buffer.copy_within(self.next..self.filled, 0);
        self.offset += self.next;
        (self.field, self.next, self.filled) = (0, 0, unread);
        let wanted = unread + left.min(missing.max(self.piece));
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.filled < unread + missing {
            let read = part.read(self.offset + self.filled, &mut self.buffer[self.filled..wanted]);
            if read == 0 {
                self.is_cut = true;
                self.end = self.offset + self.filled;
                return self.filled > unread;
            }
            self.filled += read;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Encode;
    use super::*;

    const PIECE: usize = 1000;

    fn of_file(bytes: &[u8]) -> (File, Part) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (file.try_clone().unwrap(), Part::of_file(file, bytes.len()))
    }

    fn lengths(window: &mut Window, part: &Part) -> Result<Vec<usize>, Malformed> {
        let mut lengths = Vec::new();
        while let Some((_, value)) = window.next(part)? {
            lengths.push(value.bytes().len());
            assert!(window.field().len() > lengths[lengths.len() - 1]);
        }
        Ok(lengths)
    }

    #[test]
    fn fields_of_any_length_are_whole_wherever_the_pieces_end() {
        let all = [0, 1, PIECE - 7, PIECE, 3 * PIECE, 5, PIECE - 1, 200];
        let mut bytes = Vec::new();
        all.iter().for_each(|length| bytes.bytes(1, &vec![7; *length]));
        for part in [of_file(&bytes).1, Part::from(bytes.clone())] {
            let mut window = Window::new(PIECE);
            window.go_to(0, bytes.len());
            assert_eq!(lengths(&mut window, &part), Ok(all.to_vec()));
            assert_eq!((window.position(), window.is_cut()), (bytes.len(), false));
            window.go_to(2, bytes.len() - 202); // the first has two bytes, the last has three more than it holds
            assert!(lengths(&mut window, &part).is_err(), "it ends within a field");
            let mut copy = Vec::new();
            part.copy(3..bytes.len() - 1, &mut copy).unwrap();
            assert_eq!(copy, bytes[3..bytes.len() - 1]);
        }
    }

    #[test]
    fn a_length_beyond_the_range_takes_no_memory() {
        let mut bytes = vec![10, 0xff, 0xff, 0xff, 0xff, 0x07];
        bytes.resize(4 * PIECE, 0);
        let part = Part::from(bytes.clone());
        let mut window = Window::new(PIECE);
        window.go_to(0, bytes.len());
        assert!(window.next(&part).is_err());
        assert!(window.buffer.len() <= 2 * PIECE);
    }

    #[test]
    fn a_file_that_is_cut_meanwhile_ends_there() {
        let mut bytes = Vec::new();
        (0..20_000).for_each(|_| bytes.bytes(1, b"0123456789"));
        let (file, part) = of_file(&bytes);
        let mut window = Window::new(PIECE);
        window.go_to(0, bytes.len());
        assert!(window.next(&part).is_ok_and(|found| found.is_some()));
        for length in [2 * PIECE as u64, 0] {
            file.set_len(length).unwrap();
            window.go_to(0, bytes.len());
            let read = lengths(&mut window, &part).map_or(0, |lengths| lengths.len());
            assert!(window.is_cut() && read as u64 <= length / 12 && window.position() as u64 <= length);
        }
    }
}
