//! Run times of functions, as far as they were seen: they decide how much work is sent ahead.

use std::collections::BTreeMap;

use crate::FunctionId;
use crate::limits::FUNCTIONS_TIMED;

/// Smoothed run times in nanoseconds, of each function and of all together.
///
/// They rise fast and fall slowly: taking a job for shorter than it is costs more than the opposite.
///
/// ```
/// use pp_protocol::{FunctionId, RunTimes};
///
/// let (short, long) = (FunctionId(1), FunctionId(2));
/// let mut times = RunTimes::default();
/// times.learn(short, 1_000);
/// times.learn(long, 1_000_000);
/// assert_eq!((times.of(short), times.of(long), times.of(FunctionId(3))), (Some(1_000), Some(1_000_000), None));
/// assert_eq!(times.mean(), Some(500_500));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunTimes {
    /// Of the function that was learned of last, which is most often the next one, too. What `functions` has of it is
    /// out of date.
    last: Option<(FunctionId, u64)>,
    functions: BTreeMap<FunctionId, u64>,
    /// Of all together, once there is more than one.
    mean: Option<u64>,
}

impl RunTimes {
    /// Usual run time of an attempt of this function, in nanoseconds, if one was seen.
    pub fn of(&self, function: FunctionId) -> Option<u64> {
        match self.last {
            Some((last, time)) if last == function => Some(time),
            _ => self.functions.get(&function).copied(),
        }
    }

    /// Mean run time of the last attempts, whatever they called, in nanoseconds.
    pub fn mean(&self) -> Option<u64> {
        self.mean.or(self.last.map(|(_, time)| time))
    }

    /// The function that was learned of last.
    pub fn last(&self) -> Option<FunctionId> {
        self.last.map(|(function, _)| function)
    }

    /// Learns from one attempt, which ran so many nanoseconds.
    #[inline]
    pub fn learn(&mut self, function: FunctionId, run_time_ns: u64) {
        match &mut self.last {
            Some((last, time)) if *last == function => {
                *time = smoothed(*time, run_time_ns);
                if let Some(mean) = &mut self.mean {
                    *mean = smoothed(*mean, run_time_ns);
                }
            }
            _ => self.learn_of_another(function, run_time_ns),
        }
    }

    #[inline(never)]
    fn learn_of_another(&mut self, function: FunctionId, run_time_ns: u64) {
        if let Some((last, time)) = self.last {
            self.functions.insert(last, time);
            self.mean = Some(smoothed(self.mean.unwrap_or(time), run_time_ns));
        }
        let time = self.functions.get(&function).map_or(run_time_ns, |known| smoothed(*known, run_time_ns));
        self.last = Some((function, time));
        // Which one is forgotten hardly matters: it is seen again soon, or never.
        while self.functions.len() > FUNCTIONS_TIMED {
            self.functions.pop_first();
        }
    }
}

#[inline]
fn smoothed(known: u64, seen: u64) -> u64 {
    if seen > known { known.midpoint(seen) } else { known - (known - seen) / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_functions_are_known_than_the_limit_says() {
        let mut times = RunTimes::default();
        for function in 0..3 * FUNCTIONS_TIMED as u64 {
            times.learn(FunctionId(function), function);
            assert_eq!(times.of(FunctionId(function)), Some(function));
        }
        assert!(times.functions.len() <= FUNCTIONS_TIMED);
    }

    #[test]
    fn a_function_that_comes_again_is_still_known() {
        let mut times = RunTimes::default();
        for _ in 0..3 {
            times.learn(FunctionId(1), 800);
            times.learn(FunctionId(2), 16);
        }
        assert_eq!((times.of(FunctionId(1)), times.of(FunctionId(2))), (Some(800), Some(16)));
        times.learn(FunctionId(1), 0);
        assert_eq!(times.of(FunctionId(1)), Some(700), "it falls slowly");
        times.learn(FunctionId(1), 1_700);
        assert_eq!(times.of(FunctionId(1)), Some(1_200), "it rises fast");
    }
}
