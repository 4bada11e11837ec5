//! Outcomes of a session that have arrived, by their numbers.

use std::collections::BTreeMap;

/// Outcomes that have arrived: all before `next`, and those in `beyond`. Large ones may be overtaken by small.
#[derive(Debug, Default)]
pub(super) struct Received {
    next: u64,
    /// Start and end of each run of outcomes that arrived early.
    beyond: BTreeMap<u64, u64>,
}

impl Received {
    /// Notes that `count` outcomes from `first` on arrived.
    pub(super) fn note(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        if first > self.next {
            let known = self.beyond.entry(first).or_insert(end);
            *known = end.max(*known);
        } else {
            self.next = self.next.max(end);
        }
        while let Some(early) = self.beyond.first_entry()
            && *early.key() <= self.next
        {
            self.next = self.next.max(early.remove());
        }
    }

    /// Number of outcomes that arrived without a gap.
    pub(super) fn without_gap(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_that_overtook_others_count_once_the_gap_is_filled() {
        let mut received = Received::default();
        received.note(0, 2);
        received.note(3, 2);
        assert_eq!(received.without_gap(), 2);
        received.note(6, 1);
        received.note(2, 1);
        assert_eq!(received.without_gap(), 5);
        received.note(1, 3);
        received.note(5, 1);
        assert_eq!(received.without_gap(), 7);
        assert!(received.beyond.is_empty());
    }
}
