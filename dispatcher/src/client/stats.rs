//! Nodes, jobs and statistics, as people read them.

use std::fmt;
use std::time::Duration;

use pp_protocol::{NodeId, Target};

use crate::core::{NodeKind, NodeReason, NodeState};

/// A node, as the dispatcher stands with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its own name; `local` for the dispatcher's own cores.
    pub name: String,
    /// Its life, for jobs that are to run there only ([`JobBuilder::on_node`](crate::JobBuilder::on_node)): the last one; none
    /// before it was first connected.
    pub id: Option<NodeId>,
    /// Its address; empty for the local node.
    pub address: String,
    /// Its origin.
    pub kind: NodeKind,
    /// Whether it is used.
    pub state: NodeState,
    /// If it is not: why, and what to do.
    pub reason: Option<NodeReason>,
    /// Number of jobs it runs at once.
    pub slots: usize,
    /// Number of jobs of this dispatcher that it runs at once: its slots, or fewer if that is limited
    /// ([`Builder::jobs_per_node`](crate::Builder::jobs_per_node)).
    pub most_jobs: usize,
    /// Number of its slots that run a job now, of any dispatcher.
    pub busy: usize,
    /// Jobs of all dispatchers that wait at it.
    pub queued: usize,
    /// Dispatchers connected to it.
    pub dispatchers: usize,
    /// Processors it may use.
    pub cpus: usize,
    /// Jobs at it now, running or about to.
    pub jobs_at_node: usize,
    /// Jobs it ended for this dispatcher.
    pub jobs_ended: u64,
    /// Total run time of these.
    pub run_time: Duration,
    /// Load average over one minute.
    pub load: f32,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Memory of the machine, in bytes.
    pub memory_total: u64,
    /// What its workers are confined to: `none`, `secrets`, `strict`, and its limits. Empty until it is connected.
    pub confinement: String,
    /// The software that serves it, and its release. Empty until it is connected.
    pub software: String,
    /// Target that programs must be built for there, once it is connected.
    pub target: Option<Target>,
    /// The C library of its machine: programs built for a newer one do not start there. Empty if the node did not say.
    pub libc: String,
}

impl NodeInfo {
    /// A name that was given, under which no node is known yet.
    pub(crate) fn of_name(name: &str, reason: NodeReason) -> Self {
        let is_looked_up = !matches!(reason, NodeReason::Dialling(_));
        Self {
            name: name.into(),
            id: None,
            address: name.into(),
            kind: NodeKind::Configured,
            state: if is_looked_up { NodeState::Unreachable } else { NodeState::Connecting },
            reason: Some(reason),
            slots: 0,
            most_jobs: 0,
            busy: 0,
            queued: 0,
            dispatchers: 0,
            cpus: 0,
            jobs_at_node: 0,
            jobs_ended: 0,
            run_time: Duration::ZERO,
            load: 0.0,
            memory_used: 0,
            memory_total: 0,
            confinement: String::new(),
            software: String::new(),
            target: None,
            libc: String::new(),
        }
    }

    /// Name and address, as in the statistics.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let nodes = dispatcher.nodes();
    /// assert_eq!(nodes[0].label(), "local");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn label(&self) -> String {
        label(&self.name, &self.address)
    }
}

/// Name and address of a node, for people.
pub(crate) fn label(name: &str, address: &str) -> String {
    if address.is_empty() || address == name { name.to_owned() } else { format!("{name} ({address})") }
}

impl fmt::Display for NodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            NodeState::Connecting => "connecting",
            NodeState::Preparing => "connected, not ready for jobs yet",
            NodeState::Draining => "draining: it finishes what runs and takes no more",
            NodeState::Connected => "connected",
            NodeState::Suspect => "silent",
            NodeState::Reconnecting => "reconnecting",
            NodeState::Unreachable => "unreachable",
            NodeState::Refused => "refused",
        };
        write!(f, "{}: {state}", self.label())?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None if self.state == NodeState::Connected => write!(f, ", {} slots", self.slots),
            None => Ok(()),
        }
    }
}

/// Statistics of what was done where: its `Display` is the table that Parallel Python prints.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Every node that can be, or was, used.
    pub nodes: Vec<NodeInfo>,
    /// Jobs not resolved yet.
    pub unresolved: usize,
    /// Outcomes of attempts that had been given up: dropped.
    pub late_outcomes: u64,
    /// Since the dispatcher was started.
    pub elapsed: Duration,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.nodes.iter().map(|node| node.jobs_ended).sum();
        writeln!(f, "Job execution statistics:")?;
        writeln!(f, " job count | % of all jobs | job time sum | time per job | node")?;
        for node in self.nodes.iter().filter(|node| node.jobs_ended > 0 || node.state == NodeState::Connected)
        {
            let part = if all == 0 { 0.0 } else { 100.0 * node.jobs_ended as f64 / all as f64 };
            let sum = node.run_time.as_secs_f64();
            let each = if node.jobs_ended == 0 { 0.0 } else { sum / node.jobs_ended as f64 };
            let label = node.label();
            writeln!(f, " {:>9} | {part:>13.2} | {sum:>12.4} | {each:>12.6} | {label}", node.jobs_ended)?;
        }
        write!(f, "Time elapsed since the dispatcher was started: {:.3} s", self.elapsed.as_secs_f64())?;
        if self.unresolved > 0 {
            write!(f, "\n{} jobs not finished yet", self.unresolved)?;
        }
        Ok(())
    }
}

/// State of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobStatus {
    /// Waiting for a node.
    Queued,
    /// At this node: running, or about to.
    AtNode(String),
    /// Its outcome is there.
    Ended,
}
