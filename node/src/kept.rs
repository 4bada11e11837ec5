//! Files that a session keeps at a node: sent once, for all of its commands.
//!
//! ```text
//! the program store, which no worker reaches by name
//! └── kept-XXXXXX          the node's
//!     ├── 0/ 1/ ..         a session's each: its workers are handed a descriptor of theirs, and no other
//!     │   └── <BLAKE3>     a file, named by what is in it
//! ```
//!
//! Where Landlock keeps the store from jobs, or jobs run as another user than the node, what one session keeps is beyond the
//! reach of the workers of others. A session's directory goes with it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pp_protocol::Digest;
use pp_protocol::limits::{BASE_FILE_BYTES, BASE_FILES};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::confinement::User;
use crate::locked;
use crate::scratch::{Scratch, ScratchPart};

/// Names of the directories of nodes begin so.
const PREFIX: &str = "kept-";
/// What is not complete is here.
const DRAFT: &str = "incoming";

/// Where a node has the directories of its sessions.
#[derive(Debug)]
pub(crate) struct Kept {
    store: PathBuf,
    user: Option<User>,
    /// Made once a session needs a place.
    scratch: Option<Arc<Scratch>>,
}

/// The directory of a session.
#[derive(Debug)]
pub(crate) struct SessionFiles {
    directory: File,
    _part: ScratchPart,
}

impl Kept {
    /// In the program store, for workers that run as this user. Removes what nodes that were killed have left there.
    pub(crate) fn new(store: PathBuf, user: Option<User>) -> Self {
        locked::remove_abandoned(&store, PREFIX, &locked::remove);
        Self { store, user, scratch: None }
    }

    /// Makes a directory for a session.
    ///
    /// # Errors
    /// When nothing can be made in the store.
    pub(crate) fn for_session(&mut self) -> io::Result<SessionFiles> {
        let made = self.scratch.as_ref().map(|scratch| scratch.part(self.user.as_ref()));
        let part = match made {
            Some(Ok(part)) => part,
            // It was not needed before, or is not there any more: the store may be cleared at any time.
            _ => {
                let scratch = Arc::new(Scratch::create_in(&self.store, PREFIX)?);
                let part = scratch.part(self.user.as_ref())?;
                self.scratch = Some(scratch);
                part
            }
        };
        Ok(SessionFiles { directory: File::open(part.path())?, _part: part })
    }
}

impl AsFd for SessionFiles {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The directory that this process was handed, if it is a worker of a session that has one.
static HANDED: OnceLock<OwnedFd> = OnceLock::new();

/// Worker: this is the directory of its session.
pub(crate) fn use_directory(directory: OwnedFd) {
    // A worker is handed one only.
    let _ = HANDED.set(directory);
}

/// Worker: a file that the session keeps.
pub(crate) fn find(digest: &Digest) -> io::Result<Option<File>> {
    let Some(directory) = HANDED.get() else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory, digest.to_string(), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reason why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("this node keeps no files")]
    NoPlace,
    #[error(
        "base files may have {} MiB together on a node, and there may be {BASE_FILES} of them", BASE_FILE_BYTES >> 20
    )]
    TooMuch,
    #[error("the node cannot write it: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for NotKept {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Worker: keeps a file for all workers of the session.
pub(crate) fn keep(contents: &[u8]) -> Result<(), NotKept> {
    let directory = HANDED.get().ok_or(NotKept::NoPlace)?;
    keep_in(directory, contents)
}

fn keep_in(directory: &OwnedFd, contents: &[u8]) -> Result<(), NotKept> {
    let name = Digest(blake3::hash(contents).into()).to_string();
    // Opened anew, as a lock is of all that share what was opened once.
    let locked = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&locked, FlockOperation::LockExclusive)?;
    if statat(&locked, &*name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let (count, bytes) = taken(&locked)?;
    if count >= BASE_FILES || bytes + contents.len() as u64 > BASE_FILE_BYTES {
        return Err(NotKept::TooMuch);
    }
    // Whoever left one was killed.
    let _ = unlinkat(&locked, DRAFT, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut draft = File::from(openat(&locked, DRAFT, flags, Mode::RUSR)?);
    let written = draft.write_all(contents).and_then(|()| Ok(renameat(&locked, DRAFT, &locked, &*name)?));
    if written.is_err() {
        let _ = unlinkat(&locked, DRAFT, AtFlags::empty());
    }
    Ok(written?)
}

/// How many files there are in a directory, and how many bytes in them.
fn taken(directory: &OwnedFd) -> io::Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..")
            && entry.file_name().to_bytes() != DRAFT.as_bytes()
        {
            count += 1;
            let found = statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            bytes += u64::try_from(found.st_size).unwrap_or_default();
        }
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let home = tempfile::tempdir().unwrap();
        let directory = File::open(home.path()).unwrap().into();
        (home, directory)
    }

    fn names(home: &tempfile::TempDir) -> usize {
        fs::read_dir(home.path()).unwrap().count()
    }

    #[test]
    fn a_file_is_kept_once_under_what_is_in_it() {
        let (home, directory) = directory();
        fs::write(home.path().join(DRAFT), "left by whoever was killed").unwrap();
        for contents in ["a", "b", "a", ""] {
            keep_in(&directory, contents.as_bytes()).unwrap();
            let name = blake3::hash(contents.as_bytes()).to_hex();
            assert_eq!(fs::read_to_string(home.path().join(&*name)).unwrap(), contents);
        }
        assert_eq!(names(&home), 3);
    }

    #[test]
    fn no_more_is_kept_than_a_session_may() {
        let (home, directory) = directory();
        let large = File::create(home.path().join("large")).unwrap();
        large.set_len(BASE_FILE_BYTES - 1).unwrap();
        keep_in(&directory, b"a").unwrap();
        assert!(matches!(keep_in(&directory, b"b"), Err(NotKept::TooMuch)));
        keep_in(&directory, b"a").unwrap();
        fs::remove_file(home.path().join("large")).unwrap();
        for number in 1..BASE_FILES {
            keep_in(&directory, &number.to_le_bytes()).unwrap();
        }
        assert!(matches!(keep_in(&directory, b"b"), Err(NotKept::TooMuch)));
        assert_eq!(names(&home), BASE_FILES);
    }

    #[test]
    fn what_sessions_keep_goes_with_them_and_what_a_killed_node_left_with_the_next() {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir_all(store.path().join("kept-left/0")).unwrap();
        let mut kept = Kept::new(store.path().into(), None);
        assert_eq!(names(&store), 0);
        let (first, second) = (kept.for_session().unwrap(), kept.for_session().unwrap());
        keep_in(&first.as_fd().try_clone_to_owned().unwrap(), b"a").unwrap();
        let path = first._part.path().to_path_buf();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        drop(first);
        assert!(!path.exists());
        // The store is cleared.
        fs::remove_dir_all(
            store.path().join(fs::read_dir(store.path()).unwrap().next().unwrap().unwrap().file_name()),
        )
        .unwrap();
        let third = kept.for_session().unwrap();
        keep_in(&third.as_fd().try_clone_to_owned().unwrap(), b"a").unwrap();
        drop((second, third, kept));
        assert_eq!(names(&store), 0);
    }
}
