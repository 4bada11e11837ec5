//! From values to bytes.

use serde::Serialize;

use super::error::{Reason, Step, ValueError};
use super::kind::*;
use super::names::Written;
use super::nesting::Nesting;
use super::parts::{Fields, Items, Of, Owner};
use crate::limits::PAYLOAD_BYTES;

/// Sink of bytes that are written one after the other.
pub trait Output {
    /// Their number.
    fn length(&self) -> usize;
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
    /// All that were written, to be changed.
    fn written(&mut self) -> &mut [u8];
}

impl Output for Vec<u8> {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn written(&mut self) -> &mut [u8] {
        self
    }
}

/// Appends the bytes of `value` to `out`.
///
/// # Errors
/// When the value's own `Serialize` fails, or it is too large or too deep.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Output) -> Result<(), ValueError> {
    let mut encoder = Encoder::new(out);
    value.serialize(&mut encoder)?;
    encoder.finish()
}

/// Appends the values of a tuple, one by one, to `out`.
///
/// # Errors
/// As [`encode`].
pub fn encode_arguments<T: Serialize + ?Sized>(
    arguments: &T,
    out: &mut impl Output,
) -> Result<(), ValueError> {
    let mut encoder = Encoder::new(out);
    encoder.is_row = true;
    arguments.serialize(&mut encoder)?;
    encoder.finish()
}

/// Writes one payload.
pub(super) struct Encoder<'o, O> {
    pub(super) out: &'o mut O,
    start: usize,
    /// Once there are any.
    names: Option<Box<Written>>,
    /// Position at which the place of the names is to be written.
    names_mark: usize,
    pub(super) nesting: Nesting,
    /// The next value is a tuple whose elements are written as if they were alone.
    pub(super) is_row: bool,
    /// A part could not be written, and what was written of it is still there.
    is_broken: bool,
}

impl<'o, O: Output> Encoder<'o, O> {
    #[inline]
    fn new(out: &'o mut O) -> Self {
        let start = out.length();
        Self {
            out,
            start,
            names: None,
            names_mark: 0,
            nesting: Nesting::new(),
            is_row: false,
            is_broken: false,
        }
    }

    #[inline]
    fn finish(self) -> Result<(), ValueError> {
        if self.is_broken {
            return Err(Reason::WentOn.into());
        }
        match self.names {
            None => Ok(()),
            Some(mut names) => {
                let place = self.out.length() - self.start;
                let told = u32::try_from(place).map_err(|_| Reason::TooLarge { size: place as u64 })?;
                let mark = self.names_mark;
                self.out.written()[mark..mark + 4].copy_from_slice(&told.to_le_bytes());
                names.put(self.out);
                Written::give_back(names);
                Ok(())
            }
        }
    }

    #[inline]
    pub(super) fn names(&mut self) -> &mut Written {
        self.names.get_or_insert_with(|| {
            self.out.put(&[NAMES]);
            self.names_mark = self.out.length();
            self.out.put(&[0; 4]);
            Written::take()
        })
    }

    /// Refuses what is too large, before it takes all memory.
    #[inline]
    pub(super) fn check_size(&self, more: usize) -> Result<(), ValueError> {
        let size = (self.out.length() - self.start).saturating_add(more);
        if size > PAYLOAD_BYTES { Err(Reason::TooLarge { size: size as u64 }.into()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn put_block(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        self.check_size(bytes.len())?;
        self.out.put(bytes);
        Ok(())
    }

    pub(super) fn put_reference(&mut self, near: u8, count: u32, far: u8, number: u32) {
        if number < count {
            self.out.put(&[near + number as u8]);
        } else {
            self.out.put(&[far]);
            put_unsigned(u64::from(number), self.out);
        }
    }

    /// Writes the beginning of a variant with content.
    pub(super) fn begin_variant(&mut self, name: &'static str) -> Result<(), ValueError> {
        self.nesting.enter()?;
        let number = self.names().variant(name);
        self.out.put(&[FULL_VARIANT]);
        put_unsigned(u64::from(number), self.out);
        Ok(())
    }

    #[inline]
    pub(super) fn begin_list<'e>(
        &'e mut self,
        announced: Option<usize>,
    ) -> Result<Items<'e, 'o, O>, ValueError> {
        self.nesting.enter()?;
        self.check_size(announced.unwrap_or(0))?;
        let place = self.out.length();
        match announced {
            Some(length @ 0..LISTS) => self.out.put(&[LIST + length as u8]),
            Some(length) => {
                self.out.put(&[LONG_LIST]);
                put_length(length, self.out);
            }
            None => self.out.put(&[OPEN_LIST]),
        }
        Ok(Items { encoder: self, place, announced, count: 0, of: Of::List })
    }

    #[inline]
    pub(super) fn begin_struct<'e>(&'e mut self, owner: Owner) -> Result<Fields<'e, 'o, O>, ValueError> {
        self.nesting.enter()?;
        self.names();
        let place = self.out.length();
        self.out.put(&[SHAPE]);
        Ok(Fields { encoder: self, place, node: Written::SHAPES, owner })
    }

    /// Notes that a part could not be written, which whoever wrote it may keep to itself.
    #[cold]
    pub(super) fn broken(&mut self, error: ValueError, step: Step) -> ValueError {
        self.is_broken = true;
        error.within(step)
    }
}

#[inline]
pub(super) fn put_length(length: usize, out: &mut impl Output) {
    put_unsigned(length as u64, out);
}

#[inline]
pub(super) fn put_unsigned(number: u64, out: &mut impl Output) {
    if number < u64::from(SHAPE) {
        return out.put(&[SMALL + number as u8]);
    }
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    match number {
        0..=0xff => out.put(&[NUMBER_1, a]),
        0x100..=0xffff => out.put(&[NUMBER_2, a, b]),
        0x1_0000..=0xffff_ffff => out.put(&[NUMBER_4, a, b, c, d]),
        _ => out.put(&[NUMBER_8, a, b, c, d, e, f, g, h]),
    }
}

pub(super) fn put_wide(number: u128, out: &mut impl Output) {
    match u64::try_from(number) {
        Ok(number) => put_unsigned(number, out),
        Err(_) => {
            out.put(&[NUMBER_16]);
            out.put(&number.to_le_bytes());
        }
    }
}

#[inline]
pub(super) fn put_signed(number: i64, out: &mut impl Output) {
    // The complement of a negative number is one less than minus it.
    match (u64::try_from(number), !number as u64) {
        (Ok(number), _) => put_unsigned(number, out),
        (_, complement) if complement < u64::from(NEGATIVES) => out.put(&[NEGATIVE + complement as u8]),
        (_, complement) => {
            out.put(&[MINUS]);
            put_unsigned(complement, out);
        }
    }
}
