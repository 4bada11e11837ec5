//! Messages between a dispatcher and a node. The node forwards payloads, it never looks into them.
//!
//! The order of variants and fields is the format: whoever moves one, or puts one in between, changes what older releases
//! read. New variants go last; README.md of this crate says how a message is added. Who may send which message, and when,
//! is in [`rules`](crate::Rule).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fields::{read_all_attempts, read_last_lines, read_name, read_output};
use crate::{
    Activity, AttemptId, Digest, FunctionId, JobId, NodeId, Outcome, Payload, ProgramId, SessionId, shown,
};

/// From a dispatcher (or an operator) to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// Always first: who speaks.
    Hello(Box<Hello>),
    /// Attempts to run, in this order, within the window the node granted.
    Run(Vec<Attempt>),
    /// Give these up, killing the worker of one that runs. Each is answered by an outcome.
    Cancel(Vec<AttemptId>),
    /// Give these back if they have not started. One that has is left alone and nothing is answered for it.
    Recall(Vec<AttemptId>),
    /// Outcomes up to this sequence number arrived and need not be kept.
    Ack(u64),
    /// A piece of the compressed program the node asked for; the last piece is marked. No more than
    /// [`PROGRAM_CHUNKS_AHEAD`](crate::limits::PROGRAM_CHUNKS_AHEAD) of them are sent beyond those that are
    /// [written](FromNode::ProgramWritten).
    ProgramChunk {
        /// The program.
        digest: Digest,
        /// Number of the piece, from 0 on.
        number: u32,
        /// Whether the program is complete with this piece.
        last: bool,
        /// LZ4-framed bytes, in order.
        bytes: Payload,
    },
    /// The program the node asked for cannot be sent, and why.
    ProgramUnavailable(Digest, String),
    /// Still there? Answered by `Pong` with the same number.
    Ping(u64),
    /// The answer to the node's `Ping`.
    Pong(u64),
    /// Change the number of slots.
    Resize(u32),
    /// Finish what runs, then exit.
    Drain,
    /// The dispatcher is done: forget the session, kill what is left of it.
    Goodbye,
    /// So much of what jobs printed has arrived since this was last said, by the [weight](OutputLine::weight) of its lines.
    OutputReceived(u64),
    /// A program whose functions attempts name from now on; again on each connection. Answered by
    /// [`FromNode::Program`].
    Offer(ProgramOffer),
    /// Parts up to this sequence number have been taken, by whoever they are for, and need not be kept.
    PartsTaken(u64),
    /// Who has this job, and why has it not ended? Passed on to every dispatcher ([`FromNode::ExplainJob`]). Job numbers are a
    /// dispatcher's own, so that each may have one of this number.
    ExplainJob(JobId),
    /// The answer to [`FromNode::ExplainJob`]: why the job has not ended, for people. At most
    /// [`EXPLANATION_BYTES`](crate::limits::EXPLANATION_BYTES) of it are passed on.
    JobExplained(u64, String),
    /// Tell what happens at the node, so often (in nanoseconds), but at most once in
    /// [`WATCH_INTERVAL`](crate::limits::WATCH_INTERVAL); 0 to stop. Answered by [`FromNode::Activity`], again and again.
    Watch(u64),
    /// So many jobs wait at the dispatcher, for any node. Sent with a heartbeat, if that changed, at most once a second.
    Waiting(u64),
}

/// From a node to a dispatcher (or an operator).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNode {
    /// The answer to `Hello`: the session stands.
    Welcome(Box<Welcome>),
    /// The answer to `Hello`: there will be no session.
    Refused(Refusal),
    /// Number of attempts without outcome that this session may have at the node from now on.
    Window(u32),
    /// Outcomes; the first one's sequence number, the others follow without gap.
    Outcomes(u64, Vec<Outcome>),
    /// Lines that jobs printed.
    Output(Vec<OutputLine>),
    /// The node lacks this program: send it, from the first piece on.
    ProgramNeeded(Digest),
    /// Status of a program that the dispatcher offered.
    Program(ProgramId, ProgramStatus),
    /// The state of the node changed, or a heartbeat's time has come.
    Status(NodeStatus),
    /// Still there? Answered by `Pong` with the same number.
    Ping(u64),
    /// The answer to the peer's `Ping`.
    Pong(u64),
    /// The node leaves, for this reason: nothing more will be accepted.
    Goodbye(Farewell),
    /// There are fewer workers than slots, whatever they run; `None` when there is one for each again.
    Trouble(Option<WorkerShortage>),
    /// So many pieces of the program that is being sent are on disk.
    ProgramWritten(Digest, u32),
    /// Bytes that a running job sends ahead of its result, and their sequence number. They come in order, before the outcome
    /// of their attempt, and are kept until they are [taken](ToNode::PartsTaken): no more than [`PART_BYTES_SENT`] of them, by
    /// their [weight](Part::weight), are sent beyond those.
    ///
    /// [`PART_BYTES_SENT`]: crate::limits::PART_BYTES_SENT
    Part(u64, Part),
    /// Somebody who looks after this node asks under this number why the job has not ended. A dispatcher that knows it answers
    /// [`ToNode::JobExplained`], once; others do not answer.
    ExplainJob(u64, JobId),
    /// What a dispatcher says of a job that was [asked for](ToNode::ExplainJob).
    JobExplained(Box<JobAnswer>),
    /// What happens at the node, for whoever [watches](ToNode::Watch).
    Activity(Box<Activity>),
}

// Each connection has room for some dozens that wait, whether any do or not.
const _: () = assert!(size_of::<FromNode>() <= 96 && size_of::<ToNode>() <= 80);

/// Greeting of a dispatcher or an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The same for as long as the dispatcher lives, over all its connections.
    pub session: SessionId,
    /// For people: `user@host, program, process id`.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
    /// Present when an earlier connection of this session broke off.
    pub resume: Option<Resume>,
    /// Whether each attempt is to have a worker of its own, with which everything it started ends.
    pub fresh_workers: bool,
}

/// State of a session whose connection broke off, as its dispatcher has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The life of the node that the session was with.
    pub node: NodeId,
    /// Outcomes received so far.
    pub outcomes_received: u64,
    /// Parts taken so far. Those that arrived and have not been taken come once more, and are known by their numbers.
    pub parts_taken: u64,
    /// Attempts believed to be at the node. The node cancels what it holds beyond these.
    #[serde(deserialize_with = "read_all_attempts")]
    pub held: Vec<AttemptId>,
}

/// A program of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramOffer {
    /// The number by which attempts name it.
    pub program: ProgramId,
    /// The same program built for one or more targets. Empty: the program that the node itself runs in.
    pub builds: Vec<ProgramBuild>,
}

/// One build of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramBuild {
    /// BLAKE3 of the executable file.
    pub digest: Digest,
    /// Target it was built for.
    pub target: Target,
    /// Size of the executable file in bytes.
    pub bytes: u64,
    /// File name, for people.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
}

/// Operating system and processor architecture, in the words of `std::env::consts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Target {
    /// Such as `linux`.
    #[serde(deserialize_with = "read_name")]
    pub os: String,
    /// Such as `x86_64`.
    #[serde(deserialize_with = "read_name")]
    pub arch: String,
}

impl Target {
    /// Target of this operating system and architecture.
    pub fn new(os: impl Into<String>, arch: impl Into<String>) -> Self {
        Self { os: os.into(), arch: arch.into() }
    }

    /// Target this program was built for.
    pub fn here() -> Self {
        Self { os: std::env::consts::OS.into(), arch: std::env::consts::ARCH.into() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)
    }
}

/// The node's answer to a `Hello` it accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// This life of the node.
    pub node: NodeId,
    /// The node's name, for people: its host name unless configured.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
    /// The release of the software that serves the node, for people.
    #[serde(deserialize_with = "read_name")]
    pub software: String,
    /// What the node's workers are confined to, for people.
    #[serde(deserialize_with = "read_name")]
    pub confinement: String,
    /// Target that programs must be built for.
    pub target: Target,
    /// The C library of the node's machine, for people: programs may need a newer one. Empty if the node does not know.
    #[serde(deserialize_with = "read_name")]
    pub libc: String,
    /// Whether the session of an earlier connection goes on.
    pub resumed: bool,
    /// If resumed: the attempts the node holds; the dispatcher queues again what it believed to be there beyond these.
    #[serde(deserialize_with = "read_all_attempts")]
    pub held: Vec<AttemptId>,
    /// Attempts without outcome the session may have at the node.
    pub window: u32,
    /// Slots, load, memory.
    pub status: NodeStatus,
}

/// A node's state, for scheduling and for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Room for attempts; the number of workers.
    pub slots: u32,
    /// Slots running an attempt now.
    pub busy: u32,
    /// Attempts waiting at the node, of all sessions.
    pub queued: u32,
    /// Dispatchers connected.
    pub sessions: u32,
    /// Processors the node may use.
    pub cpus: u32,
    /// The system's load average over one minute.
    pub load: f32,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Memory of the machine, in bytes.
    pub memory_total: u64,
    /// The node finishes what runs and takes no more.
    pub draining: bool,
}

impl Eq for NodeStatus {}

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Job, and number of the try.
    pub id: AttemptId,
    /// The program whose function it calls.
    pub program: ProgramId,
    /// The function to call.
    pub function: FunctionId,
    /// Kill it when it has run so long (in nanoseconds); 0 for never.
    pub time_limit_ns: u64,
    /// Its serialised arguments.
    pub args: Payload,
}

impl Attempt {
    /// Time limit of the attempt, if it has one.
    pub fn time_limit(&self) -> Option<Duration> {
        (self.time_limit_ns != 0).then(|| Duration::from_nanos(self.time_limit_ns))
    }
}

/// A line a job printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// The attempt its worker was running when the line was read; a worker may print between attempts too.
    pub attempt: Option<AttemptId>,
    /// The stream it was written to.
    pub stream: Stream,
    /// The line without its end, at most [`OUTPUT_LINE_BYTES`](crate::limits::OUTPUT_LINE_BYTES), made valid UTF-8.
    #[serde(deserialize_with = "read_output")]
    pub text: String,
}

impl OutputLine {
    /// Weight of a line without text.
    const FIXED_BYTES: usize = 32;

    /// About how many bytes it takes, on a wire or in memory.
    pub fn weight(&self) -> usize {
        Self::FIXED_BYTES + self.text.len()
    }
}

/// Bytes that a job sent while it ran, as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The attempt that sent them.
    pub attempt: AttemptId,
    /// The stream that they are of.
    pub stream: Stream,
    /// At most [`PART_BYTES`](crate::limits::PART_BYTES) of them.
    pub bytes: Payload,
}

impl Part {
    /// Weight of a part without bytes.
    const FIXED_BYTES: usize = 64;

    /// About how many bytes it takes, on a wire or in memory.
    pub fn weight(&self) -> usize {
        Self::FIXED_BYTES + self.bytes.len()
    }
}

/// What a dispatcher says of a job of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAnswer {
    /// The job.
    pub job: JobId,
    /// The session of the dispatcher: that is the same at each node.
    pub session: SessionId,
    /// The dispatcher, for people.
    #[serde(deserialize_with = "read_name")]
    pub dispatcher: String,
    /// Why the job has not ended, for people.
    pub text: String,
}

/// A standard stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Reason why a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Farewell {
    /// Its operator, or a signal, told it to stop.
    #[error("it was told to stop")]
    Stopped,
}

/// Lack of workers: the machine gives fewer than the node has slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerShortage {
    /// Workers that there can be.
    pub room: u32,
    /// Slots that the node has.
    pub slots: u32,
    /// Lack of the machine, and what to do, in the words of the node.
    pub reason: String,
}

impl WorkerShortage {
    /// Room for so many workers where there are so many slots, for this reason.
    pub fn new(room: u32, slots: u32, reason: impl Into<String>) -> Self {
        Self { room, slots, reason: reason.into() }
    }
}

impl fmt::Display for WorkerShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { room: 0, reason, .. } => write!(f, "its workers do not start: {reason}; trying again"),
            Self { room, slots, reason } => {
                write!(f, "it has {room} of {slots} slots: {reason}; trying again")
            }
        }
    }
}

/// Reason why a node takes no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The node finishes what runs and exits.
    #[error("the node is draining: it finishes what runs and then exits; start it again to use it")]
    Draining,
    /// As many sessions as the node keeps.
    #[error("the node already serves {0} dispatchers, its limit; try again when one of them has ended")]
    TooManySessions(u32),
    /// The session has a connection already: the same node was found under two addresses.
    #[error("it is a node this dispatcher is connected to already, under another address")]
    AlreadyConnected(NodeId),
    /// The first message was not a `Hello`, or made no sense.
    #[error("the node did not understand the greeting: {0}; is it of another release?")]
    BadHello(String),
    /// A message came that its sender may not send, or not then.
    #[error("the node closed the connection: {0}; is it of another release?")]
    NotPermitted(String),
    /// More connections that belong to no dispatcher than the node keeps; the oldest gave way.
    #[error(
        "the node keeps {0} connections without a dispatcher's session, its limit; another one took this one's place"
    )]
    TooManyConnections(u32),
    /// As many operators watch the node as may.
    #[error("{0} operators watch the node already, its limit; end one of them (ppctl top, ppctl web)")]
    TooManyWatchers(u32),
}

/// Status of a program at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramStatus {
    /// The node does not have it yet.
    Preparing,
    /// Attempts may name it.
    Ready,
    /// Its workers do not start just now; attempts are returned.
    Troubled {
        /// Reason why not.
        reason: String,
        /// Whether one more try is made with attempts that come.
        retried: bool,
    },
    /// It cannot run on this node, and why; attempts are returned.
    Refused(ProgramRefusal),
}

/// Reason why a program cannot run on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramRefusal {
    /// None of the builds offered is for this node.
    #[error(
        "the node is {node}, the program was built for {}; build it for {node} too and add that build with \
         Builder::program(path)", .offered.iter().map(Target::to_string).collect::<Vec<_>>().join(", ")
    )]
    WrongTarget {
        /// Target of the node.
        node: Target,
        /// Targets of the builds that were offered.
        offered: Vec<Target>,
    },
    /// The program is larger than the node stores.
    #[error("the program has {bytes} bytes, the node stores at most {limit}; strip its debug information")]
    TooLarge {
        /// Size of the program in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes that arrived are not the program that was announced.
    #[error(
        "the program arrived damaged (its digest is {found}); was the executable rebuilt while it ran? start it again"
    )]
    WrongDigest {
        /// The digest of what arrived.
        found: Digest,
    },
    /// The dispatcher could not send it.
    #[error("the dispatcher could not send the program: {0}")]
    Unavailable(String),
    /// The node could not store it.
    #[error("the node could not store the program: {0}")]
    NotStored(String),
    /// It was started as a worker and ended, or never said that it is ready.
    #[error("the program does not start as a worker on this node: {reason}{}", stderr_text(.stderr))]
    DoesNotStart {
        /// Account of what happened.
        reason: String,
        /// The last lines it wrote to standard error.
        #[serde(deserialize_with = "read_last_lines")]
        stderr: Vec<String>,
    },
}

fn stderr_text(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; it wrote: {}", shown(&lines.join(" | "))) }
}
