//! A queue of jobs that ended, for whoever waits for several of them together.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pp_node::processes::is_forked;

use super::here::{CannotWait, cannot_wait};

/// Numbers of jobs that ended, in that order.
#[derive(Debug, Default)]
pub struct Completions {
    ended: Mutex<Ended>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ended {
    numbers: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Completions {
    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the number of a job that ended.
    pub fn push(&self, number: usize) {
        let mut ended = self.lock();
        ended.numbers.push_back(number);
        let first = ended.numbers.len() == 1;
        let waker = ended.waker.take();
        drop(ended);
        if first {
            self.changed.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for some, and takes all there are.
    ///
    /// # Errors
    /// When there are none, and waiting would never end.
    pub fn wait_for_all(&self, numbers: &mut VecDeque<usize>) -> Result<(), CannotWait> {
        // The lock may be held for ever there.
        if is_forked() {
            return Err(CannotWait::Forked);
        }
        let mut ended = self.lock();
        while ended.numbers.is_empty() {
            if let Some(reason) = cannot_wait() {
                return Err(reason);
            }
            ended = self.changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut ended.numbers, numbers);
        Ok(())
    }

    /// Takes all there are, once there are some.
    pub fn poll_all(&self, numbers: &mut VecDeque<usize>, context: &Context<'_>) -> Poll<()> {
        // Not cloned, and the one before not dropped, under the lock: both run somebody else's code.
        let waker = context.waker().clone();
        let mut ended = self.lock();
        if !ended.numbers.is_empty() {
            std::mem::swap(&mut ended.numbers, numbers);
            return Poll::Ready(());
        }
        let before = ended.waker.replace(waker);
        drop(ended);
        drop(before);
        Poll::Pending
    }
}
