//! `--each-node`: every job runs once on every node.
//!
//! The nodes are those that are there when discovery has had its time. One that cannot be used fails each job, so that nobody
//! believes it done there. A node takes its jobs in order, and no more of them at once than `-j` says: one, unless it does.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::bail;
use pp_dispatcher::{Dispatcher, NodeId, NodeInfo, NodeKind, NodeReason, NodeRefusal, NodeState};

use super::engine::Running;
use super::slots::Slots;
use crate::nodes::ANSWER_TIME;
use crate::{DISCOVERY, LOOK_EVERY, is_settled};

/// The time that nodes have to be there.
#[derive(Debug)]
pub(super) struct Gathering {
    until: Instant,
    at_last: Instant,
}

impl Gathering {
    /// Begins now. `discovers` is whether nodes are looked for on the network.
    pub(super) fn new(discovers: bool) -> Self {
        let now = Instant::now();
        Self { until: if discovers { now + DISCOVERY } else { now }, at_last: now + ANSWER_TIME }
    }

    /// Waits until it is known which nodes there are. `wait` waits for so long, and tells whether the run goes on: none if it
    /// does not.
    pub(super) fn wait(
        &self,
        dispatcher: &Dispatcher,
        uses_local: bool,
        mut wait: impl FnMut(Duration) -> bool,
    ) -> anyhow::Result<Option<EachNode>> {
        loop {
            let nodes = dispatcher.nodes();
            if self.is_over(&nodes) {
                let each_node = EachNode::new(nodes, uses_local);
                if each_node.len() == 0 {
                    bail!("--each-node: there is no node; `ppctl nodes` lists those that can be found");
                }
                return Ok(Some(each_node));
            }
            if !wait(LOOK_EVERY) {
                return Ok(None);
            }
        }
    }

    /// Whether it is known of each of these nodes how it stands, or there is no more time.
    fn is_over(&self, nodes: &[NodeInfo]) -> bool {
        let now = Instant::now();
        now >= self.at_last || now >= self.until && nodes.iter().all(is_settled)
    }
}

/// The nodes, and what each has to do.
#[derive(Debug)]
pub(super) struct EachNode {
    targets: Vec<Target>,
    /// Runs of each job that have not ended, by its number.
    left: BTreeMap<u64, usize>,
}

/// A node that every job is for.
#[derive(Debug)]
struct Target {
    /// As output is tagged: `:` is this machine.
    name: String,
    /// Its life, or why it cannot be used.
    life: Result<NodeId, String>,
    /// Jobs that it runs at once.
    room: usize,
    slots: Slots,
    /// Jobs that wait for others there.
    waiting: VecDeque<Running>,
}

impl EachNode {
    /// Of these nodes those that are to be used: this machine first, then those that were named, then the others by name.
    fn new(mut nodes: Vec<NodeInfo>, uses_local: bool) -> Self {
        nodes.retain(|node| (uses_local || node.kind != NodeKind::Local) && !is_no_node_of_its_own(node));
        nodes.sort_by_key(|node| match node.kind {
            NodeKind::Local => (0, String::new()),
            NodeKind::Configured => (1, String::new()),
            _ => (2, node.label()),
        });
        let is_one_of_several =
            |node: &NodeInfo| nodes.iter().filter(|other| other.name == node.name).count() > 1;
        let targets = nodes.iter().map(|node| Target::new(node, is_one_of_several(node))).collect();
        Self { targets, left: BTreeMap::new() }
    }

    /// Number of the nodes.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn name(&self, target: usize) -> &str {
        &self.targets[target].name
    }

    /// The life of a node, or why it cannot be used.
    pub(super) fn life(&self, target: usize) -> Result<NodeId, String> {
        self.targets[target].life.clone()
    }

    /// A job is to run on all nodes: so many.
    pub(super) fn begin(&mut self, sequence: u64) -> usize {
        self.left.insert(sequence, self.len());
        self.len()
    }

    /// A run for one of them. Gives it back with a slot if it can start now.
    pub(super) fn take(&mut self, run: Running, target: usize) -> Option<Running> {
        self.targets[target].waiting.push_back(run);
        self.targets[target].next()
    }

    /// A run on one of them has ended. Gives the next one there.
    pub(super) fn ended(&mut self, target: usize, slot: usize) -> Option<Running> {
        self.targets[target].slots.give_back(slot);
        self.targets[target].next()
    }

    /// A run of this job is over. Tells whether it was the last one.
    pub(super) fn is_last(&mut self, sequence: u64) -> bool {
        let Some(left) = self.left.get_mut(&sequence) else { return true };
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            self.left.remove(&sequence);
        }
        is_last
    }

    /// Gives up what has not started.
    pub(super) fn give_up_waiting(&mut self) -> Vec<Running> {
        self.targets.iter_mut().flat_map(|target| target.waiting.drain(..)).collect()
    }
}

impl Target {
    fn new(node: &NodeInfo, is_one_of_several: bool) -> Self {
        let is_there =
            !matches!(node.state, NodeState::Connecting | NodeState::Unreachable | NodeState::Refused);
        let life = match node.id {
            Some(_) if is_there && node.slots == 0 => {
                Err(format!("{}: it has no slots: give it some with `ppctl resize`", node.label()))
            }
            Some(id) if is_there => Ok(id),
            _ => Err(node.to_string()),
        };
        let name = match node.kind {
            NodeKind::Local => ":".into(),
            _ if is_one_of_several => node.label(),
            _ => node.name.clone(),
        };
        let (room, slots) = (node.most_jobs.max(1), Slots::default());
        Self { name, life, room, slots, waiting: VecDeque::new() }
    }

    fn next(&mut self) -> Option<Running> {
        if self.slots.in_use() >= self.room {
            return None;
        }
        let mut next = self.waiting.pop_front()?;
        next.slot = self.slots.take();
        Some(next)
    }
}

/// Whether it is left out, or the same node as another one of the list.
fn is_no_node_of_its_own(node: &NodeInfo) -> bool {
    matches!(
        node.reason,
        Some(
            NodeReason::SameNode { .. }
                | NodeReason::Refused(NodeRefusal::LeftOut | NodeRefusal::InUseElsewhere)
        )
    )
}
