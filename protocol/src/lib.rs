//! Everything that crosses a wire between a dispatcher, a node and the node's workers.
//!
//! This crate owns every byte that two processes of a cluster exchange: identifiers, messages, the range of
//! protocol versions, the codec, the handshake that proves both sides know the secret, the mDNS advert, and the
//! limits that hold for all of them. It decides nothing: which job runs where is the business of the cores in
//! `pp-dispatcher` and `pp-node`.
//!
//! Without the default feature `net` only plain data is left (no tokio, no cryptography): that is what the cores
//! are built on.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod activity;
#[cfg(feature = "net")]
pub mod address;
pub mod advert;
#[cfg(any(feature = "net", feature = "codec"))]
pub mod codec;
mod fields;
mod handshake_error;
mod ids;
mod kinds;
pub mod limits;
mod message;
mod moment;
mod outcome;
#[cfg(any(feature = "net", feature = "codec"))]
pub mod packed;
mod payload;
mod role;
mod rules;
mod run_times;
#[cfg(all(test, feature = "net"))]
mod samples;
mod shown;
mod system_error;
pub mod tally;
#[cfg(any(feature = "net", feature = "codec"))]
pub mod values;
mod version;
pub mod worker;

#[cfg(all(test, feature = "net"))]
mod bounded;
#[cfg(feature = "net")]
pub mod connection;
#[cfg(feature = "net")]
pub mod environment;
#[cfg(all(test, feature = "net"))]
mod golden;
#[cfg(feature = "net")]
pub mod handshake;
#[cfg(feature = "net")]
pub mod machine;
#[cfg(feature = "net")]
pub mod private;
#[cfg(feature = "net")]
pub mod record;
#[cfg(feature = "net")]
pub mod room;
#[cfg(feature = "net")]
pub mod secret;
#[cfg(feature = "net")]
pub mod socket;
#[cfg(feature = "net")]
mod written;

pub use activity::{
    Activity, Doing, EndedAttempt, FunctionLabel, FunctionPlace, LeftOut, ProgramActivity, ProgramStanding,
    SessionActivity, Totals, WorkerActivity,
};
pub use handshake_error::{HandshakeError, MACHINE_KEYS, SHARED_SECRET};
pub use ids::{
    AttemptId, Digest, FunctionId, JobId, MachineId, NodeId, NotAJob, ProgramId, SecretId, SessionId,
};
pub use kinds::{DeathKind, HandshakeFailure, OutcomeKind, RefusalKind};
pub use message::{
    Attempt, Farewell, FromNode, Hello, JobAnswer, NodeStatus, OutputLine, Part, ProgramBuild, ProgramOffer,
    ProgramRefusal, ProgramStatus, Refusal, Resume, Stream, Target, ToNode, Welcome, WorkerShortage,
};
pub use moment::Moment;
pub use outcome::{Death, Ended, Outcome, Panic, WorkerDeath};
pub use payload::Payload;
pub use role::Role;
pub use rules::{Place, Rule, Violation};
pub use run_times::RunTimes;
pub use shown::{is_plain_name, quoted, shown, shown_lines, shown_name};
pub use system_error::SystemError;
pub use tally::Tally;
pub use version::{Version, VersionRange};

/// The port a `ppserver` listens on unless told otherwise (the port of pp's `ppserver.py`).
pub const DEFAULT_PORT: u16 = 60_000;
