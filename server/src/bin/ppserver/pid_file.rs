//! The pid file, which holds the daemon's process id while it runs.
//!
//! A lock on the file (flock(2)) proves that it is in use, and ends with the process, however that ends. A
//! number alone proves nothing: it may be anybody's by now. What holds anything but a number is somebody else's file, and so
//! is one that holds the number of a process which may have written it: one that runs, and was started before.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pp_protocol::shown_name;

/// Number of times another daemon may remove its file in the very moment in which it is opened here.
const TRIES: usize = 16;
/// A longer file is none of ours: the largest process id has seven digits.
const LONGEST_BYTES: u64 = 16;
/// The system tells to the second when it was started, and by that when its processes were.
const CLOCK_ERROR: Duration = Duration::from_secs(2);

/// The file, locked. It is removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error(
        "another ppserver{} runs with the pid file {}; stop it, or give another file with -P",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display()
    )]
    Running { pid: Option<u32>, path: PathBuf },
    #[error(
        "{} {what}, not the pid file of a ppserver: it is left alone; give another file with -P", .path.display()
    )]
    NotOurs { path: PathBuf, what: &'static str },
    #[error(
        "{} holds the number of process {pid} ({name}), which runs and may have written it: it is left alone; give another \
         file with -P, or remove this one if it is out of date", .path.display()
    )]
    Somebodys { path: PathBuf, pid: u32, name: String },
    #[error(
        "cannot write the pid file {}: {source}; give one with -P in a directory that is there and that this user may \
         write to", .path.display()
    )]
    Unwritable { path: PathBuf, source: io::Error },
}

impl PidFile {
    /// Writes the file, unless a daemon that runs has it, or it is not a pid file.
    pub(crate) fn create(path: &Path) -> Result<Self, PidFileError> {
        let unwritable = |source| PidFileError::Unwritable { path: path.into(), source };
        for _ in 0..TRIES {
            if let Some(mut pid_file) = Self::lock(path)? {
                pid_file.write(std::process::id()).map_err(unwritable)?;
                return Ok(pid_file);
            }
        }
        Err(unwritable(ErrorKind::ResourceBusy.into()))
    }

    /// Locks the file, made if it is missing. `None` if it was removed or replaced meanwhile.
    fn lock(path: &Path) -> Result<Option<Self>, PidFileError> {
        let unwritable = |source| PidFileError::Unwritable { path: path.into(), source };
        let not_ours = |what| PidFileError::NotOurs { path: path.into(), what };
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => return Err(not_ours("is a symbolic link")),
            Ok(found) if found.is_dir() => return Err(not_ours("is a directory")),
            Ok(found) if !found.is_file() => {
                let is_device = found.file_type().is_char_device() || found.file_type().is_block_device();
                return Err(not_ours(if is_device { "is a device" } else { "is not a file" }));
            }
            _ => {}
        }
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(flags as i32);
        let (mut file, refused) = match options.open(path) {
            Ok(file) => (file, None),
            // Of another user, maybe; whether that one runs can be seen all the same.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => match File::open(path) {
                Ok(file) => (file, Some(error)),
                Err(_) => return Err(unwritable(error)),
            },
            Err(error) => return Err(unwritable(error)),
        };
        let is_free = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        };
        if is_free && !is_at(&file, path) {
            return Ok(None);
        }
        let Ok(pid) = pid_in(&mut file) else { return Err(not_ours("holds something else")) };
        match refused {
            _ if !is_free => Err(PidFileError::Running { pid, path: path.into() }),
            Some(error) => Err(unwritable(error)),
            None => match pid.and_then(|pid| Some((pid, writer(&file, pid)?))) {
                Some((pid, name)) => Err(PidFileError::Somebodys { path: path.into(), pid, name }),
                None => Ok(Some(Self { path: path.into(), file })),
            },
        }
    }

    fn write(&mut self, pid: u32) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{pid}")
    }
}

/// Whether the file is the one that is at `path` now.
fn is_at(file: &File, path: &Path) -> bool {
    let Ok((ours, there)) = file.metadata().and_then(|ours| Ok((ours, fs::symlink_metadata(path)?))) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// The name of process `pid`, if it is another one that runs and was started before the file was last written. One that
/// was started later has been given the number of a process that is gone.
fn writer(file: &File, pid: u32) -> Option<String> {
    if pid == std::process::id() {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold any others.
    let (_, fields) = stat.rsplit_once(')')?;
    // Field 22 of proc_pid_stat(5); the first one here is the third.
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let since_boot = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let started: SystemTime = UNIX_EPOCH + Duration::from_secs(boot) + since_boot;
    let written = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (started <= written + CLOCK_ERROR).then(|| shown_name(name.trim()))
}

/// The process id in a file; `None` if there is nothing in it.
///
/// # Errors
/// When there is something else in it.
fn pid_in(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.rewind()?;
    file.take(LONGEST_BYTES + 1).read_to_string(&mut text)?;
    let number = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let is_number = text.len() as u64 <= LONGEST_BYTES && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number).map(Some).ok_or(ErrorKind::InvalidData.into())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whatever has taken its place, or was written into it by others, is not ours to remove.
        let holds_ours = match pid_in(&mut self.file) {
            Ok(pid) => pid.is_none_or(|pid| pid == std::process::id()),
            Err(_) => false,
        };
        if holds_ours
            && is_at(&self.file, &self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove the pid file");
        }
    }
}
