//! A job and its states.
//!
//! ```text
//! location:  Delayed ──> Queued ──> AtNode ──> forgotten
//!                           ^          │ came back without an outcome (retries.rs)
//!                           └──────────┘
//!
//! owner:     Submitter ── cancelled, or its copy was faster ──> Nobody, until its node has answered
//!            Original  ── does not need its copy any more ────> Nobody, until its node has answered
//!
//! copying:   Possible <──> Candidate, while it is at a node ──> Copied
//! ```
//!
//! Jobs that wait have a submitter: a copy, and a job that nobody needs any more, is at a node or forgotten.

use std::time::Duration;

use pp_protocol::limits::LARGE_ARGS_BYTES;
use pp_protocol::{Attempt, AttemptId, FunctionId, JobId, Moment, NodeId, Payload, ProgramId};

use super::blame::Charge;
use super::{JobOptions, NodeKey, Taker};

#[derive(Debug)]
pub(super) struct Job<T> {
    /// Number of jobs that were kept at its place before.
    pub(super) generation: u32,
    /// Number of its last attempt; 0 before the first.
    pub(super) attempt: u32,
    pub(super) function: FunctionId,
    pub(super) args: Payload,
    pub(super) location: Location,
    pub(super) owner: Owner<T>,
    pub(super) rare: Option<Box<Rare>>,
}

/// Location of a job.
#[derive(Debug)]
pub(super) enum Location {
    /// Not to be sent before then; of those with the same time, the one with the lower number is first (`delays.rs`).
    Delayed { until: Moment, number: u32 },
    /// In the queue.
    Queued,
    /// Its last attempt is at a node: waiting there, or running.
    AtNode {
        node: NodeKey,
        /// Index in the session's list of attempts.
        position: u32,
        /// Number among the attempts sent in that session, wrapping around.
        sent: u32,
        /// No slot of the node was free then.
        sent_ahead: bool,
    },
}

/// Owner of a job, who is told how it ends.
#[derive(Debug)]
pub(super) enum Owner<T> {
    /// The submitter.
    Submitter(T),
    /// It is a copy of this job, which ends with its result if that is first.
    Original(JobId),
    /// Nobody any more. Its node was told to cancel it, and has not answered.
    Nobody,
}

/// State of the copy that a job may get elsewhere while its attempt takes long (`copies.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Copying {
    /// It may not be run twice, or is a copy.
    #[default]
    Never,
    /// It may be, and is at no node.
    Possible,
    /// Its attempt was sent then, and is listed among those that may get a copy.
    Candidate { sent: Moment },
    /// It got this copy, which may have ended. There is no second one.
    Copied { copy: JobId },
}

/// Fields that most jobs do not use.
#[derive(Debug)]
pub(super) struct Rare {
    /// The program whose function it calls: the first one, unless told.
    pub(super) program: ProgramId,
    /// The life of the node that it is for, if it is for one only.
    pub(super) only_at: Option<NodeId>,
    pub(super) time_limit: Option<Duration>,
    pub(super) max_attempts: Option<u32>,
    pub(super) retry_panics: bool,
    pub(super) priority: i32,
    pub(super) copying: Copying,
    pub(super) taker: Option<Taker>,
    /// Attempts for which it was charged.
    pub(super) charges: Vec<Charge>,
}

/// Size of the large arguments of some attempts, and of those that were sent ahead of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ArgsBytes {
    pub(super) all: u64,
    pub(super) ahead: u64,
}

impl ArgsBytes {
    /// Size of these arguments, if they are large.
    #[inline]
    pub(super) fn of(args: &Payload, sent_ahead: bool) -> Option<Self> {
        let all = args.len() as u64;
        (args.len() >= LARGE_ARGS_BYTES).then_some(Self { all, ahead: if sent_ahead { all } else { 0 } })
    }

    pub(super) fn add(&mut self, more: Self) {
        self.all += more.all;
        self.ahead += more.ahead;
    }

    pub(super) fn subtract(&mut self, less: Self) {
        self.all -= less.all;
        self.ahead -= less.ahead;
    }
}

impl Default for Rare {
    fn default() -> Self {
        Self::new(ProgramId::FIRST, &JobOptions::default())
    }
}

impl Rare {
    pub(super) fn new(program: ProgramId, options: &JobOptions) -> Self {
        Self {
            program,
            only_at: options.node,
            time_limit: options.time_limit,
            max_attempts: options.max_attempts,
            retry_panics: options.retry_panics,
            priority: options.priority,
            // A copy would have to run elsewhere, and of what two attempts send ahead, only one's could be taken.
            copying: if options.idempotent && options.node.is_none() && options.taker.is_none() {
                Copying::Possible
            } else {
                Copying::Never
            },
            taker: options.taker.clone(),
            charges: Vec::new(),
        }
    }
}

impl<T> Owner<T> {
    pub(super) fn is_submitter(&self) -> bool {
        matches!(self, Self::Submitter(_))
    }

    /// Takes the submitter's ticket; nobody is told any more.
    pub(super) fn take_ticket(&mut self) -> Option<T> {
        match std::mem::replace(self, Self::Nobody) {
            Self::Submitter(ticket) => Some(ticket),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl<T> Job<T> {
    /// A job in the queue, yet without a place.
    pub(super) fn new(owner: Owner<T>, function: FunctionId, args: Payload, rare: Option<Box<Rare>>) -> Self {
        Self { generation: 0, attempt: 0, function, args, location: Location::Queued, owner, rare }
    }

    /// A second attempt at what this job does, as a job of its own. It is not tried again.
    pub(super) fn copy(&self, id: JobId) -> Self {
        let time_limit = self.time_limit();
        let (program, priority) = (self.program(), self.priority());
        let rare = Rare { program, time_limit, max_attempts: Some(1), priority, ..Rare::default() };
        Self::new(Owner::Original(id), self.function, self.args.clone(), Some(Box::new(rare)))
    }

    /// The node that it is at.
    pub(super) fn node(&self) -> Option<NodeKey> {
        match self.location {
            Location::AtNode { node, .. } => Some(node),
            Location::Delayed { .. } | Location::Queued => None,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        matches!(self.location, Location::Queued)
    }

    /// Next attempt, and where that is from now on.
    pub(super) fn next_attempt(&mut self, id: JobId, location: Location) -> Attempt {
        self.attempt += 1;
        self.location = location;
        let limit = self.time_limit();
        Attempt {
            id: AttemptId { job: id, number: self.attempt },
            program: self.program(),
            function: self.function,
            time_limit_ns: limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
            args: self.args.clone(),
        }
    }

    /// Size of its arguments, if it is at a node and they are large.
    pub(super) fn large_args(&self) -> Option<ArgsBytes> {
        let Location::AtNode { sent_ahead, .. } = self.location else { return None };
        ArgsBytes::of(&self.args, sent_ahead)
    }

    pub(super) fn program(&self) -> ProgramId {
        self.rare.as_deref().map_or(ProgramId::FIRST, |rare| rare.program)
    }

    /// The life of the node that it is for, if it is for one only.
    pub(super) fn only_at(&self) -> Option<NodeId> {
        self.rare.as_deref().and_then(|rare| rare.only_at)
    }

    pub(super) fn priority(&self) -> i32 {
        self.rare.as_deref().map_or(0, |rare| rare.priority)
    }

    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.rare.as_deref().and_then(|rare| rare.time_limit)
    }

    pub(super) fn copying(&self) -> Copying {
        self.rare.as_deref().map_or(Copying::Never, |rare| rare.copying)
    }

    pub(super) fn taker(&self) -> Option<&Taker> {
        self.rare.as_deref()?.taker.as_ref()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}
