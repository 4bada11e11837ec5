//! Attempts of a session that wait for a worker: taken from the front, given back there, taken out by identifier.
//!
//! Nearly all of them leave at the front, so identifiers are indexed only once one is looked for: each attempt once,
//! however many are taken out one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use pp_protocol::{Attempt, AttemptId};

/// The number of the first place of an empty queue: as far from the ends as can be.
const MIDDLE: u64 = 1 << 63;
/// Gaps and outdated entries of the index are worth no thought up to this number.
const FEW: usize = 64;

#[derive(Debug)]
pub(super) struct Queue {
    /// With those that were taken out, which have lost their arguments. The first one was not.
    places: VecDeque<Attempt>,
    /// The number of the first place; the others count on.
    first: u64,
    /// Places whose attempts were taken out.
    gaps: BTreeSet<u64>,
    /// Places of attempts. Entries of those that left at the front stay for a while.
    index: BTreeMap<AttemptId, u64>,
    /// The places of which the index knows.
    indexed: Range<u64>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            first: MIDDLE,
            gaps: BTreeSet::new(),
            index: BTreeMap::new(),
            indexed: MIDDLE..MIDDLE,
        }
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.gaps.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attempt> {
        let numbered = (self.first..).zip(&self.places);
        numbered.filter(|(number, _)| !self.gaps.contains(number)).map(|(_, attempt)| attempt)
    }

    pub(super) fn front(&self) -> Option<&Attempt> {
        self.places.front()
    }

    /// Adds attempts at the end.
    pub(super) fn extend(&mut self, attempts: Vec<Attempt>) {
        if self.is_empty() && !self.index.is_empty() {
            self.forget_index();
        }
        self.places.extend(attempts);
    }

    pub(super) fn push_front(&mut self, attempt: Attempt) {
        // What is known of this place is of one that has left.
        self.forget_what_left();
        self.first -= 1;
        self.places.push_front(attempt);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Attempt> {
        let attempt = self.places.pop_front();
        self.first += u64::from(attempt.is_some());
        if !self.gaps.is_empty() {
            self.drop_gaps_in_front();
        }
        attempt
    }

    /// Takes out an attempt, wherever it is.
    pub(super) fn take_out(&mut self, id: AttemptId) -> Option<Attempt> {
        self.index_the_rest();
        let number = self.index.remove(&id)?;
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let kept = self.places.get_mut(place).filter(|kept| kept.id == id)?;
        let attempt = Attempt { args: std::mem::take(&mut kept.args), ..*kept };
        self.gaps.insert(number);
        self.drop_gaps_in_front();
        if self.gaps.len() > self.len() + FEW {
            self.close_gaps();
        }
        Some(attempt)
    }

    /// Takes out all attempts, in order.
    pub(super) fn take_all(&mut self) -> VecDeque<Attempt> {
        self.close_gaps();
        std::mem::take(self).places
    }

    fn drop_gaps_in_front(&mut self) {
        while self.gaps.first() == Some(&self.first) {
            self.gaps.pop_first();
            self.places.pop_front();
            self.first += 1;
        }
    }

    fn close_gaps(&mut self) {
        let mut number = self.first;
        let gaps = std::mem::take(&mut self.gaps);
        self.places.retain(|_| {
            number += 1;
            !gaps.contains(&(number - 1))
        });
        self.forget_index();
    }

    fn index_the_rest(&mut self) {
        if self.index.len() > 2 * self.places.len() + FEW {
            self.forget_index();
        }
        self.forget_what_left();
        let end = self.first + self.places.len() as u64;
        for numbers in [self.first..self.indexed.start, self.indexed.end..end] {
            let places = (numbers.start - self.first) as usize..(numbers.end - self.first) as usize;
            let numbered = numbers.zip(self.places.range(places));
            let present = numbered.filter(|(number, _)| !self.gaps.contains(number));
            self.index.extend(present.map(|(number, attempt)| (attempt.id, number)));
        }
        self.indexed = self.first..end;
    }

    fn forget_what_left(&mut self) {
        self.indexed = self.indexed.start.max(self.first)..self.indexed.end.max(self.first);
    }

    fn forget_index(&mut self) {
        self.index.clear();
        self.indexed = self.first..self.first;
    }

    pub(super) fn check_invariants(&self) {
        let end = self.first + self.places.len() as u64;
        assert!(
            self.gaps.range(..=self.first).chain(self.gaps.range(end..)).next().is_none(),
            "gaps are in the queue, and not in front"
        );
    }
}

#[cfg(test)]
mod tests {
    use pp_protocol::{FunctionId, JobId, Payload, ProgramId};

    use super::*;

    fn id(place: u32) -> AttemptId {
        AttemptId { job: JobId::new(place, 0), number: 1 }
    }

    fn attempt(place: u32) -> Attempt {
        Attempt {
            id: id(place),
            program: ProgramId::FIRST,
            function: FunctionId(1),
            time_limit_ns: 0,
            args: Payload::default(),
        }
    }

    /// Against a queue that looks at every place each time.
    #[test]
    fn what_is_taken_out_wherever_it_is_leaves_the_others_in_order() {
        for seed in 1..=16_u64 {
            let (mut queue, mut model) = (Queue::default(), VecDeque::<u32>::new());
            let (mut left, mut next, mut state) = (Vec::new(), 0, seed);
            // xorshift64
            let mut random = move |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % below as u64) as usize
            };
            for step in 0..500 {
                match random(8) {
                    0 => {
                        let count = random(40) as u32;
                        queue.extend((next..next + count).map(attempt).collect());
                        model.extend(next..next + count);
                        next += count;
                    }
                    1..=3 => {
                        let taken = queue.pop_front().map(|attempt| attempt.id);
                        let expected = model.pop_front();
                        assert_eq!(taken, expected.map(id), "seed {seed}, step {step}");
                        left.extend(expected);
                    }
                    4 if !left.is_empty() => {
                        let back = left.swap_remove(random(left.len()));
                        queue.push_front(attempt(back));
                        model.push_front(back);
                    }
                    _ => {
                        let wanted = random(next as usize + 1) as u32;
                        let at = model.iter().position(|known| *known == wanted);
                        let taken = queue.take_out(id(wanted)).map(|attempt| attempt.id);
                        assert_eq!(taken, at.map(|_| id(wanted)), "seed {seed}, step {step}");
                        left.extend(at.and_then(|at| model.remove(at)));
                    }
                }
                queue.check_invariants();
                let all: Vec<_> = queue.iter().map(|attempt| attempt.id).collect();
                let expected: Vec<_> = model.iter().map(|place| id(*place)).collect();
                assert_eq!(all, expected, "seed {seed}, step {step}");
                assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
                assert!(queue.places.len() <= 2 * model.len() + FEW + 1, "gaps are few");
                assert!(queue.index.len() <= 2 * queue.places.len() + FEW + 40, "the index is small");
            }
        }
    }

    #[test]
    fn gaps_are_closed_before_they_are_most_of_a_queue() {
        // Those at the end are taken out, and some leave at the front.
        let mut queue = Queue::default();
        queue.extend((0..400).map(attempt).collect());
        (200..400).for_each(|place| assert!(queue.take_out(id(place)).is_some()));
        (0..150).for_each(|place| assert_eq!(queue.pop_front().map(|taken| taken.id), Some(id(place))));
        assert_eq!((queue.places.len(), queue.len()), (250, 50));
        assert!(queue.take_out(id(160)).is_some());
        assert_eq!((queue.places.len(), queue.gaps.len()), (49, 0));
        let left = (150..160).chain(161..200);
        assert!(queue.iter().map(|attempt| attempt.id).eq(left.clone().map(id)));
        assert!(queue.take_out(id(170)).is_some(), "they are found where they are now");
        let left = left.filter(|place| *place != 170);
        assert!(queue.take_all().into_iter().map(|attempt| attempt.id).eq(left.map(id)), "and no gap is one");
    }

    #[test]
    fn an_index_is_kept_until_most_of_it_is_outdated() {
        let mut queue = Queue::default();
        queue.extend((0..1_000).map(attempt).collect());
        assert!(queue.take_out(id(500)).is_some());
        queue.extend((1_000..1_001).map(attempt).collect());
        assert_eq!(queue.index.len(), 999);
        (0..500).for_each(|_| drop(queue.pop_front()));
        assert!(queue.take_out(id(600)).is_some());
        assert_eq!(queue.index.len(), 999, "the new one, without the one taken out");
        (0..400).for_each(|_| drop(queue.pop_front()));
        assert!(queue.take_out(id(950)).is_some());
        assert_eq!(queue.index.len(), queue.len(), "made anew");
        while queue.pop_front().is_some() {}
        queue.extend(vec![attempt(2_000)]);
        assert_eq!(queue.index.len(), 0, "nothing in it was in the queue any more");
    }

    #[test]
    #[should_panic(expected = "gaps are in the queue, and not in front")]
    fn a_gap_where_there_can_be_none_is_noticed() {
        let mut queue = Queue::default();
        queue.gaps.insert(MIDDLE);
        queue.check_invariants();
    }

    #[test]
    fn every_attempt_is_indexed_once_however_many_are_taken_out() {
        let mut queue = Queue::default();
        queue.extend((0..10_000).map(attempt).collect());
        assert!(queue.take_out(id(9_999)).is_some());
        for place in (0..9_000).rev() {
            assert_eq!(queue.index.len() + queue.gaps.len(), 10_000, "nothing is looked at again");
            if queue.gaps.len() > queue.len() {
                break;
            }
            assert!(queue.take_out(id(place)).is_some());
            assert!(queue.take_out(id(place)).is_none());
        }
    }
}
