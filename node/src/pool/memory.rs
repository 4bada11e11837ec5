//! Whether the kernel kills processes because memory runs out.

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

/// The kernel's count of such kills: of all processes of the machine, whether the machine or a cgroup ran out.
fn count() -> Option<u64> {
    let statistics = std::fs::read_to_string("/proc/vmstat").ok()?;
    statistics.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}
