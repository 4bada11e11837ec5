//! The sending side: messages queued, sealed together, large ones in segments.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{KIND_BYTES, Kind, Message};
use crate::codec;
use crate::limits::{BATCH_BYTES, BATCH_MESSAGES, BULK_BYTES, RECORD_PLAIN_BYTES};
use crate::record::{Keys, RecordError, SEALED_BYTES, Sealer};

/// Bytes that are sealed before they are written out.
const WRITE_BYTES: usize = 256 * 1024;

/// A large message: what was encoded, and the payload that ends it, from where it is.
#[derive(Debug)]
struct Large {
    head: Bytes,
    payload: Bytes,
    weight: usize,
    is_begun: bool,
    is_greeting: bool,
    /// It is a small message that waits here because of a greeting.
    is_held: bool,
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
    /// Small messages not yet sealed, and how many these are.
    batch: Vec<u8>,
    batched: usize,
    /// Large messages not yet sealed.
    bulk: VecDeque<Large>,
    /// Number of small ones that are among them because of a greeting: no small one may overtake these.
    held: usize,
    sealed: Sealed,
    /// Weight of the messages that are sealed, or will be next.
    sealed_weight: usize,
}

thread_local! {
    /// Room for sealed records, which the connections of this thread use in turn.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Records that are sealed and not yet written.
#[derive(Debug, Default)]
struct Sealed {
    /// Room for them, longer than what is in it; none where nothing is to be written.
    room: Vec<u8>,
    length: usize,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes to `io` what is sealed with `keys`.
    pub fn new(io: W, keys: Keys) -> Self {
        let (sealer, sealed) = (Sealer::new(keys), Sealed::default());
        Self {
            io,
            sealer,
            batch: Vec::new(),
            batched: 0,
            bulk: VecDeque::new(),
            held: 0,
            sealed,
            sealed_weight: 0,
        }
    }

    /// Whether anything waits to be written.
    pub fn has_queued(&self) -> bool {
        !self.batch.is_empty() || !self.bulk.is_empty() || self.sealed.length > 0
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn queue<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        self.queue_weighed(message, 0)
    }

    /// The same; [`take_sealed_weight`](Self::take_sealed_weight) tells of this weight once it is sealed.
    pub(super) fn queue_weighed<M: Message>(&mut self, message: &M, weight: usize) -> Result<(), SendError> {
        let (follows_bulk, is_greeting) = (message.follows_bulk(), message.is_greeting());
        let (large_before, mut rest) = (self.bulk.len(), weight);
        let mut batch = std::mem::take(&mut self.batch);
        let mut start = batch.len();
        let queued = message.encode(&mut batch, &mut |batch, payload| {
            let large = payload.is_some() || batch.len() - start > BULK_BYTES;
            let is_held = self.held > 0 || self.bulk.front().is_some_and(|first| first.is_greeting);
            let waits = is_held || follows_bulk && !self.bulk.is_empty();
            if large || waits {
                let head = Bytes::copy_from_slice(&batch[start..]);
                batch.truncate(start);
                let payload = payload.unwrap_or_default();
                let is_held = is_held && !large;
                self.held += usize::from(is_held);
                let weight = rest.min(head.len() + payload.len());
                rest -= weight;
                self.bulk.push_back(Large { head, payload, weight, is_begun: false, is_greeting, is_held });
            } else {
                self.batched += 1;
                if batch.len() > BATCH_BYTES || self.batched == BATCH_MESSAGES {
                    self.sealed.add_kind(Kind::Batch, batch, &mut self.sealer)?;
                    self.batched = 0;
                }
            }
            start = batch.len();
            Ok(())
        });
        self.batch = batch;
        // All that is small is sealed next, and what is large in its turn.
        let has_large = self.bulk.len() > large_before;
        match self.bulk.back_mut().filter(|_| has_large) {
            Some(last) => last.weight += rest,
            None => self.sealed_weight += rest,
        }
        queued
    }

    /// Weight of the messages that were sealed since this was last asked: once all of one has been written, or is about to be,
    /// its peer may acknowledge it.
    pub(super) fn take_sealed_weight(&mut self) -> usize {
        std::mem::take(&mut self.sealed_weight)
    }

    /// Writes all small messages, and a piece of the large ones.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write_some(&mut self) -> Result<(), SendError> {
        self.seal_some()?;
        self.write_sealed().await
    }

    /// Seals all small messages, and a piece of the large ones.
    pub(super) fn seal_some(&mut self) -> Result<(), SendError> {
        if !self.batch.is_empty() {
            self.sealed.add_kind(Kind::Batch, &mut self.batch, &mut self.sealer)?;
            self.batched = 0;
        }
        while self.sealed.length < WRITE_BYTES && self.seal_segment()? {}
        Ok(())
    }

    /// Writes what is sealed.
    pub(super) async fn write_sealed(&mut self) -> Result<(), SendError> {
        self.io.write_all(&self.sealed.room[..self.sealed.length]).await?;
        self.sealed.clear();
        Ok(())
    }

    fn seal_segment(&mut self) -> Result<bool, RecordError> {
        let Some(large) = self.bulk.front_mut() else { return Ok(false) };
        if large.head.is_empty() && large.payload.len() > RECORD_PLAIN_BYTES {
            // A full record is a segment and nothing else, so that it is sealed from where it is.
            let segment = large.payload.split_to(RECORD_PLAIN_BYTES);
            self.sealed.add(&segment, &mut self.sealer)?;
            return Ok(true);
        }
        let kind = if large.is_begun { Kind::Segment } else { Kind::FirstSegment };
        let segment = &mut self.batch;
        if !large.is_begun {
            segment.extend_from_slice(&(large.remaining() as u64).to_le_bytes());
            large.is_begun = true;
        }
        for part in [&mut large.head, &mut large.payload] {
            let room = RECORD_PLAIN_BYTES - 1 - KIND_BYTES - segment.len();
            segment.extend_from_slice(&part.split_to(part.len().min(room)));
        }
        if large.remaining() == 0 {
            self.held -= usize::from(large.is_held);
            self.sealed_weight += large.weight;
            self.bulk.pop_front();
        }
        self.sealed.add_kind(kind, segment, &mut self.sealer)?;
        Ok(true)
    }
}

impl Sealed {
    /// Seals what is in `plain`, which is less than a full record, and its kind; empties it.
    fn add_kind(&mut self, kind: Kind, plain: &mut Vec<u8>, sealer: &mut Sealer) -> Result<(), RecordError> {
        plain.push(kind as u8);
        let sealed = self.add(plain, sealer);
        plain.clear();
        sealed
    }

    fn add(&mut self, plain: &[u8], sealer: &mut Sealer) -> Result<(), RecordError> {
        if self.room.is_empty() {
            self.room = ROOM.take();
        }
        let end = self.length + plain.len() + SEALED_BYTES;
        if self.room.len() < end {
            self.room.resize(end.max(2 * self.room.len()), 0);
        }
        self.length += sealer.seal(plain, &mut self.room[self.length..])?;
        Ok(())
    }

    /// It has been written: others have the room now. Much of it is not kept.
    fn clear(&mut self) {
        self.length = 0;
        let room = std::mem::take(&mut self.room);
        if (1..=4 * WRITE_BYTES).contains(&room.len()) {
            ROOM.set(room);
        }
    }
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
