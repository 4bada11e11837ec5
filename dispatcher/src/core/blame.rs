//! Blame: the job that is charged when something dies, and what becomes of it.
//!
//! | what died | who is charged |
//! |---|---|
//! | a worker | the attempt that had started in it. The node sees that on the page it shares with the worker, and says so ([`Ended::WorkerDied`](pp_protocol::Ended::WorkerDied)); one that died with outcomes it had not reported is charged to the attempt that finished last. What waited behind it goes on at the node, and is not charged |
//! | a node | the first of its attempts, as many as it had slots: nodes start them in the order they come, so no others can have been running |
//! | nothing: a panic that is to be retried | the attempt that panicked |
//!
//! Nobody is charged where nothing died: a node that said goodbye, that gave up the session of a dispatcher it had not
//! heard of for too long, or that is in use under another address.
//!
//! A job that was charged goes to the front of the queue, and not to the node that just failed it while another will do
//! (`schedule.rs`). Charged `max_attempts` times, it is held for poison and ends as [`JobOutcome::Lost`] with its history.

use std::time::Duration;

use pp_protocol::{AttemptId, JobId, WorkerDeath};

use super::job::Job;
use super::{Action, Core, Failure, FailureCause, JobOutcome, NodeKey, NodeLoss, Report};

/// An attempt that may have been the cause of a death.
#[derive(Debug)]
pub(super) struct Charge {
    at: NodeKey,
    failure: Failure,
}

impl<T> Job<T> {
    /// Whether the last attempt for which it was charged was at this node.
    pub(super) fn avoids(&self, node: NodeKey) -> bool {
        self.last_charged_at() == Some(node)
    }

    /// Number of charges with which it is held for poison; `usual` if it has no number of its own.
    fn max_attempts(&self, usual: u32) -> usize {
        self.rare.as_deref().and_then(|rare| rare.max_attempts).unwrap_or(usual) as usize
    }

    /// Attempts for which it was charged.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let charges = self.rare.as_deref().map_or(&[][..], |rare| &rare.charges);
        charges.iter().map(|charge| &charge.failure)
    }

    /// The node where it was charged last.
    pub(super) fn last_charged_at(&self) -> Option<NodeKey> {
        self.rare.as_deref().and_then(|rare| rare.charges.last()).map(|charge| charge.at)
    }

    /// The history of a job that ends.
    pub(super) fn take_failures(&mut self) -> Vec<Failure> {
        let charges =
            self.rare.as_deref_mut().map(|rare| std::mem::take(&mut rare.charges)).unwrap_or_default();
        charges.into_iter().map(|charge| charge.failure).collect()
    }

    fn charged(&self) -> usize {
        self.failures().count()
    }
}

impl<T> Core<T> {
    /// A worker died while it ran this attempt.
    pub(super) fn blame_for_worker(
        &mut self,
        id: AttemptId,
        key: NodeKey,
        death: Box<WorkerDeath>,
        actions: &mut Vec<Action<T>>,
    ) {
        self.charge_and_report(id, key, FailureCause::WorkerDied(death), actions);
    }

    /// Charges an attempt that panicked, if it is to be tried again.
    pub(super) fn blame_for_panic(
        &mut self,
        id: AttemptId,
        key: NodeKey,
        panic: &pp_protocol::Panic,
        actions: &mut Vec<Action<T>>,
    ) -> bool {
        let usual = self.config.max_attempts;
        let is_to_be_retried = self.jobs.find(id.job).is_some_and(|job| {
            let may_be = job.rare.as_deref().is_some_and(|rare| rare.retry_panics);
            may_be && job.charged() + 1 < job.max_attempts(usual)
        });
        if is_to_be_retried {
            self.charge_and_report(id, key, FailureCause::Panicked(Box::new(panic.clone())), actions);
        }
        is_to_be_retried
    }

    /// The node is lost, and these were its attempts, in the order they were sent. The first ones, as many as it had
    /// `slots`, may have been running. All go to the front of the queue, in order.
    pub(super) fn blame_for_node(
        &mut self,
        key: NodeKey,
        slots: usize,
        loss: &NodeLoss,
        attempts: &[AttemptId],
        actions: &mut Vec<Action<T>>,
    ) {
        let (maybe_running, others) = attempts.split_at(slots.min(attempts.len()));
        for id in others.iter().rev() {
            self.queue_again(id.job, actions);
        }
        for id in maybe_running.iter().rev() {
            let failure = self.failure(*id, key, FailureCause::NodeLost(loss.clone()));
            self.charge(id.job, key, failure, actions);
        }
    }

    fn failure(&self, id: AttemptId, key: NodeKey, cause: FailureCause) -> Failure {
        let node = self.nodes.get(&key).map_or_else(String::new, |node| node.name.clone());
        Failure { attempt: id.number, node, cause }
    }

    fn charge_and_report(
        &mut self,
        id: AttemptId,
        key: NodeKey,
        cause: FailureCause,
        actions: &mut Vec<Action<T>>,
    ) {
        let failure = self.failure(id, key, cause);
        if self.charge(id.job, key, failure.clone(), actions) {
            actions.push(Action::Report(Report::JobRetried(id.job, failure)));
        }
    }

    /// Charges a job, and tries it again unless that happened too often. True if it is tried again.
    fn charge(&mut self, id: JobId, key: NodeKey, failure: Failure, actions: &mut Vec<Action<T>>) -> bool {
        let usual = self.config.max_attempts;
        let Some(job) = self.jobs.find_mut(id) else { return false };
        job.rare().charges.push(Charge { at: key, failure });
        if job.charged() < job.max_attempts(usual) {
            return self.queue_again(id, actions);
        }
        let history = job.take_failures();
        if let Some(job) = self.take_out(id) {
            self.resolve(id, job, JobOutcome::Lost(history), Some(key), Duration::ZERO, actions);
        }
        false
    }
}
