//! What nodes tell of what happens there, until whoever watches takes it: of each node the newest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pp_protocol::{Activity, NodeId};

use super::here::cannot_wait;

/// What happens at a node, as it told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Its life.
    pub node: NodeId,
    /// What it told.
    pub activity: Activity,
    /// Number of frames of it that came since the one before and were not taken in time. Nothing is missing in what is
    /// counted; attempts that ended may be.
    pub missed: u64,
}

impl Watched {
    /// A frame that a node of this name and life told, for tests of what shows it.
    #[doc(hidden)]
    pub fn new(name: String, node: NodeId, activity: Activity) -> Self {
        Self { name, node, activity, missed: 0 }
    }
}

/// Frames for one who watches.
#[derive(Debug, Default)]
pub(super) struct Frames {
    kept: Mutex<Kept>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    newest: BTreeMap<NodeId, Watched>,
    /// Whose is the next to be taken.
    order: VecDeque<NodeId>,
    is_closed: bool,
}

impl Frames {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut watched: Watched) {
        let mut kept = self.lock();
        let node = watched.node;
        match kept.newest.remove(&node) {
            Some(older) => watched.missed = older.missed + 1,
            None => kept.order.push_back(node),
        }
        kept.newest.insert(node, watched);
        self.filled.notify_one();
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
    }

    /// The next one, waiting for it until then. `None` if there is none by then, or none will come.
    pub(super) fn take(&self, until: Option<Instant>) -> Option<Watched> {
        let mut kept = self.lock();
        loop {
            if let Some(node) = kept.order.pop_front() {
                return kept.newest.remove(&node);
            }
            if kept.is_closed || cannot_wait().is_some() {
                return None;
            }
            kept = match until {
                None => self.filled.wait(kept).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.filled.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    all: Vec<(Duration, Arc<Frames>)>,
    is_closed: bool,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody wants to be told so often.
    pub(super) fn add(&self, interval: Duration) -> Arc<Frames> {
        let frames = Arc::new(Frames::default());
        let mut registered = self.lock();
        if registered.is_closed {
            frames.close();
        } else {
            registered.all.push((interval, Arc::clone(&frames)));
        }
        frames
    }

    /// Somebody does not any more.
    pub(super) fn remove(&self, frames: &Arc<Frames>) {
        self.lock().all.retain(|(_, other)| !Arc::ptr_eq(other, frames));
    }

    /// The shortest time between two frames that somebody wants.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.lock().all.iter().map(|(interval, _)| *interval).min()
    }

    pub(super) fn publish(&self, watched: &Watched) {
        self.lock().all.iter().for_each(|(_, frames)| frames.put(watched.clone()));
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        let mut registered = self.lock();
        registered.is_closed = true;
        registered.all.drain(..).for_each(|(_, frames)| frames.close());
    }
}
