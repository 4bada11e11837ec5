//! Memory for large payloads, used again and again, which other processes of this machine can be let read.
//!
//! Memory fresh from the system costs as much to touch as to copy into: each page is cleared first. So the room of a
//! payload that nobody needs any more is kept for a moment for the next one. And where the system can do that, all rooms
//! of a process are parts of one file in memory, its *arena*: a node hands large arguments to its workers, and they hand
//! back large results, by telling where these are ([`place_of`], [`View`]).
//!
//! A child made by `fork()` may read what was in rooms; it takes none of them, and gives none back.

mod arena;
mod memory;
mod ranges;

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use self::arena::{KEPT_FOR, Region};
use self::memory::Memory;
use crate::values::Output;

/// Least size of what has a room of its own.
pub const SMALLEST_BYTES: usize = 64 * 1024;

/// Memory for one large payload, with anything in it.
#[derive(Debug)]
pub struct Room(Kind);

#[derive(Debug)]
enum Kind {
    /// A part of the arena.
    Region(Region),
    /// There is no arena, it is full, or this is small.
    Own(Vec<u8>),
}

/// Room for at least `bytes` bytes.
pub fn take(bytes: usize) -> Room {
    if bytes >= SMALLEST_BYTES
        && let Some(region) = arena::of_this_process().and_then(|arena| arena.take(bytes))
    {
        return Room(Kind::Region(region));
    }
    // The system clears it, page by page, when it is first touched.
    Room(Kind::Own(vec![0; bytes]))
}

/// The first `length` bytes of a room. It is kept for others when they are dropped.
///
/// # Panics
/// When the room is smaller.
pub fn filled(mut room: Room, length: usize) -> Bytes {
    assert!(length <= room.len(), "a room holds no more than it has room for");
    room.shrink(length);
    Bytes::from_owner(Filled { room, length })
}

impl Room {
    /// Keeps the first `bytes` bytes, and more where less would not save memory.
    fn shrink(&mut self, bytes: usize) {
        match &mut self.0 {
            Kind::Region(region) => region.shrink(bytes),
            Kind::Own(own) if own.len() / 2 > bytes => {
                own.truncate(bytes);
                own.shrink_to_fit();
            }
            Kind::Own(_) => {}
        }
    }

    /// Grows to at least `bytes` bytes; the first `kept` stay what they are.
    pub fn grow(&mut self, bytes: usize, kept: usize) {
        if let Kind::Region(region) = &mut self.0
            && region.grow(bytes)
        {
            return;
        }
        let mut larger = take(bytes);
        larger[..kept].copy_from_slice(&self[..kept]);
        *self = larger;
    }
}

impl Deref for Room {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Region(region) => region,
            Kind::Own(own) => own,
        }
    }
}

impl DerefMut for Room {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Kind::Region(region) => region,
            Kind::Own(own) => own,
        }
    }
}

struct Filled {
    room: Room,
    length: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

/// Bytes that are written one after the other: into a vector while they are few, into a [`Room`] once they are many.
#[derive(Debug, Default)]
pub struct Writer {
    few: Vec<u8>,
    many: Option<Many>,
}

#[derive(Debug)]
struct Many {
    room: Room,
    length: usize,
}

impl Writer {
    /// Number of bytes written.
    #[inline]
    pub fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.length)
    }

    /// Whether none was.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes written, if they are in no room.
    #[inline]
    pub fn few(&self) -> Option<&[u8]> {
        if self.many.is_none() { Some(&self.few) } else { None }
    }

    /// Bytes written, if they are in a room; there is nothing written then.
    pub fn take_many(&mut self) -> Option<Bytes> {
        let Many { room, length } = self.many.take()?;
        Some(filled(room, length))
    }

    /// Forgets what was written. The vector is kept.
    #[inline]
    pub fn clear(&mut self) {
        self.few.clear();
        self.many = None;
    }

    #[cold]
    fn begin_room(&mut self, bytes: usize) {
        let mut room = take(bytes);
        let length = self.few.len();
        room[..length].copy_from_slice(&self.few);
        self.few.clear();
        self.many = Some(Many { room, length });
    }

    #[cold]
    fn write_many(&mut self, bytes: &[u8]) {
        if self.many.is_none() {
            self.begin_room((self.few.len() + bytes.len()).max(2 * SMALLEST_BYTES));
        }
        if let Some(many) = &mut self.many {
            let end = many.length + bytes.len();
            if many.room.len() < end {
                many.room.grow(end.max(2 * many.length), many.length);
            }
            many.room[many.length..end].copy_from_slice(bytes);
            many.length = end;
        }
    }
}

impl io::Write for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(|_| ())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Writer {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.many.is_none() && self.few.len() + bytes.len() < SMALLEST_BYTES {
            self.few.extend_from_slice(bytes);
        } else {
            self.write_many(bytes);
        }
    }

    #[inline]
    fn written(&mut self) -> &mut [u8] {
        match &mut self.many {
            Some(many) => &mut many.room[..many.length],
            None => &mut self.few,
        }
    }
}

/// The descriptor of this process's arena, with which another process can read what is in it; `None` if there is no arena.
pub fn shared() -> Option<BorrowedFd<'static>> {
    arena::of_this_process().map(|arena| arena.file())
}

/// Place of `bytes` in this process's arena; `None` if they are elsewhere.
pub fn place_of(bytes: &[u8]) -> Option<usize> {
    arena::made()?.place_of(bytes)
}

/// Makes an arena that another process made with [`new_arena`] that of this one, which must not have used its own.
///
/// # Errors
/// When it cannot be mapped, or comes too late.
pub fn adopt(arena: OwnedFd) -> io::Result<()> {
    arena::adopt(arena)
}

/// An arena for another process, and what that has in it, to be read here.
///
/// # Errors
/// When the system has nothing of that kind, or no memory or descriptor left.
pub fn new_arena() -> io::Result<(OwnedFd, Arc<View>)> {
    let (_, file) = Memory::create(arena::ARENA_BYTES)?;
    let view = View { file: Some(file.try_clone()?), ..View::new(file.as_fd())? };
    Ok((file, Arc::new(view)))
}

/// View of another process's arena.
#[derive(Debug)]
pub struct View {
    memory: Memory,
    /// The arena, if this process made it.
    file: Option<OwnedFd>,
}

impl View {
    /// Of the arena of this descriptor.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn new(arena: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { memory: Memory::map(arena, false)?, file: None })
    }

    /// Bytes that the other process says are there; `None` if there is no such place.
    ///
    /// The other process must not write to it before it is told that this is no longer used. One that does (it would have
    /// to be broken) changes bytes under a reader: whoever checks what it reads here has to copy it first.
    #[expect(unsafe_code, reason = "the other process keeps to what is said above")]
    pub fn at(&self, range: Range<usize>) -> Option<&[u8]> {
        let is_within = range.start <= range.end && range.end <= self.memory.len();
        // SAFETY: the other process lent it, and does not write to what it lends.
        is_within.then(|| unsafe { self.memory.read(range) })
    }

    /// The other process is gone: gives the memory of its arena back to the system, except for what is in `kept`.
    pub fn clear_except(&self, kept: impl IntoIterator<Item = Range<usize>>) {
        let mut kept: Vec<_> = kept.into_iter().collect();
        kept.sort_unstable_by_key(|range| range.start);
        let mut start = 0;
        for range in kept {
            self.clear(start..range.start);
            start = start.max(range.end);
        }
        self.clear(start..self.memory.len());
    }

    /// The other process is gone: gives the memory of whole pages in `range` back to the system.
    fn clear(&self, range: Range<usize>) {
        let page = rustix::param::page_size();
        let pages = range.start.next_multiple_of(page)..range.end / page * page;
        if let Some(file) = &self.file
            && pages.start < pages.end
        {
            // If the system does not want it, it goes with the arena.
            let _ = memory::clear(file.as_fd(), pages);
        }
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
        if KEEPERS.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(arena) = arena::made()
        {
            arena.tidy(Instant::now());
        }
    }
}

fn is_kept() -> bool {
    KEEPERS.load(Ordering::Relaxed) > 0
}

/// Gives the system what has been kept for long. To be called when [`due`] says so.
pub fn tidy() {
    if let (Some(arena), Some(until)) = (arena::made(), Instant::now().checked_sub(KEPT_FOR)) {
        arena.tidy(until);
    }
}

/// Waits until something has been kept for long, and gives it to the system. Waits for ever while nothing is kept.
pub async fn tidied() {
    match due() {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
    tidy();
}

/// Time when something will have been kept for long; `None` while nothing is kept.
pub fn due() -> Option<Instant> {
    arena::made()?.due()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_comes_back_whatever_its_size() {
        let mut writer = Writer::default();
        for bytes in [0, 5, 65_535, 65_536, 300_000, 10, 1 << 20] {
            writer.clear();
            let all: Vec<u8> = (0..bytes).map(|byte| byte as u8).collect();
            all.chunks(1_000).for_each(|chunk| writer.write_all(chunk).unwrap());
            assert_eq!((writer.len(), writer.is_empty()), (bytes, bytes == 0));
            let few = writer.few().map(<[u8]>::to_vec);
            assert_eq!(few.is_some(), bytes < SMALLEST_BYTES);
            assert_eq!(few.unwrap_or_else(|| writer.take_many().unwrap().to_vec()), all);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_mapping_reads_what_is_in_a_room() {
        let view = View::new(shared().unwrap()).unwrap();
        let mut room = take(SMALLEST_BYTES);
        room[..5].copy_from_slice(b"bytes");
        let bytes = filled(room, 5);
        let place = place_of(&bytes[1..]).unwrap();
        assert_eq!(view.at(place..place + 4), Some(&b"ytes"[..]));
        assert_eq!(place_of(&[1, 2, 3]), None);
        assert_eq!(view.at(usize::MAX - 1..usize::MAX), None);
        let elsewhere = std::fs::File::open("/dev/null").unwrap();
        assert!(View::new(elsewhere.as_fd()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[expect(unsafe_code, reason = "a mapping is to be made writable, which is to be refused")]
    fn whoever_was_let_read_an_arena_cannot_write_to_it() {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};
        let descriptor = shared().unwrap();
        assert!(Memory::map(descriptor, true).is_err(), "it cannot be mapped for writing");
        assert!(rustix::io::pwrite(descriptor, b"x", 0).is_err());
        let page = rustix::param::page_size();
        // SAFETY: the mapping is this test's own, and nothing of it is used.
        unsafe {
            let mapped =
                mmap(std::ptr::null_mut(), page, ProtFlags::READ, MapFlags::SHARED, descriptor, 0).unwrap();
            let changed = mprotect(mapped, page, MprotectFlags::READ | MprotectFlags::WRITE);
            assert_eq!(changed, Err(rustix::io::Errno::ACCESS));
            munmap(mapped, page).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_nobody_keeps_goes_back_to_the_system_and_is_clear() {
        let (file, view) = new_arena().unwrap();
        let memory = Memory::map(file.as_fd(), true).unwrap();
        #[expect(unsafe_code, reason = "nobody else knows of this memory")]
        // SAFETY: nobody else knows of this memory, and what is read was written before.
        unsafe {
            memory.write(0..10).fill(7);
            assert_eq!(view.at(0..2), Some(&[7, 7][..]));
            memory.give_back(0..rustix::param::page_size());
        }
        assert_eq!(view.at(0..2), Some(&[0, 0][..]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_process_that_is_gone_has_left_is_cleared_but_for_what_is_kept() {
        let (file, view) = new_arena().unwrap();
        let memory = Memory::map(file.as_fd(), true).unwrap();
        let page = rustix::param::page_size();
        #[expect(unsafe_code, reason = "nobody else knows of this memory")]
        // SAFETY: nobody else uses this memory while it is written to.
        unsafe {
            memory.write(0..10 * page).fill(7);
        }
        view.clear_except([3 * page..3 * page + 5, page + 1..2 * page]);
        let held: Vec<_> = (0..10)
            .filter(|number| view.at(number * page..(number + 1) * page).unwrap() != vec![0; page])
            .collect();
        assert_eq!(held, [1, 3]);
        view.clear(3 * page..4 * page);
        assert_eq!(view.at(3 * page..3 * page + 5), Some(&[0; 5][..]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn core_dumps_leave_it_out() {
        let _shared = shared().unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (_, arena) = maps.split_once("pp-payloads").unwrap();
        let flags = arena.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn a_room_that_grows_keeps_what_is_in_it() {
        let mut room = take(SMALLEST_BYTES);
        let in_the_way = take(SMALLEST_BYTES);
        room[..3].copy_from_slice(b"abc");
        for bytes in [2 * SMALLEST_BYTES, 8 * SMALLEST_BYTES] {
            room.grow(bytes, 3);
            assert!(room.len() >= bytes && &room[..3] == b"abc");
        }
        drop(in_the_way);
    }
}
