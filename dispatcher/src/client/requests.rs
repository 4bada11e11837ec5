//! Requests to the dispatcher's thread, beside running jobs.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use pp_protocol::JobId;

use super::orders::{Order, OrderError};
use super::settle::Identified;
use super::stats::{JobStatus, Stats};
use crate::core::JobExplanation;
use crate::links::OrderResult;

/// Time to wait for an answer of the dispatcher's thread, in so many pieces of this length: time in which the
/// whole process stood still counts as one. That thread may be held up by what the asker holds, such as the lock of standard
/// output where a `tracing` subscriber writes to it.
const ANSWER_PIECES: u32 = 60;
const ANSWER_PIECE: Duration = Duration::from_millis(50);

pub(super) enum Request {
    /// Cancel this job.
    Cancel(Arc<dyn Identified>),
    /// State of this job; `None` if it has ended.
    JobStatus(Arc<dyn Identified>, Answer<Option<JobStatus>>),
    /// Why has this job not ended?
    Explain(Asked, Answer<JobExplanation>),
    /// Have the nodes ask their dispatchers why this job has not ended; how many nodes can?
    ExplainElsewhere(JobId, Answer<usize>),
    /// Tell all jobs submitted before their identifiers.
    Identify(Answer<()>),
    Stats(Answer<Stats>),
    /// Number of nodes beside the local one that can be given jobs.
    NodesInUse(Answer<usize>),
    /// Answer once there are so many of them.
    WaitForNodes {
        count: usize,
        until: Instant,
        answer: Answer<()>,
    },
    SetLocalWorkers(u32),
    Finish,
    /// There is somebody more who watches, or one less.
    WatchesChanged,
    Order {
        /// A name or an address.
        node: String,
        order: Order,
        /// Channel of the node's own answer.
        answer: Answer<Result<Receiver<OrderResult>, OrderError>>,
    },
    End,
}

/// A job that somebody asks for.
pub(super) enum Asked {
    /// Whoever holds it.
    ItsHolder(Arc<dyn Identified>),
    /// Whoever was told its identifier.
    ById(JobId),
}

impl Asked {
    /// Its identifier, once it was told that.
    pub(super) fn id(&self) -> Option<JobId> {
        match self {
            Self::ItsHolder(job) => job.id(),
            Self::ById(id) => Some(*id),
        }
    }
}

impl Request {
    /// Whether jobs must have been told their identifiers before.
    pub(super) fn needs_ids(&self) -> bool {
        match self {
            Self::Cancel(job) => job.id().is_none(),
            Self::JobStatus(..) | Self::Explain(Asked::ItsHolder(_), _) | Self::Identify(_) => true,
            _ => false,
        }
    }
}

/// Channel of an answer.
#[derive(Clone, Debug)]
pub(super) struct Answer<T>(SyncSender<T>);

impl<T> Answer<T> {
    pub(super) fn channel() -> (Self, Receiver<T>) {
        let (sender, receiver) = mpsc::sync_channel(1);
        (Self(sender), receiver)
    }

    /// Answers. Whoever has stopped waiting needs no word.
    pub(super) fn give(&self, answer: T) {
        let _ = self.0.try_send(answer);
    }
}

/// Waits for an answer. `None` if there will be none, or none in time.
pub(super) fn wait_for_answer<T>(answer: &Receiver<T>) -> Option<T> {
    for _ in 0..ANSWER_PIECES {
        match answer.recv_timeout(ANSWER_PIECE) {
            Err(RecvTimeoutError::Timeout) => {}
            answer => return answer.ok(),
        }
    }
    None
}
