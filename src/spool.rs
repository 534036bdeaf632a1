//! Rows in the order of a number, mostly their time, more of them than memory would hold: sorted piece by piece, the
//! pieces kept in temporary files (`TMPDIR`) and merged when read. Sources and tables keep in it what grows with the
//! number of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of rows that are kept in memory.
const PIECE: usize = 8 << 20;

/// Bytes that are read of a temporary file at once.
const READ_AHEAD: usize = 64 << 10;

/// Before each row of a temporary file: its number and its length.
const HEAD: usize = 12;

/// Takes rows in.
#[derive(Debug)]
pub struct Spool<T> {
    bytes: Vec<u8>,
    rows: Vec<Slot>,
    pieces: Vec<Piece>,
    count: u64,
    /// The first error ends the taking; [`Spool::finish`] tells it.
    error: Option<io::Error>,
    of: PhantomData<fn(T)>,
}

/// All rows, sorted by their numbers; rows of one number are in the order in which they came.
#[derive(Debug)]
pub struct Sorted<T> {
    bytes: Vec<u8>,
    rows: Vec<Slot>,
    pieces: Vec<Piece>,
    count: u64,
    of: PhantomData<fn() -> T>,
}

/// Yields the rows.
#[derive(Debug)]
pub struct Rows<'a, T> {
    sorted: &'a Sorted<T>,
    next_in_memory: usize,
    readers: Vec<PieceReader<'a>>,
    /// The number of each piece's next row; the rows in memory are the last piece.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
}

/// Where a row is in memory.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    start: u32,
    end: u32,
}

/// Sorted rows in a file that has no name.
#[derive(Debug)]
struct Piece {
    file: File,
    length: u64,
}

#[derive(Debug)]
struct PieceReader<'a> {
    piece: &'a Piece,
    /// How much of the piece is in `ahead` or has been read.
    position: u64,
    ahead: Vec<u8>,
    at: usize,
}

impl<T> Default for Spool<T> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            rows: Vec::new(),
            pieces: Vec::new(),
            count: 0,
            error: None,
            of: PhantomData,
        }
    }
}

impl<T: Serialize> Spool<T> {
    /// Takes in a row of this number.
    pub fn push(&mut self, key: u64, row: &T) {
        if self.error.is_some() {
            return;
        }
        let start = self.bytes.len();
        match postcard::to_extend(row, std::mem::take(&mut self.bytes)) {
            Ok(bytes) => self.bytes = bytes,
            Err(error) => {
                self.error = Some(io::Error::other(error));
                return;
            }
        }
        self.rows.push(Slot { key, start: start as u32, end: self.bytes.len() as u32 });
        self.count += 1;
        if self.bytes.len() >= PIECE {
            self.error = self.put_away().err();
        }
    }

    fn put_away(&mut self) -> io::Result<()> {
        self.rows.sort_by_key(|row| row.key);
        let mut out = BufWriter::with_capacity(READ_AHEAD, tempfile::tempfile()?);
        let mut length = 0;
        for row in &self.rows {
            let bytes = &self.bytes[row.start as usize..row.end as usize];
            out.write_all(&row.key.to_le_bytes())?;
            out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            out.write_all(bytes)?;
            length += (HEAD + bytes.len()) as u64;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.pieces.push(Piece { file, length });
        self.bytes.clear();
        self.rows.clear();
        Ok(())
    }

    /// The rows, sorted.
    ///
    /// # Errors
    /// A temporary file could not be written; set `TMPDIR` to a folder with more space.
    pub fn finish(mut self) -> io::Result<Sorted<T>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.rows.sort_by_key(|row| row.key);
        Ok(Sorted {
            bytes: self.bytes,
            rows: self.rows,
            pieces: self.pieces,
            count: self.count,
            of: PhantomData,
        })
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), rows: Vec::new(), pieces: Vec::new(), count: 0, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Sorted<T> {
    /// All rows, from the first on.
    pub fn iter(&self) -> Rows<'_, T> {
        let readers: Vec<_> = self.pieces.iter().map(PieceReader::new).collect();
        let mut rows = Rows { sorted: self, next_in_memory: 0, readers, heap: BinaryHeap::new() };
        (0..=self.pieces.len()).for_each(|piece| rows.await_piece(piece));
        rows
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Sorted<T> {
    type Item = T;
    type IntoIter = Rows<'a, T>;

    fn into_iter(self) -> Rows<'a, T> {
        self.iter()
    }
}

impl<T: DeserializeOwned> Rows<'_, T> {
    /// The number of the row that comes next.
    pub fn next_key(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((key, _))| *key)
    }

    fn await_piece(&mut self, piece: usize) {
        let key = match self.readers.get_mut(piece) {
            Some(reader) => reader.key(),
            None => self.sorted.rows.get(self.next_in_memory).map(|row| row.key),
        };
        if let Some(key) = key {
            self.heap.push(Reverse((key, piece)));
        }
    }
}

impl<T: DeserializeOwned> Iterator for Rows<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let Reverse((_, piece)) = self.heap.pop()?;
        let row = if let Some(reader) = self.readers.get_mut(piece) {
            reader.row().and_then(|bytes| postcard::from_bytes(bytes).ok())
        } else {
            let slot = self.sorted.rows[self.next_in_memory];
            self.next_in_memory += 1;
            postcard::from_bytes(&self.sorted.bytes[slot.start as usize..slot.end as usize]).ok()
        };
        self.await_piece(piece);
        row
    }
}

impl<'a> PieceReader<'a> {
    fn new(piece: &'a Piece) -> Self {
        Self { piece, position: 0, ahead: Vec::new(), at: 0 }
    }

    fn key(&mut self) -> Option<u64> {
        let head = self.bytes(HEAD)?;
        Some(u64::from_le_bytes(head[..8].try_into().ok()?))
    }

    fn row(&mut self) -> Option<&[u8]> {
        let length = u32::from_le_bytes(self.bytes(HEAD)?[8..].try_into().ok()?) as usize;
        self.bytes(HEAD + length)?;
        self.at += HEAD + length;
        Some(&self.ahead[self.at - length..self.at])
    }

    /// So many bytes from the current row on.
    fn bytes(&mut self, count: usize) -> Option<&[u8]> {
        if self.ahead.len() - self.at < count {
            self.ahead.drain(..self.at);
            self.at = 0;
            let left = self.piece.length - self.position;
            let wanted = left.min(count.max(READ_AHEAD) as u64) as usize;
            let kept = self.ahead.len();
            self.ahead.resize(kept + wanted, 0);
            if let Err(error) = self.piece.file.read_exact_at(&mut self.ahead[kept..], self.position) {
                log::error!("a temporary file can't be read back, rows are missing: {error}");
                self.ahead.truncate(kept);
                self.position = self.piece.length;
                return None;
            }
            self.position += wanted as u64;
        }
        self.ahead.get(self.at..self.at + count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted<T: Serialize>(rows: impl IntoIterator<Item = (u64, T)>) -> Sorted<T> {
        let mut spool = Spool::default();
        rows.into_iter().for_each(|(key, row)| spool.push(key, &row));
        spool.finish().unwrap()
    }

    #[test]
    fn rows_of_many_pieces_come_back_in_order_and_as_often_as_wanted() {
        // Long enough for several temporary files.
        let text = |n: u64| format!("{n:0>2000}");
        let count = 4 * PIECE as u64 / 2000;
        let scattered = (0..count).map(|n| (n * 7_919 % count, text(n * 7_919 % count)));
        let sorted = sorted(scattered);
        assert!(sorted.pieces.len() >= 3);
        for _ in 0..2 {
            assert!(sorted.iter().eq((0..count).map(text)));
        }
        assert_eq!((sorted.len(), sorted.iter().next_key()), (count, Some(0)));
    }

    #[test]
    fn nothing_in_nothing_out() {
        let sorted = sorted(std::iter::empty::<(u64, u8)>());
        assert!(sorted.is_empty() && sorted.iter().next().is_none() && sorted.iter().next_key().is_none());
    }

    proptest! {
        #[test]
        fn it_is_a_stable_sort(times in prop::collection::vec(0..20_u64, 0..200), piece in 1..40_usize) {
            let mut spool = Spool::default();
            for (number, time) in times.iter().enumerate() {
                spool.push(*time, &number);
                if number % piece == 0 {
                    spool.put_away().unwrap();
                }
            }
            let mut expected: Vec<usize> = (0..times.len()).collect();
            expected.sort_by_key(|number| times[*number]);
            prop_assert!(spool.finish().unwrap().iter().eq(expected));
        }
    }
}
