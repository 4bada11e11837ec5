//! Jobs: kept at a place each, found by identifier without a search.

use std::ops::Range;
use std::time::Duration;

use pp_protocol::limits::LIST_ITEMS;
use pp_protocol::{AttemptId, FunctionId, JobId, Moment, Payload, ToNode};

use super::blame::Charge;
use super::{Action, Core, JobOptions, JobOutcome, NewJob, NodeKey, Resolution, Telling, Ticket};

#[derive(Debug)]
pub(super) struct Job<T> {
    /// What the submitter is told with; gone once it has been told (a cancelled job stays until its node answers).
    pub(super) ticket: Option<T>,
    pub(super) function: FunctionId,
    pub(super) args: Payload,
    /// The number of its last attempt; 0 before the first.
    pub(super) attempt: u32,
    /// The node its attempt is at; none while it is queued.
    pub(super) node: Option<NodeKey>,
    /// Where that node's list of attempts has it.
    pub(super) position: u32,
    /// Counts the attempts sent to that node, wrapping around.
    pub(super) sent: u32,
    /// Whether no slot of that node was free then.
    pub(super) sent_ahead: bool,
    /// What few jobs have.
    pub(super) rare: Option<Box<Rare>>,
}

/// Smaller arguments are not counted: as many as fit the largest window are not too large for any node.
pub(super) const LARGE_ARGS: usize = 4 << 10;

/// How large the large arguments of some attempts are together, and of those that were sent ahead of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ArgsBytes {
    pub(super) all: u64,
    pub(super) ahead: u64,
}

impl ArgsBytes {
    pub(super) fn add(&mut self, more: Self) {
        self.all += more.all;
        self.ahead += more.ahead;
    }

    pub(super) fn subtract(&mut self, less: Self) {
        self.all -= less.all;
        self.ahead -= less.ahead;
    }
}

#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) options: JobOptions,
    /// The times it was there when something died.
    pub(super) charges: Vec<Charge>,
    /// When the attempt was sent of a job that may be copied, and has not been.
    pub(super) sent_at: Option<Moment>,
    /// Its copy, and what it is a copy of.
    pub(super) copy: Option<JobId>,
    pub(super) copy_of: Option<JobId>,
}

impl<T> Job<T> {
    pub(super) fn new(
        ticket: Option<T>,
        function: FunctionId,
        args: Payload,
        rare: Option<Box<Rare>>,
    ) -> Self {
        Self { ticket, function, args, attempt: 0, node: None, position: 0, sent: 0, sent_ahead: false, rare }
    }

    /// Whether nothing depends on it any more: neither a submitter nor, if it is a copy, the original.
    pub(super) fn is_given_up(&self) -> bool {
        self.ticket.is_none() && self.rare.as_deref().is_none_or(|rare| rare.copy_of.is_none())
    }

    /// How large its arguments are, if they are large.
    pub(super) fn large_args(&self) -> Option<ArgsBytes> {
        let all = self.args.len() as u64;
        let ahead = if self.sent_ahead { all } else { 0 };
        (self.args.len() >= LARGE_ARGS).then_some(ArgsBytes { all, ahead })
    }

    /// When its attempt was sent, if it may be copied.
    pub(super) fn sent_at(&self) -> Option<Moment> {
        self.rare.as_deref().and_then(|rare| rare.sent_at)
    }

    pub(super) fn options(&self) -> Option<&JobOptions> {
        self.rare.as_deref().map(|rare| &rare.options)
    }

    pub(super) fn priority(&self) -> i32 {
        self.options().map_or(0, |options| options.priority)
    }

    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.options().and_then(|options| options.time_limit)
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

#[derive(Debug)]
pub(super) struct Jobs<T> {
    /// Places, so many in each block: more of them are made without moving those in use.
    blocks: Vec<Vec<Place<T>>>,
    /// How many places there are.
    places: u32,
    free: Vec<u32>,
    unresolved: usize,
}

const BLOCK_PLACES: usize = 1 << 10;

/// Jobs that fail in one turn where none can run.
const FAILED_AT_ONCE: usize = 8_192;

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    job: Option<Job<T>>,
}

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), places: 0, free: Vec::new(), unresolved: 0 }
    }
}

impl<T> Jobs<T> {
    /// Jobs kept, the cancelled ones whose node has not answered among them.
    pub(super) fn len(&self) -> usize {
        self.places as usize - self.free.len()
    }

    pub(super) fn unresolved(&self) -> usize {
        self.unresolved
    }

    pub(super) fn insert(&mut self, job: Job<T>) -> JobId {
        self.unresolved += usize::from(job.ticket.is_some());
        if let Some(place) = self.free.pop()
            && let Some(kept) = self.place_mut(place)
        {
            kept.job = Some(job);
            return JobId::new(place, kept.generation);
        }
        let place = self.places;
        self.places = place.checked_add(1).expect("fewer than four billion jobs at once");
        if (place as usize).is_multiple_of(BLOCK_PLACES) {
            self.blocks.push(Vec::with_capacity(BLOCK_PLACES));
        }
        let block = self.blocks.last_mut().expect("there is room in the last block");
        block.push(Place { generation: 0, job: Some(job) });
        JobId::new(place, 0)
    }

    fn place(&self, place: u32) -> Option<&Place<T>> {
        self.blocks.get(place as usize / BLOCK_PLACES)?.get(place as usize % BLOCK_PLACES)
    }

    fn place_mut(&mut self, place: u32) -> Option<&mut Place<T>> {
        self.blocks.get_mut(place as usize / BLOCK_PLACES)?.get_mut(place as usize % BLOCK_PLACES)
    }

    pub(super) fn find(&self, id: JobId) -> Option<&Job<T>> {
        self.place(id.place()).filter(|place| place.generation == id.generation())?.job.as_ref()
    }

    pub(super) fn find_mut(&mut self, id: JobId) -> Option<&mut Job<T>> {
        self.place_mut(id.place()).filter(|place| place.generation == id.generation())?.job.as_mut()
    }

    pub(super) fn at(&self, place: u32) -> Option<&Job<T>> {
        self.place(place)?.job.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Job<T>> {
        self.place_mut(place)?.job.as_mut()
    }

    /// The identifier of the job at `place`, which is one that was used.
    pub(super) fn id(&self, place: u32) -> JobId {
        JobId::new(place, self.place(place).map_or(0, |place| place.generation))
    }

    /// The jobs at these places, in order.
    fn between(&self, places: Range<u32>) -> impl Iterator<Item = (JobId, &Job<T>)> {
        let known = places.filter_map(|index| Some((index, self.place(index)?)));
        known.filter_map(|(index, place)| Some((JobId::new(index, place.generation), place.job.as_ref()?)))
    }

    /// Every identifier, in order of place.
    pub(super) fn ids(&self) -> Vec<JobId> {
        self.between(0..self.places).map(|(id, _)| id).collect()
    }

    pub(super) fn take_ticket(&mut self, id: JobId) -> Option<T> {
        let ticket = self.find_mut(id)?.ticket.take();
        self.unresolved -= usize::from(ticket.is_some());
        ticket
    }

    /// Forgets a job; its place is used again under another identifier.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job<T>> {
        self.remove_if(id, |_| true)
    }

    /// The same if it is as `condition` says.
    #[inline]
    pub(super) fn remove_if(&mut self, id: JobId, condition: impl FnOnce(&Job<T>) -> bool) -> Option<Job<T>> {
        let place = self.place_mut(id.place()).filter(|place| place.generation == id.generation())?;
        let job = place.job.take_if(|job| condition(job))?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.place());
        self.unresolved -= usize::from(job.ticket.is_some());
        Some(job)
    }
}

impl<T: Ticket> Core<T> {
    pub(super) fn submit(&mut self, jobs: Vec<NewJob<T>>) {
        for NewJob { ticket, function, args, options } in jobs {
            let rare = options.map(|options| Box::new(Rare { options: *options, ..Rare::default() }));
            let job = Job::new(Some(ticket), function, args, rare);
            let priority = job.priority();
            let id = self.jobs.insert(job);
            if self.telling != Telling::Nobody
                && let Some(job) = self.jobs.find(id)
            {
                tell_id(id, job);
            }
            self.queue.push(priority, id);
        }
    }

    /// Tells the tickets of all jobs, and of those to come, their identifiers: of at most so many jobs at once. False if
    /// more remain to be told.
    ///
    /// Few programs ever need one, and a ticket is memory that was last written to on another core: to write to it for
    /// each job is a tenth of what a job costs.
    pub fn tell_ids(&mut self, at_once: u32) -> bool {
        let from = match self.telling {
            Telling::Nobody => 0,
            Telling::Until(place) => place,
            Telling::Everybody => return true,
        };
        let until = from.saturating_add(at_once).min(self.jobs.places);
        self.jobs.between(from..until).for_each(|(id, job)| tell_id(id, job));
        self.telling = if until == self.jobs.places { Telling::Everybody } else { Telling::Until(until) };
        self.telling == Telling::Everybody
    }
}

fn tell_id<T: Ticket>(id: JobId, job: &Job<T>) {
    if let Some(ticket) = &job.ticket {
        ticket.accepted(id);
    }
}

impl<T> Core<T> {
    /// The submitter is answered at once; if the job is at a node, its worker is killed there.
    pub(super) fn cancel(&mut self, id: JobId, actions: &mut Vec<Action<T>>) {
        let Some(job) = self.jobs.find(id) else { return };
        let (node, attempt) = (job.node, job.attempt);
        match node {
            None => {
                self.queue.forget_one();
                self.resolve(id, JobOutcome::Cancelled, None, Duration::ZERO, actions);
            }
            Some(node) => {
                let resolution = Resolution {
                    outcome: JobOutcome::Cancelled,
                    job: id,
                    function: job.function,
                    node: Some(node),
                    run_time: Duration::ZERO,
                    args_bytes: job.args.len(),
                };
                let attempt = AttemptId { job: id, number: attempt };
                if self.resolve_early(node, attempt, resolution, actions) {
                    let copy =
                        self.jobs.find(id).and_then(|job| job.rare.as_deref()).and_then(|rare| rare.copy);
                    self.cancel_copy(copy);
                }
            }
        }
    }

    /// Tells the submitter how its job ended, and cancels the attempt that is at `node`; the job is forgotten when that
    /// has answered. False if the submitter has been told.
    pub(super) fn resolve_early(
        &mut self,
        node: NodeKey,
        attempt: AttemptId,
        resolution: Resolution,
        actions: &mut Vec<Action<T>>,
    ) -> bool {
        let Some(ticket) = self.jobs.take_ticket(attempt.job) else { return false };
        actions.push(Action::Resolve(ticket, resolution));
        self.cancelled.entry(node).or_default().push(attempt);
        true
    }

    /// Tells nodes what the event at hand gave up of what is at them: as few messages for as many as there are.
    pub(super) fn send_cancellations(&mut self, actions: &mut Vec<Action<T>>) {
        while let Some((node, attempts)) = self.cancelled.pop_first() {
            for some in attempts.chunks(LIST_ITEMS) {
                self.send_if_connected(node, ToNode::Cancel(some.to_vec()), actions);
            }
        }
    }

    /// Tells the submitter how its job ended, and forgets it. It must be neither queued nor at a node any more.
    pub(super) fn resolve(
        &mut self,
        id: JobId,
        outcome: JobOutcome,
        node: Option<NodeKey>,
        run_time: Duration,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(Job { ticket, function, args, rare, .. }) = self.jobs.remove(id) else { return };
        let (copy, copy_of) = rare.map_or((None, None), |rare| (rare.copy, rare.copy_of));
        if let Some(original) = copy_of {
            if matches!(outcome, JobOutcome::Succeeded(_)) {
                self.resolve_by_copy(original, outcome, node, run_time, actions);
            }
            return;
        }
        let args_bytes = args.len();
        let resolution = Resolution { outcome, job: id, function, node, run_time, args_bytes };
        actions.extend(ticket.map(|ticket| Action::Resolve(ticket, resolution)));
        self.cancel_copy(copy);
    }

    /// Puts a job that came back without outcome in front of the queue, unless nobody waits for it any more.
    pub(super) fn queue_again(&mut self, id: JobId) {
        let Some(job) = self.jobs.find_mut(id) else { return };
        if job.ticket.is_none() {
            self.jobs.remove(id);
            return;
        }
        job.node = None;
        let priority = job.priority();
        self.queue.push_front(priority, id);
    }

    /// Once it is known that no node will ever run this program, waiting would be for ever. So many jobs fail at once; the
    /// next tick is due at once while there are more.
    pub(super) fn fail_if_unrunnable(&mut self, actions: &mut Vec<Action<T>>) {
        let Some(failure) = self.unrunnable.clone() else { return };
        for _ in 0..FAILED_AT_ONCE {
            let Some(id) = self.next_queued() else { return };
            self.resolve(id, JobOutcome::Lost(vec![failure.clone()]), None, Duration::ZERO, actions);
        }
    }

    pub(super) fn next_queued(&mut self) -> Option<JobId> {
        let jobs = &self.jobs;
        self.queue.take(|id| match jobs.find(id) {
            Some(job) if job.node.is_none() => super::queue::Verdict::Take,
            _ => super::queue::Verdict::Drop,
        })
    }

    /// Every handle resolves, every node is told.
    pub(super) fn shutdown(&mut self, actions: &mut Vec<Action<T>>) {
        while self.next_queued().is_some() {}
        self.leave_all_nodes(actions);
        for id in self.jobs.ids() {
            let node = self.jobs.find(id).and_then(|job| job.node);
            self.resolve(id, JobOutcome::Cancelled, node, Duration::ZERO, actions);
        }
    }
}
