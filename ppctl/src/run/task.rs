//! Jobs of a run, in order: composed of arguments, or taken from an earlier run's log.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use pp_run::{ComposeError, Composed, Plan, ResultFiles, Start, TemplateError};

use super::open;

/// A job to be run.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Composed(Composed),
    /// One that is given a block of standard input (`--pipe`).
    Piped {
        job: Composed,
        block: Bytes,
    },
    /// One whose command is given: it failed in an earlier run, or is the only one.
    Given {
        sequence: u64,
        command: Vec<u8>,
    },
}

/// Jobs, one after the other.
pub(super) type Tasks = Box<dyn Iterator<Item = Result<Task, ComposeError>> + Send>;
/// Is told how many jobs there are.
pub(super) type Count = Box<dyn FnOnce(u64) + Send>;

/// Memory of jobs that are composed ahead only to know how many there are.
const COUNTED_BYTES: usize = 64 * 1024 * 1024;
/// Characters of a command that are shown where it only says which job is meant.
const NAMING_CHARS: usize = 60;
/// Time between two looks whether there is room for more of them.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Task {
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.sequence(),
            Self::Given { sequence, .. } => *sequence,
        }
    }

    pub(super) fn command(&self, start: Start) -> Vec<u8> {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.command(start),
            Self::Given { command, .. } => command.clone(),
        }
    }

    /// What it is called where something is said of it: its number, and the beginning of its command.
    pub(super) fn name(&self, start: Start) -> String {
        let command = self.command(start);
        let command = String::from_utf8_lossy(&command);
        let (line, has_more) = match command.char_indices().nth(NAMING_CHARS) {
            Some((end, _)) => (&command[..end], "..."),
            None => (&command[..], ""),
        };
        format!("job {} ({}{has_more})", self.sequence(), pp_protocol::shown(line))
    }

    pub(super) fn tag(&self, start: Start) -> Option<Vec<u8>> {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.tag(start),
            Self::Given { .. } => None,
        }
    }

    /// What it reads from its standard input.
    pub(super) fn stdin(&self) -> Bytes {
        match self {
            Self::Piped { block, .. } => block.clone(),
            Self::Composed(_) | Self::Given { .. } => Bytes::new(),
        }
    }

    /// Files that a text with placeholders names.
    pub(super) fn files(&self, text: &[u8], start: Start) -> Result<Vec<Vec<u8>>, TemplateError> {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.expand_each(text, start),
            Self::Given { .. } => Ok(vec![text.to_vec()]),
        }
    }

    /// A text with its placeholders filled in.
    pub(super) fn expand(&self, text: &[u8], start: Start) -> Result<Vec<u8>, TemplateError> {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.expand(text, start),
            Self::Given { .. } => Ok(text.to_vec()),
        }
    }

    /// Memory that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Composed(job) => {
                    job.arguments().map(|argument| argument.len() + size_of::<Vec<u8>>()).sum()
                }
                Self::Piped { block, .. } => block.len(),
                Self::Given { command, .. } => command.len(),
            }
    }

    /// The files of its output, named like this.
    pub(super) fn result_files(&self, name: &[u8], start: Start) -> Result<ResultFiles, TemplateError> {
        match self {
            Self::Composed(job) | Self::Piped { job, .. } => job.result_files(name, start),
            Self::Given { sequence, .. } => {
                Ok(ResultFiles::within(&Path::new(OsStr::from_bytes(name)).join(sequence.to_string())))
            }
        }
    }
}

/// The jobs of a plan, and how many there are if that has to be known before the first.
pub(super) fn tasks(
    plan: &Plan,
    delimiter: &[u8],
    needs_total: bool,
) -> Result<(Tasks, Option<u64>), ComposeError> {
    if let Some(blocks) = plan.blocks(io::BufReader::new(io::stdin())) {
        let piped = blocks.map(|job| job.map(|(job, block)| Task::Piped { job, block: block.into() }));
        return Ok((Box::new(piped), None));
    }
    let jobs = plan.jobs(|input| open(input, delimiter))?.map(|job| job.map(Task::Composed));
    if !needs_total && !plan.needs_total() {
        return Ok((Box::new(jobs), None));
    }
    let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
    let total = jobs.len() as u64;
    Ok((Box::new(jobs.into_iter().map(Ok)), Some(total)))
}

/// The same jobs, composed on a thread of its own as far ahead as memory allows, which tells how many there are once it knows.
pub(super) fn counted(
    (tasks, total): (Tasks, Option<u64>),
    count: Count,
) -> Result<(Tasks, Option<u64>), ComposeError> {
    if total.is_some() {
        return Ok((tasks, total));
    }
    let (composed, taken) = channel();
    let held = Arc::new(AtomicUsize::new(0));
    let waiting = Arc::clone(&held);
    thread::Builder::new().name("count".into()).spawn(move || {
        let mut number = 0;
        for task in tasks {
            if let Ok(task) = &task {
                number += 1;
                waiting.fetch_add(task.bytes(), Relaxed);
            }
            if composed.send(task).is_err() {
                return;
            }
            while waiting.load(Relaxed) > COUNTED_BYTES {
                thread::park_timeout(LOOK_EVERY);
            }
        }
        count(number);
    })?;
    let taken = taken.into_iter().inspect(move |task| {
        if let Ok(task) = task {
            held.fetch_sub(task.bytes(), Relaxed);
        }
    });
    Ok((Box::new(taken), None))
}

/// Jobs whose numbers and commands are given.
pub(super) fn given(commands: Vec<(u64, Vec<u8>)>) -> (Tasks, Option<u64>) {
    let total = commands.len() as u64;
    let tasks = commands.into_iter().map(|(sequence, command)| Ok(Task::Given { sequence, command }));
    (Box::new(tasks), Some(total))
}
