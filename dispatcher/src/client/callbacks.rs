//! Callbacks, and takers of what jobs send ahead: threads of their own run them. A single one, which is the usual case, runs them in the order in which their
//! jobs ended; several keep that order within each group.
//!
//! The next callback is chosen in `turns`.

mod turns;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::turns::{GroupKey, Turn, Turns};
use pp_protocol::Part;
use tokio::sync::mpsc::UnboundedSender;

use super::counts::Counts;
use super::here::{Inside, take_part_in};
use super::settle::{Failed, JobTicket, Outcome};
use crate::core::{PartKey, Taker};

/// That callbacks are done is told of so many at once; or of fewer, if they take longer than this and somebody waits for
/// room among the pending jobs.
const DONE_AT_ONCE: usize = 64;
const DONE_EVERY: Duration = Duration::from_millis(1);

/// Something of a job that is to be told on a thread of callbacks.
pub(crate) enum Due {
    /// It ended: its callback is to be called with its outcome.
    End(JobTicket, Outcome),
    /// It sent something ahead of its result.
    Part(Taker, Part, Receipt),
}

/// Tells that a part is taken when it is dropped, however that comes about.
pub(crate) struct Receipt {
    pub(super) key: PartKey,
    pub(super) taken: UnboundedSender<PartKey>,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // Nobody is interested any more once the dispatcher has ended.
        let _ = self.taken.send(self.key);
    }
}

/// Callbacks that wait for their turn. Their jobs count as pending, so there are never more than those may be; of parts, nodes
/// send no more than a limit says before these are taken.
pub(crate) struct Callbacks {
    queue: Mutex<Queue>,
    changed: Condvar,
    counts: Arc<Counts>,
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
    pub(super) fn new(threads: usize, counts: Arc<Counts>) -> Self {
        let queue = Queue { turns: Turns::new(threads), closed: false, threads };
        Self { queue: Mutex::new(queue), changed: Condvar::new(), counts }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has callbacks called on their threads, emptying `due`: each once, whatever happens.
    pub(super) fn call(self: &Arc<Self>, due: &mut Vec<Due>) {
        if !self.push(due) {
            self.start_again();
        }
    }

    /// Queues what is due. False if there is no thread any more to call it, so that one has to be
    /// [started](Self::start_again).
    fn push(&self, due: &mut Vec<Due>) -> bool {
        let mut queue = self.lock();
        let was_empty = queue.turns.is_empty();
        let several = due.len() > 1;
        queue.turns.add(due, Due::queue);
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
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next callback, waiting for it; nothing after the end. `done` is the group whose callback has returned.
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

    /// Starts the threads that run the callbacks.
    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<Vec<JoinHandle<()>>> {
        let threads = self.lock().threads;
        let started: std::io::Result<Vec<_>> = (0..threads).map(|_| self.start_one()).collect();
        if started.is_err() {
            // Those that did start end again.
            self.close();
        }
        started
    }

    /// After the end there is a thread only for as long as there are callbacks of jobs that are refused.
    fn start_again(self: &Arc<Self>) {
        if let Err(error) = self.start_one() {
            let waiting = self.give_up();
            tracing::error!(%error, callbacks = waiting.len(), "no thread for the callbacks of jobs that were refused");
            self.counts.done(waiting.iter().filter(|due| due.is_end()).count());
            waiting.iter().for_each(Due::forgo);
        }
    }

    fn start_one(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let callbacks = Arc::clone(self);
        thread::Builder::new().name("pp-callbacks".into()).spawn(move || {
            let mut done = None;
            while let Some(turn) = callbacks.next(done.take()) {
                match turn {
                    Turn::All(due) => callbacks.call_all(due),
                    Turn::One(callback, group) => {
                        let ended = usize::from(callback.is_end());
                        callback.call();
                        callbacks.counts.done(ended);
                        done = group;
                    }
                }
            }
        })
    }

    fn call_all(&self, due: Vec<Due>) {
        let mut count = 0;
        let mut told = Instant::now();
        for callback in due {
            count += usize::from(callback.is_end());
            callback.call();
            if count == DONE_AT_ONCE || (self.counts.is_waited_for() && told.elapsed() > DONE_EVERY) {
                self.counts.done(std::mem::take(&mut count));
                told = Instant::now();
            }
        }
        self.counts.done(count);
    }
}

impl Due {
    /// Whether a job is through with it.
    fn is_end(&self) -> bool {
        matches!(self, Self::End(..))
    }

    /// The queue in which it is in order.
    fn queue(&self) -> Option<GroupKey> {
        match self {
            Self::End(ticket, _) => ticket.0.group().map(GroupKey::of),
            Self::Part(taker, ..) => Some(GroupKey::named(taker.0.queue())),
        }
    }

    /// Does without it.
    fn forgo(&self) {
        if let Self::End(ticket, _) = self {
            ticket.0.forgo();
        }
    }

    /// Calls the callback, or the taker, on this thread.
    pub(super) fn call(self) {
        let refused = matches!(
            &self,
            Self::End(_, Err(failed)) if matches!(**failed, Failed::ShutDown | Failed::Forked)
        );
        take_part_in(if refused { Inside::Refusal } else { Inside::Callback });
        let call = || match self {
            Self::End(ticket, outcome) => ticket.0.call_back(outcome),
            Self::Part(taker, part, _receipt) => taker.0.take(part),
        };
        // The panic hook has reported it, with place and message; the other callbacks go on.
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            // A subscriber is somebody else's code, too.
            let report = || tracing::error!("a callback panicked; its job is done all the same");
            let _ = catch_unwind(AssertUnwindSafe(report));
        }
        take_part_in(Inside::Nothing);
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}
