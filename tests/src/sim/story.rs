//! The story of a world, line by line: only told when somebody wants to read it.
//!
//! Of a job that is followed, the story names each event that changed something in it, and below that what was before
//! and what is now (`facts.rs` says what that is):
//!
//! ```text
//!    14.210334 s  dispatcher 0 takes in LinkDown(NodeKey(2))
//!                   dispatcher  at node 2, attempt 1  ->  queued, attempt 1, charged 1
//! ```

use std::collections::BTreeMap;

use pp_protocol::Moment;

use super::ledger::JobName;

/// Lines of the story that are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// None.
    #[default]
    Silent,
    /// All.
    Everything,
    /// Lines about this job and what changes in it, and what happens to nodes, its dispatcher and connections.
    Job(JobName),
}

/// Facts about a job, by whom they are known to.
pub(super) type Facts = BTreeMap<String, String>;

/// Longest description of an event, in characters.
const EVENT_LENGTH: usize = 160;

/// The lines told so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    verbosity: Verbosity,
    lines: Vec<String>,
    /// The event at hand, until a line is told that it caused.
    event: Option<String>,
    /// Facts about the job that is followed, after the last event.
    facts: Facts,
}

impl Story {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, ..Self::default() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.verbosity != Verbosity::Silent
    }

    /// The job that is followed.
    pub(super) fn follows(&self) -> Option<JobName> {
        match self.verbosity {
            Verbosity::Silent | Verbosity::Everything => None,
            Verbosity::Job(job) => Some(job),
        }
    }

    /// Tells a line. `job` is the one it is about; a line about none concerns everybody.
    pub(super) fn record(&mut self, now: Moment, job: Option<JobName>, line: impl FnOnce() -> String) {
        let wanted = match self.verbosity {
            Verbosity::Silent => false,
            Verbosity::Everything => true,
            Verbosity::Job(wanted) => job.is_none_or(|job| job == wanted),
        };
        if wanted {
            if job.is_some() {
                self.lines.extend(self.event.take());
            }
            self.lines.push(at(now, &line()));
        }
    }

    /// Tells a line about a dispatcher. It concerns nobody who follows a job of another one.
    pub(super) fn record_of_site(&mut self, now: Moment, site: usize, line: impl FnOnce() -> String) {
        if self.follows().is_none_or(|job| job.site as usize == site) {
            self.record(now, None, line);
        }
    }

    /// An event happens, and is told if it changes something in the job that is followed.
    pub(super) fn begin(&mut self, now: Moment, event: impl FnOnce() -> String) {
        if self.follows().is_some() {
            let event = event();
            let (brief, rest) = event.split_at(event.floor_char_boundary(EVENT_LENGTH));
            let cut = if rest.is_empty() { "" } else { " …" };
            self.event = Some(at(now, &format!("{brief}{cut}")));
        }
    }

    /// The event has happened, and these are the facts about the job that is followed.
    pub(super) fn end(&mut self, facts: Facts) {
        let event = self.event.take();
        if facts == self.facts {
            return;
        }
        self.lines.extend(event);
        let before = std::mem::replace(&mut self.facts, facts);
        let who: std::collections::BTreeSet<_> = before.keys().chain(self.facts.keys()).collect();
        for who in who {
            let [was, is] =
                [&before, &self.facts].map(|facts| facts.get(who).map_or("nothing", String::as_str));
            if was != is {
                self.lines.push(format!("{:>17}{who:<11} {was}  ->  {is}", ""));
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}

fn at(now: Moment, line: &str) -> String {
    format!("{:>12.6} s  {line}", now.0 as f64 / 1e9)
}
