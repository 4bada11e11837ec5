//! Files of jobs: read here as a job is submitted, written here when it has ended on a node.
//!
//! They are read on a thread of their own, which waits while those of jobs under way take too much memory.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use pp_dispatcher::{CommandFile, CommandFiles, CommandOutput, CommandStatus};
use pp_protocol::limits::COMMAND_FILE_BYTES;
use pp_run::{NamedFile, Plan, Start};

use super::task::Task;

/// Bytes in the files of jobs under way; while there are so many, those of the next job are not read.
const BYTES_AHEAD: usize = 256 << 20;

/// Options about files, in the words of GNU parallel.
#[derive(Debug, clap::Args)]
pub(crate) struct FileOptions {
    /// Send this file along with each job; placeholders are filled in; may be repeated. DIR/./FILE is FILE there
    #[arg(long = "transferfile", visible_alias = "tf", value_name = "FILE", help_heading = "Files")]
    sent: Vec<OsString>,
    /// Send the file that the argument names: --transferfile {}
    #[arg(long, help_heading = "Files")]
    transfer: bool,
    /// Bring this file back when a job has ended on a node; placeholders are filled in; may be repeated
    #[arg(long = "return", value_name = "FILE", help_heading = "Files")]
    returned: Vec<OsString>,
    /// Remove what was sent and returned from the directory of --wd; other directories go with their job
    #[arg(long, help_heading = "Files")]
    cleanup: bool,
    /// Send the argument, bring FILE back, clean up: --transfer --return FILE --cleanup
    #[arg(long = "trc", value_name = "FILE", help_heading = "Files")]
    trc: Vec<OsString>,
}

/// What is sent with jobs and comes back, with placeholders.
#[derive(Debug)]
pub(super) struct Templates {
    sent: Vec<Vec<u8>>,
    returned: Vec<Vec<u8>>,
    cleanup: bool,
}

impl FileOptions {
    /// What they ask for, if anything.
    pub(super) fn templates(&self, plan: &Plan, runs_logged_jobs: bool) -> anyhow::Result<Option<Templates>> {
        let bytes = |text: &OsString| text.clone().into_vec();
        let transfer = (self.transfer || !self.trc.is_empty()).then(|| b"{}".to_vec());
        let templates = Templates {
            sent: self.sent.iter().map(bytes).chain(transfer).collect(),
            returned: self.returned.iter().chain(&self.trc).map(bytes).collect(),
            cleanup: self.cleanup || !self.trc.is_empty(),
        };
        if templates.sent.is_empty() && templates.returned.is_empty() {
            return Ok(None);
        }
        if runs_logged_jobs {
            bail!(
                "--retry-failed takes commands from the job log, which does not say their files; give the arguments again, \
                 with --resume-failed"
            );
        }
        for text in templates.sent.iter().chain(&templates.returned) {
            plan.check(text).with_context(|| format!("the file {:?}", String::from_utf8_lossy(text)))?;
        }
        Ok(Some(templates))
    }
}

/// Files of one job, by name.
#[derive(Debug)]
pub(super) struct JobFiles {
    sent: Vec<NamedFile>,
    returned: Vec<NamedFile>,
    cleanup: bool,
}

impl Templates {
    /// The files of a job.
    pub(super) fn of_job(&self, task: &Task, start: Start) -> anyhow::Result<JobFiles> {
        let named = |texts: &[Vec<u8>]| -> anyhow::Result<Vec<NamedFile>> {
            let mut files = Vec::new();
            for text in texts {
                files.extend(task.files(text, start)?.iter().map(|name| NamedFile::parse(name)));
            }
            Ok(files)
        };
        Ok(JobFiles { sent: named(&self.sent)?, returned: named(&self.returned)?, cleanup: self.cleanup })
    }
}

impl JobFiles {
    /// Reads what is sent.
    fn read(&self) -> Result<CommandFiles, String> {
        let returned = self.returned.iter().map(|file| OsString::from_vec(file.path.clone())).collect();
        let mut files =
            CommandFiles { returned, cleanup: self.cleanup, are_at_home: true, ..CommandFiles::default() };
        let mut room = COMMAND_FILE_BYTES;
        for file in &self.sent {
            let read = CommandFile::read(&directory_of(file), OsString::from_vec(file.path.clone()), room);
            let read = read.map_err(|error| format!("its file cannot be sent: {error}"))?;
            room -= read.contents.len();
            files.sent.push(read);
        }
        files.check().map_err(|error| format!("its file cannot be sent or returned: {error}"))?;
        Ok(files)
    }

    /// Writes what a node returned: what it was asked for, and nothing else, whatever it calls it.
    fn write(&self, returned: &[CommandFile]) -> Result<(), String> {
        for file in returned {
            let asked = self.returned.iter().find(|asked| asked.path == file.path.as_encoded_bytes());
            let Some(asked) = asked else {
                let path = pp_protocol::shown_name(&file.path.to_string_lossy());
                return Err(format!("the node returned {path}, which it was not asked for"));
            };
            let directory = directory_of(asked);
            fs::create_dir_all(&directory)
                .map_err(|error| format!("cannot make the directory {}: {error}", directory.display()))?;
            file.write(&directory).map_err(|error| format!("cannot write what was returned: {error}"))?;
        }
        Ok(())
    }
}

/// The directory that a file is below, on this machine.
fn directory_of(file: &NamedFile) -> PathBuf {
    match &file.directory {
        None => ".".into(),
        Some(directory) => OsString::from_vec(directory.clone()).into(),
    }
}

/// Files of a job that is under way.
#[derive(Debug)]
pub(super) struct FilesUnderWay {
    names: JobFiles,
    pub(super) sent_bytes: u64,
    _held: Held,
}

impl FilesUnderWay {
    /// Writes what has come back. Where that fails, the command has failed that had ended well.
    pub(super) fn take(&self, output: &mut CommandOutput) {
        let written = self.names.write(&output.files);
        if let (Err(trouble), true) = (written, output.status.is_success()) {
            output.status = CommandStatus::FileTrouble(trouble);
        }
    }
}

/// Takes files that were read, or the reason why they cannot be sent.
type Take = Box<dyn FnOnce(Result<(CommandFiles, FilesUnderWay), String>) + Send>;

/// Reads files, those of one job after the other.
pub(super) struct Loader(Sender<(JobFiles, Take)>);

impl Loader {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (ask, asked) = channel::<(JobFiles, Take)>();
        let budget = Arc::new(Budget::default());
        thread::Builder::new().name("files".into()).spawn(move || {
            for (names, take) in asked {
                budget.wait_for_room();
                take(names.read().map(|files| {
                    let bytes = files.sent.iter().map(|file| file.contents.len()).sum();
                    let held = Held::new(&budget, bytes);
                    (files, FilesUnderWay { names, sent_bytes: bytes as u64, _held: held })
                }));
            }
        })?;
        Ok(Self(ask))
    }

    /// Reads the files of a job, and has them taken.
    pub(super) fn load(
        &self,
        files: JobFiles,
        take: impl FnOnce(Result<(CommandFiles, FilesUnderWay), String>) + Send + 'static,
    ) {
        // The thread is there for as long as there is somebody to ask it.
        let _ = self.0.send((files, Box::new(take)));
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

/// Bytes in the files of jobs under way.
#[derive(Debug, Default)]
struct Budget {
    bytes: Mutex<usize>,
    given_back: Condvar,
}

impl Budget {
    /// Waits until there are fewer than may be; one job may go beyond.
    fn wait_for_room(&self) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_while(bytes, |bytes| *bytes >= BYTES_AHEAD);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        self.given_back.notify_one();
    }
}

/// Bytes of a job, until it has ended.
#[derive(Debug)]
struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        budget.change(|all| *all += bytes);
        Self { budget: Arc::clone(budget), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.change(|all| *all -= self.bytes);
    }
}
