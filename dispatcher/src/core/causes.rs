//! Causes, as data: of attempts that failed, of nodes that are lost, of nodes that are not used. Words are for `Display`.

use std::fmt;
use std::time::Duration;

use pp_protocol::{
    Farewell, HandshakeError, Panic, ProgramRefusal, Refusal, SystemError, Violation, WorkerDeath,
    WorkerShortage, shown,
};

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
    /// The program does not run there, so that the job runs nowhere.
    ProgramRefused(Box<ProgramRefusal>),
    /// The job was for this node only, and was not running as that was lost: why.
    OnlyNodeGone(Box<NodeReason>),
    /// The job was for a node that is not known.
    NoSuchNode,
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
                    lines => write!(f, "; it last wrote: {}", shown(&lines.join(" | "))),
                }
            }
            Self::Panicked(panic) => write!(f, "it panicked: {panic}"),
            Self::NodeLost(loss) => {
                write!(f, "the node was lost while the job may have been running: {loss}")
            }
            Self::ProgramRefused(refusal) => refusal.fmt(f),
            Self::OnlyNodeGone(reason) => write!(f, "the job was for this node only, which is gone: {reason}"),
            Self::NoSuchNode => f.write_str(
                "the job was for this node only, which this dispatcher does not know: it was started again since, or was \
                 never one of its nodes; take one of Dispatcher::nodes()",
            ),
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
    /// Nothing listens at its address any more.
    NotListening {
        /// The address.
        at: String,
    },
    /// The connection to the local node broke.
    Disconnected,
    /// It said goodbye.
    Goodbye(Farewell),
    /// It does not want this dispatcher any more, or this dispatcher does not want it.
    Refused(Box<NodeRefusal>),
}

impl fmt::Display for NodeLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(silence) => write!(f, "it has been silent for {:.0} s", silence.as_secs_f64()),
            Self::Restarted => f.write_str("it restarted"),
            Self::SessionGivenUp => f.write_str("it gave up this dispatcher's session"),
            Self::NotListening { at } => not_listening(f, at),
            Self::Disconnected => f.write_str("the connection to it broke"),
            Self::Goodbye(farewell) => write!(f, "the node said goodbye: {farewell}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

fn not_listening(f: &mut fmt::Formatter<'_>, at: &str) -> fmt::Result {
    write!(f, "no ppserver listens there ({at})")
}

/// Cause for which a node is not used although it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeRefusal {
    /// There is no secret here that it could be shown.
    NoSecret,
    /// It has only announced itself, and the secret is so short that whoever made it up could guess it.
    GuessableSecret,
    /// It asks for the key of this machine, and there is none.
    NoMachineKey,
    /// The key of this machine, or the file that remembers those of nodes, cannot be used; why, and what to do.
    Keys(String),
    /// It is not the node that is known: it showed another key, or none.
    NotAsKnown(Box<NotAsKnown>),
    /// The program that it would be offered cannot be read here; which file, and what the system says.
    ProgramUnreadable(String),
    /// The handshake ended with this: the secrets or the releases differ, or it is no `ppserver`.
    Handshake {
        /// The error.
        error: HandshakeError,
        /// The address.
        at: String,
    },
    /// It takes no session of this dispatcher, or ended it.
    Session(Refusal),
    /// Its answer to the greeting is none.
    NoWelcome,
    /// It sent what it may not.
    Violation(Violation),
    /// It is in use under another address.
    InUseElsewhere,
    /// This dispatcher was told not to use it.
    LeftOut,
    /// It does not run the program.
    Program(Box<ProgramRefusal>),
}

impl fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecret => f.write_str(
                "there is no secret here: copy the node's ~/.config/ppserver/secret to this machine, or set PP_SECRET",
            ),
            Self::GuessableSecret => f.write_str(
                "it has only announced itself, and whoever does that could guess the secret, which is a short passphrase: it \
                 is not dialled; name it in PP_NODES, or have all machines use a secret made by `ppctl secret new`",
            ),
            Self::NoMachineKey => f.write_str(
                "it asks for the key of this machine, and there is none: make one with `ppctl key new`, and add the line \
                 that it prints to the node's file of authorized keys",
            ),
            Self::Keys(reason) | Self::ProgramUnreadable(reason) => f.write_str(reason),
            Self::NotAsKnown(other) => other.fmt(f),
            Self::Handshake { error, at } => write!(f, "{error} ({at})"),
            Self::Session(refusal) => refusal.fmt(f),
            Self::NoWelcome => f.write_str("it did not answer the greeting as a ppserver does"),
            Self::Violation(rule) => write!(f, "it sent what it may not: {rule}; is it of another release?"),
            Self::InUseElsewhere => f.write_str("it is in use under another address now"),
            Self::LeftOut => f.write_str("it is left out: this dispatcher was told not to use it"),
            Self::Program(refusal) => refusal.fmt(f),
        }
    }
}

/// Node that is not the one that is known under its name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAsKnown {
    /// The key that it showed, if any.
    pub shown: Option<String>,
    /// The key by which it is known.
    pub known: String,
    /// The file that says so.
    pub file: String,
    /// The line of it.
    pub line: usize,
    /// The address.
    pub at: String,
}

impl fmt::Display for NotAsKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, known, file, line, at } = self;
        match shown {
            Some(shown) => write!(
                f,
                "it is not the node that is known: it showed the key {shown}, and the one that is known is {known}"
            ),
            None => {
                write!(f, "it is known by the key {known}, and shows none now, but asks for the secret alone")
            }
        }?;
        write!(f, "; if it was meant to change, remove line {line} of {file} ({at})")
    }
}

/// Cause for which a node cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// Its name could not be looked up.
    Name(SystemError),
    /// Its name has no address.
    NoAddress,
    /// The machine answered, and nothing listens there.
    NotListening {
        /// The address.
        at: String,
    },
    /// The machine did not answer in time.
    NoAnswer {
        /// The address.
        at: String,
        /// The time.
        within: Duration,
    },
    /// No connection could be made.
    NotConnected {
        /// The error.
        error: SystemError,
        /// The address.
        at: String,
    },
    /// The handshake broke off, or was not answered in time.
    Handshake {
        /// The error.
        error: HandshakeError,
        /// The address.
        at: String,
    },
    /// It knows the secret, and did not answer the greeting or the order in time.
    NotAnswered,
    /// The connection broke before the greeting or the order was answered; how, for people.
    Broken(String),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NoAddress => f.write_str("its name has no address"),
            Self::NotListening { at } => not_listening(f, at),
            Self::NoAnswer { at, within } => write!(f, "no answer within {} s ({at})", within.as_secs()),
            Self::NotConnected { error, at } => write!(f, "{error} ({at})"),
            Self::Handshake { error, at } => write!(f, "{error} ({at})"),
            Self::NotAnswered => f.write_str("it does not answer; is it frozen?"),
            Self::Broken(how) => f.write_str(how),
        }
    }
}

/// Trouble of a node that is connected: it starts no workers just now, or fewer than it has slots, and tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeTrouble {
    /// Its machine gives fewer workers than it has slots.
    Workers(WorkerShortage),
    /// The program's workers do not start, or it could not be stored; why, in the words of the node.
    Program(String),
}

impl fmt::Display for NodeTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(shortage) => shortage.fmt(f),
            Self::Program(reason) => f.write_str(reason),
        }
    }
}

/// Stage of a dial that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DialStage {
    /// It was announced and has proved nothing, and others like it are dialled before it.
    Turn,
    /// Its name is being looked up.
    Name,
    /// Its machine has not answered yet.
    Connection,
    /// It has not proved yet that it knows the secret.
    Proof,
    /// It has not answered the greeting yet.
    Welcome,
}

impl fmt::Display for DialStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => {
                "it has not proved yet that it knows the secret, and others that have not are dialled before it"
            }
            Self::Name => "its name is being looked up",
            Self::Connection => {
                "no answer yet: is the machine on, and is nothing between that drops what is sent?"
            }
            Self::Proof => {
                "it has taken the connection and says nothing yet: is it frozen or overloaded, and is it a ppserver?"
            }
            Self::Welcome => "it knows the secret and has not answered the greeting yet: is it overloaded?",
        })
    }
}

/// Reason why a node is not used, or not all of it.
///
/// ```
/// use pp_dispatcher::{Dispatcher, NodeReason, NodeRefusal};
///
/// /// Nodes that want another secret, or run another release.
/// fn to_be_set_up(dispatcher: &Dispatcher) -> Vec<String> {
///     let refuse = |reason: &NodeReason| matches!(reason, NodeReason::Refused(NodeRefusal::Handshake { .. }));
///     let nodes = dispatcher.nodes().into_iter();
///     nodes.filter(|node| node.reason.as_ref().is_some_and(refuse)).map(|node| node.address).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeReason {
    /// It is being dialled.
    Dialling(DialStage),
    /// It cannot be reached.
    Unreachable(Unreachable),
    /// It was lost, and has not answered since.
    Lost(NodeLoss),
    /// It is not used although it answers.
    Refused(NodeRefusal),
    /// It is the same node as one that is in use.
    SameNode {
        /// Its address, as it was named.
        here: String,
        /// The address under which it is in use.
        there: String,
    },
    /// It is connected, and cannot start all workers just now.
    Troubled(NodeTrouble),
    /// It has come and gone again and again, and rests for a while.
    Resting,
    /// The dispatcher has ended.
    ShutDown,
}

impl fmt::Display for NodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialling(stage) => stage.fmt(f),
            Self::Unreachable(cause) => cause.fmt(f),
            Self::Lost(loss) => loss.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::SameNode { here, there } => {
                write!(f, "{here} is the same node as {there}, which is in use")
            }
            Self::Troubled(trouble) => trouble.fmt(f),
            Self::Resting => f.write_str(
                "it has come and gone again and again; it gets jobs once it has stayed for a while",
            ),
            Self::ShutDown => f.write_str("the dispatcher has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pp_protocol::Death;

    use super::*;

    #[test]
    fn every_cause_is_told_in_words_that_say_what_happened() {
        let at = || "10.0.0.2:60000".to_owned();
        let missing = ProgramRefusal::Unavailable("it was removed".into());
        let silent = NodeLoss::Silent(Duration::from_secs(5));
        for (loss, words) in [
            (silent.clone(), "it has been silent for 5 s"),
            (NodeLoss::Restarted, "it restarted"),
            (NodeLoss::SessionGivenUp, "it gave up this dispatcher's session"),
            (NodeLoss::NotListening { at: at() }, "no ppserver listens there (10.0.0.2:60000)"),
            (NodeLoss::Disconnected, "the connection to it broke"),
            (
                NodeLoss::Refused(Box::new(NodeRefusal::InUseElsewhere)),
                "it is in use under another address now",
            ),
        ] {
            assert_eq!(loss.to_string(), words);
        }
        for (refusal, words) in [
            (NodeRefusal::ProgramUnreadable("no such file".into()), "no such file".into()),
            (NodeRefusal::NoWelcome, "it did not answer the greeting as a ppserver does".into()),
            (NodeRefusal::Program(Box::new(missing.clone())), missing.to_string()),
        ] {
            assert_eq!(refusal.to_string(), words);
        }
        let no_answer = Unreachable::NoAnswer { at: at(), within: Duration::from_secs(4) };
        let shut_down = NodeReason::ShutDown;
        let same = NodeReason::SameNode { here: "alpha".into(), there: "10.0.0.2".into() };
        for (reason, words) in [
            (NodeReason::Dialling(DialStage::Name), "its name is being looked up"),
            (NodeReason::Unreachable(no_answer), "no answer within 4 s (10.0.0.2:60000)"),
            (NodeReason::Lost(silent.clone()), "it has been silent for 5 s"),
            (NodeReason::Refused(NodeRefusal::InUseElsewhere), "it is in use under another address now"),
            (same, "alpha is the same node as 10.0.0.2, which is in use"),
            (NodeReason::Troubled(NodeTrouble::Program("the disk is full".into())), "the disk is full"),
            (shut_down, "the dispatcher has ended"),
        ] {
            assert_eq!(reason.to_string(), words);
        }
        let death = |stderr: &[&str]| {
            let stderr = stderr.iter().map(|line| (*line).into()).collect();
            FailureCause::WorkerDied(Box::new(WorkerDeath::new(Death::Signal(11), stderr)))
        };
        let how = Death::Signal(11);
        let lost = "attempt 3 on host: the node was lost while the job may have been running: it has been silent for 5 s";
        for (attempt, cause, words) in [
            (1, death(&[]), format!("attempt 1 on host: its worker {how}")),
            (2, death(&["a", "b"]), format!("attempt 2 on host: its worker {how}; it last wrote: a | b")),
            (3, FailureCause::NodeLost(silent), lost.into()),
            (0, FailureCause::ProgramRefused(Box::new(missing.clone())), format!("on host: {missing}")),
        ] {
            assert_eq!(Failure { attempt, node: "host".into(), cause }.to_string(), words);
        }
    }
}
