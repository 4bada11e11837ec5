//! Memory for large payloads, used again and again.
//!
//! Memory fresh from the system costs as much to touch as to copy into: each page is cleared first. So the room of a
//! payload that nobody needs any more is kept for a moment for the next one of about its size.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Smaller rooms are not worth keeping.
pub const SMALLEST_BYTES: usize = 64 * 1024;
/// How much is kept at most, in all.
const KEPT_BYTES: usize = 256 << 20;
/// How long a room is kept that nobody takes.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// A room is not used for something smaller than this part of it.
const LARGEST_WASTE: usize = 4;

static KEPT: Mutex<Kept> = Mutex::new(Kept { rooms: Vec::new(), bytes: 0 });

struct Kept {
    /// Those given back last come last.
    rooms: Vec<(Instant, Vec<u8>)>,
    bytes: usize,
}

/// Room for at least `bytes` bytes: a vector of at least that length, with anything in it.
pub fn take(bytes: usize) -> Vec<u8> {
    if bytes >= SMALLEST_BYTES
        && let Some(room) = kept().take(bytes)
    {
        return room;
    }
    // The system clears it, page by page, when it is first touched.
    vec![0; bytes]
}

/// The first `length` bytes of a room. It is kept for others when they are dropped.
///
/// # Panics
/// When the room is smaller.
pub fn filled(room: Vec<u8>, length: usize) -> Bytes {
    assert!(length <= room.len(), "a room holds no more than it has room for");
    Bytes::from_owner(Filled { room, length })
}

/// Room that is filled by writing to it, and grows with what is written.
#[derive(Debug)]
pub struct Writer {
    room: Vec<u8>,
    length: usize,
}

impl Writer {
    /// Expects about so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { room: take(bytes), length: 0 }
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What was written. It does not hold on to much more memory than it takes.
    pub fn into_bytes(mut self) -> Bytes {
        let room = std::mem::take(&mut self.room);
        if room.len() <= 2 * self.length {
            return filled(room, self.length);
        }
        let bytes = Bytes::copy_from_slice(&room[..self.length]);
        give_back(room);
        bytes
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.length + bytes.len();
        if self.room.len() < end {
            let mut larger = take(end.max(2 * self.length));
            larger[..self.length].copy_from_slice(&self.room[..self.length]);
            give_back(std::mem::replace(&mut self.room, larger));
        }
        self.room[self.length..end].copy_from_slice(bytes);
        self.length = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.room));
    }
}

/// While there is one of these, memory is kept; with the last one goes what was.
#[derive(Debug)]
pub struct Keeper(());

static KEEPERS: AtomicUsize = AtomicUsize::new(0);

impl Keeper {
    /// From now on, memory is kept.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        KEEPERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if KEEPERS.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut kept = kept();
            *kept = Kept { rooms: Vec::new(), bytes: 0 };
        }
    }
}

/// Gives the system what has been kept for long. To be called when [`due`] says so.
pub fn tidy() {
    kept().tidy(Instant::now());
}

/// Waits until something has been kept for long, and gives it to the system. Waits for ever while nothing is kept.
#[cfg(feature = "net")]
pub async fn tidied() {
    match due() {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
    tidy();
}

/// When something will have been kept for long; `None` while nothing is kept.
pub fn due() -> Option<Instant> {
    kept().rooms.first().map(|(since, _)| *since + KEPT_FOR)
}

/// Keeps `room` for others.
pub fn give_back(room: Vec<u8>) {
    if room.len() >= SMALLEST_BYTES && KEEPERS.load(Ordering::Relaxed) > 0 {
        kept().give_back(room, Instant::now());
    }
}

struct Filled {
    room: Vec<u8>,
    length: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.room));
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let fits = |room: &Vec<u8>| (bytes..=bytes.saturating_mul(LARGEST_WASTE)).contains(&room.len());
        let place = self.rooms.iter().rposition(|(_, room)| fits(room))?;
        let (_, room) = self.rooms.remove(place);
        self.bytes -= room.len();
        Some(room)
    }

    fn give_back(&mut self, room: Vec<u8>, now: Instant) {
        self.tidy(now);
        if self.bytes + room.len() <= KEPT_BYTES {
            self.bytes += room.len();
            self.rooms.push((now, room));
        }
    }

    fn tidy(&mut self, now: Instant) {
        let old = self.rooms.partition_point(|(since, _)| now.duration_since(*since) >= KEPT_FOR);
        let freed: usize = self.rooms.drain(..old).map(|(_, room)| room.len()).sum();
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_for_what_has_about_its_size() {
        let (now, mut kept) = (Instant::now(), Kept { rooms: Vec::new(), bytes: 0 });
        kept.give_back(vec![0; 1 << 20], now);
        assert!(kept.take((1 << 20) + 1).is_none(), "it is too small");
        assert!(kept.take((1 << 18) - 1).is_none(), "it is much too large");
        assert_eq!(kept.take(1 << 18).unwrap().len(), 1 << 20);
        assert!(kept.take(1 << 18).is_none(), "it is taken");
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn what_is_kept_has_a_limit_and_an_end() {
        let (now, mut kept) = (Instant::now(), Kept { rooms: Vec::new(), bytes: 0 });
        for _ in 0..5 {
            kept.give_back(vec![0; KEPT_BYTES / 4], now);
        }
        assert_eq!((kept.rooms.len(), kept.bytes), (4, KEPT_BYTES));
        kept.tidy(now + KEPT_FOR - Duration::from_millis(1));
        assert_eq!(kept.rooms.len(), 4);
        kept.tidy(now + KEPT_FOR);
        assert_eq!((kept.rooms.len(), kept.bytes), (0, 0));
    }

    #[test]
    fn what_is_written_holds_on_to_little_more_than_it_takes() {
        let written = |room: usize, bytes: usize| {
            let mut writer = Writer::with_room(room);
            let chunk = vec![7; 1_000];
            let mut left = bytes;
            while left > 0 {
                let count = left.min(chunk.len());
                io::Write::write_all(&mut writer, &chunk[..count]).unwrap();
                left -= count;
            }
            assert_eq!((writer.len(), writer.is_empty()), (bytes, bytes == 0));
            writer.into_bytes()
        };
        for (room, bytes) in
            [(0, 0), (0, 5), (0, 300_000), (70_000, 70_000), (1 << 20, 10), (100_000, 250_001)]
        {
            assert_eq!(written(room, bytes), vec![7; bytes], "{bytes} bytes in room for {room}");
        }
    }

    #[test]
    fn filled_room_comes_back_when_it_is_dropped() {
        let _keeper = Keeper::new();
        let length = 3 * SMALLEST_BYTES + 17;
        let mut room = take(length);
        room[..5].copy_from_slice(b"bytes");
        let (bytes, memory) = (filled(room, 5), take(0));
        assert_eq!((&bytes[..], memory.len()), (&b"bytes"[..], 0));
        let place = bytes.as_ptr();
        drop(bytes);
        let again = take(length);
        assert_eq!(again.as_ptr(), place);
    }
}
