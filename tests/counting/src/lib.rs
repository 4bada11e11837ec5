//! Memory that a thread takes for something, for tests of what is decoded: a peer decides what is in it.
//!
//! A test binary makes [`Counting`] its allocator and asks [`peak_of`] about one call after the other. Each thread has counts
//! of its own, so that tests may run at once. What is mapped without the allocator (the arena of large payloads) does not count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Most memory that decoding `input` bytes may take.
///
/// ```
/// assert_eq!(pp_counting::allowed(2), (1 << 20) + 128);
/// ```
pub const fn allowed(input: usize) -> usize {
    64 * input + (1 << 20)
}

/// The system's allocator, counting.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    /// Bytes that this thread has taken and not given back; it may have given back another one's.
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    /// Most that it was since this was last set.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn took(bytes: isize) {
    // It fails while the thread ends, when nobody asks any more.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(taken.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: everything is left to the system's allocator; what is counted allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size().cast_signed());
        // SAFETY: as this was called.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size().cast_signed());
        // SAFETY: as this was called.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        took(-layout.size().cast_signed());
        // SAFETY: as this was called.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while it is moved.
        took(size.cast_signed());
        took(-layout.size().cast_signed());
        // SAFETY: as this was called.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Result of a call, and the most memory that this thread had in use for it.
pub fn peak_of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.get();
    PEAK.set(before);
    let result = call();
    (result, (PEAK.get() - before).max(0).cast_unsigned())
}

/// Random numbers that a seed decides (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next one, below `limit`.
    ///
    /// ```
    /// assert!(pp_counting::Random(1).below(10) < 10);
    /// ```
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }

    /// Bytes that a peer could have made of `bytes`: some are others, some are missing, some are there twice, numbers are
    /// as large as they get.
    pub fn spoiled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut spoiled = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(spoiled.len());
            match self.below(8) {
                0 => spoiled.truncate(place),
                1 => spoiled.extend_from_within(place..),
                2 => drop(spoiled.splice(place..place, [0xfd, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0])),
                3 => drop(spoiled.splice(place..place, [0xff, 0xff, 0xff, 0xff, 0x0f])),
                4 => drop(spoiled.splice(place..place, [0xfc, 0, 0x10, 0, 0])),
                5 => {
                    let fill = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                    let count = 1 << self.below(15);
                    drop(spoiled.splice(place..place, std::iter::repeat_n(fill, count)));
                }
                _ => {
                    let byte = self.below(256) as u8;
                    spoiled.get_mut(place).into_iter().for_each(|it| *it = byte);
                }
            }
        }
        spoiled
    }
}
