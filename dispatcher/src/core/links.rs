//! Connections to nodes: dialled, lost, resumed, judged by their silence.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::{AttemptId, Moment, NodeId, Resume, ToNode, Version, Welcome};

use super::job::Owner;
use super::nodes::{FailedDial, Node, State};
use super::random::Random;
use super::session::{Link, Session};
use super::{
    Action, Core, DialFailure, NodeKey, NodeKind, NodeLoss, NodeReason, NodeRefusal, Report, Unreachable,
};

/// Time between two questions whether nodes live.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Time after which a node is lost that is heard of but does not answer. Longer than its silence may be: over a slow link a
/// question waits behind what was sent before it.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Waiting time before the second dial; it doubles from dial to dial.
const FIRST_REDIAL: Duration = Duration::from_millis(200);
/// Longest waiting time between two dials: a node that was started again is used within seconds.
const LAST_REDIAL: Duration = Duration::from_secs(3);
/// Waiting time after a refusal, which somebody has to mend first.
pub(super) const REFUSED_REDIAL: Duration = Duration::from_secs(5);
/// Waiting time between dials while a node may still come back with its attempts.
const RECONNECT_REDIAL: Duration = Duration::from_millis(250);

/// Waiting time before the next dial after so many without an answer, and another one.
fn unanswered_redial(before: u32, random: &mut Random) -> Duration {
    let longest = (FIRST_REDIAL * 2_u32.saturating_pow(before.min(16))).min(LAST_REDIAL);
    longest / 2 + Duration::from_nanos(random.below(longest.as_nanos() as u64 / 2))
}

impl<T> Core<T> {
    pub(super) fn node_found(
        &mut self,
        now: Moment,
        key: NodeKey,
        name: String,
        kind: NodeKind,
        actions: &mut Vec<Action<T>>,
    ) {
        self.heartbeat.get_or_insert(now + HEARTBEAT);
        match self.nodes.get_mut(&key) {
            None => {
                let class = self.takers.join(BTreeSet::new());
                self.nodes.insert(key, Node::new(name, kind, class, self.config.jobs_per_node));
                actions.push(Action::Dial(key, None));
            }
            // Word of a node that was out of reach: no reason to wait any longer. What a refusal takes to be mended
            // takes its time, unless that wait was ended because there was no more word of the node.
            Some(node) => {
                if let State::Waiting { redial, failed } = &node.state
                    && (!failed.is_refusal() || redial.is_none())
                {
                    node.state = State::Dialling { failed: Some(failed.clone()) };
                    actions.push(Action::Dial(key, None));
                }
            }
        }
    }

    pub(super) fn node_gone(&mut self, key: NodeKey) {
        if let Some(node) = self.nodes.get_mut(&key)
            && node.kind == NodeKind::Discovered
            && let State::Waiting { redial, .. } = &mut node.state
        {
            *redial = None;
        }
    }

    pub(super) fn node_forgotten(&mut self, key: NodeKey) {
        // One that was in session has a history.
        let is_unused = self.nodes.get(&key).is_some_and(|node| !node.lives.has_any());
        if is_unused && let Some(node) = self.nodes.remove(&key) {
            self.takers.leave(node.class);
        }
    }

    pub(super) fn link_up(
        &mut self,
        now: Moment,
        key: NodeKey,
        welcome: Welcome,
        version: Version,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        match &mut node.state {
            State::InSession(session) if session.connection().is_none() => {
                let is_same_life = session.with == welcome.node;
                if is_same_life && welcome.resumed {
                    session.resume(now, &welcome, version);
                    node.take_in(&welcome);
                    self.queue_what_did_not_arrive(key, &welcome.held, actions);
                    self.cancel_again(key);
                    self.recall_again(key);
                    // Some may have been taken since it was dialled.
                    self.tell_of_parts(key, actions);
                } else {
                    let loss = match is_same_life {
                        true => NodeLoss::SessionGivenUp,
                        false => NodeLoss::Restarted,
                    };
                    self.lose(key, loss, now, !is_same_life, actions);
                    self.begin(now, key, &welcome, version);
                }
            }
            State::Dialling { .. } => self.begin(now, key, &welcome, version),
            // It was given up while it answered.
            State::Waiting { .. } | State::InSession(_) => {
                actions.push(Action::Close(key));
                return;
            }
        }
        self.displace_other_addresses(now, key, welcome.node, actions);
        self.update_taker(key);
        self.watch_too(key, actions);
        actions.push(Action::Report(Report::NodeConnected(key)));
    }

    /// A node has one session with this dispatcher, on one connection. If it was in use under another address, that
    /// session is over. Were both resumed, each would take the connection of the other, for ever.
    fn displace_other_addresses(
        &mut self,
        now: Moment,
        key: NodeKey,
        life: NodeId,
        actions: &mut Vec<Action<T>>,
    ) {
        let in_use = |node: &Node| node.session().is_some_and(|session| session.with == life);
        let same = self.nodes.iter().filter(|(other, node)| **other != key && in_use(node));
        for other in same.map(|(other, _)| *other).collect::<Vec<_>>() {
            let refused = NodeLoss::Refused(Box::new(NodeRefusal::InUseElsewhere));
            actions.push(Action::Close(other));
            self.lose(other, refused, now + REFUSED_REDIAL, false, actions);
        }
    }

    fn begin(&mut self, now: Moment, key: NodeKey, welcome: &Welcome, version: Version) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.begin(now, welcome, version, &self.config.programs);
            self.pinned.began(welcome.node, key);
        }
        self.classify(key);
    }

    /// The connection broke while attempts were on their way: those that the node does not have are queued again.
    fn queue_what_did_not_arrive(&mut self, key: NodeKey, held: &[AttemptId], actions: &mut Vec<Action<T>>) {
        let mut held = held.to_vec();
        held.sort_unstable();
        for id in self.attempts_at(key).into_iter().rev() {
            if held.binary_search(&id).is_err() {
                self.queue_again(id.job, actions);
            }
        }
    }

    /// The connection may have broken while cancellations were on their way, or before they could be sent.
    fn cancel_again(&mut self, key: NodeKey) {
        let mut cancelled = self.attempts_at(key);
        cancelled.retain(|id| self.jobs.find(id.job).is_some_and(|job| matches!(job.owner, Owner::Nobody)));
        if !cancelled.is_empty() {
            self.cancelled.entry(key).or_default().extend(cancelled);
        }
    }

    /// Attempts at a node, in the order they were sent.
    pub(super) fn attempts_at(&self, key: NodeKey) -> Vec<AttemptId> {
        let session = self.nodes.get(&key).and_then(Node::session);
        session.map_or_else(Vec::new, |session| session.in_order(&self.jobs))
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Moment,
        key: NodeKey,
        failure: DialFailure,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        match (&mut node.state, failure) {
            (State::Dialling { failed: known }, failure) => {
                let (redial, failed) = match failure {
                    // Nobody has to mend that.
                    DialFailure::Refused(NodeRefusal::LeftOut) => {
                        (None, FailedDial::Refused(NodeRefusal::LeftOut))
                    }
                    DialFailure::Refused(refusal) => {
                        if !matches!(known, Some(FailedDial::Refused(before)) if *before == refusal) {
                            actions.push(Action::Report(Report::NodeRefused(key, refusal.clone())));
                        }
                        (Some(now + REFUSED_REDIAL), FailedDial::Refused(refusal))
                    }
                    DialFailure::Unreachable(cause) => {
                        let before = match known {
                            Some(FailedDial::Unanswered { dials, .. }) => *dials,
                            Some(FailedDial::Refused(_)) | None => 0,
                        };
                        let wait = unanswered_redial(before, &mut self.random);
                        let reason = NodeReason::Unreachable(cause);
                        (Some(now + wait), FailedDial::Unanswered { reason, dials: before.saturating_add(1) })
                    }
                };
                node.state = State::Waiting { redial, failed };
            }
            (State::InSession(Session { link: Link::Broken { redial, .. }, .. }), failure) => match failure {
                DialFailure::Unreachable(Unreachable::NotListening { at }) => {
                    self.lose(key, NodeLoss::NotListening { at }, now + FIRST_REDIAL, true, actions);
                }
                DialFailure::Unreachable(_) => *redial = Some(now + RECONNECT_REDIAL),
                DialFailure::Refused(refusal) => {
                    self.lose(
                        key,
                        NodeLoss::Refused(Box::new(refusal.clone())),
                        now + REFUSED_REDIAL,
                        true,
                        actions,
                    );
                    actions.push(Action::Report(Report::NodeRefused(key, refusal)));
                }
            },
            (State::Waiting { .. } | State::InSession(_), _) => {}
        }
    }

    /// A closed connection is dialled again at once: the answer tells a blip from a death.
    pub(super) fn link_down(&mut self, now: Moment, key: NodeKey, actions: &mut Vec<Action<T>>) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let kind = node.kind;
        let Some(session) = node.session_mut().filter(|session| session.connection().is_some()) else {
            return;
        };
        if kind == NodeKind::Local {
            return self.lose(key, NodeLoss::Disconnected, now + FIRST_REDIAL, false, actions);
        }
        session.link = Link::Broken { since: now, redial: None };
        self.update_taker(key);
        self.dial_again(key, actions);
    }

    fn dial_again(&mut self, key: NodeKey, actions: &mut Vec<Action<T>>) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let resume = match &mut node.state {
            State::InSession(session) => {
                if let Link::Broken { redial, .. } = &mut session.link {
                    *redial = None;
                }
                let held = session.in_order(&self.jobs);
                let outcomes_received = session.outcomes.without_gap();
                let parts_taken = session.parts.taken();
                Some(Resume { node: session.with, outcomes_received, parts_taken, held })
            }
            State::Waiting { failed, .. } => {
                node.state = State::Dialling { failed: Some(failed.clone()) };
                None
            }
            State::Dialling { .. } => return,
        };
        actions.push(Action::Dial(key, resume));
    }

    pub(super) fn redial(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        let due = |node: &Node| node.redial_at().is_some_and(|at| at <= now);
        let due: Vec<_> = self.nodes.iter().filter(|(_, node)| due(node)).map(|(key, _)| *key).collect();
        for key in due {
            self.dial_again(key, actions);
        }
    }

    /// Nodes that have rested are used again.
    pub(super) fn end_rests(&mut self, now: Moment) {
        let rested = |node: &Node| node.lives.resting_until().is_some_and(|until| until <= now);
        let rested: Vec<_> =
            self.nodes.iter().filter(|(_, node)| rested(node)).map(|(key, _)| *key).collect();
        for key in rested {
            if let Some(node) = self.nodes.get_mut(&key) {
                node.lives.end_rest();
            }
            self.update_taker(key);
        }
    }

    /// Asks every node whether it lives, and judges those that have not been heard of for too long.
    pub(super) fn beat(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        let Some(due) = self.heartbeat.filter(|due| *due <= now) else { return };
        self.heartbeat = Some(now + HEARTBEAT);
        // If this process was suspended or starved, the silence was its own: nodes get that time back.
        let own_lateness = if now.since(due) > HEARTBEAT { now.since(due) } else { Duration::ZERO };
        let mut lost = Vec::new();
        let mut suspected = Vec::new();
        for (key, node) in &mut self.nodes {
            let Some(session) = node.session_mut() else { continue };
            match &mut session.link {
                Link::Up(connection) => {
                    connection.forgive(own_lateness, now);
                    let silence = now.since(connection.heard);
                    let unanswered = connection.unanswered_for(now);
                    if silence >= self.config.lost_after || unanswered >= UNANSWERED {
                        lost.push((*key, silence.max(unanswered)));
                        continue;
                    }
                    if silence.max(unanswered) >= self.config.suspect_after && !connection.suspect {
                        connection.suspect = true;
                        suspected.push(*key);
                    }
                    actions.push(Action::Send(*key, ToNode::Ping(connection.ping(now))));
                }
                Link::Broken { since, .. } => {
                    *since = (*since + own_lateness).min(now);
                    if now.since(*since) >= self.config.lost_after {
                        lost.push((*key, now.since(*since)));
                    }
                }
            }
        }
        for key in suspected {
            self.update_taker(key);
            actions.push(Action::Report(Report::NodeSuspected(key)));
        }
        for (key, silence) in lost {
            actions.push(Action::Close(key));
            self.lose(key, NodeLoss::Silent(silence), now + FIRST_REDIAL, true, actions);
        }
    }

    pub(super) fn heard(&mut self, now: Moment, key: NodeKey) {
        let Some(connection) = self.nodes.get_mut(&key).and_then(Node::connection_mut) else { return };
        connection.heard = now;
        if connection.suspect && connection.unanswered_for(now) < self.config.suspect_after {
            connection.suspect = false;
            self.update_taker(key);
        }
    }

    /// The session with a node is over: its attempts go to the front of the queue, in the order they were sent. If that is
    /// `charged`, those that may have been running are blamed.
    pub(super) fn lose(
        &mut self,
        key: NodeKey,
        loss: NodeLoss,
        redial: Moment,
        charged: bool,
        actions: &mut Vec<Action<T>>,
    ) {
        let attempts = self.attempts_at(key);
        let Some(node) = self.nodes.get_mut(&key) else { return };
        if let Some(session) = node.session() {
            self.pinned.lost(session.with, key, &node.name, &loss);
        }
        node.state = State::Waiting { redial: Some(redial), failed: FailedDial::after(&loss) };
        let maybe_running = if charged { node.status.slots as usize } else { 0 };
        self.blame_for_node(key, maybe_running, &loss, &attempts, actions);
        self.update_taker(key);
        actions.push(Action::Report(Report::NodeLost(key, loss, attempts.len())));
    }

    pub(super) fn send_if_connected(&self, key: NodeKey, message: ToNode, actions: &mut Vec<Action<T>>) {
        if self.nodes.get(&key).is_some_and(Node::is_connected) {
            actions.push(Action::Send(key, message));
        }
    }

    /// Says goodbye. Connected nodes close their connections after that; the others are closed here.
    pub(super) fn leave_all_nodes(&mut self, actions: &mut Vec<Action<T>>) {
        for (key, node) in &mut self.nodes {
            let connected = node.is_connected();
            actions.push(if connected { Action::Send(*key, ToNode::Goodbye) } else { Action::Close(*key) });
            let failed = FailedDial::not_dialled(NodeReason::ShutDown);
            node.state = State::Waiting { redial: None, failed };
        }
        for key in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.update_taker(key);
        }
        self.pinned.leave_all();
        self.heartbeat = None;
    }
}
