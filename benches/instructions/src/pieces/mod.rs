//! The pieces of the job path, each without what it would wait for.
//!
//! A piece runs so many jobs in one thread and is the same each time. Around a core is only what has to answer it; it is
//! counted with the core, and is little beside it. Once jobs come many at a time, as when a program submits what it has,
//! and once one at a time, each after the end of the one before: then what is done for each event weighs, not for each job.

mod dispatcher;
mod node;
mod wire;
mod worker;

use bytes::Bytes;
use pp_protocol::{AttemptId, FunctionId, JobId, Payload};

/// A part of the job path.
pub(crate) struct Piece {
    pub(crate) name: &'static str,
    /// Runs so many jobs.
    pub(crate) run: fn(u32) -> anyhow::Result<()>,
}

/// Jobs that come at once.
const BATCH: u32 = 100;

/// All of them.
pub(crate) const PIECES: [Piece; 8] = [
    // Submitted -> sent to a node -> its outcome -> resolved and acknowledged.
    Piece { name: "dispatcher-batches", run: |jobs| dispatcher::run(4, BATCH, jobs) },
    Piece { name: "dispatcher-singly", run: |jobs| dispatcher::run(4, 1, jobs) },
    // What is done for each node and not for each job weighs here.
    Piece { name: "dispatcher-many-nodes", run: |jobs| dispatcher::run(500, BATCH, jobs) },
    // Arrived -> given to a worker -> its end -> outcome sent, kept, and acknowledged.
    Piece { name: "node-batches", run: |jobs| node::run(BATCH, jobs) },
    Piece { name: "node-singly", run: |jobs| node::run(1, jobs) },
    // Attempts and outcomes: encoded -> sealed -> opened -> decoded.
    Piece { name: "wire-batches", run: |jobs| wire::run(BATCH, jobs) },
    Piece { name: "wire-singly", run: |jobs| wire::run(1, jobs) },
    // Work and its ends, between a node and a worker: encoded -> decoded.
    Piece { name: "worker-batches", run: |jobs| worker::run(BATCH, jobs) },
];

const FUNCTION: FunctionId = FunctionId(7);
const RUN_TIME_NS: u64 = 10_000;

/// Arguments and results: most are small, every fourth is one that is worth sharing instead of copying.
struct Payloads {
    small: Payload,
    large: Payload,
}

const SMALL: [u8; 8] = [1; 8];
const LARGE: [u8; 200] = [2; 200];

/// The bytes of the payload of the so-many-th job.
fn payload_bytes(number: u32) -> &'static [u8] {
    if number % 4 == 3 { &LARGE } else { &SMALL }
}

impl Payloads {
    fn new() -> Self {
        let copied = |bytes| Payload::from(Bytes::copy_from_slice(bytes));
        Self { small: copied(&SMALL), large: copied(&LARGE) }
    }

    fn of(&self, number: u32) -> Payload {
        if number % 4 == 3 { self.large.clone() } else { self.small.clone() }
    }
}

fn first_attempt(job: u32) -> AttemptId {
    AttemptId { job: JobId::new(job, 0), number: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_runs_to_its_end() {
        for piece in PIECES {
            (piece.run)(2 * BATCH).unwrap_or_else(|error| panic!("{}: {error:#}", piece.name));
        }
    }
}
