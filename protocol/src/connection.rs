//! Messages over a sealed connection, and the same over memory.
//!
//! A [`Transport`] is what a dispatcher and a node speak over; neither knows which of the two kinds it has.
//! Messages are taken as they queue up and sealed together: batches come from draining, never from waiting.
//! A message larger than [`BULK_BYTES`](crate::limits::BULK_BYTES) travels in segments, and everything small that is
//! queued meanwhile passes it, except what makes no sense before it ([`Message::follows_bulk`]): orders about attempts, the
//! last piece of a program, a farewell.

mod budget;
mod messages;
mod queue;
mod receive;
mod send;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::queue::Queue;
use crate::codec::DecodeError;
use crate::limits::CLOSING_BYTES;
use crate::record::{Keys, RecordError};
use crate::room::Rooms;
use crate::{FromNode, ToNode};

pub use self::budget::Budget;
pub use self::messages::{EndPiece, Message};
pub use self::queue::{Closed, Sender};
pub use self::receive::Reader;
pub use self::send::{SendError, Writer};

/// Batches received and not yet taken; the sender is held back by TCP beyond that.
const BATCHES_RECEIVED: usize = 16;
/// Bytes read at once of what nobody is interested in any more.
const DISCARDED_BYTES: usize = 16 * 1024;

/// Last byte of an opened record that is not full: what comes before it is then where it belongs. One that is full is a
/// further piece of a large message, from its first byte to its last.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    /// Whole messages, one after the other.
    Batch = 0,
    /// The first piece of a large message, behind the length of all of it (eight bytes, little endian).
    FirstSegment = 1,
    /// A further piece of it.
    Segment = 2,
}

const KIND_BYTES: usize = 1;

/// Two directions of messages. Dropping the sending half closes the connection once everything queued is written. Dropping the
/// receiving half closes it, too: what is queued is written then in [`CLOSING_TIME`](crate::limits::CLOSING_TIME) or not at
/// all.
#[derive(Debug)]
pub struct Transport<O, I> {
    /// Messages to the peer.
    pub sender: Sender<O>,
    /// Batches from the peer. The last item is the reason why there are no more.
    pub receiver: mpsc::Receiver<Result<Vec<I>, LinkError>>,
    /// Where large payloads that arrive are put. Of a peer that has yet to say who it is, that is not known: whoever is to
    /// hand them on to other processes says it before they come.
    pub rooms: Arc<OnceLock<Rooms>>,
}

/// Reason why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The network or the peer's machine broke it.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// A record that arrived was not sealed by the peer.
    #[error("the connection was tampered with: {0}")]
    Record(RecordError),
    /// A record that arrived is not a message.
    #[error("the peer sent something that is not a message ({0}); is it of another release?")]
    Malformed(#[from] DecodeError),
    /// A message that arrived is larger than one of its kind may be.
    #[error("the peer sent a message of more than {0} bytes")]
    TooLarge(usize),
    /// A record that arrived holds more messages than one may.
    #[error("the peer sent more than {0} messages in one record")]
    TooMany(usize),
    /// A large message that began to arrive did not go on.
    #[error(
        "the peer sent nothing more of a large message for {0:?}, while others waited for the room it takes"
    )]
    Stalled(Duration),
}

/// A transport within one process: the dispatcher's end and the node's end.
pub fn in_memory() -> (Transport<ToNode, FromNode>, Transport<FromNode, ToNode>) {
    let (to_node, node_end) = memory_direction();
    let (from_node, dispatcher_end) = memory_direction();
    (
        Transport { sender: to_node, receiver: dispatcher_end, rooms: rooms_of_this_process() },
        Transport { sender: from_node, receiver: node_end, rooms: rooms_of_this_process() },
    )
}

fn rooms_of_this_process() -> Arc<OnceLock<Rooms>> {
    Arc::new(OnceLock::from(Rooms::of_this_process()))
}

fn memory_direction<M: Message>() -> (Sender<M>, mpsc::Receiver<Result<Vec<M>, LinkError>>) {
    let (sender, mut queue) = queue::new();
    let (batches, receiver) = mpsc::channel(BATCHES_RECEIVED);
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while queue.take(&mut taken).await {
            let weight = taken.iter().map(|(weight, _)| weight).sum();
            let batch = taken.drain(..).map(|(_, message)| message).collect();
            if batches.send(Ok(batch)).await.is_err() {
                return;
            }
            queue.taken(weight);
        }
        let _ = batches.send(Err(LinkError::Closed)).await;
    });
    (sender, receiver)
}

/// A transport over a connection whose handshake is done. Spawns a task for each direction.
pub fn over<R, W, O, I>(reader: R, writer: W, keys: Keys) -> Transport<O, I>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
    O: Message,
    I: Message,
{
    run(Reader::new(reader, keys.clone()), Writer::new(writer, keys), None, Budget::default())
}

/// As [`over`], once the peer has sent its first sealed messages. Until then the connection is half-open: the peer has not
/// shown that it has the keys which the handshake made, nothing is kept for it, and nobody need be told of it. What is kept
/// for it later is a part of `budget`; where its large payloads are put is yet to be said.
///
/// # Errors
/// When the connection ends before that.
pub async fn over_once_heard<R, W, O, I>(
    reader: R,
    writer: W,
    keys: Keys,
    budget: Budget,
) -> Result<Transport<O, I>, LinkError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
    O: Message,
    I: Message,
{
    let mut reader = Reader::new(reader, keys.clone()).within(budget.clone());
    reader.rooms = Arc::default();
    let mut first = Vec::new();
    reader.receive(&mut first).await?;
    Ok(run(reader, Writer::new(writer, keys), Some(first), budget))
}

fn run<R, W, O, I>(
    mut reader: Reader<R>,
    writer: Writer<W>,
    first: Option<Vec<I>>,
    budget: Budget,
) -> Transport<O, I>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
    O: Message,
    I: Message,
{
    let (sender, queue) = queue::new();
    let (batches, receiver) = mpsc::channel(BATCHES_RECEIVED);
    let rooms = Arc::clone(&reader.rooms);
    let waiting = queue.waiting();
    let writing = tokio::spawn(write_all(writer, queue));
    tokio::spawn(async move {
        let mut first = first.map(Ok);
        loop {
            let mut batch = Vec::new();
            let received = match first.take() {
                Some(first) => first,
                None => tokio::select! {
                    received = reader.receive(&mut batch) => received.map(|()| batch),
                    () = batches.closed() => break,
                },
            };
            let ended = received.is_err();
            if batches.send(received).await.is_err() {
                break;
            }
            if ended {
                return writing.abort();
            }
        }
        let closing = budget.close();
        if waiting.bytes() <= CLOSING_BYTES {
            close(reader.io, writing, closing.time).await;
        } else {
            writing.abort();
        }
    });
    Transport { sender, receiver, rooms }
}

/// Closes the connection from this side. What the peer still sends is taken until it has closed its side as well: unread it
/// would have the system drop what is on its way to the peer.
async fn close(mut io: impl AsyncRead + Unpin, mut writing: JoinHandle<()>, time: Duration) {
    let discarding = async {
        let mut discarded = BytesMut::with_capacity(DISCARDED_BYTES);
        while let Ok(1..) = io.read_buf(&mut discarded).await {
            discarded.clear();
        }
    };
    // Whatever is not done by then is not done.
    let _ = timeout(time, async { tokio::join!(discarding, &mut writing) }).await;
    writing.abort();
}

async fn write_all<O: Message>(mut writer: Writer<impl AsyncWrite + Unpin>, mut queue: Queue<O>) {
    let mut batch = Vec::new();
    loop {
        if !writer.has_queued() && !queue.take(&mut batch).await {
            break;
        }
        queue.take_now(&mut batch);
        for (weight, message) in batch.drain(..) {
            if writer.queue_weighed(&message, weight).is_err() {
                // What was queued cannot be serialised: nothing after it would make sense to the peer.
                return;
            }
        }
        if writer.seal_some().is_err() {
            return;
        }
        queue.taken(writer.take_sealed_weight());
        if writer.write_sealed().await.is_err() {
            // The reading side sees the broken connection too, and reports it.
            return;
        }
        if writer.has_queued() {
            // Everybody else of this thread has a turn between two pieces of something large.
            tokio::task::yield_now().await;
        }
    }
    // The reading side, which sees the peer close, limits how long that takes.
    let _ = writer.io.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake;
    use crate::limits::RECORD_PLAIN_BYTES;
    use crate::secret::Secret;
    use crate::{
        Attempt, AttemptId, Digest, Ended, FunctionId, JobId, NodeId, NodeStatus, Outcome, Payload,
        ProgramId, Role, Target, Welcome,
    };

    type Ends = (Transport<ToNode, FromNode>, Transport<FromNode, ToNode>);

    async fn sealed_pair() -> Ends {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let secret = Secret::random();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, std::slice::from_ref(&secret))
        );
        let (near_reader, near_writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        (
            over(near_reader, near_writer, near_keys.unwrap().keys),
            over(far_reader, far_writer, far_keys.unwrap().keys),
        )
    }

    fn attempt(place: u32, bytes: usize) -> Attempt {
        Attempt {
            id: AttemptId { job: JobId::new(place, 0), number: 1 },
            program: ProgramId::FIRST,
            function: FunctionId(1),
            time_limit_ns: 0,
            args: Payload::from(vec![place as u8; bytes]),
        }
    }

    #[tokio::test]
    async fn what_is_sent_arrives_whatever_its_size() {
        let (near, mut far) = sealed_pair().await;
        let around = |bytes: usize| bytes - 60..bytes + 10;
        let full = around(RECORD_PLAIN_BYTES).chain(around(2 * RECORD_PLAIN_BYTES));
        let sizes = [0, 1, 1_000, 16_383, 16_384, 3_000_000].into_iter().chain(full);
        let sent: Vec<_> = sizes.zip(0..).map(|(bytes, place)| attempt(place, bytes)).collect();
        near.sender.send(ToNode::Run(sent.clone())).unwrap();
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            for message in far.receiver.recv().await.unwrap().unwrap() {
                let ToNode::Run(attempts) = message else { panic!("{message:?}") };
                arrived.extend(attempts);
            }
        }
        arrived.sort_by_key(|attempt| attempt.id);
        assert_eq!(arrived, sent);
    }

    #[tokio::test]
    async fn small_messages_pass_a_large_one_but_orders_about_attempts_do_not() {
        let (near, mut far) = sealed_pair().await;
        near.sender.send(ToNode::Run(vec![attempt(1, 8 << 20)])).unwrap();
        near.sender.send(ToNode::Cancel(vec![attempt(1, 0).id])).unwrap();
        near.sender.send(ToNode::Ping(7)).unwrap();
        let mut order = Vec::new();
        while order.len() < 3 {
            order.extend(far.receiver.recv().await.unwrap().unwrap());
        }
        assert!(matches!(order[..], [ToNode::Ping(7), ToNode::Run(_), ToNode::Cancel(_)]));
    }

    #[tokio::test]
    async fn the_pieces_of_a_program_and_a_farewell_keep_their_order() {
        let (near, mut far) = sealed_pair().await;
        let digest = Digest([1; 32]);
        let piece = |number, bytes: usize, last| ToNode::ProgramChunk {
            digest,
            number,
            bytes: Payload::from(vec![7; bytes]),
            last,
        };
        let sent =
            [piece(0, 256 << 10, false), piece(1, 256 << 10, false), piece(2, 3_375, true), ToNode::Goodbye];
        sent.iter().for_each(|message| near.sender.send(message.clone()).unwrap());
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            arrived.extend(far.receiver.recv().await.unwrap().unwrap());
        }
        assert_eq!(arrived, sent);
    }

    #[tokio::test]
    async fn nothing_overtakes_a_greeting() {
        let (mut near, far) = sealed_pair().await;
        let welcome = Welcome {
            node: NodeId(1),
            name: "node".into(),
            software: String::new(),
            libc: String::new(),
            confinement: String::new(),
            target: Target::here(),
            resumed: true,
            held: (0..10_000).map(|place| attempt(place, 0).id).collect(),
            window: 1,
            status: NodeStatus::default(),
        };
        far.sender.send(FromNode::Welcome(Box::new(welcome))).unwrap();
        let outcome = Outcome {
            id: attempt(0, 0).id,
            run_time_ns: 1,
            ended: Ended::Succeeded(vec![0; 8 << 20].into()),
        };
        far.sender.send(FromNode::Outcomes(0, vec![outcome])).unwrap();
        far.sender.send(FromNode::Window(5)).unwrap();
        let mut arrived = near.receiver.recv().await.unwrap().unwrap();
        assert!(matches!(arrived[0], FromNode::Welcome(_)));
        // The greeting is gone, and what waited behind it is not overtaken, either.
        far.sender.send(FromNode::Window(7)).unwrap();
        while arrived.len() < 4 {
            arrived.extend(near.receiver.recv().await.unwrap().unwrap());
        }
        let windows: Vec<_> =
            arrived.iter().filter(|message| matches!(message, FromNode::Window(_))).collect();
        assert_eq!(windows, [&FromNode::Window(5), &FromNode::Window(7)]);
    }

    #[tokio::test]
    async fn a_connection_is_half_open_until_its_first_sealed_message() {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let secret = Secret::random();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, std::slice::from_ref(&secret))
        );
        let (reader, writer) = tokio::io::split(far);
        let keys = far_keys.unwrap().keys;
        let heard = over_once_heard::<_, _, FromNode, ToNode>(reader, writer, keys, Budget::default());
        let mut heard = std::pin::pin!(heard);
        tokio::select! {
            biased;
            _ = &mut heard => panic!("nothing was said yet"),
            () = tokio::task::yield_now() => {}
        }
        let (reader, writer) = tokio::io::split(near);
        let near: Transport<ToNode, FromNode> = over(reader, writer, near_keys.unwrap().keys);
        near.sender.send(ToNode::Ping(1)).unwrap();
        let mut far = heard.await.unwrap();
        assert_eq!(far.receiver.recv().await.unwrap().unwrap(), [ToNode::Ping(1)], "which is not lost");
        near.sender.send(ToNode::Ping(2)).unwrap();
        assert_eq!(far.receiver.recv().await.unwrap().unwrap(), [ToNode::Ping(2)]);
    }

    #[tokio::test]
    async fn closing_one_end_is_seen_at_the_other_after_everything_sent() {
        let (near, mut far) = sealed_pair().await;
        near.sender.send(ToNode::Goodbye).unwrap();
        drop(near);
        assert_eq!(far.receiver.recv().await.unwrap().unwrap(), [ToNode::Goodbye]);
        assert!(matches!(far.receiver.recv().await, Some(Err(LinkError::Closed))));
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_tells_a_peer_that_reads_all_that_was_queued_whatever_that_sends() {
        let (near, far) = sealed_pair().await;
        let Transport { sender, mut receiver, .. } = near;
        // More than there is room for on the way.
        sender.send(ToNode::Run(vec![attempt(1, 4 << 20)])).unwrap();
        far.sender.send(FromNode::Goodbye(crate::Farewell::Stopped)).unwrap();
        drop(far);
        assert!(matches!(receiver.recv().await, Some(Ok(told)) if told.len() == 1));
        assert!(matches!(receiver.recv().await, Some(Err(LinkError::Closed))));
    }

    #[tokio::test]
    async fn for_a_peer_that_reads_nothing_a_connection_that_is_closed_has_some_time_and_none_with_much_queued()
     {
        let written = |bytes: usize| async move {
            let (near, far) = tokio::io::duplex(1 << 10);
            let (_, keys) = sealed_ping().await;
            let (reader, writer) = tokio::io::split(near);
            let transport: Transport<FromNode, ToNode> = over(reader, writer, keys);
            let result = vec![0; bytes].into();
            let outcome = Outcome { id: attempt(0, 0).id, run_time_ns: 1, ended: Ended::Succeeded(result) };
            transport.sender.send(FromNode::Outcomes(0, vec![outcome])).unwrap();
            assert!(transport.sender.waiting_bytes() >= bytes);
            let sender = transport.sender.clone();
            drop(transport);
            let _ = timeout(Duration::from_millis(200), async {
                while !sender.is_closed() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            drop(far);
            sender.is_closed()
        };
        assert!(!written(1 << 20).await, "it has some time");
        assert!(written(CLOSING_BYTES + 1).await, "it does not read");
    }

    #[tokio::test]
    async fn of_a_list_of_large_outcomes_those_that_are_written_wait_no_longer() {
        let (mut near, far) = sealed_pair().await;
        let outcome = |place| Outcome {
            id: attempt(place, 0).id,
            run_time_ns: 1,
            ended: Ended::Succeeded(vec![0; 4 << 20].into()),
        };
        far.sender.send(FromNode::Outcomes(0, (0..8).map(outcome).collect())).unwrap();
        for left in (0..8).rev() {
            near.receiver.recv().await.unwrap().unwrap();
            let waiting = far.sender.waiting_bytes();
            assert!(waiting <= (left << 22) + 1_000, "{waiting} bytes wait with {left} to come");
        }
    }

    #[tokio::test]
    async fn what_is_written_waits_no_longer_in_whatever_order_that_is() {
        let (near, mut far) = sealed_pair().await;
        near.sender.send(ToNode::Run(vec![attempt(1, 8 << 20)])).unwrap();
        near.sender.send(ToNode::Cancel(vec![attempt(1, 0).id])).unwrap();
        near.sender.send(ToNode::Ping(7)).unwrap();
        assert!(near.sender.waiting_bytes() > 0, "nobody had a turn");
        let mut arrived = 0;
        while arrived < 3 {
            arrived += far.receiver.recv().await.unwrap().unwrap().len();
        }
        assert_eq!(near.sender.waiting_bytes(), 0);
    }

    /// As many pings as they are on the wire, and the beginning of a record after them; the keys of whoever may receive these.
    async fn sealed_in_two(pings: u64) -> ([Vec<u8>; 2], Keys) {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let secret = Secret::random();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, std::slice::from_ref(&secret))
        );
        let mut sealed = Vec::new();
        let mut writer = Writer::new(&mut sealed, near_keys.unwrap().keys);
        for number in 0..pings {
            writer.queue(&ToNode::Ping(number)).unwrap();
        }
        writer.write_some().await.unwrap();
        ([sealed, [&[0xff, 0xff][..], &[7; 1_000]].concat()], far_keys.unwrap().keys)
    }

    /// A ping as it is on the wire, and the keys of whoever may receive it.
    async fn sealed_ping() -> (Vec<u8>, Keys) {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let secret = Secret::random();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, std::slice::from_ref(&secret))
        );
        let mut sealed = Vec::new();
        let mut writer = Writer::new(&mut sealed, near_keys.unwrap().keys);
        writer.queue(&ToNode::Ping(1)).unwrap();
        writer.write_some().await.unwrap();
        (sealed, far_keys.unwrap().keys)
    }

    #[tokio::test]
    async fn a_connection_that_waits_keeps_no_room_but_for_what_has_arrived() {
        const PINGS: u64 = 20_000;
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let ([sealed, begun], keys) = sealed_in_two(PINGS).await;
        let mut reader = Reader::new(far, keys);
        let mut received = Vec::<ToNode>::new();
        for (sent, kept) in [(&sealed, 0), (&begun, begun.len())] {
            near.write_all(sent).await.unwrap();
            loop {
                let mut batch = Vec::new();
                tokio::select! {
                    biased;
                    read = reader.receive(&mut batch) => read.unwrap(),
                    () = std::future::ready(()) => break,
                }
                received.append(&mut batch);
            }
            assert_eq!(reader.room(), kept);
        }
        assert_eq!(received.len() as u64, PINGS, "all came through room that was another's before");
    }

    #[tokio::test]
    async fn a_flipped_bit_ends_the_connection() {
        let (mut sealed, keys) = sealed_ping().await;
        *sealed.last_mut().unwrap() ^= 1;
        let result = Reader::new(&sealed[..], keys).receive::<ToNode>(&mut Vec::new()).await;
        assert!(matches!(result, Err(LinkError::Record(RecordError::Altered))), "{result:?}");
    }

    #[tokio::test]
    async fn what_was_captured_opens_neither_twice_nor_on_another_connection() {
        let (sealed, keys) = sealed_ping().await;
        let twice = sealed.repeat(2);
        let mut reader = Reader::new(&twice[..], keys);
        let mut received = Vec::new();
        let result = reader.receive::<ToNode>(&mut received).await;
        assert!(matches!(result, Err(LinkError::Record(RecordError::Altered))), "{result:?}");
        assert_eq!(received, [ToNode::Ping(1)], "the first one is what was sent");
        let (_, other_keys) = sealed_ping().await;
        let result = Reader::new(&sealed[..], other_keys).receive::<ToNode>(&mut Vec::new()).await;
        assert!(matches!(result, Err(LinkError::Record(RecordError::Altered))), "{result:?}");
    }
}
