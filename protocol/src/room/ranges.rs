//! Free parts of an arena, and those of them that hold memory that has been used.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Free ranges that were used within so short a time of each other are kept as one.
const SAME_TIME: Duration = Duration::from_millis(250);

/// The free ranges of an arena. Ranges are taken where they fit first, so that what was used is used again.
#[derive(Debug)]
pub(super) struct Ranges {
    /// By where they begin.
    free: BTreeMap<usize, Free>,
    /// Bytes of free ranges that hold memory.
    used_bytes: usize,
    /// No range that holds memory was used before this.
    oldest: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: usize,
    /// Time of its last use, if it holds memory; no range holds some that was used earlier than told here.
    used: Option<Instant>,
}

impl Free {
    /// Whether it is kept as one with a free range beside it.
    fn is_like(&self, other: &Self) -> bool {
        match (self.used, other.used) {
            (None, None) => true,
            (Some(one), Some(other)) => one.max(other) - one.min(other) < SAME_TIME,
            _ => false,
        }
    }
}

impl Ranges {
    /// All of it is free, and none was used.
    pub(super) fn new(bytes: usize) -> Self {
        let all = Free { bytes, used: None };
        Self { free: BTreeMap::from([(0, all)]), used_bytes: 0, oldest: None }
    }

    /// Bytes of free ranges that hold memory.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Takes a range of so many bytes; `None` if there is none. Yields where it begins.
    pub(super) fn take(&mut self, bytes: usize) -> Option<usize> {
        let (mut begin, mut end) = (0, 0);
        let found = self.free.iter().any(|(start, free)| {
            if *start != end {
                begin = *start;
            }
            end = start + free.bytes;
            end - begin >= bytes
        });
        found.then(|| {
            self.carve(begin, bytes);
            begin
        })
    }

    /// Takes so many bytes that begin at `start`, if they are free.
    pub(super) fn take_at(&mut self, start: usize, bytes: usize) -> bool {
        let mut end = start;
        for (next, free) in self.free.range(start..) {
            if *next != end || end - start >= bytes {
                break;
            }
            end += free.bytes;
        }
        let fits = end - start >= bytes;
        if fits {
            self.carve(start, bytes);
        }
        fits
    }

    /// Takes away what is free; a free range begins at `start`.
    fn carve(&mut self, start: usize, bytes: usize) {
        let end = start + bytes;
        let mut at = start;
        while at < end {
            let Some(free) = self.free.remove(&at) else { return };
            if free.used.is_some() {
                self.used_bytes -= free.bytes;
            }
            let next = at + free.bytes;
            if next > end {
                self.insert(end, Free { bytes: next - end, used: free.used });
            }
            at = next;
        }
    }

    /// A range is free again. `used` tells when it was used, if it holds memory.
    pub(super) fn give_back(&mut self, range: Range<usize>, used: Option<Instant>) {
        if !range.is_empty() {
            self.insert(range.start, Free { bytes: range.len(), used });
        }
    }

    fn insert(&mut self, mut start: usize, mut free: Free) {
        if let Some(used) = free.used {
            self.used_bytes += free.bytes;
            self.oldest = Some(self.oldest.map_or(used, |oldest| oldest.min(used)));
        }
        let next = start + free.bytes;
        if let Some(after) = self.free.get(&next).copied().filter(|after| after.is_like(&free)) {
            self.free.remove(&next);
            free = Free { bytes: free.bytes + after.bytes, used: free.used.min(after.used) };
        }
        let before = self.free.range(..start).next_back().map(|(start, before)| (*start, *before));
        if let Some((earlier, before)) = before
            && earlier + before.bytes == start
            && before.is_like(&free)
        {
            start = earlier;
            free = Free { bytes: before.bytes + free.bytes, used: free.used.min(before.used) };
        }
        self.free.insert(start, free);
    }

    /// Last use of the range that was used longest ago, or a little before.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Takes the ranges that hold memory and were used no later than `until`.
    pub(super) fn take_used(&mut self, until: Instant) -> Vec<Range<usize>> {
        let is_old = |free: &Free| free.used.is_some_and(|used| used <= until);
        let old: Vec<_> =
            self.free.iter().filter(|(_, free)| is_old(free)).map(|(start, _)| *start).collect();
        let taken = old.into_iter().filter_map(|start| Some(start..start + self.free.remove(&start)?.bytes));
        let taken: Vec<_> = taken.collect();
        self.used_bytes -= taken.iter().map(Range::len).sum::<usize>();
        self.oldest = self.free.values().filter_map(|free| free.used).min();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_used_again_and_what_is_free_is_one_range_in_the_end() {
        let now = Instant::now();
        let mut ranges = Ranges::new(100);
        assert_eq!([10, 20, 30].map(|bytes| ranges.take(bytes)), [Some(0), Some(10), Some(30)]);
        assert_eq!(ranges.take(41), None);
        ranges.give_back(10..30, Some(now));
        assert_eq!(ranges.used_bytes(), 20);
        assert_eq!(ranges.take(15), Some(10));
        assert_eq!(ranges.used_bytes(), 5);
        for range in [0..10, 30..60, 10..25] {
            ranges.give_back(range, Some(now));
        }
        assert_eq!((ranges.used_bytes(), ranges.oldest()), (60, Some(now)));
        assert_eq!(ranges.take(100), Some(0), "used or not, what lies together is one");
        assert_eq!(ranges.used_bytes(), 0);
    }

    #[test]
    fn a_range_grows_where_it_is_if_what_follows_is_free() {
        let mut ranges = Ranges::new(100);
        assert_eq!([10, 10].map(|bytes| ranges.take(bytes)), [Some(0), Some(10)]);
        assert!(!ranges.take_at(10, 5), "it is taken");
        assert!(ranges.take_at(20, 30));
        ranges.give_back(10..20, Some(Instant::now()));
        assert!(!ranges.take_at(10, 11) && ranges.take_at(10, 10));
        assert!(!ranges.take_at(50, 51) && ranges.take_at(50, 50));
    }

    #[test]
    fn only_what_was_not_used_for_long_is_taken_as_such() {
        let early = Instant::now();
        let late = early + 4 * SAME_TIME;
        let mut ranges = Ranges::new(100);
        ranges.take(100);
        ranges.give_back(0..10, Some(early));
        ranges.give_back(10..20, Some(late));
        ranges.give_back(20..30, Some(early));
        assert_eq!(ranges.take_used(early), [0..10, 20..30]);
        assert_eq!((ranges.used_bytes(), ranges.oldest()), (10, Some(late)));
        ranges.give_back(0..10, None);
        ranges.give_back(20..30, None);
        assert_eq!(ranges.take_used(late).first(), Some(&(10..20)));
        assert_eq!((ranges.used_bytes(), ranges.oldest()), (0, None));
    }

    /// Ranges are taken and given back at random; none is ever given out twice, and in the end all is free.
    #[test]
    fn no_byte_is_given_out_twice() {
        let seed = std::env::var("PP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7_u64);
        println!("PP_SEED={seed}");
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        const BYTES: usize = 4_096;
        let (mut ranges, mut owner, mut taken) = (Ranges::new(BYTES), vec![false; BYTES], Vec::new());
        let mut now = Instant::now();
        for _ in 0..20_000 {
            now += Duration::from_millis(random(100) as u64);
            match random(5) {
                0 | 1 => {
                    let bytes = 1 + random(300);
                    if let Some(start) = ranges.take(bytes) {
                        taken.push(start..start + bytes);
                        owner[start..start + bytes].iter_mut().for_each(|is_owned| {
                            assert!(!std::mem::replace(is_owned, true), "given out twice");
                        });
                    }
                }
                2 | 3 if !taken.is_empty() => {
                    let range = taken.swap_remove(random(taken.len()));
                    owner[range.clone()].fill(false);
                    ranges.give_back(range, Some(now));
                }
                _ => {
                    for range in ranges.take_used(now - 8 * SAME_TIME) {
                        assert!(!owner[range.clone()].contains(&true));
                        ranges.give_back(range, None);
                    }
                }
            }
        }
        taken.into_iter().for_each(|range| ranges.give_back(range, None));
        assert_eq!(ranges.take(BYTES), Some(0));
    }
}
