//! Pieces of work and their ends, between a node and a worker.

use std::ops::Range;

use super::input::{Input, put_number};
use crate::codec::{self, DecodeError, EncodeError};
use crate::limits::PART_BYTES;
use crate::worker::{Finished, WorkResult};
use crate::{FunctionId, Payload, Stream};

/// End of a piece of work: with a result that follows, in another way, with a result that is elsewhere.
const FINISHED_HERE: u8 = 0;
const FINISHED_OTHERWISE: u8 = 1;
const FINISHED_LENT: u8 = 2;

/// Streams of parts.
const STDOUT: u8 = 0;
const STDERR: u8 = 1;

/// A payload that is not sent: the other side reads it where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// Under which number it is returned.
    pub number: u32,
    /// Place in the memory of the lender.
    pub range: Range<usize>,
}

/// The arguments of a piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Args<'a> {
    /// They are here.
    Here(&'a [u8]),
    /// They are where the node has them.
    Lent(Lent),
}

/// Added to the length of arguments that are elsewhere. No payload is so long.
const LENT: u64 = 1 << 40;

/// Appends a piece of work but for its arguments, which must follow.
#[inline]
pub fn put_work(number: u32, function: FunctionId, args_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&function.0.to_le_bytes());
    put_number(args_bytes as u64, out);
}

/// Appends a piece of work whose arguments are lent.
pub fn put_work_lent(number: u32, function: FunctionId, args: &Lent, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&function.0.to_le_bytes());
    put_number(LENT | args.range.len() as u64, out);
    put_number(args.number.into(), out);
    put_number(args.range.start as u64, out);
}

/// The next piece of work: its number, the function to call, the arguments.
///
/// # Errors
/// When what follows is none.
#[inline]
pub fn work<'a>(input: &mut Input<'a>) -> Result<(u32, FunctionId, Args<'a>), DecodeError> {
    let number = u32::from_le_bytes(input.fixed()?);
    let function = FunctionId(u64::from_le_bytes(input.fixed()?));
    let length = input.number()?;
    let args =
        if length < LENT { Args::Here(input.taken(length)?) } else { Args::Lent(input.lent(length - LENT)?) };
    Ok((number, function, args))
}

/// Appends the end of a piece of work that yielded a result, but for the result, which must follow.
#[inline]
pub fn put_succeeded(number: u32, run_time_ns: u64, result_bytes: usize, out: &mut Vec<u8>) {
    out.push(FINISHED_HERE);
    out.extend_from_slice(&number.to_le_bytes());
    put_number(run_time_ns, out);
    put_number(result_bytes as u64, out);
}

/// Appends the end of a piece of work whose result is lent.
pub fn put_succeeded_lent(number: u32, run_time_ns: u64, result: &Lent, out: &mut Vec<u8>) {
    out.push(FINISHED_LENT);
    out.extend_from_slice(&number.to_le_bytes());
    put_number(run_time_ns, out);
    put_number(result.range.len() as u64, out);
    put_number(result.number.into(), out);
    put_number(result.range.start as u64, out);
}

/// Appends the end of a piece of work.
///
/// # Errors
/// Never, as far as the types of this crate go.
pub fn put_finished(finished: &Finished, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(FINISHED_OTHERWISE);
    codec::encode(finished, out)
}

/// The next end of a piece of work. `borrow` yields a result that is lent.
///
/// # Errors
/// When what follows is none, or `borrow` yields nothing.
#[inline]
pub fn finished(
    input: &mut Input<'_>,
    borrow: impl FnOnce(Lent) -> Option<Payload>,
) -> Result<Finished, DecodeError> {
    let kind = input.byte()?;
    if kind != FINISHED_HERE {
        return finished_otherwise(kind, input, borrow);
    }
    let number = u32::from_le_bytes(input.fixed()?);
    let run_time_ns = input.number()?;
    Ok(Finished { number, run_time_ns, result: WorkResult::Succeeded(input.payload()?) })
}

#[cold]
fn finished_otherwise(
    kind: u8,
    input: &mut Input<'_>,
    borrow: impl FnOnce(Lent) -> Option<Payload>,
) -> Result<Finished, DecodeError> {
    match kind {
        FINISHED_OTHERWISE => input.value(),
        FINISHED_LENT => {
            let number = u32::from_le_bytes(input.fixed()?);
            let (run_time_ns, length) = (input.number()?, input.number()?);
            let result = borrow(input.lent(length)?).ok_or(DecodeError::NotANumber)?;
            Ok(Finished { number, run_time_ns, result: WorkResult::Succeeded(result) })
        }
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Appends a part of what the piece of work of this number sends ahead, but for its bytes, which must follow.
pub fn put_part(number: u32, stream: Stream, bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
    out.push(match stream {
        Stream::Stdout => STDOUT,
        Stream::Stderr => STDERR,
    });
    put_number(bytes as u64, out);
}

/// The next such part.
///
/// # Errors
/// When what follows is none, or one that is too large.
pub fn part(input: &mut Input<'_>) -> Result<(u32, Stream, Payload), DecodeError> {
    let number = u32::from_le_bytes(input.fixed()?);
    let stream = match input.byte()? {
        STDOUT => Stream::Stdout,
        STDERR => Stream::Stderr,
        kind => return Err(DecodeError::UnknownKind(kind)),
    };
    let bytes = input.payload()?;
    if bytes.len() > PART_BYTES { Err(DecodeError::NotANumber) } else { Ok((number, stream, bytes)) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::worker::Work;

    #[test]
    fn work_and_its_end_come_back_as_they_were() {
        let sent = Work { number: u32::MAX, function: FunctionId(7), args: Payload::from(vec![1; 300]) };
        let ends = [
            Finished { number: 0, run_time_ns: u64::MAX, result: WorkResult::Succeeded(sent.args.clone()) },
            Finished { number: 1 << 31, run_time_ns: 0, result: WorkResult::UnknownFunction },
        ];
        let mut out = Vec::new();
        put_work(sent.number, sent.function, sent.args.len(), &mut out);
        out.extend_from_slice(&sent.args);
        put_succeeded(ends[0].number, ends[0].run_time_ns, sent.args.len(), &mut out);
        out.extend_from_slice(&sent.args);
        put_finished(&ends[1], &mut out).unwrap();
        let frame = Bytes::from(out);
        let mut input = Input::new(&frame);
        assert_eq!(work(&mut input).unwrap(), (sent.number, sent.function, Args::Here(&sent.args)));
        for end in ends {
            assert_eq!(finished(&mut input, |_| None).unwrap(), end);
        }
        assert!(input.is_empty());
    }

    #[test]
    fn parts_come_back_as_they_were_and_none_is_too_large() {
        let read = |stream, bytes: usize| {
            let mut out = Vec::new();
            put_part(9, stream, bytes, &mut out);
            out.resize(out.len() + bytes, 7);
            part(&mut Input::new(&out))
        };
        for (stream, bytes) in [(Stream::Stdout, 0), (Stream::Stderr, 1), (Stream::Stdout, PART_BYTES)] {
            assert_eq!(read(stream, bytes).unwrap(), (9, stream, Payload::from(vec![7; bytes])));
        }
        assert!(read(Stream::Stderr, PART_BYTES + 1).is_err());
        assert!(part(&mut Input::new(&[9, 0, 0, 0, 2, 0])).is_err(), "there is no such stream");
    }

    #[test]
    fn what_is_lent_comes_back_as_it_was() {
        let lent = Lent { number: 255, range: (3 << 30)..(3 << 30) + (1 << 30) };
        let mut out = Vec::new();
        put_work_lent(9, FunctionId(7), &lent, &mut out);
        put_succeeded_lent(9, 5, &lent, &mut out);
        put_succeeded_lent(10, 5, &lent, &mut out);
        let frame = Bytes::from(out);
        let mut input = Input::new(&frame);
        assert_eq!(work(&mut input).unwrap(), (9, FunctionId(7), Args::Lent(lent.clone())));
        let borrowed = finished(&mut input, |borrowed| (borrowed == lent).then(Payload::default)).unwrap();
        assert_eq!(borrowed.result, WorkResult::Succeeded(Payload::default()));
        assert!(finished(&mut input, |_| None).is_err(), "what cannot be borrowed is no outcome");
        assert!(input.is_empty());
    }
}
