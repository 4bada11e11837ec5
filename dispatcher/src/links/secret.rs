//! The secret to dial with. One from a file is read again when the file is another one than it was, so that a secret can be
//! replaced by another one while dispatchers run.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pp_protocol::secret::{FoundSecrets, Origin, Secret, Secrets};

#[derive(Debug)]
pub(crate) struct DialSecret {
    file: Option<PathBuf>,
    read: Mutex<Read>,
}

/// Secrets that were last read, and the look of the file then.
#[derive(Debug)]
struct Read {
    secrets: Secrets,
    look: Option<Look>,
}

/// A file that looks the same is the same: its number, its length, and when it was changed, which nobody can set.
type Look = (u64, u64, (i64, i64));

fn look_of(file: &Metadata) -> Look {
    (file.ino(), file.len(), (file.ctime(), file.ctime_nsec()))
}

impl DialSecret {
    pub(crate) fn new(FoundSecrets { secrets, origin }: FoundSecrets) -> Self {
        let file = if let Origin::File(path) = origin { Some(path) } else { None };
        // A file that changes while it is read for the first time looks different the next time, or is read once too often.
        Self { file, read: Mutex::new(Read { secrets, look: None }) }
    }

    /// The secret to prove. May read a file.
    pub(crate) fn now(&self) -> Secret {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            read.again(file);
        }
        read.secrets.first().clone()
    }
}

impl Read {
    /// Looks at the file again. One that cannot be used, or is gone, leaves what was there: it may be about to be written.
    fn again(&mut self, file: &Path) {
        let look = std::fs::metadata(file).ok().as_ref().map(look_of);
        if look == self.look {
            return;
        }
        match Secrets::read(file) {
            Ok(secrets) => self.secrets = secrets,
            Err(error) => tracing::warn!("{error}; what it held before is used"),
        }
        self.look = look;
    }
}
