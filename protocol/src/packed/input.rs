//! Bytes that are read from the front: numbers, payloads, lists; and numbers and payloads as they are written.

use std::ops::Range;

use bytes::Bytes;

use super::Lent;
use crate::Payload;
use crate::codec::{self, DecodeError};
use crate::limits::LIST_ITEMS;

const MOST_ITEMS: u64 = LIST_ITEMS as u64;

/// Bytes that have arrived and are being read.
#[derive(Debug)]
pub struct Input<'a> {
    frame: &'a [u8],
    rest: &'a [u8],
    /// The frame again, in memory that payloads share; made for the first that needs it.
    shared: Option<Bytes>,
}

impl<'a> Input<'a> {
    /// Reads `frame`, whose memory is used for something else after that: it is copied once if it holds a payload that is
    /// not small.
    #[inline]
    pub fn new(frame: &'a [u8]) -> Self {
        Self { frame, rest: frame, shared: None }
    }

    /// Reads `frame`. Payloads that are not small share its memory.
    #[inline]
    pub fn shared(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame, shared: Some(frame.clone()) }
    }

    /// Whether all of it has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver(self.rest.len())) }
    }

    /// The next byte, which stays.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte.
    ///
    /// # Errors
    /// When there is none.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let Some((first, rest)) = self.rest.split_first() else { return Err(DecodeError::TooShort) };
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn fixed<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], DecodeError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else { return Err(DecodeError::TooShort) };
        self.rest = rest;
        Ok(*bytes)
    }

    /// A number of any size.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.long_number(first) }
    }

    fn long_number(&mut self, first: u8) -> Result<u64, DecodeError> {
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::NotANumber)
    }

    #[inline]
    pub(super) fn small_number(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::NotANumber)
    }

    /// A length, and so many bytes.
    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.number()?;
        self.taken(length)
    }

    /// Place where so many bytes are lent.
    #[cold]
    pub(super) fn lent(&mut self, length: u64) -> Result<Lent, DecodeError> {
        let (number, place) = (self.small_number()?, self.number()?);
        let end = place.checked_add(length).and_then(|end| usize::try_from(end).ok());
        Ok(Lent { number, range: place as usize..end.ok_or(DecodeError::NotANumber)? })
    }

    #[inline]
    pub(super) fn taken(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let parts = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((bytes, rest)) = parts else { return Err(DecodeError::TooShort) };
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn payload(&mut self) -> Result<Payload, DecodeError> {
        let bytes = self.bytes()?;
        Ok(Payload::inline(bytes).unwrap_or_else(|| {
            let end = self.frame.len() - self.rest.len();
            let shared = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(self.frame));
            shared.slice(end - bytes.len()..end).into()
        }))
    }

    /// A value in the form of the codec.
    ///
    /// # Errors
    /// When what follows is none.
    pub fn value<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        codec::decode_first(&mut self.rest)
    }

    /// Number of items that follow, and room for them if so many can be there: each takes a few bytes.
    pub(super) fn list<T>(&mut self) -> Result<(Range<u64>, Vec<T>), DecodeError> {
        match self.number()? {
            count if count > self.rest.len() as u64 => Err(DecodeError::TooShort),
            items if items > MOST_ITEMS => Err(DecodeError::TooMany { items, limit: LIST_ITEMS }),
            count => Ok((0..count, Vec::with_capacity(count as usize))),
        }
    }
}

#[inline]
pub(crate) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends the length of `payload`, and `payload` unless it is left out for having at least `least` bytes.
#[inline]
pub(crate) fn put_payload(payload: &Payload, least: usize, out: &mut Vec<u8>) -> Option<Bytes> {
    put_number(payload.len() as u64, out);
    if payload.len() >= least {
        return Some(payload.to_bytes());
    }
    out.extend_from_slice(payload);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 8] = [0, 1, 127, 128, 16_383, 16_384, u32::MAX as u64, u64::MAX];

    #[test]
    fn numbers_of_any_size_come_back() {
        for number in EDGES {
            let mut out = Vec::new();
            put_number(number, &mut out);
            let frame = Bytes::from(out);
            let mut input = Input::new(&frame);
            assert_eq!(input.number().unwrap(), number);
            assert!(input.is_empty());
        }
    }
}
