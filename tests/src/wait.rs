//! Waiting on conditions.

use std::time::{Duration, Instant};

/// Time that anything on this machine may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` yields something, and yields that.
///
/// # Panics
/// After `patience`, naming what was waited for.
pub fn wait_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds, for as long as is reasonable.
///
/// # Panics
/// When it does not come to hold.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, || condition().then_some(()));
}
