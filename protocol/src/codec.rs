//! The one place that knows how values become bytes: bincode 2, variable-length integers, little endian.
//!
//! bincode is no longer developed; replacing it means rewriting this file (and a new protocol version).

use bincode::config::{Configuration, Limit, LittleEndian, NoLimit, Varint};
use bytes::Bytes;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use crate::limits::{MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES};
use crate::payload::{apart, with_frame};

const ENCODING: Configuration<LittleEndian, Varint, NoLimit> = bincode::config::standard();
/// What a decoder may claim to hold in memory: lengths that announce more are an error before anything is allocated.
const DECODING: Configuration<LittleEndian, Varint, Limit<{ PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES }>> =
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
    /// A record of a kind this release does not know.
    #[error("cannot decode: a record of unknown kind {0}")]
    UnknownKind(u8),
}

/// Appends the bytes of `value` to `out`.
///
/// # Errors
/// When the value's own `Serialize` fails, or it holds something of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    bincode::serde::encode_into_std_write(value, out, ENCODING).map(|_| ()).map_err(EncodeError)
}

/// Appends the bytes of `value` to `out`, but for a payload of at least `least` bytes that they end with: that is yielded,
/// to be sent from where it is.
///
/// # Errors
/// As [`encode`].
///
/// # Panics
/// When the message has anything after such a payload: it is one of ours, and made otherwise.
pub fn encode_apart<T: Serialize + ?Sized>(
    value: &T,
    least: usize,
    out: &mut Vec<u8>,
) -> Result<Option<Bytes>, EncodeError> {
    let (encoded, left_out) = apart(least, || encode(value, out));
    encoded?;
    if let Some(payload) = &left_out {
        let mut length = Vec::new();
        encode(&(payload.len() as u64), &mut length)?;
        assert!(out.ends_with(&length), "a large payload is the last thing in its message");
    }
    Ok(left_out)
}

/// Decodes all of `bytes` into a value that owns its data.
///
/// # Errors
/// When the bytes do not parse or some are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_borrowed(bytes)
}

/// Decodes all of `frame`; every [`Payload`](crate::Payload) in the value is a slice of it, not a copy.
///
/// # Errors
/// When the bytes do not parse or some are left over.
pub fn decode_frame<T: DeserializeOwned>(frame: &Bytes) -> Result<T, DecodeError> {
    with_frame(frame, |bytes| decode_borrowed(bytes))
}

/// Decodes `frame`, which holds values one after the other, appending them to `values`; payloads are slices of it.
///
/// # Errors
/// When the bytes do not parse.
pub fn decode_sequence<T: DeserializeOwned>(frame: &Bytes, values: &mut Vec<T>) -> Result<(), DecodeError> {
    with_frame(frame, |mut bytes| {
        while !bytes.is_empty() {
            let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, DECODING)
                .map_err(|error| DecodeError::Malformed(Box::new(error)))?;
            values.push(value);
            bytes = &bytes[used..];
        }
        Ok(())
    })
}

fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    match bincode::serde::borrow_decode_from_slice(bytes, DECODING) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(DecodeError::LeftOver(bytes.len() - used)),
        Err(error) => Err(DecodeError::Malformed(Box::new(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{ToWorker, Work};
    use crate::{FunctionId, Payload};

    #[test]
    fn payloads_are_slices_of_the_frame_they_came_in() {
        let work = Work { number: 1, function: FunctionId(9), args: Payload::from(vec![7; 100]) };
        let mut bytes = Vec::new();
        encode(&ToWorker::Run(vec![work]), &mut bytes).unwrap();
        let frame = Bytes::from(bytes);
        let ToWorker::Run(works) = decode_frame(&frame).unwrap();
        assert_eq!(works[0].args.0, vec![7; 100]);
        assert!(frame.as_ptr_range().contains(&works[0].args.0.as_ptr()));
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_not_an_allocation() {
        let mut bytes = Vec::new();
        encode(&(u64::MAX >> 1), &mut bytes).unwrap();
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(DecodeError::LeftOver(1))));
    }
}
