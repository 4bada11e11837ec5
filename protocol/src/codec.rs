//! The one place that knows how values become bytes: bincode 2, variable-length integers, little endian.
//!
//! bincode is no longer developed; replacing it means rewriting this file (and a new protocol version). What most bytes
//! on a wire belong to, lists of attempts and outcomes, has a form of its own: [`packed`](crate::packed).

use std::any::{Any, TypeId};
use std::io::Write;

use bincode::config::{Configuration, Limit, LittleEndian, NoLimit, Varint};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES};

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
    let mut source = Source::new(bytes);
    let value = decode_first(&mut source.rest)?;
    source.end().map(|()| value)
}

/// Serialised values one after the other, and the memory they are in where that can be held on to.
///
/// Values are copied out of it, but for large [`Bytes`], which share that memory.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    rest: &'a [u8],
    memory: Option<&'a Bytes>,
}

/// A [`Bytes`] shares memory from this size on, unless it is only a small part of it.
const SHARED_BYTES: usize = 64 * 1024;
const SMALLEST_PART: usize = 4;

impl<'a> Source<'a> {
    /// Reads `bytes`, whose memory will be used for something else.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, memory: None }
    }

    /// Reads `bytes`.
    #[inline]
    pub fn shared(bytes: &'a Bytes) -> Self {
        Self { rest: bytes, memory: Some(bytes) }
    }

    /// The next value.
    ///
    /// # Errors
    /// When what follows is none.
    #[inline]
    pub fn take<T: DeserializeOwned + 'static>(&mut self) -> Result<T, DecodeError> {
        if TypeId::of::<T>() == TypeId::of::<Bytes>()
            && let Some(memory) = self.memory
            && let Some(value) = self.take_shared(memory)
        {
            return Ok(value);
        }
        decode_first(&mut self.rest)
    }

    /// The next value, which is a [`Bytes`] if there is any to be had without a copy.
    fn take_shared<T: 'static>(&mut self, memory: &Bytes) -> Option<T> {
        let mut rest = self.rest;
        let length = usize::try_from(decode_first::<u64>(&mut rest).ok()?).ok()?;
        let bytes = rest.get(..length)?;
        if length < SHARED_BYTES.max(memory.len() / SMALLEST_PART) {
            return None;
        }
        let mut value = None::<T>;
        *(&mut value as &mut dyn Any).downcast_mut::<Option<Bytes>>()? = Some(memory.slice_ref(bytes));
        self.rest = &rest[length..];
        value
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    #[inline]
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver(self.rest.len())) }
    }
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
    fn large_bytes_are_not_copied_and_everything_else_is() {
        let values =
            (7_u64, Bytes::from(vec![5; 2 * SHARED_BYTES]), Bytes::from(vec![6; 9]), vec![8_u8; 100_000]);
        let mut bytes = Vec::new();
        encode(&values, &mut bytes).unwrap();
        let memory = Bytes::from(bytes);
        let is_within = |part: &[u8]| memory.as_ptr_range().contains(&part.as_ptr());
        for shared in [true, false] {
            let mut source = if shared { Source::shared(&memory) } else { Source::new(&memory) };
            let taken = (
                source.take::<u64>().unwrap(),
                source.take::<Bytes>().unwrap(),
                source.take::<Bytes>().unwrap(),
                source.take::<Vec<u8>>().unwrap(),
            );
            source.end().unwrap();
            assert_eq!(taken, values);
            assert_eq!((is_within(&taken.1), is_within(&taken.2)), (shared, false));
        }
        assert!(Source::shared(&memory.slice(..100)).take::<(u64, Bytes)>().is_err());
        assert!(
            Source::shared(&memory.slice(1..100)).take::<Bytes>().is_err(),
            "there is less than announced"
        );
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(DecodeError::LeftOver(1))));
    }
}
