//! Landlock: what files a worker, and all that it starts, may reach (landlock(7)).
//!
//! It is a list of what is permitted, and what is permitted of a directory is permitted of all that is in it. So that
//! everything but a few files is within reach, everything beside the way to these is listed, step by step. Hence nothing
//! new can be made in the directories on that way, and what others make there afterwards is out of reach until the next
//! worker is started.
//!
//! Processes outside are out of reach of signals (since ABI 6) and of ptrace(2), which guards what /proc tells of them.
#![expect(
    unsafe_code,
    reason = "system calls that neither std nor rustix has; each is given memory of its own"
)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The first version under which files can be moved from one directory to another.
pub(super) const LEAST_ABI: i64 = 2;
/// The first version that keeps files from being emptied by whoever may not write to them.
pub(super) const TRUNCATION_ABI: i64 = 3;
/// The first version that keeps signals from processes outside.
pub(super) const SIGNALS_ABI: i64 = 6;

const CREATE_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// What may be done with files and directories (linux/landlock.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights(u64);

impl Rights {
    const EXECUTE: u64 = 1 << 0;
    const WRITE_FILE: u64 = 1 << 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    const TRUNCATE: u64 = 1 << 14;
    const IOCTL_DEV: u64 = 1 << 15;
    /// Those that are of files; the others are of directories.
    const OF_FILES: u64 =
        Self::EXECUTE | Self::WRITE_FILE | Self::READ_FILE | Self::TRUNCATE | Self::IOCTL_DEV;

    pub(super) const ALL: Self = Self(u64::MAX);
    pub(super) const READ: Self = Self(Self::EXECUTE | Self::READ_FILE | Self::READ_DIR);
    pub(super) const USE_DEVICE: Self = Self(Self::READ_FILE | Self::WRITE_FILE | Self::IOCTL_DEV);
    /// Names are seen everywhere.
    pub(super) const BUT_LISTING: Self = Self(!(Self::READ_DIR | Self::IOCTL_DEV));

    /// All that a version knows.
    fn known_to(abi: i64) -> u64 {
        match abi {
            ..=1 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3 | 4 => (1 << 15) - 1,
            5.. => (1 << 16) - 1,
        }
    }
}

/// Which version the kernel has.
///
/// # Errors
/// When it has none, or a filter of system calls forbids to ask.
pub(super) fn abi() -> io::Result<i64> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: it is given no memory.
    match unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_VERSION) } {
        -1 => Err(io::Error::last_os_error()),
        version => Ok(version),
    }
}

#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// What is permitted, while it is being listed.
#[derive(Debug)]
pub(super) struct Ruleset {
    ruleset: OwnedFd,
    handled: u64,
    /// Files and directories that nothing is permitted of.
    hidden: Vec<PathBuf>,
}

impl Ruleset {
    /// Of the rights in `handled` nothing is permitted, until it is granted; and nothing ever of what is in `hidden`.
    ///
    /// # Errors
    /// When the kernel has nothing of that kind.
    pub(super) fn new(handled: Rights, hidden: &[PathBuf]) -> io::Result<Self> {
        let abi = abi()?;
        let handled = handled.0 & Rights::known_to(abi);
        // Signals, and sockets with abstract names.
        let scoped = if abi >= SIGNALS_ABI { 0b11 } else { 0 };
        let attributes = RulesetAttributes { handled_access_fs: handled, handled_access_net: 0, scoped };
        let bytes = match abi {
            ..=3 => 8,
            4 | 5 => 16,
            6.. => size_of::<RulesetAttributes>(),
        };
        // SAFETY: the kernel reads so many bytes of the structure, which are there.
        let ruleset =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, bytes, 0) };
        if ruleset < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is new, and nobody else's.
        let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as i32) };
        // What is not there needs no hiding; links lead to what is to be hidden.
        let hidden = hidden.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        Ok(Self { ruleset, handled, hidden })
    }

    /// Grants rights to `path` and all below it, but for what is hidden. What is not there is left out.
    ///
    /// # Errors
    /// When the kernel takes no more.
    pub(super) fn grant(&self, path: &Path, rights: Rights) -> io::Result<()> {
        match fs::canonicalize(path) {
            Ok(path) => self.grant_real(&path, rights, path.is_dir()),
            Err(_) => Ok(()),
        }
    }

    fn grant_real(&self, path: &Path, rights: Rights, is_directory: bool) -> io::Result<()> {
        if self.hidden.iter().any(|hidden| path.starts_with(hidden)) {
            return Ok(());
        }
        if !self.hidden.iter().any(|hidden| hidden.starts_with(path)) {
            return self.grant_whole(path, rights, is_directory);
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if !kind.is_symlink() {
                self.grant_real(&entry.path(), rights, kind.is_dir())?;
            }
        }
        Ok(())
    }

    /// Grants to read a directory and all below it, hidden or not.
    ///
    /// # Errors
    /// When the kernel takes no more.
    pub(super) fn grant_reading(&self, directory: &Path) -> io::Result<()> {
        self.grant_whole(directory, Rights::READ, true)
    }

    fn grant_whole(&self, path: &Path, rights: Rights, is_directory: bool) -> io::Result<()> {
        // What has gone meanwhile, and what may not even be looked at, cannot be granted.
        match openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(place) => self.add(place.as_fd(), rights, is_directory),
            Err(_) => Ok(()),
        }
    }

    /// Grants all rights to a directory and what is in it, wherever it is.
    ///
    /// # Errors
    /// When the kernel takes no more.
    pub(super) fn grant_directory(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.add(directory, Rights::ALL, true)
    }

    /// Grants to run and read a file, wherever it is.
    ///
    /// # Errors
    /// When the kernel takes no more.
    pub(super) fn grant_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match self.add(program, Rights::READ, false) {
            // A file in memory is within reach of whoever has a descriptor.
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => Ok(()),
            added => added,
        }
    }

    fn add(&self, place: BorrowedFd<'_>, rights: Rights, is_directory: bool) -> io::Result<()> {
        let of_its_kind = if is_directory { u64::MAX } else { Rights::OF_FILES };
        let allowed_access = rights.0 & self.handled & of_its_kind;
        if allowed_access == 0 {
            return Ok(());
        }
        let rule = PathBeneath { allowed_access, parent_fd: place.as_raw_fd() };
        // SAFETY: the kernel reads the structure, and both descriptors are open.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
        if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts it into force for this thread and all that it starts, for good. It has to have given up gaining privileges.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn enforce(self) -> io::Result<()> {
        // SAFETY: it is given no memory.
        match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
