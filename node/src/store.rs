//! Programs that dispatchers sent, kept on disk under their digests.
//!
//! A directory may be shared by several nodes of one machine: files appear in it whole, by a rename, and one that
//! another node removed is simply missing. Whoever clears caches may remove all of it at any time: the directory is made
//! again when the next program comes. Nothing here waits for anything but the disk; it is called off the node's
//! task. Removing a program that workers run does them no harm, as the system keeps their file until they end.
//!
//! Programs are run as whoever runs the node: a directory in which anybody else could put or change one is refused.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use lz4_flex::frame::FrameDecoder;
use pp_protocol::{Digest, ProgramRefusal};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

/// Beginning of the names of files under construction.
const DRAFT_PREFIX: &str = "incoming-";
/// Bytes unpacked at once.
const COPY_BYTES: usize = 256 * 1024;
/// Excess of a packed program over the program itself, at most: a fraction of it, and so many bytes.
const PACKED_EXCESS: (u64, u64) = (64, 64 * 1024);

/// The programs in one directory.
#[derive(Debug)]
pub(crate) struct ProgramStore {
    directory: PathBuf,
    limit_bytes: u64,
    programs: BTreeMap<Digest, Stored>,
}

#[derive(Debug)]
struct Stored {
    bytes: u64,
    used: SystemTime,
    /// How its file was when its bytes were found to be right, since this process started.
    verified: Option<Version>,
}

/// A program of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// How its file was when its bytes were found to be right.
    pub(crate) verified: Version,
}

/// What changes with the contents of a file. Its owner can set one of the times, nobody the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            file: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl ProgramStore {
    /// Opens a directory, making it if it is missing, in which at most `limit_bytes` are kept. Drafts that a node left
    /// when it died are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub(crate) fn open(directory: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        make(&directory)?;
        let mut programs = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with(DRAFT_PREFIX) {
                remove_if_abandoned(&entry.path());
            } else if let (Some(digest), Ok(metadata)) = (digest_in(&name), entry.metadata()) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                programs.insert(digest, Stored { bytes: metadata.len(), used, verified: None });
            }
        }
        Ok(Self { directory, limit_bytes, programs })
    }

    /// Place of the program, if it is here. Its bytes are verified when it is asked for the first time, and when its file has
    /// changed since; a damaged one is removed.
    pub(crate) fn place(&mut self, digest: &Digest) -> Option<Place> {
        let path = self.place_of(digest);
        let file = File::open(&path).ok();
        let verified = self.programs.get(digest).and_then(|program| program.verified);
        let is_verified = |file: &File| verified.is_some() && Version::of(file).ok() == verified;
        match file.filter(|file| is_verified(file) || digest_of(file).is_ok_and(|found| found == *digest)) {
            Some(file) => self.keep(*digest, path, &file),
            None => {
                self.remove(digest);
                None
            }
        }
    }

    /// Starts to receive a program of `bytes` bytes.
    ///
    /// # Errors
    /// When it is larger than the store, or nothing can be written.
    pub(crate) fn begin(&self, digest: Digest, bytes: u64) -> Result<Incoming, ProgramRefusal> {
        if bytes > self.limit_bytes {
            return Err(ProgramRefusal::TooLarge { bytes, limit: self.limit_bytes });
        }
        let packed = make(&self.directory).and_then(|()| tempfile::tempfile_in(&self.directory));
        let packed = packed.map_err(|error| not_stored(&self.directory, &error))?;
        Ok(Incoming { digest, bytes, packed, packed_bytes: 0, directory: self.directory.clone() })
    }

    /// Forgets a program and removes its file.
    pub(crate) fn remove(&mut self, digest: &Digest) {
        self.programs.remove(digest);
        // A file that is not there any more is what is wanted.
        let _ = fs::remove_file(self.place_of(digest));
    }

    /// Notes that the program in `file`, which is at `path`, is complete and was used now.
    fn keep(&mut self, digest: Digest, path: PathBuf, file: &File) -> Option<Place> {
        let used = SystemTime::now();
        // The file's time is how the next node to open the directory knows what was used last.
        let _ = file.set_modified(used);
        let verified = Version::of(file).ok()?;
        self.programs.insert(digest, Stored { bytes: verified.bytes, used, verified: Some(verified) });
        Some(Place { path, verified })
    }

    /// Removes what was not used for longest, until there is room.
    fn make_room(&mut self, bytes: u64) {
        let room = self.limit_bytes.saturating_sub(bytes);
        // What somebody else has removed takes no room, and nothing has to go for it.
        let directory = &self.directory;
        self.programs.retain(|digest, _| directory.join(digest.to_string()).exists());
        while self.programs.values().map(|program| program.bytes).sum::<u64>() > room && self.remove_oldest()
        {
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.programs.iter().min_by_key(|(_, program)| program.used).map(|(digest, _)| *digest);
        oldest.iter().for_each(|digest| self.remove(digest));
        oldest.is_some()
    }

    fn place_of(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

/// A program on its way into the store: packed (LZ4 frame format) pieces are collected in a nameless file, unpacked
/// and verified when the last one is here.
#[derive(Debug)]
pub(crate) struct Incoming {
    digest: Digest,
    /// The announced size of the program.
    bytes: u64,
    packed: File,
    packed_bytes: u64,
    directory: PathBuf,
}

impl Incoming {
    /// Adds a packed piece. On a full disk, programs that were not used for longest give way.
    ///
    /// # Errors
    /// When it cannot be written, or more arrives than a program of the announced size can need.
    pub(crate) fn write(&mut self, piece: &[u8], store: &Mutex<ProgramStore>) -> Result<(), ProgramRefusal> {
        let start = self.packed_bytes;
        self.packed_bytes += piece.len() as u64;
        if self.packed_bytes > self.bytes + self.bytes / PACKED_EXCESS.0 + PACKED_EXCESS.1 {
            return Err(self.larger_than_announced());
        }
        while let Err(error) = self.packed.write_all(piece) {
            let is_full = error.kind() == io::ErrorKind::StorageFull;
            let has_room = is_full && store.lock().unwrap_or_else(PoisonError::into_inner).remove_oldest();
            if !has_room || self.packed.seek(SeekFrom::Start(start)).is_err() {
                return Err(not_stored(&self.directory, &error));
            }
        }
        Ok(())
    }

    /// Unpacks and verifies the program, and takes it into the store.
    ///
    /// # Errors
    /// When what arrived is not the program announced, or cannot be written.
    pub(crate) fn finish(mut self, store: &mut ProgramStore) -> Result<Place, ProgramRefusal> {
        store.make_room(self.bytes);
        let path = store.place_of(&self.digest);
        let mut may_be_cleared = true;
        let file = loop {
            match self.unpack().and_then(|draft| keep_at(&path, draft)) {
                Ok(file) => break file,
                Err(UnpackError::Disk(error))
                    if error.kind() == io::ErrorKind::StorageFull && store.remove_oldest() => {}
                // The directory was removed meanwhile.
                Err(UnpackError::Disk(error))
                    if error.kind() == io::ErrorKind::NotFound && std::mem::take(&mut may_be_cleared) => {}
                Err(error) => return Err(self.refusal(error)),
            }
        };
        let unknown = || not_stored(&self.directory, &io::ErrorKind::Other.into());
        store.keep(self.digest, path, &file).ok_or_else(unknown)
    }

    fn unpack(&mut self) -> Result<NamedTempFile, UnpackError> {
        make(&self.directory)?;
        let owner_only = Permissions::from_mode(0o700);
        let mut draft = tempfile::Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(owner_only)
            .tempfile_in(&self.directory)?;
        // Tells other nodes that somebody still writes it; the lock ends with the file or this process.
        draft.as_file().lock()?;
        self.packed.seek(SeekFrom::Start(0))?;
        let mut decoder = FrameDecoder::new(&self.packed);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        let mut unpacked = 0;
        loop {
            let count = decoder.read(&mut buffer).map_err(UnpackError::Packed)?;
            if count == 0 {
                break;
            }
            unpacked += count as u64;
            if unpacked > self.bytes {
                return Err(UnpackError::Larger);
            }
            hasher.update(&buffer[..count]);
            draft.write_all(&buffer[..count])?;
        }
        match Digest(hasher.finalize().into()) {
            found if found == self.digest => Ok(draft),
            found => Err(UnpackError::OtherDigest(found)),
        }
    }

    fn refusal(&self, error: UnpackError) -> ProgramRefusal {
        match error {
            UnpackError::Disk(error) => not_stored(&self.directory, &error),
            UnpackError::Packed(error) => ProgramRefusal::Unavailable(format!("it arrived damaged: {error}")),
            UnpackError::Larger => self.larger_than_announced(),
            UnpackError::OtherDigest(found) => ProgramRefusal::WrongDigest { found },
        }
    }

    fn larger_than_announced(&self) -> ProgramRefusal {
        ProgramRefusal::Unavailable(format!("it is larger than the {} bytes that were announced", self.bytes))
    }
}

/// Reason why a program could not be unpacked.
#[derive(Debug, thiserror::Error)]
enum UnpackError {
    #[error("cannot write: {0}")]
    Disk(#[from] io::Error),
    #[error("not in the LZ4 frame format: {0}")]
    Packed(io::Error),
    #[error("larger than announced")]
    Larger,
    #[error("the digest is {0}")]
    OtherDigest(Digest),
}

/// Makes the directory if it is missing, for its owner only.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    refuse_what_others_can_change(directory)
}

/// Others may write: to a directory as it is made by `mkdir` with the usual mask, they may not.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Everybody may, as in `/tmp`.
const SHARED: u32 = 0o002;

/// The directory has to be its user's own, and so has everything on the way to it that somebody else could have made there
/// first, be it a directory or a symbolic link: that is below a directory in which everybody may make something.
fn refuse_what_others_can_change(directory: &Path) -> io::Result<()> {
    let refuse = |path: &Path, what: String| {
        let reason =
            format!("{} {what}, who could change the programs that are run from here", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    };
    let user = geteuid().as_raw();
    let directory = std::path::absolute(directory)?;
    let mut is_below_shared = false;
    for path in directory.ancestors().collect::<Vec<_>>().into_iter().rev() {
        let (itself, target) = (fs::symlink_metadata(path)?, fs::metadata(path)?);
        let is_store = path == directory;
        if is_below_shared || is_store {
            // The administrator may do anything anyway.
            let foreign =
                [&itself, &target].map(MetadataExt::uid).into_iter().find(|owner| ![user, 0].contains(owner));
            if let Some(owner) = foreign {
                return refuse(path, format!("belongs to user {owner}"));
            }
        }
        if is_store && target.mode() & WRITABLE_BY_OTHERS != 0 {
            return refuse(path, "may be written to by others (chmod go-w takes that away)".into());
        }
        is_below_shared |= target.mode() & SHARED != 0;
    }
    Ok(())
}

/// Gives a complete program its name. What is yielded cannot write it: a program open for writing cannot be started.
fn keep_at(path: &Path, draft: NamedTempFile) -> Result<File, UnpackError> {
    let file = File::open(draft.path())?;
    draft.persist(path).map(drop).map_err(|error| error.error)?;
    Ok(file)
}

fn not_stored(directory: &Path, error: &io::Error) -> ProgramRefusal {
    let directory = directory.display();
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there or choose another directory (--store)"
        }
        io::ErrorKind::FileTooLarge => {
            "raise the limit on the size of files (ulimit -f, or LimitFSIZE= of the service)"
        }
        _ => "make it a directory that the ppserver there may write to, or choose another one (--store)",
    };
    ProgramRefusal::NotStored(format!("cannot write to {directory}: {error}; {remedy}"))
}

/// Removes a draft unless the node that writes it is alive, which shows in its lock.
fn remove_if_abandoned(path: &Path) {
    if File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = fs::remove_file(path);
    }
}

fn digest_of(file: &File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(Digest(hasher.finalize().into()))
}

fn digest_in(name: &str) -> Option<Digest> {
    blake3::Hash::from_hex(name).ok().map(|hash| Digest(hash.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown};

    use lz4_flex::frame::FrameEncoder;

    use super::*;

    impl ProgramStore {
        fn path(&mut self, digest: &Digest) -> Option<PathBuf> {
            self.place(digest).map(|place| place.path)
        }
    }

    fn digest(program: &[u8]) -> Digest {
        Digest(blake3::hash(program).into())
    }

    fn packed(program: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::new(Vec::new());
        encoder.write_all(program).unwrap();
        encoder.finish().unwrap()
    }

    fn send(
        store: &mut ProgramStore,
        digest: Digest,
        bytes: u64,
        packed: &[u8],
    ) -> Result<PathBuf, ProgramRefusal> {
        let mut incoming = store.begin(digest, bytes)?;
        let (directory, limit_bytes) = (store.directory.clone(), store.limit_bytes);
        let shared = Mutex::new(std::mem::replace(
            store,
            ProgramStore { directory, limit_bytes, programs: BTreeMap::new() },
        ));
        let written = packed.chunks(1000).try_for_each(|piece| incoming.write(piece, &shared));
        *store = shared.into_inner().unwrap();
        written.and_then(|()| incoming.finish(store)).map(|place| place.path)
    }

    fn send_whole(store: &mut ProgramStore, program: &[u8]) -> Result<PathBuf, ProgramRefusal> {
        send(store, digest(program), program.len() as u64, &packed(program))
    }

    fn program(seed: u32, bytes: u32) -> Vec<u8> {
        (0..bytes).map(|place| (place.wrapping_mul(seed) >> 7) as u8).collect()
    }

    #[test]
    fn a_program_sent_is_kept_and_only_its_owner_can_run_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("programs");
        let program = program(3, 700_000);
        let mut store = ProgramStore::open(directory.clone(), 1 << 20).unwrap();
        assert_eq!(store.path(&digest(&program)), None);
        let path = send_whole(&mut store, &program).unwrap();
        assert_eq!(fs::read(&path).unwrap(), program);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no draft is left");
        let mut reopened = ProgramStore::open(directory, 1 << 20).unwrap();
        assert_eq!(reopened.path(&digest(&program)), Some(path));
    }

    #[test]
    fn what_is_not_the_program_announced_is_refused_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut store = ProgramStore::open(home.path().into(), 1 << 20).unwrap();
        let (wanted, sent) = (program(3, 1_000), program(5, 1_000));
        let refusal = send(&mut store, digest(&wanted), 1_000, &packed(&sent)).unwrap_err();
        assert_eq!(refusal, ProgramRefusal::WrongDigest { found: digest(&sent) });
        let garbage = send(&mut store, digest(&wanted), 1_000, &[1; 50]).unwrap_err();
        assert!(garbage.to_string().contains("damaged"), "{garbage}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        assert_eq!(store.path(&digest(&wanted)), None);
    }

    #[test]
    fn more_than_was_announced_is_refused_packed_or_unpacked() {
        let home = tempfile::tempdir().unwrap();
        let mut store = ProgramStore::open(home.path().into(), 1 << 30).unwrap();
        let bomb = vec![0; 64 << 20];
        let packed_bomb = packed(&bomb);
        let refusal = send(&mut store, digest(&bomb), 1 << 20, &packed_bomb).unwrap_err();
        assert!(refusal.to_string().contains("larger than the 1048576 bytes"), "{refusal}");
        let refusal = send(&mut store, digest(&bomb), 1, &vec![0; 100_000]).unwrap_err();
        assert!(refusal.to_string().contains("larger than the 1 bytes"), "{refusal}");
        let refusal = store.begin(digest(&bomb), (1 << 30) + 1).unwrap_err();
        assert!(matches!(refusal, ProgramRefusal::TooLarge { limit: 0x4000_0000, .. }), "{refusal}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_program_is_removed_when_a_later_node_looks_at_it() {
        let home = tempfile::tempdir().unwrap();
        let program = program(3, 1_000);
        let mut store = ProgramStore::open(home.path().into(), 1 << 20).unwrap();
        let path = send_whole(&mut store, &program).unwrap();
        let mut damaged = program.clone();
        damaged[500] ^= 1;
        fs::write(&path, damaged).unwrap();
        let mut later = ProgramStore::open(home.path().into(), 1 << 20).unwrap();
        assert_eq!(later.path(&digest(&program)), None);
        assert!(!path.exists());
        assert!(send_whole(&mut later, &program).is_ok(), "it can be sent again");
    }

    #[test]
    fn a_program_that_is_changed_while_the_node_runs_is_removed_when_it_is_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let program = program(3, 1_000);
        let mut store = ProgramStore::open(home.path().into(), 1 << 20).unwrap();
        let path = send_whole(&mut store, &program).unwrap();
        assert_eq!(store.path(&digest(&program)), Some(path.clone()));
        fs::write(&path, vec![1; 1_000]).unwrap();
        assert_eq!(store.path(&digest(&program)), None);
        assert!(!path.exists());
    }

    #[test]
    fn the_least_recently_used_program_makes_room() {
        let home = tempfile::tempdir().unwrap();
        let programs = [program(3, 400), program(5, 400), program(7, 400)];
        let mut store = ProgramStore::open(home.path().into(), 1_000).unwrap();
        send_whole(&mut store, &programs[0]).unwrap();
        send_whole(&mut store, &programs[1]).unwrap();
        assert!(store.path(&digest(&programs[0])).is_some());
        send_whole(&mut store, &programs[2]).unwrap();
        let kept = programs.each_ref().map(|program| store.path(&digest(program)).is_some());
        assert_eq!(kept, [true, false, true]);
    }

    #[test]
    fn drafts_of_dead_nodes_are_removed_and_those_of_living_ones_are_not() {
        let home = tempfile::tempdir().unwrap();
        let (abandoned, in_use) = (home.path().join("incoming-1"), home.path().join("incoming-2"));
        fs::write(&abandoned, "").unwrap();
        let file = File::create(&in_use).unwrap();
        file.lock().unwrap();
        ProgramStore::open(home.path().into(), 1_000).unwrap();
        assert!(!abandoned.exists() && in_use.exists());
    }

    #[test]
    fn a_directory_that_is_removed_is_made_again_with_the_next_program() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("cache/programs");
        let programs = [program(3, 400), program(5, 400), program(7, 400)];
        let mut store = ProgramStore::open(directory.clone(), 1_000).unwrap();
        send_whole(&mut store, &programs[0]).unwrap();
        send_whole(&mut store, &programs[1]).unwrap();
        fs::remove_dir_all(home.path().join("cache")).unwrap();
        assert_eq!(store.path(&digest(&programs[0])), None, "it is gone");
        let path = send_whole(&mut store, &programs[0]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), programs[0]);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        // What is gone takes no room: both have their place, as they had before.
        send_whole(&mut store, &programs[2]).unwrap();
        assert!(store.path(&digest(&programs[0])).is_some());
    }

    #[test]
    fn a_directory_that_is_removed_while_a_program_arrives_is_made_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("programs");
        let program = program(3, 40_000);
        let store = ProgramStore::open(directory.clone(), 1 << 20).unwrap();
        let mut incoming = store.begin(digest(&program), 40_000).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let store = Mutex::new(store);
        incoming.write(&packed(&program), &store).unwrap();
        let place = incoming.finish(&mut store.lock().unwrap()).unwrap();
        assert_eq!(fs::read(place.path).unwrap(), program);
    }

    #[test]
    fn a_directory_that_cannot_be_made_again_is_named_with_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("programs");
        let program = program(3, 400);
        let mut store = ProgramStore::open(directory.clone(), 1 << 20).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "in the way").unwrap();
        let refusal = send_whole(&mut store, &program).unwrap_err().to_string();
        for part in [directory.to_str().unwrap(), "make it a directory", "--store"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        fs::remove_file(&directory).unwrap();
        assert!(send_whole(&mut store, &program).is_ok(), "once it is out of the way, all is well");
    }

    #[test]
    fn a_directory_that_others_can_change_is_refused_with_the_reason() {
        let home = tempfile::tempdir().unwrap();
        let shared = home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        let refused = |directory: &Path, part: &str| {
            let reason = ProgramStore::open(directory.into(), 1_000).unwrap_err().to_string();
            assert!(reason.contains(part) && reason.contains(shared.to_str().unwrap()), "{reason}");
        };
        for mode in [0o777, 0o1777, 0o720] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            refused(&shared, "chmod go-w");
        }
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        assert!(ProgramStore::open(shared.join("own/programs"), 1_000).is_ok());
        if !geteuid().is_root() {
            return eprintln!("the rest is skipped: nothing can be given to another user here (needs root)");
        }
        const SOMEBODY: Option<u32> = Some(12_345);
        chown(shared.join("own"), SOMEBODY, None).unwrap();
        refused(&shared.join("own/programs"), "belongs to user 12345");
        chown(shared.join("own"), Some(0), None).unwrap();
        let (link, private) = (shared.join("link"), home.path().join("private"));
        DirBuilder::new().mode(0o700).create(&private).unwrap();
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(
            ProgramStore::open(link.join("programs"), 1_000).is_ok(),
            "its own link leads to its own place"
        );
        lchown(&link, SOMEBODY, None).unwrap();
        refused(&link.join("programs"), "belongs to user 12345");
        refused(&link, "belongs to user 12345");
    }

    #[test]
    fn a_directory_that_becomes_somebody_elses_gets_no_more_programs() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("programs");
        let mut store = ProgramStore::open(directory.clone(), 1_000).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let refusal = send_whole(&mut store, &program(3, 400)).unwrap_err().to_string();
        for part in [directory.to_str().unwrap(), "chmod go-w", "--store"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    /// A file system of so many MiB, gone when dropped; `None` where none can be mounted (needs root).
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount(mebibytes: u32) -> Option<Self> {
            let home = tempfile::tempdir().unwrap();
            let mut mount = std::process::Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=700"), "none"])
                .arg(home.path());
            mount.status().is_ok_and(|status| status.success()).then_some(Self(home))
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }

    /// Bytes that cannot be packed (Marsaglia's xorshift).
    fn noise(mut seed: u64, bytes: usize) -> Vec<u8> {
        let next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    #[test]
    fn on_a_full_disk_old_programs_make_room_as_a_new_one_arrives_and_as_it_is_unpacked() {
        let Some(small) = Small::mount(4) else {
            return eprintln!("skipped: a file system cannot be mounted here (needs root)");
        };
        let mut store = ProgramStore::open(small.0.path().into(), 1 << 30).unwrap();
        let sizes = [1_300_000, 1_700_000, 1_500_000];
        let [first, second, third] = [1, 2, 3].map(|seed| noise(seed, sizes[seed as usize - 1]));
        // The second one finds room to arrive and none to be unpacked, the third one none to arrive.
        for program in [&first, &second, &third] {
            let path = send_whole(&mut store, program).unwrap();
            assert_eq!(fs::read(path).unwrap(), *program);
        }
        let kept = [first, second, third].map(|program| store.path(&digest(&program)).is_some());
        assert_eq!(kept, [false, false, true]);
    }
}
