//! How many attempts ended, and how: by the kinds of ends, and by classes of run times.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::OutcomeKind;

/// Upper bounds of the classes of run times, in milliseconds: each holds three times as much as the one before, about. What
/// takes longer than the last is in a class of its own.
pub const RUN_TIME_BOUNDS_MS: [u64; 13] =
    [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
/// Number of classes of run times.
pub const RUN_TIME_CLASSES: usize = RUN_TIME_BOUNDS_MS.len() + 1;
/// What takes at most this long is in the first class.
pub const FIRST_BOUND_NS: u64 = RUN_TIME_BOUNDS_MS[0] * 1_000_000;

/// Class of a run time. The upper bound belongs to it.
pub fn run_time_class(run_time_ns: u64) -> usize {
    RUN_TIME_BOUNDS_MS.partition_point(|bound| bound * 1_000_000 < run_time_ns)
}

/// Attempts that ended, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By [kind](OutcomeKind).
    pub outcomes: [u64; OutcomeKind::ALL.len()],
    /// Those that came to their end, whatever that was, by [class](run_time_class) of their run time. How long those ran that
    /// were stopped, or whose worker died, is not known.
    pub run_times: [u64; RUN_TIME_CLASSES],
    /// Total run time of these, in nanoseconds.
    pub run_time_ns: u64,
}

impl Tally {
    /// Number that ended so.
    pub fn of(&self, kind: OutcomeKind) -> u64 {
        self.outcomes[kind as usize]
    }

    /// Number of all that ended.
    pub fn ended(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Number that came to their end, whatever that was.
    pub fn ran(&self) -> u64 {
        self.run_times.iter().sum()
    }

    /// Total run time of these.
    pub fn run_time(&self) -> Duration {
        Duration::from_nanos(self.run_time_ns)
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(count, more)| *count += more);
        self.run_times.iter_mut().zip(other.run_times).for_each(|(count, more)| *count += more);
        self.run_time_ns = self.run_time_ns.saturating_add(other.run_time_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_class_and_what_is_longer_to_the_next() {
        let ms = 1_000_000;
        let classes =
            [0, 1, ms, ms + 1, 3 * ms, 1_000_000 * ms, 1_000_000 * ms + 1, u64::MAX].map(run_time_class);
        assert_eq!(classes, [0, 0, 0, 1, 1, 12, 13, 13]);
    }
}
