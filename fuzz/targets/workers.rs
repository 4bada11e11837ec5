//! What a worker, which runs other people's code, tells its node, and work as it arrives there: lists, and whole frames.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pp_protocol::packed::{self, Input};
use pp_protocol::worker::FromWorker;
use pp_protocol::{Payload, room};

use self::frames::FrameError;

#[expect(dead_code, reason = "workers and nodes need more of it")]
#[path = "../../node/src/worker/frames.rs"]
mod frames;

/// What reading a frame may come to in a worker, which is not tried here.
#[derive(Debug)]
enum WorkerError {
    Frame,
    Io,
}

impl From<FrameError> for WorkerError {
    fn from(_: FrameError) -> Self {
        Self::Frame
    }
}

impl From<std::io::Error> for WorkerError {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

fn lists(kind: u8, bytes: &[u8]) {
    let mut rest = Input::new(bytes);
    while !rest.is_empty() {
        let is_right = match kind {
            0 => packed::finished(&mut rest, |_| Some(Payload::default())).is_ok(),
            1 => packed::work(&mut rest).is_ok(),
            _ => packed::part(&mut rest).is_ok(),
        };
        if !is_right {
            return;
        }
    }
}

/// Large frames are read to where they stay, which is not memory of the allocator.
fn whole_frames(bytes: &[u8]) -> Vec<FromWorker> {
    let (mut received, mut messages) = (BytesMut::from(bytes), Vec::new());
    while matches!(frames::announced_length(&received), Ok(Some(length)) if length < room::SMALLEST_BYTES) {
        let Ok(Some(frame)) = frames::split_frame(&mut received) else { break };
        match frames::decode(&frame, |_| Some(Payload::default())) {
            Ok(message) => messages.push(message),
            Err(_) => break,
        }
    }
    messages
}

fuzz_target!(|input: &[u8]| {
    let Some((side, bytes)) = input.split_first() else { return };
    match side % 4 {
        2 => drop(pp_fuzz::bounded(input, || whole_frames(bytes))),
        kind => pp_fuzz::bounded(input, || lists(kind, bytes)),
    }
});
