//! The queue of jobs that wait for a node: by priority, and within one in the order of submission; jobs that come back go in
//! front.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use pp_protocol::JobId;

/// Limit on returned jobs that should go elsewhere, and are passed over in the search for one that need not.
const PASSED_OVER: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Jobs of the usual priority, which is 0.
    usual: Lane,
    /// Jobs of other priorities.
    urgent: BTreeMap<Reverse<i32>, Lane>,
    patient: BTreeMap<Reverse<i32>, Lane>,
    /// Jobs in all lanes, without those that were cancelled while they waited.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Jobs that were tried before.
    again: VecDeque<JobId>,
    /// Jobs that were not.
    fresh: VecDeque<JobId>,
}

impl Queue {
    /// Number of jobs.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Jobs in no particular order, among them those that were cancelled.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobId> {
        let lanes = self.urgent.values().chain(self.patient.values()).chain([&self.usual]);
        lanes.flat_map(|lane| lane.again.iter().chain(&lane.fresh)).copied()
    }

    /// Adds a job behind all others of its priority.
    pub(super) fn push(&mut self, priority: i32, job: JobId) {
        self.waiting += 1;
        self.lane(priority).fresh.push_back(job);
    }

    /// Adds a job in front of all others of its priority.
    pub(super) fn push_front(&mut self, priority: i32, job: JobId) {
        self.waiting += 1;
        self.lane(priority).again.push_front(job);
    }

    fn lane(&mut self, priority: i32) -> &mut Lane {
        match priority {
            0 => &mut self.usual,
            1.. => self.urgent.entry(Reverse(priority)).or_default(),
            _ => self.patient.entry(Reverse(priority)).or_default(),
        }
    }

    /// A job that was in the queue is gone; its entry is dropped when its turn comes, or with all others.
    pub(super) fn forget_one(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            *self = Self::default();
        }
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
        && lane.get().again.is_empty()
        && lane.get().fresh.is_empty()
    {
        lane.remove();
    }
    search
}

impl Lane {
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

    fn job(place: u32) -> JobId {
        JobId::new(place, 0)
    }

    #[test]
    fn higher_priority_goes_first_and_what_comes_back_goes_in_front() {
        let mut queue = Queue::default();
        queue.push(0, job(1));
        queue.push(0, job(2));
        queue.push(5, job(3));
        queue.push(-5, job(5));
        queue.push(7, job(6));
        queue.push(-4, job(7));
        queue.push_front(0, job(4));
        let order: Vec<_> = std::iter::from_fn(|| queue.take(|_| Verdict::Take)).collect();
        assert_eq!(order, [6, 3, 4, 1, 2, 7, 5].map(job));
        assert_eq!(queue.len(), 0);
        assert!(queue.urgent.is_empty() && queue.patient.is_empty());
    }

    #[test]
    fn a_job_left_for_another_node_keeps_its_turn() {
        let mut queue = Queue::default();
        queue.push_front(0, job(1));
        queue.push(0, job(2));
        let avoid_one = |id| if id == job(1) { Verdict::Leave } else { Verdict::Take };
        assert_eq!(queue.take(avoid_one), Some(job(2)));
        assert_eq!(queue.take(avoid_one), None);
        assert_eq!(queue.take(|_| Verdict::Take), Some(job(1)));
    }

    #[test]
    fn nothing_is_taken_from_behind_a_job_that_is_to_wait() {
        let mut queue = Queue::default();
        queue.push(0, job(1));
        queue.push(0, job(2));
        queue.push(-1, job(3));
        let one_waits = |id| if id == job(1) { Verdict::Wait } else { Verdict::Take };
        assert_eq!((queue.take(one_waits), queue.len()), (None, 3));
        let order: Vec<_> = std::iter::from_fn(|| queue.take(|_| Verdict::Take)).collect();
        assert_eq!(order, [1, 2, 3].map(job));
    }
}
