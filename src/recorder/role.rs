//! Who this process is in its server (`EngineCore dp0`), as the server's own objects tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A process's part in a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// What people call it.
    pub name: String,
    /// Its ranks and its device, by the names of their facts in a capture.
    pub facts: Vec<(&'static str, String)>,
}

static ROLE: Mutex<Option<Role>> = Mutex::new(None);

/// Counts the changes, so that who looks often need not lock.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Says who this process is. It is remembered for sessions to come, and told in one that runs.
pub fn set_role(role: Role) {
    // A fork may have copied it locked for good.
    if let Some(mut known) = ROLE.try_lock_for(Duration::from_millis(100))
        && known.as_ref() != Some(&role)
    {
        *known = Some(role);
        CHANGES.fetch_add(1, Ordering::Release);
    }
}

/// Whether it is known who this process is.
pub fn has_role() -> bool {
    changes() > 0 && role().is_some()
}

/// The role, if it is known.
pub(super) fn role() -> Option<Role> {
    // A fork may have copied it locked.
    ROLE.try_lock().and_then(|role| role.clone())
}

/// How often it has changed.
pub(super) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// A forked child has its parent's memory, but is somebody else.
pub(super) fn forget() {
    if let Some(mut role) = ROLE.try_lock()
        && role.take().is_some()
    {
        CHANGES.fetch_add(1, Ordering::Release);
    }
}
