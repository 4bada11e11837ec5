//! The receiving side: records opened, large messages put together.

use std::cell::Cell;
use std::cmp::Ordering;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use super::budget::{Budget, NOT_READ_TOLD, Unfinished};
use super::{KIND_BYTES, Kind, LinkError, Message};
use crate::codec::DecodeError;
use crate::limits::{BATCH_MESSAGES, LARGE_MESSAGE_BYTES, RECORD_BYTES, RECORD_PLAIN_BYTES};
use crate::packed::Input;
use crate::record::{self, Keys, Opener};
use crate::room::{self, Room, Rooms};

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of the length before a large message.
const LENGTH_BYTES: usize = 8;
/// Room that is taken for a large message because its length was announced, before it arrives; more as it does. As much for
/// the first one of a connection, up to as much once one of half that length has arrived. What has not arrived is address
/// space, not memory.
const BELIEVED_BYTES: [usize; 2] = [1 << 20, 64 << 20];

thread_local! {
    /// Room to receive, which the connections of this thread use in turn.
    static ROOM: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// Receives messages.
#[derive(Debug)]
pub struct Reader<R> {
    pub(super) io: R,
    opener: Opener,
    /// Bytes that have been received and not been taken.
    received: BytesMut,
    /// Where large payloads are put. Until that is said, other processes are not let read them.
    pub(super) rooms: Arc<OnceLock<Rooms>>,
    /// The large message being put together.
    bulk: Option<Bulk>,
    /// Most room that is taken for the next one before it arrives.
    believed: usize,
    /// What large messages may take, together with those of other connections.
    budget: Budget,
}

/// A large message of which a part has arrived.
#[derive(Debug)]
struct Bulk {
    room: Room,
    arrived: usize,
    announced: usize,
    /// Its part of the budget, if it is large enough to count.
    unfinished: Option<Unfinished>,
    /// Where it is put together; none for where no other process reads.
    rooms: Option<Rooms>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `io` what was sealed for `keys`. Large payloads are put where those of this process are.
    pub fn new(io: R, keys: Keys) -> Self {
        let [believed, _] = BELIEVED_BYTES;
        let (opener, budget) = (Opener::new(keys), Budget::default());
        let rooms = super::rooms_of_this_process();
        Self { io, opener, received: BytesMut::new(), rooms, bulk: None, believed, budget }
    }

    /// Counts large messages together with those of other connections.
    pub(super) fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Waits for at least one message and appends it, and what arrived with it, to `messages`: at most twice as many as a
    /// batch may have. Appends none if the peer could not be read from for a second because of the budget.
    ///
    /// # Errors
    /// When the connection ended, or what arrives is not what the peer should send. Nothing more can be received then.
    pub async fn receive<M: Message>(&mut self, messages: &mut Vec<M>) -> Result<(), LinkError> {
        loop {
            while messages.len() < BATCH_MESSAGES && self.take_record(messages)? {}
            if !messages.is_empty() {
                return Ok(());
            }
            let mut is_counted = false;
            if let Some(bulk) = &mut self.bulk {
                // Everybody else of this thread has a turn between two pieces of something large.
                tokio::task::yield_now().await;
                if let Some(unfinished) = &mut bulk.unfinished {
                    is_counted = true;
                    if !unfinished.may_grow().await? {
                        return Ok(());
                    }
                }
            }
            let reading = self.read();
            let read = match is_counted {
                false => reading.await,
                // It is looked whether it goes on.
                true => match timeout(NOT_READ_TOLD, reading).await {
                    Ok(read) => read,
                    Err(_) => continue,
                },
            };
            match read {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
    }

    /// Bytes that it keeps for what may arrive.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.received.capacity() + self.opener.room()
    }

    /// Reads what has arrived.
    async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            self.make_room();
            let read = pin!(self.io.read_buf(&mut self.received)).poll(context);
            if read.is_pending() {
                self.rest();
            }
            read
        })
        .await
    }

    fn make_room(&mut self) {
        let mut room = ROOM.take();
        if room.capacity() > self.received.capacity() {
            room.extend_from_slice(&self.received);
            self.received = room;
        }
        self.received.reserve(READ_BYTES);
    }

    /// Nothing arrives: others of this thread have the room meanwhile. What has arrived of a record is kept, and no more, so
    /// that a thousand connections that say nothing take next to no memory.
    fn rest(&mut self) {
        let begun = BytesMut::from(&self.received[..]);
        let mut room = std::mem::replace(&mut self.received, begun);
        room.clear();
        ROOM.set(room);
        self.opener.rest();
    }

    /// Takes the next record. False if it has not arrived.
    fn take_record<M: Message>(&mut self, messages: &mut Vec<M>) -> Result<bool, LinkError> {
        let Some(mut bulk) = self.bulk.take() else {
            let opened = self.opener.decode(&mut self.received).map_err(LinkError::Record)?;
            let Some(opened) = opened else { return Ok(false) };
            // Who does not go on with a large message gets no room for it.
            let believed = if record::is_whole(&self.received) { self.believed } else { 0 };
            self.bulk = take_plain(self.opener.plain(opened), messages, believed, self.rooms.get())?;
            if let Some(Bulk { arrived, announced, unfinished, .. }) = &mut self.bulk
                && *announced > LARGE_MESSAGE_BYTES
            {
                *unfinished = Some(self.budget.begin(*arrived, *announced));
            }
            return Ok(true);
        };
        if !record::is_whole(&self.received) {
            self.bulk = Some(bulk);
            return Ok(false);
        }
        // Most likely it is the next segment, which is thus opened to where it belongs.
        bulk.make_room(self.believed);
        let opened = self.opener.open(&mut self.received, &mut bulk.room[bulk.arrived..]);
        let Some(opened) = opened.map_err(LinkError::Record)? else {
            self.bulk = Some(bulk);
            return Ok(false);
        };
        let record = &bulk.room[bulk.arrived..bulk.arrived + opened];
        let is_full = opened == RECORD_PLAIN_BYTES;
        if !is_full && record.last() != Some(&(Kind::Segment as u8)) {
            // What is decoded is nowhere where others could change it meanwhile.
            let record = record.to_vec();
            // A large message that begins within another is none.
            if let Some(second) = take_plain(&record, messages, 0, None)? {
                return Err(DecodeError::LeftOver(second.announced).into());
            }
            self.bulk = Some(bulk);
            return Ok(true);
        }
        bulk.arrived += if is_full { opened } else { opened - KIND_BYTES };
        match bulk.arrived.cmp(&bulk.announced) {
            Ordering::Less => {
                if let Some(unfinished) = &mut bulk.unfinished {
                    unfinished.grow(bulk.arrived);
                }
                self.bulk = Some(bulk);
            }
            Ordering::Equal => {
                let [_, most] = BELIEVED_BYTES;
                self.believed = self.believed.max(2 * bulk.announced).min(most);
                messages.push(bulk.message()?);
            }
            Ordering::Greater => return Err(DecodeError::LeftOver(bulk.arrived - bulk.announced).into()),
        }
        Ok(true)
    }
}

/// Takes a record that is no further segment, and yields the large message that it begins: so much room is taken for it at
/// most.
fn take_plain<M: Message>(
    record: &[u8],
    messages: &mut Vec<M>,
    believed: usize,
    rooms: Option<&Rooms>,
) -> Result<Option<Bulk>, LinkError> {
    let (kind, mut record) = record.split_last().ok_or(DecodeError::TooShort)?;
    match *kind {
        kind if kind == Kind::Batch as u8 => {
            let mut input = Input::new(record);
            let most = messages.len() + BATCH_MESSAGES;
            while !input.is_empty() {
                if messages.len() == most {
                    return Err(LinkError::TooMany(BATCH_MESSAGES));
                }
                messages.push(M::decode(&mut input)?);
            }
            Ok(None)
        }
        kind if kind == Kind::FirstSegment as u8 && record.len() > LENGTH_BYTES => {
            let announced = usize::try_from(record.get_u64_le()).unwrap_or(usize::MAX);
            let largest = record.first().map_or(0, |kind| M::largest(*kind));
            let rooms = rooms.filter(|_| record.first().is_some_and(|kind| M::is_of_payloads(*kind)));
            if announced > largest {
                return Err(LinkError::TooLarge(largest));
            }
            match record.len().cmp(&announced) {
                Ordering::Less => return Ok(Some(Bulk::begin(announced, record, believed, rooms))),
                Ordering::Equal => messages.push(whole_message(Input::new(record))?),
                Ordering::Greater => return Err(DecodeError::LeftOver(record.len() - announced).into()),
            }
            Ok(None)
        }
        kind => Err(DecodeError::UnknownKind(kind).into()),
    }
}

impl Bulk {
    /// If nothing is believed, there is room for what has arrived alone.
    fn begin(announced: usize, segment: &[u8], believed: usize, rooms: Option<&Rooms>) -> Self {
        let mut room = match believed {
            0 => Room::in_no_arena(segment.len()),
            believed => room_in(rooms, room_for(announced, believed, segment.len())),
        };
        room[..segment.len()].copy_from_slice(segment);
        Self { room, arrived: segment.len(), announced, unfinished: None, rooms: rooms.cloned() }
    }

    /// Makes sure that whatever record comes next can be opened behind what has arrived.
    fn make_room(&mut self, believed: usize) {
        let bytes = room_for(self.announced, believed, 2 * self.arrived);
        if self.room.len() == self.arrived {
            let mut room = room_in(self.rooms.as_ref(), bytes);
            room[..self.arrived].copy_from_slice(&self.room);
            self.room = room;
        } else if self.room.len() < self.arrived + RECORD_BYTES {
            self.room.grow(bytes, self.arrived);
        }
    }

    fn message<M: Message>(self) -> Result<M, DecodeError> {
        whole_message(Input::shared(&room::filled(self.room, self.announced)))
    }
}

fn room_in(rooms: Option<&Rooms>, bytes: usize) -> Room {
    rooms.map_or_else(|| Room::in_no_arena(bytes), |rooms| rooms.take(bytes))
}

/// Bytes of room for a message that is announced to be so large, of which so much is believed, or needed, and for a record behind it.
fn room_for(announced: usize, believed: usize, needed: usize) -> usize {
    announced.min(believed.max(needed)) + RECORD_BYTES
}

fn whole_message<M: Message>(mut input: Input<'_>) -> Result<M, DecodeError> {
    let message = M::decode(&mut input)?;
    input.end()?;
    Ok(message)
}
