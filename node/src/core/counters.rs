//! What a node has counted since it started, for its operator. Nothing here decides anything.
//!
//! Each job passes through here, so that what nearly all have in common, a success within a millisecond, is not counted but
//! found by taking away the others ([`SessionTally`]).

use std::collections::BTreeMap;

use pp_protocol::tally::{FIRST_BOUND_NS, run_time_class};
use pp_protocol::{DeathKind, Ended, OutcomeKind, RefusalKind, Role, Tally};

use super::{Core, Session};

/// What a node has counted since it started. Nothing of it ever falls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Attempts that ended here.
    pub ended: Tally,
    /// Attempts that came here after others of the same job, which had been elsewhere or had failed.
    pub retries: u64,
    /// Attempts that dispatchers asked back, to run them elsewhere.
    pub recalled: u64,
    /// Outcomes dropped because their dispatcher had given up the session, or ended, before they arrived there.
    pub late_outcomes: u64,
    /// Lines of output that were dropped because they could not be sent in time.
    pub dropped_lines: u64,
    /// Workers that were started.
    pub workers_started: u64,
    /// Workers that did not become ready.
    pub workers_failed: u64,
    /// Workers that were killed here: for a time limit, a cancellation, or a session that was over.
    pub workers_killed: u64,
    /// Workers that died by themselves, and how.
    pub workers_lost: BTreeMap<DeathKind, u64>,
    /// Connections of peers that had proved who they are, by what they are.
    pub connections: BTreeMap<Role, u64>,
    /// Connections that broke off, or fell silent, instead of being ended by either side.
    pub connections_lost: u64,
    /// Connections that were closed here, and why.
    pub refusals: BTreeMap<RefusalKind, u64>,
    /// Sessions that began.
    pub sessions_begun: u64,
    /// Times that a session went on over another connection.
    pub sessions_resumed: u64,
    /// Sessions whose dispatcher did not come back in time.
    pub sessions_lost: u64,
    /// Programs that were sent here and stored.
    pub programs_received: u64,
    /// Programs that do not run here, and times that one could not be stored.
    pub programs_failed: u64,
}

/// What a session counts of its attempts: all that is no success within the first class of run times.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionTally {
    others: Tally,
}

impl SessionTally {
    /// An attempt has ended that came to its end, whatever that was.
    #[inline]
    pub(super) fn reported(&mut self, ended: &Ended, run_time_ns: u64) {
        if run_time_ns > FIRST_BOUND_NS || !matches!(ended, Ended::Succeeded(_)) {
            self.note(ended, run_time_ns);
        }
    }

    #[cold]
    fn note(&mut self, ended: &Ended, run_time_ns: u64) {
        self.others.run_times[run_time_class(run_time_ns)] += 1;
        self.stopped(ended);
    }

    /// An attempt has ended that never came to its end.
    pub(super) fn stopped(&mut self, ended: &Ended) {
        self.others.outcomes[OutcomeKind::from(ended) as usize] += 1;
    }

    /// All that ended, of which there were so many, with this total run time.
    pub(super) fn all(&self, ended: u64, run_time_ns: u64) -> Tally {
        let rest = ended.saturating_sub(self.others.ended());
        let mut all = Tally { run_time_ns, ..self.others };
        all.outcomes[OutcomeKind::Succeeded as usize] += rest;
        all.run_times[0] += rest;
        all
    }
}

impl Core {
    /// What has been counted since the node started.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        for session in self.sessions.values() {
            session.add_to(&mut counters);
        }
        counters
    }
}

impl Session {
    /// Adds what it has counted.
    pub(super) fn add_to(&self, counters: &mut Counters) {
        counters.ended += &self.tally();
        counters.dropped_lines += self.output.dropped_lines();
    }
}
