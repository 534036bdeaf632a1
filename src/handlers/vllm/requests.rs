//! What is remembered of the engine's requests from step to step. One session's only: where collection begins in the
//! middle of traffic, what came before is not known.

use std::sync::Arc;

use once_cell::sync::Lazy;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;

use crate::recorder;

/// Requests that vanish without a word must not fill the memory: with so many known, all are forgotten.
const MOST_REQUESTS: usize = 100_000;

/// A request that the scheduler has let run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    /// Steps that it was in so far.
    pub(super) steps: i64,
    pub(super) prompt_tokens: Option<i64>,
    /// Tokens that were generated for it since it is known.
    pub(super) replied: i64,
    /// Known from its first step on.
    pub(super) is_whole: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Requests {
    session: u64,
    known: FxHashMap<Arc<str>, (Arc<str>, Request)>,
}

/// The requests of the session that records now. To be let go before any Python code can run: another thread that
/// waits for them would keep Python's lock.
pub(super) fn requests() -> MutexGuard<'static, Requests> {
    static REQUESTS: Lazy<Mutex<Requests>> = Lazy::new(Mutex::default);
    let mut requests = REQUESTS.lock();
    let session = recorder::session();
    if requests.session != session || requests.known.len() > MOST_REQUESTS {
        *requests = Requests { session, known: FxHashMap::default() };
    }
    requests
}

impl Requests {
    /// Reads and changes what is known of a request that runs; from now on it is known.
    pub(super) fn update<R>(&mut self, rid: &str, change: impl FnOnce(&Arc<str>, &mut Request) -> R) -> R {
        if let Some((name, request)) = self.known.get_mut(rid) {
            return change(name, request);
        }
        let name: Arc<str> = rid.into();
        let (name, request) = self.known.entry(name.clone()).or_insert_with(|| (name, Request::default()));
        change(name, request)
    }

    pub(super) fn find(&mut self, rid: &str) -> Option<&mut Request> {
        self.known.get_mut(rid).map(|(_, request)| request)
    }

    pub(super) fn forget(&mut self, rid: &str) {
        self.known.remove(rid);
    }
}
