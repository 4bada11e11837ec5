//! Callbacks: one thread runs them, in the order in which their jobs ended.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pp_protocol::Payload;

use crate::error::JobError;
use crate::shared::{JobTicket, Shared};

thread_local! {
    static INSIDE_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is the one that runs callbacks.
pub(crate) fn inside_callback() -> bool {
    INSIDE_CALLBACK.get()
}

/// A job that ended, and whose callback is to be called with its outcome.
pub(crate) struct Due {
    pub(crate) ticket: JobTicket,
    pub(crate) outcome: Result<Payload, JobError>,
}

/// Callbacks that wait for their turn. There are never more than jobs that were pending, which are limited.
#[derive(Default)]
pub(crate) struct Callbacks {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    callbacks: Vec<Due>,
    closed: bool,
    /// The thread has run everything and is gone.
    ended: bool,
}

impl Callbacks {
    /// Queues what is due, emptying `due`.
    /// False if there is no thread any more to call them: they are left in `due`.
    pub(crate) fn push(&self, due: &mut Vec<Due>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.ended {
            return false;
        }
        let was_empty = queue.callbacks.is_empty();
        queue.callbacks.append(due);
        drop(queue);
        if was_empty {
            self.changed.notify_one();
        }
        true
    }

    /// No more will come; the thread ends when it has run what is there.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Vec<Due>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !queue.callbacks.is_empty() {
                return Some(std::mem::take(&mut queue.callbacks));
            }
            if queue.closed {
                queue.ended = true;
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Starts the thread that runs the callbacks.
pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("pp-callbacks".into()).spawn(move || {
        while let Some(callbacks) = shared.callbacks.next() {
            let count = callbacks.len();
            callbacks.into_iter().for_each(Due::call);
            shared.callbacks_done(count);
        }
    })
}

impl Due {
    /// Calls the callback, on this thread.
    pub(crate) fn call(self) {
        let Self { ticket, outcome } = self;
        let before = INSIDE_CALLBACK.replace(true);
        // The panic hook has reported it, with place and message; the other callbacks go on.
        if catch_unwind(AssertUnwindSafe(|| ticket.0.call_back(outcome))).is_err() {
            tracing::error!("a callback panicked; its job is done all the same");
        }
        INSIDE_CALLBACK.set(before);
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}
