//! Calls for processes and signals that neither `std` nor `rustix` offers safely: a fork, word
//! of forks that others make, the signals that a thread leaves alone, which C library there is, and how it buffers what is
//! printed.
#![expect(
    unsafe_code,
    reason = "calls of the C library; each is given memory of its own, and fork() is left to whoever may call it"
)]

use std::io;
use std::mem::MaybeUninit;
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Pid;

/// Divides this process in two: yields the child in the parent, and nothing in the child.
///
/// # Errors
/// When the system has no memory left for it, or permits no more processes.
///
/// # Safety
/// This process has one thread only. The child has none of the others, and whatever they held would stay locked.
#[cfg(target_os = "linux")]
pub(crate) unsafe fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: as promised by the caller.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// The C library of this machine, for people. A daemon that was built with one of its own cannot tell that of the machine.
pub fn c_library() -> String {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it yields a text of the library's own, which is never changed.
        let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
        format!("glibc {}", version.to_string_lossy())
    }
    #[cfg(target_env = "musl")]
    {
        "musl".into()
    }
    #[cfg(not(any(all(target_os = "linux", target_env = "gnu"), target_env = "musl")))]
    {
        String::new()
    }
}

/// The two that a process becomes when it is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The one that was there before, and the other one.
    Parent(Pid),
    /// The new one. It is all that the process was, under another number.
    Child,
}

/// Divides this process in two, each of which may go on as if it was the only one.
///
/// # Errors
/// When it has several threads, of which the child would have one only; or the system permits no more processes. On other systems
/// than Linux, always: there the number of threads is not known.
pub fn divide() -> io::Result<Half> {
    if !has_one_thread() {
        return Err(io::Error::other("a process with several threads is not divided"));
    }
    divide_one_thread()
}

#[cfg(target_os = "linux")]
fn divide_one_thread() -> io::Result<Half> {
    // SAFETY: there is one thread, which looked a moment ago.
    match unsafe { fork()? } {
        Some(child) => Ok(Half::Parent(child)),
        None => {
            // Nothing is missing in it, and nothing locked.
            IS_FORKED.store(false, Ordering::Relaxed);
            Ok(Half::Child)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn divide_one_thread() -> io::Result<Half> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether this process is known to have one thread only.
pub(crate) fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Whether this process was made by `fork()` after [`notice_forks`].
static IS_FORKED: AtomicBool = AtomicBool::new(false);

/// From now on a child that is made by `fork()` and starts no other program knows itself by [`is_forked`].
pub fn notice_forks() {
    static NOTICING: Once = Once::new();
    extern "C" fn note() {
        IS_FORKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: what is called in the child stores a number, which may be done there. Where the system has no memory left
    // for it, a child does not know itself.
    NOTICING.call_once(|| _ = unsafe { libc::pthread_atfork(None, None, Some(note)) });
}

/// Whether this process is such a child: it has none of the threads that there were, and any lock may be held for ever.
pub fn is_forked() -> bool {
    IS_FORKED.load(Ordering::Relaxed)
}

/// From now on no signal ends this thread, or one it starts, but those that nothing can stop. What it yields becomes
/// readable when a child has ended.
///
/// # Errors
/// When no descriptor is left.
#[cfg(target_os = "linux")]
pub(crate) fn leave_signals_alone() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::uninit();
    let mut of_children = MaybeUninit::uninit();
    // SAFETY: the sets are this function's own, and are read after they have been written. The descriptor that
    // signalfd() yields is new and nobody else's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigemptyset(of_children.as_mut_ptr());
        libc::sigaddset(of_children.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
        match libc::signalfd(-1, of_children.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// Writes what code in C has printed and the C library still keeps. The standard output only: somebody may hold the lock
/// of another stream while waiting for input.
#[cfg(target_os = "linux")]
pub(crate) fn flush_stdout_of_c() {
    // SAFETY: the stream is there from the beginning of the process, and the C library locks it.
    unsafe { libc::fflush(stdout) };
}

/// Nothing is known of the C library there.
#[cfg(not(target_os = "linux"))]
pub(crate) fn flush_stdout_of_c() {}

/// From now on what code in C prints is written line by line, as what is printed in Rust. A worker is killed in the end,
/// which would lose whatever the C library still keeps.
#[cfg(target_os = "linux")]
pub(crate) fn write_lines_of_c_at_once() {
    // SAFETY: the stream is there from the beginning of the process, and the C library locks it. It keeps its own buffer.
    unsafe { libc::setvbuf(stdout, ptr::null_mut(), libc::_IOLBF, 0) };
}

/// From now on a peer that is gone, and a file that reached its limit, are errors in this thread and those it starts,
/// whatever its program does about such signals. Programs that are started from it have the signals as usual.
pub fn meet_errors_not_signals() {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the set is this function's own, and is read after it has been written.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut());
    }
}
