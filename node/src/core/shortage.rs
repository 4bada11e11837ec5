//! Shortage: the machine gives fewer workers than the node has slots, for lack of descriptors, processes or memory.
//!
//! ```text
//! none ──a worker does not start──> short: there is room for as many as there are now
//!   ^                                 │  ^
//!   │                                 │  └── after a while, one more is tried: it does not start
//!   │                                 ├── it starts: room for one more, and the next one is tried at once
//!   └── room for all, or nobody waits for long
//! ```
//! Those that run go on. The node offers what there is room for, and says why not more; only while no worker at all can be
//! started does it give back what waits. Room counts all workers, those that are ending too: they still hold what a new
//! one needs.

use std::time::Duration;

use pp_protocol::{FromNode, Moment, WorkerShortage};

use super::connect::Peer;
use super::session::Session;
use super::work::WorkerState;
use super::{Action, Core};

/// Attempts in a row to start a first worker before dispatchers are given back what waits.
const TROUBLE: u32 = 3;
/// Pause before one more worker is tried: doubled with each attempt in vain.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Shortage {
    /// Number of workers there can be, as far as known.
    room: usize,
    /// Reason why there are not more.
    reason: String,
    /// Attempts in a row to start one more.
    failures: u32,
    /// Time of the next try; `None` while one more may be tried.
    pub(super) retry_at: Option<Moment>,
}

impl Shortage {
    /// Whether jobs are better off elsewhere. When its time comes, another try is made with those that come.
    fn is_total(&self) -> bool {
        self.room == 0 && self.failures >= TROUBLE && self.retry_at.is_some()
    }
}

/// Pause before the next try, after so many attempts in vain.
fn wait_after(failures: u32) -> Duration {
    (FIRST_RETRY * 2_u32.saturating_pow(failures.clamp(1, 16) - 1)).min(LAST_RETRY)
}

impl Core {
    /// Number of workers there can be: as many as slots, unless the machine gives fewer.
    pub(super) fn capacity(&self) -> u32 {
        let room = self.shortage.as_ref().map_or(usize::MAX, |shortage| shortage.room.max(1));
        self.slots.min(u32::try_from(room).unwrap_or(u32::MAX))
    }

    /// Whether no worker can be started just now.
    pub(super) fn has_no_room(&self) -> bool {
        self.shortage.as_ref().is_some_and(Shortage::is_total)
    }

    /// Whether one more worker than there are may be started.
    pub(super) fn may_try_more(&self) -> bool {
        let Some(shortage) = &self.shortage else { return true };
        let is_trying = || self.workers.values().any(|worker| worker.state == WorkerState::Starting);
        self.workers.len() < shortage.room || (shortage.retry_at.is_none() && !is_trying())
    }

    /// A worker did not start because the machine lacks something.
    pub(super) fn fell_short(&mut self, now: Moment, reason: String) {
        let failures = match &self.shortage {
            // It was started together with one that failed before: that is the same lack.
            Some(shortage) if shortage.retry_at.is_some() => shortage.failures,
            Some(shortage) => shortage.failures + 1,
            None => 1,
        };
        let retry_at = Some(now + wait_after(failures));
        self.shortage = Some(Shortage { room: self.workers.len(), reason, failures, retry_at });
        if self.has_no_room() {
            self.sessions.values_mut().for_each(|session| session.return_queued(|_| true));
        }
    }

    /// A worker has started.
    pub(super) fn found_room(&mut self) {
        let workers = self.workers.len();
        if let Some(shortage) = &mut self.shortage
            && workers > shortage.room
        {
            shortage.room = workers;
            shortage.failures = 0;
            shortage.retry_at = None;
        }
        self.end_shortage_beyond_slots();
    }

    pub(super) fn end_shortage_beyond_slots(&mut self) {
        self.shortage.take_if(|shortage| shortage.room >= self.slots as usize);
    }

    /// One more may be tried, once it is time. If nobody has waited for one for long, nobody knows whether the machine is
    /// still short.
    pub(super) fn end_wait_for_room(&mut self, now: Moment) {
        let is_wanted = self.is_worker_wanted();
        let Some(shortage) = &mut self.shortage else { return };
        if shortage.retry_at.take_if(|at| *at <= now).is_none() || is_wanted {
            return;
        }
        if wait_after(shortage.failures) == LAST_RETRY {
            self.shortage = None;
        } else {
            shortage.failures += 1;
            shortage.retry_at = Some(now + wait_after(shortage.failures));
        }
    }

    fn is_worker_wanted(&self) -> bool {
        self.sessions.values().any(Session::wants_worker)
    }

    /// Tells everybody what is short, once it is known how much, and that it is no more.
    pub(super) fn announce_shortage(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let is_trying = self.workers.values().any(|worker| worker.state == WorkerState::Starting);
        let is_wanted = self.is_worker_wanted();
        if let Some(shortage) = &mut self.shortage
            && !is_trying
            && !is_wanted
        {
            // One more might be tried, and nobody waits for it.
            shortage.retry_at.get_or_insert(now + FIRST_RETRY);
        }
        let told = match &self.shortage {
            None => None,
            Some(_) if is_trying => return,
            Some(Shortage { room: 0, failures, .. }) if *failures < TROUBLE => return,
            Some(Shortage { room, reason, .. }) => {
                let room = u32::try_from(*room).unwrap_or(u32::MAX);
                Some(WorkerShortage::new(room, self.slots, reason.as_str()))
            }
        };
        if self.told_shortage != told {
            self.told_shortage.clone_from(&told);
            let greeted = self.connections.iter().filter(|(_, connection)| connection.peer != Peer::Unknown);
            actions.extend(greeted.map(|(key, _)| Action::Send(*key, FromNode::Trouble(told.clone()))));
            self.announce_status(actions);
        }
    }

    /// Reason why there are fewer workers than slots, as every dispatcher was told.
    pub fn shortage(&self) -> Option<&WorkerShortage> {
        self.told_shortage.as_ref()
    }

    /// Whether the machine gives fewer workers than the node has slots, told or not.
    pub fn is_short(&self) -> bool {
        self.shortage.is_some()
    }
}
