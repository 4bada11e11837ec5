//! Jobs that are not to be sent before a time: in order of time, and of submission where that is the same.

use std::collections::BTreeMap;

use pp_protocol::{JobId, Moment, ProgramId};

use super::Core;
use super::job::Location;

/// Jobs that join the queue in one turn.
const RELEASED_AT_ONCE: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Delays {
    jobs: BTreeMap<(Moment, u32), JobId>,
    /// Number of the last one, wrapping around.
    number: u32,
}

impl Delays {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Time when the first of them is to join the queue.
    pub(super) fn next(&self) -> Option<Moment> {
        self.jobs.first_key_value().map(|((until, _), _)| *until)
    }

    /// Adds a job. Yields where it is from now on.
    pub(super) fn add(&mut self, until: Moment, job: JobId) -> Location {
        self.number = self.number.wrapping_add(1);
        self.jobs.insert((until, self.number), job);
        Location::Delayed { until, number: self.number }
    }

    pub(super) fn remove(&mut self, until: Moment, number: u32) {
        self.jobs.remove(&(until, number));
    }

    /// Takes all jobs of which this holds.
    fn take(&mut self, mut which: impl FnMut(JobId) -> bool) -> Vec<JobId> {
        self.jobs.extract_if(.., |_, job| which(*job)).map(|(_, job)| job).collect()
    }

    fn pop_due(&mut self, now: Moment) -> Option<JobId> {
        self.jobs.first_entry().filter(|first| first.key().0 <= now).map(|first| first.remove())
    }

    pub(super) fn holds(&self, until: Moment, number: u32, job: JobId) -> bool {
        self.jobs.get(&(until, number)) == Some(&job)
    }
}

impl<T> Core<T> {
    /// A new job is not to be sent before then.
    pub(super) fn delay(&mut self, until: Moment, id: JobId) {
        let location = self.delays.add(until, id);
        if let Some(job) = self.jobs.find_mut(id) {
            job.location = location;
        }
    }

    /// Jobs of this program, which no node will ever run, do not wait for their time.
    pub(super) fn release_all(&mut self, program: ProgramId) {
        let jobs = &self.jobs;
        let its_jobs = self.delays.take(|id| jobs.find(id).is_some_and(|job| job.program() == program));
        for id in its_jobs {
            self.release(id);
        }
    }

    fn release(&mut self, id: JobId) {
        let Some(job) = self.jobs.find_mut(id) else { return };
        job.location = Location::Queued;
        let (program, priority) = (job.program(), job.priority());
        match job.only_at() {
            None => self.queue.line(program).push(priority, id),
            Some(life) => self.pinned.push(life, program, priority, id),
        }
    }

    /// Jobs whose time has come join the queue, behind the others of their priority. Of more than so many at once, the
    /// rest is due at once.
    pub(super) fn release_delayed(&mut self, now: Moment) {
        for _ in 0..RELEASED_AT_ONCE {
            let Some(id) = self.delays.pop_due(now) else { return };
            self.release(id);
        }
    }
}
