//! Mapping a function over many inputs, lazily and in bounded memory.
//!
//! Inputs are read and their jobs submitted on a thread of their own (`feed`), since reading may block for any time, and
//! may even wait for a result. Whoever takes the results gets the jobs through a [`Sink`](feed::Sink): in order (here), or
//! as they end (`unordered`).
//!
//! ```text
//! inputs ──> Feed: reads, submits ──jobs──> Sink ──> Map or Unordered ──> results
//!              ^                                        │
//!              └──────── Room: how many were taken ─────┘
//! ```

mod feed;
mod unordered;

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_core::Stream;
use pp_node::processes::is_forked;
use serde::de::DeserializeOwned;

pub(crate) use self::feed::Feed;
use self::feed::{Course, Room, SPARE_AT_ONCE, Sink, Spare};
pub use self::unordered::Unordered;
use crate::api::error::JobError;
use crate::api::job::Job;
use crate::api::progress::WithProgress;
use crate::client::{Client, cannot_wait};

/// The results of [`Dispatcher::map`](crate::Dispatcher::map), in the order of the inputs: an `Iterator` and a `Stream`.
///
/// Inputs are read on a thread of their own, which starts when the first result is asked for: one that takes its time, or
/// that waits for a result, holds up no result that is there, and no task. Inputs are read as results are taken, so that a
/// bounded number of jobs is in flight however many inputs there are.
///
/// Dropping it cancels what is still in flight. The inputs are dropped then, too, or once the one that is being read is
/// there.
#[must_use = "nothing happens before results are asked for"]
pub struct Map<R: Send + 'static> {
    /// Keeps it going.
    client: Client,
    course: Course<R>,
    /// The next jobs, as far as they have been taken out of there.
    next: VecDeque<Job<R>>,
    /// Cells of jobs whose results were taken.
    spare: Vec<Spare<R>>,
    arriving: Arc<Arriving<R>>,
    /// Number of inputs, if they tell.
    total: Option<u64>,
}

/// Jobs on their way from the thread that reads inputs.
struct Arriving<R> {
    room: Room,
    state: Mutex<State<R>>,
    arrived: Condvar,
}

struct State<R> {
    jobs: VecDeque<Job<R>>,
    /// On its way back.
    spare: Vec<Spare<R>>,
    /// End of the reading: a panic, maybe.
    end: Option<thread::Result<()>>,
    /// A thread waits for jobs.
    is_waited_for: bool,
    /// A task does.
    waker: Option<Waker>,
    /// Nobody takes results any more.
    closed: bool,
}

impl<R: DeserializeOwned + Send + 'static> Map<R> {
    pub(crate) fn new<I>(client: Client, feed: Feed<I, R>) -> Self
    where
        I: Iterator + Send + 'static,
    {
        let state = State {
            jobs: VecDeque::new(),
            spare: Vec::new(),
            end: None,
            is_waited_for: false,
            waker: None,
            closed: false,
        };
        let arriving = Arriving { room: Room::default(), state: Mutex::new(state), arrived: Condvar::new() };
        let total = match feed.inputs.size_hint() {
            (least, Some(most)) if least == most => Some(most as u64),
            _ => None,
        };
        Self {
            total,
            client,
            course: Course::Ready(feed.into_start()),
            next: VecDeque::new(),
            spare: Vec::new(),
            arriving: Arc::new(arriving),
        }
    }

    /// Yields results as they come, whatever the order of the inputs.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, job};
    /// #[job]
    /// fn square(n: u64) -> u64 { n * n }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// let sum = dispatcher.map(square, 1..=4).unordered().sum::<Result<u64, _>>()?;
    /// assert_eq!(sum, 30);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// When results were asked for already.
    pub fn unordered(mut self) -> Unordered<R> {
        match std::mem::replace(&mut self.course, Course::Over) {
            Course::Ready(start) => Unordered::new(self.client.clone(), start, self.total),
            Course::Running | Course::Over => panic!("Map::unordered is called before results are asked for"),
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
    /// let squares = dispatcher.map(square, 1..=4).with_progress().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// # Ok(()) }
    /// ```
    pub fn with_progress(self) -> WithProgress<Self> {
        WithProgress::new(self.client.clone(), self.total, self)
    }

    fn go_on(&mut self) -> ControlFlow<Option<JobError>> {
        self.course.go_on(|| Arc::clone(&self.arriving) as Arc<dyn Sink<R>>)
    }
}

impl<R> Arriving<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Send + 'static> Sink<R> for Arriving<R> {
    fn room(&self) -> &Room {
        &self.room
    }

    fn put(&self, job: Job<R>, spare: &mut Vec<Spare<R>>) -> bool {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            job.cancel();
            return false;
        }
        state.jobs.push_back(job);
        if spare.is_empty() {
            std::mem::swap(&mut state.spare, spare);
        }
        self.wake(state);
        true
    }

    fn end(&self, how: thread::Result<()>) {
        let mut state = self.lock();
        state.end = Some(how);
        self.wake(state);
    }
}

impl<R> Arriving<R> {
    /// Wakes whoever waits for jobs.
    fn wake(&self, mut state: MutexGuard<'_, State<R>>) {
        let is_waited_for = std::mem::take(&mut state.is_waited_for);
        let waker = state.waker.take();
        drop(state);
        if is_waited_for {
            self.arrived.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns cells, some at once.
    fn give_back(&self, spare: &mut Vec<Spare<R>>) {
        if spare.len() >= SPARE_AT_ONCE {
            self.lock().spare.append(spare);
        }
    }

    /// Moves what has arrived to `next`, waiting for something if there is nothing. False if no more will come.
    fn wait(&self, next: &mut VecDeque<Job<R>>) -> Result<bool, JobError> {
        let mut state = self.lock();
        loop {
            if let Some(is_there) = state.take(next) {
                return Ok(is_there);
            }
            if let Some(reason) = cannot_wait() {
                return Err(reason.into());
            }
            state.is_waited_for = true;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn poll(&self, next: &mut VecDeque<Job<R>>, context: &Context<'_>) -> Poll<bool> {
        // Not cloned, and the one before not dropped, under the lock: both run somebody else's code.
        let waker = context.waker().clone();
        let mut state = self.lock();
        if let Some(is_there) = state.take(next) {
            return Poll::Ready(is_there);
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl<R> State<R> {
    /// Whether there are jobs, which are moved to `next`; nothing if that is not known yet.
    fn take(&mut self, next: &mut VecDeque<Job<R>>) -> Option<bool> {
        if !self.jobs.is_empty() {
            std::mem::swap(&mut self.jobs, next);
            return Some(true);
        }
        match self.end.replace(Ok(())) {
            Some(Ok(())) => Some(false),
            // The input's own panic goes on where its results are taken.
            Some(Err(panic)) => resume_unwind(panic),
            None => {
                self.end = None;
                None
            }
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Iterator for Map<R> {
    type Item = Result<R, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let ControlFlow::Break(refused) = self.go_on() {
            return refused.map(Err);
        }
        if self.next.is_empty() {
            match self.arriving.wait(&mut self.next) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return self.course.refuse(error),
            }
        }
        let job = self.next.pop_front()?;
        let outcome = job.wait_for_it();
        if matches!(outcome, Err(JobError::OnDispatcherThread)) {
            self.course = Course::Over;
        }
        self.spare.push(job.cell);
        self.arriving.give_back(&mut self.spare);
        self.arriving.room.took_one();
        Some(outcome)
    }
}

impl<R: DeserializeOwned + Send + 'static> Stream for Map<R> {
    type Item = Result<R, JobError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let ControlFlow::Break(refused) = this.go_on() {
            return Poll::Ready(refused.map(Err));
        }
        if this.next.is_empty() && !std::task::ready!(this.arriving.poll(&mut this.next, context)) {
            return Poll::Ready(None);
        }
        let Some(job) = this.next.front_mut() else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(job).poll(context));
        this.spare.extend(this.next.pop_front().map(|job| job.cell));
        this.arriving.give_back(&mut this.spare);
        this.arriving.room.took_one();
        Poll::Ready(Some(outcome))
    }
}

impl<R: Send + 'static> Drop for Map<R> {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        let mut state = self.arriving.lock();
        state.closed = true;
        let arrived = std::mem::take(&mut state.jobs);
        drop(state);
        self.arriving.room.close();
        self.next.iter().chain(&arrived).for_each(Job::cancel);
    }
}

impl<R: Send + 'static> fmt::Debug for Map<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("course", &self.course).finish_non_exhaustive()
    }
}
