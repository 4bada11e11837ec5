//! The descriptors that a worker needs, and what keeps them from its jobs.
//!
//! Jobs may close what is not their own: `closefrom(3)` before they become a daemon, a loop over the first few hundred.
//! The worker's descriptors are therefore where loops do not reach and nothing else is opened. Should they be closed all
//! the same, the watcher has copies in a table of its own, and reports what there is to report.
#![expect(unsafe_code, reason = "one thread gets a table of descriptors of its own")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::fcntl_dupfd_cloexec;

/// The lowest descriptor of a worker, if the limit on descriptors is not lower.
const LOWEST: i32 = 512;
/// The lowest descriptor that is none of the standard streams.
const LOWEST_FREE: i32 = 3;

/// Another descriptor of the same file, out of the way.
pub(super) fn duplicate(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(&descriptor, LOWEST);
    Ok(copy.or_else(|_| fcntl_dupfd_cloexec(&descriptor, LOWEST_FREE))?)
}

/// The same file out of the way, if that can be.
pub(super) fn out_of_the_way(descriptor: OwnedFd) -> OwnedFd {
    duplicate(&descriptor).unwrap_or(descriptor)
}

/// Identity of what a descriptor leads to, however it is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: rustix::fs::Dev,
    inode: u64,
}

impl Identity {
    pub(super) fn of(descriptor: impl AsFd) -> io::Result<Self> {
        let status = fstat(descriptor)?;
        Ok(Self { device: status.st_dev, inode: status.st_ino })
    }

    /// Whether the descriptor leads there.
    pub(super) fn is_of(self, descriptor: impl AsFd) -> bool {
        Self::of(descriptor).is_ok_and(|found| found == self)
    }
}

/// Whether writing to it would not have to wait for whoever reads it.
pub(super) fn has_room(descriptor: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(descriptor, PollFlags::OUT)];
    // One that is closed does not have to be waited for, either.
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// From now on this thread has the descriptors that are open now, whoever else closes them, and none that is opened by
/// others. False where that is not possible.
#[cfg(target_os = "linux")]
pub(super) fn keep_for_this_thread() -> bool {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: the watcher uses no descriptor that was opened by another thread after this, nor does any other thread use
    // one of its: it opens none.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }.is_ok()
}

/// As on Linux, but not possible.
#[cfg(not(target_os = "linux"))]
pub(super) fn keep_for_this_thread() -> bool {
    false
}
