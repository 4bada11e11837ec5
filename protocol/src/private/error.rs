//! Errors of private files: what happened, to which file, and what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::environment::VariableError;
use crate::shown::quoted;

/// A private file cannot be found, read or written, or is not as private as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It has no usual place.
    #[error("there is no home directory to keep it in: neither XDG_CONFIG_HOME nor HOME is set")]
    NoHome,
    /// The variables that lead to its usual place make no sense.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// There is no such file.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// It is a symbolic link, and what that leads to is not there.
    #[error("{} is a link to {}, which is not there; make that, or remove the link", .path.display(), .target.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// The system does not let this user read it.
    #[error("{0}")]
    Denied(Box<Denial>),
    /// It cannot be read for another reason.
    #[error("{} cannot be read: {source}; check its path", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// It is a directory, a device, or the like.
    #[error("{} is no file but {what}; remove it, or name a file", .path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Others may read or change it.
    #[error("{} can be read by others (mode {mode:03o}); run: chmod {right:03o} {}", .path.display(), quoted(.path))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Those that it may have.
        right: u32,
    },
    /// Others may change it.
    #[error("{} can be changed by others (mode {mode:03o}); run: chmod go-w {}", .path.display(), quoted(.path))]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "{} belongs to another user ({owner}), who can change it; run as that user, or make a copy of your own and name \
         that: install -m 600 {} COPY", .path.display(), quoted(.path)
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
         copy of your own and name that: install -m 600 {} COPY", .path.display(), quoted(.path)
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
    /// It would be longer than what is read.
    #[error("{} would hold more than {limit} bytes; remove what is not needed from it", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The most that it may hold.
        limit: u64,
    },
    /// It cannot be written.
    #[error("{} cannot be written: {source}, in {}", .path.display(), .directory.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The nearest directory to it that is there.
        directory: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// Another program is about to change it, and has been for a while.
    #[error("another program has been changing {} for {seconds} s; look for one that is stopped, and try again", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Seconds that were waited.
        seconds: u64,
    },
}

/// A user may not read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The file.
    pub path: PathBuf,
    /// What refuses: the file itself, or a directory on the way to it.
    pub by: PathBuf,
    /// The user of this process.
    pub user: u32,
    /// Owner of what refuses.
    pub owner: u32,
    /// Its permission bits.
    pub mode: u32,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, by, user, owner, mode } = self;
        write!(f, "{} cannot be read by user {user}: ", path.display())?;
        if by == path {
            write!(f, "it is of user {owner}, with mode {mode:03o}")?;
        } else {
            write!(f, "the directory {} is closed, of user {owner}, with mode {mode:03o}", by.display())?;
        }
        write!(f, "; run as user {owner}, or name a file that user {user} may read")
    }
}

impl PrivateError {
    /// Whether there is nothing at its path: one can be made there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// Advice for those errors that a file elsewhere helps against: how one is named.
    pub(crate) fn or_elsewhere(&self, how: &str) -> String {
        match self {
            Self::NoHome | Self::Unwritable { .. } => format!("; name a file with {how}"),
            _ => String::new(),
        }
    }
}
