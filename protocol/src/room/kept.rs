//! Memory that was used and is kept for a moment, in all arenas of this process: how much, how long, and who gives it back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::arena::Arena;

/// Unused bytes that are kept at most.
const KEPT_BYTES: usize = 256 << 20;
/// Time for which they are kept.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Unused bytes that are kept.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// The arenas, and some that are gone.
static ARENAS: Mutex<Vec<Weak<Arena>>> = Mutex::new(Vec::new());
static KEEPERS: AtomicUsize = AtomicUsize::new(0);

/// While there is one of these, memory is kept; with the last one goes what was.
#[derive(Debug)]
pub struct Keeper(());

impl Keeper {
    /// From now on, memory is kept.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        KEEPERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if KEEPERS.fetch_sub(1, Ordering::Relaxed) == 1 {
            tidy_all(Instant::now());
        }
    }
}

/// Another arena.
pub(super) fn add(arena: &Arc<Arena>) {
    let mut arenas = arenas();
    arenas.retain(|arena| arena.strong_count() > 0);
    arenas.push(Arc::downgrade(arena));
}

/// Whether so many bytes more may be kept.
pub(super) fn has_room(bytes: usize) -> bool {
    KEEPERS.load(Ordering::Relaxed) > 0 && KEPT.load(Ordering::Relaxed) + bytes <= KEPT_BYTES
}

/// An arena keeps `now` bytes, and kept `before`.
pub(super) fn changed(before: usize, now: usize) {
    if now > before {
        KEPT.fetch_add(now - before, Ordering::Relaxed);
    } else if now < before {
        KEPT.fetch_sub(before - now, Ordering::Relaxed);
    }
}

/// Gives the system what has been kept for long. To be called when [`due`] says so.
pub fn tidy() {
    if let Some(until) = Instant::now().checked_sub(KEPT_FOR) {
        tidy_all(until);
    }
}

/// Waits until something has been kept for long, and gives it to the system. Waits for ever while nothing is kept.
pub async fn tidied() {
    match due() {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
    tidy();
}

/// Time when something will have been kept for long; `None` while nothing is kept.
pub fn due() -> Option<Instant> {
    if KEPT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let oldest = arenas().iter().filter_map(Weak::upgrade).filter_map(|arena| arena.oldest()).min();
    oldest.map(|oldest| oldest + KEPT_FOR)
}

fn tidy_all(until: Instant) {
    // Without the lock, since to give back takes a while.
    let arenas: Vec<_> = arenas().iter().filter_map(Weak::upgrade).collect();
    arenas.iter().for_each(|arena| arena.tidy(until));
}

fn arenas() -> MutexGuard<'static, Vec<Weak<Arena>>> {
    ARENAS.lock().unwrap_or_else(PoisonError::into_inner)
}
