//! Memory for large payloads, used again and again, which other processes of this machine can be let read.
//!
//! Memory fresh from the system costs as much to touch as to copy into: each page is cleared first. So the room of a
//! payload that nobody needs any more is kept for a moment for the next one. And where the system can do that, large rooms
//! are parts of a file in memory, an [`Arena`]: a node hands large arguments to its workers, and they hand back large
//! results, by telling where these are ([`Arena::place_of`], [`View`]). A process has one arena for whatever it makes
//! itself. What it is sent by others, who are not to read what is each other's, has [`Rooms`] apart.
//!
//! A child made by `fork()` may read what was in rooms; it takes none of them, and gives none back.

mod arena;
mod kept;
mod memory;
mod ranges;

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;

use self::arena::Region;
pub use self::arena::{Arena, Rooms};
pub use self::kept::{Keeper, due, tidied, tidy};
use self::memory::Memory;
use crate::values::Output;

/// Least size of what has a room of its own.
pub const SMALLEST_BYTES: usize = 64 * 1024;

/// Memory for one large payload, with anything in it.
#[derive(Debug)]
pub struct Room(Kind);

#[derive(Debug)]
enum Kind {
    /// A part of an arena.
    Region(Region),
    /// There is no arena, it is full, or this is small.
    Own(Vec<u8>),
}

/// Room for at least `bytes` bytes, in the arena of this process.
pub fn take(bytes: usize) -> Room {
    Rooms::of_this_process().take(bytes)
}

impl Rooms {
    /// Room for at least `bytes` bytes.
    pub fn take(&self, bytes: usize) -> Room {
        let arena = if bytes >= SMALLEST_BYTES { self.arena() } else { None };
        arena.map_or_else(|| Room::in_no_arena(bytes), |arena| Room::in_arena(&arena, bytes))
    }
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
    /// Room for at least `bytes` bytes that no other process reads.
    pub fn in_no_arena(bytes: usize) -> Self {
        // The system clears it, page by page, when it is first touched.
        Self(Kind::Own(vec![0; bytes]))
    }

    fn in_arena(arena: &Arc<Arena>, bytes: usize) -> Self {
        arena.take(bytes).map_or_else(|| Self::in_no_arena(bytes), |region| Self(Kind::Region(region)))
    }

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
        let mut larger = match &mut self.0 {
            Kind::Region(region) => {
                if region.grow(bytes) {
                    return;
                }
                Self::in_arena(region.arena(), bytes)
            }
            Kind::Own(_) => Self::in_no_arena(bytes),
        };
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

/// Makes an arena that another process made with [`new_arena`] that of this one, which must not have used its own.
///
/// # Errors
/// When it cannot be mapped, or comes too late.
pub fn adopt(arena: OwnedFd) -> io::Result<Arc<Arena>> {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use super::*;

    #[cfg(target_os = "linux")]
    fn own() -> Arc<Arena> {
        Rooms::of_this_process().arena().unwrap()
    }

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
        let view = View::new(own().file()).unwrap();
        let mut room = take(SMALLEST_BYTES);
        room[..5].copy_from_slice(b"bytes");
        let bytes = filled(room, 5);
        let place = own().place_of(&bytes[1..]).unwrap();
        assert_eq!(view.at(place..place + 4), Some(&b"ytes"[..]));
        assert_eq!(own().place_of(&[1, 2, 3]), None);
        assert_eq!(view.at(usize::MAX - 1..usize::MAX), None);
        let elsewhere = std::fs::File::open("/dev/null").unwrap();
        assert!(View::new(elsewhere.as_fd()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rooms_apart_are_in_an_arena_of_their_own_which_goes_with_what_is_in_it_and_whoever_holds_it() {
        let (mine, yours) = (Rooms::apart(), Rooms::apart());
        let payload = |rooms: &Rooms| filled(rooms.take(SMALLEST_BYTES), SMALLEST_BYTES);
        let (first, other) = (payload(&mine), payload(&yours));
        let arena = mine.arena().unwrap();
        assert_eq!(arena.place_of(&first), Some(0));
        assert_eq!((arena.place_of(&other), own().place_of(&first)), (None, None));
        let second = payload(&mine.clone());
        assert!(arena.place_of(&second).is_some());
        let mut grown = mine.take(SMALLEST_BYTES);
        grown.grow(8 * SMALLEST_BYTES, 0);
        assert!(arena.place_of(&grown).is_some());
        let seen = Arc::downgrade(&arena);
        drop((first, grown, arena));
        assert!(seen.upgrade().is_some(), "something is in it");
        drop(second);
        // Another test may be giving back what is kept, for which it looks into each.
        let until = Instant::now() + Duration::from_secs(20);
        while seen.upgrade().is_some() {
            assert!(Instant::now() < until, "it stays");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(mine.arena().unwrap().place_of(&payload(&mine)), Some(0), "there is another one");
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[expect(unsafe_code, reason = "a mapping is to be made writable, which is to be refused")]
    fn whoever_was_let_read_an_arena_cannot_write_to_it() {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};
        let arena = own();
        let descriptor = arena.file();
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
        let _own = own();
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
