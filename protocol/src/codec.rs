//! The one place that knows how messages become bytes: bincode 2, variable-length integers, little endian.
//!
//! bincode is no longer developed; replacing it means rewriting this file (and a new protocol version). What most bytes
//! on a wire belong to, lists of attempts and outcomes, has a form of its own: [`packed`](crate::packed). Users' values
//! have another, since bincode carries only what is written for it: [`values`](crate::values).

use std::io::Write;

use bincode::config::{Configuration, Limit, LittleEndian, NoLimit, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::CODEC_BYTES;

const ENCODING: Configuration<LittleEndian, Varint, NoLimit> = bincode::config::standard();
/// What a decoder may claim to hold in memory: lengths that announce more are an error before anything is allocated.
const DECODING: Configuration<LittleEndian, Varint, Limit<CODEC_BYTES>> =
    bincode::config::standard().with_limit();

/// A value could not be turned into bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot serialise: {0}")]
pub struct EncodeError(bincode::error::EncodeError);

/// Bytes are not the value they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They do not parse.
    #[error("cannot decode: {0}")]
    Malformed(Box<bincode::error::DecodeError>),
    /// They parse, and some are left over.
    #[error("cannot decode: {0} bytes are left over")]
    LeftOver(usize),
    /// They end in the middle, or announce more than can follow.
    #[error("cannot decode: there is less than was announced")]
    TooShort,
    /// A number larger than what it counts can be.
    #[error("cannot decode: a number is out of its range")]
    NotANumber,
    /// A record of a kind this release does not know.
    #[error("cannot decode: a record of unknown kind {0}")]
    UnknownKind(u8),
}

/// Appends the bytes of `value` to `out`.
///
/// # Errors
/// When the value's own `Serialize` fails, or it holds something of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> Result<(), EncodeError> {
    bincode::serde::encode_into_std_write(value, out, ENCODING).map(|_| ()).map_err(EncodeError)
}

/// Decodes all of `bytes` into a value that owns its data.
///
/// # Errors
/// When the bytes do not parse or some are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let value = decode_first(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::LeftOver(rest.len())) }
}

/// Takes the value that `bytes` begin with off them.
pub(crate) fn decode_first<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, DECODING)
        .map_err(|error| DecodeError::Malformed(Box::new(error)))?;
    *bytes = &bytes[used..];
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_an_error_not_an_allocation() {
        let mut bytes = Vec::new();
        encode(&(u64::MAX >> 1), &mut bytes).unwrap();
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn a_length_that_is_a_lie_is_no_reason_to_ask_for_more_memory_than_an_honest_message_takes() {
        use bincode::error::DecodeError::LimitExceeded;

        use crate::limits::WINDOW_ATTEMPTS;
        use crate::{AttemptId, JobId, ToNode};

        for length in [CODEC_BYTES as u64 + 1, 900 << 20] {
            let mut lie = Vec::new();
            encode(&length, &mut lie).unwrap();
            lie.extend([b'x'; 64]);
            let refused = decode::<String>(&lie);
            let Err(DecodeError::Malformed(error)) = refused else { panic!("{refused:?}") };
            assert!(matches!(*error, LimitExceeded), "{error:?}");
        }
        let attempt = |n| AttemptId { job: JobId::new(n, u32::MAX), number: u32::MAX };
        let longest = ToNode::Cancel((0..WINDOW_ATTEMPTS).map(attempt).collect());
        let mut bytes = Vec::new();
        encode(&longest, &mut bytes).unwrap();
        assert_eq!(decode::<ToNode>(&bytes).unwrap(), longest);
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(DecodeError::LeftOver(1))));
    }
}
