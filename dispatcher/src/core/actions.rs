//! Actions, which a core asks for, and the outcomes of jobs.

use std::time::Duration;

use pp_protocol::{
    Activity, Digest, FunctionId, JobAnswer, JobId, OutputLine, Panic, Part, Payload, ProgramId,
    ProgramRefusal, Resume, ToNode,
};

use super::causes::{Failure, NodeLoss, NodeRefusal, NodeTrouble};
use super::{NodeKey, PartKey, Taker};

/// Something that the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<T> {
    /// The job ended.
    Resolve(T, Resolution),
    /// Have a job's part taken, after those before it and before the job's end; `PartsTaken` follows.
    Part(Taker, PartKey, Part),
    /// Connect to a node; `LinkUp` or `DialFailed` follows.
    Dial(NodeKey, Option<Resume>),
    /// Send a message to a connected node.
    Send(NodeKey, ToNode),
    /// Close the connection to a node, or stop dialling it; no event follows.
    Close(NodeKey),
    /// A connected node needs this program.
    SendProgram(NodeKey, Digest),
    /// It has so many pieces of it.
    ProgramWritten(NodeKey, Digest, u32),
    /// Tell a node why this job has not ended, in answer to a question of this number.
    Explain(NodeKey, u64, JobId),
    /// Pass on what happens at a node, to whoever watches.
    Activity(NodeKey, Box<Activity>),
    /// Pass news on to whoever subscribed to them.
    Report(Report),
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// Its outcome.
    pub outcome: JobOutcome,
    /// Its identifier.
    pub job: JobId,
    /// The function that it called.
    pub function: FunctionId,
    /// The node of its last attempt, if it had one.
    pub node: Option<NodeKey>,
    /// Run time of that attempt.
    pub run_time: Duration,
    /// Size of its serialised arguments.
    pub args_bytes: usize,
}

/// Outcome of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobOutcome {
    /// The serialised result.
    Succeeded(Payload),
    /// The function panicked.
    Panicked(Box<Panic>),
    /// It ran longer than its limit.
    TimedOut(Duration),
    /// The submitter did not want it any more.
    Cancelled,
    /// Workers or nodes died under it too often, or no node can run it.
    Lost(Vec<Failure>),
    /// The result has so many bytes, and the limit is that many.
    TooLarge(u64, u64),
    /// The worker has no such function.
    UnknownFunction,
    /// The arguments could not be decoded on the node.
    BadArguments(String),
    /// The result could not be serialised.
    BadResult(String),
}

/// News for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A node can be used.
    NodeConnected(NodeKey),
    /// A node is silent and gets no new jobs.
    NodeSuspected(NodeKey),
    /// A node is lost, and so many of its attempts are queued again.
    NodeLost(NodeKey, NodeLoss, usize),
    /// A node does not want this dispatcher.
    NodeRefused(NodeKey, NodeRefusal),
    /// A node cannot run a program.
    ProgramRefused(NodeKey, ProgramId, ProgramRefusal),
    /// A node cannot start workers just now.
    NodeTroubled(NodeKey, NodeTrouble),
    /// The node's slots changed.
    NodeResized(NodeKey, u32),
    /// A job is tried again after an attempt that failed.
    JobRetried(JobId, Failure),
    /// A job printed something.
    Printed(NodeKey, Vec<OutputLine>),
    /// So many jobs have been waiting for a while and there is no node to run them on.
    Stalled(usize),
    /// A dispatcher said why a job of its own has not ended, in answer to what an observer asked a node.
    JobExplained(Box<JobAnswer>),
}
