//! Blocks: what a recorder writes is divided into pieces that can be checked one by one, and found again behind damage.
//!
//! A block is a packet of [`SIZE`] bytes, its header, and the packets behind it. The header's one field has a number that
//! Perfetto does not know, so that it passes over it. See `docs/trace-format.md`.

use super::compress::compressed;
#[cfg(test)]
use super::fields::Fields;
use super::packet::field;

/// Bytes of a header, its packet's number and length included.
pub(super) const SIZE: usize = PREFIX.len() + CONTENT;

/// A block that has so many bytes is at its end.
pub(super) const FULL: usize = 64 << 10;

/// Bytes of the header's field.
const CONTENT: usize = 44;

/// The packet's number and length, and those of its field.
const PREFIX: [u8; 5] = {
    let tag = field::packet::BLOCK << 3 | 2;
    [
        (field::trace::PACKET << 3 | 2) as u8,
        3 + CONTENT as u8,
        tag as u8 | 0x80,
        (tag >> 7) as u8,
        CONTENT as u8,
    ]
};

/// What the field begins with. No text has such bytes.
pub(super) const MAGIC: [u8; 7] = *b"\xffmsBlk\xfe";

/// Where [`MAGIC`] stands in a header.
pub(super) const MAGIC_AT: usize = PREFIX.len();

/// Bits of a header's flags.
const LAST: u8 = 1;
const BEGINS_GROUP: u8 = 2;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// No block of its stream comes behind it.
    pub(super) is_last: bool,
    /// No packet of it or behind it leans on what was stated before.
    pub(super) begins_group: bool,
    /// The stream that it belongs to: what one writer wrote.
    pub(super) stream: u32,
    /// Its position in the stream.
    pub(super) number: u64,
    /// Events in the blocks before.
    pub(super) before: u64,
    /// Events in this one.
    pub(super) events: u32,
    /// Bytes behind the header.
    pub(super) length: u32,
    /// CRC-32 of these bytes.
    pub(super) checksum: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SIZE] {
        let flags = (u8::from(self.is_last) * LAST) | (u8::from(self.begins_group) * BEGINS_GROUP);
        let mut bytes = [0; SIZE];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&PREFIX);
        put(&MAGIC);
        put(&[flags]);
        put(&self.stream.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.before.to_le_bytes());
        put(&self.events.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.checksum.to_le_bytes());
        let own = crc32fast::hash(&bytes[..SIZE - 4]);
        bytes[SIZE - 4..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The header that the bytes begin with. None: there is none, or it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SIZE)?;
        let (flags, words) = bytes.strip_prefix(&PREFIX)?.strip_prefix(&MAGIC)?.split_first()?;
        let word = |at: usize| Some(u32::from_le_bytes(*words.get(at * 4..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at + 1)?) << 32);
        if word(8)? != crc32fast::hash(&bytes[..SIZE - 4]) {
            return None;
        }
        Some(Self {
            is_last: flags & LAST != 0,
            begins_group: flags & BEGINS_GROUP != 0,
            stream: word(0)?,
            number: long(1)?,
            before: long(3)?,
            events: word(5)?,
            length: word(6)?,
            checksum: word(7)?,
        })
    }
}

/// The block that a writer is at.
#[derive(Debug)]
pub(super) struct Framing {
    stream: Stream,
    /// How far that was when all was written that was pending.
    written: Stream,
    compress: bool,
    /// A block that has so many bytes is at its end.
    full: usize,
    /// Where the open block begins in the writer's buffer.
    open: Option<usize>,
    begins_group: bool,
}

impl Framing {
    /// That of a stream, from this block on.
    pub(super) fn new(stream: Stream, compress: bool) -> Self {
        Self { stream, written: stream, compress, full: FULL, open: None, begins_group: true }
    }

    #[cfg(test)]
    pub(super) fn set_full(&mut self, bytes: usize) {
        self.full = bytes;
    }

    #[cfg(test)]
    pub(super) fn number(&self) -> usize {
        self.stream.next as usize
    }

    /// Bytes of a block that is at its end.
    pub(super) fn full(&self) -> usize {
        self.full
    }

    /// Makes room for a header, if no block is open.
    #[inline]
    pub(super) fn open(&mut self, out: &mut Vec<u8>) {
        if self.open.is_none() {
            self.open = Some(out.len());
            out.resize(out.len() + SIZE, 0);
        }
    }

    /// Where what is whole ends in the writer's buffer.
    pub(super) fn whole(&self, out: &[u8]) -> usize {
        self.open.unwrap_or(out.len())
    }

    /// How far the stream is of which all has left the buffer.
    pub(super) fn written(&self) -> Stream {
        self.written
    }

    /// What was whole has left the buffer.
    pub(super) fn moved(&mut self) {
        self.open = self.open.map(|_| 0);
        self.written = self.stream;
    }

    /// The buffer was emptied, and nothing of it was written.
    pub(super) fn go_back(&mut self) {
        (self.open, self.stream) = (None, self.written);
    }

    /// Goes on with another stream. No block is open.
    pub(super) fn begin_stream(&mut self, stream: Stream) {
        (self.stream, self.written) = (stream, stream);
    }

    /// Whether the open block is at its end.
    #[inline]
    pub(super) fn is_full(&self, out: &[u8]) -> bool {
        self.open.is_some_and(|start| out.len() - start >= self.full)
    }

    /// The next block begins a group.
    pub(super) fn begin_group(&mut self) {
        self.begins_group = true;
    }

    /// Ends the open block, in which there are so many events.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, events: u32, is_last: bool) {
        let Some(start) = self.open.take() else { return };
        let body = start + SIZE;
        if self.compress && out.len() > body {
            let packed = compressed(&out[body..]);
            out.truncate(body);
            out.extend_from_slice(&packed);
        }
        let header = Header {
            is_last,
            begins_group: std::mem::take(&mut self.begins_group),
            stream: self.stream.id,
            number: self.stream.next,
            before: self.stream.events,
            events,
            length: (out.len() - body) as u32,
            checksum: crc32fast::hash(&out[body..]),
        };
        out[start..body].copy_from_slice(&header.encode());
        self.stream = Stream::behind(&header);
    }
}

/// How far a stream of blocks has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// A random number.
    pub id: u32,
    /// The number of its next block.
    pub next: u64,
    /// Events in those before.
    pub events: u64,
}

impl Stream {
    /// One that begins.
    pub(super) fn new(id: u32) -> Self {
        Self { id, next: 0, events: 0 }
    }

    /// Where it was when this block came.
    pub(super) fn before(header: &Header) -> Self {
        Self { id: header.stream, next: header.number, events: header.before }
    }

    /// What comes behind this block.
    pub(super) fn behind(header: &Header) -> Self {
        let (next, events) =
            (header.number.saturating_add(1), header.before.saturating_add(header.events.into()));
        Self { id: header.stream, next, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        is_last: true,
        begins_group: false,
        stream: 1,
        number: 2,
        before: 3 << 40,
        events: 4,
        length: 5,
        checksum: 6,
    };

    #[test]
    fn a_header_is_one_packet_with_one_field_and_is_read_as_it_was_written() {
        let bytes = HEADER.encode();
        let mut trace = Fields(&bytes);
        let packet = trace.next().unwrap().unwrap();
        assert_eq!((packet.0, trace.0), (field::trace::PACKET, &[][..]));
        let mut packet = Fields(packet.1.bytes());
        let content = packet.next().unwrap().unwrap();
        assert_eq!((content.0, packet.0), (field::packet::BLOCK, &[][..]));
        assert!(content.1.bytes().starts_with(&MAGIC));
        assert_eq!(Header::decode(&bytes), Some(HEADER));
        assert_eq!(Header::decode(&[&bytes[..], b"more"].concat()), Some(HEADER));
    }

    #[test]
    fn a_header_in_which_one_bit_is_wrong_is_none() {
        for bit in 0..SIZE * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&HEADER.encode()[..SIZE - 1]), None);
    }
}
