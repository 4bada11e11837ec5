//! Sealed records: what a connection carries after the handshake.
//!
//! A record is a length (two bytes, little endian) and one Noise transport message. Opened, it holds either a batch of
//! whole messages or a segment of one large message; see [`connection`](crate::connection) for what is made of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use snow::TransportState;
use tokio_util::codec::{Decoder, Encoder};

use crate::limits::{RECORD_BYTES, RECORD_PLAIN_BYTES};

/// Bytes of the tag that proves a record unaltered.
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 2;
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

impl Encoder<&[u8]> for Sealer {
    type Error = RecordError;

    /// Appends one record that holds `plain`, which is at most [`RECORD_PLAIN_BYTES`] long.
    fn encode(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), RecordError> {
        assert!(plain.len() <= RECORD_PLAIN_BYTES, "a record holds at most {RECORD_PLAIN_BYTES} bytes");
        let sealed_bytes = plain.len() + TAG_BYTES;
        out.extend_from_slice(&(sealed_bytes as u16).to_le_bytes());
        let start = out.len();
        out.resize(start + sealed_bytes, 0);
        self.sealed += 1;
        let change_key = self.sealed.is_multiple_of(RECORDS_PER_KEY);
        self.keys.with(|state| {
            state.write_message(plain, &mut out[start..]).map_err(|_| RecordError::Altered)?;
            if change_key {
                state.rekey_outgoing();
            }
            Ok(())
        })
    }
}

/// Opens records.
#[derive(Debug)]
pub struct Opener {
    keys: Keys,
    opened: u64,
    /// Room for plain text, used again once nobody holds what was in it.
    plain: BytesMut,
}

impl Opener {
    /// Opens with the incoming key of `keys`.
    pub fn new(keys: Keys) -> Self {
        Self { keys, opened: 0, plain: BytesMut::new() }
    }
}

impl Decoder for Opener {
    type Item = Bytes;
    type Error = RecordError;

    /// Takes the next record off `received` and yields its plain text, or `None` if it is not complete yet.
    fn decode(&mut self, received: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length <= TAG_BYTES {
            return Err(RecordError::TooShort(length));
        }
        if received.len() < LENGTH_BYTES + length {
            received.reserve(LENGTH_BYTES + RECORD_BYTES);
            return Ok(None);
        }
        if self.plain.capacity() < length - TAG_BYTES {
            self.plain.reserve(RECORD_BYTES);
        }
        self.plain.resize(length - TAG_BYTES, 0);
        self.opened += 1;
        let change_key = self.opened.is_multiple_of(RECORDS_PER_KEY);
        self.keys.with(|state| {
            let sealed = &received[LENGTH_BYTES..LENGTH_BYTES + length];
            state.read_message(sealed, &mut self.plain).map_err(|_| RecordError::Altered)?;
            if change_key {
                state.rekey_incoming();
            }
            Ok::<_, RecordError>(())
        })?;
        received.advance(LENGTH_BYTES + length);
        Ok(Some(self.plain.split().freeze()))
    }
}
