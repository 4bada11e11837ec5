//! Lanes: what a session wants to be run of each of its programs. Each has workers of its own.

use pp_protocol::{Attempt, AttemptId, ProgramId, ProgramRefusal};

use super::queue::Queue;
use super::{Program, SessionKey};

/// A program of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) session: SessionKey,
    pub(super) program: ProgramId,
}

/// The lanes of a session: few, so that they are looked through. The node's own functions are always there.
#[derive(Debug)]
pub(super) struct Lanes(Vec<Lane>);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: ProgramId,
    /// File name of its program, for people.
    pub(super) name: String,
    /// Program that its workers run.
    pub(super) program: LaneProgram,
    /// Attempts waiting for a worker, in order.
    queue: Queue,
    /// Workers holding its attempts.
    pub(super) slots_used: usize,
    /// Turn of the node in which it was last given a worker.
    pub(super) last_turn: u64,
    /// Whether a worker gets one attempt only, which is never taken back, since one gave back even its first: it had not
    /// arrived, or the worker had not come to it. Until something ends.
    pub(super) singly: bool,
}

/// Program of a lane, if it may run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LaneProgram {
    /// This program, as far as the node has it.
    Runs(Program),
    /// Nothing: none of the builds that were offered runs here.
    Refused(ProgramRefusal),
}

impl Default for Lanes {
    fn default() -> Self {
        Self(vec![Lane::new(ProgramId::BUILT_IN, String::new(), LaneProgram::Runs(Program::Own))])
    }
}

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Attempts that wait in all of them.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.0.iter().map(Lane::queued).sum()
    }

    /// Whether any attempt waits.
    #[inline]
    pub(super) fn any_waits(&self) -> bool {
        self.0.iter().any(|lane| !lane.is_empty())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter()
    }

    #[inline]
    pub(super) fn get(&self, id: ProgramId) -> Option<&Lane> {
        self.0.iter().find(|lane| lane.id == id)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ProgramId) -> Option<&mut Lane> {
        self.0.iter_mut().find(|lane| lane.id == id)
    }

    /// There is a program of this number, or it has changed.
    pub(super) fn set(&mut self, id: ProgramId, name: String, program: LaneProgram) {
        match self.get_mut(id) {
            Some(lane) => (lane.name, lane.program) = (name, program),
            None => self.0.push(Lane::new(id, name, program)),
        }
    }

    /// Attempts of one program come last. Yields them if it was never offered.
    pub(super) fn extend(&mut self, id: ProgramId, attempts: Vec<Attempt>) -> Result<(), Vec<Attempt>> {
        match self.get_mut(id) {
            Some(lane) => lane.queue.extend(attempts),
            None => return Err(attempts),
        }
        Ok(())
    }

    /// An attempt that came back from a worker is the next one of its lane. If not even the worker's first was begun, the
    /// lane's attempts are given out one by one for a while.
    pub(super) fn put_back(&mut self, attempt: Attempt, none_was_begun: bool) {
        if let Some(lane) = self.get_mut(attempt.program) {
            lane.queue.push_front(attempt);
            lane.singly |= none_was_begun;
        }
    }

    /// Takes out an attempt, wherever it waits.
    pub(super) fn take_out(&mut self, id: AttemptId) -> Option<Attempt> {
        let mut waiting = self.0.iter_mut().filter(|lane| !lane.queue.is_empty());
        waiting.find_map(|lane| lane.queue.take_out(id))
    }

    /// Takes out all that waits in the lanes of which this holds.
    pub(super) fn take_all(&mut self, which: impl Fn(&Lane) -> bool) -> Vec<Attempt> {
        let lanes = self.0.iter_mut().filter(|lane| !lane.queue.is_empty() && which(lane));
        lanes.flat_map(|lane| lane.queue.take_all()).collect()
    }

    pub(super) fn check_invariants(&self) {
        self.0.iter().for_each(|lane| lane.queue.check_invariants());
    }
}

impl Lane {
    fn new(id: ProgramId, name: String, program: LaneProgram) -> Self {
        Self { id, name, program, queue: Queue::default(), slots_used: 0, last_turn: 0, singly: false }
    }

    /// Number of its attempts that wait.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Attempts of it that wait, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Attempt> {
        self.queue.iter()
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Attempt> {
        self.queue.front()
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Attempt> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The program that can be run, if it can.
    pub(super) fn runs(&self) -> Option<Program> {
        match self.program {
            LaneProgram::Runs(program) => Some(program),
            LaneProgram::Refused(_) => None,
        }
    }
}
