//! The job log as a file: read, locked, and written.
//!
//! A run holds a lock on its log for as long as it may write to it. So one that goes on with the log of an earlier run knows all
//! that was done, even if `ppctl` was killed and what ran is just being finished ([`guard`](super::guard)).

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use pp_run::joblog::{Entry, HEADER, Log, Resume};

use super::Options;
use super::finished::Finished;

/// The job log, and what a run takes from that of an earlier one.
#[derive(Debug)]
pub(super) struct JobLog {
    path: PathBuf,
    file: File,
    earlier: Option<(Log, Resume)>,
}

impl JobLog {
    pub(super) fn open(options: &Options) -> anyhow::Result<Option<Self>> {
        let Some((path, appends)) = options.joblog() else {
            if options.resume().is_some() {
                bail!(
                    "--resume, --resume-failed and --retry-failed need --joblog FILE: it says what was done"
                );
            }
            return Ok(None);
        };
        let continues = appends || options.resume().is_some();
        let failed = || format!("cannot write the job log {}", path.display());
        let mut opened = File::options();
        opened.create(true).append(continues).write(true).truncate(false);
        let mut file = opened.open(&path).with_context(failed)?;
        // Devices, and what is a name for them, keep nothing.
        if file.metadata().with_context(failed)?.is_file() {
            // Runs that only add to it may do so side by side.
            lock(&file, appends && options.resume().is_none(), &path);
            if !continues {
                file.set_len(0).with_context(failed)?;
            }
        }
        let earlier = match options.resume() {
            None => None,
            Some(resume) => Some((read(&path)?, resume)),
        };
        if file.metadata().with_context(failed)?.len() == 0 && !appends {
            file.write_all(HEADER).with_context(failed)?;
        } else if earlier.as_ref().is_some_and(|(log, _)| log.is_torn()) {
            file.write_all(b"\n").with_context(failed)?;
        }
        Ok(Some(Self { path, file, earlier }))
    }

    /// Whether a job is to be run, by what was logged of it.
    pub(super) fn wants(&self, sequence: u64) -> bool {
        self.earlier.as_ref().is_none_or(|(log, resume)| log.wants(sequence, *resume))
    }

    /// The command that an earlier run had for the job, if it was another one.
    pub(super) fn differs(&self, sequence: u64, command: &[u8]) -> Option<&[u8]> {
        self.earlier.as_ref()?.0.differs(sequence, command)
    }

    /// Jobs of the earlier run that failed.
    pub(super) fn failed(&self) -> Vec<(u64, Vec<u8>)> {
        let failed = self.earlier.iter().flat_map(|(log, _)| log.failed());
        failed.map(|(sequence, command)| (sequence, command.to_vec())).collect()
    }

    /// Writes a line, at once: whoever follows the log sees whole ones.
    pub(super) fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(line).with_context(|| format!("cannot write the job log {}", self.path.display()))
    }
}

impl Finished {
    /// Its line in the log.
    pub(super) fn log_line(&self) -> Vec<u8> {
        let Self { sequence, command, sent, end, output, .. } = self;
        let entry = Entry {
            sequence: *sequence,
            host: end.node.as_deref().unwrap_or(":"),
            started: end.started.duration_since(UNIX_EPOCH).unwrap_or_default(),
            runtime: end.run_time,
            sent: sent + end.sent_bytes,
            received: output.received() + end.stdout.len() as u64 + end.returned_bytes,
            exit: end.exit,
            command,
        };
        entry.line()
    }
}

/// Waits until no other run may write to the log, but for those that share it as this one does. Where files cannot be locked,
/// nobody is waited for.
fn lock(file: &File, shares: bool, path: &Path) {
    let tried = if shares { file.try_lock_shared() } else { file.try_lock() };
    if !matches!(tried, Err(TryLockError::WouldBlock)) {
        return;
    }
    crate::warn(&format!(
        "another run still writes the job log {}: this one waits for it. If its ppctl was killed, it finishes what it began, and \
         nothing more",
        path.display()
    ));
    let _ = if shares { file.lock_shared() } else { file.lock() };
}

/// The log of an earlier run; an empty one if there was none.
fn read(path: &Path) -> anyhow::Result<Log> {
    let failed = || format!("cannot go on with the job log {}", path.display());
    Log::read(&fs::read(path).with_context(failed)?).with_context(failed)
}
