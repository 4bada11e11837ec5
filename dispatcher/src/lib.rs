//! Every core on your network behind one function call.
//!
//! ```
//! use pp_dispatcher::{Dispatcher, job};
//!
//! #[job]
//! fn fib(n: u64) -> u64 { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     pp_dispatcher::init();
//!     // `discover(true)` instead adds every `ppserver -a` on the network.
//!     let dispatcher = Dispatcher::builder().in_process(true).start()?;
//!     let jobs: Vec<_> = (10..20).map(|n| dispatcher.submit(fib, (n,))).collect();
//!     for job in jobs {
//!         println!("{}", job.wait()?);
//!     }
//!     println!("{}", dispatcher.stats());
//!     Ok(())
//! }
//! ```
//!
//! The crate is cut in two: [`core`] decides, without any I/O; the rest turns what happens into events for it and
//! performs what it decides.

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[doc(hidden)]
pub mod core;

#[cfg(feature = "shell")]
mod api;
#[cfg(feature = "shell")]
#[doc(hidden)]
pub mod client;
#[cfg(feature = "shell")]
mod links;
#[doc(hidden)]
pub mod progress;

#[cfg(feature = "shell")]
mod public {
    /// ```
    /// use pp_dispatcher::{Dispatcher, job};
    ///
    /// #[job]
    /// fn power(base: u64, exponent: u32) -> u64 {
    ///     base.pow(exponent)
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// pp_dispatcher::init();
    /// let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// assert_eq!(dispatcher.submit(power, (2, 10)).wait()?, power(2, 10));
    /// # Ok(()) }
    /// ```
    // The example is here, since with it the macro's own package would need the library built a second time, for the
    // compiler.
    pub use pp_macros::job;
    /// Functions that every node has, also one that does not run this program: to be submitted as any other.
    pub use pp_node::built_in;
    pub use pp_node::built_in::{
        Ahead, BaseFile, CommandDirectory, CommandFile, CommandFiles, CommandLine, CommandOutput,
        CommandStatus, FileError, FileFault,
    };
    /// What a node tells an operator who [watches](Dispatcher::watch) it.
    pub use pp_protocol::{
        Activity, AttemptId, Doing, EndedAttempt, FunctionLabel, FunctionPlace, LeftOut, NodeStatus,
        OutcomeKind, ProgramActivity, ProgramStanding, SessionActivity, Tally, Totals, WorkerActivity,
    };
    pub use pp_protocol::{
        Death, Farewell, HandshakeError, JobId, NodeId, Panic, ProgramRefusal, Refusal, SessionId,
        Stream as OutputStream, SystemError, Target, Violation, WorkerDeath, WorkerShortage,
    };

    pub use crate::api::builder::Builder;
    pub use crate::api::command::CommandBuilder;
    pub use crate::api::completions::{AsCompleted, as_completed};
    pub use crate::api::dispatcher::Dispatcher;
    pub use crate::api::error::{JobError, StartError, ValueFault};
    pub use crate::api::function::JobFunction;
    pub use crate::api::job::Job;
    pub use crate::api::map::{Map, Unordered};
    pub use crate::api::progress::{ProgressShown, WithProgress};
    pub use crate::api::submit::{JobBuilder, OutputPiece};
    pub use crate::client::{
        ClusterEvent, Events, JobStatus, NodeInfo, OrderError, Output, Stats, Watch, WatchError, Watched,
    };
    pub use crate::core::{
        DialStage, Failure, FailureCause, JobExplanation, JobsPerNode, NodeKind, NodeLoss, NodeReason,
        NodeRefusal, NodeState, NodeTrouble, NodeWait, NotAsKnown, PlaceAtNode, Unreachable, WaitCause,
    };
    pub use crate::links::{AddressError, NodePattern};

    pub use crate::api::init::{Init, init};

    /// Parts for the code that `#[job]` writes. Not for use by hand.
    #[doc(hidden)]
    pub mod __private {
        pub use core::any::type_name_of_val;
        pub use core::primitive::usize;

        pub use inventory;
        pub use pp_node::functions::{Function, Identity, invoke};
    }
}

#[cfg(feature = "shell")]
pub use public::*;

#[cfg(all(doctest, feature = "shell"))]
#[doc = include_str!("../../README.md")]
struct Readme;
