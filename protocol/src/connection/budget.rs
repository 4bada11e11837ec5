//! What the connections of a node share: memory for large messages that have not arrived whole, and time to close.
//!
//! While unfinished large messages hold less than [`LARGE_BYTES_AT_NODE`] together, everybody is read from. Beyond that, only
//! the one that lacks least is, until it is whole: so one of them always comes to its end, and what there is room for is
//! never waited for by all. One that does not go on meanwhile has its connection closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::LinkError;
use crate::limits::{CLOSING_AT_ONCE, CLOSING_TIME, LARGE_BYTES_AT_NODE, LARGE_STALLED};

/// A peer that is not read from is taken to be alive, and that is told so often.
pub(super) const NOT_READ_TOLD: Duration = Duration::from_secs(1);
/// Time for which a connection is closed where many others are: what is queued is written as far as the system takes it.
const HASTY_CLOSING_TIME: Duration = Duration::from_millis(100);

/// What connections may hold together. Clones are of one and the same.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A large message is unfinished no longer.
    finished: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What has arrived of large messages that are not whole.
    bytes: usize,
    /// Bytes that each of them lacks.
    lacking: BTreeMap<u64, usize>,
    next: u64,
    /// Connections that are being closed.
    closing: usize,
}

impl State {
    fn is_used_up(&self) -> bool {
        self.bytes >= LARGE_BYTES_AT_NODE && self.lacking.len() > 1
    }

    /// The message that lacks least.
    fn nearest(&self) -> Option<u64> {
        self.lacking.iter().min_by_key(|(_, lacking)| **lacking).map(|(key, _)| *key)
    }
}

impl Budget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A large message begins: so much of it is there.
    pub(super) fn begin(&self, arrived: usize, announced: usize) -> Unfinished {
        let mut state = self.state();
        let key = state.next;
        state.next += 1;
        state.bytes += arrived;
        state.lacking.insert(key, announced - arrived);
        Unfinished { budget: self.clone(), key, arrived, grew: Instant::now() }
    }

    /// A connection begins to close.
    pub(super) fn close(&self) -> Closing {
        let mut state = self.state();
        state.closing += 1;
        let time = if state.closing > CLOSING_AT_ONCE { HASTY_CLOSING_TIME } else { CLOSING_TIME };
        Closing { budget: self.clone(), time }
    }
}

/// A connection that is being closed.
#[derive(Debug)]
pub(super) struct Closing {
    budget: Budget,
    /// Time that it has for that.
    pub(super) time: Duration,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.budget.state().closing -= 1;
    }
}

/// A large message that is not whole.
#[derive(Debug)]
pub(super) struct Unfinished {
    budget: Budget,
    key: u64,
    arrived: usize,
    /// Time at which it last grew, later by the time for which nobody has read it since.
    grew: Instant,
}

impl Unfinished {
    /// So much of it is there now.
    pub(super) fn grow(&mut self, arrived: usize) {
        let mut state = self.budget.state();
        let more = arrived - self.arrived;
        state.bytes += more;
        if let Some(lacking) = state.lacking.get_mut(&self.key) {
            *lacking = lacking.saturating_sub(more);
        }
        drop(state);
        self.arrived = arrived;
        self.grew = Instant::now();
    }

    /// Waits until more of it may be read, for [`NOT_READ_TOLD`] at most; whether it may.
    pub(super) async fn may_grow(&mut self) -> Result<bool, LinkError> {
        let until = Instant::now() + NOT_READ_TOLD;
        loop {
            let mut finished = std::pin::pin!(self.budget.0.finished.notified());
            finished.as_mut().enable();
            {
                let state = self.budget.state();
                if !state.is_used_up() {
                    return Ok(true);
                }
                if self.grew.elapsed() > LARGE_STALLED {
                    return Err(LinkError::Stalled(LARGE_STALLED));
                }
                if state.nearest() == Some(self.key) {
                    return Ok(true);
                }
            }
            let began = Instant::now();
            let waited = timeout(until - began, finished).await;
            self.grew += began.elapsed();
            if waited.is_err() {
                return Ok(false);
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.bytes -= self.arrived;
        state.lacking.remove(&self.key);
        drop(state);
        self.budget.0.finished.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn beyond_the_budget_the_message_that_lacks_least_is_read_and_the_others_wait_for_it() {
        let budget = Budget::default();
        let half = LARGE_BYTES_AT_NODE / 2;
        let mut first = budget.begin(half, half + 200 * MIB);
        let mut second = budget.begin(half - 1, half + 100 * MIB);
        assert!(first.may_grow().await.unwrap() && second.may_grow().await.unwrap());
        second.grow(half);
        assert!(second.may_grow().await.unwrap(), "it lacks less");
        assert!(!first.may_grow().await.unwrap());
        let mut small = budget.begin(MIB, 2 * MIB);
        assert!(small.may_grow().await.unwrap() && !second.may_grow().await.unwrap());
        drop(small);
        let (waited, ()) = tokio::join!(first.may_grow(), async { drop(second) });
        assert!(waited.unwrap(), "there is room again");
    }

    #[tokio::test]
    async fn a_message_that_does_not_go_on_while_others_wait_ends_its_connection() {
        let budget = Budget::default();
        let mut stalled = budget.begin(LARGE_BYTES_AT_NODE, LARGE_BYTES_AT_NODE + MIB);
        stalled.grew -= 2 * LARGE_STALLED;
        assert!(stalled.may_grow().await.unwrap(), "nobody waits");
        let mut waits = budget.begin(MIB, 10 * MIB);
        assert!(matches!(stalled.may_grow().await, Err(LinkError::Stalled(_))));
        waits.grew -= LARGE_STALLED / 2;
        assert!(!waits.may_grow().await.unwrap());
        let stalled_for = waits.grew.elapsed();
        assert!(stalled_for < LARGE_STALLED / 2 + NOT_READ_TOLD / 2, "that nobody reads it is not its fault");
        waits.grew -= LARGE_STALLED / 2;
        assert!(waits.may_grow().await.is_err(), "what it did not do before is");
        stalled.grow(LARGE_BYTES_AT_NODE + 1);
        assert!(stalled.may_grow().await.unwrap(), "it goes on");
    }

    #[tokio::test]
    async fn where_many_connections_are_closed_the_others_are_closed_in_haste() {
        let budget = Budget::default();
        let mut closing: Vec<_> = (0..CLOSING_AT_ONCE).map(|_| budget.close()).collect();
        assert!(closing.iter().all(|closing| closing.time == CLOSING_TIME));
        assert_eq!(budget.close().time, HASTY_CLOSING_TIME);
        closing.pop();
        assert_eq!(budget.close().time, CLOSING_TIME);
    }
}
