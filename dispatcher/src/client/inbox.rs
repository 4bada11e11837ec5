//! The inbox of the dispatcher's thread: jobs and requests, taken out together.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use pp_node::processes::is_forked;
use tokio::sync::Notify;

use super::counts::{Count, Counts};
use super::requests::Request;
use super::settle::JobTicket;
use crate::core::NewJob;

pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Wakes the dispatcher's thread when the inbox is no longer empty.
    wake: Notify,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<NewJob<JobTicket>>,
    requests: VecDeque<Request>,
    is_closed: bool,
}

impl Inbox {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), counts }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job in, and counts it. Gives it back if the inbox is closed.
    pub(super) fn put(&self, job: NewJob<JobTicket>, group: Option<&Count>) -> Result<(), NewJob<JobTicket>> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(job);
        }
        self.counts.add_alone(job.args.len(), group);
        let was_empty = waiting.is_empty();
        waiting.jobs.push(job);
        drop(waiting);
        if was_empty {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Counts a job that is not put in, and tells whether the inbox is closed.
    pub(super) fn count_refused(&self, group: Option<&Count>) -> bool {
        let waiting = self.lock();
        self.counts.add_alone(0, group);
        waiting.is_closed
    }

    /// Puts a request in, which is dealt with after everything submitted before. Dropped if the inbox is closed.
    pub(super) fn request(&self, request: Request) {
        if is_forked() {
            return;
        }
        let mut waiting = self.lock();
        if waiting.is_closed {
            return;
        }
        let was_empty = waiting.is_empty();
        waiting.requests.push_back(request);
        drop(waiting);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits until something is there.
    pub(super) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Takes everything out, into what is empty. If somebody is just putting something in, that is waited for only if there
    /// is nothing else to do.
    pub(super) fn take(
        &self,
        jobs: &mut Vec<NewJob<JobTicket>>,
        requests: &mut VecDeque<Request>,
        may_wait: bool,
    ) {
        let mut waiting = match self.waiting.try_lock() {
            Err(TryLockError::WouldBlock) if !may_wait => return,
            Err(TryLockError::WouldBlock) => self.lock(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(waiting) => waiting,
        };
        std::mem::swap(&mut waiting.jobs, jobs);
        std::mem::swap(&mut waiting.requests, requests);
    }

    /// Takes nothing in any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Takes nothing in any more, and gives up what is there.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let (jobs, requests) = (std::mem::take(&mut waiting.jobs), std::mem::take(&mut waiting.requests));
        drop(waiting);
        drop(requests);
        jobs.iter().for_each(|job| job.ticket.abandon());
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.requests.is_empty()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
