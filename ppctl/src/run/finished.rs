//! Jobs that have ended: printed and written down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pp_dispatcher::{CommandOutput, CommandStatus, JobError};

use super::Options;

/// A job that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) sequence: u64,
    pub(super) command: Vec<u8>,
    pub(super) tag: Option<Vec<u8>>,
    pub(super) end: End,
}

/// How it ended, and what it wrote.
#[derive(Debug)]
pub(super) struct End {
    /// Node that ran it; none for this machine.
    node: Option<String>,
    started: SystemTime,
    run_time: Duration,
    exit_code: i32,
    signal: i32,
    stdout: Bytes,
    stderr: Bytes,
}

impl End {
    /// Of a command that was submitted at that time.
    pub(super) fn of(result: Result<CommandOutput, JobError>, submitted: SystemTime) -> Self {
        let lost = |exit_code, signal, text: String| Self {
            node: None,
            started: submitted,
            run_time: submitted.elapsed().unwrap_or_default(),
            exit_code,
            signal,
            stdout: Bytes::new(),
            stderr: text.into(),
        };
        match result {
            Ok(CommandOutput { node, status, started, run_time, stdout, stderr, .. }) => {
                let (exit_code, signal, stderr) = match status {
                    CommandStatus::Exited(code) => (code, 0, stderr),
                    CommandStatus::Signalled(signal) => (0, signal, stderr),
                    other => (127, 0, format!("ppctl: {other}\n").into()),
                };
                Self { node, started, run_time, exit_code, signal, stdout, stderr }
            }
            Err(JobError::TimedOut(limit)) => Self { run_time: limit, ..lost(-1, 15, String::new()) },
            Err(error) => lost(i32::from(super::WRONG), 0, format!("ppctl: {error}\n")),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (self.exit_code, self.signal) == (0, 0)
    }
}

/// Where jobs go that have ended.
#[derive(Debug)]
pub(super) struct Printer {
    keeps_order: bool,
    log: Option<File>,
    /// Those that wait for one before them, by their position.
    waiting: BTreeMap<u64, Finished>,
    /// Position of the next one to be printed.
    next: u64,
}

impl Printer {
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let log = options.joblog().map(|(path, appends)| open_log(&path, appends)).transpose()?;
        Ok(Self { keeps_order: options.keep_order, log, waiting: BTreeMap::new(), next: 0 })
    }

    /// Takes a job that was submitted in this position, and has ended for good.
    pub(super) fn take(&mut self, position: u64, finished: Finished) -> io::Result<()> {
        self.write_down(&finished)?;
        if !self.keeps_order {
            return print(&finished);
        }
        self.waiting.insert(position, finished);
        while let Some(next) = self.waiting.remove(&self.next) {
            self.next += 1;
            print(&next)?;
        }
        Ok(())
    }

    /// Prints what is left, although there are jobs before it that have not ended.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.waiting).values().try_for_each(print)
    }

    fn write_down(&mut self, finished: &Finished) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let Finished { sequence, command, end, .. } = finished;
        let started = end.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut line = format!(
            "{sequence}\t{}\t{started:.3}\t{:10.3}\t0\t{}\t{}\t{}\t",
            end.node.as_deref().unwrap_or(":"),
            end.run_time.as_secs_f64(),
            end.stdout.len(),
            end.exit_code,
            end.signal,
        )
        .into_bytes();
        line.extend_from_slice(command);
        line.push(b'\n');
        // One write a line: whoever follows the log sees whole ones.
        log.write_all(&line)
    }
}

fn open_log(path: &std::path::Path, appends: bool) -> anyhow::Result<File> {
    use anyhow::Context;
    let mut file = File::options()
        .create(true)
        .write(true)
        .append(appends)
        .truncate(!appends)
        .open(path)
        .with_context(|| format!("cannot write the job log {}", path.display()))?;
    if file.metadata()?.len() == 0 {
        file.write_all(b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n")?;
    }
    Ok(file)
}

fn print(finished: &Finished) -> io::Result<()> {
    let Finished { tag, end, .. } = finished;
    let tag = tag.as_deref().unwrap_or_default();
    write_lines(&mut io::stdout().lock(), tag, &end.stdout)?;
    // There is nobody to tell if standard error is closed.
    let _ = write_lines(&mut io::stderr().lock(), tag, &end.stderr);
    Ok(())
}

/// Writes output, each line behind the tag.
fn write_lines(out: &mut impl Write, tag: &[u8], output: &[u8]) -> io::Result<()> {
    if tag.is_empty() {
        out.write_all(output)?;
    } else {
        let mut tagged = Vec::with_capacity(output.len() + tag.len());
        for line in output.split_inclusive(|byte| *byte == b'\n') {
            tagged.extend_from_slice(tag);
            tagged.extend_from_slice(line);
        }
        out.write_all(&tagged)?;
    }
    out.flush()
}
