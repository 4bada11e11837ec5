//! A submitted job, as its submitter holds it.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_node::processes::is_forked;
use pp_protocol::{JobId, Payload, values::Source};
use serde::de::DeserializeOwned;

use super::error::{JobError, ValueFault};
use crate::client::{
    Completions, Handle, Identified, JobStatus, Outcome, Settle, Waiter, Wakes, cannot_wait,
};
use crate::core::JobExplanation;

/// Results up to this size are kept in the cell itself.
const INLINE_BYTES: usize = 22;
/// Results up to this size are copied, so that they do not keep what they arrived in alive.
const COPIED_BYTES: usize = 4 * 1024;
/// The identifier of a job that has not been told it.
const NO_ID: u64 = u64::MAX;

/// A submitted job: wait for its result, or `.await` it.
///
/// Dropping a `Job` does not cancel it; it runs, and its result is forgotten.
pub struct Job<R> {
    pub(crate) cell: Arc<JobCell<R>>,
    pub(crate) handle: Arc<Handle>,
}

/// State of a job that submitter and dispatcher share.
pub(crate) struct JobCell<R> {
    id: AtomicU64,
    state: Mutex<State>,
    result: PhantomData<fn() -> R>,
}

/// With the counts of its `Arc` and what the allocator adds, a cell takes a line of the cache.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<JobCell<()>>() <= 40);

/// In one level, since an enum within an enum needs a tag of its own; and what is rare is boxed: a cell costs as much as its
/// largest state.
enum State {
    /// It has not ended, and nobody waits for it yet.
    Pending,
    /// A thread that waits for it.
    Thread(Thread),
    Task(Waker),
    Completions(Arc<Completions>, usize),
    /// It has a result, as it arrived. That is decoded by whoever takes it: it runs the user's code, which may be slow, or
    /// panic.
    Inline(u8, [u8; INLINE_BYTES]),
    Copied(Box<[u8]>),
    Shared(Box<Bytes>),
    /// It ended without.
    Failed(Box<JobError>),
    /// The outcome was handed out.
    Taken,
}

impl State {
    fn pending(waiter: Waiter) -> Self {
        match waiter {
            Waiter::Nobody => Self::Pending,
            Waiter::Thread(thread) => Self::Thread(thread),
            Waiter::Task(waker) => Self::Task(waker),
            Waiter::Completions(completions, number) => Self::Completions(completions, number),
        }
    }

    fn ended(outcome: Result<Payload, JobError>) -> Self {
        match outcome {
            Err(error) => Self::Failed(Box::new(error)),
            Ok(result) => match result.len() {
                length @ 0..=INLINE_BYTES => {
                    let mut kept = [0; INLINE_BYTES];
                    kept[..length].copy_from_slice(&result);
                    Self::Inline(length as u8, kept)
                }
                0..=COPIED_BYTES => Self::Copied(result[..].into()),
                _ => Self::Shared(Box::new(result.to_bytes())),
            },
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Self::Pending | Self::Thread(_) | Self::Task(_) | Self::Completions(..))
    }

    fn into_waiter(self) -> Waiter {
        match self {
            Self::Thread(thread) => Waiter::Thread(thread),
            Self::Task(waker) => Waiter::Task(waker),
            Self::Completions(completions, number) => Waiter::Completions(completions, number),
            _ => Waiter::Nobody,
        }
    }
}

pub(crate) fn decode<R: DeserializeOwned + 'static>(mut source: Source<'_>) -> Result<R, JobError> {
    let mut decoded = || source.take().and_then(|result| source.end().map(|()| result));
    let reason = match catch_unwind(AssertUnwindSafe(&mut decoded)) {
        Ok(Ok(result)) => return Ok(result),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its Deserialize panicked".into(),
    };
    let type_name = std::any::type_name::<R>();
    Err(JobError::Result { function: None, type_name, fault: ValueFault::NotDeserialised, reason })
}

impl<R> JobCell<R> {
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State::Pending);
        Self { id: AtomicU64::new(NO_ID), state, result: PhantomData }
    }

    /// A new cell in the place of this one, if nobody else holds on to it: it costs as much as the job's other memory
    /// together to have one thread take memory that another gives back.
    pub(crate) fn again(mut cell: Arc<Self>) -> Option<Arc<Self>> {
        *Arc::get_mut(&mut cell)? = Self::new();
        Some(cell)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a child made by `fork()`, all have: there is nothing to wait for, and the lock may be held for ever.
    fn has_ended(&self) -> bool {
        is_forked() || !self.lock().is_pending()
    }

    /// Notes that the job ended, and yields whoever waits for it. Only the first call counts.
    pub(super) fn end(&self, outcome: Result<Payload, JobError>) -> Waiter {
        let ended = State::ended(outcome);
        let mut state = self.lock();
        if !state.is_pending() {
            return Waiter::Nobody;
        }
        std::mem::replace(&mut *state, ended).into_waiter()
    }

    /// Has `waiter` told when the job ends. False if it has ended.
    pub(crate) fn watch(&self, waiter: Waiter) -> bool {
        if is_forked() {
            return false;
        }
        let mut state = self.lock();
        let is_pending = state.is_pending();
        let before = is_pending.then(|| std::mem::replace(&mut *state, State::pending(waiter)));
        drop(state);
        // Dropping a waker runs somebody else's code, which may ask for this job.
        drop(before);
        is_pending
    }
}

impl<R> Identified for JobCell<R> {
    fn id(&self) -> Option<JobId> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id != NO_ID).map(JobId)
    }
}

impl<R: DeserializeOwned + Send + 'static> Settle for JobCell<R> {
    fn accepted(&self, id: JobId) {
        self.id.store(id.0, Ordering::Release);
    }

    fn settle(&self, outcome: Outcome, wakes: &mut Wakes) -> Option<Outcome> {
        wakes.add(self.end(outcome.map_err(|failed| JobError::of::<R>(*failed, None))));
        None
    }
}

impl<R: DeserializeOwned + 'static> JobCell<R> {
    fn take(&self) -> Option<Result<R, JobError>> {
        if is_forked() {
            return Some(Err(JobError::Forked));
        }
        let mut state = self.lock();
        if state.is_pending() {
            return None;
        }
        let ended = std::mem::replace(&mut *state, State::Taken);
        drop(state);
        Some(match ended {
            State::Inline(length, kept) => decode(Source::new(&kept[..usize::from(length)])),
            State::Copied(bytes) => decode(Source::new(&bytes)),
            State::Shared(bytes) => decode(Source::shared(&bytes)),
            State::Failed(error) => Err(*error),
            _ => panic!("a job was polled after it had ended"),
        })
    }
}

impl<R: DeserializeOwned + 'static> Job<R> {
    /// Waits until the job ends, and yields its result.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, JobError, job};
    ///
    /// #[job]
    /// fn root(n: f64) -> f64 {
    ///     assert!(n >= 0.0, "no root of {n}");
    ///     n.sqrt()
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// assert_eq!(dispatcher.submit(root, (9.0,)).wait(), Ok(3.0));
    /// match dispatcher.submit(root, (-1.0,)).wait() {
    ///     Err(JobError::Panicked(panic)) => assert_eq!(panic.message, "no root of -1"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it ended in another way than returning: see [`JobError`]. And when it has not ended and this is called where
    /// nothing can be waited for: in a waker or a `tracing` subscriber that the dispatcher's thread calls, or in a child made
    /// by `fork()`.
    pub fn wait(self) -> Result<R, JobError> {
        self.wait_for_it()
    }

    /// As [`wait`](Self::wait), and leaves the cell to be used [again](JobCell::again). To be called once.
    pub(crate) fn wait_for_it(&self) -> Result<R, JobError> {
        loop {
            if let Some(outcome) = self.cell.take() {
                return outcome;
            }
            if let Some(reason) = cannot_wait() {
                return Err(reason.into());
            }
            if self.cell.watch(Waiter::Thread(std::thread::current())) {
                std::thread::park();
            }
        }
    }

    /// Waits for at most `timeout`. The job goes on if that is too short, and can be waited for again.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// let mut job = dispatcher.submit(built_in::echo, (vec![1],));
    /// let result = loop {
    ///     match job.wait_timeout(Duration::from_secs(1)) {
    ///         Ok(result) => break result,
    ///         Err(pending) => job = pending,
    ///     }
    ///     println!("still at it");
    /// };
    /// assert_eq!(result?, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The job itself, if it has not ended.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R, JobError>, Self> {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Ok(self.wait()) };
        loop {
            if let Some(outcome) = self.cell.take() {
                return Ok(outcome);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || cannot_wait().is_some() {
                return Err(self);
            }
            if self.cell.watch(Waiter::Thread(std::thread::current())) {
                std::thread::park_timeout(left);
            }
        }
    }
}

impl<R> Job<R> {
    /// Cancels the job: it ends as [`JobError::Cancelled`] unless it has ended. If it runs, its worker is killed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use pp_dispatcher::{Dispatcher, JobError, built_in};
    ///
    /// let dispatcher = Dispatcher::builder().in_process(true).local_workers(0).start()?;
    /// let job = dispatcher.submit(built_in::sleep, (Duration::from_secs(3_600),));
    /// job.cancel();
    /// assert_eq!(job.wait(), Err(JobError::Cancelled));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&self)
    where
        R: Send + 'static,
    {
        if !self.cell.has_ended() {
            let cell: Arc<JobCell<R>> = Arc::clone(&self.cell);
            self.handle.cancel(cell);
        }
    }

    /// State of the job now. One that has not ended is told as queued where [`id`](Self::id) would have no answer.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, JobStatus, built_in};
    ///
    /// let dispatcher = Dispatcher::builder().in_process(true).local_workers(0).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// assert_eq!(job.status(), JobStatus::Queued);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status(&self) -> JobStatus
    where
        R: Send + 'static,
    {
        let cell: Arc<JobCell<R>> = Arc::clone(&self.cell);
        match self.handle.job_status(cell) {
            _ if self.cell.has_ended() => JobStatus::Ended,
            Some(status) => status.unwrap_or(JobStatus::Ended),
            // The dispatcher is ending, and ends the job in a moment; or it cannot be asked here and now.
            None => JobStatus::Queued,
        }
    }

    /// Why the job has not ended: where it is, or what it waits for. Its text is a sentence for people.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, built_in};
    ///
    /// let dispatcher = Dispatcher::builder().in_process(true).local_workers(0).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// let why = job.explain().to_string();
    /// assert_eq!(why, "it waits: local: none of this machine's cores is used: there are no local workers");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self) -> JobExplanation
    where
        R: Send + 'static,
    {
        if self.cell.has_ended() {
            return JobExplanation::Ended;
        }
        let cell: Arc<JobCell<R>> = Arc::clone(&self.cell);
        self.handle.explain(cell)
    }

    /// Whether its outcome is there, so that waiting for it takes no time.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// dispatcher.wait();
    /// assert!(job.has_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn has_ended(&self) -> bool {
        self.cell.has_ended()
    }

    /// The job's identifier, as it appears in events and logs. A job that could not be submitted has none.
    ///
    /// For a job that has not ended it may have to be asked of the dispatcher's thread, which takes a moment. `None` if it
    /// does not answer within three seconds: because it waits for a lock that is held here, say, such as that of standard
    /// output where a `tracing` subscriber writes. And within such a subscriber or a [`Waker`](std::task::Waker), which that
    /// thread calls itself.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// if let Some(id) = job.id() {
    ///     println!("job {id} is on its way"); // as events and logs name it
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn id(&self) -> Option<JobId>
    where
        R: Send + 'static,
    {
        if self.cell.id().is_none() && !self.cell.has_ended() {
            self.handle.identify();
        }
        self.cell.id()
    }
}

impl<R: DeserializeOwned + 'static> Future for Job<R> {
    type Output = Result<R, JobError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(outcome) = self.cell.take() {
                return Poll::Ready(outcome);
            }
            if self.cell.watch(Waiter::Task(context.waker().clone())) {
                return Poll::Pending;
            }
        }
    }
}

impl<R> fmt::Debug for Job<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.cell.id()).field("ended", &self.has_ended()).finish()
    }
}
