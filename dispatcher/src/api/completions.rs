//! Jobs waited for together: whichever ends first comes first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::job::Job;
use crate::client::{Completions, Waiter};

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
