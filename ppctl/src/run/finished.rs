//! Jobs that have ended: printed, kept, and written down.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use bytes::Bytes;
use pp_dispatcher::{Ahead, CommandOutput, CommandStatus, JobError, OutputPiece};
use pp_run::halt::Exit;
use pp_run::order::InOrder;
use pp_run::{Plan, ResultFiles};

use super::joblog::JobLog;
use super::json;
use super::output::{Grouping, JobOutput, Source, misses_a_file};
use super::results::Results;
use super::screen::Screen;
use super::summary::Summary;
use super::{Options, WRONG};

/// A job that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) sequence: u64,
    pub(super) command: Vec<u8>,
    /// Files that its output goes to.
    pub(super) results: Option<ResultFiles>,
    /// Bytes that it was given.
    pub(super) sent: u64,
    pub(super) end: End,
    /// What it wrote while it ran, as far as that was not shown.
    pub(super) output: JobOutput,
}

/// How a job ended, and what it wrote.
#[derive(Debug)]
pub(super) struct End {
    /// Node that ran it; none for this machine.
    pub(super) node: Option<String>,
    pub(super) started: SystemTime,
    pub(super) run_time: Duration,
    pub(super) exit: Exit,
    pub(super) stdout: Bytes,
    pub(super) stderr: Bytes,
    /// Bytes that it sent ahead of these, if that is known.
    ahead_bytes: Option<u64>,
    /// Bytes in the files that it was sent, and in those that came back.
    pub(super) sent_bytes: u64,
    pub(super) returned_bytes: u64,
}

impl End {
    /// The node for which it was, if that has not said its name.
    pub(super) fn of_node(mut self, name: &str) -> Self {
        if self.node.is_none() && name != ":" {
            self.node = Some(name.to_owned());
        }
        self
    }

    /// Of a command that was submitted at that time, by a job that is called so where something is said of it.
    pub(super) fn of(
        result: Result<CommandOutput, JobError>,
        submitted: SystemTime,
        name: impl FnOnce() -> String,
    ) -> Self {
        match result {
            Ok(CommandOutput {
                node, status, started, run_time, stdout, stderr, ahead_bytes, files, ..
            }) => {
                let told = |what: &CommandStatus| {
                    [&stderr[..], format!("ppctl: {}: {what}\n", name()).as_bytes()].concat()
                };
                let (code, signal, stderr) = match &status {
                    CommandStatus::Exited(code) => (*code, 0, stderr),
                    CommandStatus::Signalled(signal) => (0, *signal, stderr),
                    CommandStatus::TimedOut(_) => (-1, 15, told(&status).into()),
                    CommandStatus::FileTrouble(_) => (WRONG.into(), 0, told(&status).into()),
                    other => (127, 0, told(other).into()),
                };
                Self {
                    node,
                    started,
                    run_time,
                    exit: Exit { code, signal },
                    stdout,
                    stderr,
                    ahead_bytes: Some(ahead_bytes),
                    sent_bytes: 0,
                    returned_bytes: files.iter().map(|file| file.contents.len() as u64).sum(),
                }
            }
            Err(JobError::TimedOut(limit)) => Self {
                run_time: limit,
                exit: Exit { code: -1, signal: 15 },
                ..Self::lost(&format!("{}: {}", name(), CommandStatus::TimedOut(limit)), submitted)
            },
            Err(error) => Self::lost(&format!("{}: {error}", name()), submitted),
        }
    }

    /// Of a job that went wrong in another way than its command.
    pub(super) fn lost(reason: &str, submitted: SystemTime) -> Self {
        Self {
            node: None,
            started: submitted,
            run_time: submitted.elapsed().unwrap_or_default(),
            exit: Exit { code: WRONG.into(), signal: 0 },
            stdout: Bytes::new(),
            stderr: format!("ppctl: {reason}\n").into(),
            ahead_bytes: None,
            sent_bytes: 0,
            returned_bytes: 0,
        }
    }

    /// Files with so many bytes went with it, if it ran on a node.
    pub(super) fn count_files(&mut self, sent_bytes: u64) {
        self.sent_bytes = if self.node.is_some() { sent_bytes } else { 0 };
    }

    /// The node that it failed on because a file is not there, as far as can be seen, if it has not said so before.
    pub(super) fn misses_a_file(&self, said_before: bool) -> Option<&str> {
        let says_so = || said_before || misses_a_file(&self.stderr);
        self.node.as_deref().filter(|_| !self.exit.is_success() && says_so())
    }
}

/// Destinations of jobs that have ended.
#[derive(Debug)]
pub(super) struct Printer {
    /// Missing if jobs are printed as they end.
    order: Option<InOrder<Finished>>,
    grouping: Grouping,
    /// Output of jobs that have not ended, by their positions.
    outputs: BTreeMap<u64, JobOutput>,
    /// Files with the output, which is not printed then.
    pub(super) results: Option<Results>,
    /// Whether a line of JSON is printed instead of the output.
    writes_json: bool,
    pub(super) log: Option<JobLog>,
    pub(super) screen: Screen,
    pub(super) summary: Summary,
}

impl Printer {
    pub(super) fn new(options: &Options, plan: &Plan, writes_json: bool) -> anyhow::Result<Self> {
        let results = options.results(plan)?;
        if writes_json && results.is_some() {
            bail!("--json prints what jobs write, and --results and --files keep it in files: choose one");
        }
        let (prints, grouping) = (results.as_ref().is_none_or(Results::prints_names), options.grouping());
        if writes_json && grouping != Grouping::Whole {
            bail!("--json prints a line for each job that has ended: leave out --line-buffer and --ungroup");
        }
        let keeps_order = options.keep_order && prints && grouping != Grouping::None;
        Ok(Self {
            order: keeps_order.then(InOrder::default),
            grouping,
            outputs: BTreeMap::new(),
            results,
            writes_json,
            log: JobLog::open(options)?,
            screen: Screen::new(options.progress()),
            summary: Summary::default(),
        })
    }

    /// A job was submitted in this position.
    pub(super) fn started(&mut self, position: u64) {
        if let Some(order) = &mut self.order {
            order.started(position);
        }
    }

    /// Whether so much waits for a job that takes long that no more should start.
    pub(super) fn is_full(&self) -> bool {
        self.order.as_ref().is_some_and(InOrder::is_full)
    }

    /// A job that was to be submitted in this position is not.
    pub(super) fn left_out(&mut self, position: u64) -> anyhow::Result<()> {
        let next = self.order.as_mut().map(|order| order.left_out(position)).unwrap_or_default();
        self.print_next(next)
    }

    /// What of its output a job is to send ahead of its end: a line of JSON has all of it.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        (!self.writes_json).then(|| self.grouping.ahead())
    }

    /// Takes output of a job that runs.
    pub(super) fn output(&mut self, source: &Source, piece: &OutputPiece) -> anyhow::Result<()> {
        let Source { position, sequence, tag, tries } = source;
        let new = || JobOutput::new(tag.as_ref(), self.grouping);
        let output = self.outputs.entry(*position).or_insert_with(new);
        if output.begin(*tries, piece.attempt) {
            self.screen.warn(&starts_over(*sequence));
        }
        let is_shown = match self.grouping {
            Grouping::Whole => false,
            Grouping::Lines => self.order.as_ref().is_none_or(|order| order.is_first(*position)),
            Grouping::None => true,
        };
        if is_shown { output.show(piece, &mut self.screen) } else { output.keep(piece) }
    }

    /// Whether a job that ran has said that a file is not there.
    pub(super) fn misses_a_file(&self, position: u64) -> bool {
        self.outputs.get(&position).is_some_and(JobOutput::misses_a_file)
    }

    /// What a job put out so far that has ended.
    pub(super) fn take_output(&mut self, position: u64, tag: Option<&Vec<u8>>) -> JobOutput {
        self.outputs.remove(&position).unwrap_or_else(|| JobOutput::new(tag, self.grouping))
    }

    /// Takes a job that was submitted in this position, and has ended for good.
    pub(super) fn take(&mut self, position: u64, mut finished: Finished) -> anyhow::Result<()> {
        let End { exit, run_time, node, ahead_bytes, .. } = &finished.end;
        if finished.output.end(*ahead_bytes) {
            self.screen.warn(&starts_over(finished.sequence));
        }
        self.summary.ended(finished.sequence, *exit, *run_time, node.as_deref());
        self.screen.job_ended(*run_time, exit.is_success());
        if let Some((results, files)) = self.results.as_ref().zip(finished.results.take()) {
            results.keep(&files, &mut finished)?;
            if !results.prints_names() {
                return self.write_log(&finished.log_line());
            }
        }
        let Some(order) = &mut self.order else { return self.print(finished) };
        let bytes = finished.end.stdout.len() + finished.end.stderr.len() + finished.output.weight();
        let next = order.ended(position, finished, bytes);
        self.print_next(next)
    }

    /// Prints what is next in order.
    fn print_next(&mut self, next: Vec<Finished>) -> anyhow::Result<()> {
        next.into_iter().try_for_each(|finished| self.print(finished))?;
        // The first that has not ended is shown from now on.
        let first = self.order.as_ref().and_then(InOrder::first).filter(|_| self.grouping == Grouping::Lines);
        match first.and_then(|first| self.outputs.get_mut(&first)) {
            Some(output) => output.show_kept(&mut self.screen),
            None => Ok(()),
        }
    }

    /// Prints a job, and writes it down then: one whose output was not taken is run again.
    fn print(&mut self, mut finished: Finished) -> anyhow::Result<()> {
        let line = self.log.as_ref().map(|_| finished.log_line()).unwrap_or_default();
        if self.writes_json {
            self.screen.out(|out| out.write_all(&json::line(&finished)))?;
        } else {
            let Finished { end, output, .. } = &mut finished;
            output.finish([&end.stdout, &end.stderr], &mut self.screen)?;
        }
        self.write_log(&line)
    }

    fn write_log(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(line))
    }
}

/// What is said where output was shown that is not part of a job's.
fn starts_over(sequence: u64) -> String {
    format!("job {sequence} was started anew: what it has printed so far is to be left out")
}
