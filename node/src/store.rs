//! Programs that dispatchers sent, kept on disk under their digests.
//!
//! A directory may be shared by several nodes of one machine: files appear in it whole, by a rename, and one that
//! another node removed is simply missing. Nothing here waits for anything but the disk; it is called off the node's
//! task. Removing a program that workers run does them no harm, as the system keeps their file until they end.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lz4_flex::frame::FrameDecoder;
use pp_protocol::{Digest, ProgramRefusal};
use tempfile::NamedTempFile;

/// What files under construction begin with.
const DRAFT_PREFIX: &str = "incoming-";
/// What is unpacked at once.
const COPY_BYTES: usize = 256 * 1024;
/// How much larger than the program its packed form may be: a fraction of it, and so many bytes.
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
    /// Whether its bytes were found to be right since this process started.
    is_verified: bool,
}

impl ProgramStore {
    /// Opens a directory, making it if it is missing, in which at most `limit_bytes` are kept. Drafts that a node left
    /// when it died are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub(crate) fn open(directory: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut programs = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with(DRAFT_PREFIX) {
                remove_if_abandoned(&entry.path());
            } else if let (Some(digest), Ok(metadata)) = (digest_in(&name), entry.metadata()) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                programs.insert(digest, Stored { bytes: metadata.len(), used, is_verified: false });
            }
        }
        Ok(Self { directory, limit_bytes, programs })
    }

    /// Where the program is, if it is here. Its bytes are verified when it is asked for the first time; a damaged one
    /// is removed.
    pub(crate) fn path(&mut self, digest: &Digest) -> Option<PathBuf> {
        let path = self.place_of(digest);
        let is_verified =
            self.programs.get(digest).is_some_and(|program| program.is_verified) && path.exists();
        if !is_verified && !matches!(digest_of(&path), Ok(found) if found == *digest) {
            self.remove(digest);
            return None;
        }
        self.keep(*digest, &path);
        Some(path)
    }

    /// Starts to receive a program of `bytes` bytes.
    ///
    /// # Errors
    /// When it is larger than the store, or nothing can be written.
    pub(crate) fn begin(&self, digest: Digest, bytes: u64) -> Result<Incoming, ProgramRefusal> {
        if bytes > self.limit_bytes {
            return Err(ProgramRefusal::TooLarge { bytes, limit: self.limit_bytes });
        }
        let packed = tempfile::tempfile_in(&self.directory);
        let packed = packed.map_err(|error| not_stored(&self.directory, &error))?;
        Ok(Incoming { digest, bytes, packed, packed_bytes: 0, directory: self.directory.clone() })
    }

    /// Forgets a program and removes its file.
    pub(crate) fn remove(&mut self, digest: &Digest) {
        self.programs.remove(digest);
        // A file that is not there any more is what is wanted.
        let _ = fs::remove_file(self.place_of(digest));
    }

    /// Notes that the program at `path` is complete and was used now.
    fn keep(&mut self, digest: Digest, path: &Path) {
        let used = SystemTime::now();
        let file = File::open(path);
        let bytes = file.as_ref().ok().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        // The file's time is how the next node to open the directory knows what was used last.
        let _ = file.and_then(|file| file.set_modified(used));
        self.programs.insert(digest, Stored { bytes, used, is_verified: true });
    }

    /// Removes what was not used for longest, until there is room.
    fn make_room(&mut self, bytes: u64) {
        let room = self.limit_bytes.saturating_sub(bytes);
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
    /// Adds a packed piece.
    ///
    /// # Errors
    /// When it cannot be written, or more arrives than a program of the announced size can need.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), ProgramRefusal> {
        self.packed_bytes += piece.len() as u64;
        if self.packed_bytes > self.bytes + self.bytes / PACKED_EXCESS.0 + PACKED_EXCESS.1 {
            return Err(self.larger_than_announced());
        }
        self.packed.write_all(piece).map_err(|error| not_stored(&self.directory, &error))
    }

    /// Unpacks and verifies the program, and takes it into the store.
    ///
    /// # Errors
    /// When what arrived is not the program announced, or cannot be written.
    pub(crate) fn finish(mut self, store: &mut ProgramStore) -> Result<PathBuf, ProgramRefusal> {
        store.make_room(self.bytes);
        let draft = loop {
            match self.unpack() {
                Err(UnpackError::Disk(error))
                    if error.kind() == io::ErrorKind::StorageFull && store.remove_oldest() => {}
                Err(error) => return Err(self.refusal(error)),
                Ok(draft) => break draft,
            }
        };
        let path = store.place_of(&self.digest);
        // Dropping the file that this yields closes it: a program open for writing cannot be started.
        let persisted = draft.persist(&path).map(drop);
        persisted.map_err(|error| not_stored(&self.directory, &error.error))?;
        store.keep(self.digest, &path);
        Ok(path)
    }

    fn unpack(&mut self) -> Result<NamedTempFile, UnpackError> {
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
            UnpackError::Packed(error) => ProgramRefusal::NotStored(format!("it arrived damaged: {error}")),
            UnpackError::Larger => self.larger_than_announced(),
            UnpackError::OtherDigest(found) => ProgramRefusal::WrongDigest { found },
        }
    }

    fn larger_than_announced(&self) -> ProgramRefusal {
        ProgramRefusal::NotStored(format!("it is larger than the {} bytes that were announced", self.bytes))
    }
}

/// Why a program could not be unpacked.
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

fn not_stored(directory: &Path, error: &io::Error) -> ProgramRefusal {
    let directory = directory.display();
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there or choose another directory"
        }
        _ => "",
    };
    ProgramRefusal::NotStored(format!("cannot write to {directory}: {error}{remedy}"))
}

/// Removes a draft unless the node that writes it is alive, which shows in its lock.
fn remove_if_abandoned(path: &Path) {
    if File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = fs::remove_file(path);
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest(hasher.finalize().into()))
}

fn digest_in(name: &str) -> Option<Digest> {
    blake3::Hash::from_hex(name).ok().map(|hash| Digest(hash.into()))
}

#[cfg(test)]
mod tests {
    use lz4_flex::frame::FrameEncoder;

    use super::*;

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
        for piece in packed.chunks(1000) {
            incoming.write(piece)?;
        }
        incoming.finish(store)
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
}
