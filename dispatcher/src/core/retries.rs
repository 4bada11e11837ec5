//! Retries: jobs whose attempt came to nothing go to the front of the queue.
//!
//! | the attempt | from |
//! |---|---|
//! | was given back by its node, which had not started it: recalled, drained, resized, no worker | `outcomes.rs` |
//! | was on its way when the connection broke, and did not arrive | `links.rs` |
//! | was at a node that is lost, or may have killed its worker: charged, and not too often | `blame.rs` |
//!
//! The next attempt has the next number, so that an outcome of an earlier one is known for that (`outcomes.rs`).

use pp_protocol::JobId;

use super::job::{ArgsBytes, Copying, Job, Location};
use super::nodes::Node;
use super::{Action, Core, NodeKey};

impl<T> Core<T> {
    /// Puts a job whose attempt came to nothing in front of the queue, if a submitter waits for it; else forgets it. True
    /// if it is tried again.
    pub(super) fn queue_again(&mut self, id: JobId, actions: &mut Vec<Action<T>>) -> bool {
        let Some(job) = self.jobs.find_mut(id) else { return false };
        if !job.owner.is_submitter() {
            self.take_out(id);
            return false;
        }
        if self.is_finishing() {
            self.end_unfinished(id, actions);
            return false;
        }
        let Some(job) = self.jobs.find_mut(id) else { return false };
        let (program, priority, only_at) = (job.program(), job.priority(), job.only_at());
        self.leave_node(id);
        match only_at {
            None => self.queue.line(program).push_front(priority, id),
            Some(life) => self.pinned.push_front(life, program, priority, id),
        }
        true
    }

    /// The attempt of this job is no longer at its node; it is queued.
    fn leave_node(&mut self, id: JobId) {
        let Some(job) = self.jobs.find_mut(id) else { return };
        let args = job.large_args();
        let Location::AtNode { node, position, .. } = job.location else { return };
        job.location = Location::Queued;
        if let Some(rare) = job.rare.as_deref_mut()
            && let Copying::Candidate { sent } = rare.copying
        {
            rare.copying = Copying::Possible;
            self.copyable.remove(&(sent, id));
        }
        self.forget_attempt(node, position, args);
    }

    /// Forgets a job, and takes it from where it is.
    pub(super) fn take_out(&mut self, id: JobId) -> Option<Job<T>> {
        let job = self.jobs.remove(id)?;
        match job.location {
            Location::Delayed { until, number } => self.delays.remove(until, number),
            Location::Queued => match job.only_at() {
                None => self.queue.line(job.program()).forget_one(),
                Some(life) => self.pinned.forget_one(life, job.program()),
            },
            Location::AtNode { node, position, .. } => {
                if let Copying::Candidate { sent } = job.copying() {
                    self.copyable.remove(&(sent, id));
                }
                self.forget_attempt(node, position, job.large_args());
            }
        }
        Some(job)
    }

    /// The attempt at this position, with these arguments, is no longer at the node; at a lost one, none is.
    fn forget_attempt(&mut self, node: NodeKey, position: u32, args: Option<ArgsBytes>) {
        if let Some(session) = self.nodes.get_mut(&node).and_then(Node::session_mut) {
            session.forget(position, args, &mut self.jobs);
        }
    }
}
