//! Messages over a sealed connection, and the same over memory.
//!
//! A [`Transport`] is what a dispatcher and a node speak over; neither knows which of the two kinds it has.
//! Messages are taken as they queue up and sealed together: batches come from draining, never from waiting.
//! A message larger than [`BULK_BYTES`] travels in segments, and everything small that is
//! queued meanwhile passes it, except what makes no sense before it ([`Message::follows_bulk`]): orders about attempts, the
//! last piece of a program, a farewell.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder};

use crate::codec::{self, DecodeError};
use crate::limits::{BATCH_BYTES, BULK_BYTES, MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES, RECORD_PLAIN_BYTES};
use crate::record::{Keys, Opener, RecordError, Sealer};
use crate::{FromNode, ToNode};

/// Batches received and not yet taken; the sender is held back by TCP beyond that.
const BATCHES_RECEIVED: usize = 16;
/// How much is sealed before it is written out.
const WRITE_BYTES: usize = 256 * 1024;
/// How much is asked for in one read.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of the length before a large message.
const LENGTH_BYTES: usize = 8;
/// Memory that is made ready for a large message because its length was announced, before it arrives.
const BELIEVED_BYTES: usize = 4 << 20;
/// How long what is still queued may take to be written once the connection is being closed.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// First byte of an opened record.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    /// Whole messages, one after the other.
    Batch = 0,
    /// The first piece of a large message, behind its length (eight bytes, little endian).
    FirstSegment = 1,
    /// A further piece of it.
    Segment = 2,
}

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

/// What can be sent over a [`Transport`].
pub trait Message: Serialize + DeserializeOwned + Send + 'static {
    /// Hands the message to `each` in pieces that are small, as far as it can be divided.
    fn divide(self, each: &mut dyn FnMut(Self));

    /// Whether this message must not overtake a large one queued before it.
    fn follows_bulk(&self) -> bool;

    /// Whether this message is a greeting: nothing queued after it may overtake it, however large it is.
    fn is_greeting(&self) -> bool;
}

/// Two directions of messages. Dropping the sending half closes the connection once everything queued is written.
#[derive(Debug)]
pub struct Transport<O, I> {
    /// Messages to the peer. Never blocks: what bounds it is the window the receiver granted.
    pub sender: mpsc::UnboundedSender<O>,
    /// Batches from the peer. The last item is the reason why there are no more.
    pub receiver: mpsc::Receiver<Result<Vec<I>, LinkError>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The network or the peer's machine broke it.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// What arrived was not sealed by the peer.
    #[error("the connection was tampered with: {0}")]
    Record(RecordError),
    /// What arrived is not a message.
    #[error("the peer sent something that is not a message ({0}); is it of another release?")]
    Malformed(#[from] DecodeError),
    /// What arrived is larger than anything may be.
    #[error("the peer sent a message of more than {0} bytes")]
    TooLarge(usize),
}

/// A transport within one process: the dispatcher's end and the node's end.
pub fn in_memory() -> (Transport<ToNode, FromNode>, Transport<FromNode, ToNode>) {
    let (to_node, node_end) = memory_direction();
    let (from_node, dispatcher_end) = memory_direction();
    (
        Transport { sender: to_node, receiver: dispatcher_end },
        Transport { sender: from_node, receiver: node_end },
    )
}

fn memory_direction<M: Send + 'static>()
-> (mpsc::UnboundedSender<M>, mpsc::Receiver<Result<Vec<M>, LinkError>>) {
    let (sender, mut queue) = mpsc::unbounded_channel();
    let (batches, receiver) = mpsc::channel(BATCHES_RECEIVED);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, usize::MAX).await > 0 {
            if batches.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                return;
            }
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
    let (sender, queue) = mpsc::unbounded_channel();
    let (batches, receiver) = mpsc::channel(BATCHES_RECEIVED);
    let writing = tokio::spawn(write_all(Writer::new(writer, keys.clone()), queue));
    tokio::spawn(async move {
        let mut reader = Reader::new(reader, keys);
        loop {
            let mut batch = Vec::new();
            let received = tokio::select! {
                received = reader.receive(&mut batch) => received.map(|()| batch),
                () = batches.closed() => return,
            };
            let ended = received.is_err();
            if batches.send(received).await.is_err() {
                return;
            }
            if ended {
                writing.abort();
                return;
            }
        }
    });
    Transport { sender, receiver }
}

async fn write_all<O: Message>(
    mut writer: Writer<impl AsyncWrite + Unpin>,
    mut queue: mpsc::UnboundedReceiver<O>,
) {
    let mut batch = Vec::new();
    loop {
        if !writer.has_queued() && queue.recv_many(&mut batch, usize::MAX).await == 0 {
            break;
        }
        while let Ok(message) = queue.try_recv() {
            batch.push(message);
        }
        for message in batch.drain(..) {
            if writer.queue(message).is_err() {
                // What was queued cannot be serialised: nothing after it would make sense to the peer.
                return;
            }
        }
        if writer.write_some().await.is_err() {
            // The reading side sees the broken connection too, and reports it.
            return;
        }
    }
    let _ = tokio::time::timeout(FAREWELL_TIME, writer.io.shutdown()).await;
}

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
    pub async fn receive<M: DeserializeOwned>(&mut self, messages: &mut Vec<M>) -> Result<(), LinkError> {
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

    fn take_record<M: DeserializeOwned>(
        &mut self,
        mut record: Bytes,
        messages: &mut Vec<M>,
    ) -> Result<(), LinkError> {
        const LARGEST: usize = PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES;
        match record.get_u8() {
            kind if kind == Kind::Batch as u8 => Ok(codec::decode_sequence(&record, messages)?),
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
    fn take_segment<M: DeserializeOwned>(
        &mut self,
        segment: &[u8],
        messages: &mut Vec<M>,
    ) -> Result<(), LinkError> {
        let Some(missing) = self.bulk_missing.checked_sub(segment.len()) else {
            return Err(DecodeError::LeftOver(segment.len() - self.bulk_missing).into());
        };
        self.bulk.extend_from_slice(segment);
        self.bulk_missing = missing;
        if missing == 0 {
            let whole = Bytes::from(std::mem::take(&mut self.bulk));
            messages.push(codec::decode_frame(&whole)?);
        }
        Ok(())
    }
}

/// Sends messages.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
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
    pub fn queue<M: Message>(&mut self, message: M) -> Result<(), SendError> {
        let mut result = Ok(());
        message.divide(&mut |piece| {
            if result.is_ok() {
                result = self.queue_piece(&piece);
            }
        });
        result
    }

    fn queue_piece<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        let start = self.batch.len();
        let payload = codec::encode_apart(message, BULK_BYTES, &mut self.batch)?;
        let large = payload.is_some() || self.batch.len() - start > BULK_BYTES;
        let waits = match self.bulk.front() {
            None => false,
            Some(first) => first.is_greeting || message.follows_bulk(),
        };
        if large || waits {
            let head = self.batch.split_off(start).into();
            let (payload, is_greeting) = (payload.unwrap_or_default(), message.is_greeting());
            self.bulk.push_back(Large { head, payload, is_begun: false, is_greeting });
        } else if self.batch.len() > BATCH_BYTES {
            self.seal_batch()?;
        }
        Ok(())
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
        if self.batch.len() > 1 {
            self.sealer.encode(&self.batch, &mut self.sealed)?;
            self.batch.truncate(1);
        }
        Ok(())
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

/// Cuts `items` into runs whose weights add up to at most `BULK_BYTES / 2`; an item heavier than that stands alone.
fn runs<T>(items: Vec<T>, weight: impl Fn(&T) -> usize, mut each: impl FnMut(Vec<T>)) {
    const RUN_BYTES: usize = BULK_BYTES / 2;
    if items.iter().map(&weight).sum::<usize>() <= RUN_BYTES {
        return each(items);
    }
    let mut run = Vec::new();
    let mut bytes = 0;
    for item in items {
        let item_bytes = weight(&item);
        if bytes + item_bytes > RUN_BYTES && !run.is_empty() {
            each(std::mem::take(&mut run));
            bytes = 0;
        }
        bytes += item_bytes;
        run.push(item);
    }
    each(run);
}

impl Message for ToNode {
    fn divide(self, each: &mut dyn FnMut(Self)) {
        match self {
            // Identifiers, numbers and lengths need at most 33 bytes.
            Self::Run(attempts) => {
                runs(attempts, |attempt| 33 + attempt.args.len(), |run| each(Self::Run(run)));
            }
            other => each(other),
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(
            self,
            Self::Cancel(_)
                | Self::Recall(_)
                | Self::ProgramChunk { .. }
                | Self::ProgramUnavailable(..)
                | Self::Goodbye
        )
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Hello(_))
    }
}

impl Message for FromNode {
    fn divide(self, each: &mut dyn FnMut(Self)) {
        match self {
            Self::Outcomes(mut first, outcomes) => runs(outcomes, crate::Outcome::weight, |run| {
                let count = run.len() as u64;
                each(Self::Outcomes(first, run));
                first += count;
            }),
            other => each(other),
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(self, Self::Goodbye(_))
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Welcome(_) | Self::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{self, Role};
    use crate::secret::Secret;
    use crate::{
        Attempt, AttemptId, Digest, FunctionId, JobId, NodeId, NodeStatus, Payload, Target, Welcome,
    };

    type Ends = (Transport<ToNode, FromNode>, Transport<FromNode, ToNode>);

    async fn sealed_pair() -> Ends {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let secret = Secret::parse("secret").unwrap();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, &secret)
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
            function: FunctionId(1),
            time_limit_ns: 0,
            args: Payload::from(vec![place as u8; bytes]),
        }
    }

    #[tokio::test]
    async fn what_is_sent_arrives_whatever_its_size() {
        let (near, mut far) = sealed_pair().await;
        let sizes = [0, 1, 1_000, 16_383, 16_384, 65_535, 65_536, 3_000_000];
        let sent: Vec<_> = sizes.iter().zip(0..).map(|(&bytes, place)| attempt(place, bytes)).collect();
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
        let piece =
            |bytes: usize, last| ToNode::ProgramChunk { digest, bytes: Payload::from(vec![7; bytes]), last };
        let sent = [piece(256 << 10, false), piece(256 << 10, false), piece(3_375, true), ToNode::Goodbye];
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
            target: Target::here(),
            resumed: true,
            held: (0..10_000).map(|place| attempt(place, 0).id).collect(),
            window: 1,
            status: NodeStatus::default(),
        };
        far.sender.send(FromNode::Welcome(welcome)).unwrap();
        far.sender.send(FromNode::Window(7)).unwrap();
        let mut arrived = Vec::new();
        while arrived.len() < 2 {
            arrived.extend(near.receiver.recv().await.unwrap().unwrap());
        }
        assert!(matches!(arrived[..], [FromNode::Welcome(_), FromNode::Window(7)]));
    }

    #[tokio::test]
    async fn closing_one_end_is_seen_at_the_other_after_everything_sent() {
        let (near, mut far) = sealed_pair().await;
        near.sender.send(ToNode::Goodbye).unwrap();
        drop(near);
        assert_eq!(far.receiver.recv().await.unwrap().unwrap(), [ToNode::Goodbye]);
        assert!(matches!(far.receiver.recv().await, Some(Err(LinkError::Closed))));
    }

    /// What one ping looks like on the wire, and the keys of whoever may receive it.
    async fn sealed_ping() -> (Vec<u8>, Keys) {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let secret = Secret::parse("secret").unwrap();
        let (near_keys, far_keys) = tokio::join!(
            handshake::initiate(&mut near, &secret, Role::Dispatcher),
            handshake::respond(&mut far, &secret)
        );
        let mut sealed = Vec::new();
        let mut writer = Writer::new(&mut sealed, near_keys.unwrap().keys);
        writer.queue(ToNode::Ping(1)).unwrap();
        writer.write_some().await.unwrap();
        (sealed, far_keys.unwrap().keys)
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
