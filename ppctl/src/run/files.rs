//! Files of jobs: read here as a job is submitted, written here when it has ended on a node.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pp_dispatcher::{CommandDirectory, CommandFile, CommandFiles, CommandOutput, CommandStatus};
use pp_protocol::limits::COMMAND_FILE_BYTES;
use pp_run::{NamedFile, Plan, Start};

use super::base::BaseFiles;
use super::loader::{Held, Loader};
use super::task::Task;

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
    /// Send this file once to each node, for all jobs there; may be repeated
    #[arg(long = "basefile", visible_alias = "bf", value_name = "FILE", help_heading = "Files")]
    base: Vec<OsString>,
}

/// What is sent with jobs and comes back, with placeholders.
#[derive(Debug)]
struct Templates {
    sent: Vec<Vec<u8>>,
    returned: Vec<Vec<u8>>,
    cleanup: bool,
}

impl FileOptions {
    /// What they ask for, if anything.
    pub(super) fn files<J>(&self, plan: &Plan, runs_logged_jobs: bool) -> anyhow::Result<Option<Files<J>>> {
        let templates = self.templates(plan)?;
        let base = BaseFiles::look_at(&self.base)?;
        if templates.is_empty() && base.is_empty() {
            return Ok(None);
        }
        if runs_logged_jobs && !templates.is_empty() {
            bail!(
                "--retry-failed takes commands from the job log, which does not say their files; give the arguments again, \
                 with --resume-failed"
            );
        }
        Ok(Some(Files { templates, base, loader: Loader::start()? }))
    }

    fn templates(&self, plan: &Plan) -> anyhow::Result<Templates> {
        let bytes = |text: &OsString| text.clone().into_vec();
        let transfer = (self.transfer || !self.trc.is_empty()).then(|| b"{}".to_vec());
        let templates = Templates {
            sent: self.sent.iter().map(bytes).chain(transfer).collect(),
            returned: self.returned.iter().chain(&self.trc).map(bytes).collect(),
            cleanup: self.cleanup || !self.trc.is_empty(),
        };
        for text in templates.sent.iter().chain(&templates.returned) {
            plan.check(text).with_context(|| format!("the file {:?}", String::from_utf8_lossy(text)))?;
        }
        Ok(templates)
    }
}

/// Files of one job, by name.
#[derive(Debug)]
struct JobFiles {
    sent: Vec<NamedFile>,
    returned: Vec<NamedFile>,
    cleanup: bool,
}

impl Templates {
    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.returned.is_empty()
    }

    /// The files of a job.
    fn of_job(&self, task: &Task, start: Start) -> anyhow::Result<JobFiles> {
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
        let mut troubles = Vec::new();
        for file in &self.sent {
            match CommandFile::read(&directory_of(file), OsString::from_vec(file.path.clone()), room) {
                Ok(read) => {
                    room -= read.contents.len();
                    files.sent.push(read);
                }
                Err(error) => troubles.push(error.to_string()),
            }
        }
        first_of(troubles).map_err(|trouble| format!("its file cannot be sent: {trouble}"))?;
        let alone =
            |path: &OsString| CommandFiles { returned: vec![path.clone()], ..CommandFiles::default() };
        let troubles = files.returned.iter().filter_map(|path| alone(path).check().err());
        first_of(troubles.map(|error| error.to_string()).collect())
            .map_err(|trouble| format!("its file cannot be returned: {trouble}"))?;
        Ok(files)
    }

    /// Whether what a node would return is on this machine, where a job has ended that ran in this directory.
    fn are_in(&self, directory: &Path) -> Result<(), String> {
        let trouble = |file: &NamedFile| {
            let path = OsString::from_vec(file.path.clone());
            let reason = match fs::metadata(directory.join(directory_of(file)).join(&path)) {
                Ok(found) if found.is_file() => return None,
                Ok(_) => "it is no file".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
                Err(error) => error.to_string(),
            };
            Some(format!("{} was not returned: {reason}", pp_protocol::shown(&path.to_string_lossy())))
        };
        first_of(self.returned.iter().filter_map(trouble).collect())
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
            as_made_here(file)
                .write(&directory)
                .map_err(|error| format!("cannot write what was returned: {error}"))?;
        }
        Ok(())
    }
}

/// The first of what is wrong, and how much else is.
fn first_of(troubles: Vec<String>) -> Result<(), String> {
    match &troubles[..] {
        [] => Ok(()),
        [only] => Err(only.clone()),
        [first, others @ ..] => Err(format!("{first} (and {} more)", others.len())),
    }
}

/// A file that was returned, for everybody whom this user's new files are for: on a node, jobs make files for nobody else.
fn as_made_here(file: &CommandFile) -> CommandFile {
    let is_program = file.permissions & 0o100 != 0;
    CommandFile { permissions: if is_program { 0o777 } else { 0o666 }, ..file.clone() }
}

/// The directory that a file is below, on this machine.
pub(super) fn directory_of(file: &NamedFile) -> PathBuf {
    match &file.directory {
        None => ".".into(),
        Some(directory) => OsString::from_vec(directory.clone()).into(),
    }
}

/// Files of a job that is under way.
#[derive(Debug)]
pub(super) struct FilesUnderWay {
    names: JobFiles,
    held: Held,
}

impl FilesUnderWay {
    pub(super) fn sent_bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Writes what has come back to a job that ran in this directory; on this machine it is there, or should be. Where it is
    /// not, the command has failed that had ended well.
    pub(super) fn take(&self, output: &mut CommandOutput, directory: &CommandDirectory) {
        let taken = match (&output.node, directory) {
            (None, CommandDirectory::Usual) => self.names.are_in(Path::new(".")),
            (None, CommandDirectory::At(directory)) => self.names.are_in(Path::new(directory)),
            _ => self.names.write(&output.files),
        };
        if let (Err(trouble), true) = (taken, output.status.is_success()) {
            output.status = CommandStatus::FileTrouble(trouble);
        }
    }
}

/// Files that go with the jobs of a run, and what reads them.
#[derive(Debug)]
pub(super) struct Files<J> {
    templates: Templates,
    pub(super) base: BaseFiles<J>,
    pub(super) loader: Loader,
}

impl<J> Files<J> {
    /// Whether jobs on nodes find some.
    pub(super) fn are_sent(&self) -> bool {
        !self.templates.sent.is_empty() || !self.base.is_empty()
    }

    /// Reads the files of a job, and has them taken.
    pub(super) fn load(
        &self,
        task: &Task,
        start: Start,
        take: impl FnOnce(Result<(CommandFiles, FilesUnderWay), String>) + Send + 'static,
    ) -> anyhow::Result<()> {
        let names = self.templates.of_job(task, start)?;
        let base = self.base.named();
        let read = move || {
            let files = CommandFiles { base, ..names.read()? };
            files.check().map_err(|error| format!("its file cannot be sent or returned: {error}"))?;
            let bytes = files.sent.iter().map(|file| file.contents.len()).sum();
            Ok(((files, names), bytes))
        };
        self.loader.load(read, |loaded| {
            take(loaded.map(|((files, names), held)| (files, FilesUnderWay { names, held })));
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(path: &str) -> CommandFile {
        CommandFile { path: path.into(), permissions: 0o4777, contents: "evil".into() }
    }

    #[test]
    fn a_hostile_node_writes_what_it_was_asked_for_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let named =
            |name: &str| NamedFile::parse(format!("{}/here/./{name}", home.path().display()).as_bytes());
        let files = JobFiles {
            sent: Vec::new(),
            returned: vec![named("a"), named("link/b"), named("../up")],
            cleanup: false,
        };
        fs::create_dir_all(home.path().join("here")).unwrap();
        fs::create_dir(home.path().join("out")).unwrap();
        std::os::unix::fs::symlink("../out", home.path().join("here/link")).unwrap();
        for path in ["../../.ssh/authorized_keys", "/etc/passwd", "b", "./a", "a/", "a/../b", "\u{1b}[2J"] {
            let refused = files.write(&[returned(path)]).unwrap_err();
            assert!(refused.contains("not asked for") && !refused.contains('\u{1b}'), "{refused}");
        }
        for path in ["link/b", "../up"] {
            assert!(files.write(&[returned(path)]).unwrap_err().contains("cannot write"), "{path}");
        }
        files.write(&[returned("a")]).unwrap();
        let written = fs::metadata(home.path().join("here/a")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&written.permissions()) & 0o7000, 0);
        let names = |path: &str| fs::read_dir(home.path().join(path)).unwrap().count();
        assert_eq!((names(""), names("here"), names("out")), (2, 2, 0));
    }
}
