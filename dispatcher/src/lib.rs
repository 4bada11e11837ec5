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

pub mod core;

#[cfg(feature = "shell")]
mod builder;
#[cfg(feature = "shell")]
mod callbacks;
#[cfg(feature = "shell")]
mod completions;
#[cfg(feature = "shell")]
mod dispatcher;
#[cfg(feature = "shell")]
mod error;
#[cfg(feature = "shell")]
mod events;
#[cfg(feature = "shell")]
mod function;
#[cfg(feature = "shell")]
mod init;
#[cfg(feature = "shell")]
mod job;
#[cfg(feature = "shell")]
mod map;
#[cfg(feature = "shell")]
mod printer;
#[cfg(feature = "shell")]
mod shared;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "shell")]
mod stats;
#[cfg(feature = "shell")]
mod submit;

#[cfg(feature = "shell")]
mod public {
    pub use pp_macros::job;
    pub use pp_protocol::{JobId, Panic, Stream};

    pub use crate::builder::{Builder, Output};
    pub use crate::completions::{AsCompleted, as_completed};
    pub use crate::dispatcher::Dispatcher;
    pub use crate::error::{Failure, JobError, ResizeError, StartError};
    pub use crate::events::{Event, Events};
    pub use crate::function::JobFunction;
    pub use crate::job::{Job, JobStatus};
    pub use crate::map::{Map, Unordered};
    pub use crate::stats::{NodeInfo, NodeKind, NodeState, Stats};
    pub use crate::submit::JobBuilder;

    pub use crate::init::{Init, init};

    /// What the code that `#[job]` writes needs. Not for use by hand.
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
