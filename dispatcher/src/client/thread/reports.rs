//! Reports of the core, told to people and to whoever listens to events.

use pp_protocol::{Activity, JobAnswer};

use super::Actor;
use crate::client::events::{ClusterEvent, printed};
use crate::client::frames::Watched;
use crate::client::settings::Output;
use crate::core::{NodeKey, NodeRefusal, Report};

/// Nodes that are named where jobs wait for one node each.
const NODES_NAMED: usize = 5;

impl Actor {
    /// Passes on what a node told of what happens there.
    pub(super) fn publish(&self, node: NodeKey, activity: Activity) {
        let Some(view) = self.core.nodes().find(|view| view.key == node) else { return };
        let Some(node) = view.life else { return };
        self.shared.watches.publish(&Watched::new(view.name.into(), node, activity));
    }

    pub(super) fn report(&mut self, report: Report) {
        let name = |node| self.node_name(node);
        let event = match report {
            Report::Printed(node, lines) => {
                let node = name(node);
                for line in lines {
                    self.announce(&ClusterEvent::Printed {
                        node: node.clone(),
                        job: line.attempt.map(|attempt| attempt.job),
                        stream: line.stream,
                        line: line.text,
                    });
                }
                return;
            }
            Report::ProgramRefused(node, _, refusal) => {
                let cause = NodeRefusal::Program(Box::new(refusal));
                ClusterEvent::NodeRefused { node: name(node), cause }
            }
            Report::NodeConnected(node) => {
                let Some(view) = self.core.nodes().find(|view| view.key == node) else { return };
                let Some(id) = view.life else { return };
                let slots = view.own_slots as usize;
                ClusterEvent::NodeConnected { node: view.name.into(), id, slots }
            }
            Report::NodeSuspected(node) => ClusterEvent::NodeSuspected { node: name(node) },
            Report::NodeLost(node, cause, jobs) => ClusterEvent::NodeLost { node: name(node), cause, jobs },
            Report::NodeRefused(node, cause) => ClusterEvent::NodeRefused { node: name(node), cause },
            Report::NodeTroubled(node, cause) => ClusterEvent::NodeTroubled { node: name(node), cause },
            Report::NodeResized(node, slots) => {
                ClusterEvent::NodeResized { node: name(node), slots: slots as usize }
            }
            Report::JobRetried(job, failure) => ClusterEvent::JobRetried { job, failure },
            Report::JobExplained(answer) => {
                let JobAnswer { job, session, dispatcher, text } = *answer;
                ClusterEvent::JobExplained { job, session, dispatcher, text }
            }
            Report::Stalled(jobs) => ClusterEvent::Stalled { jobs, reason: self.why_nothing_runs() },
        };
        self.announce(&event);
    }

    fn announce(&mut self, event: &ClusterEvent) {
        let shown = match event {
            ClusterEvent::Printed { .. } => self.settings.output == Output::Shown,
            // Nobody may be listening, and without this the program would seem to hang.
            ClusterEvent::Stalled { .. } | ClusterEvent::NodeTroubled { .. } => {
                self.settings.output != Output::EventsOnly
            }
            _ => false,
        };
        match event {
            ClusterEvent::Printed { node, job, line, .. } if self.settings.output == Output::Raw => {
                self.printer.print(printed(node, *job, line));
            }
            event if shown => self.printer.print(event.to_string()),
            _ => {}
        }
        tracing::info!("{event}");
        self.shared.listeners.publish(event);
    }

    /// Why jobs wait that no node can run now: those for one node each, or else any.
    fn why_nothing_runs(&self) -> String {
        let for_one = self.core.stranded_for_one(super::now(), |view| self.told_of(view));
        if !for_one.is_empty() {
            let is_the_only_one = for_one.iter().map(|(jobs, _)| jobs).sum::<usize>() == 1;
            let nodes = for_one.iter().take(NODES_NAMED).map(|(jobs, node)| match jobs {
                1 if is_the_only_one => format!("it is for one node only, {node}"),
                1 => format!("1 is for one node only, {node}"),
                jobs => format!("{jobs} are for one node only, {node}"),
            });
            return nodes.collect::<Vec<_>>().join("; ");
        }
        let nodes: Vec<_> = self.stats().nodes.iter().map(ToString::to_string).collect();
        if self.settings.discover {
            format!("{}; looking for more", nodes.join("; "))
        } else {
            nodes.join("; ")
        }
    }
}
