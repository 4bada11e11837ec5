//! One machine's share of the cluster.
//!
//! A node has slots, each with a worker process; sessions, one for each dispatcher; and a store of the programs the
//! dispatchers sent. [`core`] decides, without any I/O; the rest of this crate performs what it decides.
//! A dispatcher's own cores are a node too, served in the same process over an in-memory transport.

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "shell")]
mod beneath;
#[cfg(feature = "shell")]
pub mod built_in;
#[cfg(feature = "shell")]
pub mod confinement;
pub mod core;
#[cfg(feature = "shell")]
mod descriptors;
#[cfg(feature = "shell")]
pub mod functions;
#[cfg(feature = "shell")]
mod kept;
#[cfg(all(feature = "shell", target_os = "linux"))]
#[doc(hidden)]
pub mod launcher;
#[cfg(feature = "shell")]
#[doc(hidden)]
mod lending;
#[cfg(feature = "shell")]
mod locked;
#[cfg(feature = "shell")]
pub mod page;
#[cfg(feature = "shell")]
#[doc(hidden)]
pub mod pool;
#[cfg(feature = "shell")]
#[doc(hidden)]
pub mod processes;
#[cfg(feature = "shell")]
mod scratch;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "shell")]
mod stack;
#[cfg(feature = "shell")]
mod store;
#[cfg(feature = "shell")]
pub mod worker;
mod wrapping;

pub use crate::core::{Accepted, Counters, Proof, SessionStatistics, Statistics, SystemLoad};
#[cfg(feature = "shell")]
pub use descriptors::{TooFewDescriptors, ensure_descriptors};
#[cfg(feature = "shell")]
pub use shell::{Node, NodeConfig, StartError, StoreConfig, Workers, own_executable, processors};
#[cfg(feature = "shell")]
pub use stack::on_enough_stack;
