//! Counts of what is pending, all together and by group, and waiting until less is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pp_node::processes::is_forked;

use super::here::{Inside, inside, on_dispatcher_thread};

/// The limits on what is pending: beyond them, submitting waits.
#[derive(Clone, Copy, Debug)]
pub struct PendingLimits {
    /// Jobs.
    pub jobs: usize,
    /// Bytes of serialised arguments, all together.
    pub bytes: usize,
}

/// Jobs that were resolved together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resolved {
    pub(super) jobs: usize,
    /// Number of them that have a callback, which runs later.
    pub(super) with_callback: usize,
    pub(super) failed: usize,
    pub(super) args_bytes: usize,
}

/// Counts of one dispatcher's jobs.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Jobs submitted and neither resolved nor, if they have one, through with their callback.
    outstanding: Count,
    groups: Mutex<HashMap<String, Arc<Count>>>,
    /// The same jobs as `outstanding`; and the size of the arguments of those that are not resolved: what the limits are on.
    pending: Count,
    pending_bytes: Count,
    limits: PendingLimits,
    /// Attempts that the nodes take at once, all together.
    capacity: AtomicUsize,
    /// Slots that they have.
    slots: AtomicUsize,
}

impl Counts {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            outstanding: Count::default(),
            groups: Mutex::default(),
            pending: Count::default(),
            pending_bytes: Count::default(),
            limits,
            capacity: AtomicUsize::new(0),
            slots: AtomicUsize::new(0),
        }
    }

    /// Adds a job. No two threads do so at the same time: under the lock of the inbox.
    pub(super) fn add_alone(&self, args_bytes: usize, group: Option<&Count>) {
        self.pending.add_alone(1);
        self.pending_bytes.add_alone(args_bytes);
        self.outstanding.add_alone(1);
        if let Some(group) = group {
            group.add(1);
        }
    }

    /// Whether as much is pending as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.now() >= self.limits.jobs || self.pending_bytes.now() >= self.limits.bytes
    }

    /// Waits while too much is pending; callbacks and the dispatcher's thread never do, lest they wait for themselves.
    pub(super) fn wait_for_room(&self) {
        while self.is_full() && inside() == Inside::Nothing && !on_dispatcher_thread() {
            self.pending.wait_below(self.limits.jobs, None);
            self.pending_bytes.wait_below(self.limits.bytes, None);
        }
    }

    /// Whether somebody waits for room among the pending jobs.
    pub(super) fn is_waited_for(&self) -> bool {
        self.pending.is_waited_for()
    }

    /// Waits until nothing is outstanding; false if that took too long.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        self.outstanding.wait_below(1, timeout)
    }

    /// The count of a group's jobs.
    pub(crate) fn group(&self, name: &str) -> Arc<Count> {
        if is_forked() {
            return Arc::default();
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(name) {
            return Arc::clone(group);
        }
        // Groups nobody uses any more go when a new one comes.
        groups.retain(|_, group| Arc::strong_count(group) > 1);
        let group = Arc::<Count>::default();
        groups.insert(name.into(), Arc::clone(&group));
        group
    }

    pub(super) fn resolved(&self, resolved: Resolved) {
        self.pending_bytes.subtract(resolved.args_bytes);
        if resolved.failed > 0 {
            self.outstanding.fail(resolved.failed);
        }
        self.done(resolved.jobs - resolved.with_callback);
    }

    /// Takes off so many jobs that are through with their callback, or have none.
    pub(super) fn done(&self, jobs: usize) {
        self.pending.subtract(jobs);
        self.outstanding.subtract(jobs);
    }

    /// Takes off everything: nobody shall wait for a dispatcher that has failed.
    pub(super) fn clear(&self) {
        self.pending_bytes.subtract(self.pending_bytes.now());
        self.pending.subtract(self.pending.now());
        self.outstanding.subtract(self.outstanding.now());
    }

    /// What became of the jobs so far.
    pub(crate) fn course(&self) -> Course {
        self.outstanding.course()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.now()
    }

    pub(super) fn set_capacity(&self, attempts: usize, slots: usize) {
        self.capacity.store(attempts, Ordering::Relaxed);
        self.slots.store(slots, Ordering::Relaxed);
    }

    /// Number of attempts that all nodes together take at once.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Number of slots of all nodes together.
    pub(crate) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }
}

/// What became so far of the things that were counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) failed: usize,
}

/// A number of things that can be waited for to become small.
#[derive(Debug, Default)]
pub struct Count {
    added: AtomicUsize,
    removed: AtomicUsize,
    /// Those among them that were removed without success.
    failed: AtomicUsize,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    smaller: Condvar,
}

impl Count {
    /// Adds so many.
    pub fn add(&self, number: usize) {
        self.added.fetch_add(number, Ordering::SeqCst);
    }

    /// The same, at a fraction of the cost, where no two threads add at the same time.
    fn add_alone(&self, number: usize) {
        self.added.store(self.added.load(Ordering::Relaxed) + number, Ordering::Relaxed);
    }

    /// Takes off so many, and wakes whoever waits for that.
    pub fn subtract(&self, number: usize) {
        if number == 0 {
            return;
        }
        self.removed.fetch_add(number, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Taken and let go, so that nobody is between looking and sleeping.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.smaller.notify_all();
        }
    }

    /// So many that are taken off, or will be, have come to nothing.
    pub(crate) fn fail(&self, number: usize) {
        self.failed.fetch_add(number, Ordering::Relaxed);
    }

    /// All that were ever added, those that were taken off again, and those of them that came to nothing.
    pub(crate) fn course(&self) -> Course {
        // In this order: what is removed was added before.
        let failed = self.failed.load(Ordering::Relaxed);
        let removed = self.removed.load(Ordering::SeqCst);
        Course { added: self.added.load(Ordering::SeqCst), removed, failed: failed.min(removed) }
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The number now.
    pub fn now(&self) -> usize {
        // In this order: what is removed was added before. Fewer than none there are only where the dispatcher's thread
        // has failed, and everything was removed at once.
        let removed = self.removed.load(Ordering::SeqCst);
        self.added.load(Ordering::SeqCst).saturating_sub(removed)
    }

    /// Waits until the number is below `limit`; false if that took too long.
    pub fn wait_below(&self, limit: usize, timeout: Option<Duration>) -> bool {
        // A time too far away to be told is never.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let reached = loop {
            if self.now() < limit {
                break true;
            }
            guard = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.smaller.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break false,
                Some(left) => {
                    self.smaller.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        reached
    }
}
