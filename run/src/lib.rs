//! Command lines from arguments, as GNU parallel 20221122 composes them: `COMMAND ::: ARGS`.
//!
//! This crate does no I/O of its own. A shell around it reads arguments and files, runs what is composed, and prints; the
//! rules are here. Everything is bytes: neither commands nor arguments need be UTF-8.
//!
//! ```
//! use pp_run::{Options, Plan, Start};
//!
//! let words = ["echo", "{2}-{1.}", ":::", "a.c", "b b", ":::", "1"].map(|word| word.as_bytes().to_vec());
//! let plan = Plan::new(Options::default(), words.into())?;
//! let nothing_to_open = |_: &_| Err(std::io::ErrorKind::NotFound.into());
//! let lines = plan.jobs(nothing_to_open)?.map(|job| Ok(job?.command(Start { slot: 1, total: 2 })));
//! let lines: Vec<Vec<u8>> = lines.collect::<Result<_, pp_run::ComposeError>>()?;
//! assert_eq!(lines, [b"echo 1-a".to_vec(), b"echo 1-'b b'".to_vec()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a shell needs besides: [`Records`] (a byte stream as arguments), [`blocks`] (one that is cut up for `--pipe`),
//! [`joblog`], [`halt`], [`times`], [`counts`], [`direct`], [`lines`] and [`order`] (output), [`unsupported`] (options that are
//! refused, with what to do instead).

pub mod blocks;
mod columns;
pub mod counts;
pub mod direct;
mod edit;
mod files;
pub mod halt;
mod job;
pub mod joblog;
mod jobs;
pub mod lines;
pub mod order;
mod pattern;
mod placeholder;
mod plan;
pub mod quote;
mod random;
mod records;
mod results;
mod sources;
mod template;
pub mod times;
pub mod unsupported;
mod words;

pub use columns::Trim;
pub use files::NamedFile;
pub use job::{Composed, Start};
pub use jobs::{COMMAND_BYTES, ComposeError, Jobs};
pub use pattern::{Pattern, PatternError};
pub use plan::{Options, Piping, Plan, PlanError, Several};
pub use records::{DelimiterError, RECORD_BYTES, Records, parse_delimiter};
pub use results::ResultFiles;
pub use sources::{KEPT_BYTES, Opened};
pub use template::TemplateError;
pub use words::{Input, Source, Values, Words};
