//! Mapping a function over many inputs, lazily and in bounded memory.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::Dispatcher;
use crate::completions::Completions;
use crate::error::JobError;
use crate::job::{Job, Waiter};

/// Jobs that a map keeps in flight at least, and at most.
const FEWEST: usize = 64;
const MOST: usize = 128 * 1024;
/// How large the arguments of these may be, all together, unless there are no more of them than two for each slot.
const ARGS_BYTES: usize = 16 << 20;
/// A job adds this fraction of the size of its arguments to the average.
const AVERAGE_DIVISOR: usize = 8;

/// Jobs are submitted again once this part of them has ended: some at once cost less than one by one.
const REFILL_PART: usize = 8;

/// Where the jobs of a map come from.
pub(crate) struct Feed<I: Iterator, R> {
    pub(crate) dispatcher: Dispatcher,
    /// None once it has no more.
    pub(crate) inputs: Option<I>,
    pub(crate) submit: Submit<I::Item, R>,
    /// As many as may be were in flight, and not many fewer are by now.
    pub(crate) is_full: bool,
    /// Moving average of the size of their arguments.
    pub(crate) average_bytes: usize,
}

/// Submits the job of an input, and tells how large its arguments are.
pub(crate) type Submit<A, R> = Box<dyn Fn(&Dispatcher, A) -> (Job<R>, usize) + Send + Sync>;

impl<I: Iterator, R> Feed<I, R> {
    /// The next job, unless so many are in flight that results have to be taken first.
    fn next(&mut self, in_flight: usize) -> Option<Job<R>> {
        // Twice what the nodes take at once keeps them busy while results are taken.
        let shared = &self.dispatcher.shared;
        let limit = (2 * shared.capacity.load(Ordering::Relaxed)).clamp(FEWEST, MOST);
        let for_slots = (2 * shared.slots.load(Ordering::Relaxed)).max(2);
        let limit = limit.min((ARGS_BYTES / self.average_bytes.max(1)).max(for_slots));
        if in_flight >= limit {
            self.is_full = true;
        } else if in_flight <= limit - limit / REFILL_PART {
            self.is_full = false;
        }
        if self.is_full {
            return None;
        }
        match self.inputs.as_mut()?.next() {
            Some(input) => {
                let (job, args_bytes) = (self.submit)(&self.dispatcher, input);
                let rest = self.average_bytes - self.average_bytes / AVERAGE_DIVISOR;
                self.average_bytes = rest + args_bytes / AVERAGE_DIVISOR;
                Some(job)
            }
            None => {
                self.inputs = None;
                None
            }
        }
    }
}

/// The results of [`Dispatcher::map`], in the order of the inputs: an `Iterator` and a `Stream`.
///
/// Inputs are taken as results are, so that a bounded number of jobs is in flight however many inputs there are.
/// Dropping it cancels what is still in flight.
pub struct Map<I: Iterator, R: Send + 'static> {
    feed: Feed<I, R>,
    in_flight: InFlight<R>,
}

impl<I: Iterator, R: DeserializeOwned + Send + 'static> Map<I, R> {
    pub(crate) fn new(feed: Feed<I, R>) -> Self {
        Self { feed, in_flight: InFlight(VecDeque::new()) }
    }

    /// Yields results as they come, whatever the order of the inputs.
    pub fn unordered(self) -> Unordered<I, R> {
        Unordered {
            feed: self.feed,
            in_flight: InFlight(VecDeque::new()),
            free: Vec::new(),
            completions: Arc::default(),
        }
    }

    fn fill(&mut self) {
        while let Some(job) = self.feed.next(self.in_flight.0.len()) {
            self.in_flight.0.push_back(Some(job));
        }
    }
}

impl<I: Iterator, R: DeserializeOwned + Send + 'static> Iterator for Map<I, R> {
    type Item = Result<R, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        self.in_flight.0.pop_front()?.map(Job::wait)
    }
}

impl<I: Iterator + Unpin, R: DeserializeOwned + Send + 'static> Stream for Map<I, R> {
    type Item = Result<R, JobError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.fill();
        let Some(Some(job)) = this.in_flight.0.front_mut() else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(job).poll(context));
        this.in_flight.0.pop_front();
        Poll::Ready(Some(outcome))
    }
}

/// The results of [`Map::unordered`]: an `Iterator` and a `Stream` of results as they come.
pub struct Unordered<I: Iterator, R: Send + 'static> {
    feed: Feed<I, R>,
    /// Jobs in flight, each at its number.
    in_flight: InFlight<R>,
    /// Numbers that are free.
    free: Vec<usize>,
    completions: Arc<Completions>,
}

impl<I: Iterator, R: DeserializeOwned + Send + 'static> Unordered<I, R> {
    /// How many jobs are in flight, after submitting as many as there is room for.
    fn fill(&mut self) -> usize {
        loop {
            let in_flight = self.in_flight.0.len() - self.free.len();
            let Some(job) = self.feed.next(in_flight) else { return in_flight };
            let number = self.free.pop().unwrap_or_else(|| {
                self.in_flight.0.push_back(None);
                self.in_flight.0.len() - 1
            });
            if !job.cell.watch(Waiter::Completions(Arc::clone(&self.completions), number)) {
                self.completions.push(number);
            }
            self.in_flight.0[number] = Some(job);
        }
    }

    fn take(&mut self, number: usize) -> Option<Result<R, JobError>> {
        self.free.push(number);
        self.in_flight.0[number].take().map(Job::wait)
    }
}

impl<I: Iterator, R: DeserializeOwned + Send + 'static> Iterator for Unordered<I, R> {
    type Item = Result<R, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fill() == 0 {
            return None;
        }
        let number = self.completions.wait();
        self.take(number)
    }
}

impl<I: Iterator + Unpin, R: DeserializeOwned + Send + 'static> Stream for Unordered<I, R> {
    type Item = Result<R, JobError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.fill() == 0 {
            return Poll::Ready(None);
        }
        let number = std::task::ready!(this.completions.poll(context));
        Poll::Ready(this.take(number))
    }
}

/// Jobs whose results nobody will take once this is dropped.
struct InFlight<R: Send + 'static>(VecDeque<Option<Job<R>>>);

impl<R: Send + 'static> Drop for InFlight<R> {
    fn drop(&mut self) {
        for job in self.0.iter().flatten() {
            job.cancel();
        }
    }
}

impl<I: Iterator, R: Send + 'static> fmt::Debug for Map<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("in_flight", &self.in_flight.0.len()).finish_non_exhaustive()
    }
}

impl<I: Iterator, R: Send + 'static> fmt::Debug for Unordered<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").field("in_flight", &self.in_flight.0.len()).finish_non_exhaustive()
    }
}
