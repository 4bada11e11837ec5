//! Frames of a worker, on their way to the node.

use std::io;

use bytes::{Bytes, BytesMut};
use pp_protocol::Payload;
use pp_protocol::room::{self, Room};
use pp_protocol::worker::FromWorker;
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use crate::lending::Borrower;
use crate::worker::frames::{self, FrameError};

/// The receiving half of a worker's socket.
#[derive(Debug)]
pub(super) struct Inbound {
    reader: OwnedReadHalf,
    /// Bytes that have been read and not been taken.
    received: BytesMut,
    /// The large frame that is being read: it goes straight to where it will stay.
    large: Option<Large>,
    /// Borrows results, where the worker lends them.
    borrower: Option<Borrower>,
    /// Whether nothing more will come.
    has_ended: bool,
}

#[derive(Debug)]
struct Large {
    room: Room,
    arrived: usize,
    length: usize,
}

impl Inbound {
    pub(super) fn new(reader: OwnedReadHalf, borrower: Option<Borrower>) -> Self {
        Self { reader, received: BytesMut::new(), large: None, borrower, has_ended: false }
    }

    /// Waits for more. Zero bytes are the end. Nothing is lost if it is not waited for to the end.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        match &mut self.large {
            None => self.reader.read_buf(&mut self.received).await,
            Some(Large { room, arrived, length }) => {
                // Everybody else of this thread has a turn between two pieces of something large.
                tokio::task::yield_now().await;
                let count = self.reader.read(&mut room[*arrived..*length]).await?;
                *arrived += count;
                Ok(count)
            }
        }
    }

    /// Nothing more will come, or whatever comes is of no interest.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether something large has begun to arrive.
    pub(super) fn is_within_large(&self) -> bool {
        self.large.is_some()
    }

    /// The worker is gone, and all it wrote has been read.
    pub(super) fn worker_is_gone(&self) {
        if let Some(borrower) = &self.borrower {
            borrower.lender_is_gone();
        }
    }

    /// The next message, if all of it has arrived.
    pub(super) fn next(&mut self) -> Result<Option<FromWorker>, FrameError> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        let borrow = |lent| self.borrower.as_ref()?.borrow(lent).map(Payload::from);
        frames::decode(&frame, borrow).map(Some)
    }

    /// The next frame, if all of it has arrived.
    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(large) = self.large.take_if(|large| large.arrived == large.length) {
            return Ok(Some(room::filled(large.room, large.length)));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let announced = frames::announced_length(&self.received)?;
        let Some(length) = announced.filter(|length| *length >= room::SMALLEST_BYTES) else {
            return frames::split_frame(&mut self.received);
        };
        let mut begun = self.received.split_off(frames::LENGTH_BYTES);
        let rest = begun.split_off(length.min(begun.len()));
        let (mut room, arrived) = (room::take(length), begun.len());
        room[..arrived].copy_from_slice(&begun);
        self.received = rest;
        self.large = Some(Large { room, arrived, length });
        self.next_frame()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn frames_of_every_size_are_read_whole_however_they_arrive() {
        let (mut worker_end, node_end) = std::os::unix::net::UnixStream::pair().unwrap();
        node_end.set_nonblocking(true).unwrap();
        let sizes = [0, 1, 70_000, 5, 65_535, 65_536, 1_000_000, 2];
        let frame = |size: usize| [&(size as u32).to_le_bytes()[..], &vec![size as u8; size]].concat();
        let bytes: Vec<_> = sizes.into_iter().flat_map(frame).collect();
        let writer = std::thread::spawn(move || {
            bytes.chunks(4_999).for_each(|piece| worker_end.write_all(piece).unwrap());
        });
        let mut inbound = Inbound::new(UnixStream::from_std(node_end).unwrap().into_split().0, None);
        let mut frames = Vec::new();
        while inbound.read().await.unwrap() > 0 {
            while let Some(frame) = inbound.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        writer.join().unwrap();
        assert!(inbound.received.capacity() < 512 * 1024, "a large frame leaves no large buffer behind");
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), sizes);
        assert!(frames.iter().all(|frame| frame.iter().all(|byte| *byte == frame.len() as u8)));
    }
}
