//! Callbacks: threads of their own run them. A single one, which is the usual case, runs them in the order in which their
//! jobs ended; several keep that order within each group.
//!
//! Which callback comes next is decided in `turns`.

mod turns;

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pp_protocol::Payload;

use self::turns::{GroupKey, Turn, Turns};
use crate::api::error::JobError;
use crate::client::shared::{JobTicket, Shared};

/// That callbacks are done is told of so many at once; or of fewer, if they take longer than this and somebody waits for
/// room among the pending jobs.
const DONE_AT_ONCE: usize = 64;
const DONE_EVERY: Duration = Duration::from_millis(1);

/// What a thread is in the midst of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// No callback.
    Nothing,
    /// A callback.
    Callback,
    /// A callback that is being told that there is no dispatcher any more, or none in this process.
    Refusal,
}

thread_local! {
    static INSIDE: Cell<Inside> = const { Cell::new(Inside::Nothing) };
}

/// What this thread is in the midst of.
pub(crate) fn inside() -> Inside {
    INSIDE.get()
}

/// What this thread does is part of that, on another thread.
pub(crate) fn take_part_in(inside: Inside) {
    INSIDE.set(inside);
}

/// A job that ended, and whose callback is to be called with its outcome.
pub(crate) struct Due {
    pub(crate) ticket: JobTicket,
    pub(crate) outcome: Result<Payload, JobError>,
}

/// Callbacks that wait for their turn. Their jobs count as pending, so there are never more than those may be.
pub(crate) struct Callbacks {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    turns: Turns<Due>,
    /// No more will come from jobs that were taken in. Those that are refused from then on may have callbacks still.
    closed: bool,
    /// Threads that will look for callbacks again before they end.
    threads: usize,
}

impl Callbacks {
    /// For so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        let queue = Queue { turns: Turns::new(threads), closed: false, threads };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what is due, emptying `due`. False if there is no thread any more to call it, so that one has to be
    /// [started](start_again).
    pub(crate) fn push(&self, due: &mut Vec<Due>) -> bool {
        let mut queue = self.lock();
        let was_empty = queue.turns.is_empty();
        let several = due.len() > 1;
        queue.turns.add(due, |due| due.ticket.0.group().map(GroupKey::of));
        let is_anybody_there = queue.threads > 0;
        if !is_anybody_there {
            queue.threads = 1;
        }
        let threads = queue.threads;
        drop(queue);
        match threads {
            1 if !was_empty => {}
            _ if several => self.changed.notify_all(),
            _ => self.changed.notify_one(),
        }
        is_anybody_there
    }

    /// No more will come; each thread ends when there is nothing left for it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What is to be called next, waiting for it; nothing after the end. `done` is the group whose callback has returned.
    fn next(&self, done: Option<GroupKey>) -> Option<Turn<Due>> {
        let mut queue = self.lock();
        if let Some(group) = done {
            queue.turns.done(group);
        }
        loop {
            if let Some(turn) = queue.turns.take() {
                return Some(turn);
            }
            if queue.closed {
                queue.threads -= 1;
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// There is no thread, nor can one be had: what waits is taken out.
    fn give_up(&self) -> Vec<Due> {
        let mut queue = self.lock();
        queue.threads -= 1;
        queue.turns.take_all()
    }
}

/// Starts the threads that run the callbacks.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = shared.callbacks.lock().threads;
    let started: std::io::Result<Vec<_>> = (0..threads).map(|_| start_one(Arc::clone(shared))).collect();
    if started.is_err() {
        // Those that did start end again.
        shared.callbacks.close();
    }
    started
}

/// After the end there is a thread only for as long as there are callbacks of jobs that are refused.
pub(crate) fn start_again(shared: &Arc<Shared>) {
    if let Err(error) = start_one(Arc::clone(shared)) {
        let waiting = shared.callbacks.give_up();
        tracing::error!(%error, callbacks = waiting.len(), "no thread for the callbacks of jobs that were refused");
        waiting.iter().for_each(|due| due.ticket.0.forgo());
        shared.callbacks_done(waiting.len());
    }
}

fn start_one(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("pp-callbacks".into()).spawn(move || {
        let mut done = None;
        while let Some(turn) = shared.callbacks.next(done.take()) {
            match turn {
                Turn::All(callbacks) => call_all(&shared, callbacks),
                Turn::One(callback, group) => {
                    callback.call();
                    shared.callbacks_done(1);
                    done = group;
                }
            }
        }
    })
}

fn call_all(shared: &Shared, callbacks: Vec<Due>) {
    let mut count = 0;
    let mut told = Instant::now();
    for callback in callbacks {
        callback.call();
        count += 1;
        if count == DONE_AT_ONCE || (shared.is_waited_for() && told.elapsed() > DONE_EVERY) {
            shared.callbacks_done(std::mem::take(&mut count));
            told = Instant::now();
        }
    }
    shared.callbacks_done(count);
}

impl Due {
    /// Calls the callback, on this thread.
    pub(crate) fn call(self) {
        let Self { ticket, outcome } = self;
        let refused = matches!(outcome, Err(JobError::ShutDown | JobError::Forked));
        INSIDE.set(if refused { Inside::Refusal } else { Inside::Callback });
        // The panic hook has reported it, with place and message; the other callbacks go on.
        if catch_unwind(AssertUnwindSafe(|| ticket.0.call_back(outcome))).is_err() {
            // A subscriber is somebody else's code, too.
            let report = || tracing::error!("a callback panicked; its job is done all the same");
            let _ = catch_unwind(AssertUnwindSafe(report));
        }
        INSIDE.set(Inside::Nothing);
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}
