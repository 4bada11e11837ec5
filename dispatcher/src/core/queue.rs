//! The queue of jobs that wait for a node: by priority, and within one in the order of submission; jobs that come back go in
//! front.
//!
//! Each program has a line of its own, since not every node runs every program. Of lines whose first jobs are of the same
//! priority, each has its turn.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use pp_protocol::{JobId, ProgramId};

/// Limit on returned jobs that should go elsewhere, and are passed over in the search for one that need not.
const PASSED_OVER: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// One for each program of which a job ever waited; few, so that they are looked through.
    lines: Vec<(ProgramId, Line)>,
    /// Rises with every turn that a line had.
    turn: u64,
}

/// Jobs of one program that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Jobs of the usual priority, which is 0.
    usual: Lane,
    /// Jobs of other priorities.
    urgent: BTreeMap<Reverse<i32>, Lane>,
    patient: BTreeMap<Reverse<i32>, Lane>,
    /// Jobs in all lanes, without those that were cancelled while they waited.
    waiting: usize,
    /// Number of its last turn.
    last_turn: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// Jobs that were tried before.
    again: VecDeque<JobId>,
    /// Jobs that were not.
    fresh: VecDeque<JobId>,
}

impl Queue {
    /// Number of jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(|(_, line)| line.waiting).sum()
    }

    /// Jobs in no particular order, among them those that were cancelled.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobId> {
        let lanes = self
            .lines
            .iter()
            .flat_map(|(_, line)| line.urgent.values().chain(line.patient.values()).chain([&line.usual]));
        lanes.flat_map(|lane| lane.again.iter().chain(&lane.fresh)).copied()
    }

    /// Number of jobs of a program that wait.
    pub(super) fn len_of(&self, program: ProgramId) -> usize {
        let line = self.lines.iter().find(|(known, _)| *known == program);
        line.map_or(0, |(_, line)| line.waiting)
    }

    /// Line of a program.
    #[inline]
    pub(super) fn line(&mut self, program: ProgramId) -> &mut Line {
        // In most dispatchers there is one.
        if self.lines.first().is_some_and(|(first, _)| *first == program) {
            return &mut self.lines[0].1;
        }
        self.other_line(program)
    }

    fn other_line(&mut self, program: ProgramId) -> &mut Line {
        let known = self.lines.iter().position(|(known, _)| *known == program);
        let place = known.unwrap_or_else(|| {
            self.lines.push((program, Line::default()));
            self.lines.len() - 1
        });
        &mut self.lines[place].1
    }

    /// The programs of which jobs wait.
    pub(super) fn programs(&self) -> impl Iterator<Item = ProgramId> {
        self.lines.iter().filter(|(_, line)| line.waiting > 0).map(|(program, _)| *program)
    }

    /// The program whose turn it is, of those for which `taker` finds one; with that.
    #[inline]
    pub(super) fn next_program<K>(
        &self,
        mut taker: impl FnMut(ProgramId) -> Option<K>,
    ) -> Option<(ProgramId, K)> {
        if let [(program, line)] = &self.lines[..] {
            return if line.waiting > 0 { Some((*program, taker(*program)?)) } else { None };
        }
        let waiting = self.lines.iter().filter(|(_, line)| line.waiting > 0);
        let taken = waiting.filter_map(|(program, line)| Some((line, *program, taker(*program)?)));
        let next = taken.min_by_key(|(line, ..)| (Reverse(line.top_priority()), line.last_turn));
        next.map(|(_, program, taker)| (program, taker))
    }

    /// The priority of what is first, of the programs of which this holds.
    pub(super) fn top_priority(&self, mut which: impl FnMut(ProgramId) -> bool) -> Option<i32> {
        let waiting = self.lines.iter().filter(|(program, line)| line.waiting > 0 && which(*program));
        waiting.map(|(_, line)| line.top_priority()).max()
    }

    /// The program has its turn.
    pub(super) fn takes_turn(&mut self, program: ProgramId) {
        self.turn += 1;
        let turn = self.turn;
        self.line(program).last_turn = turn;
    }
}

impl Line {
    /// Adds a job behind all others of its priority.
    #[inline]
    pub(super) fn push(&mut self, priority: i32, job: JobId) {
        self.waiting += 1;
        self.lane(priority).fresh.push_back(job);
    }

    /// Adds a job in front of all others of its priority.
    pub(super) fn push_front(&mut self, priority: i32, job: JobId) {
        self.waiting += 1;
        self.lane(priority).again.push_front(job);
    }

    /// A job that was in the queue is gone; its entry is dropped when its turn comes, or with all others.
    pub(super) fn forget_one(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            *self = Self { last_turn: self.last_turn, ..Self::default() };
        }
    }

    fn lane(&mut self, priority: i32) -> &mut Lane {
        match priority {
            0 => &mut self.usual,
            1.. => self.urgent.entry(Reverse(priority)).or_default(),
            _ => self.patient.entry(Reverse(priority)).or_default(),
        }
    }

    /// The priority of what is first, or was until it was cancelled.
    fn top_priority(&self) -> i32 {
        let first =
            |lanes: &BTreeMap<Reverse<i32>, Lane>| lanes.first_key_value().map(|(priority, _)| priority.0);
        first(&self.urgent)
            .unwrap_or_else(|| if self.usual.is_empty() { first(&self.patient).unwrap_or(0) } else { 0 })
    }

    /// Takes the first job that `verdict` accepts, if none that is to wait is before it.
    pub(super) fn take(&mut self, mut verdict: impl FnMut(JobId) -> Verdict) -> Option<JobId> {
        let mut search = || {
            if !self.urgent.is_empty() {
                take_from(&mut self.urgent, &mut verdict)?;
            }
            self.usual.take(&mut verdict)?;
            take_from(&mut self.patient, &mut verdict)
        };
        let taken = search().break_value().flatten();
        self.waiting -= usize::from(taken.is_some());
        taken
    }
}

/// Decision about a job whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Take it.
    Take,
    /// Leave it for another node, and go on to the next.
    Leave,
    /// Leave it, and all behind it.
    Wait,
    /// It ended while it waited.
    Drop,
}

/// Ends with the job that was taken, or with none if one is to wait.
type Search = ControlFlow<Option<JobId>>;

fn take_from(lanes: &mut BTreeMap<Reverse<i32>, Lane>, verdict: &mut impl FnMut(JobId) -> Verdict) -> Search {
    let search = lanes.values_mut().try_for_each(|lane| lane.take(verdict));
    while let Some(lane) = lanes.first_entry()
        && lane.get().is_empty()
    {
        lane.remove();
    }
    search
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_empty()
    }

    fn take(&mut self, verdict: &mut impl FnMut(JobId) -> Verdict) -> Search {
        let mut index = 0;
        while index < PASSED_OVER {
            let Some(job) = self.again.get(index).copied() else { break };
            match verdict(job) {
                Verdict::Take => return Search::Break(self.again.remove(index)),
                Verdict::Wait => return Search::Break(None),
                Verdict::Drop => drop(self.again.remove(index)),
                Verdict::Leave => index += 1,
            }
        }
        while let Some(job) = self.fresh.pop_front() {
            match verdict(job) {
                // Fresh jobs have not failed anywhere: there is no reason to leave one.
                Verdict::Take | Verdict::Leave => return Search::Break(Some(job)),
                Verdict::Wait => {
                    self.fresh.push_front(job);
                    return Search::Break(None);
                }
                Verdict::Drop => {}
            }
        }
        Search::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProgramId = ProgramId::FIRST;
    const B: ProgramId = ProgramId(2);

    fn job(place: u32) -> JobId {
        JobId::new(place, 0)
    }

    #[test]
    fn higher_priority_goes_first_and_what_comes_back_goes_in_front() {
        let mut queue = Queue::default();
        queue.line(A).push(0, job(1));
        queue.line(A).push(0, job(2));
        queue.line(A).push(5, job(3));
        queue.line(A).push(-5, job(5));
        queue.line(A).push(7, job(6));
        queue.line(A).push(-4, job(7));
        queue.line(A).push_front(0, job(4));
        let order: Vec<_> = std::iter::from_fn(|| queue.line(A).take(|_| Verdict::Take)).collect();
        assert_eq!(order, [6, 3, 4, 1, 2, 7, 5].map(job));
        assert_eq!((queue.len(), queue.next_program(|_| Some(()))), (0, None));
        let line = &queue.lines[0].1;
        assert!(line.urgent.is_empty() && line.patient.is_empty());
    }

    #[test]
    fn so_many_jobs_that_should_go_elsewhere_are_passed_over() {
        for (left, taken) in [(PASSED_OVER - 1, Some(job(0))), (PASSED_OVER, None)] {
            let mut queue = Queue::default();
            queue.line(A).push_front(0, job(0));
            (1..=left as u32).for_each(|place| queue.line(A).push_front(0, job(place)));
            let only_the_last = |id| if id == job(0) { Verdict::Take } else { Verdict::Leave };
            assert_eq!(queue.line(A).take(only_the_last), taken);
        }
    }

    #[test]
    fn a_program_has_had_its_turn_even_if_all_that_waited_of_it_was_cancelled() {
        let mut queue = Queue::default();
        [A, B].into_iter().for_each(|program| queue.line(program).push(0, job(0)));
        let next = |queue: &Queue| queue.next_program(|_| Some(())).map(|(program, ())| program);
        queue.takes_turn(B);
        queue.takes_turn(A);
        queue.line(A).forget_one();
        queue.line(A).push(0, job(1));
        assert_eq!(next(&queue), Some(B));
    }

    #[test]
    fn a_job_left_for_another_node_keeps_its_turn() {
        let mut queue = Queue::default();
        queue.line(A).push_front(0, job(1));
        queue.line(A).push(0, job(2));
        let avoid_one = |id| if id == job(1) { Verdict::Leave } else { Verdict::Take };
        assert_eq!(queue.line(A).take(avoid_one), Some(job(2)));
        assert_eq!(queue.line(A).take(avoid_one), None);
        assert_eq!(queue.line(A).take(|_| Verdict::Take), Some(job(1)));
    }

    #[test]
    fn nothing_is_taken_from_behind_a_job_that_is_to_wait() {
        let mut queue = Queue::default();
        queue.line(A).push(0, job(1));
        queue.line(A).push(0, job(2));
        queue.line(A).push(-1, job(3));
        let one_waits = |id| if id == job(1) { Verdict::Wait } else { Verdict::Take };
        assert_eq!((queue.line(A).take(one_waits), queue.len()), (None, 3));
        let order: Vec<_> = std::iter::from_fn(|| queue.line(A).take(|_| Verdict::Take)).collect();
        assert_eq!(order, [1, 2, 3].map(job));
    }

    #[test]
    fn programs_take_turns_unless_one_is_more_urgent() {
        let mut queue = Queue::default();
        (0..2).for_each(|place| queue.line(A).push(0, job(place)));
        (2..4).for_each(|place| queue.line(B).push(0, job(place)));
        queue.line(B).push(1, job(4));
        queue.line(B).push(-1, job(5));
        let order: Vec<_> = std::iter::from_fn(|| {
            let (program, ()) = queue.next_program(|_| Some(()))?;
            queue.takes_turn(program);
            queue.line(program).take(|_| Verdict::Take)
        })
        .collect();
        assert_eq!(order, [4, 0, 2, 1, 3, 5].map(job));
        queue.line(A).push(0, job(6));
        let only_b = |program| (program == B).then_some(());
        assert_eq!((queue.next_program(only_b), queue.len_of(A)), (None, 1));
        queue.line(A).forget_one();
        assert_eq!((queue.next_program(|_| Some(())), queue.len()), (None, 0));
    }
}
