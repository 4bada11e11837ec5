//! Jobs waited for together: whichever ends first comes first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pp_node::processes::is_forked;
use serde::de::DeserializeOwned;

use crate::api::error::JobError;
use crate::api::job::{Job, Waiter};
use crate::client::shared::cannot_wait;

/// Numbers of jobs that ended, in that order.
#[derive(Debug, Default)]
pub(crate) struct Completions {
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

    pub(crate) fn push(&self, number: usize) {
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
    /// When there are none, and [waiting](cannot_wait) would never end.
    pub(crate) fn wait_for_all(&self, numbers: &mut VecDeque<usize>) -> Result<(), JobError> {
        if is_forked() {
            return Err(JobError::Forked);
        }
        let mut ended = self.lock();
        while ended.numbers.is_empty() {
            if let Some(error) = cannot_wait() {
                return Err(error);
            }
            ended = self.changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut ended.numbers, numbers);
        Ok(())
    }

    /// Takes all there are, once there are some.
    pub(crate) fn poll_all(&self, numbers: &mut VecDeque<usize>, context: &Context<'_>) -> Poll<()> {
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

/// Yields `jobs` as they end; waiting for one that was yielded takes no time.
///
/// ```
/// # use pp_dispatcher::{Dispatcher, as_completed, job};
/// #[job]
/// fn double(n: u32) -> u32 { 2 * n }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # pp_dispatcher::init();
/// let dispatcher = Dispatcher::builder().in_process(true).start()?;
/// let jobs = [1, 2, 3].map(|n| dispatcher.submit(double, (n,)));
/// let mut doubled = as_completed(jobs).map(|job| job.wait()).collect::<Result<Vec<_>, _>>()?;
/// doubled.sort();
/// assert_eq!(doubled, [2, 4, 6]);
/// # Ok(()) }
/// ```
pub fn as_completed<R>(jobs: impl IntoIterator<Item = Job<R>>) -> AsCompleted<R> {
    let completions = Arc::<Completions>::default();
    let jobs: Vec<_> = jobs.into_iter().map(Some).collect();
    for (number, job) in jobs.iter().enumerate() {
        if let Some(job) = job
            && !job.cell.watch(Waiter::Completions(Arc::clone(&completions), number))
        {
            completions.push(number);
        }
    }
    AsCompleted { left: jobs.len(), jobs, completions, ended: VecDeque::new() }
}

/// The iterator of [`as_completed`].
pub struct AsCompleted<R> {
    jobs: Vec<Option<Job<R>>>,
    left: usize,
    /// Numbers of jobs that have ended, as far as they have been taken out of there.
    ended: VecDeque<usize>,
    completions: Arc<Completions>,
}

impl<R: DeserializeOwned + 'static> Iterator for AsCompleted<R> {
    type Item = Job<R>;

    fn next(&mut self) -> Option<Job<R>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if self.ended.is_empty() && self.completions.wait_for_all(&mut self.ended).is_err() {
                // Whoever waits for one that has not ended is told why that cannot be.
                return self.jobs.iter_mut().find_map(Option::take);
            }
            // Those that were yielded before they had ended are passed over.
            if let Some(job) = self.jobs.get_mut(self.ended.pop_front()?)?.take() {
                return Some(job);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).finish()
    }
}
