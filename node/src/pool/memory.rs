//! Whether memory ran out: the kernel kills processes for that, and processes that may have no more end themselves.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Workers that died so soon after each other died of the same lack.
const SAME_LACK: Duration = Duration::from_secs(1);

/// Number of times the kernel had killed for lack of memory at the last look, and the time when that last rose.
static KILLS: Mutex<(Option<u64>, Option<Instant>)> = Mutex::new((None, None));

/// Notes how things stand before a worker starts.
pub(super) fn look() {
    let mut kills = KILLS.lock().unwrap_or_else(PoisonError::into_inner);
    if kills.0.is_none() {
        kills.0 = count();
    }
}

/// Whether a worker that was just killed, and not by the node, was killed for lack of memory.
pub(super) fn ran_out() -> bool {
    let Some(now) = count() else { return false };
    let mut kills = KILLS.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, rose) = &mut *kills;
    if before.replace(now).is_some_and(|before| now > before) {
        *rose = Some(Instant::now());
    }
    rose.is_some_and(|rose| rose.elapsed() < SAME_LACK)
}

/// Whether a process that ended itself did so for lack of memory: its last words, if it was written in Rust or C++.
pub(super) fn is_lack(last_words: &str) -> bool {
    last_words.starts_with("memory allocation of ") && last_words.ends_with(" bytes failed")
        || last_words.contains("std::bad_alloc")
}

/// The kernel's count of such kills: of all processes of the machine, whether the machine or a cgroup ran out.
fn count() -> Option<u64> {
    let statistics = std::fs::read_to_string("/proc/vmstat").ok()?;
    statistics.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}
