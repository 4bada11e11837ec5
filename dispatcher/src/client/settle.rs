//! Settling of jobs that ended with whoever submitted them: by their tickets, without knowing any type.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::thread::Thread;
use std::time::Duration;

use pp_protocol::{FunctionId, JobId, Panic, Payload};

use super::completions::Completions;
use super::counts::Count;
use crate::core::{Failure, JobOutcome, Resolution, Ticket};

/// Outcome of a job: its serialised result, or why there is none.
pub type Outcome = Result<Payload, Box<Failed>>;

/// Reason why a job has no result.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Failed {
    /// The function panicked.
    Panicked(Box<Panic>),
    /// It ran longer than its limit.
    TimedOut(Duration),
    /// Its submitter did not want it any more, or the dispatcher was shut down.
    Cancelled,
    /// Workers or nodes died under it too often, or no node can run it.
    Lost(Vec<Failure>),
    /// The result is too large.
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The program on the node has no such function.
    UnknownFunction(FunctionId),
    /// The arguments could not be decoded on the node, and why.
    BadArguments(FunctionId, String),
    /// The result could not be serialised, and why.
    BadResult(FunctionId, String),
    /// The dispatcher had been shut down before it was submitted.
    ShutDown,
    /// This is a child made by `fork()`, which has none of the dispatcher's threads.
    Forked,
    /// Its submitter found the call to be wrong, and knows why: it was never submitted.
    Refused,
}

/// Outcome of the core, as it is settled.
pub(super) fn outcome_of(resolution: Resolution) -> Outcome {
    let Resolution { outcome, function, .. } = resolution;
    Err(Box::new(match outcome {
        JobOutcome::Succeeded(result) => return Ok(result),
        JobOutcome::Panicked(panic) => Failed::Panicked(panic),
        JobOutcome::TimedOut(limit) => Failed::TimedOut(limit),
        JobOutcome::Cancelled => Failed::Cancelled,
        JobOutcome::Lost(history) => Failed::Lost(history),
        JobOutcome::TooLarge(size, limit) => Failed::TooLarge { size, limit },
        JobOutcome::UnknownFunction => Failed::UnknownFunction(function),
        JobOutcome::BadArguments(reason) => Failed::BadArguments(function, reason),
        JobOutcome::BadResult(reason) => Failed::BadResult(function, reason),
    }))
}

/// A submitter's side of a job. All but the callback is called on the dispatcher's thread, which must not be held up.
pub trait Settle: Send + Sync {
    /// The job is known under this identifier.
    fn accepted(&self, id: JobId);

    /// The job ended. Whoever waits for it is added to `wakes`. Gives the outcome back if a callback is to be called with
    /// it, which makes it outstanding still.
    fn settle(&self, outcome: Outcome, wakes: &mut Wakes) -> Option<Outcome>;

    /// Calls the callback, on a thread of callbacks.
    fn call_back(&self, outcome: Outcome) {
        drop(outcome);
    }

    /// Does without the callback.
    fn forgo(&self) {}

    /// The group that it belongs to.
    fn group(&self) -> Option<&Arc<Count>> {
        None
    }
}

/// A job that knows its identifier, once it was told.
pub trait Identified: Send + Sync {
    /// The identifier.
    fn id(&self) -> Option<JobId>;
}

/// Ticket of a submitter, which the core keeps, and hands back when the job ends.
pub struct JobTicket(pub Arc<dyn Settle>);

impl JobTicket {
    /// Settles a job whose dispatcher has failed: without a callback.
    pub(super) fn abandon(&self) {
        if self.0.settle(Err(Box::new(Failed::ShutDown)), &mut Wakes::default()).is_some() {
            self.0.forgo();
        }
    }
}

impl Ticket for JobTicket {
    fn accepted(&self, job: JobId) {
        self.0.accepted(job);
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        // The dispatcher's thread is taking everything down with it.
        if std::thread::panicking() {
            self.abandon();
        }
    }
}

impl fmt::Debug for JobTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobTicket")
    }
}

/// Somebody who waits for a job.
#[derive(Debug)]
pub enum Waiter {
    /// Nobody does.
    Nobody,
    /// A thread that is parked.
    Thread(Thread),
    /// A task.
    Task(Waker),
    /// A wait for several jobs together, of which it is this number.
    Completions(Arc<Completions>, usize),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Nobody => {}
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
            Self::Completions(completions, number) => completions.push(number),
        }
    }
}

/// Waiters to be woken once all jobs that ended together are settled: one that waits for them in turn is then woken once.
#[derive(Debug, Default)]
pub struct Wakes(Vec<Waiter>);

impl Wakes {
    /// Adds somebody.
    pub fn add(&mut self, waiter: Waiter) {
        if !matches!(waiter, Waiter::Nobody) {
            self.0.push(waiter);
        }
    }

    pub(super) fn wake_all(&mut self) {
        for waiter in self.0.drain(..) {
            // A waker is somebody else's code. The panic hook has reported it; the others are woken all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| waiter.wake()));
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake_all();
    }
}
