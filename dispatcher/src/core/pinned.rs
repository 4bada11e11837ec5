//! Jobs for one node only: they wait for that life of it, run nowhere else, and end once it is gone.
//!
//! Each life for which jobs wait has a queue of its own, so that jobs for any node are found without a look at these. A
//! node is looked at when something waits for it and something has changed: a job came, the node has room again, it left.
//! Where jobs for any node wait as well, and are as urgent, both take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pp_protocol::{JobId, Moment, NodeId, ProgramId, ProgramStatus};

use super::programs::FAILED_AT_ONCE;
use super::queue::{Line, Queue, Verdict};
use super::{Action, Core, Failure, FailureCause, JobOutcome, NodeKey, NodeLoss, NodeReason};

#[derive(Debug, Default)]
pub(super) struct Pinned {
    /// The nodes in session, by their lives.
    nodes: BTreeMap<NodeId, NodeKey>,
    /// What waits for each life. Queues that are empty are dropped.
    waiting: BTreeMap<NodeId, Queue>,
    /// Lives that are to be looked at.
    changed: BTreeSet<NodeId>,
    /// Lives whose nodes do not run some of what waits for them.
    idle: BTreeSet<NodeId>,
    /// The name of a node whose life is over, and why, until its jobs have been told.
    losses: BTreeMap<NodeId, (String, NodeLoss)>,
    /// Whether more jobs have to be told that they wait in vain than can be at once.
    has_more_in_vain: bool,
}

impl Pinned {
    /// Number of jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Queue::len).sum()
    }

    /// Jobs in no particular order, among them those that were cancelled.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobId> {
        self.waiting.values().flat_map(Queue::iter)
    }

    /// The node that lives this life.
    pub(super) fn node(&self, life: NodeId) -> Option<NodeKey> {
        self.nodes.get(&life).copied()
    }

    #[inline]
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    #[inline]
    pub(super) fn has_more_in_vain(&self) -> bool {
        self.has_more_in_vain
    }

    /// Adds a job behind all others of its priority.
    pub(super) fn push(&mut self, life: NodeId, program: ProgramId, priority: i32, job: JobId) {
        self.changed.insert(life);
        self.waiting.entry(life).or_default().line(program).push(priority, job);
    }

    /// Adds a job in front of all others of its priority.
    pub(super) fn push_front(&mut self, life: NodeId, program: ProgramId, priority: i32, job: JobId) {
        self.changed.insert(life);
        self.waiting.entry(life).or_default().line(program).push_front(priority, job);
    }

    /// A job that waited is gone.
    pub(super) fn forget_one(&mut self, life: NodeId, program: ProgramId) {
        if let Some(queue) = self.waiting.get_mut(&life) {
            queue.line(program).forget_one();
        }
        self.tidy(life);
    }

    /// Number of jobs of a program that wait for this life.
    pub(super) fn len_of(&self, life: NodeId, program: ProgramId) -> usize {
        self.waiting.get(&life).map_or(0, |queue| queue.len_of(program))
    }

    pub(super) fn line(&mut self, life: NodeId, program: ProgramId) -> Option<&mut Line> {
        Some(self.waiting.get_mut(&life)?.line(program))
    }

    /// The lives whose nodes do not run some program of which jobs wait for them, with that and the number of these jobs.
    pub(super) fn stranded(
        &self,
        may_run: impl Fn(NodeId, ProgramId) -> bool,
    ) -> impl Iterator<Item = (NodeId, ProgramId, usize)> {
        let queues = self.idle.iter().filter_map(|life| Some((*life, self.waiting.get(life)?)));
        let programs = queues.flat_map(|(life, queue)| {
            queue.programs().map(move |program| (life, program, queue.len_of(program)))
        });
        programs.filter(move |(life, program, _)| !may_run(*life, *program))
    }

    fn tidy(&mut self, life: NodeId) {
        if self.waiting.get(&life).is_some_and(|queue| queue.len() == 0) {
            self.waiting.remove(&life);
            self.idle.remove(&life);
        }
    }

    /// The programs of which jobs wait for this life.
    fn programs(&self, life: NodeId) -> Vec<ProgramId> {
        self.waiting.get(&life).map(|queue| queue.programs().collect()).unwrap_or_default()
    }

    /// A session with this life of a node began.
    pub(super) fn began(&mut self, life: NodeId, key: NodeKey) {
        self.nodes.insert(life, key);
        self.losses.remove(&life);
        self.note(life);
    }

    /// The session with this life of a node is over, unless it has another one under another address.
    pub(super) fn lost(&mut self, life: NodeId, key: NodeKey, name: &str, loss: &NodeLoss) {
        if self.node(life) == Some(key) {
            self.nodes.remove(&life);
            self.losses.insert(life, (name.to_owned(), loss.clone()));
            self.changed.insert(life);
        }
    }

    /// All sessions are over.
    pub(super) fn leave_all(&mut self) {
        self.nodes.clear();
    }

    /// Something has changed about the node that lives this life.
    #[inline]
    pub(super) fn note(&mut self, life: NodeId) {
        if !self.waiting.is_empty() && self.waiting.contains_key(&life) {
            self.changed.insert(life);
        }
    }

    /// Something has changed about a program.
    pub(super) fn note_all(&mut self) {
        self.changed.extend(self.waiting.keys());
    }

    /// The lives that are to be looked at.
    fn take_changed(&mut self) -> BTreeSet<NodeId> {
        if self.has_more_in_vain { self.changed.clone() } else { std::mem::take(&mut self.changed) }
    }
}

impl<T> Core<T> {
    /// Sends nodes what waits for each of them alone. Yields the lives of those where it is the turn of what any node may
    /// run.
    pub(super) fn send_pinned(&mut self, now: Moment, actions: &mut Vec<Action<T>>) -> Vec<NodeId> {
        let mut later = Vec::new();
        if self.pinned.changed.is_empty() {
            return later;
        }
        for life in self.pinned.take_changed() {
            if self.is_turn_of_others(life) {
                later.push(life);
            } else {
                self.send_to_life(now, life, actions);
            }
        }
        later
    }

    /// Sends a node what waits for it, as far as it takes that now.
    pub(super) fn send_to_life(&mut self, now: Moment, life: NodeId, actions: &mut Vec<Action<T>>) {
        while let Some(key) = self.pinned.node(life)
            && let Some((node, queue)) = self.nodes.get(&key).zip(self.pinned.waiting.get(&life))
            && node.listed.is_some()
            && let Some((program, ())) =
                queue.next_program(|program| self.takers.runs(node.class, program).then_some(()))
            && self.send_work(now, key, (program, Some(life)), actions)
        {
            if let Some(queue) = self.pinned.waiting.get_mut(&life) {
                queue.takes_turn(program);
            }
            self.pinned.tidy(life);
        }
        // It has just been seen to take no more.
        if !self.pinned.has_more_in_vain {
            self.pinned.changed.remove(&life);
        }
        if self.pinned.programs(life).iter().any(|program| !self.may_run_there(life, *program)) {
            self.pinned.idle.insert(life);
        } else {
            self.pinned.idle.remove(&life);
        }
    }

    /// Whether something that waits for any node goes first at this one: it is more urgent, or it is its turn.
    fn is_turn_of_others(&self, life: NodeId) -> bool {
        let node = self.pinned.node(life).and_then(|key| self.nodes.get(&key));
        let Some((node, queue)) = node.zip(self.pinned.waiting.get(&life)) else { return false };
        let runs = |program| self.takers.runs(node.class, program);
        let Some(others) = self.queue.top_priority(runs) else { return false };
        let its_own = queue.top_priority(runs);
        let had_turn = node.session().is_some_and(|session| session.served_pinned);
        its_own.is_none_or(|its_own| others > its_own || others == its_own && had_turn)
    }

    pub(super) fn may_run_there(&self, life: NodeId, program: ProgramId) -> bool {
        let node = self.pinned.node(life).and_then(|key| self.nodes.get(&key));
        node.is_some_and(|node| node.may_run(program))
    }

    /// Number of jobs that wait for a node which cannot run them now.
    #[inline]
    pub(super) fn stranded_pinned(&self) -> usize {
        // In most dispatchers there are none, and this is asked after each event.
        if self.pinned.idle.is_empty() { 0 } else { self.count_stranded_pinned() }
    }

    fn count_stranded_pinned(&self) -> usize {
        self.pinned.stranded(|life, program| self.may_run_there(life, program)).map(|(.., jobs)| jobs).sum()
    }

    /// Ends jobs whose node is gone, or will never run their program. So many end at once; the next tick is due at once
    /// while there are more.
    pub(super) fn fail_what_waits_in_vain(&mut self, actions: &mut Vec<Action<T>>) {
        self.pinned.has_more_in_vain = false;
        if self.pinned.changed.is_empty() {
            return;
        }
        let mut room = FAILED_AT_ONCE;
        for life in self.pinned.changed.clone() {
            for program in self.pinned.programs(life) {
                let Some(failure) = self.why_in_vain(life, program) else { continue };
                while room > 0
                    && let Some(id) = self.take_pinned(life, program)
                {
                    room -= 1;
                    self.end_in_vain(id, failure.clone(), actions);
                }
            }
            self.pinned.tidy(life);
            if !self.pinned.waiting.contains_key(&life) {
                self.pinned.losses.remove(&life);
                self.pinned.changed.remove(&life);
            }
        }
        self.pinned.has_more_in_vain = room == 0;
    }

    /// Takes the first job that waits for this life, and is of this program.
    fn take_pinned(&mut self, life: NodeId, program: ProgramId) -> Option<JobId> {
        let jobs = &self.jobs;
        self.pinned.line(life, program)?.take(|id| match jobs.find(id) {
            Some(_) => Verdict::Take,
            None => Verdict::Drop,
        })
    }

    /// Ends a job that was in no line any more.
    fn end_in_vain(&mut self, id: JobId, failure: Failure, actions: &mut Vec<Action<T>>) {
        let Some(mut job) = self.jobs.remove(id) else { return };
        let node = job.last_charged_at();
        let mut history = job.take_failures();
        // That it was running there as the node was lost says it all.
        if !history.last().is_some_and(|last| matches!(last.cause, FailureCause::NodeLost(_))) {
            history.push(failure);
        }
        self.resolve(id, job, JobOutcome::Lost(history), node, Duration::ZERO, actions);
    }

    /// Reason why what waits for this life, and is of this program, would wait for ever.
    fn why_in_vain(&self, life: NodeId, program: ProgramId) -> Option<Failure> {
        if let Some(failure) = self.why_unrunnable(program) {
            return Some(failure);
        }
        let failure = |name: &str, cause| Failure { attempt: 0, node: name.to_owned(), cause };
        let gone = |reason| FailureCause::OnlyNodeGone(Box::new(reason));
        if let Some(node) = self.pinned.node(life).and_then(|key| self.nodes.get(&key)) {
            return match node.session()?.programs().get(&program)? {
                ProgramStatus::Refused(refusal) => {
                    Some(failure(&node.name, FailureCause::ProgramRefused(Box::new(refusal.clone()))))
                }
                _ => None,
            };
        }
        if let Some((name, loss)) = self.pinned.losses.get(&life) {
            return Some(failure(name, gone(NodeReason::Lost(loss.clone()))));
        }
        let known = self.nodes.values().find(|node| node.lives.last() == Some(life));
        let known = known.and_then(|node| Some((node, node.why_not_in_session()?)));
        Some(match known {
            Some((node, reason)) => failure(&node.name, gone(reason)),
            None => failure(&format!("node {life}"), FailureCause::NoSuchNode),
        })
    }

    /// Asserts what holds of jobs for one node between events.
    pub(super) fn check_pinned(&self) {
        let sessions = self.nodes.iter().filter_map(|(key, node)| Some((node.session()?.with, *key)));
        let known = self.pinned.nodes.iter().map(|(life, key)| (*life, *key));
        assert!(
            sessions.collect::<BTreeMap<_, _>>().into_iter().eq(known),
            "it is known which node lives which life"
        );
        for (life, queue) in &self.pinned.waiting {
            assert!(queue.len() > 0, "there is no queue without jobs");
            let is_there = self.pinned.node(*life).is_some() || self.pinned.has_more_in_vain;
            assert!(is_there, "no job waits for a node that is gone");
        }
    }
}
