//! Errors: the ends of jobs other than well, and what else can go wrong, in words for the person who reads them.

use std::fmt;
use std::time::Duration;

use pp_protocol::Panic;

use super::function::{NotFound, name_of, remedy};
use crate::client::{CannotWait, ClientError, Failed};
use crate::core::Failure;
use crate::links::{AddressError, ProgramError};

/// End of a job, other than with a result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The function panicked on the node: message, place and (with `RUST_BACKTRACE` set there) backtrace.
    #[error("the job panicked: {0}")]
    Panicked(Panic),
    /// The job ran longer than its time limit and was killed.
    #[error("the job ran longer than its limit of {0:?} and was killed")]
    TimedOut(Duration),
    /// The job was cancelled, or the dispatcher was shut down before it ended.
    #[error("the job was cancelled")]
    Cancelled,
    /// Workers or nodes died under the job too often, or no node can run it. Says where and how, attempt by attempt.
    #[error("the job is lost: {}", History(.0))]
    Lost(Vec<Failure>),
    /// The serialised result is larger than a node accepts.
    #[error("the result has {size} bytes, the limit is {limit}; return less, or write it to a file")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The serialised arguments are larger than a node accepts; the job was not submitted.
    #[error("the arguments have {size} bytes, the limit is {limit}; pass less, or the path of a file")]
    ArgumentsTooLarge {
        /// Their size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The function is not registered in this program; the job was not submitted.
    #[error("the function {0} is not registered: {hint}", hint = remedy(.0))]
    NotRegistered(&'static str),
    /// The function pointer leads to two functions, whose code the compiler has merged; the job was not submitted.
    #[error(
        "the function pointer leads to both {first} and {second}, since the compiler has merged them: they do the same \
         here; pass the function itself, in each branch if there are several"
    )]
    SameCode {
        /// A function.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
    /// The program on the node does not know the function.
    #[error(
        "the node's build of this program does not know the function {0}; \
         was that build, added with Builder::program, made from the same source?"
    )]
    UnknownFunction(&'static str),
    /// The arguments cannot be serialised, in which case the job was not submitted; or not deserialised where it runs.
    #[error("the arguments of {function} {fault}: {reason}{remedy}", remedy = fault.remedy())]
    Arguments {
        /// The function.
        function: &'static str,
        /// Step that failed.
        fault: ValueFault,
        /// Reason, and place in the value, for people.
        reason: String,
    },
    /// The result cannot be serialised where the job ran, or not deserialised here.
    #[error(
        "the result{of}, a {type_name}, {fault}: {reason}{remedy}",
        of = function.map(|name| format!(" of {name}")).unwrap_or_default(),
        remedy = fault.remedy()
    )]
    Result {
        /// The function, as far as known.
        function: Option<&'static str>,
        /// The type of the result.
        type_name: &'static str,
        /// Step that failed.
        fault: ValueFault,
        /// Reason, and place in the value, for people.
        reason: String,
    },
    /// An option of the job makes no sense; the job was not submitted.
    #[error("{option} is {value}; it has to be {expected}")]
    Option {
        /// The method of [`JobBuilder`](crate::JobBuilder).
        option: &'static str,
        /// Value that was given.
        value: String,
        /// Values that make sense.
        expected: &'static str,
    },
    /// A file cannot go with the command, for this reason; the job was not submitted.
    #[error("{0}")]
    File(String),
    /// The dispatcher had already been shut down; the job was not submitted.
    #[error("the dispatcher has been shut down; submit jobs before that")]
    ShutDown,
    /// The system has no thread to read the inputs of a map with.
    #[error("no thread to read the inputs of the map with: {0}; end threads or raise the limit (ulimit -u)")]
    NoThread(String),
    /// The job was waited for by a waker or a `tracing` subscriber that the dispatcher's own thread calls. It goes on.
    #[error(
        "the job was waited for on the dispatcher's own thread, in a waker or a tracing subscriber, where it would never \
         end; wait on a thread of your own"
    )]
    OnDispatcherThread,
    /// A child made by `fork()` uses a dispatcher that was started before. Here nothing of the job is known; whoever
    /// submitted it before the fork can wait for it.
    #[error(
        "this process was made by fork() after a dispatcher had been started, whose threads it does not have; submit and \
         wait in the process that started it, fork before that, or have the child start a program of its own"
    )]
    Forked,
}

/// Step at which arguments or a result failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFault {
    /// They cannot be turned into bytes.
    NotSerialised,
    /// The bytes cannot be turned into a value again.
    NotDeserialised,
}

impl ValueFault {
    fn remedy(self) -> &'static str {
        match self {
            Self::NotSerialised => "",
            Self::NotDeserialised => "; it must deserialise from what it serialises to",
        }
    }
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSerialised => "cannot be serialised",
            Self::NotDeserialised => "cannot be deserialised",
        })
    }
}

impl JobError {
    /// Error of a job that has no result of this type, in the words of whoever called a function. `refused` is what was
    /// wrong with the call.
    pub(super) fn of<R>(failed: Failed, refused: Option<&Self>) -> Self {
        match failed {
            Failed::Panicked(panic) => Self::Panicked(*panic),
            Failed::TimedOut(limit) => Self::TimedOut(limit),
            Failed::Cancelled => Self::Cancelled,
            Failed::Lost(history) => Self::Lost(history),
            Failed::TooLarge { size, limit } => Self::TooLarge { size, limit },
            Failed::UnknownFunction(function) => Self::UnknownFunction(name_of(function)),
            Failed::BadArguments(function, reason) => {
                Self::Arguments { function: name_of(function), fault: ValueFault::NotDeserialised, reason }
            }
            Failed::BadResult(function, reason) => Self::Result {
                function: Some(name_of(function)),
                type_name: std::any::type_name::<R>(),
                fault: ValueFault::NotSerialised,
                reason,
            },
            Failed::ShutDown => Self::ShutDown,
            Failed::Forked => Self::Forked,
            // Only calls that were found to be wrong here are refused.
            Failed::Refused => refused.cloned().unwrap_or(Self::ShutDown),
        }
    }
}

struct History<'a>(&'a [Failure]);

impl fmt::Display for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            failure.fmt(f)?;
        }
        Ok(())
    }
}

/// A dispatcher could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `init()` was not called first in `main`, and this process is a worker.
    #[error(
        "this process was started as a worker, and it builds a dispatcher of its own: \
         call pp_dispatcher::init() as the first line of main()"
    )]
    InsideWorker,
    /// A job builds a dispatcher.
    #[error(
        "a job cannot start a dispatcher: it runs in a worker, which has no workers of its own; return what is to be done \
         next, and submit that in the program that submitted this job, from a callback, say"
    )]
    InsideJob,
    /// `init()` was not called in this process, or by a `#[test]`: its workers would run `main` from the start.
    #[error(
        "pp_dispatcher::init() was not called first in main(), so that workers, which are this program started again, would \
         do what it does instead of running jobs: call it as the first line of main(); in a #[test], which has no main() of \
         its own, use Dispatcher::builder().in_process(true), without other nodes"
    )]
    WithoutInit,
    /// This process was made by `fork()` after another dispatcher had been started.
    #[error(
        "this process was made by fork() after a dispatcher had been started, whose locks and memory it cannot use; fork \
         before that, or have the child start a program of its own"
    )]
    Forked,
    /// The functions of this program are not in order.
    #[error(transparent)]
    Functions(#[from] pp_node::functions::RegistryError),
    /// The local node could not be started.
    #[error("cannot start the local node: {0}")]
    LocalNode(#[from] pp_node::StartError),
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] pp_protocol::secret::SecretError),
    /// The key of this machine cannot be used.
    #[error(transparent)]
    MachineKey(#[from] pp_protocol::machine::KeyError),
    /// An environment variable does not have the form it should.
    #[error(transparent)]
    Environment(#[from] pp_protocol::environment::VariableError),
    /// A setting of the builder makes no sense.
    #[error("{setting} is {value}; it has to be {expected}")]
    Setting {
        /// The method of the builder.
        setting: &'static str,
        /// Value that was given.
        value: String,
        /// Values that make sense.
        expected: String,
    },
    /// More local workers than a node can have.
    #[error("a node has at most {limit} workers; ask for fewer", limit = pp_protocol::limits::SLOTS)]
    TooManyWorkers,
    /// No threads for callbacks, or more than there may be.
    #[error("{threads} threads cannot run callbacks; ask Builder::callback_threads for 1 to {most}")]
    CallbackThreads {
        /// Value that was asked for.
        threads: usize,
        /// The limit.
        most: usize,
    },
    /// A node's address does not have the form it should.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A build of the program cannot be used.
    #[error("cannot use {} as a build of this program: {reason}", .path.display())]
    Program {
        /// The file.
        path: std::path::PathBuf,
        /// Reason.
        reason: String,
    },
    /// The system refused a thread or another resource.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

impl From<NotFound> for JobError {
    fn from(reason: NotFound) -> Self {
        match reason {
            NotFound::NotRegistered(function) => Self::NotRegistered(function),
            NotFound::SameCode { first, second } => Self::SameCode { first, second },
        }
    }
}

impl From<CannotWait> for JobError {
    fn from(reason: CannotWait) -> Self {
        match reason {
            CannotWait::OnDispatcherThread => Self::OnDispatcherThread,
            CannotWait::Forked => Self::Forked,
        }
    }
}

impl From<ClientError> for StartError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Program(ProgramError { path, reason }) => Self::Program { path, reason },
            ClientError::LocalNode(error) => Self::LocalNode(error),
            ClientError::Io(error) => Self::Io(error),
        }
    }
}
