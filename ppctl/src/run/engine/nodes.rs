//! Nodes that a run is on: waited for, counted, and named where they are not used.

use std::sync::mpsc::Receiver;

use pp_dispatcher::progress::Means;
use pp_dispatcher::{ClusterEvent, NodeInfo, NodeKind, NodeReason, NodeRefusal, NodeState};

use super::{Engine, Event};
use crate::run::each_node::Gathering;

impl Engine<'_> {
    /// Waits until it is known which nodes there are. False if the run was interrupted meanwhile.
    pub(super) fn gather(
        &mut self,
        gathering: &Gathering,
        uses_local: bool,
        told: &Receiver<Event>,
    ) -> anyhow::Result<bool> {
        let mut total = None;
        self.each_node =
            gathering.wait(&self.dispatcher, uses_local, |time| match told.recv_timeout(time) {
                Ok(Event::Counted(jobs)) => {
                    total = Some(jobs);
                    true
                }
                other => !matches!(other, Ok(Event::Told(_))),
            })?;
        total.into_iter().for_each(|total| self.counted(total));
        Ok(self.each_node.is_some())
    }

    /// Says that jobs wait which no node can run, and that a node is in trouble.
    pub(super) fn tell_of_waits(&mut self) {
        while let Some(event) = self.happenings.try_next() {
            if matches!(event, ClusterEvent::Stalled { .. } | ClusterEvent::NodeTroubled { .. }) {
                self.printer.screen.warn(&event.to_string());
            }
        }
    }

    /// Counts the slots that there are, and says once which nodes are not used and why.
    pub(super) fn look_at_nodes(&mut self) -> usize {
        let nodes = self.dispatcher.nodes();
        for node in &nodes {
            let is_unused = match node.state {
                // Whoever left it out knows.
                NodeState::Refused => !is_left_out(node),
                NodeState::Unreachable => node.kind == NodeKind::Configured,
                _ => false,
            };
            // With --each-node its jobs say so.
            if is_unused && self.each_node.is_none() && self.told_of.insert(node.address.clone()) {
                self.printer.screen.warn(&format!("not used: {node}"));
            }
        }
        let used = nodes.iter().filter(|node| node.most_jobs > 0).count();
        let slots = nodes.iter().map(|node| node.most_jobs).sum();
        self.printer.screen.runs_on(Means { nodes: used, slots });
        slots
    }
}

/// Whether the node is one that is not to be used.
fn is_left_out(node: &NodeInfo) -> bool {
    matches!(node.reason, Some(NodeReason::Refused(NodeRefusal::LeftOut)))
}
