//! The one place that knows how messages become bytes, and bytes messages: in bincode's standard form, which is field after
//! field, whole numbers in as few bytes as they need, the low ones first.
//!
//! ```text
//! whole number      below 251: one byte; else 251, 252, 253 or 254 and it in 2, 4, 8 or 16 bytes. One with a sign is folded
//!                   (0, -1, 1, -2, ...). Of a single byte: that byte
//! float             its bytes                    bool, option      0 or 1, and what it holds
//! text, bytes       length and bytes             list              number of items and the items
//! variant           its place and its fields     struct, tuple     the fields
//! ```
//!
//! Lists of attempts and outcomes, most bytes on a wire, have a form of their own: [`packed`](crate::packed).
//! Users' values have another, since this one carries only what is written for it: [`values`](crate::values).
//!
//! bincode encodes. What peers say is decoded here: it is believed as far as its bytes have arrived, while bincode believes
//! a length up to a limit for all types. Nothing is allocated for a length that is only announced, and no list is longer
//! than a limit says. Text is cut, and made fit to be shown, where it is decoded, so that no
//! field of a message can be forgotten; fields that are not one line say so (`fields.rs`).

mod decoder;
#[cfg(test)]
mod encoder;

use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::decoder::Decoder;
#[cfg(test)]
pub(crate) use self::encoder::encode_with_texts;

/// A value could not be turned into bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot serialise: {0}")]
pub struct EncodeError(bincode::error::EncodeError);

/// Bytes are not the value they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They are not what the type takes.
    #[error("cannot decode: {0}")]
    Malformed(Box<str>),
    /// They parse, and some are left over.
    #[error("cannot decode: {0} bytes are left over")]
    LeftOver(usize),
    /// They end in the middle, or announce more than can follow.
    #[error("cannot decode: there is less than was announced")]
    TooShort,
    /// A number larger than what it counts can be.
    #[error("cannot decode: a number is out of its range")]
    NotANumber,
    /// A list longer than one may be.
    #[error("cannot decode: a list of {items} items, and {limit} is the limit")]
    TooMany {
        /// Number of items that were announced.
        items: u64,
        /// Number of items that such a list may have.
        limit: usize,
    },
    /// A record of a kind this release does not know.
    #[error("cannot decode: a record of unknown kind {0}")]
    UnknownKind(u8),
}

/// Appends the bytes of `value` to `out`.
///
/// # Errors
/// When the value's own `Serialize` fails, or it holds something of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> Result<(), EncodeError> {
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .map(|_| ())
        .map_err(EncodeError)
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
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    *bytes = decoder.rest();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LIST_ITEMS, WINDOW_ATTEMPTS};
    use crate::{AttemptId, FromNode, JobId, NodeId, Resume};

    fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn numbers_at_every_edge_come_back_in_as_few_bytes_as_they_need() {
        for (number, bytes) in [(0, 1), (250, 1), (251, 3), (65_535, 3), (65_536, 5), (u64::MAX, 9)] {
            assert_eq!(encoded(&number).len(), bytes, "{number}");
            assert_eq!(decode::<u64>(&encoded(&number)).unwrap(), number);
        }
        for number in [0, -1, 1, -126, 125, i32::MIN, i32::MAX] {
            assert_eq!(decode::<i32>(&encoded(&number)).unwrap(), number);
        }
        assert_eq!(decode::<u128>(&encoded(&u128::MAX)).unwrap(), u128::MAX);
        assert_eq!(
            decode::<(f32, bool, Option<u8>)>(&encoded(&(1.5_f32, true, Some(255_u8)))).unwrap(),
            (1.5, true, Some(255))
        );
        assert!(matches!(decode::<u32>(&encoded(&(1_u64 << 32))), Err(DecodeError::NotANumber)));
        assert!(matches!(decode::<u64>(&[255]), Err(DecodeError::NotANumber)));
        assert!(matches!(decode::<bool>(&[2]), Err(DecodeError::NotANumber)));
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_not_an_allocation() {
        for length in [65_u64, 4_000, 16 << 20, 900 << 20, u64::MAX] {
            let mut lie = encoded(&length);
            lie.extend([b'x'; 64]);
            assert!(matches!(decode::<String>(&lie), Err(DecodeError::TooShort)), "{length}");
            assert!(matches!(
                decode::<Vec<u8>>(&lie),
                Err(DecodeError::TooShort | DecodeError::TooMany { .. })
            ));
        }
    }

    #[test]
    fn no_list_is_longer_than_its_limit() {
        let attempt = |n| AttemptId { job: JobId::new(n, u32::MAX), number: u32::MAX };
        let list = |items: usize| (0..items as u32).map(attempt).collect::<Vec<_>>();
        assert!(decode::<Vec<AttemptId>>(&encoded(&list(LIST_ITEMS))).is_ok());
        let refused = decode::<Vec<AttemptId>>(&encoded(&list(LIST_ITEMS + 1)));
        assert!(matches!(refused, Err(DecodeError::TooMany { limit: LIST_ITEMS, .. })), "{refused:?}");
        // A session that comes back tells all it has.
        let resume =
            |items| Resume { node: NodeId(1), outcomes_received: 0, parts_taken: 0, held: list(items) };
        let longest = resume(WINDOW_ATTEMPTS as usize);
        assert_eq!(decode::<Resume>(&encoded(&longest)).unwrap(), longest);
        let refused = decode::<Resume>(&encoded(&resume(WINDOW_ATTEMPTS as usize + 1)));
        assert!(matches!(refused, Err(DecodeError::TooMany { .. })), "{refused:?}");
    }

    /// With the values' own texts, the encoder of the tests makes what bincode makes; and bincode decodes what this decodes.
    #[test]
    fn this_is_the_form_of_bincode() {
        fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(values: Vec<T>) {
            for value in values {
                let bytes = encoded(&value);
                assert_eq!(encode_with_texts(&value, &str::to_owned), bytes, "{value:?}");
                assert_eq!(decode::<T>(&bytes).unwrap(), value);
                let (theirs, used): (T, _) =
                    bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
                assert_eq!((theirs, used), (value, bytes.len()));
            }
        }
        same(crate::samples::to_node());
        same(
            crate::samples::from_node()
                .into_iter()
                .filter(|message| !matches!(message, FromNode::Outcomes(..)))
                .collect(),
        );
        same(crate::samples::outcomes().into_iter().map(|outcome| outcome.ended).collect());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(DecodeError::LeftOver(1))));
    }
}
