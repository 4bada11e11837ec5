//! Claims about what dispatchers tell nodes, and about whom nodes kill: nothing that somebody waits for is cancelled, and
//! nothing is acknowledged that has not arrived.
//!
//! A job that is cancelled by mistake runs again somewhere and ends as it should, so its outcome shows nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use pp_dispatcher::core::NodeKey;
use pp_node::core::{Core, WorkerKey};
use pp_protocol::{FromNode, Resume, ToNode};

use super::World;
use super::faults::Kind;
use super::ledger::JobName;
use super::worker::SimWorker;

/// Outcomes of each session that arrived at its dispatcher.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<(usize, NodeKey), Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    /// All outcomes before this number.
    without_gap: u64,
    beyond: BTreeSet<u64>,
    /// All parts before this number.
    parts: u64,
}

impl Arrivals {
    /// A session without any past began: outcomes are counted anew.
    pub(super) fn begin(&mut self, site: usize, key: NodeKey) {
        self.0.remove(&(site, key));
    }

    pub(super) fn note(&mut self, site: usize, key: NodeKey, messages: &[FromNode]) {
        let arrived = self.0.entry((site, key)).or_default();
        for message in messages {
            if let FromNode::Part(number, _) = message {
                arrived.parts = arrived.parts.max(number + 1);
            }
            let FromNode::Outcomes(first, outcomes) = message else { continue };
            arrived.beyond.extend(*first..*first + outcomes.len() as u64);
            while arrived.beyond.remove(&arrived.without_gap) {
                arrived.without_gap += 1;
            }
            arrived.beyond = arrived.beyond.split_off(&arrived.without_gap);
        }
    }

    fn without_gap(&self, site: usize, key: NodeKey) -> u64 {
        self.0.get(&(site, key)).map_or(0, |arrived| arrived.without_gap)
    }
}

impl World {
    /// Claims about a message to a node.
    pub(super) fn check_message(&self, site: usize, key: NodeKey, message: &ToNode) {
        match message {
            ToNode::Ack(received) => self.check_acknowledged(site, key, *received),
            ToNode::PartsTaken(taken) => self.check_taken(site, key, *taken),
            ToNode::Run(_) => self.check_limit(site, key),
            ToNode::Cancel(attempts) => {
                for job in attempts.iter().filter_map(|attempt| self.ledger.job_of(site, *attempt)) {
                    assert!(
                        self.ledger.job(job).is_given_up(),
                        "an attempt of {job} is cancelled although somebody waits for it"
                    );
                }
            }
            _ => {}
        }
    }

    /// A node that was sent work has no more of it than the dispatcher's jobs are to take of its slots.
    fn check_limit(&self, site: usize, key: NodeKey) {
        let view = self.sites[site].core.nodes().find(|view| view.key == key);
        let Some(view) = view else { return };
        let limit = self.options.limit(view.own_slots).map_or(usize::MAX, |limit| limit as usize);
        assert!(
            view.attempts <= limit,
            "node {} has {} attempts, and {limit} are the limit",
            key.0,
            view.attempts
        );
    }

    /// A job that is for one life of a node runs in no other.
    pub(super) fn check_place(&self, job: JobName, node: usize) {
        let life = self.nodes[node].core().map(Core::id);
        let is_elsewhere = self.ledger.job(job).only_at.is_some_and(|only_at| life != Some(only_at));
        assert!(!is_elsewhere, "{job} runs on node {node}, which it is not for");
    }

    /// Claims about what a dispatcher says of a session whose connection broke off.
    pub(super) fn check_resume(&self, site: usize, key: NodeKey, resume: &Resume) {
        self.check_acknowledged(site, key, resume.outcomes_received);
        self.check_taken(site, key, resume.parts_taken);
    }

    fn check_taken(&self, site: usize, key: NodeKey, taken: u64) {
        let arrived = self.arrivals.0.get(&(site, key)).map_or(0, |arrived| arrived.parts);
        assert!(
            taken <= arrived,
            "dispatcher {site} takes {taken} parts of node {} and {arrived} arrived",
            key.0
        );
    }

    fn check_acknowledged(&self, site: usize, key: NodeKey, received: u64) {
        let arrived = self.arrivals.without_gap(site, key);
        assert!(
            received <= arrived,
            "dispatcher {site} acknowledges {received} outcomes of node {} and {arrived} arrived",
            key.0
        );
    }

    /// Checks a kill: where connections break only for moments, a node has no reason to kill a job that somebody waits for.
    pub(super) fn check_kill(&self, node: usize, key: WorkerKey) {
        let options = &self.options;
        if !options.only_blips || options.two_addresses || options.faults.contains(&Kind::Drain) {
            return;
        }
        let Some(job) = self.nodes[node].workers.get(&key).and_then(SimWorker::runs_job) else { return };
        let record = self.ledger.job(job);
        assert!(
            record.is_given_up() || record.spec.time_limit.is_some(),
            "{job} is killed although somebody waits for it and nothing but connections broke"
        );
    }
}
