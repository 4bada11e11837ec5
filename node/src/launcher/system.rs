//! System calls of the launcher that neither `std` nor `rustix` has.
#![expect(unsafe_code, reason = "system calls; each is given memory of its own, or none")]

use std::io;

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
