//! Identifiers. Each is a newtype, so that one can never be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One submitted call, unique within its dispatcher for as long as it is unresolved.
///
/// The low 32 bits are the place the dispatcher keeps the job at, the high 32 bits count how often that place was
/// used before: an identifier of a job that ended never names the job that took its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl JobId {
    /// The identifier of the `generation`-th job kept at `place`.
    pub const fn new(place: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | place as u64)
    }

    /// Place where the dispatcher keeps the job.
    pub const fn place(self) -> u32 {
        self.0 as u32
    }

    /// Number of jobs that were kept at that place before this one.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation() {
            0 => write!(f, "{}", self.place()),
            generation => write!(f, "{}#{generation}", self.place()),
        }
    }
}

/// Text is no number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no number of a job; write it as events, logs and output name it: 17 or 17#2")]
pub struct NotAJob;

impl FromStr for JobId {
    type Err = NotAJob;

    fn from_str(text: &str) -> Result<Self, NotAJob> {
        let (place, generation) = text.split_once('#').unwrap_or((text, "0"));
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_number).ok_or(NotAJob)
        };
        Ok(Self::new(number(place)?, number(generation)?))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

/// One try of a job on one node. The number only rises, so an outcome of an older attempt is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job being tried.
    pub job: JobId,
    /// Counts the tries of that job from 1.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} attempt {}", self.job, self.number)
    }
}

/// Names a function of a program: the first eight bytes of the BLAKE3 hash of its full path.
///
/// The path itself is known to the program on both ends and never crosses the wire with a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionId(pub u64);

impl fmt::Debug for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionId({:016x})", self.0)
    }
}

/// A program of a session, as its dispatcher numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProgramId(pub u16);

impl ProgramId {
    /// The node's own functions, which need no program and are never offered.
    pub const BUILT_IN: Self = Self(0);
    /// The first program that a dispatcher offers: in most sessions the only one.
    pub const FIRST: Self = Self(1);
}

/// One life of a node: drawn at random when its process starts, so that a restarted node is told from one that was
/// only out of reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u128);

/// One dispatcher's standing with its nodes: drawn at random when the dispatcher starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u128);

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// A fresh identifier from the system's random numbers.
            ///
            /// # Panics
            /// When the system has no random numbers, in which case nothing could be encrypted either.
            #[cfg(feature = "net")]
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the system's random number source works");
                Self(u128::from_le_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:08x}", (self.0 >> 96) as u32)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    };
}

random_id!(NodeId);
random_id!(SessionId);

/// The BLAKE3 hash of a program's executable file, or of another file: 32 bytes, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Digest {
    /// The first twelve hexadecimal digits: enough to tell programs apart in a log.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

/// Name of a secret that does not tell it: for whoever keeps account of what was opened with it. Never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId(pub u64);

/// Name of a machine: the public half of its key. Never sent as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_keeps_place_and_generation_apart() {
        let id = JobId::new(7, 3);
        assert_eq!((id.place(), id.generation()), (7, 3));
        assert_eq!(id.to_string(), "7#3");
        assert_eq!(JobId::new(u32::MAX, 0).to_string(), u32::MAX.to_string());
        assert_eq!(["7#3", "7"].map(str::parse), [Ok(id), Ok(JobId::new(7, 0))]);
        for text in ["", "#", "7#", "#3", "+7", "7#-3", " 7", "4294967296", "render1", "7#3#1"] {
            assert_eq!(text.parse::<JobId>(), Err(NotAJob), "{text}");
        }
    }
}
