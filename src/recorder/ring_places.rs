//! Where this process maps what is to outlive it, its rings and the names for them: in the session's folder, beside the
//! capture; in shared memory where that folder can't be mapped safely; else, the rings, in private memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::files;
use crate::ring::{self, Owner, Place, Ring, SharedFolder, ring_name};

/// The places for the rings of one capture.
#[derive(Debug)]
pub(super) struct RingPlaces {
    /// The stem of its files.
    stem: String,
    /// The session's folder, if a mapping there keeps its pages.
    beside: Option<PathBuf>,
    shared: Option<SharedFolder>,
    /// Whether it was said that a ring is in private memory.
    told: AtomicBool,
}

impl RingPlaces {
    /// Those for the capture of this stem. What others have left in shared memory for sessions that are gone is removed.
    pub(super) fn of(capture: &Path) -> Self {
        let folder = capture.parent().unwrap_or(Path::new("."));
        let stem = capture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = files::keeps_its_blocks(folder).then(|| folder.to_owned());
        if beside.is_none() {
            log::info!("{}: files there can't be mapped safely; rings go to shared memory", folder.display());
        }
        let shared = files::private_folder().and_then(|private| {
            ring::sweep(&private);
            // Not every private folder is in shared memory.
            if files::keeps_its_blocks(&private) {
                SharedFolder::of(&private, folder, &stem)
            } else {
                Err(io::ErrorKind::Unsupported.into())
            }
        });
        let shared = shared.inspect_err(|error| log::debug!("no rings in shared memory: {error}")).ok();
        Self { stem, beside, shared, told: AtomicBool::new(false) }
    }

    /// Has all rings be in private memory: what is in files could not be read later.
    pub(super) fn keep_private(&mut self) {
        (self.beside, self.shared) = (None, None);
    }

    /// A ring in the best place that has room. None: not even private memory has; it was said.
    pub(super) fn make(&self, number: u32, size: usize, owner: Owner) -> Option<Ring> {
        let files = self.files(ring_name(&self.stem, number), size as u64).map(Place::File);
        for place in files.chain([Place::Private]) {
            let is_private = place == Place::Private;
            match Ring::create(place, size, owner) {
                Ok(ring) => {
                    if is_private && !self.told.swap(true, Ordering::Relaxed) {
                        log::warn!(
                            "threads record into private memory: a kill of this process would lose their last events"
                        );
                    }
                    return Some(ring);
                }
                Err(error) => log::debug!("{error}"),
            }
        }
        log::error!("no memory for a ring: a thread's events are not recorded");
        None
    }

    /// Removes the capture's folder in shared memory, unless there is something in it.
    pub(super) fn tidy_up(&self) {
        if let Some(shared) = &self.shared {
            shared.remove_if_empty();
        }
    }

    /// Where a file of this name and size may be mapped, best first.
    pub(super) fn files(&self, name: String, size: u64) -> impl Iterator<Item = PathBuf> {
        let shared = move || {
            let folder = self.shared.as_ref()?.make().inspect_err(|error| log::debug!("{error}")).ok()?;
            files::has_room(folder, size).then_some(folder)
        };
        let beside = self.beside.as_deref();
        beside.into_iter().chain(std::iter::once_with(shared).flatten()).map(move |folder| folder.join(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { pid: 1, tid: 2, sequence: 3 };

    fn places(beside: Option<&Path>, shared: Option<SharedFolder>) -> RingPlaces {
        let told = AtomicBool::new(false);
        RingPlaces { stem: "h-7".into(), beside: beside.map(Into::into), shared, told }
    }

    #[test]
    fn rings_are_beside_the_capture_then_in_shared_memory_then_in_private_memory() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("session");
        std::fs::create_dir(&session).unwrap();
        let shared = || SharedFolder::of(folder.path(), &session, "h-7").unwrap();
        let exists_in = |folder: &Path| folder.join("h-7-0.ring").exists();
        let in_shared = folder.path().join(shared().make().unwrap());

        let both = places(Some(&session), Some(shared()));
        let ring = both.make(0, 4096, OWNER).unwrap();
        assert!(exists_in(&session) && !exists_in(&in_shared));
        ring.remove_file();

        let remote = places(None, Some(shared()));
        let ring = remote.make(0, 4096, OWNER).unwrap();
        assert!(!exists_in(&session) && exists_in(&in_shared));
        remote.tidy_up();
        assert!(exists_in(&in_shared), "it has a ring");
        ring.remove_file();
        remote.tidy_up();
        assert!(!in_shared.exists());

        let neither = places(None, None);
        assert!(neither.make(0, 4096, OWNER).is_some() && neither.told.load(Ordering::Relaxed));
    }
}
