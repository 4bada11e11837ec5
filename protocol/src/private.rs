//! Files that hold a secret: read only if nobody else can read or exchange them, written so that nobody else ever could.
//! And files that hold none, but say whom to trust: nobody else can change them.
//!
//! The rule is PostgreSQL's for its keys: a file of one's own is for its owner alone (0600); one of the administrator's
//! may be for a group, too (0640), as files are that Kubernetes and systemd hand to a service. Besides, it has one name (a
//! second one may be in a place where jobs can read it), and symbolic links to it are one's own or the administrator's.
//! What is judged is the file that was opened, not the one that has its name a moment later.
//! Source: PostgreSQL, `src/backend/libpq/be-secure-common.c`.

mod error;
mod write;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::environment;

pub use self::error::{Denial, PrivateError};
pub use self::write::{create, make_directory, update};
pub(crate) use self::write::{lock, unwritable};

/// Symbolic links that are followed; the system follows no more, either (path_resolution(7)).
const LINKS_FOLLOWED: usize = 40;
/// Permissions of a file of one's own.
const FOR_OWNER: u32 = 0o700;
/// Permissions of one of the administrator's, whose group may read it.
const FOR_GROUP: u32 = 0o740;
/// Rights that others may not have to a file that they may read.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The usual place of a file of this user's: `$XDG_CONFIG_HOME/ppserver/NAME`, or `~/.config/ppserver/NAME`.
///
/// # Errors
/// When neither variable is set, or one is no absolute path.
pub fn usual_path(name: &str) -> Result<PathBuf, PrivateError> {
    Ok(environment::config_directory()?.ok_or(PrivateError::NoHome)?.join(name))
}

/// Reads the text of a file that nobody else can read, of at most `limit` bytes.
///
/// # Errors
/// When it is not one, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    text_of(&open_if(path, OpenOptions::new().read(true), check_at)?, path, limit)
}

/// As [`read`], of a file that others may read as long as they cannot change it.
///
/// # Errors
/// When they can, or it cannot be read.
pub fn read_unaltered(path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    text_of(&open_if(path, OpenOptions::new().read(true), check_unaltered_at)?, path, limit)
}

/// Opens a file that a check lets through.
fn open_if(
    path: &Path,
    options: &mut OpenOptions,
    check: fn(&Path, &Metadata) -> Result<(), PrivateError>,
) -> Result<File, PrivateError> {
    // Without waiting for somebody to write to what may be a pipe.
    let file = options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(path);
    let file = file.map_err(|source| unreadable(path, source))?;
    check(path, &file.metadata().map_err(|source| unreadable(path, source))?)?;
    Ok(file)
}

/// The text of a file that was opened, without what editors of other systems put before one.
pub(crate) fn text_of(file: &File, path: &Path, limit: u64) -> Result<Zeroizing<String>, PrivateError> {
    let unreadable = |source| unreadable(path, source);
    // With room for all of it, so that no copy of a part is left anywhere.
    let length = file.metadata().map_err(unreadable)?.len().min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() as u64 <= limit => {
            Ok(Zeroizing::new(text.trim_start_matches('\u{feff}').to_owned()))
        }
        _ => Err(PrivateError::NotText { path: path.into(), limit }),
    }
}

/// Why a file could not be read: it is not there, or something on the way to it refuses, or what the system says.
pub fn unreadable(path: &Path, source: io::Error) -> PrivateError {
    match source.kind() {
        ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => PrivateError::Dangling { path: path.into(), target },
            Err(_) => PrivateError::Missing(path.into()),
        },
        ErrorKind::PermissionDenied => refuse_foreign_links(path).err().unwrap_or_else(|| denied(path, path)),
        _ => PrivateError::Unreadable { path: path.into(), source },
    }
}

fn denied(path: &Path, by: &Path) -> PrivateError {
    let (owner, mode) = fs::metadata(by).map_or((0, 0), |by| (by.uid(), by.mode() & 0o7777));
    let user = geteuid().as_raw();
    PrivateError::Denied(Box::new(Denial { path: path.into(), by: by.into(), user, owner, mode }))
}

/// Whether the file that was opened at `path`, and has this metadata, is as private as it has to be.
///
/// # Errors
/// When it is not.
pub fn check_at(path: &Path, metadata: &Metadata) -> Result<(), PrivateError> {
    let mode = own_mode_at(path, metadata)?;
    let allowed = if metadata.uid() == 0 { FOR_GROUP } else { FOR_OWNER };
    if mode & !allowed != 0 {
        // One that is read by somebody else than its owner is to be read by them afterwards, too.
        let right = if metadata.uid() == geteuid().as_raw() { 0o600 } else { 0o640 };
        return Err(PrivateError::Exposed { path: path.into(), mode, right });
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
        return Err(PrivateError::NoFile { path: path.into(), what: kind_of(metadata) });
    }
    let owner = metadata.uid();
    if ![0, geteuid().as_raw()].contains(&owner) {
        return Err(PrivateError::Foreign { path: path.into(), owner });
    }
    Ok(metadata.mode() & 0o777)
}

/// What is no file, for people.
fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

/// Refuses symbolic links on the way to `path` that somebody else could lead elsewhere at any time.
fn refuse_foreign_links(path: &Path) -> Result<(), PrivateError> {
    let unreadable = |source| PrivateError::Unreadable { path: path.into(), source };
    let mut left = LINKS_FOLLOWED;
    let mut ahead = components(&std::path::absolute(path).map_err(unreadable)?);
    let mut place = PathBuf::new();
    while let Some(component) = ahead.pop() {
        place.push(&component);
        let metadata =
            fs::symlink_metadata(&place).map_err(|source| match (source.kind(), place.parent()) {
                (ErrorKind::PermissionDenied, Some(directory)) => denied(path, directory),
                _ => unreadable(source),
            })?;
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

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
        for (mode, is_private) in [
            (0o600, true),
            (0o400, true),
            // A file of root's may be for a group, whoever reads it.
            (0o640, is_root()),
            (0o604, false),
            (0o620, false),
            (0o601, false),
        ] {
            let read = read(&file(&home, mode), LIMIT);
            assert_eq!(read.is_ok(), is_private, "{mode:o}");
            assert!(is_private || matches!(read, Err(PrivateError::Exposed { .. })), "{read:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_from_a_link_that_leads_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let missing = read(&home.path().join("ppserver/secret"), LIMIT).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
        let link = home.path().join("link");
        symlink("nothing", &link).unwrap();
        let dangling = read(&link, LIMIT).unwrap_err().to_string();
        assert!(dangling.contains("is a link to nothing, which is not there"), "{dangling}");
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

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn update_to(path: &Path, text: &str) {
        let was = update(path, LIMIT, |was| (Some(Zeroizing::new(text.into())), was.to_owned())).unwrap();
        assert_ne!(was, text);
    }

    #[test]
    fn what_is_written_is_private_from_the_beginning_and_leaves_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/ppserver/secret");
        assert!(create(&path, "one").unwrap());
        assert!(!create(&path, "two").unwrap(), "what is there stays");
        let names = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!((read(&path, LIMIT).unwrap().as_str(), mode(&path), names()), ("one", 0o600, 1));
        assert_eq!(mode(&home.path().join("new")), 0o700, "and so are the directories made for it");
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        update_to(&path, "two");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path), names()), ("two", 0o400, 1));
        let longer = update(&path, LIMIT, |_| (Some(Zeroizing::new("x".repeat(65))), ()));
        assert!(matches!(longer, Err(PrivateError::Full { .. })), "{longer:?}");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("two", 1));
    }

    #[test]
    fn a_file_that_root_keeps_for_a_group_is_still_for_it_when_it_was_changed() {
        if !is_root() {
            return eprintln!("skipped: only root can give a file to any group");
        }
        let home = tempfile::tempdir().unwrap();
        let path = file(&home, 0o640);
        chown(&path, None, Some(1234)).unwrap();
        update_to(&path, "two");
        let changed = fs::metadata(&path).unwrap();
        assert_eq!((changed.uid(), changed.gid(), changed.mode() & 0o777), (0, 1234, 0o640));
    }

    #[test]
    fn changes_at_the_same_time_are_made_one_after_the_other() {
        let home = tempfile::tempdir().unwrap();
        let path = file(&home, 0o600);
        fs::write(&path, "").unwrap();
        let add = || update(&path, LIMIT, |text| (Some(Zeroizing::new(format!("{text}x"))), ())).unwrap();
        std::thread::scope(|scope| (0..32).for_each(|_| drop(scope.spawn(add))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x".repeat(32));
    }
}
