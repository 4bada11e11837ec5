//! Memory that processes share: a file without a name, mapped by each of them.
//!
//! One process owns it and writes to it. It lends parts of it to others, which read them, and writes to none of these
//! parts until it has them back. What the others see is bytes and nothing else: payloads, which are copied, sealed or
//! decoded. A program that breaks the rule (a wild pointer, in one that has unsafe code) damages its own payloads.
#![expect(
    unsafe_code,
    reason = "memory shared with another process is mapped by hand; this module owns the mapping"
)]

use std::io;
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapping of shared memory.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this until it is dropped. Who may touch which part of it, and when, is what the callers
// of the unsafe functions promise.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// So many bytes of memory, and the descriptor with which another process maps the same. Each page is address space
    /// only until it is touched.
    pub(super) fn create(bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let file = new_file(bytes)?;
        Ok((Self::map(file.as_fd(), true)?, file))
    }

    /// The memory behind a descriptor that [`create`](Self::create) made.
    pub(super) fn map(file: BorrowedFd<'_>, writable: bool) -> io::Result<Self> {
        let bytes = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        if bytes == 0 || !is_sealed(file) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is not of shared memory"));
        }
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel chooses the address, so no memory in use is mapped over; and the file cannot shrink.
        let address = unsafe {
            mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED | MapFlags::NORESERVE, file, 0)?
        };
        let base = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { base, bytes };
        memory.leave_out_of_dumps()?;
        Ok(memory)
    }

    /// A core dump would touch, and so allocate, every page of it.
    fn leave_out_of_dumps(&self) -> io::Result<()> {
        // SAFETY: it is mapped, and this changes nothing of what is in it.
        #[cfg(target_os = "linux")]
        unsafe {
            use rustix::mm::{Advice, madvise};
            madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxDontDump)?;
        }
        Ok(())
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Place of `bytes` in it; `None` if they are elsewhere.
    pub(super) fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        let place = (bytes.as_ptr() as usize).checked_sub(self.base.as_ptr() as usize)?;
        (place < self.bytes && bytes.len() <= self.bytes - place).then_some(place)
    }

    /// A part of it.
    ///
    /// # Safety
    /// Nobody writes to that part, in this process or another, for as long as what is yielded lives.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes, "a part lies within the whole");
        // SAFETY: it is mapped, and the caller promises the rest.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// A part of it, to be written to.
    ///
    /// # Safety
    /// Nobody else uses that part for as long as what is yielded lives, and the mapping is writable.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that nobody else uses that part")]
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.bytes, "a part lies within the whole");
        // SAFETY: it is mapped, and the caller promises the rest.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// Gives a part of it, in whole pages, back to the system: from then on it holds zeros.
    ///
    /// # Safety
    /// Nobody uses that part.
    pub(super) unsafe fn give_back(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes, "a part lies within the whole");
        // SAFETY: it is mapped, and the caller promises the rest. If the system does not want it, it stays.
        #[cfg(target_os = "linux")]
        let _ = unsafe {
            use rustix::mm::{Advice, madvise};
            madvise(self.base.as_ptr().add(range.start).cast(), range.len(), Advice::LinuxRemove)
        };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing that was borrowed outlives it. Nothing can be done about a
        // failure but to keep the mapping.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A file in memory whose size is fixed: one that could be made smaller would bring down whoever has it mapped.
#[cfg(target_os = "linux")]
fn new_file(bytes: usize) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::process::{Resource, getrlimit};
    for limit in [Resource::Fsize, Resource::As] {
        // Growing a file beyond its limit is a signal that ends the process, and address space may be short.
        if getrlimit(limit).current.is_some() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "files or address space are limited"));
        }
    }
    if std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.first() == Some(&b'2')) {
        // Touching a page that the system has not promised is a signal that ends the process.
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the system promises no more memory than it has",
        ));
    }
    let file = memfd_create("pp-payloads", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Gives a part of the file, in whole pages, back to the system: from then on it holds zeros.
#[cfg(target_os = "linux")]
pub(super) fn clear(file: BorrowedFd<'_>, range: Range<usize>) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, hole, range.start as u64, range.len() as u64)?)
}

/// A descriptor of the same file in place of this one, by which nobody can write to it: not through a mapping, either, whose
/// protection is changed later. To open the file for that, one has to be its owner, and change its permissions first.
#[cfg(target_os = "linux")]
pub(super) fn reader(file: OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, fchmod, open};
    fchmod(&file, Mode::RUSR)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reader(_file: OwnedFd) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    use rustix::fs::{SealFlags, fcntl_get_seals};
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

#[cfg(not(target_os = "linux"))]
fn new_file(_bytes: usize) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn clear(_file: BorrowedFd<'_>, _range: Range<usize>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn is_sealed(_file: BorrowedFd<'_>) -> bool {
    false
}
