//! Random numbers from a seed: the same seed, the same numbers.

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which must not be 0, each as likely.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
impl Random {
    /// Numbers that follow from the seed in `PP_SEED`, or from a new one; it is printed, with how to repeat it.
    pub(crate) fn of_this_run() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let new = now.map_or(0, |since| since.as_nanos() as u64);
        let seed = std::env::var("PP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(new);
        eprintln!("repeat with PP_SEED={seed}");
        Self::new(seed)
    }

    /// Up to `most` bytes of these.
    pub(crate) fn bytes(&mut self, most: usize, of: &[u8]) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| of[self.below(of.len())]).collect()
    }
}
