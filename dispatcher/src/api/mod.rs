//! Public interface: typing, and the words for people, on top of the [client](crate::client).

pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod completions;
pub(crate) mod dispatcher;
pub(crate) mod error;
pub(crate) mod function;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod map;
pub(crate) mod progress;
pub(crate) mod submit;
