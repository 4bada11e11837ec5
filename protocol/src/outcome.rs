//! Outcomes of attempts, as a node tells them to a dispatcher. The order of variants and fields is the format: new variants
//! go last.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fields::{read_last_lines, read_lines, read_lines_if_any};
use crate::{AttemptId, Payload, shown_lines};

/// Outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The attempt that ended.
    pub id: AttemptId,
    /// Run time in nanoseconds of the node's monotonic clock; 0 if it never started.
    pub run_time_ns: u64,
    /// Its end.
    pub ended: Ended,
}

impl Outcome {
    /// Weight of an outcome without content.
    pub(crate) const FIXED_BYTES: usize = 32;

    /// About how many bytes it takes, on a wire or in memory.
    #[inline]
    pub fn weight(&self) -> usize {
        Self::FIXED_BYTES
            + match &self.ended {
                Ended::Succeeded(result) => result.len(),
                Ended::Panicked(panic) => {
                    panic.message.len() + panic.backtrace.as_ref().map_or(0, String::len) + Self::FIXED_BYTES
                }
                Ended::WorkerDied(death) => death.stderr.iter().map(String::len).sum(),
                Ended::BadArguments(text) | Ended::BadResult(text) => text.len(),
                _ => 0,
            }
    }

    /// Run time of the attempt.
    pub fn run_time(&self) -> Duration {
        Duration::from_nanos(self.run_time_ns)
    }
}

/// End of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The function returned; its serialised result.
    Succeeded(Payload),
    /// The function panicked; the worker lives on.
    Panicked(Box<Panic>),
    /// The attempt ran longer than its time limit and its worker was killed.
    TimedOut,
    /// The dispatcher asked for it to be cancelled, before or while it ran.
    Cancelled,
    /// The attempt was given back without having been started: nobody is to blame.
    Returned,
    /// The worker died while it ran this attempt.
    WorkerDied(Box<WorkerDeath>),
    /// The result is larger than the node accepts: its size and the limit, in bytes.
    TooLarge(u64, u64),
    /// The program on the node has no function of that identifier.
    UnknownFunction,
    /// The arguments could not be decoded by the function's types.
    BadArguments(String),
    /// The result could not be serialised.
    BadResult(String),
}

impl Ended {
    /// The end in one word or two, for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Panicked(_) => "panicked",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned unstarted",
            Self::WorkerDied(_) => "worker died",
            Self::TooLarge(..) => "result too large",
            Self::UnknownFunction => "unknown function",
            Self::BadArguments(_) => "bad arguments",
            Self::BadResult(_) => "bad result",
        }
    }
}

/// Message, place and backtrace of a panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panic {
    /// The panic message.
    #[serde(deserialize_with = "read_lines")]
    pub message: String,
    /// `file:line:column`, where the panic hook saw it.
    pub place: Option<String>,
    /// The backtrace, if `RUST_BACKTRACE` asked for one on the node.
    #[serde(deserialize_with = "read_lines_if_any")]
    pub backtrace: Option<String>,
}

impl Panic {
    /// A panic with this message, of which nothing else is known.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, backtrace: None }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_lines(&self.message))?;
        self.place.iter().try_for_each(|place| write!(f, " (at {place})"))
    }
}

/// Death of a worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerDeath {
    /// Signal or exit code.
    pub death: Death,
    /// The last lines it wrote to standard error.
    #[serde(deserialize_with = "read_last_lines")]
    pub stderr: Vec<String>,
}

impl WorkerDeath {
    /// A death with these last lines.
    pub fn new(death: Death, stderr: Vec<String>) -> Self {
        Self { death, stderr }
    }
}

/// Signal or exit code of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Death {
    /// Ended by this signal.
    Signal(i32),
    /// Exited with this code.
    Exit(i32),
    /// It closed its descriptor or wrote garbage on it, and was killed for that.
    Garbage,
    /// Ended, by the system or by itself, because memory ran out: the machine's, or what its node lets it have.
    OutOfMemory,
    /// It ended itself: a job closed its connection to the node.
    CutOff,
    /// It ended itself: something that a job left behind holds a lock without which nothing can be reported.
    HeldUp,
    /// It had nothing to run, owed an answer, did not give it, and was killed for that.
    Silent,
    /// It ended itself: a job ended the thread that it ran on instead of returning.
    ThreadEnded,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "was killed by signal {number} ({name})"),
                None => write!(f, "was killed by signal {number}"),
            },
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::OutOfMemory => {
                write!(
                    f,
                    "ended because memory ran out; let its jobs use less, run fewer at once, or give them more \
                     (--worker-memory of the node)"
                )
            }
            Self::Garbage => write!(f, "broke off its connection to the node"),
            Self::CutOff => write!(
                f,
                "ended because the job closed the worker's connection to its node; close descriptors by their numbers, \
                 not all there are"
            ),
            Self::HeldUp => write!(
                f,
                "ended because a thread that a job left behind holds standard output locked, which reporting needs; let \
                 it unlock that, or end it with its job"
            ),
            Self::Silent => write!(
                f,
                "was killed because the job had ended and its worker did not report what came of it; did the job leave \
                 something behind that stops the process?"
            ),
            Self::ThreadEnded => write!(
                f,
                "ended because the job ended the thread that it ran on, as pthread_exit() does; let it return, or start a \
                 thread of its own for what does so"
            ),
        }
    }
}

/// The names of the signals that end processes and have the same number on every platform supported.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}
