//! Random numbers from a seed: the same seed, the same numbers.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers that follow from the seed in an environment variable, or from a new one; it is printed, with how to
    /// repeat it.
    pub fn from_environment(variable: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let new = now.map_or(0, |since| since.as_nanos() as u64);
        let seed = std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(new);
        eprintln!("repeat with {variable}={seed}");
        Self::new(seed)
    }

    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "numbers have no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, each as likely.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let width = u128::from(range.end() - range.start()) + 1;
        range.start() + ((u128::from(self.next()) * width) >> 64) as u64
    }

    /// An index into something of that length, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.within(0..=length as u64 - 1) as usize
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.within(0..=99) < chance
    }

    /// A time between the two, each as likely.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_nanos(self.within(least.as_nanos() as u64..=most.as_nanos() as u64))
    }

    /// A time between the two, each order of magnitude as likely.
    pub fn magnitude(&mut self, least: Duration, most: Duration) -> Duration {
        let doublings = (most.as_nanos() / least.as_nanos().max(1)).max(1).ilog2();
        let base = least * 2_u32.pow(self.within(0..=u64::from(doublings)) as u32);
        self.time(base, base * 2).clamp(least, most)
    }
}
