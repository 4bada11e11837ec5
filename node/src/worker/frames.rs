//! Frames between a node and a worker: a length (four bytes, little endian) and one message of
//! [`pp_protocol::worker`].
//!
//! Large payloads are neither copied into a frame nor out of it, and outcomes are written into a frame one by one as
//! jobs end. For both, the first bytes of a message are put together here by hand, in the form that the codec gives
//! the message types; the tests compare the two.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use pp_protocol::codec::{self, DecodeError, EncodeError};
use pp_protocol::limits::{MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES};
use pp_protocol::worker::{Finished, Work};
use serde::Serialize;

/// Bytes of the length before a frame.
pub(crate) const LENGTH_BYTES: usize = 4;
/// The largest frame. Where more is announced, the peer is not what it should be.
const LARGEST_FRAME_BYTES: usize = PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES;
/// A payload of this size is sent from where it is instead of being copied into a frame.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;
/// Work is divided into frames of about this size, so that a worker starts on the first while it gets the second.
const RUN_FRAME_BYTES: usize = 32 * 1024;
/// Memory for large payloads is kept from job to job up to this size.
pub(crate) const LARGE_BYTES_KEPT: usize = 128 << 20;
/// What a worker reads at once.
const READ_BYTES: usize = 64 * 1024;

/// The place of `ToWorker::Run` among its variants.
const RUN: u32 = 0;
/// The place of `FromWorker::Finished` among its variants.
const FINISHED: u32 = 1;
/// The place of `WorkResult::Succeeded` among its variants.
const SUCCEEDED: u32 = 0;

/// What arrived is not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is larger than any message.
    #[error("a frame of {0} bytes, more than any message has")]
    TooLarge(usize),
    /// It holds no message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Appends a frame with `message` to `out`.
pub(crate) fn encode_frame<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    codec::encode(message, out)?;
    let length = length_prefix(out.len() - start - LENGTH_BYTES);
    out[start..start + LENGTH_BYTES].copy_from_slice(&length);
    Ok(())
}

/// Node: the frames that give this work to a worker, in pieces to be sent one after the other.
pub(crate) fn encode_work(works: &[Work]) -> Result<Vec<Bytes>, EncodeError> {
    let mut pieces = Vec::new();
    let mut small = Vec::new();
    let mut rest = works;
    while let Some(first) = rest.first() {
        if first.args.len() >= LARGE_BYTES {
            encode_large_work(first, &mut small)?;
            pieces.push(Bytes::from(std::mem::take(&mut small)));
            pieces.push(first.args.0.clone());
            rest = &rest[1..];
            continue;
        }
        let mut bytes = 0;
        let fits = |work: &&Work| {
            bytes += work.args.len();
            work.args.len() < LARGE_BYTES && bytes <= RUN_FRAME_BYTES
        };
        let count = rest.iter().take_while(fits).count();
        let (frame, after) = rest.split_at(count);
        encode_frame(&(RUN, frame), &mut small)?;
        rest = after;
    }
    if !small.is_empty() {
        pieces.push(Bytes::from(small));
    }
    Ok(pieces)
}

/// Appends a frame with one piece of work, but for its arguments, which must follow.
fn encode_large_work(work: &Work, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    const WORKS: u64 = 1;
    let start = out.len();
    encode_frame(&(RUN, WORKS, work.number, work.function, work.args.len() as u64), out)?;
    let length = length_prefix(out.len() - start - LENGTH_BYTES + work.args.len());
    out[start..start + LENGTH_BYTES].copy_from_slice(&length);
    Ok(())
}

/// Worker: appends one outcome, but for its result, which must follow.
pub(crate) fn encode_succeeded(number: u32, run_time_ns: u64, result_bytes: usize, out: &mut Vec<u8>) {
    encode_plain(&(number, run_time_ns, SUCCEEDED, result_bytes as u64), out);
}

/// Worker: appends one outcome.
pub(crate) fn encode_finished(finished: &Finished, out: &mut Vec<u8>) {
    encode_plain(finished, out);
}

/// Worker: writes to `out` what comes before `count` outcomes that have `bytes` bytes together.
pub(crate) fn encode_finished_head(count: u32, bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    encode_plain(&(FINISHED, u64::from(count)), out);
    let length = length_prefix(out.len() - LENGTH_BYTES + bytes);
    out[..LENGTH_BYTES].copy_from_slice(&length);
}

fn encode_plain<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    codec::encode(value, out).expect("numbers, text and bytes of known length can be encoded");
}

fn length_prefix(length: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(length).expect("a payload within its limit fits a frame").to_le_bytes()
}

/// The length of the frame that `received` begins with, if that much has arrived.
fn announced_length(received: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    match u32::from_le_bytes(*length) as usize {
        length if length > LARGEST_FRAME_BYTES => Err(FrameError::TooLarge(length)),
        length => Ok(Some(length)),
    }
}

/// Node: cuts the first frame off what was received. If it is not complete, makes room for the rest of it.
pub(crate) fn split_frame(received: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    match announced_length(received)? {
        Some(length) if received.len() >= LENGTH_BYTES + length => {
            let mut frame = received.split_to(LENGTH_BYTES + length).freeze();
            Ok(Some(frame.split_off(LENGTH_BYTES)))
        }
        length => {
            let missing = LENGTH_BYTES + length.unwrap_or(0) - received.len();
            let room = received.capacity() - received.len();
            if room < missing || room < READ_BYTES / 4 {
                received.reserve(missing.max(READ_BYTES));
            }
            Ok(None)
        }
    }
}

/// Worker: reads frames from a socket, blocking.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    socket: &'a UnixStream,
    buffer: Box<[u8]>,
    /// What has been read and not been taken.
    unread: std::ops::Range<usize>,
    /// The memory of the last large frame, for the next one: fresh memory costs as much as reading into it.
    large: Vec<u8>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(socket: &'a UnixStream) -> Self {
        Self { socket, buffer: vec![0; READ_BYTES].into(), unread: 0..0, large: Vec::new() }
    }

    /// Whether the next frame has been read already.
    pub(crate) fn has_next(&self) -> bool {
        let received = &self.buffer[self.unread.clone()];
        matches!(announced_length(received), Ok(Some(length)) if received.len() >= LENGTH_BYTES + length)
    }

    /// The next frame; `None` once the node has closed the socket.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, super::WorkerError> {
        loop {
            let received = &self.buffer[self.unread.clone()];
            match announced_length(received)? {
                Some(length) if received.len() >= LENGTH_BYTES + length => {
                    let frame = Bytes::copy_from_slice(&received[LENGTH_BYTES..LENGTH_BYTES + length]);
                    self.unread.start += LENGTH_BYTES + length;
                    return Ok(Some(frame));
                }
                Some(length) if LENGTH_BYTES + length > READ_BYTES => return Ok(self.read_large(length)?),
                _ => {}
            }
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            match self.socket.read(&mut self.buffer[self.unread.end..]) {
                Ok(0) => return Ok(None),
                Ok(count) => self.unread.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes back the memory of a frame that is not needed any more. It is kept if the frame was large, and until one
    /// is not.
    pub(crate) fn recycle(&mut self, frame: Bytes) {
        let is_kept = (READ_BYTES..=LARGE_BYTES_KEPT).contains(&frame.len()) && frame.is_unique();
        self.large = if is_kept { frame.into() } else { Vec::new() };
    }

    /// The rest of a large frame goes straight to where it will stay.
    fn read_large(&mut self, length: usize) -> io::Result<Option<Bytes>> {
        let mut frame = std::mem::take(&mut self.large);
        frame.clear();
        frame.reserve_exact(length);
        frame.extend_from_slice(&self.buffer[self.unread.start + LENGTH_BYTES..self.unread.end]);
        self.unread = 0..0;
        let missing = length - frame.len();
        let read = self.socket.take(missing as u64).read_to_end(&mut frame)?;
        Ok((read == missing).then(|| frame.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pp_protocol::worker::{FromWorker, ToWorker, WorkResult};
    use pp_protocol::{FunctionId, Payload};

    use super::*;

    fn work(number: u32, bytes: usize) -> Work {
        Work { number, function: FunctionId(u64::MAX - 1), args: Payload::from(vec![number as u8; bytes]) }
    }

    fn works_of(works: &[Work]) -> Vec<Vec<Work>> {
        let mut received = BytesMut::from(&encode_work(works).unwrap().concat()[..]);
        let mut frames = Vec::new();
        while let Some(frame) = split_frame(&mut received).unwrap() {
            let ToWorker::Run(works) = codec::decode_frame(&frame).unwrap();
            frames.push(works);
        }
        assert!(received.is_empty());
        frames
    }

    #[test]
    fn work_put_together_by_hand_is_what_the_codec_would_make() {
        let works = vec![work(0, 0), work(300, 10), work(70_000, 200)];
        let mut by_codec = Vec::new();
        encode_frame(&ToWorker::Run(works.clone()), &mut by_codec).unwrap();
        assert_eq!(encode_work(&works).unwrap().concat(), by_codec);
        by_codec.clear();
        let large = work(1 << 20, LARGE_BYTES);
        encode_frame(&ToWorker::Run(vec![large.clone()]), &mut by_codec).unwrap();
        assert_eq!(encode_work(&[large]).unwrap().concat(), by_codec);
    }

    #[test]
    fn work_is_divided_into_frames_in_order() {
        let works: Vec<_> =
            [1, LARGE_BYTES, 2, LARGE_BYTES - 1, LARGE_BYTES - 1, LARGE_BYTES - 1, 3, 100_000]
                .into_iter()
                .zip(0..)
                .map(|(bytes, number)| work(number, bytes))
                .collect();
        let frames = works_of(&works);
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 3, 2, 1]);
        assert_eq!(frames.concat(), works);
    }

    #[test]
    fn large_arguments_are_not_copied() {
        let large = work(0, LARGE_BYTES);
        let pieces = encode_work(std::slice::from_ref(&large)).unwrap();
        assert_eq!(pieces[1].as_ptr(), large.args.0.as_ptr());
    }

    #[test]
    fn outcomes_put_together_by_hand_are_what_the_codec_would_make() {
        let succeeded = |number: u32, bytes: usize| Finished {
            number,
            run_time_ns: u64::from(number) << 20,
            result: WorkResult::Succeeded(Payload::from(vec![3; bytes])),
        };
        let failed = Finished { number: 9, run_time_ns: 1, result: WorkResult::UnknownFunction };
        for count in [1, 250, 300] {
            let mut outcomes: Vec<_> = (0..count).map(|number| succeeded(number, number as usize)).collect();
            let mut body = Vec::new();
            for outcome in &outcomes {
                encode_succeeded(outcome.number, outcome.run_time_ns, outcome.number as usize, &mut body);
                body.extend(vec![3; outcome.number as usize]);
            }
            encode_finished(&failed, &mut body);
            outcomes.push(failed.clone());
            let mut frame = Vec::new();
            encode_finished_head(count + 1, body.len(), &mut frame);
            frame.extend(body);
            let mut by_codec = Vec::new();
            encode_frame(&FromWorker::Finished(outcomes), &mut by_codec).unwrap();
            assert_eq!(frame, by_codec);
        }
    }

    #[test]
    fn frames_are_read_whole_however_they_arrive() {
        let (node_end, worker_end) = UnixStream::pair().unwrap();
        let works: Vec<_> = (0..50).map(|number| work(number, number as usize * 1_500)).collect();
        let bytes = encode_work(&works).unwrap().concat();
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(4_999) {
                (&node_end).write_all(piece).unwrap();
            }
        });
        let mut reader = FrameReader::new(&worker_end);
        let mut read = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            let ToWorker::Run(mut works) = codec::decode_frame(&frame).unwrap();
            read.append(&mut works);
        }
        writer.join().unwrap();
        assert_eq!(read, works);
    }

    #[test]
    fn a_length_beyond_any_message_is_refused_before_anything_is_allocated() {
        let mut received = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(split_frame(&mut received), Err(FrameError::TooLarge(_))));
        assert!(received.capacity() < 1024);
    }
}
