//! What happened in a world, line by line: only told when somebody wants to read it.

use pp_protocol::Moment;

use super::ledger::JobName;

/// Which lines of the story are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// None.
    #[default]
    Silent,
    /// All.
    Everything,
    /// Those about this job, and what happened to nodes, dispatchers and connections.
    Job(JobName),
}

/// The lines told so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    verbosity: Verbosity,
    lines: Vec<String>,
}

impl Story {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, lines: Vec::new() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.verbosity != Verbosity::Silent
    }

    /// Tells a line. `job` is the one it is about; what is about none concerns everybody.
    pub(super) fn tell(&mut self, now: Moment, job: Option<JobName>, line: impl FnOnce() -> String) {
        let wanted = match self.verbosity {
            Verbosity::Silent => false,
            Verbosity::Everything => true,
            Verbosity::Job(wanted) => job.is_none_or(|job| job == wanted),
        };
        if wanted {
            self.lines.push(format!("{:>12.6} s  {}", now.0 as f64 / 1e9, line()));
        }
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
