//! Reports of the core, told to people and to whoever listens to events.

use super::Actor;
use crate::client::events::{ClusterEvent, printed};
use crate::client::settings::Output;
use crate::core::{NodeRefusal, Report};

impl Actor {
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
            Report::Stalled(jobs) => ClusterEvent::Stalled { jobs, reason: self.why_nothing_runs() },
        };
        self.announce(&event);
    }

    fn announce(&mut self, event: &ClusterEvent) {
        let shown = match event {
            ClusterEvent::Printed { .. } => self.settings.output == Output::Shown,
            // Nobody may be listening, and without this the program would seem to hang.
            ClusterEvent::Stalled { .. } | ClusterEvent::NodeTroubled { .. } => true,
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

    fn why_nothing_runs(&self) -> String {
        let nodes: Vec<_> = self.stats().nodes.iter().map(ToString::to_string).collect();
        if self.settings.discover {
            format!("{}; looking for more", nodes.join("; "))
        } else {
            nodes.join("; ")
        }
    }
}
