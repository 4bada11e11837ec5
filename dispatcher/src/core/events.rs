//! Events, which a core is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pp_protocol::{FromNode, FunctionId, JobId, Moment, NodeId, Part, Payload, ProgramId, Version, Welcome};

use super::{NodeKey, NodeKind, NodeRefusal, PartKey, Unreachable};

/// Address of a job's submitter, for the shell. The core hands it back with the outcome and never looks into it.
pub trait Ticket {
    /// The job is known under this identifier. Told of each job once [`Core::announce_ids`](super::Core::announce_ids) was called; perhaps twice.
    fn accepted(&self, job: JobId);
}

/// What takes the bytes that a job sends ahead of its result.
pub trait TakeParts: Send + Sync {
    /// Takes some, which may take its time. They are in order; those of another attempt are of a job that starts over.
    fn take(&self, part: Part);

    /// Number of the queue in which it has its turn, with the end of its job.
    fn queue(&self) -> usize;
}

/// Somebody who takes parts. The core hands it back with each of them, and never calls it.
#[derive(Clone)]
pub struct Taker(pub Arc<dyn TakeParts>);

impl PartialEq for Taker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Taker {}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewJob<T> {
    /// Handed back with the outcome.
    pub ticket: T,
    /// The program whose function it calls.
    pub program: ProgramId,
    /// The function to call.
    pub function: FunctionId,
    /// Its serialised arguments.
    pub args: Payload,
    /// Its options, if they differ from the defaults.
    pub options: Option<Box<JobOptions>>,
}

/// Options of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Run time after which an attempt is killed.
    pub time_limit: Option<Duration>,
    /// Limit on its attempts, instead of [`DispatcherConfig::max_attempts`](super::DispatcherConfig::max_attempts).
    pub max_attempts: Option<u32>,
    /// Whether a panic is tried again like a dead worker.
    pub retry_panics: bool,
    /// Whether it may run twice: then an attempt that takes long may get a copy elsewhere.
    pub idempotent: bool,
    /// Its priority; higher goes first.
    pub priority: i32,
    /// Time before which it is sent to no node.
    pub not_before: Option<Moment>,
    /// The life of the one node that it is for: it runs there or nowhere.
    pub node: Option<NodeId>,
    /// What takes the bytes that it sends ahead of its result. With one, it is never copied.
    pub taker: Option<Taker>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// Jobs were submitted, in this order.
    Submit(Vec<NewJob<T>>),
    /// The submitter does not want these jobs any more.
    Cancel(Vec<JobId>),
    /// There is a node, or there is word of it again.
    NodeFound {
        /// The shell's key for it.
        node: NodeKey,
        /// Its name until it says its own.
        name: String,
        /// Its origin.
        kind: NodeKind,
    },
    /// There will be no more word of a discovered node.
    NodeGone(NodeKey),
    /// A node that was discovered and has never been in session is known no more.
    NodeForgotten(NodeKey),
    /// A node answered a dial and welcomed the session; this version is spoken.
    LinkUp(NodeKey, Box<Welcome>, Version),
    /// A dial came to nothing.
    DialFailed(NodeKey, Box<DialFailure>),
    /// An established connection is gone.
    LinkDown(NodeKey),
    /// Messages arrived.
    Received(NodeKey, Vec<FromNode>),
    /// Takers are done with these parts.
    PartsTaken(Vec<PartKey>),
    /// Nothing more is to be begun: every job that no node runs is to be cancelled, now and later.
    Finish,
    /// Somebody wants to be told so often what happens at the nodes, or nobody does any more.
    Watch(Option<Duration>),
    /// The dispatcher ends: every job is to be resolved, every node to be left.
    Shutdown,
    /// The time of [`Core::next_deadline`](super::Core::next_deadline) has come.
    Tick,
}

/// Reason why a dial came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Nothing listens there, or there is no answer, or none in time.
    Unreachable(Unreachable),
    /// It listens, and does not want this dispatcher (or this dispatcher does not want it).
    Refused(NodeRefusal),
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => cause.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}
