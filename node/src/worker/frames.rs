//! Frames between a node and a worker: a length (four bytes, little endian), and what the length is of. From the node,
//! pieces of work; from the worker, a byte that tells the kind of message, and the message. Lists are
//! [packed](pp_protocol::packed).
//!
//! Large payloads are neither copied into a frame nor out of it, and outcomes are written into a frame one by one as
//! jobs end.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use pp_protocol::codec::{self, DecodeError};
use pp_protocol::limits::{MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES};
use pp_protocol::packed::{self, Input, Lent};
use pp_protocol::room;
use pp_protocol::worker::{FromWorker, FunctionName, WORKER_VERSION, Work};
use pp_protocol::{Payload, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

/// Bytes of the length before a frame.
pub(crate) const LENGTH_BYTES: usize = 4;
/// The largest frame. Where more is announced, the peer is not what it should be.
const LARGEST_FRAME_BYTES: usize = PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES;
/// A payload of this size is sent from where it is instead of being copied into a frame.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;
/// Work is divided into frames of about this size, so that a worker starts on the first while it gets the second.
const RUN_FRAME_BYTES: usize = 32 * 1024;
/// Size of a piece of work without arguments, and least size of an outcome.
const WORK_BYTES: usize = 13;
const FINISHED_BYTES: usize = 7;
/// Room that is made for outcomes in one frame; there may be more.
const FINISHED_EXPECTED: usize = 1_024;
/// Bytes a worker reads at once.
const READ_BYTES: usize = 64 * 1024;

/// Kinds of messages from a worker. The first one, with its version, is what every release says first.
const READY: u8 = 0;
const SKIPPED: u8 = 1;
const FINISHED: u8 = 2;
/// As [`FINISHED`], where nothing was printed that has not been told.
const FINISHED_QUIETLY: u8 = 3;
const PART: u8 = 4;

/// Bytes arrived that are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is larger than any message.
    #[error("a frame of {0} bytes, more than any message has")]
    TooLarge(usize),
    /// It holds no message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// It tells of something in shared memory that is not there.
    #[error("arguments that should be in memory shared with the node are not there")]
    NotLent,
}

/// Node: the frames that give this work to a worker, in pieces to be sent one after the other. `lend` is asked for each
/// piece of work with large arguments where the worker can read these; what it cannot is sent.
pub(crate) fn encode_work(works: &[Work], mut lend: impl FnMut(&Work) -> Option<Lent>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut small = Vec::with_capacity(works.len() * WORK_BYTES);
    let mut frame = begin(&mut small);
    for work in works {
        let Work { number, function, args } = work;
        let is_large = args.len() >= LARGE_BYTES;
        if is_large && let Some(lent) = lend(work) {
            packed::put_work_lent(*number, *function, &lent, &mut small);
            continue;
        }
        if is_large || small.len() - frame >= RUN_FRAME_BYTES {
            end(&mut small, frame, 0);
            frame = begin(&mut small);
        }
        packed::put_work(*number, *function, args.len(), &mut small);
        if is_large {
            end(&mut small, frame, args.len());
            pieces.extend([Bytes::from(std::mem::take(&mut small)), args.to_bytes()]);
            frame = begin(&mut small);
        } else {
            small.extend_from_slice(args);
        }
    }
    end(&mut small, frame, 0);
    if !small.is_empty() {
        pieces.push(Bytes::from(small));
    }
    pieces
}

/// Begins a frame, and yields where.
fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.len() - LENGTH_BYTES
}

/// Ends the frame that begins at `start`; so many bytes of it follow apart. One with nothing in it is taken away.
fn end(out: &mut Vec<u8>, start: usize, apart: usize) {
    let length = out.len() - start - LENGTH_BYTES + apart;
    if length == 0 {
        return out.truncate(start);
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&length_prefix(length));
}

/// Worker: the frame that says that it is ready.
pub(crate) fn encode_ready(version: u16, functions: u32, borrows: bool, names: &[FunctionName]) -> Vec<u8> {
    encode_frame(READY, &(version, functions, borrows, names))
}

/// Worker: the frame that says how far it has thrown away work.
pub(crate) fn encode_skipped(number: u32) -> Vec<u8> {
    encode_frame(SKIPPED, &number)
}

fn encode_frame<T: Serialize>(kind: u8, message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out);
    out.push(kind);
    codec::encode(message, &mut out).expect("numbers can be encoded");
    end(&mut out, start, 0);
    out
}

/// Worker: what comes before outcomes that have `bytes` bytes together.
pub(crate) fn finished_head(bytes: usize, is_quiet: bool) -> [u8; LENGTH_BYTES + 1] {
    let mut head = [if is_quiet { FINISHED_QUIETLY } else { FINISHED }; LENGTH_BYTES + 1];
    head[..LENGTH_BYTES].copy_from_slice(&length_prefix(1 + bytes));
    head
}

/// Worker: what comes before so many bytes that the piece of work of this number sends ahead of its result.
pub(crate) fn part_head(number: u32, stream: Stream, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out);
    out.push(PART);
    packed::put_part(number, stream, bytes, &mut out);
    end(&mut out, start, bytes);
    out
}

/// Node: the message in a frame. `borrow` yields results that the worker has not sent.
pub(crate) fn decode(
    frame: &Bytes,
    mut borrow: impl FnMut(Lent) -> Option<Payload>,
) -> Result<FromWorker, FrameError> {
    let mut input = Input::shared(frame);
    match input.byte()? {
        READY => {
            // What follows may be something else in another version.
            let (version, functions) = input.value()?;
            let (borrows, names) =
                if version == WORKER_VERSION { input.value()? } else { (false, Vec::new()) };
            Ok(FromWorker::Ready { version, functions, borrows, names })
        }
        SKIPPED => Ok(FromWorker::Skipped(input.value()?)),
        kind @ (FINISHED | FINISHED_QUIETLY) => {
            // Large results make a frame long, not the list in it.
            let mut outcomes = Vec::with_capacity((frame.len() / FINISHED_BYTES).min(FINISHED_EXPECTED));
            while !input.is_empty() {
                outcomes.push(packed::finished(&mut input, &mut borrow)?);
            }
            Ok(FromWorker::Finished { outcomes, is_quiet: kind == FINISHED_QUIETLY })
        }
        PART => {
            // It is copied: it is kept for as long as its dispatcher likes, and this memory is of what came with it, too.
            let (number, stream, bytes) = packed::part(&mut Input::new(&frame[1..]))?;
            Ok(FromWorker::Part(number, stream, bytes))
        }
        kind => Err(DecodeError::UnknownKind(kind).into()),
    }
}

fn length_prefix(length: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(length).expect("a payload within its limit fits a frame").to_le_bytes()
}

/// The length of the frame that `received` begins with, if that much has arrived.
pub(crate) fn announced_length(received: &[u8]) -> Result<Option<usize>, FrameError> {
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

/// Worker: a frame, either still where it was read to, or in room of its own.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    Small(&'a [u8]),
    Large(Bytes),
}

impl Frame<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// Worker: reads frames from a socket, blocking.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    socket: &'a UnixStream,
    buffer: Box<[u8]>,
    /// Bytes that have been read and not been taken.
    unread: std::ops::Range<usize>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(socket: &'a UnixStream) -> Self {
        Self { socket, buffer: vec![0; READ_BYTES].into(), unread: 0..0 }
    }

    /// The next frame, and whether one more is at hand; `None` once the node has closed the socket.
    pub(crate) fn next(&mut self) -> Result<Option<(Frame<'_>, bool)>, super::WorkerError> {
        loop {
            let received = &self.buffer[self.unread.clone()];
            match announced_length(received)? {
                Some(length) if received.len() >= LENGTH_BYTES + length => {
                    let begin = self.unread.start + LENGTH_BYTES;
                    self.unread.start = begin + length;
                    let more = self.has_next();
                    return Ok(Some((Frame::Small(&self.buffer[begin..begin + length]), more)));
                }
                Some(length) if LENGTH_BYTES + length > READ_BYTES => {
                    return Ok(self.read_large(length)?.map(|frame| (Frame::Large(frame), false)));
                }
                _ => {}
            }
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            match read(self.socket, &mut self.buffer[self.unread.end..])? {
                0 => return Ok(None),
                count => self.unread.end += count,
            }
        }
    }

    fn has_next(&self) -> bool {
        let received = &self.buffer[self.unread.clone()];
        matches!(announced_length(received), Ok(Some(length)) if received.len() >= LENGTH_BYTES + length)
    }

    /// The rest of a large frame goes straight to where it will stay.
    fn read_large(&mut self, length: usize) -> io::Result<Option<Bytes>> {
        let mut frame = room::take(length);
        let begun = &self.buffer[self.unread.start + LENGTH_BYTES..self.unread.end];
        frame[..begun.len()].copy_from_slice(begun);
        let mut filled = begun.len();
        self.unread = 0..0;
        while filled < length {
            match read(self.socket, &mut frame[filled..length])? {
                0 => return Ok(None),
                count => filled += count,
            }
        }
        Ok(Some(room::filled(frame, length)))
    }
}

/// Waits until there is something to read; yields 0 once the node has closed the socket, or is gone.
fn read(mut socket: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::ConnectionReset => return Ok(0),
                // A job made all descriptors non-blocking.
                io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], None);
                }
                _ => return Err(error),
            },
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pp_counting::{Random, allowed, peak_of};
    use pp_protocol::FunctionId;
    use pp_protocol::packed::Args;
    use pp_protocol::worker::{Finished, WorkResult};

    use super::*;

    fn work(number: u32, bytes: usize) -> Work {
        Work { number, function: FunctionId(u64::MAX - 1), args: Payload::from(vec![number as u8; bytes]) }
    }

    fn works_in(frame: &[u8]) -> Vec<Work> {
        let mut input = Input::new(frame);
        let works = std::iter::from_fn(|| (!input.is_empty()).then(|| packed::work(&mut input).unwrap()));
        let here = |args| match args {
            Args::Here(args) => args.into(),
            Args::Lent(_) => panic!("nothing is lent here"),
        };
        works.map(|(number, function, args)| Work { number, function, args: here(args) }).collect()
    }

    fn works_of(works: &[Work]) -> Vec<Vec<Work>> {
        let mut received = BytesMut::from(&encode_work(works, |_| None).concat()[..]);
        let mut frames = Vec::new();
        while let Some(frame) = split_frame(&mut received).unwrap() {
            frames.push(works_in(&frame));
        }
        assert!(received.is_empty());
        frames
    }

    fn names() -> Vec<FunctionName> {
        vec![FunctionName { function: FunctionId(9), name: "ab".into() }]
    }

    /// A worker may be of another release than its node. What differs here is another `WORKER_VERSION`; that of `Ready`
    /// must stay where it is for ever.
    #[test]
    fn frames_are_byte_by_byte_what_they_were() {
        assert_eq!(
            encode_ready(0x0102, 300, true, &names()),
            b"\x0d\0\0\0\0\xfb\x02\x01\xfb\x2c\x01\x01\x01\x09\x02ab"
        );
        assert_eq!(encode_skipped(7), b"\x02\0\0\0\x01\x07");
        assert_eq!(finished_head(300, false), *b"\x2d\x01\0\0\x02");
        assert_eq!(finished_head(300, true), *b"\x2d\x01\0\0\x03");
        assert_eq!(part_head(7, Stream::Stderr, 300), b"\x34\x01\0\0\x04\x07\0\0\0\x01\xac\x02");
        let frames = encode_work(&[work(1, 2)], |_| None).concat();
        assert_eq!(frames, b"\x0f\0\0\0\x01\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\x02\x01\x01");
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
        let pieces = encode_work(std::slice::from_ref(&large), |_| None);
        assert_eq!(pieces[1].as_ptr(), large.args.as_ptr());
    }

    #[test]
    fn what_a_worker_says_comes_back() {
        let said = |bytes: &[u8]| {
            decode(&split_frame(&mut BytesMut::from(bytes)).unwrap().unwrap(), |_| None).unwrap()
        };
        let ready = |version, borrows, names| FromWorker::Ready { version, functions: 9, borrows, names };
        assert_eq!(
            said(&encode_ready(WORKER_VERSION, 9, true, &names())),
            ready(WORKER_VERSION, true, names())
        );
        assert_eq!(said(&encode_ready(7, 9, true, &names())), ready(7, false, Vec::new()));
        assert_eq!(said(&encode_skipped(u32::MAX)), FromWorker::Skipped(u32::MAX));
        let part = [&part_head(3, Stream::Stdout, 30)[..], &[7; 30]].concat();
        assert_eq!(said(&part), FromWorker::Part(3, Stream::Stdout, Payload::from(vec![7; 30])));
        let finished = |number| Finished { number, run_time_ns: 1, result: WorkResult::UnknownFunction };
        let all: Vec<_> = (0..3).map(finished).collect();
        let mut body = Vec::new();
        all.iter().for_each(|one| packed::put_finished(one, &mut body).unwrap());
        for is_quiet in [false, true] {
            let frame = [&finished_head(body.len(), is_quiet)[..], &body].concat();
            assert_eq!(said(&frame), FromWorker::Finished { outcomes: all.clone(), is_quiet });
        }
    }

    #[test]
    fn frames_take_no_more_memory_than_their_bytes_make_reasonable() {
        let finished =
            Finished { number: 1, run_time_ns: 1, result: WorkResult::Succeeded(vec![7; 9].into()) };
        let mut body = Vec::new();
        (0..9).for_each(|_| packed::put_finished(&finished, &mut body).unwrap());
        let outcomes = [&finished_head(body.len(), false)[..], &body].concat();
        let part = [&part_head(1, Stream::Stderr, 30)[..], &[7; 30]].concat();
        let ready = encode_ready(WORKER_VERSION, 9, true, &names());
        let samples = [ready, encode_skipped(7), part, outcomes].concat();
        let (mut right, mut wrong) = (0, 0);
        for seed in 1..=5_000 {
            let input = Random(seed).spoiled(&samples);
            let (messages, peak) = peak_of(|| {
                let (mut received, mut messages) = (BytesMut::from(&input[..]), Vec::new());
                // Larger ones are read to where they stay, piece by piece.
                while let Ok(Some(..room::SMALLEST_BYTES)) = announced_length(&received)
                    && let Ok(Some(frame)) = split_frame(&mut received)
                {
                    match decode(&frame, |_| Some(Payload::default())) {
                        Ok(message) => messages.push(message),
                        Err(_) => break,
                    }
                }
                messages
            });
            assert!(peak <= allowed(input.len()), "seed {seed}: {peak} bytes for {} of input", input.len());
            *(if messages.len() >= 3 { &mut right } else { &mut wrong }) += 1;
        }
        assert!(right > 0 && wrong > 0, "{right} were decoded, {wrong} were not");
    }

    #[test]
    fn a_large_result_makes_no_large_list() {
        let mut frame = vec![FINISHED];
        packed::put_succeeded(0, 1, 1 << 20, &mut frame);
        frame.extend(vec![7; 1 << 20]);
        let FromWorker::Finished { outcomes, .. } = decode(&Bytes::from(frame), |_| None).unwrap() else {
            panic!("it is an outcome")
        };
        assert!(outcomes.len() == 1 && outcomes.capacity() <= FINISHED_EXPECTED, "{}", outcomes.capacity());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for frame in [&[][..], &[9], &[FINISHED, 0, 1], &[READY, 255]] {
            assert!(decode(&Bytes::from_static(frame), |_| None).is_err());
        }
    }

    #[test]
    fn frames_are_read_whole_however_they_arrive() {
        for is_blocking in [true, false] {
            let (node_end, worker_end) = UnixStream::pair().unwrap();
            worker_end.set_nonblocking(!is_blocking).unwrap();
            read_whole(node_end, worker_end);
        }
    }

    fn read_whole(node_end: UnixStream, worker_end: UnixStream) {
        let works: Vec<_> = (0..50).map(|number| work(number, number as usize * 1_500)).collect();
        let bytes = encode_work(&works, |_| None).concat();
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(4_999) {
                (&node_end).write_all(piece).unwrap();
            }
        });
        let mut reader = FrameReader::new(&worker_end);
        let mut read = Vec::new();
        while let Some((frame, _)) = reader.next().unwrap() {
            read.extend(works_in(frame.bytes()));
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
