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
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lz4_flex::frame::FrameDecoder;
use pp_protocol::limits::PROGRAM_BLOCK_BYTES;
use pp_protocol::{Digest, ProgramRefusal};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

/// Beginning of the names of files under construction.
const DRAFT_PREFIX: &str = "incoming-";
/// Excess of a packed program over the program itself, at most: a fraction of it, and so many bytes.
const PACKED_EXCESS: (u64, u64) = (64, 64 * 1024);

/// How much of what is not complete there may be, as a multiple of the store's limit: a program is there packed and unpacked
/// before it is known to be the right one.
const UNFINISHED_PARTS: u64 = 2;
/// First bytes of the LZ4 frame format, and where it says how large its blocks are: the code from which on they are too large.
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const LZ4_HEAD_BYTES: usize = 6;
const LZ4_LARGER_BLOCKS: u8 = 6;
const _: () = assert!(PROGRAM_BLOCK_BYTES == 256 * 1024, "which is the size of code 5");

/// The programs in one directory.
#[derive(Debug)]
pub(crate) struct ProgramStore {
    directory: PathBuf,
    limit_bytes: u64,
    /// Bytes on disk of programs that are not complete.
    unfinished: Arc<AtomicU64>,
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
    /// When the directory cannot be made, read or written to.
    pub(crate) fn open(directory: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        make(&directory)?;
        // Whether something can be made in it shows now, and not when the first program comes. If it is full, old ones go then.
        match tempfile::tempfile_in(&directory) {
            Err(error) if !is_full(&error) => return Err(error),
            _ => {}
        }
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
        Ok(Self { directory, limit_bytes, unfinished: Arc::default(), programs })
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
        let directory = self.directory.clone();
        let disk = Unfinished {
            bytes: 0,
            of_all: Arc::clone(&self.unfinished),
            limit: UNFINISHED_PARTS * self.limit_bytes + excess(self.limit_bytes),
        };
        Ok(Incoming { digest, bytes, packed, packed_bytes: 0, disk, directory })
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
    disk: Unfinished,
    directory: PathBuf,
}

/// What a program that is not complete takes on disk, as a part of what all of them may.
#[derive(Debug)]
struct Unfinished {
    bytes: u64,
    of_all: Arc<AtomicU64>,
    limit: u64,
}

impl Unfinished {
    /// It takes so many bytes more, unless that is too much.
    fn add(&mut self, bytes: usize) -> Result<(), ProgramRefusal> {
        let bytes = bytes as u64;
        self.bytes += bytes;
        if self.of_all.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            return Ok(());
        }
        let limit = self.limit;
        Err(ProgramRefusal::NotStored(format!(
            "programs that are being sent to the node take more than {limit} bytes there"
        )))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Incoming {
    /// Adds a packed piece. On a full disk, programs that were not used for longest give way.
    ///
    /// # Errors
    /// When it cannot be written, or more arrives than a program of the announced size can need.
    pub(crate) fn write(&mut self, piece: &[u8], store: &Mutex<ProgramStore>) -> Result<(), ProgramRefusal> {
        let start = self.packed_bytes;
        self.packed_bytes += piece.len() as u64;
        if self.packed_bytes > self.bytes + excess(self.bytes) {
            return Err(self.larger_than_announced());
        }
        self.disk.add(piece.len())?;
        while let Err(error) = self.packed.write_all(piece) {
            let is_full = error.kind() == io::ErrorKind::StorageFull;
            let has_room = is_full && lock(store).remove_oldest();
            if !has_room || self.packed.seek(SeekFrom::Start(start)).is_err() {
                return Err(not_stored(&self.directory, &error));
            }
        }
        Ok(())
    }

    /// Unpacks and verifies the program, and takes it into the store: not before that does another one make room for it.
    ///
    /// # Errors
    /// When what arrived is not the program announced, or cannot be written.
    pub(crate) fn finish(mut self, store: &Mutex<ProgramStore>) -> Result<Place, ProgramRefusal> {
        let path = lock(store).place_of(&self.digest);
        let mut may_be_cleared = true;
        let (mut store, file) = loop {
            let kept = self.unpack().and_then(|draft| {
                let mut store = lock(store);
                store.make_room(self.bytes);
                keep_at(&path, draft).map(|file| (store, file))
            });
            match kept {
                Ok(kept) => break kept,
                Err(UnpackError::Disk(error))
                    if error.kind() == io::ErrorKind::StorageFull && lock(store).remove_oldest() => {}
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
        check_head(&self.packed)?;
        self.packed.seek(SeekFrom::Start(0))?;
        let mut disk = Unfinished { bytes: 0, of_all: Arc::clone(&self.disk.of_all), limit: self.disk.limit };
        let mut decoder = FrameDecoder::new(&self.packed);
        let mut hasher = blake3::Hasher::new();
        let mut unpacked = 0;
        loop {
            let block = decoder.fill_buf().map_err(UnpackError::Packed)?;
            if block.is_empty() {
                break;
            }
            let count = block.len();
            unpacked += count as u64;
            if unpacked > self.bytes {
                return Err(UnpackError::Larger);
            }
            disk.add(count).map_err(UnpackError::Refused)?;
            hasher.update(block);
            draft.write_all(block)?;
            decoder.consume(count);
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
            UnpackError::Refused(refusal) => refusal,
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
    #[error("{0}")]
    Refused(ProgramRefusal),
    #[error("the digest is {0}")]
    OtherDigest(Digest),
}

/// How much larger than a program of so many bytes its packed form may be.
fn excess(bytes: u64) -> u64 {
    bytes / PACKED_EXCESS.0 + PACKED_EXCESS.1
}

/// Whoever unpacks takes as much memory as the head says: no more than blocks of [`PROGRAM_BLOCK_BYTES`] are worth.
fn check_head(mut packed: &File) -> Result<(), UnpackError> {
    let mut head = [0; LZ4_HEAD_BYTES];
    packed.read_exact(&mut head).map_err(UnpackError::Packed)?;
    let blocks = head[LZ4_HEAD_BYTES - 1] >> 4 & 7;
    if head.starts_with(&LZ4_MAGIC) && blocks < LZ4_LARGER_BLOCKS {
        return Ok(());
    }
    let reason = format!("it is no LZ4 frame with blocks of {PROGRAM_BLOCK_BYTES} bytes at most");
    Err(UnpackError::Packed(io::Error::new(io::ErrorKind::InvalidData, reason)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn not_stored(directory: &Path, error: &io::Error) -> ProgramRefusal {
    let directory = directory.display();
    let remedy = match error.kind() {
        _ if is_full(error) => "make room there or choose another directory (--store)",
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

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use pp_counting::{Counting, Random, allowed, peak_of};

    use super::*;

    impl ProgramStore {
        fn path(&mut self, digest: &Digest) -> Option<PathBuf> {
            self.place(digest).map(|place| place.path)
        }
    }
    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn digest(program: &[u8]) -> Digest {
        Digest(blake3::hash(program).into())
    }

    fn packed(program: &[u8]) -> Vec<u8> {
        let blocks = FrameInfo::new().block_size(BlockSize::Max256KB);
        let mut encoder = FrameEncoder::with_frame_info(blocks, Vec::new());
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
        let empty =
            ProgramStore { directory, limit_bytes, unfinished: Arc::default(), programs: BTreeMap::new() };
        let shared = Mutex::new(std::mem::replace(store, empty));
        let written = packed.chunks(1000).try_for_each(|piece| incoming.write(piece, &shared));
        let finished = written.and_then(|()| incoming.finish(&shared));
        *store = shared.into_inner().unwrap();
        finished.map(|place| place.path)
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
    fn nothing_makes_room_for_a_program_before_it_is_found_to_be_the_right_one() {
        let home = tempfile::tempdir().unwrap();
        let programs: Vec<_> = (1..=32).map(|seed| program(2 * seed + 1, 100)).collect();
        let mut store = ProgramStore::open(home.path().into(), 3_200).unwrap();
        programs.iter().for_each(|program| drop(send_whole(&mut store, program).unwrap()));
        let (announced, sent) = (program(3, 3_000), program(5, 3_000));
        for packed in [packed(&sent), vec![7; 500]] {
            send(&mut store, digest(&announced), 3_000, &packed).unwrap_err();
        }
        assert!(programs.iter().all(|program| store.path(&digest(program)).is_some()));
        send_whole(&mut store, &announced).unwrap();
        let kept = programs.iter().filter(|program| store.path(&digest(program)).is_some()).count();
        assert_eq!(kept, 2, "once it is, as many go as have to");
    }

    #[test]
    fn programs_that_are_not_complete_take_no_more_than_twice_what_the_store_may() {
        let home = tempfile::tempdir().unwrap();
        let mut store = ProgramStore::open(home.path().into(), 1 << 20).unwrap();
        let shared = Mutex::new(ProgramStore::open(home.path().into(), 1 << 20).unwrap());
        let piece = noise(9, 100_000);
        let mut begun: Vec<_> = (0..10).map(|n| store.begin(Digest([n; 32]), 1 << 20).unwrap()).collect();
        let mut written = 0;
        let refusal = loop {
            match begun.iter_mut().try_for_each(|incoming| incoming.write(&piece, &shared)) {
                Ok(()) => written += 10,
                Err(refusal) => break refusal,
            }
        };
        assert!(matches!(refusal, ProgramRefusal::NotStored(_)), "which is tried again: {refusal}");
        assert!((10..=20).contains(&written), "{written} pieces of 100,000 bytes");
        drop(begun);
        assert!(send_whole(&mut store, &noise(7, 1 << 20)).is_ok(), "one of the largest finds room again");
    }

    #[test]
    fn unpacking_takes_no_more_memory_than_the_packed_bytes_make_reasonable() {
        let home = tempfile::tempdir().unwrap();
        let mut store = ProgramStore::open(home.path().into(), 1 << 30).unwrap();
        let blocks = [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
            BlockSize::Max8MB,
        ];
        let right = program(3, 100_000);
        let packed = |size, mode| {
            let frame = FrameInfo::new().block_size(size).block_mode(mode);
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(&right).unwrap();
            encoder.finish().unwrap()
        };
        let modes = [BlockMode::Independent, BlockMode::Linked];
        let samples: Vec<_> =
            blocks.into_iter().flat_map(|size| modes.map(|mode| packed(size, mode))).collect();
        let mut stored = 0;
        for seed in 0..500 {
            let mut random = Random(seed);
            let sample = &samples[random.below(samples.len())];
            let input = match seed {
                0..20 => sample.clone(),
                // Those of which hardly anything is there.
                20..60 => sample[..random.below(100)].to_vec(),
                _ => random.spoiled(sample),
            };
            let (result, peak) = peak_of(|| send(&mut store, digest(&right), 100_000, &input));
            assert!(peak <= allowed(input.len()), "seed {seed}: {peak} bytes for {}", input.len());
            stored += u32::from(result.is_ok());
            store.remove(&digest(&right));
        }
        assert!(stored > 5, "{stored} were right, and their blocks were not too large");
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
        let place = incoming.finish(&store).unwrap();
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
