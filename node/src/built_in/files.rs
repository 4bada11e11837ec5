//! Files of commands: written where a command runs before it starts, read there when it has ended.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pp_protocol::limits::{COMMAND_FILE_BYTES, COMMAND_FILES};
use pp_protocol::{Digest, shown};
use serde::{Deserialize, Serialize};

use super::command::{CommandLine, CommandStatus};
pub use crate::beneath::FileFault;
use crate::beneath::{Below, Beneath};
use crate::{kept, locked};

/// Names of fresh directories begin so.
const PREFIX: &str = "ppserver-command-";

/// Directory that a command runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandDirectory {
    /// On a node, a [fresh](Self::Fresh) one; on the dispatcher's own cores, where the dispatcher runs.
    #[default]
    Usual,
    /// An empty one of its own, removed with all that is in it when the command has ended.
    Fresh,
    /// This one, which the machine has to have.
    At(OsString),
}

/// A file that a command is sent, or that comes back from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFile {
    /// Path below the directory that the command runs in. It has no `..` in it.
    pub path: OsString,
    /// Who may read, write and run it: the nine bits of chmod(1), as far as the user permits on whose side it is written
    /// (umask).
    pub permissions: u32,
    /// What is in it.
    pub contents: Bytes,
}

/// A file that a command finds in its directory, too, and whose contents are not sent with it: they are
/// [kept](super::keep_file) at the node, once for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFile {
    /// Path below the directory that the command runs in.
    pub path: OsString,
    /// As of [`CommandFile`].
    pub permissions: u32,
    /// What is in it.
    pub digest: Digest,
    /// Number of bytes that is.
    pub bytes: u64,
    /// Where it is on the dispatcher's own machine, whose cores take it from there.
    pub at_home: OsString,
}

impl BaseFile {
    /// The file as a base file.
    pub fn of(file: &CommandFile, at_home: impl Into<OsString>) -> Self {
        Self {
            path: file.path.clone(),
            permissions: file.permissions,
            digest: Digest(blake3::hash(&file.contents).into()),
            bytes: file.contents.len() as u64,
            at_home: at_home.into(),
        }
    }

    /// Opens what is in it; none if it is not kept here yet.
    fn open(&self, is_at_home: bool) -> io::Result<Option<File>> {
        if is_at_home { File::open(&self.at_home).map(Some) } else { kept::find(&self.digest) }
    }

    /// Whether it is there already.
    fn is_at(&self, beneath: &Beneath) -> bool {
        let most = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let found =
            beneath.read(&self.path, most).map(|(_, contents)| Digest(blake3::hash(&contents).into()));
        found.is_ok_and(|found| found == self.digest)
    }
}

/// Files that go with a command, by paths below the directory that it runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFiles {
    /// What it finds there.
    pub sent: Vec<CommandFile>,
    /// What it finds there, too, where the node has it. It does not start where the node [lacks](CommandStatus::Lacks) it.
    pub base: Vec<BaseFile>,
    /// Paths of what comes back when it has ended.
    pub returned: Vec<OsString>,
    /// Whether what was sent and returned is removed afterwards from a directory that is not [fresh](CommandDirectory::Fresh).
    pub cleanup: bool,
    /// Whether nothing is sent, returned or removed on the dispatcher's own cores, since the files are there: but in a fresh
    /// directory, where they are not.
    pub are_at_home: bool,
}

impl CommandFiles {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.base.is_empty() && self.returned.is_empty()
    }

    /// Whether they can go with a command.
    ///
    /// # Errors
    /// Names the first that cannot: its path leads out of any directory, there are too many before it, or with it there is too
    /// much in them.
    pub fn check(&self) -> Result<(), FileError> {
        let mut bytes = 0;
        let sent = self.sent.iter().map(|file| (&file.path, file.contents.len())).enumerate();
        // Of what is not sent here, the path alone is judged.
        let base = self.base.iter().map(|file| (&file.path, 0)).enumerate();
        let returned = self.returned.iter().map(|path| (path, 0)).enumerate();
        for (number, (path, more)) in sent.chain(base).chain(returned) {
            bytes += more;
            let checked = match Below::parse(path) {
                Ok(_) if number >= COMMAND_FILES => Err(FileFault::TooMany),
                Ok(_) if bytes > COMMAND_FILE_BYTES => Err(FileFault::TooLarge),
                parsed => parsed.map(drop),
            };
            checked.map_err(|fault| FileError { path: path.clone(), fault })?;
        }
        Ok(())
    }
}

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", shown(&path.to_string_lossy()))]
pub struct FileError {
    /// Its path, as it was given.
    pub path: OsString,
    /// Reason.
    pub fault: FileFault,
}

impl CommandFile {
    /// Reads a file below a directory, of up to so many bytes.
    ///
    /// # Errors
    /// When the path leads out of the directory (by `..`, from `/`, by a link), or to what is no file; when the file is larger
    /// or cannot be read.
    pub fn read(directory: &Path, path: impl Into<OsString>, most: usize) -> Result<Self, FileError> {
        let path = path.into();
        let read =
            Beneath::open(directory).map_err(FileFault::from).and_then(|beneath| beneath.read(&path, most));
        match read {
            Ok((permissions, contents)) => Ok(Self { path, permissions, contents: contents.into() }),
            Err(fault) => Err(FileError { path, fault }),
        }
    }

    /// Writes it below a directory, in place of one that is there; directories on the way are made. It is there when it is
    /// whole.
    ///
    /// # Errors
    /// When its path leads out of the directory, or to what is no file; when it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        let beneath = Beneath::open(directory).map_err(FileFault::from);
        let written = beneath.and_then(|beneath| self.write_beneath(&beneath));
        written.map_err(|fault| FileError { path: self.path.clone(), fault })
    }

    fn write_beneath(&self, beneath: &Beneath) -> Result<(), FileFault> {
        beneath.write(&self.path, self.permissions, |file| file.write_all(&self.contents))
    }
}

/// Where a command runs, with its files there.
#[derive(Debug)]
pub(super) struct Workplace {
    /// Missing where it runs where this process does.
    directory: Option<PathBuf>,
    _fresh: Option<FreshDirectory>,
    files: Option<FilesThere>,
}

/// Files of a command that are to be taken care of when it has ended.
#[derive(Debug)]
struct FilesThere {
    beneath: Beneath,
    returned: Vec<OsString>,
    /// Paths of what is removed.
    removed: Vec<OsString>,
}

impl Workplace {
    /// Makes the directory if it is to be fresh, and writes the files that are sent, which are dropped from the line.
    /// `is_at_home` is true on the dispatcher's own cores.
    pub(super) fn enter(line: &mut CommandLine, is_at_home: bool) -> Result<Self, CommandStatus> {
        let not_started = |reason: String| CommandStatus::FileTrouble(format!("not started: {reason}"));
        let fresh = match (&line.directory, is_at_home) {
            (CommandDirectory::Fresh, _) | (CommandDirectory::Usual, false) => {
                let made = FreshDirectory::make();
                Some(made.map_err(|error| {
                    let place = env::temp_dir();
                    not_started(format!("cannot make a directory for it in {}: {error}", place.display()))
                })?)
            }
            (CommandDirectory::Usual, true) | (CommandDirectory::At(_), _) => None,
        };
        let directory = match &line.directory {
            CommandDirectory::At(directory) => Some(PathBuf::from(directory)),
            _ => fresh.as_ref().map(|fresh| fresh.path.clone()),
        };
        let files = std::mem::take(&mut line.files);
        let are_there = is_at_home && files.are_at_home && fresh.is_none();
        if files.is_empty() || are_there {
            return Ok(Self { directory, _fresh: fresh, files: None });
        }
        let base = open_base(&files.base, is_at_home)?;
        let place = directory.clone().unwrap_or_else(|| ".".into());
        let written = FilesThere::write(files, base, &place, fresh.is_some());
        Ok(Self { directory, _fresh: fresh, files: Some(written.map_err(not_started)?) })
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Takes the files of a command that has ended, and removes what is to be removed. If it has ended well and they are not
    /// all there, that is how it has ended.
    pub(super) fn leave(self, status: CommandStatus) -> (CommandStatus, Vec<CommandFile>) {
        let Some(files) = &self.files else { return (status, Vec::new()) };
        let (returned, trouble) = files.take();
        match trouble.filter(|_| status.is_success()) {
            Some(trouble) => (CommandStatus::FileTrouble(trouble), returned),
            None => (status, returned),
        }
    }
}

/// Opens base files where they are kept, or tells which are not.
fn open_base(files: &[BaseFile], is_at_home: bool) -> Result<Vec<File>, CommandStatus> {
    let trouble = |file: &BaseFile, error: io::Error| {
        let error = FileError { path: file.path.clone(), fault: error.into() };
        CommandStatus::FileTrouble(format!("not started: its base file {error}"))
    };
    let (mut opened, mut lacking) = (Vec::with_capacity(files.len()), Vec::new());
    for file in files {
        match file.open(is_at_home) {
            Ok(Some(contents)) => opened.push(contents),
            Ok(None) => lacking.push(file.digest),
            Err(error) => return Err(trouble(file, error)),
        }
    }
    if lacking.is_empty() { Ok(opened) } else { Err(CommandStatus::Lacks(lacking)) }
}

impl FilesThere {
    /// `base` are the base files, opened where they are kept.
    fn write(files: CommandFiles, base: Vec<File>, directory: &Path, is_fresh: bool) -> Result<Self, String> {
        files.check().map_err(|error| error.to_string())?;
        let beneath = Beneath::open(directory)
            .map_err(|error| format!("cannot use the directory {}: {error}", directory.display()))?;
        let mut removed = Vec::new();
        for file in files.sent {
            // What was there before, on a disk that machines share, is nobody's copy.
            if !is_fresh && beneath.holds(&file.path, &file.contents) {
                continue;
            }
            if let Err(fault) = file.write_beneath(&beneath) {
                return Err(FileError { path: file.path, fault }.to_string());
            }
            removed.push(file.path);
        }
        for (file, mut contents) in files.base.into_iter().zip(base) {
            // Jobs that run side by side have it together, in a directory that is not their own.
            if !is_fresh && file.is_at(&beneath) {
                continue;
            }
            // A copy: what a job does to it is of no concern to others.
            let copy = |to: &mut File| io::copy(&mut contents, to).map(drop);
            if let Err(fault) = beneath.write(&file.path, file.permissions, copy) {
                return Err(FileError { path: file.path, fault }.to_string());
            }
        }
        removed.extend_from_slice(&files.returned);
        if is_fresh || !files.cleanup {
            removed.clear();
        }
        Ok(Self { beneath, returned: files.returned, removed })
    }

    /// What is returned, and what is wrong with the rest.
    fn take(&self) -> (Vec<CommandFile>, Option<String>) {
        let mut taken = Vec::with_capacity(self.returned.len());
        let mut troubles = Troubles::default();
        let mut room = COMMAND_FILE_BYTES;
        for path in &self.returned {
            match self.beneath.read(path, room) {
                Ok((permissions, contents)) => {
                    room -= contents.len();
                    taken.push(CommandFile { path: path.clone(), permissions, contents: contents.into() });
                }
                Err(fault) => troubles.add("was not returned", path, fault),
            }
        }
        for path in &self.removed {
            if let Err(fault) = self.beneath.remove(path) {
                troubles.add("was not removed", path, fault);
            }
        }
        (taken, troubles.in_words())
    }
}

/// What is wrong with files: the first one is named, others are counted.
#[derive(Debug, Default)]
struct Troubles {
    first: Option<String>,
    others: usize,
}

impl Troubles {
    fn add(&mut self, what: &str, path: &OsStr, fault: FileFault) {
        match &self.first {
            None => self.first = Some(format!("{} {what}: {fault}", shown(&path.to_string_lossy()))),
            Some(_) => self.others += 1,
        }
    }

    fn in_words(self) -> Option<String> {
        match (self.first, self.others) {
            (Some(first), 1..) => Some(format!("{first} (and {} more)", self.others)),
            (first, _) => first,
        }
    }
}

/// A directory that is made for a command, and removed with all that is in it when dropped. If this process is killed, the
/// directory goes with its worker's, or when the next one is made beside it.
#[derive(Debug)]
struct FreshDirectory {
    path: PathBuf,
    _lock: File,
}

impl FreshDirectory {
    /// Makes it among the temporary files, which on a node are in its worker's own directory.
    fn make() -> io::Result<Self> {
        let (path, lock) = locked::make(&env::temp_dir(), PREFIX, locked::remove)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for FreshDirectory {
    fn drop(&mut self) {
        locked::remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::command::{CommandOutput, run};
    use super::*;

    fn file(path: &str, contents: &str) -> CommandFile {
        CommandFile { path: path.into(), permissions: 0o755, contents: contents.to_owned().into() }
    }

    fn shell(script: &str, directory: CommandDirectory, files: CommandFiles) -> CommandOutput {
        let arguments = ["-c", script].map(OsString::from).into();
        run(CommandLine { program: "/bin/sh".into(), arguments, directory, files, ..CommandLine::default() })
    }

    fn returned(paths: &[&str]) -> Vec<OsString> {
        paths.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_command_finds_its_files_in_a_directory_of_its_own_that_goes_with_it() {
        let files = CommandFiles {
            sent: vec![file("in/a", "abc"), file("tool", "#!/bin/sh\ntr a-z A-Z\n")],
            returned: returned(&["out/b", "in/a"]),
            ..CommandFiles::default()
        };
        let script = "pwd; ls; mkdir out; ./tool < in/a > out/b; mkdir -p closed/x; chmod 0 closed";
        let output = shell(script, CommandDirectory::Fresh, files);
        assert_eq!((&output.status, &output.stderr[..]), (&CommandStatus::Exited(0), &b""[..]));
        let contents: Vec<_> =
            output.files.iter().map(|file| (file.path.to_str(), &file.contents[..])).collect();
        assert_eq!(contents, [(Some("out/b"), &b"ABC"[..]), (Some("in/a"), b"abc")]);
        let stdout = String::from_utf8(output.stdout.into()).unwrap();
        let (directory, found) = stdout.split_once('\n').unwrap();
        assert_eq!(found, "in\ntool\n");
        assert!(!Path::new(directory).exists(), "{directory}");
    }

    #[test]
    fn a_file_that_is_not_there_is_how_a_command_ended_that_ended_well() {
        let wanted = || CommandFiles { returned: returned(&["a", "b", "c"]), ..CommandFiles::default() };
        let output = shell("echo x > b; mkfifo c", CommandDirectory::Fresh, wanted());
        let told = "a was not returned: there is no such file (and 1 more)";
        assert_eq!(output.status, CommandStatus::FileTrouble(told.into()));
        assert_eq!(output.files.len(), 1);
        assert_eq!(shell("exit 3", CommandDirectory::Fresh, wanted()).status, CommandStatus::Exited(3));
    }

    #[test]
    fn a_command_whose_files_cannot_be_written_is_not_started() {
        for path in ["../up", "/absolute", ""] {
            let files = CommandFiles { sent: vec![file(path, "x")], ..CommandFiles::default() };
            let output = shell("echo ran", CommandDirectory::Fresh, files);
            let CommandStatus::FileTrouble(reason) = &output.status else { panic!("{path}: {output:?}") };
            assert!(
                reason.starts_with(&format!("not started: {path}: ")) && output.stdout.is_empty(),
                "{reason}"
            );
        }
        let many = CommandFiles { returned: vec!["x".into(); COMMAND_FILES + 1], ..CommandFiles::default() };
        let CommandStatus::FileTrouble(reason) = shell("", CommandDirectory::Fresh, many).status else {
            panic!()
        };
        assert!(reason.contains("1024"), "{reason}");
    }

    #[test]
    fn in_a_directory_that_was_there_what_came_is_removed_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("shared"), "shared").unwrap();
        let at = || CommandDirectory::At(home.path().into());
        let files = |cleanup| CommandFiles {
            sent: vec![file("a/b/in", "in"), file("shared", "shared")],
            returned: returned(&["a/out"]),
            cleanup,
            ..CommandFiles::default()
        };
        let left = || {
            let entries = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            names
        };
        let output = shell("cp a/b/in a/out", at(), files(false));
        assert_eq!((output.status, &output.files[0].contents[..]), (CommandStatus::Exited(0), &b"in"[..]));
        assert_eq!(left(), ["a", "shared"]);
        let output = shell("cp a/b/in a/out", at(), files(true));
        assert_eq!((output.status, output.files.len()), (CommandStatus::Exited(0), 1));
        // The file is its own: it was not sent there.
        assert_eq!(left(), ["a", "shared"], "a/b/in was there before");
        fs::remove_dir_all(home.path().join("a")).unwrap();
        shell("cp a/b/in a/out", at(), files(true));
        assert_eq!(left(), ["shared"]);
    }

    #[test]
    fn at_home_files_are_where_they_are_but_for_a_fresh_directory() {
        let files = || CommandFiles {
            sent: vec![file("sent-to-nowhere", "x")],
            returned: returned(&["sent-to-nowhere"]),
            are_at_home: true,
            ..CommandFiles::default()
        };
        let output = shell("ls sent-to-nowhere", CommandDirectory::Usual, files());
        assert!(matches!(output.status, CommandStatus::Exited(1..)) && output.files.is_empty(), "{output:?}");
        let output = shell("ls", CommandDirectory::Fresh, files());
        assert_eq!((&output.stdout[..], output.files.len()), (&b"sent-to-nowhere\n"[..], 1));
    }
}
