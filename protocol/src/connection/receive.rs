//! The receiving side: records opened, large messages put together.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::codec::Decoder;

use super::{Kind, LinkError, Message};
use crate::codec::DecodeError;
use crate::limits::{MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES};
use crate::packed::Input;
use crate::record::{Keys, Opener};

/// How much is asked for in one read.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of the length before a large message.
const LENGTH_BYTES: usize = 8;
/// Memory that is made ready for a large message because its length was announced, before it arrives.
const BELIEVED_BYTES: usize = 4 << 20;

/// Receives messages.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    opener: Opener,
    received: BytesMut,
    /// The large message being put together.
    bulk: Vec<u8>,
    /// What is missing of it.
    bulk_missing: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `io` what was sealed for `keys`.
    pub fn new(io: R, keys: Keys) -> Self {
        Self { io, opener: Opener::new(keys), received: BytesMut::new(), bulk: Vec::new(), bulk_missing: 0 }
    }

    /// Waits for at least one message and appends it, and all that arrived with it, to `messages`.
    ///
    /// # Errors
    /// When the connection ended, or what arrives is not what the peer should send. Nothing more can be received then.
    pub async fn receive<M: Message>(&mut self, messages: &mut Vec<M>) -> Result<(), LinkError> {
        loop {
            while let Some(record) = self.opener.decode(&mut self.received).map_err(LinkError::Record)? {
                self.take_record(record, messages)?;
            }
            if !messages.is_empty() {
                return Ok(());
            }
            self.received.reserve(READ_BYTES);
            match self.io.read_buf(&mut self.received).await {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
    }

    fn take_record<M: Message>(&mut self, mut record: Bytes, messages: &mut Vec<M>) -> Result<(), LinkError> {
        const LARGEST: usize = PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES;
        match record.get_u8() {
            kind if kind == Kind::Batch as u8 => {
                let mut input = Input::new(&record);
                while !input.is_empty() {
                    messages.push(M::decode(&mut input)?);
                }
                Ok(())
            }
            kind if kind == Kind::FirstSegment as u8
                && self.bulk_missing == 0
                && record.len() > LENGTH_BYTES =>
            {
                self.bulk_missing = usize::try_from(record.get_u64_le()).unwrap_or(usize::MAX);
                if self.bulk_missing > LARGEST {
                    return Err(LinkError::TooLarge(LARGEST));
                }
                // Much is believed only once it arrives.
                self.bulk.reserve_exact(self.bulk_missing.min(BELIEVED_BYTES));
                self.take_segment(&record, messages)
            }
            kind if kind == Kind::Segment as u8 => self.take_segment(&record, messages),
            kind => Err(DecodeError::UnknownKind(kind).into()),
        }
    }
}

impl<R> Reader<R> {
    fn take_segment<M: Message>(&mut self, segment: &[u8], messages: &mut Vec<M>) -> Result<(), LinkError> {
        let Some(missing) = self.bulk_missing.checked_sub(segment.len()) else {
            return Err(DecodeError::LeftOver(segment.len() - self.bulk_missing).into());
        };
        self.bulk.extend_from_slice(segment);
        self.bulk_missing = missing;
        if missing == 0 {
            let whole = Bytes::from(std::mem::take(&mut self.bulk));
            let mut input = Input::new(&whole);
            messages.push(M::decode(&mut input)?);
            input.end()?;
        }
        Ok(())
    }
}
