//! Finishing: what no node has begun is cancelled, what runs goes on to its end.
//!
//! Attempts that wait at nodes are asked back. Whether one has begun, only its node knows: one that has is left alone there,
//! and answered by its outcome. Nothing is sent any more, so that an attempt that comes to nothing is the last one of its job.

use std::time::Duration;

use pp_protocol::limits::LIST_ITEMS;
use pp_protocol::{AttemptId, JobId, ToNode};

use super::job::{Job, Location, Owner};
use super::{Action, Core, JobOutcome, NewJob, NodeKey, Ticket};

/// Places of jobs that are looked at in one turn.
const PLACES_AT_ONCE: u32 = 8_192;

/// Whether the dispatcher finishes what runs, and begins nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finishing {
    No,
    /// Jobs at places before this one have been seen to.
    Until(u32),
    /// All have.
    Yes,
}

impl<T> Core<T> {
    /// Begins nothing more.
    pub(super) fn finish(&mut self) {
        if self.finishing == Finishing::No {
            self.finishing = Finishing::Until(0);
        }
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing != Finishing::No
    }

    /// Whether jobs are left that have to be seen to.
    pub(super) fn has_more_to_finish(&self) -> bool {
        matches!(self.finishing, Finishing::Until(_))
    }

    /// Gives up some of what has not begun.
    pub(super) fn finish_some(&mut self, actions: &mut Vec<Action<T>>) {
        let Finishing::Until(from) = self.finishing else { return };
        let until = from.saturating_add(PLACES_AT_ONCE).min(self.jobs.places());
        let awaited = self.jobs.between(from..until).filter(|(_, job)| job.owner.is_submitter());
        let seen: Vec<_> = awaited.map(|(id, job)| (id, job.attempt, job.node())).collect();
        for (job, number, node) in seen {
            match node {
                Some(node) => self.recalled.entry(node).or_default().push(AttemptId { job, number }),
                None => self.end_now(job, JobOutcome::Cancelled, None, Duration::ZERO, actions),
            }
        }
        self.finishing = if until == self.jobs.places() { Finishing::Yes } else { Finishing::Until(until) };
    }

    /// The connection may have broken while attempts were being asked back, or before that could be done.
    pub(super) fn recall_again(&mut self, key: NodeKey) {
        if !self.is_finishing() {
            return;
        }
        let mut recalled = self.attempts_at(key);
        recalled.retain(|id| self.jobs.find(id.job).is_some_and(|job| job.owner.is_submitter()));
        if !recalled.is_empty() {
            self.recalled.entry(key).or_default().extend(recalled);
        }
    }

    /// Asks nodes for what the event at hand found to be there and not to be begun.
    pub(super) fn send_recalls(&mut self, actions: &mut Vec<Action<T>>) {
        while let Some((node, attempts)) = self.recalled.pop_first() {
            for some in attempts.chunks(LIST_ITEMS) {
                self.send_if_connected(node, ToNode::Recall(some.to_vec()), actions);
            }
        }
    }

    /// The attempt of this job came to nothing, and there will be no other one.
    pub(super) fn end_unfinished(&mut self, id: JobId, actions: &mut Vec<Action<T>>) {
        if let Some(job) = self.take_out(id) {
            let node = match job.location {
                Location::AtNode { node, .. } => Some(node),
                Location::Delayed { .. } | Location::Queued => None,
            };
            self.resolve(id, job, JobOutcome::Cancelled, node, Duration::ZERO, actions);
        }
    }
}

impl<T: Ticket> Core<T> {
    /// Jobs that come too late are cancelled at once.
    pub(super) fn cancel_new(&mut self, jobs: Vec<NewJob<T>>, actions: &mut Vec<Action<T>>) {
        for NewJob { ticket, function, args, .. } in jobs {
            let id = self.jobs.insert(Job::new(Owner::Submitter(ticket), function, args, None));
            if let Some(job) = self.jobs.remove(id) {
                if let Owner::Submitter(ticket) = &job.owner {
                    ticket.accepted(id);
                }
                self.resolve(id, job, JobOutcome::Cancelled, None, Duration::ZERO, actions);
            }
        }
    }
}
