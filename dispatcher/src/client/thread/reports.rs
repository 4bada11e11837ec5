//! What the core reports, told to people and to whoever listens to events.

use super::Actor;
use crate::client::events::{Event, printed};
use crate::client::settings::Output;
use crate::core::Report;

impl Actor {
    pub(super) fn report(&mut self, report: Report) {
        let name = |node| self.node_name(node);
        let event = match report {
            Report::Printed(node, lines) => {
                let node = name(node);
                for line in lines {
                    self.announce(&Event::Printed {
                        node: node.clone(),
                        job: line.attempt.map(|attempt| attempt.job),
                        stream: line.stream,
                        line: line.text,
                    });
                }
                return;
            }
            Report::NodeConnected(node) => Event::NodeConnected { node: name(node), slots: self.slots(node) },
            Report::NodeSuspected(node) => Event::NodeSuspected { node: name(node) },
            Report::NodeLost(node, reason, jobs) => Event::NodeLost { node: name(node), reason, jobs },
            Report::NodeRefused(node, reason) => Event::NodeRefused { node: name(node), reason },
            Report::ProgramRefused(node, _, refusal) => {
                Event::NodeRefused { node: name(node), reason: refusal.to_string() }
            }
            Report::NodeTroubled(node, reason) => Event::NodeTroubled { node: name(node), reason },
            Report::NodeResized(node, slots) => {
                Event::NodeResized { node: name(node), slots: slots as usize }
            }
            Report::JobRetried(job, failure) => Event::JobRetried { job, failure },
            Report::Stalled(jobs) => Event::Stalled { jobs, reason: self.why_nothing_runs() },
        };
        self.announce(&event);
    }

    fn announce(&mut self, event: &Event) {
        let shown = match event {
            Event::Printed { .. } => self.settings.output == Output::Shown,
            // Nobody may be listening, and without this the program would seem to hang.
            Event::Stalled { .. } | Event::NodeTroubled { .. } => true,
            _ => false,
        };
        match event {
            Event::Printed { node, job, line, .. } if self.settings.output == Output::Raw => {
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
