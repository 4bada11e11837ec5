//! Users' values, arguments and results, as bytes that say what they are.
//!
//! The messages of this project are encoded by position ([`codec`](crate::codec)): both sides know their types, which are
//! written for that. Users' types are not. Many of `serde`'s attributes (`skip_serializing_if`, `flatten`, `untagged`,
//! `tag`) need a form that tells what comes next and how it is called; by position, they yield other values than were
//! sent. So each value here begins with a byte that tells its kind, and carries names. That costs little:
//!
//! ```text
//! payload:  values, [names]
//! value:    kind, [number or length], [content]
//! struct:   number of a shape, then its fields by position
//! variant:  number of its name, content (unless it has none)
//! names:    names of fields and variants, each once; shapes: lists of the names of fields, each once
//! ```
//!
//! Small numbers, short texts and lists, structs and variants have one byte before their content, so that most values are
//! no larger than they would be by position. A payload without structs and enums has no names. Where a struct is read
//! whose fields are those of the shape, in that order, it is read by position; where not, by name, as a map.
//!
//! A type that cannot be read that way (some that are written by hand know fields by name only) is tried once more with all
//! structs by name, as they are in JSON. What cannot be read then either is an error that tells the place: type, field,
//! index. So is a part that its type does not read, or whose error it keeps to itself: what follows would be taken for it.
//!
//! Types that ask whether they are read by people are told so, though these bytes are not: `serde` says it to what is
//! within `flatten` and the like in any case, and both sides have to be told the same.
//!
//! Not carried is what `serde` itself does not tell apart: a variant of an `untagged` enum arrives as the first one that
//! takes such a value.
//!
//! All lengths are checked against the bytes that are there, and nothing takes less than a byte; values nested too deeply
//! are refused on both sides, before the stack is full.

mod access;
mod decode;
mod encode;
mod error;
mod kind;
mod names;
mod nesting;
mod number;
mod packed;
mod parts;
mod reader;
mod rest;
mod source;
#[cfg(test)]
mod tests;
mod writer;

pub use self::encode::{Output, encode, encode_arguments};
pub use self::error::ValueError;
pub use self::source::{Source, decode};
