//! Messages between a node and a worker process, over the socket pair the node made for it.
//!
//! The worker is the user's program, which may have been built with another release than the node: the first byte a
//! worker sends is therefore a version, and both sides refuse politely. The order of variants and fields is the format.

use serde::{Deserialize, Serialize};

use crate::fields::read_name;
use crate::{FunctionId, Panic, Payload, Stream};

/// Version of the messages in this module. It changes with any change to them after a release.
pub const WORKER_VERSION: u16 = 1;

/// Environment variable that makes a program a worker: [`WORKER_VERSION`] of the node that started it, a space, and the
/// inode of the socket that is its standard input.
pub const WORKER_ENVIRONMENT: &str = "PP_WORKER";

/// From a worker to a node. One frame carries one of these; what a node sends is pieces of work, as many as fit a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// The worker runs and waits for work.
    Ready {
        /// [`WORKER_VERSION`] of the worker.
        version: u16,
        /// Number of its program's functions.
        functions: u32,
        /// Whether it has the arenas that the node handed to it, so that large payloads need not be sent.
        borrows: bool,
        /// Names of its functions, for people: no more than [`FUNCTIONS_NAMED`](crate::limits::FUNCTIONS_NAMED).
        names: Vec<FunctionName>,
    },
    /// Work before this number that was not claimed has been thrown away, as the node asked through the page.
    Skipped(u32),
    /// Work that ended, in order.
    Finished {
        /// Outcome of each piece.
        outcomes: Vec<Finished>,
        /// Whether all that was printed until then has been told: the node need not look.
        is_quiet: bool,
    },
    /// Bytes that the piece of work of this number, which runs, sends ahead of its result.
    Part(u32, Stream, Payload),
}

/// The name of a function, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionName {
    /// The function.
    pub function: FunctionId,
    /// The end of its path.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
}

/// One attempt as a worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Counts this worker's attempts, wrapping around.
    pub number: u32,
    /// The function to call.
    pub function: FunctionId,
    /// Its serialised arguments.
    pub args: Payload,
}

/// Outcome of one attempt, as its worker saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The number of the [`Work`].
    pub number: u32,
    /// Run time in nanoseconds.
    pub run_time_ns: u64,
    /// Its result.
    pub result: WorkResult,
}

/// Result of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkResult {
    /// The serialised result.
    Succeeded(Payload),
    /// The function panicked.
    Panicked(Panic),
    /// The result has so many bytes, and the limit is that many.
    TooLarge(u64, u64),
    /// No function of that identifier.
    UnknownFunction,
    /// The arguments could not be decoded.
    BadArguments(String),
    /// The result could not be serialised.
    BadResult(String),
}
