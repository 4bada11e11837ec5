//! The choice of a node for each job.
//!
//! A node takes as many attempts as its window says. Free slots are filled first, then work is sent ahead to the node
//! that is least loaded for its size. When the queue is empty and slots idle, attempts that wait at a busy node are asked
//! back.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::{Moment, NodeId, ProgramId, ToNode};

use super::job::{Copying, Job};
use super::nodes::{Node, State};
use super::queue::Verdict;
use super::session::Session;
use super::{Action, Core, NodeKey};

/// A node whose backlog is shorter than this is left alone: it will be done before the answer is back.
const WORTH_RECALLING: Duration = Duration::from_millis(10);
/// Waiting time for the answer to a recall before the node is asked again.
const RECALL_ANSWER: Duration = Duration::from_millis(100);

/// Limit on nodes that are passed over because what waits is not for them; then the others have to wait, too.
const PASSED_OVER: usize = 64;
/// With more nodes than this that hold more than they have slots, one to recall from is looked for only so often.
const OVERFULL_AT_ONCE: usize = 32;
const RECALL_EVERY: Duration = Duration::from_millis(1);

impl<T> Core<T> {
    pub(super) fn schedule(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        if self.is_finishing() {
            (self.recall_due, self.copy_due) = (None, None);
            return;
        }
        let later = if self.pinned.has_changed() { self.send_pinned(now, actions) } else { Vec::new() };
        let mut passed_over = Vec::new();
        while passed_over.len() < PASSED_OVER
            && let Some((program, key)) =
                self.queue.next_program(|program| self.takers.first(program, &passed_over))
        {
            if self.send_work(now, key, (program, None), actions) {
                self.queue.takes_turn(program);
            } else {
                // All that waits is to go elsewhere, or what is first has too large arguments.
                passed_over.push(key);
            }
        }
        for life in later {
            self.send_to_life(now, life, actions);
        }
        (self.recall_due, self.copy_due) = (None, None);
        let is_wanted = |program| self.takers.first(program, &[]).is_some();
        if !self.queue.programs().any(is_wanted) {
            self.recall(now, actions);
            self.copy_stragglers(now, actions);
        }
    }

    /// Sends a node some of what waits of a program, for any node or for this life of it alone. False if there is nothing
    /// for it.
    pub(super) fn send_work(
        &mut self,
        now: Moment,
        key: NodeKey,
        (program, only_at): (ProgramId, Option<NodeId>),
        actions: &mut Vec<Action<T>>,
    ) -> bool {
        let will_run = |node: &Node| node.will_take_work() && self.takers.runs(node.class, program);
        let elsewhere = only_at.is_none()
            && self.nodes.len() > 1
            && self.nodes.iter().any(|(other, node)| *other != key && will_run(node));
        let (most, waiting) = match only_at {
            None => (self.share(key, program), self.queue.len_of(program)),
            Some(life) => (self.room(key), self.pinned.len_of(life, program)),
        };
        let mut attempts = Vec::with_capacity(most.min(waiting));
        let Some(Node { state: State::InSession(session), status, .. }) = self.nodes.get_mut(&key) else {
            return false;
        };
        let line = match only_at {
            None => Some(self.queue.line(program)),
            Some(life) => self.pinned.line(life, program),
        };
        let Some(line) = line else { return false };
        session.before_work(now);
        session.served_pinned = only_at.is_some();
        // Jobs of one function follow each other: how many the node may have of it is found out once.
        let mut function = session.run_times.last();
        let mut window = function.map_or(0, |function| session.window_for(function, status.slots));
        while attempts.len() < most {
            if session.attempts().len() >= window as usize {
                function = None;
            }
            let (jobs, it, mut other) = (&self.jobs, &*session, None);
            let taken = line.take(|id| match jobs.find(id) {
                Some(job) if elsewhere && job.avoids(key) => Verdict::Leave,
                Some(job) if function != Some(job.function) => {
                    other = Some(job.function);
                    Verdict::Wait
                }
                Some(job) if !it.has_room_for(job.args.len(), status) => Verdict::Wait,
                Some(_) => Verdict::Take,
                None => Verdict::Drop,
            });
            if let Some(other) = other {
                function = Some(other);
                window = session.window_for(other, status.slots);
                if session.attempts().len() < window as usize {
                    continue;
                }
            }
            let Some(id) = taken else { break };
            let Some(job) = self.jobs.find_mut(id) else { continue };
            if let Some(rare) = job.rare.as_deref_mut()
                && rare.copying == Copying::Possible
            {
                rare.copying = Copying::Candidate { sent: now };
                self.copyable.insert((now, id));
            }
            attempts.push(session.take_on(key, status.slots, id, job));
        }
        let any = !attempts.is_empty();
        if any {
            actions.push(Action::Send(key, ToNode::Run(attempts)));
            self.update_taker(key);
        }
        any
    }

    fn room(&self, key: NodeKey) -> usize {
        self.nodes.get(&key).and_then(Node::session).map_or(0, Session::room)
    }

    /// Number of attempts that the least loaded node gets before the others are looked at again.
    fn share(&self, key: NodeKey, program: ProgramId) -> usize {
        let Some(node) = self.nodes.get(&key) else { return 0 };
        let Some(session) = node.session() else { return 0 };
        let (slots, room) = (node.status.slots as usize, session.room());
        let takers = self.takers.count(program).max(1);
        match slots.checked_sub(session.attempts().len()) {
            _ if takers == 1 => room,
            // Few jobs are spread over the nodes instead of filling one.
            Some(free @ 1..) => free.min(room).min(self.queue.len_of(program).div_ceil(takers)),
            _ => (room / 8).max(slots).min(room),
        }
    }

    /// Asks back attempts that wait at the node with the longest backlog, as many as could start elsewhere now.
    fn recall(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        if self.overfull.is_empty() || !self.takers.any_idle() {
            return;
        }
        if self.overfull.len() > OVERFULL_AT_ONCE {
            let due = self.recall_looked_at + RECALL_EVERY;
            if now < due {
                self.recall_due = Some(due);
                return;
            }
            self.recall_looked_at = now;
        }
        let candidates = self.overfull.iter().filter_map(|key| {
            let node = self.nodes.get(key)?;
            let (session, connection) = node.connected()?;
            let backlog = session.backlog(now, node.status.slots);
            let worth = backlog.is_none_or(|backlog| backlog >= WORTH_RECALLING);
            let answered = connection.recalled_at.is_none_or(|at| now.since(at) >= RECALL_ANSWER);
            (worth && answered).then_some((*key, backlog, session.excess(node.status.slots)))
        });
        let Some((key, _, excess)) = candidates.max_by_key(|(_, backlog, _)| *backlog) else { return };
        let wanted = excess.div_ceil(2);
        let (mut count, mut runs) = (0, BTreeSet::new());
        for (idle, programs) in self.takers.idle() {
            let Some(node) = self.nodes.get(&idle) else { continue };
            let attempts = node.session().map_or(0, |session| session.attempts().len());
            count += (node.status.slots as usize).saturating_sub(attempts);
            runs.extend(programs.iter().copied());
            if count >= wanted {
                count = wanted;
                break;
            }
        }
        let mut attempts = self.attempts_at(key);
        let is_for_others = |job: &Job<T>| job.only_at().is_none() && runs.contains(&job.program());
        attempts.retain(|id| self.jobs.find(id.job).is_some_and(is_for_others));
        let youngest = attempts.split_off(attempts.len().saturating_sub(count));
        if let Some(connection) = self.nodes.get_mut(&key).and_then(Node::connection_mut) {
            connection.recalled_at = Some(now);
        }
        if !youngest.is_empty() {
            actions.push(Action::Send(key, ToNode::Recall(youngest)));
        }
    }

    /// Lists a node under its load if it takes work, and under nothing if it does not.
    pub(super) fn update_taker(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let load = node.takes_at_load();
        if load != node.listed {
            if let Some(old) = node.listed {
                self.takers.remove(node.class, (old, key));
            }
            node.listed = load;
            if let Some(load) = load {
                self.takers.insert(node.class, (load, key));
            }
        }
        if let Some(session) = node.session() {
            self.pinned.note(session.with);
        }
        if node.is_overfull() {
            self.overfull.insert(key);
        } else {
            self.overfull.remove(&key);
        }
    }
}
