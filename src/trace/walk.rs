//! Goes through a part of a capture, section by section: blocks whose checksum is right, packets that stand in none, and
//! damage, behind which it goes on at the next block.

use std::ops::{ControlFlow, Range};

use memchr::memmem;
use rustc_hash::FxHashMap;

use super::block::{Header, MAGIC, MAGIC_AT, SIZE};
use super::fields::{Malformed, Wire};
use super::part::{LARGE_PIECE, Part, SMALL_PIECE, Window};

/// Blocks whose checksum is wrong may have so many times the part's bytes: somebody may have made many long ones that lie
/// within each other.
const MOST_IN_VAIN: usize = 8;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// A block, which is as it was written.
    Block(Header),
    /// The beginning of a block, whose end the part does not have.
    Torn(Header),
    /// Packets that stand in no block: others than our recorder wrote them, or an older version did.
    Loose,
    /// Bytes that can't be read, up to here.
    Damage(usize),
}

/// Goes through a part.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    part: &'a Part,
    window: Window,
    /// The section's packets, and where the next section begins.
    end: usize,
    in_vain: usize,
    /// Where the headers of each stream are, and the lowest number from there on; only where blocks are missing.
    headers: Option<FxHashMap<u32, Vec<(usize, u64)>>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(part: &'a Part) -> Self {
        let mut window = Window::new(LARGE_PIECE);
        window.go_to(0, part.length());
        Self { part, window, end: 0, in_vain: 0, headers: None }
    }

    /// Where the next section begins, or the next packet of this one.
    pub(super) fn position(&self) -> usize {
        self.window.position()
    }

    /// Where this section ends.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// All bytes of the latest packet.
    pub(super) fn bytes(&self) -> &[u8] {
        self.window.field()
    }

    /// The next section, whose packets come then. `in_stream`: blocks came before and more have to come, so that nothing
    /// else has a place here.
    pub(super) fn section(&mut self, in_stream: bool) -> Option<Section> {
        let (at, length) = (self.end, self.part.length());
        if at >= length {
            return None;
        }
        self.window.seek(at);
        let header = self.window.peek(self.part, SIZE).and_then(Header::decode);
        if let Some(header) = header {
            let body = at + SIZE;
            let end = body.saturating_add(header.length as usize);
            if end > length {
                if self.find(at + 1).is_none() {
                    self.window.seek(body);
                    self.end = length;
                    return Some(Section::Torn(header));
                }
            } else if self.in_vain <= length.saturating_mul(MOST_IN_VAIN) {
                let bytes = self.window.peek(self.part, end - at);
                if bytes.is_some_and(|bytes| crc32fast::hash(&bytes[SIZE..]) == header.checksum) {
                    self.window.seek(body);
                    self.end = end;
                    return Some(Section::Block(header));
                }
                self.in_vain += end - at;
            }
        } else if !in_stream {
            match self.find(at) {
                None => {
                    self.end = length;
                    return Some(Section::Loose);
                }
                Some((start, header)) if header.number == 0 => {
                    self.end = start;
                    return Some(Section::Loose);
                }
                Some(_) => {}
            }
        }
        self.end = self.find(at + 1).map_or(length, |(start, _)| start);
        self.window.seek(self.end);
        Some(Section::Damage(self.end))
    }

    /// The section's next packet, or another field; none at its end.
    #[allow(clippy::inline_always, reason = "as of Fields::next")]
    #[inline(always)]
    pub(super) fn packet(&mut self) -> Result<Option<(u32, Wire<'_>)>, Malformed> {
        if self.window.position() >= self.end {
            return Ok(None);
        }
        match self.window.next_before(self.part, self.end)? {
            None => Err(Malformed),
            field => Ok(field),
        }
    }

    /// Whether a block of the stream that comes behind `at` has one of these numbers.
    pub(super) fn comes_later(&mut self, at: usize, stream: u32, numbers: Range<u64>) -> bool {
        let headers = self.headers.take().unwrap_or_else(|| self.headers());
        let of_stream = headers.get(&stream).map_or(&[][..], Vec::as_slice);
        let lowest = of_stream.get(of_stream.partition_point(|(offset, _)| *offset <= at));
        let comes_later = lowest.is_some_and(|(_, lowest)| numbers.contains(lowest));
        self.headers = Some(headers);
        comes_later
    }

    fn headers(&self) -> FxHashMap<u32, Vec<(usize, u64)>> {
        let mut headers: FxHashMap<_, Vec<_>> = FxHashMap::default();
        self.scan(0, |start, header| {
            headers.entry(header.stream).or_default().push((start, header.number));
            ControlFlow::Continue(())
        });
        for of_stream in headers.values_mut() {
            let mut lowest = u64::MAX;
            for (_, number) in of_stream.iter_mut().rev() {
                lowest = lowest.min(*number);
                *number = lowest;
            }
        }
        headers
    }

    /// The first header from here on, and where it stands.
    fn find(&self, from: usize) -> Option<(usize, Header)> {
        let mut first = None;
        self.scan(from, |start, header| {
            first = Some((start, header));
            ControlFlow::Break(())
        });
        first
    }

    /// Gives the headers from here on, and where each stands, until no more are wanted.
    fn scan(&self, from: usize, mut found: impl FnMut(usize, Header) -> ControlFlow<()>) {
        let finder = memmem::Finder::new(&MAGIC);
        let (mut at, mut buffer) = (from, Vec::new());
        loop {
            // The first is mostly near.
            buffer.resize((buffer.len() * 4).clamp(SMALL_PIECE, LARGE_PIECE), 0);
            let read = self.part.read_all(at, &mut buffer);
            for magic in finder.find_iter(&buffer[..read]) {
                let Some(start) = magic.checked_sub(MAGIC_AT) else { continue };
                if let Some(header) = buffer.get(start..read).and_then(Header::decode)
                    && found(at + start, header).is_break()
                {
                    return;
                }
            }
            if read < buffer.len() {
                return;
            }
            at += read - (SIZE - 1);
        }
    }
}
