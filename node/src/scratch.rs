//! Directories for what jobs write: parts of one that a node has, each removed with whoever it is for, and all with the node.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::confinement::User;
use crate::locked::{self, remove};

/// The directory of a node. Removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: PathBuf,
    /// Locked.
    _lock: File,
    next: AtomicU64,
}

/// A part of it, for a worker, say. Removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct ScratchPart {
    directory: PathBuf,
    _node: Arc<Scratch>,
}

impl Scratch {
    /// Makes one in `parent`, whose name begins with `prefix`, and removes those that nodes of this user have left there.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub(crate) fn create_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let (directory, lock) = locked::make(parent, prefix, remove)?;
        let scratch = Self { directory, _lock: lock, next: AtomicU64::new(0) };
        // Workers may run as another user, and have to get to theirs.
        fs::set_permissions(&scratch.directory, Permissions::from_mode(0o711))?;
        Ok(scratch)
    }

    /// A directory in it that belongs to this user, by default that of the node.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn part(self: &Arc<Self>, user: Option<&User>) -> io::Result<ScratchPart> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        DirBuilder::new().mode(0o700).create(&directory)?;
        let part = ScratchPart { directory, _node: Arc::clone(self) };
        if let Some(user) = user {
            chown(part.path(), Some(user.id), Some(user.group))?;
        }
        Ok(part)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

impl ScratchPart {
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for ScratchPart {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "scratch-";

    #[test]
    fn what_a_node_left_that_was_killed_is_removed_by_the_next_and_what_one_uses_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("0")).unwrap();
        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        let first = Arc::new(Scratch::create_in(parent.path(), PREFIX).unwrap());
        assert!(!left.exists());
        let worker = first.part(None).unwrap();
        let second = Scratch::create_in(parent.path(), PREFIX).unwrap();
        assert!(worker.path().is_dir(), "it is in use");
        let (first_path, second_path) = (first.directory.clone(), second.directory.clone());
        drop((first, second));
        assert!(!second_path.exists() && first_path.exists(), "a worker has it still");
        drop(worker);
        assert!(!first_path.exists() && foreign.exists());
    }

    #[test]
    fn nodes_that_start_at_once_leave_each_others_alone() {
        let parent = tempfile::tempdir().unwrap();
        let made: Vec<_> = std::thread::scope(|scope| {
            let make =
                || (0..50).map(|_| Scratch::create_in(parent.path(), PREFIX).unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|scratch| scratch.directory.is_dir()));
    }

    #[test]
    fn what_jobs_have_closed_to_everybody_is_removed_all_the_same() {
        let parent = tempfile::tempdir().unwrap();
        let kept = parent.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let scratch = Arc::new(Scratch::create_in(parent.path(), PREFIX).unwrap());
        let worker = scratch.part(None).unwrap();
        let closed = worker.path().join("a/b");
        fs::create_dir_all(&closed).unwrap();
        std::os::unix::fs::symlink(&kept, closed.join("link")).unwrap();
        for directory in [&closed, closed.parent().unwrap()] {
            fs::set_permissions(directory, Permissions::from_mode(0o0)).unwrap();
        }
        let path = worker.path().to_path_buf();
        drop(worker);
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
    }
}
