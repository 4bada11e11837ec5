//! Files that hold a secret: read only if nobody else can read or exchange them, written so that nobody else ever could.
//! And files that hold none, but say whom to trust: nobody else can change them.
//!
//! The rule is PostgreSQL's for its keys: a file of one's own is for its owner alone (0600); one of the administrator's
//! may be for a group, too (0640), as files are that Kubernetes and systemd hand to a service. Besides, it has one name (a
//! second one may be in a place where jobs can read it), and symbolic links to it are one's own or the administrator's.
//! What is judged is the file that was opened, not the one that has its name a moment later.
//! Source: PostgreSQL, `src/backend/libpq/be-secure-common.c`.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// Symbolic links that are followed; the system follows no more, either (path_resolution(7)).
const LINKS_FOLLOWED: usize = 40;
/// Permissions that nobody else may have on a file of one's own.
const NOT_FOR_OTHERS: u32 = 0o077;
/// Permissions that others may not have on one of the administrator's, whose group may only read it.
const NOT_FOR_GROUP: u32 = 0o037;

/// Rights that others may not have to a file that they may read.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A file is not as private as a secret has to be, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}; check its path and owner", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// It is a directory, a device, or the like.
    #[error("{} is no file; name one", .0.display())]
    NoFile(PathBuf),
    /// Others may read or change it.
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may change it.
    #[error("{} can be changed by others (mode {mode:03o}); run: chmod go-w {}", .path.display(), .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "{} belongs to another user ({owner}), who can change it; make a copy of your own, with: install -m 600",
        .path.display()
    )]
    Foreign {
        /// The file, or the symbolic link that leads to it.
        path: PathBuf,
        /// The number of the user.
        owner: u32,
    },
    /// It has further names.
    #[error(
        "{} has {names} names (hard links), and others may be able to read it under another one; remove these, or make a \
         copy of your own",
        .path.display()
    )]
    Linked {
        /// The file.
        path: PathBuf,
        /// Number of its names.
        names: u64,
    },
    /// It is longer than what is expected, or not text.
    #[error("{} does not hold text of at most {limit} bytes; is it another file?", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The most that it may hold.
        limit: u64,
    },
}

/// Opens a file that nobody else can read.
///
/// # Errors
/// When it is not one, or cannot be opened.
pub fn open(path: &Path) -> Result<File, PrivateError> {
    open_if(path, check_at)
}

/// Reads the text of a file that nobody else can read, of at most `limit` bytes.
///
/// # Errors
/// When it is not one, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    text_of(open(path)?, path, limit)
}

/// As [`read`], of a file that others may read as long as they cannot change it.
///
/// # Errors
/// When they can, or it cannot be read.
pub fn read_unaltered(path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    text_of(open_if(path, check_unaltered_at)?, path, limit)
}

/// Opens a file that a check lets through.
fn open_if(
    path: &Path,
    check: fn(&Path, &Metadata) -> Result<(), PrivateError>,
) -> Result<File, PrivateError> {
    let unreadable = |source| PrivateError::Unreadable { path: path.into(), source };
    // Without waiting for somebody to write to what may be a pipe.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path);
    let file = file.map_err(unreadable)?;
    check(path, &file.metadata().map_err(unreadable)?)?;
    Ok(file)
}

fn text_of(file: File, path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    let unreadable = |source| PrivateError::Unreadable { path: path.into(), source };
    // With room for all of it, so that no copy of a part is left anywhere.
    let length = file.metadata().map_err(unreadable)?.len().min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() as u64 <= limit => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(PrivateError::NotText { path: path.into(), limit }),
    }
}

/// Whether the file that was opened at `path`, and has this metadata, is as private as it has to be.
///
/// # Errors
/// When it is not.
pub fn check_at(path: &Path, metadata: &Metadata) -> Result<(), PrivateError> {
    let mode = own_mode_at(path, metadata)?;
    let forbidden = if metadata.uid() == geteuid().as_raw() { NOT_FOR_OTHERS } else { NOT_FOR_GROUP };
    if mode & forbidden != 0 {
        return Err(PrivateError::Exposed { path: path.into(), mode });
    }
    match metadata.nlink() {
        0 | 1 => Ok(()),
        names => Err(PrivateError::Linked { path: path.into(), names }),
    }
}

/// Whether the file that was opened at `path`, and has this metadata, can be changed by nobody else.
///
/// # Errors
/// When it can.
pub fn check_unaltered_at(path: &Path, metadata: &Metadata) -> Result<(), PrivateError> {
    let mode = own_mode_at(path, metadata)?;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(PrivateError::Writable { path: path.into(), mode });
    }
    Ok(())
}

/// The permission bits of a file that is one's own or the administrator's, and so are the symbolic links that lead to it.
fn own_mode_at(path: &Path, metadata: &Metadata) -> Result<u32, PrivateError> {
    refuse_foreign_links(path)?;
    if !metadata.is_file() {
        return Err(PrivateError::NoFile(path.into()));
    }
    let owner = metadata.uid();
    if ![0, geteuid().as_raw()].contains(&owner) {
        return Err(PrivateError::Foreign { path: path.into(), owner });
    }
    Ok(metadata.mode() & 0o777)
}

/// Refuses symbolic links on the way to `path` that somebody else could lead elsewhere at any time.
fn refuse_foreign_links(path: &Path) -> Result<(), PrivateError> {
    let unreadable = |source| PrivateError::Unreadable { path: path.into(), source };
    let mut left = LINKS_FOLLOWED;
    let mut ahead = components(&std::path::absolute(path).map_err(unreadable)?);
    let mut place = PathBuf::new();
    while let Some(component) = ahead.pop() {
        place.push(&component);
        let metadata = fs::symlink_metadata(&place).map_err(unreadable)?;
        if !metadata.is_symlink() {
            continue;
        }
        let owner = metadata.uid();
        if ![0, geteuid().as_raw()].contains(&owner) {
            return Err(PrivateError::Foreign { path: place, owner });
        }
        left = left.checked_sub(1).ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
        ahead.extend(components(&fs::read_link(&place).map_err(unreadable)?));
        place.pop();
    }
    Ok(())
}

/// The parts of a path, the first one last.
fn components(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

/// Writes `text` to a new file at `path` that only its owner can read. False if there is something already.
///
/// # Errors
/// When it cannot be written. Nothing is left then.
pub fn create(path: &Path, text: &str) -> io::Result<bool> {
    make_directory(path)?;
    let draft = Draft::write(path, text, Permissions::from_mode(0o600))?;
    match draft.become_new(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `text` in place of what the file at `path` holds, all of it or nothing. Owner, group and mode stay; symbolic
/// links are followed.
///
/// # Errors
/// When it cannot be written. The file is as it was then.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let was = fs::metadata(&path)?;
    let draft = Draft::write(&path, text, Permissions::from_mode(was.mode() & 0o640))?;
    std::os::unix::fs::chown(&draft.path, Some(was.uid()), Some(was.gid()))?;
    fs::rename(&draft.path, &path)?;
    // The name as well is to survive that the machine stops now.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Makes the directories above `path` that are missing, for their owner only.
///
/// # Errors
/// When they cannot be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if directory != Path::new("") => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}

/// A file on its way to its name, removed if it does not get there.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Beside the file that it is to become, for its owner only from the beginning.
    fn write(beside: &Path, text: &str, permissions: Permissions) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = beside.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", u64::from_le_bytes(random)));
        let path = beside.with_file_name(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let draft = Self { path };
        file.write_all(text.as_bytes())?;
        file.set_permissions(permissions)?;
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

impl Drop for Draft {
    fn drop(&mut self) {
        // It has its name by now, or is not wanted.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    const LIMIT: u64 = 64;

    fn file(home: &tempfile::TempDir, mode: u32) -> PathBuf {
        let path = home.path().join("secret");
        fs::write(&path, "text").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn is_root() -> bool {
        geteuid().is_root()
    }

    #[test]
    fn a_file_is_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        for (mode, is_private) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)]
        {
            let read = read(&file(&home, mode), LIMIT);
            assert_eq!(read.is_ok(), is_private, "{mode:o}");
            assert!(is_private || matches!(read, Err(PrivateError::Exposed { .. })), "{read:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_to_be_changed() {
        for path in ["/", "/dev/zero"] {
            let error = read(Path::new(path), LIMIT).unwrap_err().to_string();
            assert!(error.contains("is no file") && !error.contains("chmod"), "{error}");
        }
    }

    #[test]
    fn a_file_with_a_second_name_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = file(&home, 0o600);
        fs::hard_link(&path, home.path().join("second")).unwrap();
        assert!(matches!(read(&path, LIMIT), Err(PrivateError::Linked { names: 2, .. })));
    }

    #[test]
    fn a_file_of_somebody_else_is_refused_and_so_is_a_link_that_they_can_turn() {
        if !is_root() {
            return eprintln!("skipped: only root can make files of others");
        }
        let home = tempfile::tempdir().unwrap();
        let path = file(&home, 0o600);
        let link = home.path().join("link");
        symlink("secret", &link).unwrap();
        assert_eq!(read(&link, LIMIT).unwrap().as_str(), "text", "a link of one's own leads there");
        lchown(&link, Some(1234), None).unwrap();
        assert!(matches!(read(&link, LIMIT), Err(PrivateError::Foreign { owner: 1234, .. })));
        let directory = home.path().join("directory");
        symlink(home.path(), &directory).unwrap();
        lchown(&directory, Some(1234), None).unwrap();
        let through = read(&directory.join("secret"), LIMIT);
        assert!(matches!(through, Err(PrivateError::Foreign { owner: 1234, .. })), "{through:?}");
        chown(&path, Some(1234), None).unwrap();
        assert!(matches!(read(&path, LIMIT), Err(PrivateError::Foreign { owner: 1234, .. })));
    }

    #[test]
    fn links_in_a_circle_and_files_that_are_too_long_are_errors() {
        let home = tempfile::tempdir().unwrap();
        symlink("b", home.path().join("a")).unwrap();
        symlink("a", home.path().join("b")).unwrap();
        assert!(matches!(read(&home.path().join("a"), LIMIT), Err(PrivateError::Unreadable { .. })));
        let path = file(&home, 0o600);
        for text in [&[b'x'; LIMIT as usize + 1][..], b"\xff"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path, LIMIT), Err(PrivateError::NotText { .. })));
        }
    }

    #[test]
    fn what_is_written_is_private_from_the_beginning_and_leaves_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/ppserver/secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert!(create(&path, "one").unwrap());
        assert!(!create(&path, "two").unwrap(), "what is there stays");
        let names = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!((read(&path, LIMIT).unwrap().as_str(), mode(&path), names()), ("one", 0o600, 1));
        assert_eq!(mode(&home.path().join("new")), 0o700, "and so are the directories made for it");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, "two").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path), names()), ("two", 0o640, 1));
    }
}
