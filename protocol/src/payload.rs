//! Serialised arguments and results: opaque bytes that are forwarded, never decoded, and not copied on arrival.

use std::cell::{Cell, RefCell};
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

thread_local! {
    /// The frame being decoded on this thread, so that payloads found in it become slices of it.
    static FRAME: RefCell<Option<Bytes>> = const { RefCell::new(None) };
    /// While something is encoded on this thread: how large a payload is that is left out.
    static APART: Cell<Option<usize>> = const { Cell::new(None) };
    /// The payload that was left out.
    static LEFT_OUT: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// A serialised argument tuple or result: cheap to clone, opaque to everything but the worker that runs the job and
/// the handle that yields its result.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Payload(pub Bytes);

impl Payload {
    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no byte at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if APART.get().is_some_and(|least| self.len() >= least) {
            APART.set(None);
            LEFT_OUT.set(Some(self.0.clone()));
            // What bytes begin with; they themselves follow apart.
            return serializer.serialize_u64(self.len() as u64);
        }
        serializer.serialize_bytes(&self.0)
    }
}

/// Runs `encode` such that the first payload of at least `least` bytes is left out, and yields that payload: it is to
/// follow what was encoded.
#[cfg_attr(
    not(any(feature = "net", feature = "codec")),
    expect(dead_code, reason = "only the codec encodes")
)]
pub(crate) fn apart<T>(least: usize, encode: impl FnOnce() -> T) -> (T, Option<Bytes>) {
    APART.set(Some(least));
    let result = encode();
    APART.set(None);
    (result, LEFT_OUT.take())
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
                Ok(Payload(slice_of_frame(bytes)))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(PayloadVisitor)
    }
}

/// Runs `decode` on `frame` such that payloads in what it yields are slices of `frame`.
#[cfg_attr(
    not(any(feature = "net", feature = "codec")),
    expect(dead_code, reason = "only the codec decodes")
)]
pub(crate) fn with_frame<T>(frame: &Bytes, decode: impl FnOnce(&[u8]) -> T) -> T {
    let before = FRAME.replace(Some(frame.clone()));
    let result = decode(frame);
    FRAME.set(before);
    result
}

fn slice_of_frame(bytes: &[u8]) -> Bytes {
    FRAME.with_borrow(|frame| match frame {
        Some(frame) if !bytes.is_empty() && frame.as_ptr_range().contains(&bytes.as_ptr()) => {
            frame.slice_ref(bytes)
        }
        _ => Bytes::copy_from_slice(bytes),
    })
}
