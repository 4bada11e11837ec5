//! System calls of the launcher that neither `std` nor `rustix` has.
#![expect(unsafe_code, reason = "system calls; each is given memory of its own, or none")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;

/// Divides this process in two: yields the child in the parent, and nothing in the child, which begins in that control group.
/// It costs a tenth of moving it there afterwards.
///
/// # Errors
/// When the system has no memory left for it, permits no more processes, or knows no such call.
///
/// # Safety
/// This process has one thread only. The child becomes another program: the C library does not know of it.
pub(super) unsafe fn fork_into(group: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    /// `struct clone_args` as of Linux 5.7.
    #[repr(C)]
    #[derive(Default)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: group.as_raw_fd() as u64,
        ..CloneArguments::default()
    };
    // SAFETY: the kernel reads the structure, which is there; the child has a copy of this stack, and all else is as
    // promised by the caller.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child as i32)),
    }
}

/// From now on no descriptor from this number on is there in the program that this process becomes.
///
/// # Errors
/// When the system permits no such thing.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: it closes nothing in this process.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Kernels before 5.11 have no such call; what the node opened itself is not inherited anyway.
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            error => Err(error),
        },
    }
}

/// Leaves the keys that are kept for the session of whoever started the node. Where the system keeps none, or has no
/// room for another set of them, none are there to be read or whoever may read them is decided by their own permissions.
pub(super) fn leave_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: without a name it is given no memory.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
}
