//! Arenas: memory that other processes can be let read, and where its large rooms are.
#![expect(unsafe_code, reason = "hands out parts of shared memory; each part has one owner at a time")]

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::kept;
use super::memory::{self, Memory};
use super::ranges::Ranges;

/// Size in bytes: address space, of which only what is used is memory. What does not fit in is sent instead of being lent.
pub(super) const ARENA_BYTES: usize = if cfg!(target_pointer_width = "64") { 4 << 30 } else { 0 };

static OF_THIS_PROCESS: OnceLock<Option<Arc<Arena>>> = OnceLock::new();

/// Memory that this process writes to, and whoever is given its descriptor reads.
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
    /// What others are given. That of an arena which this process made can only be read from.
    file: OwnedFd,
    page_bytes: usize,
    ranges: Mutex<Ranges>,
    /// The process that it belongs to. A child made by `fork()` has the same memory, and must leave it alone.
    process: u32,
}

/// A part of an arena that belongs to whoever has this.
#[derive(Debug)]
pub(super) struct Region {
    arena: Arc<Arena>,
    range: Range<usize>,
}

/// Where rooms are taken: in an arena that some processes are let read, and no others.
///
/// ```
/// use pp_protocol::room::Rooms;
///
/// let (mine, yours) = (Rooms::apart(), Rooms::apart());
/// assert!(mine.arena().is_none_or(|arena| arena.place_of(&yours.take(1 << 20)).is_none()));
/// ```
#[derive(Clone, Debug)]
pub struct Rooms(Whose);

#[derive(Clone, Debug)]
enum Whose {
    /// The arena of this process.
    Process,
    /// One of their own: there while something is in it, or somebody holds it.
    Apart(Arc<Mutex<Weak<Arena>>>),
}

/// The arena of this process; `None` where the system has nothing of that kind.
pub(super) fn of_this_process() -> Option<&'static Arc<Arena>> {
    OF_THIS_PROCESS.get_or_init(|| Arena::create().ok()).as_ref().filter(|arena| arena.is_own())
}

/// Makes memory that another process made the arena of this one.
pub(super) fn adopt(file: OwnedFd) -> io::Result<Arc<Arena>> {
    let arena = Arena::new(Memory::map(file.as_fd(), true)?, file);
    let taken = OF_THIS_PROCESS.set(Some(Arc::clone(&arena)));
    taken.map_err(|_| {
        io::Error::new(io::ErrorKind::AlreadyExists, "this process has used memory of its own")
    })?;
    Ok(arena)
}

impl Rooms {
    /// In the arena of this process, where whatever it encodes is, too.
    pub fn of_this_process() -> Self {
        Self(Whose::Process)
    }

    /// In an arena where nothing else is. It is made when it is first needed, and gone with all that is in it and
    /// everybody who holds it.
    pub fn apart() -> Self {
        Self(Whose::Apart(Arc::default()))
    }

    /// The arena; `None` where the system has nothing of that kind, or too little left.
    pub fn arena(&self) -> Option<Arc<Arena>> {
        match &self.0 {
            Whose::Process => of_this_process().cloned(),
            Whose::Apart(apart) => {
                let mut apart = apart.lock().unwrap_or_else(PoisonError::into_inner);
                apart.upgrade().or_else(|| {
                    let arena = Arena::create().ok()?;
                    *apart = Arc::downgrade(&arena);
                    Some(arena)
                })
            }
        }
    }
}

impl Arena {
    fn create() -> io::Result<Arc<Self>> {
        let (memory, file) = Memory::create(ARENA_BYTES)?;
        Ok(Self::new(memory, memory::reader(file)?))
    }

    fn new(memory: Memory, file: OwnedFd) -> Arc<Self> {
        let ranges = Mutex::new(Ranges::new(memory.len()));
        let page_bytes = rustix::param::page_size();
        let arena = Arc::new(Self { memory, file, page_bytes, ranges, process: std::process::id() });
        kept::add(&arena);
        arena
    }

    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    /// The descriptor with which another process can read what is in it.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Place of `bytes` in it; `None` if they are elsewhere.
    pub fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        self.memory.place_of(bytes)
    }

    fn pages(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.page_bytes)
    }

    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Region> {
        let bytes = self.pages(bytes);
        let start = self.change(|ranges| ranges.take(bytes))?;
        Some(Region { arena: Arc::clone(self), range: start..start + bytes })
    }

    /// Frees a range that nobody uses any more.
    fn free(&self, range: Range<usize>) {
        if !self.is_own() {
            return;
        }
        let is_kept = self.change(|ranges| {
            // Under the lock, so that whoever ends the keeping finds it.
            let is_kept = kept::has_room(range.len());
            if is_kept {
                ranges.give_back(range.clone(), Some(Instant::now()));
            }
            is_kept
        });
        if !is_kept {
            self.clear(range);
        }
    }

    /// Gives memory back to the system.
    fn clear(&self, range: Range<usize>) {
        // SAFETY: it is neither free nor anybody's.
        unsafe { self.memory.give_back(range.clone()) };
        self.change(|ranges| ranges.give_back(range, None));
    }

    /// Last use of what was used longest ago and is kept, or a little before.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.ranges().oldest()
    }

    /// Gives back to the system what nobody used since `until`.
    pub(super) fn tidy(&self, until: Instant) {
        let unused = self.change(|ranges| ranges.take_used(until));
        unused.into_iter().for_each(|range| self.clear(range));
    }

    /// Changes what is free, and has it counted how much of that holds memory.
    fn change<T>(&self, change: impl FnOnce(&mut Ranges) -> T) -> T {
        let mut ranges = self.ranges();
        let before = ranges.used_bytes();
        let result = change(&mut ranges);
        kept::changed(before, ranges.used_bytes());
        result
    }

    fn ranges(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // The memory goes with the mapping.
        let ranges = self.ranges.get_mut().unwrap_or_else(PoisonError::into_inner);
        kept::changed(ranges.used_bytes(), 0);
    }
}

impl Region {
    pub(super) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Grows to so many bytes if what follows it is free.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = self.arena.pages(bytes).saturating_sub(self.range.len());
        let grows = self.arena.change(|ranges| ranges.take_at(self.range.end, more));
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
