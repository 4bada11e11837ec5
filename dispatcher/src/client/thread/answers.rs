//! Answers of the thread to those who ask: about nodes, jobs and statistics.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pp_protocol::{JobId, ToNode};

use super::Actor;
use crate::client::orders::{Order, OrderError};
use crate::client::requests::{Answer, Request};
use crate::client::stats::{JobStatus, NodeInfo, Stats, label};
use crate::core::{self, Event, JobExplanation, NodeKey, NodeKind, NodeReason, NodeState, NodeView};
use crate::links::OrderResult;

/// Somebody who waits for so many nodes, until then.
pub(super) struct WaitForNodes {
    count: usize,
    until: Instant,
    answer: Answer<()>,
}

impl Actor {
    pub(super) fn carry_out(&mut self, request: Request) {
        match request {
            Request::Cancel(job) => self.handle(Event::Cancel(job.id().into_iter().collect())),
            Request::JobStatus(job, answer) => {
                answer.give(job.id().and_then(|id| self.core.job_status(id)).map(|status| match status {
                    core::JobStatus::Delayed { .. } | core::JobStatus::Queued => JobStatus::Queued,
                    core::JobStatus::AtNode(node) => JobStatus::AtNode(self.node_name(node)),
                }));
            }
            Request::Explain(job, answer) => answer.give(self.explain(job.id())),
            Request::ExplainElsewhere(job, answer) => answer.give(self.explain_elsewhere(job)),
            Request::Identify(answer) => answer.give(()),
            Request::Stats(answer) => answer.give(self.stats()),
            Request::NodesInUse(answer) => answer.give(self.nodes_in_use()),
            Request::WaitForNodes { count, until, answer } => {
                self.wait_for_nodes(WaitForNodes { count, until, answer });
            }
            Request::SetLocalWorkers(slots) => self.local.resize(slots),
            Request::Finish => self.handle(Event::Finish),
            Request::WatchesChanged => self.handle(Event::Watch(self.shared.watches.interval())),
            Request::Order { node, order, answer } => answer.give(self.order(&node, order)),
            Request::End => self.end(),
        }
    }

    /// Answers whoever waits once so many nodes beside the local one can be given jobs, or it is known that none ever will.
    fn wait_for_nodes(&mut self, waiting: WaitForNodes) {
        let none_will_come = !self.settings.is_remote();
        if none_will_come || self.nodes_in_use() >= waiting.count {
            waiting.answer.give(());
        } else {
            let now = Instant::now();
            self.waiting_for_nodes.retain(|waiting| waiting.until > now);
            self.waiting_for_nodes.push(waiting);
        }
    }

    pub(super) fn answer_who_waits_for_nodes(&mut self) {
        if self.waiting_for_nodes.is_empty() {
            return;
        }
        let nodes = self.nodes_in_use();
        self.waiting_for_nodes.retain(|waiting| {
            if nodes >= waiting.count {
                waiting.answer.give(());
            }
            nodes < waiting.count
        });
    }

    /// Nodes beside the local one that can be given jobs.
    fn nodes_in_use(&self) -> usize {
        let in_use = |node: &NodeView<'_>| node.kind != NodeKind::Local && node.state == NodeState::Connected;
        self.core.nodes().filter(in_use).count()
    }

    pub(super) fn node_name(&self, node: NodeKey) -> String {
        self.core.nodes().find(|view| view.key == node).map_or_else(String::new, |view| view.name.to_owned())
    }

    pub(super) fn stats(&self) -> Stats {
        let nodes = self.core.nodes().map(|view| NodeInfo {
            name: view.name.into(),
            id: view.life,
            address: self.links.address(view.key),
            kind: view.kind,
            state: view.state,
            reason: self.reason(&view),
            slots: view.own_slots as usize,
            most_jobs: view.status.slots as usize,
            busy: view.status.busy as usize,
            queued: view.status.queued as usize,
            dispatchers: view.status.sessions as usize,
            cpus: view.status.cpus as usize,
            jobs_at_node: view.attempts,
            jobs_ended: view.jobs,
            run_time: view.run_time,
            load: view.status.load,
            memory_used: view.status.memory_used,
            memory_total: view.status.memory_total,
            confinement: view.confinement.into(),
            software: view.software.into(),
            target: view.target.cloned(),
            libc: view.libc.into(),
        });
        let names = self.unknown_names.iter().map(|(name, reason)| NodeInfo::of_name(name, reason.clone()));
        Stats {
            nodes: nodes.chain(names).collect(),
            unresolved: self.core.unresolved(),
            late_outcomes: self.core.late_outcomes(),
            elapsed: Duration::ZERO,
        }
    }

    /// Why a job has not ended. One that could not be submitted has no identifier.
    pub(super) fn explain(&self, job: Option<JobId>) -> JobExplanation {
        let Some(job) = job else { return JobExplanation::Ended };
        self.core.explain(super::now(), job, |view| self.told_of(view))
    }

    /// Has the nodes ask their dispatchers for a job, and yields how many nodes there are that can. Only who looks after nodes
    /// may.
    fn explain_elsewhere(&self, job: JobId) -> usize {
        let answers = |state| {
            matches!(
                state,
                NodeState::Preparing | NodeState::Connected | NodeState::Draining | NodeState::Suspect
            )
        };
        let nodes = self.core.nodes().filter(|view| view.kind != NodeKind::Local && answers(view.state));
        let nodes = nodes.filter(|_| self.settings.observer);
        nodes.map(|view| self.links.send(view.key, ToNode::ExplainJob(job))).count()
    }

    /// What people are told of a node: its name and address, and why it is not used.
    pub(super) fn told_of(&self, view: &NodeView<'_>) -> (String, Option<NodeReason>) {
        (label(view.name, &self.links.address(view.key)), self.reason(view))
    }

    /// Reason why a node is not used.
    fn reason(&self, view: &NodeView<'_>) -> Option<NodeReason> {
        let known = || view.reason.clone();
        match view.state {
            NodeState::Refused => {
                let elsewhere = self.links.elsewhere(view.key);
                elsewhere.map(|[here, there]| NodeReason::SameNode { here, there }).or_else(known)
            }
            NodeState::Connecting => known().or_else(|| self.links.stage(view.key).map(NodeReason::Dialling)),
            _ => known(),
        }
    }

    /// Gives a node an order; what comes of it is told later.
    fn order(&mut self, name: &str, order: Order) -> Result<Receiver<OrderResult>, OrderError> {
        let stats = self.stats();
        let keys: Vec<_> = self.core.nodes().map(|view| view.key).collect();
        let labels =
            |nodes: &[&NodeInfo]| nodes.iter().map(|node| node.label()).collect::<Vec<_>>().join(", ");
        // An address is of one node, whatever others are called. The local one has none.
        let at = |node: &&NodeInfo| !name.is_empty() && (node.address == name || node.label() == name);
        let nodes: Vec<_> = stats.nodes.iter().collect();
        let found = match nodes.iter().copied().filter(at).collect::<Vec<_>>() {
            found if found.is_empty() => nodes.iter().copied().filter(|node| node.name == name).collect(),
            found => found,
        };
        let node = match found[..] {
            [node] => node,
            [] => return Err(OrderError::NoSuchNode { name: name.into(), known: labels(&nodes) }),
            _ => return Err(OrderError::Ambiguous { name: name.into(), known: labels(&found) }),
        };
        let Some((_, key)) = nodes.iter().zip(keys).find(|(known, _)| std::ptr::eq(**known, node)) else {
            return Err(OrderError::NotConnected(name.into()));
        };
        match (node.kind, node.state) {
            (NodeKind::Local, _) if order == Order::Drain => Err(OrderError::Local),
            (NodeKind::Local, _)
            | (_, NodeState::Preparing | NodeState::Connected | NodeState::Suspect | NodeState::Draining) => {
                Ok(self.links.order(key, order.message()))
            }
            _ => Err(OrderError::NotConnected(name.into())),
        }
    }
}
