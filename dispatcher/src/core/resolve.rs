//! Ends of jobs: the owner is told once, and the job is forgotten.
//!
//! A job that its submitter cancels, or whose copy is faster, is resolved while it is at a node. It stays there without an
//! owner until the node has answered the order to cancel it.

use std::time::Duration;

use pp_protocol::limits::LIST_ITEMS;
use pp_protocol::{AttemptId, JobId, ToNode};

use super::job::{Copying, Job, Owner};
use super::{Action, Core, JobOutcome, NodeKey, Resolution};

impl<T> Core<T> {
    /// Tells whoever is to be told how this job ended, which was at no node any more.
    pub(super) fn resolve(
        &mut self,
        id: JobId,
        job: Job<T>,
        outcome: JobOutcome,
        node: Option<NodeKey>,
        run_time: Duration,
        actions: &mut Vec<Action<T>>,
    ) {
        let copying = job.copying();
        match job.owner {
            Owner::Submitter(ticket) => {
                let (function, args_bytes) = (job.function, job.args.len());
                let resolution = Resolution { outcome, job: id, function, node, run_time, args_bytes };
                actions.push(Action::Resolve(ticket, resolution));
            }
            Owner::Original(original) => {
                if matches!(outcome, JobOutcome::Succeeded(_)) {
                    self.end_now(original, outcome, node, run_time, actions);
                }
            }
            Owner::Nobody => {}
        }
        if let Copying::Copied { copy } = copying {
            self.give_up_copy(copy);
        }
    }

    /// The submitter is answered at once; if the job is at a node, its worker is killed there.
    pub(super) fn cancel(&mut self, id: JobId, actions: &mut Vec<Action<T>>) {
        let node = self.jobs.find(id).and_then(Job::node);
        self.end_now(id, JobOutcome::Cancelled, node, Duration::ZERO, actions);
    }

    /// Tells the submitter of a job how it ended, wherever the job is; at a node it is cancelled. `node` is where the outcome
    /// came from.
    pub(super) fn end_now(
        &mut self,
        id: JobId,
        outcome: JobOutcome,
        node: Option<NodeKey>,
        run_time: Duration,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(job) = self.jobs.find(id) else { return };
        if job.node().is_none() {
            if let Some(job) = self.take_out(id) {
                self.resolve(id, job, outcome, node, run_time, actions);
            }
            return;
        }
        let (function, args_bytes, copying) = (job.function, job.args.len(), job.copying());
        let Some(ticket) = self.jobs.take_ticket(id) else { return };
        self.cancel_at_node(id);
        if let Copying::Copied { copy } = copying {
            self.give_up_copy(copy);
        }
        let resolution = Resolution { outcome, job: id, function, node, run_time, args_bytes };
        actions.push(Action::Resolve(ticket, resolution));
    }

    /// Has the attempt of a job that nobody needs any more cancelled, if it is at a node.
    pub(super) fn cancel_at_node(&mut self, id: JobId) {
        let Some(job) = self.jobs.find(id) else { return };
        if let Some(node) = job.node() {
            self.cancelled.entry(node).or_default().push(AttemptId { job: id, number: job.attempt });
        }
    }

    /// Tells nodes what the event at hand gave up of what is at them: as few messages for as many as there are.
    pub(super) fn send_cancellations(&mut self, actions: &mut Vec<Action<T>>) {
        while let Some((node, attempts)) = self.cancelled.pop_first() {
            for some in attempts.chunks(LIST_ITEMS) {
                self.send_if_connected(node, ToNode::Cancel(some.to_vec()), actions);
            }
        }
    }

    /// Every handle resolves, every node is told.
    pub(super) fn shutdown(&mut self, actions: &mut Vec<Action<T>>) {
        self.leave_all_nodes(actions);
        for id in self.jobs.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            let Some(job) = self.take_out(id) else { continue };
            let node = job.node();
            self.resolve(id, job, JobOutcome::Cancelled, node, Duration::ZERO, actions);
        }
    }
}
