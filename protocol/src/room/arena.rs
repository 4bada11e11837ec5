//! The memory of this process that others may read: where its large rooms are.
#![expect(unsafe_code, reason = "hands out parts of shared memory; each part has one owner at a time")]

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{self, Memory};
use super::ranges::Ranges;

/// Size in bytes: address space, of which only what is used is memory.
pub(super) const ARENA_BYTES: usize = if cfg!(target_pointer_width = "64") { 4 << 30 } else { 0 };
/// Unused bytes that are kept at most.
const KEPT_BYTES: usize = 256 << 20;
/// Time for which they are kept.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(2);

static ARENA: OnceLock<Option<Arena>> = OnceLock::new();

#[derive(Debug)]
pub(super) struct Arena {
    memory: Memory,
    /// What others are given. That of this process, if it made the arena itself, can only be read from.
    file: OwnedFd,
    page_bytes: usize,
    ranges: Mutex<Ranges>,
    /// The process that it belongs to. A child made by `fork()` has the same memory, and must leave it alone.
    process: u32,
}

/// A part of the arena that belongs to whoever has this.
#[derive(Debug)]
pub(super) struct Region {
    arena: &'static Arena,
    range: Range<usize>,
}

/// The arena of this process; `None` where the system has nothing of that kind.
pub(super) fn of_this_process() -> Option<&'static Arena> {
    let create = || {
        let (memory, file) = Memory::create(ARENA_BYTES).ok()?;
        Some(Arena::new(memory, memory::reader(file).ok()?))
    };
    ARENA.get_or_init(create).as_ref().filter(|arena| arena.is_own())
}

/// The arena, if there is one by now.
pub(super) fn made() -> Option<&'static Arena> {
    ARENA.get()?.as_ref()
}

/// Makes memory that another process made the arena of this one.
pub(super) fn adopt(file: OwnedFd) -> io::Result<()> {
    let memory = Memory::map(file.as_fd(), true)?;
    let taken = ARENA.set(Some(Arena::new(memory, file)));
    taken.map_err(|_| io::Error::new(io::ErrorKind::AlreadyExists, "this process has used memory of its own"))
}

impl Arena {
    fn new(memory: Memory, file: OwnedFd) -> Self {
        let ranges = Mutex::new(Ranges::new(memory.len()));
        Self { memory, file, page_bytes: rustix::param::page_size(), ranges, process: std::process::id() }
    }

    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        self.memory.place_of(bytes)
    }

    fn pages(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.page_bytes)
    }

    pub(super) fn take(&'static self, bytes: usize) -> Option<Region> {
        let bytes = self.pages(bytes);
        let start = self.ranges().take(bytes)?;
        Some(Region { arena: self, range: start..start + bytes })
    }

    /// Frees a range that nobody uses any more.
    fn free(&self, range: Range<usize>) {
        if !self.is_own() {
            return;
        }
        let mut ranges = self.ranges();
        // Under the lock, so that whoever ends the keeping finds it.
        if super::is_kept() && ranges.used_bytes() + range.len() <= KEPT_BYTES {
            ranges.give_back(range, Some(Instant::now()));
        } else {
            drop(ranges);
            self.clear(range);
        }
    }

    /// Gives memory back to the system.
    fn clear(&self, range: Range<usize>) {
        // SAFETY: it is neither free nor anybody's.
        unsafe { self.memory.give_back(range.clone()) };
        self.ranges().give_back(range, None);
    }

    /// Time when there will be something to [`tidy`](Self::tidy).
    pub(super) fn due(&self) -> Option<Instant> {
        self.ranges().oldest().map(|oldest| oldest + KEPT_FOR)
    }

    /// Gives back to the system what nobody used since `until`.
    pub(super) fn tidy(&self, until: Instant) {
        let unused = self.ranges().take_used(until);
        unused.into_iter().for_each(|range| self.clear(range));
    }

    fn ranges(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Region {
    /// Grows to so many bytes if what follows it is free.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = self.arena.pages(bytes).saturating_sub(self.range.len());
        let grows = self.arena.ranges().take_at(self.range.end, more);
        self.range.end += if grows { more } else { 0 };
        grows
    }

    /// Keeps so many bytes and gives away the rest.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let end = self.range.start + self.arena.pages(bytes);
        if end < self.range.end {
            let rest = end..std::mem::replace(&mut self.range.end, end);
            self.arena.free(rest);
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is nobody else's until this is dropped; who it is lent to only reads.
        unsafe { self.arena.memory.read(self.range.clone()) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and nothing is lent to others that somebody here can still write to.
        unsafe { self.arena.memory.write(self.range.clone()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.arena.free(self.range.clone());
    }
}
