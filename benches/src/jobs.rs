//! Jobs of the benches.

use std::time::Duration;

use bytes::Bytes;
use pp_dispatcher::job;

#[job]
pub(crate) fn nothing() {}

#[job]
pub(crate) fn add_one(n: u64) -> u64 {
    n + 1
}

/// A chunk of calls of [`add_one`] as one job.
#[job]
pub(crate) fn add_one_to_each(numbers: Vec<u64>) -> Vec<u64> {
    numbers.into_iter().map(|n| n + 1).collect()
}

#[job]
pub(crate) fn echo(bytes: Bytes) -> Bytes {
    bytes
}

/// Keeps a core busy: so many steps of a generator of random numbers.
#[job]
pub(crate) fn spin(steps: u64) -> u64 {
    (0..steps).fold(0x9e37_79b9, |state: u64, _| {
        std::hint::black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1)
    })
}

/// Takes so long, and yields when it started.
#[job]
pub(crate) fn started_at(milliseconds: u64) -> u64 {
    let started = monotonic_ns();
    std::thread::sleep(Duration::from_millis(milliseconds));
    started
}

/// Takes so long, or no time at all.
#[job]
pub(crate) fn nap(milliseconds: u64) {
    if milliseconds > 0 {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
}

/// Nanoseconds of a clock that all processes of this machine share.
pub(crate) fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Environment variable of a node: how many times longer its jobs take.
pub(crate) const SLOWNESS: &str = "BENCH_SLOWNESS";

/// Takes so long on a node of ordinary speed.
#[job]
pub(crate) fn take(milliseconds: u64) {
    let slowness: u32 = std::env::var(SLOWNESS).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    std::thread::sleep(Duration::from_millis(milliseconds) * slowness);
}
