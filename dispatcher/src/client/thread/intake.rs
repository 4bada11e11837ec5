//! Jobs that were taken out of the inbox and have not been dealt with: so much at a time that nodes are never kept waiting.

use std::collections::VecDeque;
use std::vec;

use pp_protocol::JobId;

use super::Actor;
use crate::client::inbox::Inbox;
use crate::client::requests::Request;
use crate::client::settle::JobTicket;
use crate::core::{Event, NewJob};

/// Jobs that are submitted to the core at once.
const JOBS_AT_ONCE: usize = 32_768;
/// Jobs that are cancelled at once.
const CANCELLED_AT_ONCE: usize = 8_192;
/// Jobs that are told their identifiers at once.
const TOLD_AT_ONCE: u32 = 65_536;
/// Requests that are carried out at once.
const REQUESTS_AT_ONCE: usize = 64;

/// Jobs first, then requests: whatever a request is about was submitted before it.
#[derive(Default)]
pub(super) struct Intake {
    jobs: Vec<NewJob<JobTicket>>,
    /// The rest of many jobs.
    more_jobs: vec::IntoIter<NewJob<JobTicket>>,
    requests: VecDeque<Request>,
}

impl Intake {
    /// Whether there is more to do at once.
    pub(super) fn is_waiting(&self) -> bool {
        !self.requests.is_empty() || self.more_jobs.len() > 0
    }

    /// Takes everything out of the inbox if all before it was dealt with. If somebody is just putting something in, that
    /// is waited for only if `may_wait`.
    fn fill(&mut self, inbox: &Inbox, may_wait: bool) {
        if !self.is_waiting() {
            inbox.take(&mut self.jobs, &mut self.requests, may_wait);
        }
    }

    /// The next jobs to be submitted, if there are any.
    fn next_jobs(&mut self) -> Option<Vec<NewJob<JobTicket>>> {
        if self.more_jobs.len() > 0 {
            return Some(self.more_jobs.by_ref().take(JOBS_AT_ONCE).collect());
        }
        if self.jobs.len() > JOBS_AT_ONCE {
            self.more_jobs = std::mem::take(&mut self.jobs).into_iter();
            return self.next_jobs();
        }
        // Submitting goes on meanwhile, into the list that was taken in before.
        let next = Vec::with_capacity(self.jobs.len());
        Some(std::mem::replace(&mut self.jobs, next)).filter(|jobs| !jobs.is_empty())
    }

    /// The jobs to be cancelled before anything else is done, as far as their identifiers are known.
    fn next_cancelled(&mut self) -> Vec<JobId> {
        let mut cancelled = Vec::new();
        while let Some(Request::Cancel(job)) = self.requests.front()
            && let Some(id) = job.id()
            && cancelled.len() < CANCELLED_AT_ONCE
        {
            cancelled.push(id);
            self.requests.pop_front();
        }
        cancelled
    }
}

impl Actor {
    /// Deals with some of what was put into the inbox.
    pub(super) fn take_in(&mut self, may_wait: bool) {
        self.intake.fill(&self.shared.inbox, may_wait);
        if let Some(jobs) = self.intake.next_jobs() {
            self.handle(Event::Submit(jobs));
        }
        if self.intake.more_jobs.len() == 0 {
            self.carry_out_some();
        }
    }

    fn carry_out_some(&mut self) {
        for _ in 0..REQUESTS_AT_ONCE {
            // Jobs that are cancelled one after the other are cancelled together.
            let cancelled = self.intake.next_cancelled();
            if !cancelled.is_empty() {
                return self.handle(Event::Cancel(cancelled));
            }
            let needs_ids = self.intake.requests.front().is_some_and(Request::needs_ids);
            if needs_ids && !self.core.announce_ids(TOLD_AT_ONCE) {
                return;
            }
            match self.intake.requests.pop_front() {
                Some(request) => self.carry_out(request),
                None => return,
            }
        }
    }

    /// Deals with everything, however much it is. Nothing more will come.
    pub(super) fn take_in_the_rest(&mut self) {
        self.core.announce_ids(u32::MAX);
        // What was taken out before, then what came since.
        for _ in 0..2 {
            self.intake.fill(&self.shared.inbox, true);
            while let Some(jobs) = self.intake.next_jobs() {
                self.handle(Event::Submit(jobs));
            }
            while !self.intake.requests.is_empty() {
                self.carry_out_some();
            }
        }
    }
}
