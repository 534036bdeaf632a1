//! What a mapping may rely on: a page of a mapped file that can't be had when it is touched ends the process by
//! SIGBUS, so its room is taken before, on a file system that keeps it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statfs, statvfs};
use rustix::io::{Errno, retry_on_intr};

/// File systems of this machine that write a page where it was before: what was reserved stays. Those that copy on
/// write (Btrfs, ZFS, bcachefs) need new room for each change; those behind a network or another process (NFS, Lustre,
/// CIFS, 9p, FUSE) can fail at any page.
const KEEPERS: [u32; 4] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x0102_1994, // tmpfs
    0x794c_7630, // overlay: what a container writes goes to a file system of its host
];

/// The mounts that this process sees, by a number that the kernel has for them: paths of a process that sees others may
/// lead elsewhere. 0: it can't be seen.
pub fn mounts() -> u64 {
    std::fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino())
}

/// Whether files in this folder may be mapped: see [`reserve`].
pub fn keeps_its_blocks(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| KEEPERS.contains(&(found.f_type as u32)))
}

/// Whether these bytes would be at most a quarter of what is free: shared memory is the server's, too.
pub fn has_room(folder: &Path, bytes: u64) -> bool {
    statvfs(folder).is_ok_and(|found| bytes <= found.f_bavail.saturating_mul(found.f_frsize) / 4)
}

/// Gives a file this size, for all of which there is room; what it had stays, what is new is zeroes.
///
/// # Errors
/// There is no room, or the file can't be written.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        outcome => return Ok(outcome?),
    }
    let zeroes = [0; 4096];
    let mut at = file.metadata()?.len();
    while at < bytes {
        let piece = (bytes - at).min(zeroes.len() as u64);
        file.write_all_at(&zeroes[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_has_its_blocks() {
        let file = tempfile::tempfile().unwrap();
        reserve(&file, 1 << 20).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(metadata.blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn a_file_system_of_the_kernels_own_is_no_place_for_a_mapping() {
        assert!(!keeps_its_blocks(Path::new("/proc")));
        assert!(!keeps_its_blocks(Path::new("/no such folder")));
    }

    #[test]
    fn room_is_a_part_of_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(has_room(folder.path(), 1));
        assert!(!has_room(folder.path(), u64::MAX));
    }
}
