//! Invariants: what holds of jobs and nodes between events.

use std::collections::BTreeSet;

use pp_protocol::JobId;

use super::job::{Copying, Job, Location};
use super::nodes::Node;
use super::session::Session;
use super::{Core, NodeKey};

impl<T> Core<T> {
    /// Asserts that everything holds that has to hold between events. For tests and the simulation.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check_invariants(&self) {
        self.nodes.iter().for_each(|(key, node)| {
            node.check_invariants(&self.jobs);
            self.check_attempts(*key, node);
            self.check_lists(*key, node);
        });
        self.check_pinned();
        let queued = self.queue.iter().chain(self.pinned.iter()).filter(|id| self.is_queued(*id));
        let queued: BTreeSet<_> = queued.collect();
        self.jobs.iter().for_each(|(id, job)| self.check_job(id, job, &queued));
        let waiting = self.queue.len() + self.pinned.len();
        assert_eq!(waiting, queued.len(), "it is known how many jobs are in the queue");
        let at_nodes = self.nodes.values().filter_map(Node::session).map(|session| session.attempts().len());
        let everywhere = waiting + self.delays.len() + at_nodes.sum::<usize>();
        assert_eq!(self.jobs.len(), everywhere, "every job is delayed, in the queue, or at a node");
        let awaited = self.jobs.iter().filter(|(_, job)| job.owner.is_submitter()).count();
        assert_eq!(self.jobs.unresolved(), awaited, "it is known how many jobs a submitter waits for");
        assert!(
            self.cancelled.is_empty() && self.recalled.is_empty(),
            "nodes are told at once of what was given up"
        );
    }

    fn is_queued(&self, id: JobId) -> bool {
        self.jobs.find(id).is_some_and(Job::is_queued)
    }

    fn check_attempts(&self, key: NodeKey, node: &Node) {
        let life = node.session().map(|session| session.with);
        let attempts = node.session().map_or(&[][..], Session::attempts);
        for (index, place) in attempts.iter().enumerate() {
            let job = self.jobs.at(*place).expect("an attempt at a node is of a job");
            let Location::AtNode { node, position, .. } = job.location else {
                panic!("the job of an attempt at a node is at a node");
            };
            assert_eq!(node, key, "the job of an attempt at a node is at that node");
            assert_eq!(position as usize, index, "a job knows where its node keeps it");
            let is_elsewhere = job.only_at().is_some_and(|only_at| life != Some(only_at));
            assert!(!is_elsewhere, "a job for one node is at no other");
        }
    }

    fn check_lists(&self, key: NodeKey, node: &Node) {
        let load = self.takers.load_of(key);
        assert_eq!(load, node.takes_at_load(), "a node is a taker exactly while it takes work");
        let is_listed = self.overfull.contains(&key);
        assert_eq!(is_listed, node.is_overfull(), "a node with more attempts than slots is known");
    }

    fn check_job(&self, id: JobId, job: &Job<T>, queued: &BTreeSet<JobId>) {
        let candidate = match job.copying() {
            Copying::Candidate { sent } => Some(sent),
            Copying::Never | Copying::Possible | Copying::Copied { .. } => None,
        };
        let is_at_node = match &job.location {
            Location::Delayed { until, number } => {
                assert!(self.delays.holds(*until, *number, id), "a delayed job is listed under its time");
                false
            }
            Location::Queued => {
                assert!(queued.contains(&id), "a job that is queued is in the queue");
                false
            }
            Location::AtNode { .. } => true,
        };
        assert!(is_at_node || job.owner.is_submitter(), "a submitter waits for what waits");
        assert!(is_at_node || candidate.is_none(), "a candidate for a copy is at a node");
        if let Some(sent) = candidate
            && job.owner.is_submitter()
        {
            let is_listed = self.copyable.contains(&(sent, id));
            assert!(is_listed, "a candidate for a copy is listed under the time it was sent");
        }
    }
}
