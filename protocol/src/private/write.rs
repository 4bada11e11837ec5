//! Private files as they are written: made, or changed, all of it or nothing.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{PrivateError, check_at, open_if, text_of};

/// Time for which somebody else who changes a file is waited for.
const LOCK_TIME: Duration = Duration::from_secs(5);
/// Time between two looks whether they have.
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// Permissions by which it matters which group a file is of.
const FOR_GROUP: u32 = 0o070;

/// Writes `text` to a new file at `path` that only its owner can read, making the directory too. False if there is something
/// already.
///
/// # Errors
/// When it cannot be written. Nothing is left then.
pub fn create(path: &Path, text: &str) -> Result<bool, PrivateError> {
    make_directory(path)?;
    let draft = Draft::write(path, text, None).map_err(|error| unwritable(path, error))?;
    match draft.become_new(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(unwritable(path, error)),
    }
}

/// Changes the text of a private file of at most `limit` bytes, all of it or nothing. `change` is given what it holds, and
/// yields what it is to hold, if that is something else, and whatever is of interest. Owner, group and mode stay; symbolic
/// links are followed. Programs that change a file in this way at the same time do so one after the other.
///
/// # Errors
/// When it is not private, or cannot be read or written. The file is as it was then.
pub fn update<T>(
    path: &Path,
    limit: u64,
    change: impl FnOnce(&str) -> (Option<Zeroizing<String>>, T),
) -> Result<T, PrivateError> {
    let file = open_alone(path)?;
    let was = file.metadata().map_err(|error| unwritable(path, error))?;
    let (text, found) = change(&text_of(&file, path, limit)?);
    if let Some(text) = text {
        if text.len() as u64 > limit {
            return Err(PrivateError::Full { path: path.into(), limit });
        }
        replace(path, &text, &was).map_err(|error| unwritable(path, error))?;
    }
    Ok(found)
}

/// Opens a private file that nobody else changes by [`update`] for as long as it is open.
fn open_alone(path: &Path) -> Result<File, PrivateError> {
    loop {
        // Network file systems lock what is opened to be written only; who may not do that may replace it all the same.
        let file = match open_if(path, OpenOptions::new().read(true).write(true), check_at) {
            Err(PrivateError::Denied(_) | PrivateError::Unreadable { .. }) => {
                open_if(path, OpenOptions::new().read(true), check_at)?
            }
            opened => opened?,
        };
        lock(&file, path)?;
        let is_same = |there: Metadata| {
            file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        };
        // Whoever had it before has put another one in its place.
        if fs::metadata(path).is_ok_and(is_same) {
            return Ok(file);
        }
    }
}

/// Locks a file until it is closed. Whoever has it is waited for.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), PrivateError> {
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_TIME => std::thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => {
                return Err(PrivateError::Busy { path: path.into(), seconds: LOCK_TIME.as_secs() });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(path, error)),
        }
    }
}

fn replace(path: &Path, text: &str, was: &Metadata) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let draft = Draft::write(&path, text, Some(was))?;
    fs::rename(&draft.path, &path)?;
    // The name as well is to survive that the machine stops now.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Makes the directories above `path` that are missing, for their owner only.
///
/// # Errors
/// When they cannot be made.
pub fn make_directory(path: &Path) -> Result<(), PrivateError> {
    match path.parent() {
        Some(directory) if directory != Path::new("") => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| unwritable(path, error))
        }
        _ => Ok(()),
    }
}

/// The error of a file that cannot be written, with the directory where that is so.
pub(crate) fn unwritable(path: &Path, source: io::Error) -> PrivateError {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let directory = absolute.ancestors().skip(1).find(|directory| directory.is_dir());
    let directory = directory.unwrap_or(Path::new("/")).to_owned();
    PrivateError::Unwritable { path: path.into(), directory, source }
}

/// A file on its way to its name, removed if it does not get there.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Beside the file that it is to become, for its owner only from the beginning; in the end for those whom another one
    /// is for.
    fn write(beside: &Path, text: &str, like: Option<&Metadata>) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = beside.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", u64::from_le_bytes(random)));
        let path = beside.with_file_name(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let draft = Self { path };
        file.write_all(text.as_bytes())?;
        if let Some(like) = like {
            resemble(&file, like)?;
        }
        file.sync_all()?;
        Ok(draft)
    }

    /// Takes the name unless somebody else has it. Never has the file two names, which would have it refused.
    #[cfg(target_os = "linux")]
    fn become_new(&self, path: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            // File systems that do not know it.
            Err(Errno::INVAL) => fs::hard_link(&self.path, path),
            renamed => Ok(renamed?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn become_new(&self, path: &Path) -> io::Result<()> {
        fs::hard_link(&self.path, path)
    }
}

/// Gives a file owner, group and mode of another one.
fn resemble(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        match fchown(file, Some(like.uid()), Some(like.gid())) {
            // A group that this user is not of, and for which the file is not.
            Err(error)
                if error.kind() == ErrorKind::PermissionDenied
                    && own.uid() == like.uid()
                    && like.mode() & FOR_GROUP == 0 => {}
            changed => changed?,
        }
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o777))
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has its name by now, or is not wanted.
        let _ = fs::remove_file(&self.path);
    }
}
