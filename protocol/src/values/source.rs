//! Values that are read, one after the other.

use std::any::{Any, TypeId};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::decode::{Before, Decoder};
use super::error::{Step, ValueError};

/// A [`Bytes`] shares memory from this size on, unless it is only a small part of it.
pub(super) const SHARED_BYTES: usize = 64 * 1024;
const SMALLEST_PART: usize = 4;

/// Decodes all of `bytes` into a value that owns its data.
///
/// # Errors
/// When the bytes are not that value, or more than that.
pub fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, ValueError> {
    let mut source = Source::new(bytes);
    let value = source.take()?;
    source.end().map(|()| value)
}

/// Serialised values one after the other, and the memory they are in where that can be held on to.
///
/// Values are copied out of it, but for large [`Bytes`], which share that memory.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    decoder: Decoder<'a>,
    memory: Option<&'a Bytes>,
    arguments: usize,
}

impl<'a> Source<'a> {
    /// Reads `bytes`, whose memory will be used for something else.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { decoder: Decoder::new(bytes), memory: None, arguments: 0 }
    }

    /// Reads `bytes`.
    #[inline]
    pub fn shared(bytes: &'a Bytes) -> Self {
        Self { decoder: Decoder::new(bytes), memory: Some(bytes), arguments: 0 }
    }

    /// The next value.
    ///
    /// # Errors
    /// When what follows is another.
    #[inline]
    pub fn take<T: DeserializeOwned + 'static>(&mut self) -> Result<T, ValueError> {
        if (TypeId::of::<T>() == TypeId::of::<Bytes>() || TypeId::of::<T>() == TypeId::of::<Vec<u8>>())
            && let Some(value) = self.take_block()
        {
            return Ok(value);
        }
        let before = self.decoder.before();
        match T::deserialize(&mut self.decoder) {
            Ok(value) if !self.decoder.is_broken => Ok(value),
            _ => self.take_by_name(&before),
        }
    }

    /// Tries once more, now by the names of fields.
    #[cold]
    fn take_by_name<T: DeserializeOwned>(&mut self, before: &Before<'a>) -> Result<T, ValueError> {
        self.decoder.begin_by_name(before);
        let taken = T::deserialize(&mut self.decoder);
        self.decoder.end_by_name();
        if taken.is_ok() && self.decoder.is_broken {
            return Err(ValueError::swallowed());
        }
        taken
    }

    /// The next value, which is an argument; an error says which.
    ///
    /// # Errors
    /// When what follows is another.
    #[inline]
    pub fn take_argument<T: DeserializeOwned + 'static>(&mut self) -> Result<T, ValueError> {
        self.arguments += 1;
        self.take().map_err(|error| error.within(Step::Argument(self.arguments)))
    }

    /// The next value, which is a [`Bytes`] or a `Vec<u8>`, if it can be had at once.
    fn take_block<T: 'static>(&mut self) -> Option<T> {
        let (block, rest) = self.decoder.peek_block()?;
        let mut value = None::<T>;
        let place: &mut dyn Any = &mut value;
        if let Some(place) = place.downcast_mut::<Option<Vec<u8>>>() {
            *place = Some(block.to_vec());
        } else if let Some(place) = place.downcast_mut::<Option<Bytes>>() {
            let memory = self.memory?;
            if block.len() < SHARED_BYTES.max(memory.len() / SMALLEST_PART) {
                return None;
            }
            *place = Some(memory.slice_ref(block));
        }
        self.decoder.go_on_at(rest);
        value
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    #[inline]
    pub fn end(&self) -> Result<(), ValueError> {
        if self.decoder.is_at_end() {
            Ok(())
        } else {
            Err(ValueError::malformed("something is left over behind them"))
        }
    }
}
