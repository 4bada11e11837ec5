//! What nodes are asked to tell of what happens there, and what they are told of what waits here.

use std::time::Duration;

use pp_protocol::{Activity, Moment, ToNode, Violation};

use super::nodes::{Node, NodeKind};
use super::{Action, Core, NodeKey, NodeRefusal};

/// Time between two words to a node of how many jobs wait here.
const WAITING_TOLD: Duration = Duration::from_secs(1);

impl<T> Core<T> {
    /// Nodes are to tell what happens there so often, or no more. They are told again as they are connected.
    pub(super) fn watch(&mut self, interval: Option<Duration>, actions: &mut Vec<Action<T>>) {
        if self.watching == interval || !self.config.observer {
            return;
        }
        self.watching = interval;
        let interval_ns = interval.map_or(0, in_nanoseconds);
        let watched = self.nodes.iter().filter(|(_, node)| node.is_connected() && is_watched(node));
        actions.extend(watched.map(|(key, _)| Action::Send(*key, ToNode::Watch(interval_ns))));
    }

    /// A node was connected.
    pub(super) fn watch_too(&self, key: NodeKey, actions: &mut Vec<Action<T>>) {
        if let Some(interval) = self.watching
            && self.nodes.get(&key).is_some_and(is_watched)
        {
            actions.push(Action::Send(key, ToNode::Watch(in_nanoseconds(interval))));
        }
    }

    /// A node told what happens there.
    pub(super) fn activity(
        &mut self,
        now: Moment,
        key: NodeKey,
        activity: Box<Activity>,
        actions: &mut Vec<Action<T>>,
    ) {
        if !activity.is_within_limits() {
            let violation = Violation::TooMuch("Activity");
            return self.left_by(now, key, NodeRefusal::Violation(violation), actions);
        }
        // What was on its way as it was told to stop is of no use to anybody.
        if self.watching.is_some() {
            actions.push(Action::Activity(key, activity));
        }
    }

    /// Tells nodes how many jobs wait here, where that is not what they were told last.
    pub(super) fn tell_waiting(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        let waiting = (self.queue.len() + self.pinned.len()) as u64;
        for (key, node) in &mut self.nodes {
            let Some(connection) = node.connection_mut() else { continue };
            let (told, at) = connection.waiting_told;
            if told != Some(waiting) && now.since(at) >= WAITING_TOLD && !self.config.observer {
                connection.waiting_told = (Some(waiting), now);
                actions.push(Action::Send(*key, ToNode::Waiting(waiting)));
            }
        }
    }
}

/// This program's own cores run nothing where somebody only looks.
fn is_watched(node: &Node) -> bool {
    node.kind != NodeKind::Local
}

fn in_nanoseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}
