//! Causes, as data: of attempts that failed, of nodes that are lost, of nodes that are not used. Words are for `Display`.

use std::fmt;
use std::time::Duration;

use pp_protocol::{Panic, ProgramRefusal, WorkerDeath};

/// An attempt that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Number of the attempt, from 1; 0 if the job was never tried.
    pub attempt: u32,
    /// Name of the node.
    pub node: String,
    /// Cause.
    pub cause: FailureCause,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt {
            0 => write!(f, "on {}: {}", self.node, self.cause),
            attempt => write!(f, "attempt {attempt} on {}: {}", self.node, self.cause),
        }
    }
}

/// Cause for which an attempt came to nothing.
///
/// ```
/// use pp_dispatcher::{Death, FailureCause, JobError};
///
/// /// Whether a job needs a larger machine.
/// fn was_too_large(error: &JobError) -> bool {
///     let JobError::Lost(history) = error else { return false };
///     let out_of_memory = |cause: &FailureCause| {
///         matches!(cause, FailureCause::WorkerDied(death) if death.death == Death::OutOfMemory)
///     };
///     history.iter().any(|failure| out_of_memory(&failure.cause))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureCause {
    /// The worker that ran it died: by which signal or exit code, or for lack of memory, and its last words.
    WorkerDied(Box<WorkerDeath>),
    /// The function panicked, which was to be tried again.
    Panicked(Box<Panic>),
    /// The node was lost while the job may have been running there.
    NodeLost(NodeLoss),
    /// The program does not run there, so that it runs nowhere.
    ProgramRefused(Box<ProgramRefusal>),
    /// The dispatcher only observes nodes.
    Observer,
    /// The dispatcher does not offer the program of the function to any node.
    NotOffered,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerDied(death) => {
                write!(f, "its worker {}", death.death)?;
                match &death.stderr[..] {
                    [] => Ok(()),
                    lines => write!(f, "; it last wrote: {}", lines.join(" | ")),
                }
            }
            Self::Panicked(panic) => write!(f, "it panicked: {panic}"),
            Self::NodeLost(loss) => {
                write!(f, "the node was lost while the job may have been running: {loss}")
            }
            Self::ProgramRefused(refusal) => refusal.fmt(f),
            Self::Observer => f.write_str(
                "it only observes nodes and runs no jobs; submit to one that is built without observer(true)",
            ),
            Self::NotOffered => f.write_str(
                "it calls only functions that nodes have themselves, and sends no program to any; submit to one that is \
                 built without only_built_in(true)",
            ),
        }
    }
}

/// Cause for which a node is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeLoss {
    /// It was silent for so long.
    Silent(Duration),
    /// It answers as another life of itself.
    Restarted,
    /// It gave up this dispatcher's session, not having heard of it for too long.
    SessionGivenUp,
    /// Nothing listens at its address any more; what was found there, for people.
    NotListening(String),
    /// The connection to the local node broke; how, for people.
    Disconnected(String),
    /// It said goodbye; its reason, for people.
    Goodbye(String),
    /// It does not want this dispatcher any more, or this dispatcher does not want it.
    Refused(NodeRefusal),
}

impl NodeLoss {
    /// Whether it is of no use to dial it again soon.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for NodeLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(silence) => write!(f, "it has been silent for {:.0} s", silence.as_secs_f64()),
            Self::Restarted => f.write_str("it restarted"),
            Self::SessionGivenUp => f.write_str("it gave up this dispatcher's session"),
            Self::NotListening(reason) | Self::Disconnected(reason) => f.write_str(reason),
            Self::Goodbye(reason) => write!(f, "the node said goodbye: {reason}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// Cause for which a node is not used although it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeRefusal {
    /// It, or this side, broke off the greeting or the session; why and what to do, for people.
    Session(String),
    /// It sent what it may not; which rule that broke, for people.
    Violation(String),
    /// It is in use under another address.
    InUseElsewhere,
    /// It does not run the program.
    Program(Box<ProgramRefusal>),
}

impl fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(reason) => f.write_str(reason),
            Self::Violation(rule) => write!(f, "it sent what it may not: {rule}; is it of another release?"),
            Self::InUseElsewhere => f.write_str("it is in use under another address now"),
            Self::Program(refusal) => refusal.fmt(f),
        }
    }
}
