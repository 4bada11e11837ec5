//! Settings of a client.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(doc)]
use pp_protocol::ProgramId;
use pp_protocol::secret::FoundSecrets;

use super::counts::PendingLimits;
use crate::core::JobsPerNode;
use crate::links::{Address, ProgramError, ProgramFiles, Selection};

/// Jobs that may be pending before submitting waits, unless set otherwise.
const PENDING_JOBS: usize = 10_000_000;
/// Size of the arguments of pending jobs, all together, before submitting waits, unless set otherwise.
const PENDING_BYTES: usize = 4 << 30;
/// Deaths of workers and nodes for which a job is held for poison, unless set otherwise.
const MAX_ATTEMPTS: u32 = 3;
/// Silence before a node gets no new jobs, or is lost, if only one of them is set.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_secs(3);
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);

/// Settings of a client. The environment is the business of whoever makes this.
#[derive(Debug)]
pub struct Settings {
    /// Slots of the local node.
    pub local_workers: u32,
    /// Whether local workers are threads of this process.
    pub in_process: bool,
    /// Only look at nodes: run nothing on them, and nothing here.
    pub observer: bool,
    /// Whether each job has a worker of its own.
    pub fresh_workers: bool,
    /// Nodes that are dialled for ever.
    pub nodes: Vec<Address>,
    /// Whether to look for nodes on the network.
    pub discover: bool,
    /// Which of the nodes that are named or found are used.
    pub selection: Selection,
    /// Secret shared with nodes, if there may be any. One that was found in a file is read again, before a node is dialled, if
    /// the file has changed.
    pub secret: Option<FoundSecrets>,
    /// The file with this machine's key, for nodes that ask for one; it need not be there. What is known of such nodes is
    /// remembered beside it. None if there is no place for either.
    pub machine_key: Option<PathBuf>,
    /// The programs whose functions may be called, numbered in this order from [`ProgramId::FIRST`] on, at most
    /// [`PROGRAMS`](pp_protocol::limits::PROGRAMS). Without any there are the nodes' own functions.
    pub programs: Vec<ProgramFiles>,
    /// Jobs that run at each node at once, if that is fewer than it has slots.
    pub jobs_per_node: Option<JobsPerNode>,
    /// Number of times a job may be running as its worker or node dies.
    pub max_attempts: u32,
    /// Silence of a node before it gets no new jobs.
    pub suspect_after: Duration,
    /// Silence of a node before its jobs run elsewhere.
    pub lost_after: Duration,
    /// Destination of the lines that jobs print.
    pub output: Output,
    /// Limits on what is pending before submitting waits.
    pub pending: PendingLimits,
    /// Threads that run callbacks.
    pub callback_threads: usize,
}

impl Settings {
    /// The defaults: no nodes but the local one, with so many worker processes that run these programs.
    pub fn new(local_workers: u32, programs: Vec<ProgramFiles>) -> Self {
        Self {
            local_workers,
            in_process: false,
            observer: false,
            fresh_workers: false,
            nodes: Vec::new(),
            discover: false,
            selection: Selection::default(),
            secret: None,
            machine_key: None,
            programs,
            jobs_per_node: None,
            max_attempts: MAX_ATTEMPTS,
            suspect_after: SUSPECT_AFTER,
            lost_after: LOST_AFTER,
            output: Output::default(),
            pending: PendingLimits { jobs: PENDING_JOBS, bytes: PENDING_BYTES },
            callback_threads: 1,
        }
    }

    /// Whether there may be nodes beside the local one.
    pub fn is_remote(&self) -> bool {
        self.discover || !self.nodes.is_empty()
    }
}

/// Destination of the lines that jobs print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Each is written to standard error, behind the name of its node and the number of its job. Control characters look
    /// like `\x1b`, so that no job can do anything to the terminal.
    #[default]
    Shown,
    /// As `Shown`, with control characters as they are: for jobs that print in colour.
    Raw,
    /// They are only told as events, and so is that jobs wait which no node can run, or that a node is in trouble: nothing is
    /// written at all.
    EventsOnly,
}

/// A client could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A build of the program cannot be used.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The local node could not be started.
    #[error("cannot start the local node: {0}")]
    LocalNode(#[from] pp_node::StartError),
    /// The system refused a thread or another resource.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}
