//! The thread that reads the inputs of a map, and submits a job for each.

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use pp_node::processes::is_forked;

use crate::api::error::JobError;
use crate::api::job::{Job, JobCell};
use crate::client::{self, Counts, Handle};

/// Jobs that a map keeps in flight at least, and at most.
const FEWEST: usize = 64;
const MOST: usize = 128 * 1024;
/// Total size of the arguments of these, unless there are no more of them than two for each slot.
const ARGS_BYTES: usize = 16 << 20;
/// A job adds this fraction of the size of its arguments to the average.
const AVERAGE_DIVISOR: usize = 8;
/// Jobs are submitted again once this part of them has ended: some at once cost less than one by one.
const REFILL_PART: usize = 8;
/// Cells of jobs that are over are returned so many at once.
pub(super) const SPARE_AT_ONCE: usize = 1_024;
/// More than are ever taken.
const NEVER: usize = usize::MAX;

/// Sink of a map's jobs.
pub(super) trait Sink<R>: Send + Sync {
    /// Room made by results that were taken.
    fn room(&self) -> &Room;

    /// Takes a job. False if nobody takes results any more: then it is cancelled. Where `spare` is empty, cells of jobs
    /// whose results were taken are put there.
    fn put(&self, job: Job<R>, spare: &mut Vec<Spare<R>>) -> bool;

    /// There are no more inputs, or the input has panicked.
    fn end(&self, how: thread::Result<()>);
}

/// Cell of a job that has ended, which another one can use.
pub(super) type Spare<R> = Arc<JobCell<R>>;

/// Starts the thread that fills a sink.
pub(super) type Start<R> = Box<dyn FnOnce(Arc<dyn Sink<R>>) -> Result<(), JobError> + Send>;

/// Progress of a map, for whoever takes its results.
pub(super) enum Course<R> {
    /// Nothing has been asked for.
    Ready(Start<R>),
    /// Inputs are read.
    Running,
    /// It was refused. That is told once: whoever takes results until there are none would take it for ever.
    Over,
}

impl<R> Course<R> {
    /// Starts to read inputs, the first time. Breaks off with what is to be told instead of results.
    pub(super) fn go_on(&mut self, sink: impl FnOnce() -> Arc<dyn Sink<R>>) -> ControlFlow<Option<JobError>> {
        if is_forked() {
            // Once, whatever the state: the thread that reads inputs is the parent's.
            return match std::mem::replace(self, Self::Over) {
                Self::Over => ControlFlow::Break(None),
                Self::Ready(_) | Self::Running => ControlFlow::Break(Some(JobError::Forked)),
            };
        }
        match std::mem::replace(self, Self::Running) {
            Self::Running => ControlFlow::Continue(()),
            Self::Over => {
                *self = Self::Over;
                ControlFlow::Break(None)
            }
            Self::Ready(start) => match start(sink()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *self = Self::Over;
                    ControlFlow::Break(Some(error))
                }
            },
        }
    }

    /// Ends it.
    pub(super) fn refuse<T>(&mut self, error: JobError) -> Option<Result<T, JobError>> {
        *self = Self::Over;
        Some(Err(error))
    }
}

impl<R> fmt::Debug for Course<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Running => "Running",
            Self::Over => "Over",
        })
    }
}

/// Submits the job of an input, in a spare cell if there is one, and tells how large its arguments are.
pub(crate) type Submit<A, R> =
    Box<dyn Fn(&Arc<Handle>, A, Option<Arc<JobCell<R>>>) -> (Job<R>, usize) + Send + Sync>;

/// Source of a map's jobs.
///
/// It has no part in keeping the dispatcher alive: an input may block for ever.
pub(crate) struct Feed<I: Iterator, R> {
    pub(crate) handle: Arc<Handle>,
    pub(crate) inputs: I,
    pub(crate) submit: Submit<I::Item, R>,
}

impl<I: Iterator + Send + 'static, R: Send + 'static> Feed<I, R> {
    pub(super) fn into_start(self) -> Start<R> {
        Box::new(move |sink| {
            // In a callback nothing waits for room among the pending jobs; nor does what is submitted here for it.
            let inside = client::inside();
            let read = move || {
                client::take_part_in(inside);
                let read = catch_unwind(AssertUnwindSafe(|| self.read(&*sink)));
                sink.end(read);
            };
            let started = thread::Builder::new().name("pp-map".into()).spawn(read);
            started.map(drop).map_err(|error| JobError::NoThread(error.to_string()))
        })
    }

    /// Reads as results are taken, to the end of the inputs, or of those who take.
    fn read(self, sink: &dyn Sink<R>) {
        let Self { handle, inputs, submit } = self;
        // Moving average of the size of their arguments.
        let mut average_bytes = 0_usize;
        let (mut submitted, mut taken) = (0_usize, 0);
        // As many as jobs were in flight at once, at most.
        let mut spare = Vec::new();
        for input in inputs {
            let (job, args_bytes) = submit(&handle, input, spare.pop());
            average_bytes = average_bytes - average_bytes / AVERAGE_DIVISOR + args_bytes / AVERAGE_DIVISOR;
            if !sink.put(job, &mut spare) {
                return;
            }
            submitted += 1;
            let limit = limit(handle.counts(), average_bytes);
            if submitted - taken >= limit {
                taken = sink.room().taken();
            }
            if submitted - taken >= limit {
                taken = sink.room().wait(submitted - (limit - limit / REFILL_PART));
            }
        }
    }
}

/// Number that may be in flight. Twice what the nodes take at once keeps them busy while results are taken.
fn limit(counts: &Counts, average_bytes: usize) -> usize {
    let limit = (2 * counts.capacity()).clamp(FEWEST, MOST);
    let for_slots = (2 * counts.slots()).max(2);
    limit.min((ARGS_BYTES / average_bytes.max(1)).max(for_slots))
}

/// Room for further jobs: as much as results were taken.
///
/// The thread that reads only looks here when there seems to be none: whoever takes results writes here each time.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    /// The thread that reads goes on once so many were taken.
    wanted: AtomicUsize,
    reader: OnceLock<Thread>,
    closed: AtomicBool,
}

impl Default for Room {
    fn default() -> Self {
        let (taken, wanted) = (AtomicUsize::new(0), AtomicUsize::new(NEVER));
        Self { taken, wanted, reader: OnceLock::new(), closed: AtomicBool::new(false) }
    }
}

impl Room {
    /// A result was taken.
    pub(super) fn took_one(&self) {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if taken >= self.wanted.load(Ordering::SeqCst) {
            self.wanted.store(NEVER, Ordering::SeqCst);
            self.wake();
        }
    }

    /// No more results will be taken.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until so many were taken, or none will be, and yields how many there were.
    fn wait(&self, wanted: usize) -> usize {
        self.reader.get_or_init(thread::current);
        loop {
            // First this, then a look: whoever takes the one that is waited for does both the other way round.
            self.wanted.store(wanted, Ordering::SeqCst);
            let taken = self.taken();
            if taken >= wanted || self.is_closed() {
                self.wanted.store(NEVER, Ordering::SeqCst);
                return taken;
            }
            thread::park();
        }
    }
}
