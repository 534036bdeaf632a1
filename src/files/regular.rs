//! Opens regular files and nothing else: whoever opens a FIFO, a device or a socket may wait for ever.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use thiserror::Error;

/// Most bytes of a collection config.
pub const CONFIG_LIMIT: u64 = 1 << 20;

/// Most bytes of a symbol file.
pub const SYMBOLS_LIMIT: u64 = 16 << 20;

/// Most bytes of any other text that is read as a whole.
pub const TEXT_LIMIT: u64 = 256 << 20;

/// Why a file is not used, though it could be opened. Reaches the caller inside an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// What lies there is something else.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// Somebody else has made it.
    #[error("it belongs to user {owner}, not to user {expected}")]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        expected: u32,
    },
    /// It is longer than such a file can be.
    #[error("it has more than {limit} bytes")]
    TooLong {
        /// Most bytes that are read.
        limit: u64,
    },
    /// It is text in another encoding, which its first bytes state.
    #[error("it is UTF-16; save it as UTF-8")]
    Utf16,
    /// It is in another encoding, or no text at all.
    #[error("it is not UTF-8 (at byte {at}); save it as UTF-8")]
    NotUtf8 {
        /// Where it is not.
        at: usize,
    },
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::NotRegular(_) => io::ErrorKind::InvalidInput,
            Refusal::Foreign { .. } => io::ErrorKind::PermissionDenied,
            Refusal::TooLong { .. } => io::ErrorKind::FileTooLarge,
            Refusal::Utf16 | Refusal::NotUtf8 { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, refusal)
    }
}

/// Opens a file that a user named, for reading. It may be a link to one: a mounted config often is.
///
/// # Errors
/// It can't be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_named(path, OpenOptions::new().read(true))
}

/// As [`open_regular`], for reading and writing.
///
/// # Errors
/// As [`open_regular`].
pub fn open_regular_to_write(path: &Path) -> io::Result<File> {
    open_named(path, OpenOptions::new().read(true).write(true))
}

/// Opens a file whose place we chose, for reading: there, nobody has a reason to put a link.
///
/// # Errors
/// It can't be opened, or is no regular file.
pub fn open_unlinked(path: &Path) -> io::Result<File> {
    open_at_our_place(path, OpenOptions::new().read(true))
}

/// Opens what a user's own process has left at a place that we chose, for reading.
///
/// # Errors
/// It can't be opened, is no regular file, or somebody else's.
pub fn open_own(path: &Path, owner: u32) -> io::Result<File> {
    owned_by(owner, open_at_our_place(path, OpenOptions::new().read(true))?)
}

/// As [`open_own`], for reading and writing.
///
/// # Errors
/// As [`open_own`].
pub fn open_own_to_write(path: &Path, owner: u32) -> io::Result<File> {
    owned_by(owner, open_at_our_place(path, OpenOptions::new().read(true).write(true))?)
}

/// Makes a file that nobody else may read, open for reading and writing.
///
/// # Errors
/// Something of this name is there, or it can't be made.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens this user's own file for reading and writing, or makes it.
///
/// # Errors
/// It can't be made or opened, is no regular file, or belongs to somebody else.
pub fn open_or_create_private(path: &Path) -> io::Result<File> {
    match create_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    open_own_to_write(path, user())
}

/// Whose files are ours.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The text of a file that a user named.
///
/// # Errors
/// As [`open_regular`], and it has more than `limit` bytes, which are then not read, or is no text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let file = open_regular(path)?;
    if file.metadata()?.len() > limit {
        return Err(Refusal::TooLong { limit }.into());
    }
    let bytes = read_to_limit(file, limit)?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Refusal::Utf16.into());
    }
    String::from_utf8(bytes).map_err(|error| Refusal::NotUtf8 { at: error.utf8_error().valid_up_to() }.into())
}

/// All that is left to read, if that is no more than `limit` bytes. What the system says of a file's length counts for
/// nothing: it may be growing.
///
/// # Errors
/// It can't be read, or has more bytes.
pub fn read_to_limit(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(Refusal::TooLong { limit }.into()) } else { Ok(bytes) }
}

/// Who owns what lies at this path itself.
///
/// # Errors
/// Nothing can be seen there.
pub fn owner(path: &Path) -> io::Result<u32> {
    path.symlink_metadata().map(|metadata| metadata.uid())
}

/// A FIFO without a writer, or a terminal, does not keep us waiting, nor becomes ours.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

fn open_named(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Looked at first, because opening alone sets some devices going, and again once it is open.
    only_regular(&path.metadata()?)?;
    let file = options.custom_flags(FLAGS).open(path)?;
    only_regular(&file.metadata()?)?;
    Ok(file)
}

fn open_at_our_place(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    only_regular(&path.symlink_metadata()?)?;
    let file = options.custom_flags(FLAGS | libc::O_NOFOLLOW).open(path)?;
    only_regular(&file.metadata()?)?;
    Ok(file)
}

fn owned_by(expected: u32, file: File) -> io::Result<File> {
    let owner = file.metadata()?.uid();
    if owner == expected { Ok(file) } else { Err(Refusal::Foreign { owner, expected }.into()) }
}

fn only_regular(metadata: &Metadata) -> Result<(), Refusal> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Refusal::NotRegular(kind))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn fifo(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }

    #[test]
    fn whatever_is_no_regular_file_is_refused_at_once_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fifo(&at("fifo"));
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for (path, kind) in [
            (at("fifo"), "a FIFO"),
            (at("socket"), "a socket"),
            (at("folder"), "a folder"),
            ("/dev/zero".into(), "a device"),
        ] {
            let expected = Refusal::NotRegular(kind).to_string();
            assert_eq!(open_regular(&path).unwrap_err().to_string(), expected);
            assert_eq!(open_unlinked(&path).unwrap_err().to_string(), expected);
            let error = open_or_create_private(&path).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn links_are_followed_only_to_what_a_user_named() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link, to_fifo] = ["real", "link", "to fifo"].map(|name| folder.path().join(name));
        std::fs::write(&real, "text").unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(read_text(&link, 4).unwrap(), "text");
        for error in [open_unlinked(&link).unwrap_err(), open_or_create_private(&link).unwrap_err()] {
            assert_eq!(error.to_string(), "it is a link, not a regular file");
        }
        fifo(&folder.path().join("fifo"));
        symlink("fifo", &to_fifo).unwrap();
        assert!(open_regular(&to_fifo).unwrap_err().to_string().contains("a FIFO"));
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert_eq!(read_text(&path, 4).unwrap_err().to_string(), "it has more than 4 bytes");
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_text(&path, SYMBOLS_LIMIT).unwrap_err().to_string();
        assert_eq!(error, "it has more than 16777216 bytes", "its size says so: a terabyte is not read");
        assert!(read_to_limit(io::repeat(1), 1000).is_err(), "one that has no end");
        assert!(!read_text(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty(), "its length is 0");
    }

    #[test]
    fn text_in_another_encoding_is_told_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        for (bytes, expected) in [
            (&b"\xff\xfe{\0}\0"[..], "it is UTF-16; save it as UTF-8"),
            (b"\xfe\xff\0{\0}", "it is UTF-16; save it as UTF-8"),
            (b"{\"a\": \"\xe4\"}", "it is not UTF-8 (at byte 7); save it as UTF-8"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_text(&path, 100).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_file_of_ours_is_made_once_and_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let made = open_or_create_private(&path).unwrap().metadata().unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        assert_eq!(open_or_create_private(&path).unwrap().metadata().unwrap().ino(), made.ino());
        assert_eq!(create_private(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
