//! The table of jobs: each has a place, by which its identifier finds it without a search. Jobs enter it here.

use std::ops::Range;

use pp_protocol::{JobId, Moment, ProgramId};

use super::job::{Job, Owner, Rare};
use super::{Announced, Core, NewJob, Ticket};

#[derive(Debug)]
pub(super) struct Jobs<T> {
    /// Places, [`BLOCK_PLACES`] in each block: more of them are made without moving those in use.
    blocks: Vec<Vec<Place<T>>>,
    /// Number of places.
    places: u32,
    free: Vec<u32>,
    /// Number of jobs that a submitter waits for.
    unresolved: usize,
}

const BLOCK_PLACES: usize = 1 << 10;

#[derive(Debug)]
enum Place<T> {
    Kept(Job<T>),
    /// The next job here is of this generation.
    Free {
        generation: u32,
    },
}

/// A queued job takes this and eight bytes of the queue. Tickets are pointers of two words.
const _: () = assert!(size_of::<Place<Box<dyn Send>>>() <= 96);

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), places: 0, free: Vec::new(), unresolved: 0 }
    }
}

impl<T> Jobs<T> {
    /// Number of places, in use or free.
    pub(super) fn places(&self) -> u32 {
        self.places
    }

    /// Number of jobs, among them those that are told of and whose node has not answered.
    pub(super) fn len(&self) -> usize {
        self.places as usize - self.free.len()
    }

    pub(super) fn unresolved(&self) -> usize {
        self.unresolved
    }

    pub(super) fn insert(&mut self, mut job: Job<T>) -> JobId {
        self.unresolved += usize::from(job.owner.is_submitter());
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index)
        {
            job.generation = place.generation();
            let id = JobId::new(index, job.generation);
            *place = Place::Kept(job);
            return id;
        }
        let place = self.places;
        self.places = place.checked_add(1).expect("fewer than four billion jobs at once");
        if (place as usize).is_multiple_of(BLOCK_PLACES) {
            self.blocks.push(Vec::with_capacity(BLOCK_PLACES));
        }
        let block = self.blocks.last_mut().expect("there is room in the last block");
        block.push(Place::Kept(job));
        JobId::new(place, 0)
    }

    fn place(&self, place: u32) -> Option<&Place<T>> {
        self.blocks.get(place as usize / BLOCK_PLACES)?.get(place as usize % BLOCK_PLACES)
    }

    fn place_mut(&mut self, place: u32) -> Option<&mut Place<T>> {
        self.blocks.get_mut(place as usize / BLOCK_PLACES)?.get_mut(place as usize % BLOCK_PLACES)
    }

    pub(super) fn find(&self, id: JobId) -> Option<&Job<T>> {
        self.at(id.place()).filter(|job| job.generation == id.generation())
    }

    pub(super) fn find_mut(&mut self, id: JobId) -> Option<&mut Job<T>> {
        self.at_mut(id.place()).filter(|job| job.generation == id.generation())
    }

    pub(super) fn at(&self, place: u32) -> Option<&Job<T>> {
        match self.place(place)? {
            Place::Kept(job) => Some(job),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Job<T>> {
        match self.place_mut(place)? {
            Place::Kept(job) => Some(job),
            Place::Free { .. } => None,
        }
    }

    /// The jobs at these places, in order.
    pub(super) fn between(&self, places: Range<u32>) -> impl Iterator<Item = (JobId, &Job<T>)> {
        places.filter_map(|place| self.at(place).map(|job| (JobId::new(place, job.generation), job)))
    }

    /// All jobs, in order of place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Job<T>)> {
        self.between(0..self.places)
    }

    /// Takes the ticket of a job's submitter, if one waits.
    pub(super) fn take_ticket(&mut self, id: JobId) -> Option<T> {
        let ticket = self.find_mut(id)?.owner.take_ticket();
        self.unresolved -= usize::from(ticket.is_some());
        ticket
    }

    /// Forgets a job; its place is used again under another identifier.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job<T>> {
        self.remove_if(id, |_| true)
    }

    /// Forgets a job that meets the condition.
    #[inline]
    pub(super) fn remove_if(&mut self, id: JobId, condition: impl FnOnce(&Job<T>) -> bool) -> Option<Job<T>> {
        let place = self.place_mut(id.place())?;
        match place {
            Place::Kept(job) if job.generation == id.generation() && condition(job) => {}
            Place::Kept(_) | Place::Free { .. } => return None,
        }
        let free = Place::Free { generation: id.generation().wrapping_add(1) };
        let Place::Kept(job) = std::mem::replace(place, free) else { return None };
        self.free.push(id.place());
        self.unresolved -= usize::from(job.owner.is_submitter());
        Some(job)
    }
}

impl<T> Place<T> {
    fn generation(&self) -> u32 {
        match self {
            Self::Kept(job) => job.generation,
            Self::Free { generation } => *generation,
        }
    }
}

impl<T: Ticket> Core<T> {
    pub(super) fn submit(&mut self, now: Moment, jobs: Vec<NewJob<T>>) {
        let mut expected = None;
        for NewJob { ticket, program, function, args, options } in jobs {
            // Nearly always all are of one program.
            if expected != Some(program) {
                self.expect_offered(program);
                expected = Some(program);
            }
            let until =
                options.as_deref().and_then(|options| options.not_before).filter(|until| *until > now);
            let only_at = options.as_deref().and_then(|options| options.node);
            let is_usual = options.is_none() && program == ProgramId::FIRST;
            let rare = || Box::new(Rare::new(program, &options.unwrap_or_default()));
            let job = Job::new(Owner::Submitter(ticket), function, args, (!is_usual).then(rare));
            let priority = job.priority();
            let id = self.jobs.insert(job);
            if self.announced != Announced::Nobody
                && let Some(job) = self.jobs.find(id)
            {
                announce_id(id, job);
            }
            match until.filter(|_| !self.is_unrunnable(program)) {
                Some(until) => self.delay(until, id),
                None => match only_at {
                    None => self.queue.line(program).push(priority, id),
                    Some(life) => self.pinned.push(life, program, priority, id),
                },
            }
        }
    }

    /// Tells the tickets of all jobs, and of those to come, their identifiers: of at most so many jobs at once. False if
    /// more remain to be told.
    ///
    /// Few programs ever need one, and a ticket is memory that was last written to on another core: to write to it for
    /// each job is a tenth of what a job costs.
    pub fn announce_ids(&mut self, at_once: u32) -> bool {
        let from = match self.announced {
            Announced::Nobody => 0,
            Announced::Until(place) => place,
            Announced::Everybody => return true,
        };
        let until = from.saturating_add(at_once).min(self.jobs.places);
        self.jobs.between(from..until).for_each(|(id, job)| announce_id(id, job));
        self.announced =
            if until == self.jobs.places { Announced::Everybody } else { Announced::Until(until) };
        self.announced == Announced::Everybody
    }
}

fn announce_id<T: Ticket>(id: JobId, job: &Job<T>) {
    if let Owner::Submitter(ticket) = &job.owner {
        ticket.accepted(id);
    }
}
