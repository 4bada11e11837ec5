//! Output of jobs in files (`--results`, `--files`).

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use pp_dispatcher::OutputStream;
use pp_run::{Plan, ResultFiles};

use super::finished::Finished;

/// Kinds of tables that GNU parallel writes, and this does not.
const TABLES: [&str; 3] = [".csv", ".tsv", ".json"];

/// How output is kept in files.
#[derive(Clone, Debug)]
pub(super) struct Results {
    /// A name with placeholders, or a directory.
    name: Vec<u8>,
    /// Whether the names of files are printed (`--files`).
    prints_names: bool,
    /// Whether nobody asked for the files to be kept in a certain place, so that standard error is printed, too.
    are_temporary: bool,
}

impl Results {
    /// Files as the options say: `--results`, and whether `--files` is there. `are_logged` says that jobs are those of an
    /// earlier run, without arguments.
    pub(super) fn new(
        name: Option<&OsString>,
        prints_names: bool,
        plan: &Plan,
        are_logged: bool,
    ) -> anyhow::Result<Option<Self>> {
        let Some(name) = name else {
            return if prints_names { Self::temporary(are_logged).map(Some) } else { Ok(None) };
        };
        let shown = name.display();
        if TABLES.iter().any(|table| name.as_bytes().ends_with(table.as_bytes())) {
            bail!(
                "--results {shown}: tables are not written; --json prints a line of JSON for each job, and --joblog one without output"
            );
        }
        let has_placeholders = plan.check(name.as_bytes()).with_context(|| format!("--results {shown}"))?;
        if has_placeholders && are_logged {
            bail!(
                "--results {shown}: with --retry-failed, jobs have no arguments to fill in; name a directory"
            );
        }
        Ok(Some(Self { name: name.as_bytes().to_vec(), prints_names, are_temporary: false }))
    }

    /// Files in a directory of their own, among the temporary ones, that stays.
    fn temporary(are_logged: bool) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("ppctl-").tempdir();
        let directory =
            directory.context("cannot make a directory for the output of jobs; set TMPDIR to one")?;
        let mut name = directory.keep().into_os_string().into_vec();
        if !are_logged {
            name.extend_from_slice(b"/{#}");
        }
        Ok(Self { name, prints_names: true, are_temporary: true })
    }

    /// What they are named like.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether something is printed nevertheless.
    pub(super) fn prints_names(&self) -> bool {
        self.prints_names
    }

    /// Writes what a job wrote to its files. Leaves what is to be printed instead.
    pub(super) fn keep(&self, files: &ResultFiles, finished: &mut Finished) -> anyhow::Result<()> {
        let Finished { end, output, .. } = finished;
        write(&files.sequence, |file| file.write_all(finished.sequence.to_string().as_bytes()))?;
        write(&files.stdout, |file| output.write(OutputStream::Stdout, &end.stdout, file))?;
        let prints_errors = self.are_temporary && output.received_errors() == 0;
        write(&files.stderr, |file| output.write(OutputStream::Stderr, &end.stderr, file))?;
        end.stdout = [files.stdout.as_os_str().as_bytes(), b"\n"].concat().into();
        if !prints_errors {
            end.stderr = Bytes::new();
        }
        Ok(())
    }
}

fn write(file: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        write(&mut fs::File::create(file)?)
    };
    write().with_context(|| format!("cannot write results to {}", file.display()))
}
