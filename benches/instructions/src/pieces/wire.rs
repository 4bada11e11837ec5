//! A connection between a dispatcher and a node, in memory: attempts go there, outcomes come back.

use std::ops::Range;

use anyhow::{Context, ensure};
use pp_protocol::Role;
use pp_protocol::connection::{Message, Reader, Writer};
use pp_protocol::handshake::{initiate, respond};
use pp_protocol::record::Keys;
use pp_protocol::secret::Secret;
use pp_protocol::{Attempt, Ended, FromNode, Outcome, ProgramId, ToNode};
use tokio::io::DuplexStream;

use super::{FUNCTION, Payloads, RUN_TIME_NS, first_attempt};

/// More than is ever on the way.
const BUFFER_BYTES: usize = 1 << 20;

/// One at a time, each of the payloads has its turn.
const ROUNDS: u32 = 4;

/// Messages for jobs that come at once, with word of those before.
struct Round {
    there: [ToNode; 2],
    back: [FromNode; 1],
}

/// One direction of the connection.
struct Direction {
    writer: Writer<DuplexStream>,
    reader: Reader<DuplexStream>,
}

pub(super) fn run(at_once: u32, jobs: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.context("cannot start a runtime")?.block_on(pass(at_once, jobs))
}

async fn pass(at_once: u32, jobs: u32) -> anyhow::Result<()> {
    let (dispatcher, node) = shake_hands().await?;
    let mut there = Direction::new(dispatcher.clone(), node.clone());
    let mut back = Direction::new(node, dispatcher);
    let rounds: Vec<_> =
        (0..ROUNDS).map(|round| Round::new(round * at_once..(round + 1) * at_once)).collect();
    let (mut arrived, mut returned) = (Vec::new(), Vec::new());
    let mut ended = 0;
    for round in rounds.iter().cycle() {
        if ended >= jobs {
            break;
        }
        there.pass(&round.there, &mut arrived).await?;
        back.pass(&round.back, &mut returned).await?;
        // On their way, messages of many attempts or outcomes are divided.
        let attempts = arrived.iter().map(|message| match message {
            ToNode::Run(attempts) => attempts.len(),
            _ => 0,
        });
        let outcomes = returned.iter().map(|message| match message {
            FromNode::Outcomes(_, outcomes) => outcomes.len(),
            _ => 0,
        });
        let counts: [usize; 2] = [attempts.sum(), outcomes.sum()];
        ensure!(counts == [at_once as usize; 2], "of {at_once} attempts and outcomes, {counts:?} arrived");
        ended += at_once;
        arrived.clear();
        returned.clear();
    }
    Ok(())
}

impl Round {
    fn new(numbers: Range<u32>) -> Self {
        let payloads = Payloads::new();
        let attempt = |number| Attempt {
            id: first_attempt(number),
            program: ProgramId::FIRST,
            function: FUNCTION,
            time_limit_ns: 0,
            args: payloads.of(number),
        };
        let outcome = |number| Outcome {
            id: first_attempt(number),
            run_time_ns: RUN_TIME_NS,
            ended: Ended::Succeeded(payloads.of(number)),
        };
        let first = numbers.start.into();
        Self {
            there: [ToNode::Ack(first), ToNode::Run(numbers.clone().map(attempt).collect())],
            back: [FromNode::Outcomes(first, numbers.map(outcome).collect())],
        }
    }
}

impl Direction {
    fn new(sealing: Keys, opening: Keys) -> Self {
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        Self { writer: Writer::new(near, sealing), reader: Reader::new(far, opening) }
    }

    async fn pass<M: Message>(&mut self, sent: &[M], received: &mut Vec<M>) -> anyhow::Result<()> {
        for message in sent {
            self.writer.queue(message)?;
        }
        while self.writer.has_queued() {
            self.writer.write_some().await?;
        }
        Ok(self.reader.receive(received).await?)
    }
}

/// The keys of both sides.
async fn shake_hands() -> anyhow::Result<(Keys, Keys)> {
    let (mut dispatcher, mut node) = tokio::io::duplex(BUFFER_BYTES);
    let secrets = [Secret::random()];
    let (near, far) = tokio::try_join!(
        initiate(&mut dispatcher, &secrets[0], Role::Dispatcher),
        respond(&mut node, &secrets)
    )?;
    Ok((near.keys, far.keys))
}
