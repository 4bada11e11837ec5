//! Results as they come.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use futures_core::Stream;
use pp_node::processes::is_forked;
use serde::de::DeserializeOwned;

use super::feed::{Course, Room, SPARE_AT_ONCE, Sink, Spare, Start};
use crate::api::error::JobError;
use crate::api::job::Job;
use crate::api::progress::WithProgress;
use crate::client::{Client, Completions, Waiter};

/// Stands for the number of a job where the end of the inputs is told.
const END: usize = usize::MAX;

/// The results of [`Map::unordered`](super::Map::unordered): an `Iterator` and a `Stream` of results as they come.
#[must_use = "nothing happens before results are asked for"]
pub struct Unordered<R: Send + 'static> {
    /// Keeps it going.
    client: Client,
    course: Course<R>,
    /// Jobs that have ended, as far as they have been taken out of there.
    ended: VecDeque<Job<R>>,
    /// Cells of jobs whose results were taken.
    spare: Vec<Spare<R>>,
    flight: Arc<Flight<R>>,
    /// Number of inputs, if they tell.
    total: Option<u64>,
}

/// Jobs in flight.
struct Flight<R> {
    room: Room,
    jobs: Mutex<Jobs<R>>,
    /// Numbers of those that have ended.
    completions: Arc<Completions>,
}

struct Jobs<R> {
    /// Each at its number.
    numbered: Vec<Option<Job<R>>>,
    /// Numbers that are free.
    free: Vec<usize>,
    /// On its way back.
    spare: Vec<Spare<R>>,
    /// End of the reading of inputs: a panic, maybe.
    end: Option<thread::Result<()>>,
    /// Nobody takes results any more.
    closed: bool,
}

impl<R: DeserializeOwned + Send + 'static> Unordered<R> {
    pub(super) fn new(client: Client, start: Start<R>, total: Option<u64>) -> Self {
        let jobs =
            Jobs { numbered: Vec::new(), free: Vec::new(), spare: Vec::new(), end: None, closed: false };
        let flight = Flight { room: Room::default(), jobs: Mutex::new(jobs), completions: Arc::default() };
        Self {
            client,
            total,
            course: Course::Ready(start),
            ended: VecDeque::new(),
            spare: Vec::new(),
            flight: Arc::new(flight),
        }
    }

    /// Shows how far the map has come while its results are taken, as [`ProgressShown`](crate::ProgressShown) says.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, job};
    /// #[job]
    /// fn square(n: u64) -> u64 { n * n }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// let squares = dispatcher.map(square, 1..=4).unordered().with_progress();
    /// assert_eq!(squares.sum::<Result<u64, _>>()?, 30);
    /// # Ok(()) }
    /// ```
    pub fn with_progress(self) -> WithProgress<Self> {
        WithProgress::new(self.client.clone(), self.total, self)
    }

    fn go_on(&mut self) -> ControlFlow<Option<JobError>> {
        self.course.go_on(|| Arc::clone(&self.flight) as Arc<dyn Sink<R>>)
    }

    fn take(&mut self) -> Option<Result<R, JobError>> {
        let job = self.ended.pop_front()?;
        let outcome = job.wait_for_it();
        self.spare.push(job.cell);
        if self.spare.len() >= SPARE_AT_ONCE {
            self.flight.lock().spare.append(&mut self.spare);
        }
        self.flight.room.took_one();
        Some(outcome)
    }
}

impl<R> Flight<R> {
    fn lock(&self) -> MutexGuard<'_, Jobs<R>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves to `ended` the jobs of these numbers. True if no more will come.
    fn land(&self, numbers: &mut VecDeque<usize>, ended: &mut VecDeque<Job<R>>) -> bool {
        let mut jobs = self.lock();
        for number in numbers.drain(..).filter(|number| *number != END) {
            ended.extend(jobs.numbered[number].take());
            jobs.free.push(number);
        }
        if !ended.is_empty() || jobs.free.len() < jobs.numbered.len() {
            return false;
        }
        match jobs.end.replace(Ok(())) {
            Some(Ok(())) => true,
            // The input's own panic goes on where its results are taken.
            Some(Err(panic)) => resume_unwind(panic),
            None => {
                jobs.end = None;
                false
            }
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Sink<R> for Flight<R> {
    fn room(&self) -> &Room {
        &self.room
    }

    fn put(&self, job: Job<R>, spare: &mut Vec<Spare<R>>) -> bool {
        let mut jobs = self.lock();
        if jobs.closed {
            drop(jobs);
            job.cancel();
            return false;
        }
        let cell = Arc::clone(&job.cell);
        let number = jobs.free.pop().unwrap_or_else(|| {
            jobs.numbered.push(None);
            jobs.numbered.len() - 1
        });
        jobs.numbered[number] = Some(job);
        if spare.is_empty() {
            std::mem::swap(&mut jobs.spare, spare);
        }
        drop(jobs);
        if !cell.watch(Waiter::Completions(Arc::clone(&self.completions), number)) {
            self.completions.push(number);
        }
        true
    }

    fn end(&self, how: thread::Result<()>) {
        self.lock().end = Some(how);
        self.completions.push(END);
    }
}

impl<R: DeserializeOwned + Send + 'static> Iterator for Unordered<R> {
    type Item = Result<R, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let ControlFlow::Break(refused) = self.go_on() {
            return refused.map(Err);
        }
        let mut numbers = VecDeque::new();
        while self.ended.is_empty() {
            if self.flight.land(&mut numbers, &mut self.ended) {
                return None;
            }
            if self.ended.is_empty()
                && let Err(reason) = self.flight.completions.wait_for_all(&mut numbers)
            {
                return self.course.refuse(reason.into());
            }
        }
        self.take()
    }
}

impl<R: DeserializeOwned + Send + 'static> Stream for Unordered<R> {
    type Item = Result<R, JobError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let ControlFlow::Break(refused) = this.go_on() {
            return Poll::Ready(refused.map(Err));
        }
        let mut numbers = VecDeque::new();
        while this.ended.is_empty() {
            if this.flight.land(&mut numbers, &mut this.ended) {
                return Poll::Ready(None);
            }
            if this.ended.is_empty() {
                std::task::ready!(this.flight.completions.poll_all(&mut numbers, context));
            }
        }
        Poll::Ready(this.take())
    }
}

impl<R: Send + 'static> Drop for Unordered<R> {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        let mut jobs = self.flight.lock();
        jobs.closed = true;
        let in_flight = std::mem::take(&mut jobs.numbered);
        jobs.free.clear();
        drop(jobs);
        self.flight.room.close();
        self.ended.iter().chain(in_flight.iter().flatten()).for_each(Job::cancel);
    }
}

impl<R: Send + 'static> fmt::Debug for Unordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").field("course", &self.course).finish_non_exhaustive()
    }
}
