//! The sending side: messages queued, sealed together, large ones in segments.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::codec::Encoder;

use super::{Kind, Message};
use crate::codec;
use crate::limits::{BATCH_BYTES, BULK_BYTES, RECORD_PLAIN_BYTES};
use crate::record::{Keys, RecordError, Sealer};

/// How much is sealed before it is written out.
const WRITE_BYTES: usize = 256 * 1024;

/// A large message: what was encoded, and the payload that ends it, from where it is.
#[derive(Debug)]
struct Large {
    head: Bytes,
    payload: Bytes,
    is_begun: bool,
    is_greeting: bool,
}

impl Large {
    fn remaining(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// Sends messages.
#[derive(Debug)]
pub struct Writer<W> {
    pub(super) io: W,
    sealer: Sealer,
    /// Small messages not yet sealed, behind the byte of [`Kind::Batch`].
    batch: Vec<u8>,
    /// Large messages not yet sealed.
    bulk: VecDeque<Large>,
    /// Sealed and not yet written.
    sealed: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes to `io` what is sealed with `keys`.
    pub fn new(io: W, keys: Keys) -> Self {
        let sealer = Sealer::new(keys);
        Self { io, sealer, batch: vec![Kind::Batch as u8], bulk: VecDeque::new(), sealed: BytesMut::new() }
    }

    /// Whether anything waits to be written.
    pub fn has_queued(&self) -> bool {
        self.batch.len() > 1 || !self.bulk.is_empty() || !self.sealed.is_empty()
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn queue<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        let (follows_bulk, is_greeting) = (message.follows_bulk(), message.is_greeting());
        let mut batch = std::mem::take(&mut self.batch);
        let mut start = batch.len();
        let queued = message.encode(&mut batch, &mut |batch, payload| {
            let large = payload.is_some() || batch.len() - start > BULK_BYTES;
            let waits = self.bulk.front().is_some_and(|first| first.is_greeting || follows_bulk);
            if large || waits {
                let head = Bytes::copy_from_slice(&batch[start..]);
                batch.truncate(start);
                let payload = payload.unwrap_or_default();
                self.bulk.push_back(Large { head, payload, is_begun: false, is_greeting });
            } else if batch.len() > BATCH_BYTES {
                seal(&mut self.sealer, batch, &mut self.sealed)?;
            }
            start = batch.len();
            Ok(())
        });
        self.batch = batch;
        queued
    }

    /// Writes all small messages, and a piece of the large ones.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write_some(&mut self) -> Result<(), SendError> {
        self.seal_batch()?;
        while self.sealed.len() < WRITE_BYTES && self.seal_segment()? {}
        self.io.write_all(&self.sealed).await?;
        self.sealed.clear();
        Ok(())
    }

    fn seal_batch(&mut self) -> Result<(), RecordError> {
        seal(&mut self.sealer, &mut self.batch, &mut self.sealed)
    }

    fn seal_segment(&mut self) -> Result<bool, RecordError> {
        let Some(large) = self.bulk.front_mut() else { return Ok(false) };
        self.batch.clear();
        if large.is_begun {
            self.batch.push(Kind::Segment as u8);
        } else {
            self.batch.push(Kind::FirstSegment as u8);
            self.batch.extend_from_slice(&(large.remaining() as u64).to_le_bytes());
            large.is_begun = true;
        }
        for part in [&mut large.head, &mut large.payload] {
            let room = RECORD_PLAIN_BYTES - self.batch.len();
            self.batch.extend_from_slice(&part.split_to(part.len().min(room)));
        }
        if large.remaining() == 0 {
            self.bulk.pop_front();
        }
        self.sealer.encode(&self.batch, &mut self.sealed)?;
        self.batch.clear();
        self.batch.push(Kind::Batch as u8);
        Ok(true)
    }
}

/// Seals a batch, if there is anything in it behind its first byte.
fn seal(sealer: &mut Sealer, batch: &mut Vec<u8>, sealed: &mut BytesMut) -> Result<(), RecordError> {
    if batch.len() > 1 {
        sealer.encode(batch, sealed)?;
        batch.truncate(1);
    }
    Ok(())
}

/// A message could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It could not be serialised.
    #[error(transparent)]
    Encode(#[from] codec::EncodeError),
    /// It could not be sealed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}
