//! Bytes that are read from the front.

use super::error::ValueError;
use super::kind::*;

/// Bytes that have not been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'de>(pub(super) &'de [u8]);

impl<'de> Rest<'de> {
    #[inline]
    pub(super) fn peek(&self) -> Result<u8, ValueError> {
        self.0.first().copied().ok_or_else(too_short)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, ValueError> {
        let (first, rest) = self.0.split_first().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(super) fn block(&mut self, length: usize) -> Result<&'de [u8], ValueError> {
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(first)
    }

    #[inline]
    pub(super) fn text(&mut self, length: usize) -> Result<&'de str, ValueError> {
        let block = self.block(length)?;
        std::str::from_utf8(block).map_err(|_| ValueError::malformed("a text is not UTF-8"))
    }

    #[inline]
    pub(super) fn unsigned(&mut self) -> Result<u64, ValueError> {
        let kind = self.byte()?;
        self.unsigned_of(kind)
    }

    #[inline]
    pub(super) fn unsigned_of(&mut self, kind: u8) -> Result<u64, ValueError> {
        Ok(match kind {
            SMALL..=SMALL_END => u64::from(kind),
            NUMBER_1 => u64::from(self.byte()?),
            NUMBER_2 => u64::from(u16::from_le_bytes(self.array()?)),
            NUMBER_4 => u64::from(u32::from_le_bytes(self.array()?)),
            NUMBER_8 => u64::from_le_bytes(self.array()?),
            _ => return Err(ValueError::malformed("a length is no number")),
        })
    }

    /// Number of parts that follow, each of which takes a byte at least.
    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, ValueError> {
        let length = self.unsigned()?;
        usize::try_from(length).ok().filter(|length| *length <= self.0.len()).ok_or_else(too_short)
    }
}

#[cold]
pub(super) fn too_short() -> ValueError {
    ValueError::malformed("there are fewer than was announced")
}
