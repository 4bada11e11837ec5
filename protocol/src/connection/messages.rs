//! Division of messages into bytes, and their order: which may overtake which.
//!
//! The first byte of a message tells its kind: a list in its [packed](crate::packed) form, or one of the others in the form
//! of the codec, which begins with the variant's place among its siblings.

use bytes::Bytes;
use serde::Serialize;

use super::SendError;
use crate::codec::{self, DecodeError};
use crate::limits::{
    BULK_BYTES, LIST_ITEMS, MESSAGE_BYTES, MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES, PROGRAM_CHUNK_BYTES,
};
use crate::packed::{self, Input};
use crate::{Attempt, AttemptId, Digest, FromNode, Outcome, OutputLine, ToNode};

/// First bytes of the lists. No enum here has so many variants.
const RUN: u8 = 0xf0;
const OUTCOMES: u8 = 0xf1;
const PROGRAM_CHUNK: u8 = 0xf2;

/// A list with the largest payload there may be in it.
const LARGEST_LIST_BYTES: usize = PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES;

/// Writer of a piece of a message that was just appended to `out`; a large payload that belongs at its end was left
/// out, and is the second argument.
pub type EndPiece<'a> = &'a mut dyn FnMut(&mut Vec<u8>, Option<Bytes>) -> Result<(), SendError>;

/// Messages of one direction, as a [`Transport`](super::Transport) carries them.
pub trait Message: Sized + Send + 'static {
    /// Appends the message to `out` in pieces that are small, as far as it can be divided.
    ///
    /// # Errors
    /// When something in it cannot be serialised, and what `end_piece` comes to.
    fn encode(&self, out: &mut Vec<u8>, end_piece: EndPiece<'_>) -> Result<(), SendError>;

    /// Takes the next message, or piece of one, off `input`.
    ///
    /// # Errors
    /// When what arrived is none.
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError>;

    /// Most bytes that a message may have which begins with this byte.
    fn largest(first: u8) -> usize;

    /// Whether a large message that begins with this byte is of payloads, which other processes may be let read.
    fn is_of_payloads(first: u8) -> bool;

    /// Bytes that it holds while it waits to be sent, as far as nothing else limits what waits.
    fn weight(&self) -> usize;

    /// Whether this message must not overtake a large one queued before it.
    fn follows_bulk(&self) -> bool;

    /// Whether this message is a greeting: nothing queued after it may overtake it, however large it is.
    fn is_greeting(&self) -> bool;
}

/// Cuts `items` into runs whose weights add up to at most `BULK_BYTES / 2`; an item heavier than that stands alone.
fn runs<T>(mut items: &[T], weight: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    const RUN_BYTES: usize = BULK_BYTES / 2;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += weight(item);
            bytes <= RUN_BYTES
        };
        let count = items.iter().take(LIST_ITEMS).take_while(fits).count().max(1);
        let (run, rest) = items.split_at_checked(count)?;
        items = rest;
        Some(run)
    })
}

fn encode_whole<T: Serialize>(
    message: &T,
    out: &mut Vec<u8>,
    end_piece: EndPiece<'_>,
) -> Result<(), SendError> {
    codec::encode(message, out)?;
    end_piece(out, None)
}

/// In lists as long as one may be.
fn encode_in_lists<T: Serialize>(
    attempts: &[AttemptId],
    message: impl Fn(Vec<AttemptId>) -> T,
    out: &mut Vec<u8>,
    end_piece: EndPiece<'_>,
) -> Result<(), SendError> {
    attempts
        .chunks(LIST_ITEMS)
        .try_for_each(|list| encode_whole(&message(list.to_vec()), out, &mut *end_piece))
}

/// Bytes that an attempt usually takes on a wire, or a few more, beyond its arguments.
const ATTEMPT_BYTES: usize = 8;
/// The same for an outcome.
const OUTCOME_BYTES: usize = 10;
/// Weight of a message that is small.
const SMALL_WEIGHT: usize = 256;

impl Message for ToNode {
    fn encode(&self, out: &mut Vec<u8>, end_piece: EndPiece<'_>) -> Result<(), SendError> {
        match self {
            Self::Run(attempts) => {
                let weight = |attempt: &Attempt| ATTEMPT_BYTES + attempt.args.len();
                runs(attempts, weight).try_for_each(|run| {
                    out.push(RUN);
                    let left_out = packed::put_attempts(run, BULK_BYTES, out);
                    end_piece(out, left_out)
                })
            }
            Self::ProgramChunk { digest, number, last, bytes } => {
                out.push(PROGRAM_CHUNK);
                out.extend_from_slice(&digest.0);
                out.extend_from_slice(&number.to_le_bytes());
                out.push(u8::from(*last));
                let left_out = packed::put_payload(bytes, BULK_BYTES, out);
                end_piece(out, left_out)
            }
            Self::Cancel(attempts) => encode_in_lists(attempts, Self::Cancel, out, end_piece),
            Self::Recall(attempts) => encode_in_lists(attempts, Self::Recall, out, end_piece),
            other => encode_whole(other, out, end_piece),
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match input.peek() {
            Some(RUN) => {
                input.byte()?;
                Ok(Self::Run(packed::attempts(input)?))
            }
            Some(PROGRAM_CHUNK) => {
                input.byte()?;
                let digest = Digest(input.fixed()?);
                let number = u32::from_le_bytes(input.fixed()?);
                let last = input.byte()? != 0;
                Ok(Self::ProgramChunk { digest, number, last, bytes: input.payload()? })
            }
            _ => input.value(),
        }
    }

    fn largest(first: u8) -> usize {
        match first {
            RUN => LARGEST_LIST_BYTES,
            PROGRAM_CHUNK => PROGRAM_CHUNK_BYTES + MESSAGE_OVERHEAD_BYTES,
            _ => MESSAGE_BYTES,
        }
    }

    fn is_of_payloads(first: u8) -> bool {
        first == RUN
    }

    fn weight(&self) -> usize {
        match self {
            // The node limits both: by its window and its memory, and by saying what has arrived.
            Self::Run(_) | Self::ProgramChunk { .. } => 0,
            Self::Cancel(attempts) | Self::Recall(attempts) => {
                SMALL_WEIGHT + attempts.len() * size_of::<AttemptId>()
            }
            _ => SMALL_WEIGHT,
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(
            self,
            Self::Cancel(_)
                | Self::Recall(_)
                | Self::ProgramChunk { .. }
                | Self::ProgramUnavailable(..)
                | Self::Goodbye
        )
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Hello(_))
    }
}

impl Message for FromNode {
    fn encode(&self, out: &mut Vec<u8>, end_piece: EndPiece<'_>) -> Result<(), SendError> {
        match self {
            Self::Outcomes(first, outcomes) => {
                let mut first = *first;
                let weight = |outcome: &Outcome| outcome.weight() - Outcome::FIXED_BYTES + OUTCOME_BYTES;
                runs(outcomes, weight).try_for_each(|run| {
                    out.push(OUTCOMES);
                    let left_out = packed::put_outcomes(first, run, BULK_BYTES, out)?;
                    // Whoever wrote it may have begun anywhere.
                    first = first.saturating_add(run.len() as u64);
                    end_piece(out, left_out)
                })
            }
            // In pieces, so that no outcome passes what was printed before it.
            Self::Output(lines) => runs(lines, OutputLine::weight)
                .try_for_each(|run| encode_whole(&Self::Output(run.to_vec()), out, &mut *end_piece)),
            other => encode_whole(other, out, end_piece),
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if input.peek() != Some(OUTCOMES) {
            return input.value();
        }
        input.byte()?;
        let (first, outcomes) = packed::outcomes(input)?;
        Ok(Self::Outcomes(first, outcomes))
    }

    fn largest(first: u8) -> usize {
        if first == OUTCOMES { LARGEST_LIST_BYTES } else { MESSAGE_BYTES }
    }

    fn is_of_payloads(first: u8) -> bool {
        first == OUTCOMES
    }

    fn weight(&self) -> usize {
        match self {
            Self::Outcomes(_, outcomes) => outcomes.iter().map(Outcome::weight).sum(),
            Self::Output(lines) => lines.iter().map(OutputLine::weight).sum(),
            Self::Part(_, part) => part.weight(),
            Self::Activity(activity) => activity.weight(),
            _ => SMALL_WEIGHT,
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(self, Self::Goodbye(_))
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Welcome(_) | Self::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_last_numbers_there_are_do_not_overflow() {
        let sent = FromNode::Outcomes(u64::MAX, samples::outcomes());
        let mut encoded = Vec::new();
        sent.encode(&mut encoded, &mut |out, left_out| {
            out.extend_from_slice(&left_out.unwrap_or_default());
            Ok(())
        })
        .unwrap();
        assert!(matches!(FromNode::decode(&mut Input::new(&encoded)), Ok(FromNode::Outcomes(u64::MAX, _))));
    }
}
