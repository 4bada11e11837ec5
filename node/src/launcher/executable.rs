//! Programs that dispatchers sent, as they are started: from a descriptor that is known to lead to the program, never by a
//! path at which something else may be by now.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{Place, Version};
use pp_protocol::Digest;
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Programs that are kept open, so that another worker of one is started without its being read again.
const KEPT: usize = 8;

/// What is read at once.
const COPY_BYTES: usize = 256 * 1024;

/// A program that can be started.
#[derive(Debug)]
pub(crate) struct Executable {
    file: File,
    /// Where it was when it was opened, for people.
    path: PathBuf,
    /// How the file was when it was found to be the program; none if it cannot be changed.
    found: Option<Version>,
}

impl Executable {
    /// The program of this process.
    pub(crate) fn own(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.into(), found: None })
    }

    /// The program of this digest at its place in the store. `sealed` makes it a copy in memory that nobody can change;
    /// otherwise it is the file, which is to be [unchanged](Self::is_unchanged) when it is started.
    ///
    /// # Errors
    /// When it is not there, or is another one (`InvalidData`).
    pub(crate) fn open(place: &Place, digest: &Digest, sealed: bool) -> io::Result<Self> {
        let path = &place.path;
        let mut file =
            File::options().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
        let found = Version::of(&file)?;
        let is_verified = found == place.verified;
        if is_verified && !sealed {
            return Ok(Self { file, path: path.into(), found: Some(found) });
        }
        let mut copy = if sealed { new_memory_file().ok() } else { None };
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            if let Some(memory) = &mut copy
                && memory.write_all(&buffer[..count]).is_err()
            {
                // Files of that size are not permitted, or memory is short: then from where it is.
                copy = None;
            }
        }
        if Digest(hasher.finalize().into()) != *digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stored program was changed"));
        }
        Ok(match copy.map(seal) {
            Some(Ok(memory)) => Self { file: memory, path: path.into(), found: None },
            _ => Self { file, path: path.into(), found: Some(found) },
        })
    }

    /// Whether it is what it was when it was opened.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.found.is_none_or(|found| Version::of(&self.file).is_ok_and(|now| now == found))
    }

    /// Whether nobody can change it.
    #[cfg(test)]
    fn is_sealed(&self) -> bool {
        self.found.is_none()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Executable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Programs that dispatchers sent, opened where they are kept.
#[derive(Debug)]
pub(crate) struct Executables {
    sealed: bool,
    /// Those opened last, the last one at the end.
    open: Mutex<VecDeque<(Digest, Arc<Executable>)>>,
}

impl Executables {
    /// See [`Executable::open`].
    pub(crate) fn new(sealed: bool) -> Self {
        Self { sealed, open: Mutex::default() }
    }

    /// The program of this digest, which is kept at `place`. May take as long as it takes to read it.
    ///
    /// # Errors
    /// As for [`Executable::open`].
    pub(crate) fn open(&self, place: &Place, digest: &Digest) -> io::Result<Arc<Executable>> {
        // Under the lock, so that several workers that start at once do not make as many copies.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let index = open.iter().position(|(known, _)| known == digest);
        let known = index.and_then(|index| open.remove(index)).map(|(_, program)| program);
        let program = match known.filter(|program| program.is_unchanged()) {
            Some(program) => program,
            None => Arc::new(Executable::open(place, digest, self.sealed)?),
        };
        open.push_back((*digest, Arc::clone(&program)));
        if open.len() > KEPT {
            open.pop_front();
        }
        Ok(program)
    }
}

/// A file in memory that programs can be started from.
fn new_memory_file() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and need none.
    let file = memfd_create("pp-program", flags | MemfdFlags::EXEC);
    Ok(file.or_else(|_| memfd_create("pp-program", flags))?.into())
}

fn seal(mut memory: File) -> io::Result<File> {
    memory.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // The descriptor that wrote it counts as a writer, and programs that are being written are not started.
    File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_that_was_changed_replaced_or_truncated_is_not_started() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("program"), directory.path().join("other"));
        fs::write(&path, "the program").unwrap();
        fs::write(&other, "another one").unwrap();
        let verified = Version::of(&File::open(&path).unwrap()).unwrap();
        let place = |path: &Path| Place { path: path.into(), verified };
        let digest = Digest(blake3::hash(b"the program").into());
        let kind = |opened: io::Result<Executable>| opened.map(drop).map_err(|error| error.kind());
        for sealed in [true, false] {
            assert_eq!(kind(Executable::open(&place(&path), &digest, sealed)), Ok(()));
            assert_eq!(
                kind(Executable::open(&place(&other), &digest, sealed)),
                Err(io::ErrorKind::InvalidData)
            );
        }
        let copy = Executable::open(&place(&path), &digest, true).unwrap();
        let file = Executable::open(&place(&path), &digest, false).unwrap();
        assert!(copy.is_sealed() && copy.is_unchanged() && !file.is_sealed() && file.is_unchanged());
        // Changed between the look and the start.
        fs::write(&path, "the prograM").unwrap();
        assert!(!file.is_unchanged() && copy.is_unchanged());
        let mut bytes = String::new();
        (&copy.file).read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, "the program");
        let writer = File::options()
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy.file)));
        assert!(writer.and_then(|mut writer| writer.write_all(b"x")).is_err(), "it is sealed");
        // Replaced by a link.
        fs::remove_file(&path).unwrap();
        fs::write(&other, "the program").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(Executable::open(&place(&path), &digest, true).is_err());
    }
}
