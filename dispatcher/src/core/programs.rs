//! Programs: which of them which node runs, and what becomes of jobs whose program none will run.

use std::time::Duration;

use pp_protocol::{ProgramId, ProgramRefusal, ProgramStatus};

use super::nodes::Node;
use super::queue::Verdict;
use super::{Action, Core, Failure, FailureCause, JobOutcome, NodeKey, NodeKind, NodeTrouble, Report};

/// Jobs that fail in one turn where none can run.
pub(super) const FAILED_AT_ONCE: usize = 8_192;

impl<T> Core<T> {
    /// A node told what has become of a program.
    pub(super) fn program_told(
        &mut self,
        key: NodeKey,
        program: ProgramId,
        status: ProgramStatus,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(node) = self.nodes.get(&key) else { return };
        if !node.session().is_some_and(|session| session.may_tell_of(program)) {
            return;
        }
        // What does not start where it came from starts nowhere.
        if let ProgramStatus::Refused(refusal @ ProgramRefusal::DoesNotStart { .. }) = &status
            && node.kind == NodeKind::Local
        {
            let cause = FailureCause::ProgramRefused(Box::new(refusal.clone()));
            let failure = Failure { attempt: 0, node: node.name.clone(), cause };
            self.unrunnable.insert(program, failure);
            self.release_all(program);
            self.pinned.note_all();
        }
        let Some(session) = self.nodes.get_mut(&key).and_then(Node::session_mut) else { return };
        // Programs that are the same there share their fate: once is enough.
        let is_known = session.programs().values().any(|known| is_same_news(known, &status));
        match &status {
            ProgramStatus::Refused(refusal) if !is_known => {
                actions.push(Action::Report(Report::ProgramRefused(key, program, refusal.clone())));
            }
            ProgramStatus::Troubled { reason, .. } if !is_known => {
                actions.push(Action::Report(Report::NodeTroubled(key, NodeTrouble::Program(reason.clone()))));
            }
            _ => {}
        }
        session.learn_status(program, status);
        self.classify(key);
    }

    /// Puts a node with those that run the same programs.
    pub(super) fn classify(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        if let Some(load) = node.listed.take() {
            self.takers.remove(node.class, (load, key));
        }
        let runs = node.session().map(|session| session.runs()).unwrap_or_default();
        let class = self.takers.join(runs);
        self.takers.leave(std::mem::replace(&mut node.class, class));
        self.update_taker(key);
    }

    /// Number of jobs that wait for a program that no node runs, or may run soon.
    pub(super) fn stranded(&self) -> usize {
        let may_run = |program| self.nodes.values().any(|node: &Node| node.may_run(program));
        let stranded = self.queue.programs().filter(|program| !may_run(*program));
        stranded.map(|program| self.queue.len_of(program)).sum::<usize>() + self.stranded_pinned()
    }

    /// Whether jobs wait that no node will ever run.
    pub(super) fn has_unrunnable(&self) -> bool {
        let any_may_be = self.config.observer || !self.unrunnable.is_empty();
        any_may_be && self.queue.programs().any(|program| self.is_unrunnable(program))
    }

    /// Whether no node will ever run this program.
    pub(super) fn is_unrunnable(&self, program: ProgramId) -> bool {
        self.config.observer || self.unrunnable.contains_key(&program)
    }

    /// A job of this program is submitted: no node ever runs one that it is not offered.
    pub(super) fn expect_offered(&mut self, program: ProgramId) {
        if program != ProgramId::BUILT_IN && !self.config.programs.contains(&program) {
            let node = "this dispatcher".into();
            self.unrunnable.entry(program).or_insert(Failure {
                attempt: 0,
                node,
                cause: FailureCause::NotOffered,
            });
        }
    }

    /// Reason why no node will ever run this program.
    pub(super) fn why_unrunnable(&self, program: ProgramId) -> Option<Failure> {
        if !self.config.observer {
            return self.unrunnable.get(&program).cloned();
        }
        Some(Failure { attempt: 0, node: "this dispatcher".into(), cause: FailureCause::Observer })
    }

    /// Once it is known that no node will ever run a program, waiting would be for ever. So many jobs fail at once; the
    /// next tick is due at once while there are more.
    pub(super) fn fail_what_is_unrunnable(&mut self, actions: &mut Vec<Action<T>>) {
        if self.unrunnable.is_empty() && !self.config.observer {
            return;
        }
        for _ in 0..FAILED_AT_ONCE {
            let mut waiting = self.queue.programs();
            let doomed = waiting.find_map(|program| Some((program, self.why_unrunnable(program)?)));
            drop(waiting);
            let Some((program, failure)) = doomed else { return };
            let jobs = &self.jobs;
            let first = self.queue.line(program).take(|id| match jobs.find(id) {
                Some(_) => Verdict::Take,
                None => Verdict::Drop,
            });
            if let Some((id, job)) = first.and_then(|id| Some((id, self.jobs.remove(id)?))) {
                let outcome = JobOutcome::Lost(vec![failure]);
                self.resolve(id, job, outcome, None, Duration::ZERO, actions);
            }
        }
    }
}

/// Whether one who knows the first has not to be told of the second.
fn is_same_news(known: &ProgramStatus, told: &ProgramStatus) -> bool {
    match (known, told) {
        (ProgramStatus::Troubled { reason, .. }, ProgramStatus::Troubled { reason: told, .. }) => {
            reason == told
        }
        _ => known == told,
    }
}
