//! Jobs waiting for a node: by priority, and within one in the order of submission; what comes back goes in front.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use pp_protocol::JobId;

/// How many returned jobs that should go elsewhere are passed over in the search for one that need not.
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
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
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

    /// A job that was in the queue is gone; its entry is dropped when its turn comes.
    pub(super) fn forget_one(&mut self) {
        self.waiting -= 1;
    }

    /// Takes the first job that `verdict` accepts.
    pub(super) fn take(&mut self, mut verdict: impl FnMut(JobId) -> Verdict) -> Option<JobId> {
        let taken = take_from(&mut self.urgent, &mut verdict)
            .or_else(|| self.usual.take(&mut verdict))
            .or_else(|| take_from(&mut self.patient, &mut verdict));
        self.waiting -= usize::from(taken.is_some());
        taken
    }
}

/// What to do with a job whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Take it.
    Take,
    /// Leave it for another node.
    Leave,
    /// It ended while it waited.
    Drop,
}

fn take_from(
    lanes: &mut BTreeMap<Reverse<i32>, Lane>,
    verdict: &mut impl FnMut(JobId) -> Verdict,
) -> Option<JobId> {
    let taken = lanes.values_mut().find_map(|lane| lane.take(verdict));
    while let Some(lane) = lanes.first_entry()
        && lane.get().again.is_empty()
        && lane.get().fresh.is_empty()
    {
        lane.remove();
    }
    taken
}

impl Lane {
    fn take(&mut self, verdict: &mut impl FnMut(JobId) -> Verdict) -> Option<JobId> {
        let mut index = 0;
        while index < PASSED_OVER {
            let Some(job) = self.again.get(index).copied() else { break };
            match verdict(job) {
                Verdict::Take => return self.again.remove(index),
                Verdict::Drop => drop(self.again.remove(index)),
                Verdict::Leave => index += 1,
            }
        }
        // Fresh jobs have not failed anywhere: there is no reason to leave one.
        while let Some(job) = self.fresh.pop_front() {
            if verdict(job) != Verdict::Drop {
                return Some(job);
            }
        }
        None
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
}
