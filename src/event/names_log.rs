//! The texts behind the numbers in a process's rings, as bytes: for whoever reads the rings after it was killed.
//!
//! A head of six words: [`MAGIC`], the length of what is committed behind the head, the number of rings that are in
//! private memory, so that a kill loses what is in them, the identity of the capture, which the rings have too, the
//! length that the capture's last file has once the rings were put into it, and the number of rings that are in files.
//! Then one entry after the other: a byte that says what it is, its number, and its texts, each after its length. All
//! numbers are little-endian.
//!
//! The recorder holds a lock on the file before it writes the magic number, and until it has taken the last events or is
//! gone. Version 1 had no lock, and no identity in its head; version 2 did not count the rings in files.

/// What such a file begins with.
pub const MAGIC: u64 = u64::from_le_bytes(*b"msprofN\x03");

const MAGIC_2: u64 = u64::from_le_bytes(*b"msprofN\x02");
const MAGIC_1: u64 = u64::from_le_bytes(*b"msprofN\x01");

/// Bytes before the first entry.
pub const HEAD: usize = 48;

const HEAD_2: usize = 40;
const HEAD_1: usize = 24;

/// Where in the head the length of what is committed stands.
pub const COMMITTED: usize = 8;

/// Where in the head the number of rings in private memory stands.
pub const PRIVATE_RINGS: usize = 16;

/// Where in the head the capture's identity stands.
pub const IDENTITY: usize = 24;

/// Where in the head the length of a completed capture stands; 0: it was not completed.
pub const COMPLETED: usize = 32;

/// Where in the head the number of rings in files stands.
pub const FILED_RINGS: usize = 40;

const NAME: u8 = 1;
const LABEL: u8 = 2;

/// One number and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A name.
    Name {
        /// Its position in the process's table.
        index: u32,
        /// The text.
        text: &'a str,
    },
    /// A label.
    Label {
        /// Its position in the process's table.
        index: u32,
        /// Its domain's text.
        domain: &'a str,
        /// Its name's text.
        name: &'a str,
    },
}

impl Entry<'_> {
    /// Appends its bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut put = |kind: u8, index: u32, texts: &[&str]| {
            bytes.push(kind);
            bytes.extend(index.to_le_bytes());
            for text in texts {
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        };
        match *self {
            Self::Name { index, text } => put(NAME, index, &[text]),
            Self::Label { index, domain, name } => put(LABEL, index, &[domain, name]),
        }
    }
}

/// The committed entries of a file. None: it is no such file. What is damaged ends them.
pub fn entries(file: &[u8]) -> Option<impl Iterator<Item = Entry<'_>>> {
    let head = head(file)?;
    let committed = word(file, COMMITTED)?;
    let rest = file.get(head..)?;
    let mut rest = &rest[..usize::try_from(committed).unwrap_or(usize::MAX).min(rest.len())];
    Some(std::iter::from_fn(move || decode(&mut rest)))
}

/// How many rings were in private memory.
pub fn private_rings(file: &[u8]) -> u64 {
    head(file).and_then(|_| word(file, PRIVATE_RINGS)).unwrap_or(0)
}

/// How many rings were in files; 0 where that was not counted.
pub fn filed_rings(file: &[u8]) -> u64 {
    word(file, FILED_RINGS).filter(|_| head(file) == Some(HEAD)).unwrap_or(0)
}

/// Whether the recorder of a file that begins with this word holds a lock on it.
pub fn has_lock(first: u64) -> bool {
    [MAGIC, MAGIC_2].contains(&first)
}

/// The identity of the capture. None: it is no such file, or of version 1, whose recorder holds no lock.
pub fn identity(file: &[u8]) -> Option<u64> {
    word(file, IDENTITY).filter(|_| head(file) >= Some(HEAD_2))
}

/// The length of the capture's last file that has all of the rings. None: no file has.
pub fn completed(file: &[u8]) -> Option<u64> {
    word(file, COMPLETED).filter(|length| head(file) >= Some(HEAD_2) && *length > 0)
}

fn head(file: &[u8]) -> Option<usize> {
    match word(file, 0)? {
        MAGIC => Some(HEAD),
        MAGIC_2 => Some(HEAD_2),
        MAGIC_1 => Some(HEAD_1),
        _ => None,
    }
}

fn word(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn decode<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (kind, tail) = rest.split_first()?;
    *rest = tail;
    let index = number(rest)?;
    match *kind {
        NAME => Some(Entry::Name { index, text: text(rest)? }),
        LABEL => Some(Entry::Label { index, domain: text(rest)?, name: text(rest)? }),
        _ => None,
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*bytes))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = number(rest)? as usize;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(entries: &[Entry<'_>], committed: Option<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        let committed = committed.unwrap_or(bytes.len() as u64);
        let words = [MAGIC, committed, 5, 77, 0, 9].map(u64::to_le_bytes);
        [&words.concat(), &*bytes].concat()
    }

    const ENTRIES: [Entry<'_>; 3] = [
        Entry::Name { index: 7, text: "" },
        Entry::Label { index: 0, domain: "Schedule", name: "größe\n" },
        Entry::Name { index: u32::MAX, text: "x" },
    ];

    #[test]
    fn what_was_committed_is_read_and_what_was_not_is_left_out() {
        let read = |file: &[u8]| entries(file).map(|all| all.map(|entry| format!("{entry:?}")).collect());
        let expected =
            |count: usize| Some(ENTRIES[..count].iter().map(|e| format!("{e:?}")).collect::<Vec<_>>());
        assert_eq!(read(&file(&ENTRIES, None)), expected(3));
        let two = file(&ENTRIES[..2], None).len() - HEAD;
        assert_eq!(read(&file(&ENTRIES, Some(two as u64))), expected(2));
        assert_eq!(read(&file(&ENTRIES, Some(u64::MAX))), expected(3), "cut by a full disk");
        assert_eq!(read(&file(&ENTRIES, None)[..HEAD + two + 3]), expected(2));
        assert_eq!(private_rings(&file(&ENTRIES, None)), 5);
        assert_eq!((identity(&file(&ENTRIES, None)), completed(&file(&ENTRIES, None))), (Some(77), None));
        assert_eq!(filed_rings(&file(&ENTRIES, None)), 9);
        let mut older = file(&ENTRIES, None);
        older.drain(FILED_RINGS..HEAD);
        older[..8].copy_from_slice(&MAGIC_2.to_le_bytes());
        assert_eq!((read(&older), identity(&older), filed_rings(&older)), (expected(3), Some(77), 0));
        older.drain(IDENTITY..HEAD_2);
        older[..8].copy_from_slice(&MAGIC_1.to_le_bytes());
        assert_eq!((read(&older), private_rings(&older), identity(&older)), (expected(3), 5, None));
        assert_eq!(read(b"[\"n\", 0, \"of an older version\"]\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail(bytes: Vec<u8>) {
            let file = [&MAGIC.to_le_bytes(), &u64::MAX.to_le_bytes(), &[0; 32][..], &*bytes].concat();
            entries(&file).into_iter().flatten().for_each(drop);
            entries(&bytes).into_iter().flatten().for_each(drop);
        }
    }
}
