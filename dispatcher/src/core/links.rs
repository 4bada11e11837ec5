//! Connections to nodes: dialled, lost, resumed, judged by their silence.

use std::time::Duration;

use pp_protocol::{AttemptId, Moment, NodeId, Resume, ToNode, Welcome};

use super::jobs::Job;
use super::nodes::{FailedDial, Node, State};
use super::{Action, Core, DialFailure, Failure, JobOutcome, NodeKey, NodeKind, Report};

/// How often a dispatcher asks whether its nodes live.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A node that is heard of but has not answered for so long is lost. Longer than its silence may be: over a slow link a
/// question waits behind what was sent before it.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Waiting time before the second dial; it doubles from dial to dial.
const FIRST_REDIAL: Duration = Duration::from_millis(200);
/// Longest waiting time between dials: a node that was started again is used within seconds.
const LAST_REDIAL: Duration = Duration::from_secs(3);
/// Waiting time after a refusal, which somebody has to mend first.
const REFUSED_REDIAL: Duration = Duration::from_secs(5);
/// Waiting time between dials while a node may still come back with its attempts.
const RECONNECT_REDIAL: Duration = Duration::from_millis(250);

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
                self.nodes.insert(key, Node::new(name, kind));
                actions.push(Action::Dial(key, None));
            }
            // Word of a node that was out of reach: no reason to wait any longer. What a refusal takes to be mended
            // takes its time, unless that wait was ended because there was no more word of the node.
            Some(node) => {
                if let State::Waiting { redial, failed } = &node.state
                    && (!failed.refused || redial.is_none())
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

    pub(super) fn link_up(
        &mut self,
        now: Moment,
        key: NodeKey,
        welcome: Welcome,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        match node.state {
            State::Reconnecting { .. } if welcome.resumed && node.incarnation == Some(welcome.node) => {
                node.connected(now, &welcome);
                self.queue_what_did_not_arrive(key, &welcome.held);
                self.cancel_again(key);
            }
            State::Reconnecting { .. } => {
                let restarted = node.incarnation != Some(welcome.node);
                let reason = if restarted { "it restarted" } else { "it gave up this dispatcher's session" };
                self.lose(key, reason.into(), restarted, actions);
                self.begin(now, key, &welcome);
            }
            State::Dialling { .. } => self.begin(now, key, &welcome),
            // It was given up while it answered.
            State::Waiting { .. } | State::Connected { .. } => {
                actions.push(Action::Close(key));
                return;
            }
        }
        self.displace_other_addresses(now, key, welcome.node, actions);
        self.update_taker(key);
        actions.push(Action::Report(Report::NodeConnected(key)));
    }

    /// A node has one session with this dispatcher, on one connection. If it was in use under another address, that
    /// session is over. Were both resumed, each would take the connection of the other, for ever.
    fn displace_other_addresses(
        &mut self,
        now: Moment,
        key: NodeKey,
        incarnation: NodeId,
        actions: &mut Vec<Action<T>>,
    ) {
        let in_use = |node: &Node| matches!(node.state, State::Connected { .. } | State::Reconnecting { .. });
        let same = self
            .nodes
            .iter()
            .filter(|(other, node)| **other != key && node.incarnation == Some(incarnation) && in_use(node));
        for other in same.map(|(other, _)| *other).collect::<Vec<_>>() {
            let reason = "it is in use under another address now";
            actions.push(Action::Close(other));
            self.lose(other, reason.into(), false, actions);
            self.wait(other, now + REFUSED_REDIAL, reason.into(), true);
        }
    }

    fn begin(&mut self, now: Moment, key: NodeKey, welcome: &Welcome) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.begin(now, welcome);
        }
    }

    /// The connection broke while attempts were on their way: what the node does not have is queued again.
    fn queue_what_did_not_arrive(&mut self, key: NodeKey, held: &[AttemptId]) {
        let mut held = held.to_vec();
        held.sort_unstable();
        for id in self.attempts_at(key).into_iter().rev() {
            if held.binary_search(&id).is_err() {
                self.take_from_node(id);
                self.queue_again(id.job);
            }
        }
    }

    /// The connection may have broken while cancellations were on their way, or before they could be sent.
    fn cancel_again(&mut self, key: NodeKey) {
        let mut cancelled = self.attempts_at(key);
        cancelled.retain(|id| self.jobs.find(id.job).is_some_and(Job::is_given_up));
        if !cancelled.is_empty() {
            self.cancelled.entry(key).or_default().extend(cancelled);
        }
    }

    /// What is at a node, in the order it was sent.
    pub(super) fn attempts_at(&self, key: NodeKey) -> Vec<AttemptId> {
        let Some(node) = self.nodes.get(&key) else { return Vec::new() };
        let mut attempts: Vec<_> = node
            .attempts
            .iter()
            .filter_map(|place| self.jobs.at(*place).map(|job| (*place, job)))
            .map(|(place, job)| (node.sent.wrapping_sub(job.sent), self.jobs.id(place), job.attempt))
            .collect();
        attempts.sort_unstable_by_key(|(age, ..)| std::cmp::Reverse(*age));
        attempts.into_iter().map(|(_, job, number)| AttemptId { job, number }).collect()
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
            (State::Reconnecting { redial, .. }, DialFailure::Unreachable(_)) => {
                *redial = Some(now + RECONNECT_REDIAL);
            }
            (State::Dialling { .. } | State::Reconnecting { .. }, DialFailure::Refused(reason)) => {
                let refused = FailedDial { reason: reason.clone(), refused: true };
                let is_known = matches!(&node.state, State::Dialling { failed } if *failed == Some(refused));
                if matches!(&node.state, State::Reconnecting { .. }) {
                    self.lose(key, reason.clone(), true, actions);
                }
                self.wait(key, now + REFUSED_REDIAL, reason.clone(), true);
                if !is_known {
                    actions.push(Action::Report(Report::NodeRefused(key, reason)));
                }
            }
            (State::Reconnecting { .. }, DialFailure::NotListening(reason)) => {
                self.lose(key, reason.clone(), true, actions);
                self.wait(key, now + FIRST_REDIAL, reason, false);
            }
            (
                State::Dialling { .. },
                DialFailure::NotListening(reason) | DialFailure::Unreachable(reason),
            ) => {
                let failed = node.failed_dials;
                node.failed_dials = failed.saturating_add(1);
                let longest = (FIRST_REDIAL * 2_u32.saturating_pow(failed.min(16))).min(LAST_REDIAL);
                let jitter = self.random.below(longest.as_nanos() as u64 / 2);
                self.wait(key, now + longest / 2 + Duration::from_nanos(jitter), reason, false);
            }
            (State::Waiting { .. } | State::Connected { .. }, _) => {}
        }
    }

    fn wait(&mut self, key: NodeKey, redial: Moment, reason: String, refused: bool) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.state = State::Waiting { redial: Some(redial), failed: FailedDial { reason, refused } };
        }
        self.update_taker(key);
    }

    /// A closed connection is dialled again at once: the answer tells a blip from a death.
    pub(super) fn link_down(
        &mut self,
        now: Moment,
        key: NodeKey,
        reason: String,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(node) = self.nodes.get_mut(&key).filter(|node| node.is_connected()) else { return };
        if node.kind == NodeKind::Local {
            self.lose(key, reason.clone(), false, actions);
            return self.wait(key, now + FIRST_REDIAL, reason, false);
        }
        node.state = State::Reconnecting { since: now, redial: None };
        self.update_taker(key);
        self.dial_again(key, actions);
    }

    fn dial_again(&mut self, key: NodeKey, actions: &mut Vec<Action<T>>) {
        let held = self.attempts_at(key);
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let resume = match (&mut node.state, node.incarnation) {
            (State::Reconnecting { redial, .. }, Some(incarnation)) => {
                *redial = None;
                Some(Resume { node: incarnation, outcomes_received: node.outcomes.without_gap(), held })
            }
            (State::Waiting { failed, .. }, _) => {
                node.state = State::Dialling { failed: Some(failed.clone()) };
                None
            }
            _ => {
                node.state = State::Dialling { failed: None };
                None
            }
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
        let rested = |node: &Node| node.resting_until.is_some_and(|until| until <= now);
        let rested: Vec<_> =
            self.nodes.iter().filter(|(_, node)| rested(node)).map(|(key, _)| *key).collect();
        for key in rested {
            if let Some(node) = self.nodes.get_mut(&key) {
                node.resting_until = None;
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
            node.unanswered.iter_mut().for_each(|sent| *sent = (*sent + own_lateness).min(now));
            let unanswered = node.unanswered_for(now);
            match &mut node.state {
                State::Connected { heard, suspect } => {
                    *heard = (*heard + own_lateness).min(now);
                    let silence = now.since(*heard);
                    if silence >= self.config.lost_after || unanswered >= UNANSWERED {
                        lost.push((*key, silence.max(unanswered)));
                        continue;
                    }
                    if silence.max(unanswered) >= self.config.suspect_after && !*suspect {
                        *suspect = true;
                        suspected.push(*key);
                    }
                    actions.push(Action::Send(*key, ToNode::Ping(node.ping(now))));
                }
                State::Reconnecting { since, .. } => {
                    *since = (*since + own_lateness).min(now);
                    if now.since(*since) >= self.config.lost_after {
                        lost.push((*key, now.since(*since)));
                    }
                }
                State::Waiting { .. } | State::Dialling { .. } => {}
            }
        }
        for key in suspected {
            self.update_taker(key);
            actions.push(Action::Report(Report::NodeSuspected(key)));
        }
        for (key, silence) in lost {
            actions.push(Action::Close(key));
            let reason = format!("it has been silent for {:.0} s", silence.as_secs_f64());
            self.lose(key, reason.clone(), true, actions);
            self.wait(key, now + FIRST_REDIAL, reason, false);
        }
    }

    pub(super) fn heard(&mut self, now: Moment, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let is_answered = node.unanswered_for(now) < self.config.suspect_after;
        if let State::Connected { heard, suspect } = &mut node.state {
            *heard = now;
            if *suspect && is_answered {
                *suspect = false;
                self.update_taker(key);
            }
        }
    }

    /// Gives up what is at a node: in the order it was sent, it goes to the front of the queue.
    ///
    /// Nodes start attempts in the order they come, so no more than the first ones, as many as the node has slots, can
    /// have been running. If `charged`, these count it as one of the times they were there when something died.
    pub(super) fn lose(&mut self, key: NodeKey, reason: String, charged: bool, actions: &mut Vec<Action<T>>) {
        let attempts = self.attempts_at(key);
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let maybe_running = if charged { node.status.slots as usize } else { 0 };
        let name = node.name.clone();
        node.forget_all();
        let count = attempts.len();
        for (index, id) in attempts.into_iter().enumerate().rev() {
            let failure = Failure {
                attempt: id.number,
                node: name.clone(),
                reason: format!("the node was lost while the job may have been running: {reason}"),
            };
            if index < maybe_running {
                self.charge(id.job, key, failure, false, actions);
            } else {
                self.queue_again(id.job);
            }
        }
        self.update_taker(key);
        actions.push(Action::Report(Report::NodeLost(key, reason, count)));
    }

    /// Notes that a job was there when something died, and queues it again unless that happened too often.
    /// It is at no node any more.
    pub(super) fn charge(
        &mut self,
        id: pp_protocol::JobId,
        key: NodeKey,
        failure: Failure,
        report: bool,
        actions: &mut Vec<Action<T>>,
    ) {
        let max_attempts = self.config.max_attempts;
        let Some(job) = self.jobs.find_mut(id) else { return };
        let rare = job.rare();
        rare.failures.push(failure.clone());
        rare.avoid = Some(key);
        if rare.failures.len() < rare.options.max_attempts.unwrap_or(max_attempts) as usize {
            self.queue_again(id);
            if report && self.jobs.find(id).is_some() {
                actions.push(Action::Report(Report::JobRetried(id, failure)));
            }
        } else {
            let failures = std::mem::take(&mut rare.failures);
            self.resolve(id, JobOutcome::Lost(failures), Some(key), Duration::ZERO, actions);
        }
    }

    pub(super) fn send_if_connected(&self, key: NodeKey, message: ToNode, actions: &mut Vec<Action<T>>) {
        if self.nodes.get(&key).is_some_and(Node::is_connected) {
            actions.push(Action::Send(key, message));
        }
    }

    /// Says goodbye. What is connected closes by itself after that; the rest is closed here.
    pub(super) fn leave_all_nodes(&mut self, actions: &mut Vec<Action<T>>) {
        for (key, node) in &mut self.nodes {
            let connected = node.is_connected();
            actions.push(if connected { Action::Send(*key, ToNode::Goodbye) } else { Action::Close(*key) });
            node.forget_all();
            let failed = FailedDial { reason: "the dispatcher has ended".into(), refused: false };
            node.state = State::Waiting { redial: None, failed };
        }
        for key in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.update_taker(key);
        }
        self.heartbeat = None;
    }
}
