//! Directories that a process has for as long as it lives: locked (flock(2)), under a name that nobody can know before. One
//! that nobody has locked was left by a process that was killed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// How often a directory may be taken for one left behind in the moment between its making and its locking.
const TRIES: usize = 16;

/// Makes a directory in `parent` whose name begins with `prefix`, having `remove`d those that processes of this user have left
/// there. It is this process's for as long as the file is open.
///
/// # Errors
/// When nothing can be made there.
pub(crate) fn make(parent: &Path, prefix: &str, remove: impl Fn(&Path)) -> io::Result<(PathBuf, File)> {
    remove_abandoned(parent, prefix, &remove);
    for _ in 0..TRIES {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?.keep();
        match File::open(&directory).and_then(|lock| lock.lock().map(|()| lock)) {
            // Another one may have had it for one left behind.
            Ok(lock) if directory.exists() => return Ok((directory, lock)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                remove(&directory);
                return Err(error);
            }
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// `remove`s directories in `parent` whose names begin with `prefix`, and that processes of this user have left there.
pub(crate) fn remove_abandoned(parent: &Path, prefix: &str, remove: &impl Fn(&Path)) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_one = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        let is_ours =
            || entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if is_one
            && is_ours()
            && let Ok(lock) = File::open(entry.path())
            && lock.try_lock().is_ok()
        {
            remove(&entry.path());
        }
    }
}

/// Removes a directory and all that is in it, whatever permissions jobs have given that.
pub(crate) fn remove(directory: &Path) {
    let is_left =
        |removed: io::Result<()>| removed.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if is_left(fs::remove_dir_all(directory)) {
        open_up(directory);
        let _ = fs::remove_dir_all(directory);
    }
}

/// Lets its owner look into every directory, and change it. Whatever these lead to elsewhere is left as it is.
fn open_up(directory: &Path) {
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        directories.extend(entries.map(|entry| entry.path()).filter(|path| is_directory(path)));
    }
}
