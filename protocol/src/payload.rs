//! Serialised arguments and results: opaque bytes that are forwarded, never decoded.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Payloads up to this size are kept in place: most are small, and handing them on costs neither a count nor memory
/// elsewhere. As many as make no payload larger than one that is kept elsewhere.
const INLINE_BYTES: usize = 23;

/// A serialised argument tuple or result: cheap to clone, opaque to everything but the worker that runs the job and
/// the handle that yields its result. A large one shares memory with its clones, or with the frame it came in.
#[derive(Clone)]
pub struct Payload(Kept);

#[derive(Clone)]
enum Kept {
    Inline(u8, [u8; INLINE_BYTES]),
    Shared(Bytes),
}

const _: () =
    assert!(size_of::<Payload>() == size_of::<Bytes>(), "the inline form fits beside the shared one");

impl Payload {
    /// A copy of `bytes` that takes no memory of its own; `None` if they are too many for that.
    #[inline]
    pub fn inline(bytes: &[u8]) -> Option<Self> {
        let mut kept = [0; INLINE_BYTES];
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(Kept::Inline(bytes.len() as u8, kept)))
    }

    /// Source of the serialised value, to be decoded.
    #[cfg(any(feature = "net", feature = "codec"))]
    #[inline]
    pub fn source(&self) -> crate::values::Source<'_> {
        match &self.0 {
            Kept::Inline(..) => crate::values::Source::new(self),
            Kept::Shared(bytes) => crate::values::Source::shared(bytes),
        }
    }

    /// The same bytes, in shared memory if there are many.
    #[inline]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Kept::Inline(..) => Bytes::copy_from_slice(self),
            Kept::Shared(bytes) => bytes.clone(),
        }
    }
}

impl Default for Payload {
    #[inline]
    fn default() -> Self {
        Self(Kept::Inline(0, [0; INLINE_BYTES]))
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Inline(length, kept) => &kept[..usize::from(*length)],
            Kept::Shared(bytes) => bytes,
        }
    }
}

impl From<Bytes> for Payload {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Self::inline(&bytes).unwrap_or(Self(Kept::Shared(bytes)))
    }
}

impl From<Vec<u8>> for Payload {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self(Kept::Shared(bytes.into())))
    }
}

impl From<&[u8]> for Payload {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Kept::Shared(Bytes::copy_from_slice(bytes))))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl Hash for Payload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PayloadVisitor;
        impl Visitor<'_> for PayloadVisitor {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(bytes.into())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(PayloadVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_every_size_hold_what_they_were_made_of() {
        let frame = Bytes::from((0..100).collect::<Vec<u8>>());
        for length in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 100] {
            let part = &frame[100 - length..];
            let made: [Payload; 4] = [
                frame.slice(100 - length..).into(),
                part.into(),
                part.to_vec().into(),
                Bytes::copy_from_slice(part).into(),
            ];
            for payload in made {
                assert_eq!(&*payload, part);
                assert_eq!(payload.to_bytes(), part);
            }
        }
    }

    #[test]
    fn a_large_part_shares_memory_with_its_frame_and_a_small_one_does_not() {
        let frame = Bytes::from(vec![7; 100]);
        let shares = |payload: &Payload| frame.as_ptr_range().contains(&payload.as_ptr());
        assert!(shares(&frame.slice(1..).into()));
        assert!(!shares(&frame.slice(90..).into()));
    }
}
