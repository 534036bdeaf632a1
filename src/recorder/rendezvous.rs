//! How the processes of one server agree on a session folder, however they were started: through a small shared
//! file that is found by the config file.
//!
//! The first that starts collecting makes the folder and notes it; the others join it while somebody still
//! collects into it. Liveness is a shared file lock, which the kernel takes back when a process dies in any way. A forked
//! child goes on with its parent's session even if the parent has ended before the child gets to join: so daemons begin.
//!
//! The config is a file and not a path: containers may have different files at one path, and one file at different
//! paths. So its device and inode name the point where its processes meet. An editor that puts a new file in its place
//! moves the point: each process goes there when it sees the new file, and takes the session along. Processes that share
//! the file and not the disk, so that one can't see the other's session folder, meet at a point of their own, which
//! their mount namespace names too.

mod note;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use rustix::fs::{FlockOperation, flock};

use self::note::{GLANCE, Meeting, Note, PATIENCE, Point, sweep};
use crate::files;
use crate::own_file::{Identity, OwnFile};

/// The session into which this process collects, for children that it forks.
static OURS: ArcSwapOption<Joined> = ArcSwapOption::const_empty();

/// One process's end of the meeting point.
#[derive(Debug)]
pub(super) struct Rendezvous {
    config: PathBuf,
    /// The parent's session at the fork.
    inherited: Option<Arc<Joined>>,
    /// The mounts that this process sees, by a number of the kernel's.
    mounts: u64,
    /// The config file when it was last looked at.
    file: Option<Identity>,
    /// The newest generation at the common point whose folder this process has seen.
    latest: u64,
    /// Whether it was said that there can be no meeting, and that a session can't be seen here.
    told: bool,
    told_unseen: bool,
}

/// A session that a process has joined.
#[derive(Debug)]
pub(super) struct Joined {
    generation: u64,
    folder: PathBuf,
}

/// Membership in a session; the lock goes with it.
#[derive(Debug)]
pub(super) struct Membership {
    session: Arc<Joined>,
    /// None: the session is this process's alone.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    point: Point,
    scope: Scope,
    live: OwnFile,
}

/// Who meets at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All processes that have the config file.
    Common,
    /// Those of them that see the same mounts.
    Mounts,
}

impl Rendezvous {
    /// The meeting point of all processes that were given this config file.
    pub(super) fn new(config: &Path) -> Self {
        Self {
            config: std::path::absolute(config).unwrap_or_else(|_| config.into()),
            inherited: None,
            mounts: files::mounts(),
            file: None,
            latest: 0,
            told: false,
            told_unseen: false,
        }
    }

    /// Joins the running session, or begins one in a new folder below `prof_dir` named by `stamp`. Where processes
    /// can't meet, each has a session of its own.
    ///
    /// # Errors
    /// The session's folder can't be made.
    pub(super) fn join(&mut self, prof_dir: &Path, stamp: &str) -> io::Result<Membership> {
        let error = match self.meet() {
            Ok((scope, meeting)) if meeting.is_running() && self.sees(&meeting.note) => {
                return Ok(self.joined(scope, meeting));
            }
            Ok((scope, mut meeting)) => {
                let folder = new_folder(prof_dir, stamp)?;
                match meeting.write(self.note(meeting.note.generation + 1, &folder)) {
                    Ok(()) => return Ok(self.joined(scope, meeting)),
                    Err(error) => {
                        self.tell(&error);
                        return Ok(Membership::alone(folder));
                    }
                }
            }
            Err(error) => error,
        };
        self.tell(&error);
        new_folder(prof_dir, stamp).map(Membership::alone)
    }

    /// Has a forked child go on with its parent's session, or no longer: it may have been stopped since.
    pub(super) fn inherit(&mut self, parents: Option<Arc<Joined>>) {
        self.inherited = parents;
    }

    /// Removes the files unless another process collects: for a process that ends.
    pub(super) fn tidy_up(&self) -> io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let folder = files::private_folder()?;
        let [common, mounts] = [Scope::Common, Scope::Mounts]
            .map(|scope| self.point(&folder, Some(file), scope).remove_if_deserted());
        common.and(mounts)
    }

    /// Whether another process has begun a newer session than this one: its folder is then where everybody
    /// collects, even a process that never saw the switch off between the two. Goes to the new meeting point if the
    /// config file was replaced by another.
    pub(super) fn has_newer(&mut self, membership: &mut Membership) -> bool {
        if membership.held.is_none() {
            return false;
        }
        // One that is missing is about to be replaced, or is told by whoever reads it.
        let Ok(file) = Identity::at(&self.config) else { return false };
        if self.file != Some(file) {
            match self.follow_file(file, membership) {
                Ok(has_newer) if has_newer => return true,
                Ok(_) => {}
                Err(error) => log::debug!("the config is a new file, where processes can't meet: {error}"),
            }
        }
        let Some(held) = &membership.held else { return false };
        let ours = held.point.look();
        if self.is_newer(&ours, membership) {
            return true;
        }
        // Those who could not see the common session go there as soon as they see one.
        let folder = held.point.note.parent().filter(|_| held.scope == Scope::Mounts);
        folder.is_some_and(|folder| {
            let common = self.point(folder, self.file, Scope::Common);
            let note = common.look();
            note.open
                && note.folder != membership.folder()
                && self.sees(&note)
                && common.running(GLANCE).is_some()
        })
    }

    fn is_newer(&mut self, note: &Note, membership: &Membership) -> bool {
        let is_newer = note.open && note.generation > membership.session.generation;
        if is_newer && !self.sees(note) {
            self.tell_unseen(note);
            return false;
        }
        is_newer
    }

    /// Takes the session along to the meeting point of the file that has taken the config's place. Whether another
    /// one runs there, or this one was stopped.
    fn follow_file(&mut self, file: Identity, membership: &mut Membership) -> io::Result<bool> {
        self.file = Some(file);
        let Some(held) = &membership.held else { return Ok(false) };
        let folder = files::private_folder()?;
        let point = self.point(&folder, self.file, held.scope);
        let mut meeting = point.meet()?;
        if meeting.is_running() && meeting.note.folder != membership.folder() {
            return Ok(self.sees(&meeting.note));
        }
        if !meeting.is_running() {
            let former = held.point.look();
            if former.generation == membership.session.generation && !former.open {
                return Ok(true);
            }
            let generation = meeting.note.generation.max(membership.session.generation);
            meeting.write(self.note(generation, membership.folder()))?;
        }
        let (former, scope) = (held.point.clone(), held.scope);
        *membership = self.joined(scope, meeting);
        if let Err(error) = former.remove_if_deserted() {
            log::debug!("{}: {error}", former.note.display()); // others are still there
        }
        Ok(false)
    }

    /// Meets those whose session can be seen here.
    fn meet(&mut self) -> io::Result<(Scope, Meeting)> {
        let folder = files::private_folder()?;
        self.file = Identity::at(&self.config).ok().or(self.file);
        let [common, mounts] =
            [Scope::Common, Scope::Mounts].map(|scope| self.point(&folder, self.file, scope));
        sweep(&folder, &[common.clone(), mounts.clone()]);
        let mut meeting = common.meet()?;
        if meeting.is_running() && !self.is_ours(&meeting.note) {
            // A file that is gone had the number that this one has now.
            meeting.note.open = false;
        }
        if !meeting.is_running() {
            let mut others = Point::all(&folder).filter(|point| *point != common && *point != mounts);
            // The common note is held meanwhile, for which others wait: for all together it is half as long as they do.
            let deadline = Instant::now() + PATIENCE / 2;
            let carried = || others.find_map(|point| self.carried(&point, deadline));
            if let Some(session) = self.parents(&meeting.note).or_else(carried) {
                let generation = session.generation.max(meeting.note.generation + 1);
                meeting.write(self.note(generation, &session.folder))?;
                meeting.attend();
            }
            return Ok((Scope::Common, meeting));
        }
        // One that was seen here before has been removed.
        if self.sees(&meeting.note)
            || meeting.note.mounts == self.mounts
            || meeting.note.generation <= self.latest
        {
            return Ok((Scope::Common, meeting));
        }
        self.tell_unseen(&meeting.note);
        drop(meeting); // the lock of those who collect there
        Ok((Scope::Mounts, mounts.meet()?))
    }

    /// The parent's session, unless the note says that it was stopped or that there has been another. A parent that ends
    /// removes the note.
    fn parents(&self, note: &Note) -> Option<Arc<Joined>> {
        let parents = self.inherited.as_ref().filter(|parents| parents.folder.is_dir())?;
        let is_newest = note.open && note.generation == parents.generation && note.folder == parents.folder;
        (is_newest || note.generation == 0).then(|| parents.clone())
    }

    /// A session that runs at the point of the file that this config's file has replaced: the same path in the same mounts.
    /// A note that names another config is not waited for, whoever has it.
    fn carried(&self, point: &Point, deadline: Instant) -> Option<Arc<Joined>> {
        let is_here =
            |note: &Note| note.mounts == self.mounts && *note.config == *self.config.to_string_lossy();
        let note = point.look();
        if !note.open || !is_here(&note) || !self.sees(&note) {
            return None;
        }
        // Who gave up would begin a session beside the one that runs.
        let patience = deadline.saturating_duration_since(Instant::now());
        let Note { generation, folder, .. } = point.running(patience).filter(is_here)?;
        Some(Arc::new(Joined { generation, folder }))
    }

    /// Whether the note is of this config file, and not of one that had the same number before.
    fn is_ours(&self, note: &Note) -> bool {
        note.mounts != self.mounts
            || *note.config == *self.config.to_string_lossy()
            || Identity::at(Path::new(&note.config)).ok() == self.file
    }

    /// Whether the session's folder can be seen here.
    fn sees(&self, note: &Note) -> bool {
        if note.mounts == self.mounts {
            return note.folder.is_dir();
        }
        // At this path there may be another.
        note.folder_identity.is_some() && Identity::at(&note.folder).ok() == note.folder_identity
    }

    fn point(&self, folder: &Path, file: Option<Identity>, scope: Scope) -> Point {
        let file = file.map_or_else(
            // There is none yet, and nobody else has it either.
            || format!("{:016x}-{:x}", hash(self.config.as_os_str().as_bytes()), self.mounts),
            |file| file.to_string(),
        );
        match scope {
            Scope::Common => Point::of(folder, &file),
            Scope::Mounts => Point::of(folder, &format!("{file}-{:x}", self.mounts)),
        }
    }

    fn note(&self, generation: u64, folder: &Path) -> Note {
        Note {
            generation,
            folder: folder.into(),
            folder_identity: Identity::at(folder).ok(),
            open: true,
            config: self.config.to_string_lossy().into_owned(),
            mounts: self.mounts,
        }
    }

    fn joined(&mut self, scope: Scope, meeting: Meeting) -> Membership {
        let (note, point, live) = meeting.joined();
        if scope == Scope::Common {
            self.latest = note.generation;
        }
        let session = Arc::new(Joined { generation: note.generation, folder: note.folder });
        OURS.store(Some(session.clone()));
        Membership { session, held: Some(Held { point, scope, live }) }
    }

    fn tell(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!(
                "the processes of this server can't agree on a session: {error}. Each captures into a folder of its own"
            );
        }
    }

    fn tell_unseen(&mut self, note: &Note) {
        if !std::mem::replace(&mut self.told_unseen, true) {
            log::warn!(
                "{}: a process elsewhere (another container?) with the same config collects there, and that folder can't \
                 be seen here. The processes here have a session of their own",
                note.folder.display()
            );
        }
    }
}

impl Membership {
    fn alone(folder: PathBuf) -> Self {
        Self { session: Arc::new(Joined { generation: 0, folder }), held: None }
    }

    /// The session's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.session.folder
    }

    /// Says that the session is over for everybody, if it is still the newest.
    pub(super) fn conclude(&self) -> io::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        held.point.update(|note| note.open &= note.generation != self.session.generation)
    }

    /// Locks the file again if the program has closed it: the lock went with that.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        if let Some(Held { live, .. }) = &mut self.held
            && live.restore()?
        {
            flock(live.get()?, FlockOperation::NonBlockingLockShared)?;
        }
        Ok(())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Another session may have been joined before this one is left.
        OURS.rcu(|ours| ours.clone().filter(|ours| !Arc::ptr_eq(ours, &self.session)));
    }
}

/// The session of the parent, in a child that it has just forked.
pub(super) fn of_parent() -> Option<Arc<Joined>> {
    OURS.swap(None)
}

/// Keeps the session of a config running while nobody collects into it: the processes of one command may come one after
/// the other.
#[derive(Debug)]
pub struct Attendance {
    point: Point,
    live: Option<OwnFile>,
}

impl Attendance {
    /// That at the meeting point of this config file.
    ///
    /// # Errors
    /// The meeting point can't be made, or the file is not there.
    pub fn at(config: &Path) -> io::Result<Self> {
        let folder = files::private_folder()?;
        let point = Rendezvous::new(config).point(&folder, Some(Identity::at(config)?), Scope::Common);
        let (_, point, live) = point.meet()?.joined();
        Ok(Self { point, live: Some(live) })
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.live = None; // and with it the lock
        if let Err(error) = self.point.remove_if_deserted() {
            log::debug!("{}: {error}", self.point.note.display()); // somebody still collects
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `<prof_dir>/<stamp>`, or with `-2`, `-3` … behind it: never a folder that was there already.
fn new_folder(prof_dir: &Path, stamp: &str) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o750).create(prof_dir)?;
    let prof_dir = std::path::absolute(prof_dir)?;
    for attempt in 1_u32.. {
        let name = if attempt == 1 { stamp.to_owned() } else { format!("{stamp}-{attempt}") };
        let folder = prof_dir.join(name);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests;
