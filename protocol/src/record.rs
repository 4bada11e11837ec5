//! Sealed records: what a connection carries after the handshake.
//!
//! A record is a length (two bytes, little endian) and one Noise transport message. Opened, it holds either a batch of
//! whole messages or a segment of one large message; see [`connection`](crate::connection) for how they are told
//! apart.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use snow::TransportState;
use tokio_util::codec::Decoder;

use crate::limits::{RECORD_BYTES, RECORD_PLAIN_BYTES};

/// Bytes of the tag that proves a record unaltered.
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 2;
/// Bytes of a record beyond its content.
pub const SEALED_BYTES: usize = LENGTH_BYTES + TAG_BYTES;
/// Both directions change their key after so many records: at most 64 GiB are sealed under one key.
const RECORDS_PER_KEY: u64 = 1 << 20;

/// The keys of one connection, made by the handshake. Shared by the side that seals and the side that opens.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Mutex<TransportState>>);

impl Keys {
    pub(crate) fn new(state: TransportState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, use_state: impl FnOnce(&mut TransportState) -> T) -> T {
        use_state(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A record could not be sealed or opened. The connection is beyond repair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Altered, repeated or reordered on the way, or sealed with other keys.
    #[error("a record was altered on the way")]
    Altered,
    /// Shorter than a tag.
    #[error("a record of {0} bytes is too short to be one")]
    TooShort(usize),
}

/// Seals plain text into records.
#[derive(Debug)]
pub struct Sealer {
    keys: Keys,
    sealed: u64,
}

impl Sealer {
    /// Seals with the outgoing key of `keys`.
    pub fn new(keys: Keys) -> Self {
        Self { keys, sealed: 0 }
    }
}

impl Sealer {
    /// Writes one record that holds `plain` to the beginning of `out`, and yields how long it is.
    ///
    /// # Errors
    /// When the keys are used up.
    ///
    /// # Panics
    /// When `plain` is longer than [`RECORD_PLAIN_BYTES`], or `out` has less than [`SEALED_BYTES`] more than that.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, RecordError> {
        assert!(plain.len() <= RECORD_PLAIN_BYTES, "a record holds at most {RECORD_PLAIN_BYTES} bytes");
        let sealed_bytes = plain.len() + TAG_BYTES;
        out[..LENGTH_BYTES].copy_from_slice(&(sealed_bytes as u16).to_le_bytes());
        self.sealed += 1;
        let change_key = self.sealed.is_multiple_of(RECORDS_PER_KEY);
        self.keys.with(|state| {
            let sealed = &mut out[LENGTH_BYTES..LENGTH_BYTES + sealed_bytes];
            state.write_message(plain, sealed).map_err(|_| RecordError::Altered)?;
            if change_key {
                state.rekey_outgoing();
            }
            Ok(LENGTH_BYTES + sealed_bytes)
        })
    }
}

thread_local! {
    /// Room for plain text that the connections of this thread use in turn.
    static PLAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Opens records.
#[derive(Debug)]
pub struct Opener {
    keys: Keys,
    opened: u64,
    /// Room for plain text, longer than what is in it; none while nothing arrives.
    plain: Vec<u8>,
}

impl Opener {
    /// Opens with the incoming key of `keys`.
    pub fn new(keys: Keys) -> Self {
        Self { keys, opened: 0, plain: Vec::new() }
    }

    /// Bytes of it that are not others'.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.plain.capacity()
    }

    /// Leaves its room to others until the next record arrives.
    pub(crate) fn rest(&mut self) {
        if !self.plain.is_empty() {
            PLAIN.set(std::mem::take(&mut self.plain));
        }
    }

    /// The first `length` bytes of what was opened last.
    pub fn plain(&self, length: usize) -> &[u8] {
        &self.plain[..length]
    }

    /// Takes the next record off `received`, writes its plain text to the beginning of `out` and yields how long that is;
    /// `None` if the record is not complete yet. So much of `out` is overwritten as the sealed record is long.
    ///
    /// # Errors
    /// When it is none of the peer's.
    ///
    /// # Panics
    /// When `out` is shorter than [`RECORD_BYTES`].
    pub fn open(&mut self, received: &mut BytesMut, out: &mut [u8]) -> Result<Option<usize>, RecordError> {
        let Some(length) = announced_length(received)? else { return Ok(None) };
        self.opened += 1;
        let change_key = self.opened.is_multiple_of(RECORDS_PER_KEY);
        let opened = self.keys.with(|state| {
            // With as much room as the sealed record has, the cipher needs no memory of its own.
            let sealed = &received[LENGTH_BYTES..LENGTH_BYTES + length];
            let opened = state.read_message(sealed, &mut out[..length]).map_err(|_| RecordError::Altered)?;
            if change_key {
                state.rekey_incoming();
            }
            Ok::<_, RecordError>(opened)
        })?;
        received.advance(LENGTH_BYTES + length);
        Ok(Some(opened))
    }
}

/// Whether all of the record that `received` begins with is there.
pub(crate) fn is_whole(received: &[u8]) -> bool {
    let length =
        received.first_chunk::<LENGTH_BYTES>().map(|length| usize::from(u16::from_le_bytes(*length)));
    length.is_some_and(|length| received.len() >= LENGTH_BYTES + length)
}

/// The length of the record that `received` begins with, if all of it is there. If not, there is room for the rest.
fn announced_length(received: &mut BytesMut) -> Result<Option<usize>, RecordError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes(*length));
    if length <= TAG_BYTES {
        return Err(RecordError::TooShort(length));
    }
    if received.len() < LENGTH_BYTES + length {
        received.reserve(LENGTH_BYTES + RECORD_BYTES);
        return Ok(None);
    }
    Ok(Some(length))
}

impl Decoder for Opener {
    /// The length of what was opened: [`Opener::plain`] yields it.
    type Item = usize;
    type Error = RecordError;

    /// Takes the next record off `received` and opens it here; `None` if it is not complete yet.
    fn decode(&mut self, received: &mut BytesMut) -> Result<Option<usize>, RecordError> {
        let mut plain = std::mem::take(&mut self.plain);
        if plain.is_empty() {
            plain = PLAIN.take();
            plain.resize(RECORD_BYTES, 0);
        }
        let opened = self.open(received, &mut plain);
        self.plain = plain;
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of two peers that have met.
    fn pair() -> [Keys; 2] {
        let side = || snow::Builder::new("Noise_NN_25519_AESGCM_SHA256".parse().unwrap());
        let (mut near, mut far) = (side().build_initiator().unwrap(), side().build_responder().unwrap());
        let mut room = [0; 256];
        let length = near.write_message(&[], &mut room).unwrap();
        far.read_message(&room[..length], &mut [0; 256]).unwrap();
        let length = far.write_message(&[], &mut room).unwrap();
        near.read_message(&room[..length], &mut [0; 256]).unwrap();
        [near, far].map(|state| Keys::new(state.into_transport_mode().unwrap()))
    }

    /// What comes of two records of which the first one is the last under its key for whoever seals, and the one of this
    /// number for whoever opens.
    fn opened(number: u64) -> [Result<Option<usize>, RecordError>; 2] {
        let [near, far] = pair();
        let mut sealer = Sealer { sealed: RECORDS_PER_KEY - 1, ..Sealer::new(near) };
        let mut opener = Opener { opened: number - 1, ..Opener::new(far) };
        [b"one", b"two"].map(|plain| {
            let mut sealed = [0; SEALED_BYTES + 3];
            assert_eq!(sealer.seal(plain, &mut sealed).unwrap(), sealed.len());
            opener.decode(&mut BytesMut::from(&sealed[..]))
        })
    }

    #[test]
    fn both_sides_change_the_key_after_so_many_records() {
        let together = opened(RECORDS_PER_KEY);
        assert!(matches!(together, [Ok(Some(3)), Ok(Some(3))]), "{together:?}");
        for other in [1, RECORDS_PER_KEY - 1] {
            let apart = opened(other);
            assert!(matches!(apart, [Ok(Some(3)), Err(RecordError::Altered)]), "{apart:?}");
        }
    }
}
