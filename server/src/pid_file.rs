//! The file that holds the daemon's process id while it runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

/// Removes the file when dropped.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error("another ppserver (process {pid}) runs with the pid file {}; stop it, or give another file with -P", .path.display())]
    Running { pid: i32, path: PathBuf },
    #[error("cannot write the pid file {}: {source}", .path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
}

impl PidFile {
    /// Writes the file, unless the process that wrote the one there still runs.
    pub(crate) fn create(path: &Path) -> Result<Self, PidFileError> {
        let unwritable = |source| PidFileError::Unwritable { path: path.into(), source };
        for _ in 0..2 {
            match fs::OpenOptions::new().write(true).create_new(true).open(path) {
                Ok(mut file) => {
                    writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
                    return Ok(Self(path.into()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if let Some(pid) = running(path) {
                        return Err(PidFileError::Running { pid, path: path.into() });
                    }
                    fs::remove_file(path).map_err(unwritable)?;
                }
                Err(error) => return Err(unwritable(error)),
            }
        }
        Err(unwritable(std::io::ErrorKind::AlreadyExists.into()))
    }
}

/// The process that wrote the file, if it still runs.
fn running(path: &Path) -> Option<i32> {
    let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let runs = test_kill_process(Pid::from_raw(pid)?).is_ok();
    (runs && pid != std::process::id() as i32).then_some(pid)
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %error, "cannot remove the pid file");
        }
    }
}
