//! The form on a wire of what nearly everything on it is: lists of attempts and of outcomes.
//!
//! A no-op job and its outcome take a few bytes here and a few nanoseconds; [`codec`](crate::codec) does the rest of every message. A
//! list is packed item by item, each behind a byte that says what it has in common with the one before it:
//!
//! ```text
//! attempt:  flags, [place], [generation], [number], [program], [function], [time limit], length of arguments, arguments
//! outcome:  flags, [place], [generation], [number], run time, length of result, result (or another end, by the codec)
//! work:     number (four bytes), function (eight bytes), length of arguments, arguments; or LENT and their length as one
//!           number, number of the lending, their place
//! finished: 0, number (four bytes), run time, length of result, result; or 1, and the rest by the codec; or 2, number
//!           (four bytes), run time, length of result, number of the lending, its place
//! part:     number (four bytes), 0 standard output or 1 standard error, length of bytes, bytes
//! ```
//!
//! Parts in brackets are left out if their flag is set. Numbers are LEB128: seven bits a byte, the low ones first. A place
//! is told by its distance from the one expected, with the sign in the lowest bit.

mod input;
mod lists;
mod work;

pub use self::input::Input;
pub(crate) use self::input::put_payload;
pub(crate) use self::lists::{attempts, outcomes, put_attempts, put_outcomes};
pub use self::work::{
    Args, Lent, finished, part, put_finished, put_part, put_succeeded, put_succeeded_lent, put_work,
    put_work_lent, work,
};
