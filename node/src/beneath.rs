//! Files below one directory, whatever their names say and wherever links there lead.
//!
//! Paths come from other machines: one that leads anywhere else is refused, and nothing is read or written on the way to that.
//! The kernel walks the path (openat2(2), `RESOLVE_BENEATH`). Where it has no such call, each directory is opened by itself
//! and no link is followed, not even one that stays below.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use pp_protocol::limits::{COMMAND_FILE_BYTES, COMMAND_FILES};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// Longest path, in bytes: what Linux takes at once.
const PATH_BYTES: usize = 4096;
/// Names that are tried for a file that is being written, in case others are there already.
const DRAFTS: u32 = 64;
/// Times that a path is walked anew because something on the way is moved meanwhile.
#[cfg(target_os = "linux")]
const WALKS: u32 = 64;

#[cfg(target_os = "linux")]
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Reason why a file cannot be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// There is no name.
    #[error("its path is empty")]
    Empty,
    /// The path begins with `/`.
    #[error(
        "it is absolute, and files are below the directory that a command runs in; write DIR/./FILE to name it from DIR on"
    )]
    Absolute,
    /// The path has `..` in it.
    #[error(
        "it has .. in it, and files are below the directory that a command runs in; write DIR/./FILE to name it from DIR on"
    )]
    Upwards,
    /// A link on the way leads to another place.
    #[error("a link on the way leads out of the directory; write DIR/./FILE to name it from where it is")]
    LeadsOut,
    /// It is there, and is no file.
    #[error("it is a {0}, and only files are sent and returned")]
    NotAFile(&'static str),
    /// There is more in it, or in it and others, than may go with a command.
    #[error("with it there are more than {} MiB in the files of the command", COMMAND_FILE_BYTES >> 20)]
    TooLarge,
    /// There are others, as many as may go with a command.
    #[error("it is one more than the {COMMAND_FILES} files that may be sent with a command, or returned")]
    TooMany,
    /// The system refuses.
    #[error("{}", in_words(.0))]
    System(io::Error),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        _ => error.to_string(),
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for FileFault {
    fn from(error: Errno) -> Self {
        match error {
            Errno::XDEV | Errno::LOOP => Self::LeadsOut,
            error => Self::System(error.into()),
        }
    }
}

/// A path that names something below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Below<'a> {
    parents: Vec<&'a OsStr>,
    name: &'a OsStr,
}

impl<'a> Below<'a> {
    pub(crate) fn parse(path: &'a OsStr) -> Result<Self, FileFault> {
        let bytes = path.as_bytes();
        if bytes.first() == Some(&b'/') {
            return Err(FileFault::Absolute);
        }
        if bytes.len() >= PATH_BYTES {
            return Err(Errno::NAMETOOLONG.into());
        }
        let names = bytes.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let mut parents: Vec<_> = names.filter(|name| !name.is_empty() && *name != ".").collect();
        if parents.iter().any(|name| *name == "..") {
            return Err(FileFault::Upwards);
        }
        let name = parents.pop().ok_or(FileFault::Empty)?;
        Ok(Self { parents, name })
    }
}

/// A directory, below which files are read and written.
#[derive(Debug)]
pub(crate) struct Beneath {
    directory: OwnedFd,
    /// Whether the kernel can walk a path.
    is_walked_by_kernel: bool,
}

impl Beneath {
    /// The directory at this path, which is followed wherever it leads.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let directory = openat(CWD, directory, DIRECTORY, Mode::empty())?;
        Ok(Self { directory, is_walked_by_kernel: cfg!(target_os = "linux") })
    }

    /// Permissions and contents of a file of up to so many bytes.
    pub(crate) fn read(&self, path: &OsStr, most: usize) -> Result<(u32, Vec<u8>), FileFault> {
        let path = Below::parse(path)?;
        // Opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut file = match self.walk(&path.parents, Some(path.name), flags) {
            // A socket.
            Err(Errno::NXIO) => return Err(FileFault::NotAFile("socket or device")),
            file => File::from(file?),
        };
        let found = file.metadata()?;
        only_a_file(FileType::from_raw_mode(fstat(&file)?.st_mode))?;
        let size = usize::try_from(found.len()).unwrap_or(usize::MAX);
        if size > most {
            return Err(FileFault::TooLarge);
        }
        let mut contents = Vec::with_capacity(size);
        // One that grows meanwhile is not read for ever.
        (&mut file).take(most as u64 + 1).read_to_end(&mut contents)?;
        if contents.len() > most {
            return Err(FileFault::TooLarge);
        }
        Ok((found.mode() & RWX, contents))
    }

    /// Has `fill` write a file, in directories that are made where they are missing. It is there when it is whole, in place
    /// of one that was there before. Permissions are those that this process gives new files, and no more than these.
    pub(crate) fn write(
        &self,
        path: &OsStr,
        permissions: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FileFault> {
        let Below { parents, name } = Below::parse(path)?;
        let parent = self.make_directories(&parents)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                // The link gives way, and what it leads to stays.
                FileType::Symlink => {}
                kind => only_a_file(kind)?,
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let (draft, mut file) = make_draft(&parent, Mode::from_raw_mode((permissions & RWX) as RawMode))?;
        let written = fill(&mut file).and_then(|()| Ok(renameat(&parent, &*draft, &parent, name)?));
        if written.is_err() {
            let _ = unlinkat(&parent, &*draft, AtFlags::empty());
        }
        Ok(written?)
    }

    /// Whether a file with these contents is there.
    pub(crate) fn holds(&self, path: &OsStr, contents: &[u8]) -> bool {
        self.read(path, contents.len()).is_ok_and(|(_, found)| found == contents)
    }

    /// Removes a file if it is there, and the directories on the way to it that are empty then.
    pub(crate) fn remove(&self, path: &OsStr) -> Result<(), FileFault> {
        let Below { mut parents, name } = Below::parse(path)?;
        match self.walk(&parents, None, DIRECTORY) {
            Ok(parent) => match unlinkat(parent, name, AtFlags::empty()) {
                Err(error) if error != Errno::NOENT => return Err(error.into()),
                _ => {}
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(name) = parents.pop() {
            let removed = self
                .walk(&parents, None, DIRECTORY)
                .and_then(|parent| unlinkat(parent, name, AtFlags::REMOVEDIR));
            // Something else is in it.
            if removed.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Opens a directory below, having made what is missing on the way.
    fn make_directories(&self, names: &[&OsStr]) -> Result<OwnedFd, FileFault> {
        for depth in 0..names.len() {
            match self.walk(&names[..=depth], None, DIRECTORY) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => continue,
            }
            let parent = self.walk(&names[..depth], None, DIRECTORY)?;
            match mkdirat(parent, names[depth], Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                // Somebody else was faster.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.walk(names, None, DIRECTORY)?)
    }

    /// Opens a directory below, or what has this name in it.
    fn walk(&self, parents: &[&OsStr], name: Option<&OsStr>, flags: OFlags) -> Result<OwnedFd, Errno> {
        #[cfg(target_os = "linux")]
        if self.is_walked_by_kernel {
            match self.walk_by_kernel(parents, name, flags) {
                // Kernels before 5.6 have no such call, and some filters of system calls refuse what they do not know.
                Err(Errno::NOSYS | Errno::PERM) => {}
                walked => return walked,
            }
        }
        self.walk_by_steps(parents, name, flags)
    }

    #[cfg(target_os = "linux")]
    fn walk_by_kernel(
        &self,
        parents: &[&OsStr],
        name: Option<&OsStr>,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        use rustix::fs::{ResolveFlags, openat2};
        let mut path = vec![b'.'];
        for name in parents.iter().copied().chain(name) {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut walks = 0;
        loop {
            walks += 1;
            match openat2(&self.directory, &path[..], flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if walks < WALKS => {}
                walked => return walked,
            }
        }
    }

    fn walk_by_steps(
        &self,
        parents: &[&OsStr],
        name: Option<&OsStr>,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let mut directory = openat(&self.directory, ".", DIRECTORY, Mode::empty())?;
        for name in parents {
            directory = match openat(&directory, *name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOTDIR) if is_link(&directory, name) => return Err(Errno::LOOP),
                opened => opened?,
            };
        }
        match name {
            Some(name) => openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty()),
            None => Ok(directory),
        }
    }
}

/// What the permissions of a file are, as far as they travel: who may read, write and run it.
const RWX: u32 = 0o777;

/// Makes a file for what is to be under another name once it is whole.
fn make_draft(directory: impl AsFd, mode: Mode) -> Result<(String, File), FileFault> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut tried = 0;
    loop {
        let name = format!(".incoming-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        tried += 1;
        match openat(&directory, &*name, flags, mode) {
            Ok(file) => return Ok((name, file.into())),
            Err(Errno::EXIST) if tried < DRAFTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn only_a_file(kind: FileType) -> Result<(), FileFault> {
    Err(FileFault::NotAFile(match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }))
}

fn is_link(directory: impl AsFd, name: &OsStr) -> bool {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    const MOST: usize = 1 << 20;

    /// A directory with a secret beside it, walked by the kernel, and step by step.
    fn both() -> [(TempDir, Beneath); 2] {
        [true, false].map(|is_walked_by_kernel| {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir_all(home.path().join("here/in")).unwrap();
            fs::write(home.path().join("secret"), "secret").unwrap();
            fs::create_dir(home.path().join("out")).unwrap();
            let beneath = Beneath::open(&home.path().join("here")).unwrap();
            (home, Beneath { is_walked_by_kernel, ..beneath })
        })
    }

    fn write(beneath: &Beneath, path: impl AsRef<OsStr>, contents: &str) -> Result<(), FileFault> {
        use std::io::Write;
        beneath.write(path.as_ref(), 0o644, |file| file.write_all(contents.as_bytes()))
    }

    #[test]
    fn files_are_read_as_they_were_written_whatever_their_names() {
        let long = OsString::from("n".repeat(255));
        let foreign = OsString::from_vec(b"\xff\xfe".to_vec());
        let names = [
            "a",
            "in/b",
            "new/er/c",
            "./in/./d",
            "-rf",
            "two\nlines",
            "$(touch x)",
            "'\"; rm *",
            " ",
            "~",
            "...",
        ];
        for (home, beneath) in both() {
            for name in names.map(OsString::from).into_iter().chain([long.clone(), foreign.clone()]) {
                write(&beneath, &name, "before").unwrap();
                write(&beneath, &name, "contents").unwrap();
                assert!(beneath.holds(&name, b"contents") && !beneath.holds(&name, b"before"), "{name:?}");
                assert_eq!(fs::read(home.path().join("here").join(&name)).unwrap(), b"contents");
                beneath.remove(&name).unwrap();
            }
            assert_eq!(fs::read_dir(home.path().join("here")).unwrap().count(), 0, "nothing is left");
            let too_long = beneath.read(OsStr::new(&"n".repeat(256)), MOST).unwrap_err();
            assert!(matches!(too_long, FileFault::System(_)), "{too_long}");
        }
    }

    #[test]
    fn what_leads_out_is_neither_read_nor_written_nor_removed() {
        for (home, beneath) in both() {
            let here = home.path().join("here");
            symlink("../secret", here.join("to_file")).unwrap();
            symlink("../out", here.join("to_directory")).unwrap();
            symlink(home.path().join("secret"), here.join("absolute")).unwrap();
            symlink("/proc/self/cwd", here.join("magic")).unwrap();
            symlink("loop", here.join("loop")).unwrap();
            for path in ["to_file", "absolute", "to_directory/x", "magic/x", "loop", "loop/x"] {
                let read = beneath.read(path.as_ref(), MOST);
                assert!(matches!(read, Err(FileFault::LeadsOut)), "{path}: {read:?}");
            }
            for path in ["to_directory/x", "magic/x", "loop/x", "to_directory/new/x"] {
                let written = write(&beneath, path, "x");
                assert!(matches!(written, Err(FileFault::LeadsOut)), "{path}: {written:?}");
                assert!(beneath.remove(path.as_ref()).is_err(), "{path}");
            }
            for path in ["../secret", "in/../../secret", "..", "in/.."] {
                assert!(matches!(beneath.read(path.as_ref(), MOST), Err(FileFault::Upwards)), "{path}");
                assert!(matches!(write(&beneath, path, "x"), Err(FileFault::Upwards)), "{path}");
                assert!(matches!(beneath.remove(path.as_ref()), Err(FileFault::Upwards)), "{path}");
            }
            assert!(matches!(write(&beneath, "/etc/x", "x"), Err(FileFault::Absolute)));
            assert!(matches!(write(&beneath, "", "x"), Err(FileFault::Empty)));
            assert!(matches!(write(&beneath, "./", "x"), Err(FileFault::Empty)));
            // A link in the place of a file gives way.
            write(&beneath, "to_file", "other").unwrap();
            assert!(beneath.holds("to_file".as_ref(), b"other"));
            assert_eq!(fs::read(home.path().join("secret")).unwrap(), b"secret");
            assert_eq!(fs::read_dir(home.path().join("out")).unwrap().count(), 0);
        }
    }

    #[test]
    fn links_that_stay_below_are_followed_by_the_kernel() {
        let [(home, beneath), (_, by_steps)] = both();
        symlink("in", home.path().join("here/link")).unwrap();
        write(&beneath, "link/file", "contents").unwrap();
        assert!(beneath.holds("in/file".as_ref(), b"contents"));
        drop(by_steps);
        let by_steps = Beneath { is_walked_by_kernel: false, ..beneath };
        assert!(matches!(by_steps.read("link/file".as_ref(), MOST), Err(FileFault::LeadsOut)));
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_kind() {
        for (home, beneath) in both() {
            let here = home.path().join("here");
            rustix::fs::mknodat(CWD, here.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
            let _socket = UnixListener::bind(here.join("socket")).unwrap();
            for (path, kind) in [("in", "directory"), ("fifo", "FIFO"), ("socket", "socket")] {
                for fault in
                    [beneath.read(path.as_ref(), MOST).unwrap_err(), write(&beneath, path, "x").unwrap_err()]
                {
                    assert!(
                        matches!(&fault, FileFault::NotAFile(found) if found.contains(kind)),
                        "{path}: {fault}"
                    );
                }
            }
            let missing = beneath.read("in/missing".as_ref(), MOST).unwrap_err();
            assert_eq!(missing.to_string(), "there is no such file");
            beneath.remove("in/missing".as_ref()).unwrap();
            write(&beneath, "file", "12345").unwrap();
            assert!(matches!(beneath.read("file".as_ref(), 4), Err(FileFault::TooLarge)));
            assert!(write(&beneath, "file/below", "x").is_err() && beneath.read("file".as_ref(), 5).is_ok());
        }
    }

    #[test]
    fn a_file_that_is_not_written_to_its_end_is_not_there() {
        for (home, beneath) in both() {
            write(&beneath, "in/file", "before").unwrap();
            let failed = beneath.write("in/file".as_ref(), 0o600, |_| Err(io::ErrorKind::StorageFull.into()));
            assert!(matches!(failed, Err(FileFault::System(_))));
            assert!(beneath.holds("in/file".as_ref(), b"before"));
            assert_eq!(fs::read_dir(home.path().join("here/in")).unwrap().count(), 1, "no draft is left");
        }
    }

    #[test]
    fn of_its_mode_a_file_has_the_nine_bits_that_the_user_permits() {
        for (home, beneath) in both() {
            beneath.write("in/tool".as_ref(), 0o6755, |_| Ok(())).unwrap();
            let mode = fs::metadata(home.path().join("here/in/tool")).unwrap().permissions().mode();
            assert_eq!(mode & 0o7700, 0o700, "{mode:o}");
            assert_eq!(beneath.read("in/tool".as_ref(), MOST).unwrap().0, mode & 0o777);
        }
    }
}
