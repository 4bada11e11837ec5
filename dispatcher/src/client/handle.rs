//! A dispatcher as the threads that use it see it: where jobs are put in, and asked about.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use pp_node::processes::is_forked;
use pp_protocol::{FunctionId, JobId, Payload, ProgramId};

use super::callbacks::{Callbacks, Due};
use super::counts::{Count, Counts, PendingLimits};
use super::events::Listeners;
use super::frames::Watches;
use super::here::{Inside, cannot_wait, inside};
use super::inbox::Inbox;
use super::requests::{Answer, Asked, Request, wait_for_answer};
use super::settle::{Failed, Identified, JobTicket, Settle, Wakes};
use super::stats::JobStatus;
use crate::core::{JobExplanation, JobOptions, NewJob};

/// A call of a function that is known by its number, with arguments that are bytes.
#[derive(Clone, Debug)]
pub struct Call {
    /// The program that has the function: [`ProgramId::FIRST`] is this process's own executable, with its builds for other
    /// targets; [`ProgramId::BUILT_IN`] are the nodes' own functions.
    pub program: ProgramId,
    /// Its number there.
    pub function: FunctionId,
    /// Its serialised arguments.
    pub args: Payload,
    /// Options in which the job differs from the usual.
    pub options: Option<Box<JobOptions>>,
}

/// Submits jobs to a dispatcher and asks about them, as long as that lives: it does not keep it going.
pub struct Handle {
    pub(super) inbox: Inbox,
    pub(super) counts: Arc<Counts>,
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) listeners: Listeners,
    pub(super) watches: Watches,
}

impl Handle {
    pub(super) fn new(limits: PendingLimits, callback_threads: usize) -> Self {
        let counts = Arc::new(Counts::new(limits));
        Self {
            inbox: Inbox::new(Arc::clone(&counts)),
            callbacks: Arc::new(Callbacks::new(callback_threads, Arc::clone(&counts))),
            counts,
            listeners: Listeners::default(),
            watches: Watches::default(),
        }
    }

    /// Submits a call, waiting while too much is pending. How it ends, `settle` is told, whatever happens.
    pub fn submit(&self, call: Call, settle: Arc<dyn Settle>, group: Option<&Count>) {
        let Call { program, function, args, options } = call;
        let job = NewJob { ticket: JobTicket(settle), program, function, args, options };
        if is_forked() {
            return refused_in_child(job.ticket);
        }
        self.counts.wait_for_room();
        if let Err(job) = self.inbox.put(job, group) {
            self.refused(job.ticket, group);
        }
    }

    /// Whether as much is pending as may be.
    pub fn is_full(&self) -> bool {
        self.counts.is_full()
    }

    /// A call that its submitter found to be wrong ends at once, the same way as others do: its callback is called on a
    /// thread of callbacks.
    pub fn refuse(&self, settle: Arc<dyn Settle>, group: Option<&Count>) {
        if is_forked() {
            return refused_in_child(JobTicket(settle));
        }
        self.counts.wait_for_room();
        self.refused(JobTicket(settle), group);
    }

    /// After the end, a job that a callback submits although it was told of the end itself is not called back any more: it
    /// would go on for ever.
    fn refused(&self, ticket: JobTicket, group: Option<&Count>) {
        let is_closed = self.inbox.count_refused(group);
        let failed = if is_closed { Failed::ShutDown } else { Failed::Refused };
        match ticket.0.settle(Err(Box::new(failed)), &mut Wakes::default()) {
            Some(_) if inside() == Inside::Refusal => {
                tracing::warn!(
                    "a callback that was told of the shutdown submitted again, which is not called back"
                );
                ticket.0.forgo();
                self.counts.done(1);
            }
            Some(outcome) => self.callbacks.call(&mut vec![Due::End(ticket, outcome)]),
            None => self.counts.done(1),
        }
    }

    /// Cancels a job that has not ended.
    pub fn cancel(&self, job: Arc<dyn Identified>) {
        self.inbox.request(Request::Cancel(job));
    }

    /// State of a job now, if it has not ended. `None` if that cannot be found out: the dispatcher's thread has ended, does
    /// not answer within three seconds, or is the one that asks; or this is a child made by `fork()`.
    pub fn job_status(&self, job: Arc<dyn Identified>) -> Option<Option<JobStatus>> {
        self.ask(|answer| Request::JobStatus(job, answer))
    }

    /// Why a job has not ended.
    pub fn explain(&self, job: Arc<dyn Identified>) -> JobExplanation {
        let explained = self.ask(|answer| Request::Explain(Asked::ItsHolder(job), answer));
        explained.unwrap_or(JobExplanation::NoAnswer)
    }

    /// Why the job of this identifier has not ended.
    pub fn explain_by_id(&self, job: JobId) -> JobExplanation {
        let explained = self.ask(|answer| Request::Explain(Asked::ById(job), answer));
        explained.unwrap_or(JobExplanation::NoAnswer)
    }

    /// Has the nodes ask their dispatchers why this job has not ended, and yields how many nodes there are that can.
    pub fn explain_elsewhere(&self, job: JobId) -> usize {
        self.ask(|answer| Request::ExplainElsewhere(job, answer)).unwrap_or(0)
    }

    /// Has all jobs told their identifiers, and waits for that, for three seconds.
    pub fn identify(&self) {
        let _ = self.ask(Request::Identify);
    }

    /// Counts of what is pending.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Asks the dispatcher's thread. `None` if that has ended, does not answer, or is the one that asks.
    pub(super) fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Option<T> {
        if cannot_wait().is_some() { None } else { wait_for_answer(&self.request(request)) }
    }

    pub(super) fn request<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Receiver<T> {
        let (answer, answered) = Answer::channel();
        self.inbox.request(request(answer));
        answered
    }

    /// The dispatcher's thread has panicked, which is a fault of this library: nobody shall wait for it.
    pub(super) fn fail(&self) {
        self.inbox.abandon();
        self.callbacks.close();
        self.listeners.close();
        self.watches.close();
        self.counts.clear();
    }
}

/// A job ends at once in a child made by `fork()`, where nobody else would call its callback.
fn refused_in_child(ticket: JobTicket) {
    match ticket.0.settle(Err(Box::new(Failed::Forked)), &mut Wakes::default()) {
        Some(_) if inside() == Inside::Refusal => ticket.0.forgo(),
        Some(outcome) => Due::End(ticket, outcome).call(),
        None => {}
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("outstanding", &self.counts.outstanding()).finish_non_exhaustive()
    }
}
