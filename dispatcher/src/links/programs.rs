//! The programs that nodes are offered: hashed when a node is first dialled, compressed when one first needs them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use pp_node::own_executable;
use pp_protocol::limits::{PROGRAM_BYTES, PROGRAM_CHUNK_BYTES, PROGRAMS};
use pp_protocol::{Digest, ProgramBuild, ProgramId, ProgramOffer, Target};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Programs, each with its builds.
#[derive(Debug)]
pub(crate) struct OfferedPrograms {
    programs: Vec<Builds>,
    offers: OnceLock<Result<Vec<ProgramOffer>, String>>,
    compressed: Mutex<Vec<(Digest, Chunks)>>,
}

#[derive(Debug)]
struct Builds {
    /// Whether the first one is what this process runs.
    own: bool,
    files: Vec<(PathBuf, Target)>,
}

/// The executable files of a program: each of its builds for another target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFiles {
    /// Whether this process's own executable is one of them. The local node runs no other program.
    pub own: bool,
    /// The others.
    pub builds: Vec<PathBuf>,
}

/// A build of the program cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {} as a build of this program: {reason}", .path.display())]
#[non_exhaustive]
pub struct ProgramError {
    /// The file.
    pub path: PathBuf,
    /// Reason.
    pub reason: String,
}

/// A compressed program, in pieces; shared by all nodes it is sent to.
pub(crate) type Chunks = Arc<[Bytes]>;

impl OfferedPrograms {
    pub(crate) fn open(programs: &[ProgramFiles]) -> Result<Self, ProgramError> {
        if programs.len() > PROGRAMS {
            let reason = format!("it is one of {} programs, and {PROGRAMS} are the limit", programs.len());
            let path = programs.iter().flat_map(|program| &program.builds).next_back().cloned();
            return Err(ProgramError { path: path.unwrap_or_default(), reason });
        }
        let programs = programs.iter().map(Builds::open).collect::<Result<_, _>>()?;
        Ok(Self { programs, offers: OnceLock::new(), compressed: Mutex::default() })
    }

    /// Their numbers, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ProgramId> {
        (ProgramId::FIRST.0..).map(ProgramId).take(self.programs.len())
    }

    /// Offers for other nodes. Reads and hashes the files the first time: not for the dispatcher's thread.
    pub(crate) fn offers(&self) -> Result<Vec<ProgramOffer>, String> {
        let offer = |(program, it): (_, &Builds)| {
            let builds =
                it.files.iter().map(|(path, target)| build(path, target)).collect::<Result<_, _>>()?;
            Ok(ProgramOffer { program, builds })
        };
        self.offers.get_or_init(|| self.ids().zip(&self.programs).map(offer).collect()).clone()
    }

    /// Offers for the local node, which runs in this very program and no other: no file is read.
    pub(crate) fn offers_here(&self) -> Vec<ProgramOffer> {
        let offer = |(program, it): (_, &Builds)| {
            let unread = |target: &Target| ProgramBuild {
                digest: Digest([0; 32]),
                target: target.clone(),
                bytes: 0,
                name: String::new(),
            };
            let builds = it.files.iter().map(|(_, target)| unread(target));
            ProgramOffer { program, builds: if it.own { Vec::new() } else { builds.collect() } }
        };
        self.ids().zip(&self.programs).map(offer).collect()
    }

    /// A program, compressed. Takes a while the first time: not for the dispatcher's thread.
    pub(crate) fn chunks(&self, digest: Digest) -> Result<Chunks, String> {
        let mut compressed = self.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, chunks)) = compressed.iter().find(|(known, _)| *known == digest) {
            return Ok(Arc::clone(chunks));
        }
        let offers = self.offers()?;
        let builds = offers.iter().flat_map(|offer| &offer.builds);
        let files = self.programs.iter().flat_map(|program| &program.files);
        let found = builds.zip(files).find(|(build, _)| build.digest == digest);
        let (_, (path, _)) = found.ok_or_else(|| format!("it was never offered ({})", digest.short()))?;
        let chunks = compress(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        compressed.push((digest, Arc::clone(&chunks)));
        Ok(chunks)
    }
}

impl Builds {
    fn open(program: &ProgramFiles) -> Result<Self, ProgramError> {
        let mut files = Vec::new();
        if program.own {
            let own = own_executable()
                .map_err(|error| ProgramError { path: "/proc/self/exe".into(), reason: error.to_string() })?;
            files.push((own, Target::here()));
        }
        for path in &program.builds {
            let failed = |reason: String| ProgramError { path: path.clone(), reason };
            let mut start = [0; 20];
            let mut file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
            file.read_exact(&mut start).map_err(|error| failed(error.to_string()))?;
            let target =
                target_of(&start).ok_or_else(|| failed("it is not a Linux executable (ELF)".into()))?;
            files.push((path.clone(), target));
        }
        Ok(Self { own: program.own, files })
    }
}

fn build(path: &Path, target: &Target) -> Result<ProgramBuild, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        bytes += length as u64;
    }
    if bytes > PROGRAM_BYTES {
        return Err(format!("{} has {bytes} bytes, the limit is {PROGRAM_BYTES}; strip it", path.display()));
    }
    let name =
        std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok(ProgramBuild {
        digest: Digest(*hasher.finalize().as_bytes()),
        target: target.clone(),
        bytes,
        name: name.unwrap_or_else(|| path.display().to_string()),
    })
}

fn compress(path: &Path) -> std::io::Result<Chunks> {
    let mut file = std::fs::File::open(path)?;
    let blocks = FrameInfo::new().block_size(BlockSize::Max256KB);
    let mut encoder = FrameEncoder::with_frame_info(blocks, Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        encoder.write_all(&buffer[..length])?;
    }
    let mut compressed = Bytes::from(encoder.finish().map_err(std::io::Error::other)?);
    let mut chunks = Vec::new();
    while !compressed.is_empty() {
        chunks.push(compressed.split_to(compressed.len().min(PROGRAM_CHUNK_BYTES)));
    }
    Ok(chunks.into())
}

/// Target of an executable, by the first bytes of its file (ELF specification, "ELF header").
fn target_of(start: &[u8; 20]) -> Option<Target> {
    if start[..4] != *b"\x7fELF" {
        return None;
    }
    let little_endian = start[5] == 1;
    let machine = [start[18], start[19]];
    let machine = if little_endian { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let arch = match (machine, little_endian) {
        (3, _) => "x86",
        (21, _) => "powerpc64",
        (22, _) => "s390x",
        (40, _) => "arm",
        (62, _) => "x86_64",
        (183, _) => "aarch64",
        (243, _) => "riscv64",
        (258, _) => "loongarch64",
        _ => return None,
    };
    Some(Target::new("linux", arch))
}
