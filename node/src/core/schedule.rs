//! The session that gets a worker, and the amount of work a worker gets at once.
//!
//! Sessions share the slots one by one: whoever occupies the fewest is next, equals take turns. In the same way the lanes
//! of a session, one for each of its programs, share what it has. Within a slot, work is given in batches that take about
//! a millisecond, so that tiny jobs stream and long ones are spread.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::limits::WORKER_ATTEMPTS;
use pp_protocol::worker::Work;
use pp_protocol::{FromNode, Moment};

use super::lanes::{Lane, LaneKey};
use super::programs::ProgramState;
use super::session::Session;
use super::work::{InWorker, Worker, WorkerState};
use super::{Action, Core, Program, SessionKey, WorkerKey};

/// Work that a worker holds, by the time it should take.
const WORKER_PLAN: Duration = Duration::from_millis(1);
/// A worker that runs an attempt no longer than this gets the next one ahead, to hide the way to it.
const WORTH_HIDING: Duration = Duration::from_millis(50);
/// Room that is made for work to be given at once; there may be more.
const WORKS_EXPECTED: usize = 256;
/// A worker that has not reported for so long has the rest of its work taken back, if it could be started elsewhere at
/// once. Where it cannot, that takes as long as is [`WORTH_HIDING`].
const STUCK: Duration = Duration::from_millis(2);

/// Time for which an idle worker does not make way for another lane: to start one takes as long.
const WORTH_WAITING: Duration = Duration::from_millis(5);
/// Time for which a worker is given more of its lane while another lane waits for the slot. The next one may have to
/// start a worker, which takes a few milliseconds.
const TURN: Duration = Duration::from_millis(200);

/// Whose turn it is: the least of them. Slots used and last turn of a session, then those of its lane.
type Turn = (usize, u64, usize, u64);

/// Result of a try to serve a lane.
enum Served {
    /// It got a worker, or one is starting for it.
    One,
    /// No more workers are to be started for it now.
    Enough,
    /// There is no room for another worker.
    NoRoom,
}

impl Core {
    /// Starts whatever can be started.
    pub(super) fn schedule(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.room_due = None;
        self.return_what_cannot_run();
        if self.draining.is_none() {
            self.give_out_slots(now, actions);
            self.top_up(now, actions);
        }
        self.take_back_stuck(now, actions);
    }

    /// Gives workers to lanes, one by one, until no lane can have one more.
    fn give_out_slots(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.sessions.values().any(Session::wants_worker) {
            return;
        }
        let mut served = BTreeSet::new();
        let mut has_room = true;
        while let Some((key, program)) = self.next_lane(&served, has_room) {
            match self.serve(now, key, program, has_room, actions) {
                Served::One => {}
                Served::Enough => drop(served.insert(key)),
                Served::NoRoom => has_room = false,
            }
        }
    }

    /// The lane to be given the next worker, leaving out those that have enough. Without room for more workers, only
    /// those are asked that have one waiting.
    fn next_lane(&self, served: &BTreeSet<LaneKey>, has_room: bool) -> Option<(LaneKey, Program)> {
        let mut next: Option<(Turn, LaneKey, Program)> = None;
        for (session, it) in &self.sessions {
            for (lane, runs) in it.waiting() {
                let key = LaneKey { session: *session, program: lane.id };
                let may_have = has_room || self.idle_workers(key).next().is_some();
                if !may_have || served.contains(&key) {
                    continue;
                }
                let turn = (it.slots_used, it.last_turn, lane.slots_used, lane.last_turn);
                if next.is_none_or(|(first, ..)| turn < first) {
                    next = Some((turn, key, runs));
                }
            }
        }
        next.map(|(_, key, runs)| (key, runs))
    }

    /// Gives the lane a worker, or starts one.
    fn serve(
        &mut self,
        now: Moment,
        key: LaneKey,
        program: Program,
        has_room: bool,
        actions: &mut Vec<Action>,
    ) -> Served {
        let idle = self.idle_workers(key).next();
        if let Some(worker) = idle {
            self.turn += 1;
            let share = self.fair_batch(key);
            if let Some(session) = self.sessions.get_mut(&key.session) {
                session.last_turn = self.turn;
                if let Some(lane) = session.lanes.get_mut(key.program) {
                    lane.last_turn = self.turn;
                }
            }
            self.assign(now, key, worker, share, actions);
            return Served::One;
        }
        if !self.can_start(now, program) || !self.wants_more_workers(key) {
            return Served::Enough;
        }
        if !has_room || !self.make_room(now, actions) {
            return Served::NoRoom;
        }
        let worker = WorkerKey(self.next_worker);
        self.next_worker += 1;
        self.counters.workers_started += 1;
        self.workers.insert(worker, Worker::starting(key, program, now));
        actions.push(Action::Spawn(worker, program));
        Served::One
    }

    fn idle_workers(&self, lane: LaneKey) -> impl Iterator<Item = WorkerKey> {
        self.idle.range((lane, WorkerKey(0))..=(lane, WorkerKey(u32::MAX))).map(|(_, key)| *key)
    }

    fn starting_workers(&self, lane: LaneKey) -> usize {
        let starting = |worker: &&Worker| worker.state == WorkerState::Starting && worker.lane == lane;
        self.workers.values().filter(starting).count()
    }

    fn queued_in(&self, key: LaneKey) -> usize {
        let lane = self.sessions.get(&key.session).and_then(|session| session.lanes.get(key.program));
        lane.map_or(0, Lane::queued)
    }

    /// An equal part of the lane's queue for every worker that could take one now.
    fn fair_batch(&self, key: LaneKey) -> usize {
        let takers = self.idle_workers(key).count() + self.starting_workers(key);
        self.queued_in(key).div_ceil(takers.max(1))
    }

    /// Whether more attempts wait in the lane than workers of it are starting.
    fn wants_more_workers(&self, key: LaneKey) -> bool {
        self.queued_in(key) > self.starting_workers(key)
    }

    /// Makes room for one more worker if there is none, by retiring an idle one. False if that is not possible, or takes
    /// until that one is gone.
    fn make_room(&mut self, now: Moment, actions: &mut Vec<Action>) -> bool {
        let alive = self.workers.values().filter(|worker| !worker.is_ending()).count();
        let is_short = !self.may_try_more();
        let makes_way = if is_short { alive == self.workers.len() } else { alive == self.slots as usize };
        if makes_way {
            let Some(idle) = self.one_to_make_way(now) else { return false };
            self.retire(idle, actions);
        }
        !is_short && alive <= self.slots as usize
    }

    /// An idle worker to be retired for another lane. One that was busy a moment ago has more to do in a moment: it stays
    /// for a while, until its turn is over.
    fn one_to_make_way(&mut self, now: Moment) -> Option<WorkerKey> {
        let stays_until = |key: &WorkerKey| {
            let worker = self.workers.get(key)?;
            Some((worker.active_at + WORTH_WAITING).min(worker.started_at + TURN))
        };
        let idle: Vec<_> =
            self.idle.iter().filter_map(|(lane, key)| Some((*lane, *key, stays_until(key)?))).collect();
        let may_go = || idle.iter().filter(|(.., until)| *until <= now);
        // Nothing waits for most of those that idle.
        let unneeded = may_go().find(|(lane, ..)| self.queued_in(*lane) == 0);
        let chosen = unneeded.or(may_go().next()).map(|(_, key, _)| *key);
        if chosen.is_none() {
            self.room_due = idle.iter().map(|(.., until)| *until).min();
        }
        chosen
    }

    /// Lets an idle worker go.
    pub(super) fn retire(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&key) {
            self.idle.remove(&(worker.lane, key));
            worker.state = WorkerState::Ending;
            actions.push(Action::Retire(key));
        }
    }

    /// Gives a worker the front of its lane's queue: at most `most` attempts, and about [`WORKER_PLAN`] of work.
    fn assign(&mut self, now: Moment, key: LaneKey, to: WorkerKey, most: usize, actions: &mut Vec<Action>) {
        let (Some(session), Some(worker)) = (self.sessions.get_mut(&key.session), self.workers.get_mut(&to))
        else {
            return;
        };
        let Some(lane) = session.lanes.get_mut(key.program) else { return };
        let singly = session.fresh_workers || lane.singly;
        if singly && worker.is_busy() {
            return;
        }
        let most = if singly { 1 } else { most };
        let mut works = Vec::with_capacity(most.min(lane.queued()).min(WORKS_EXPECTED));
        // Jobs of one function follow each other: what is known of it is looked up once.
        let mut known = None;
        while works.len() < most {
            let Some(function) = lane.front().map(|attempt| attempt.function) else { break };
            let estimate = match known {
                Some((known, estimate)) if known == function => estimate,
                _ => session.run_times.of(function),
            };
            known = Some((function, estimate));
            if !may_take(estimate, worker) {
                break;
            }
            let Some(attempt) = lane.pop_front() else { break };
            let estimate_ns = estimate.unwrap_or(WORKER_PLAN.as_nanos() as u64);
            if let Some(limit) = attempt.time_limit() {
                let ends = now + limit;
                worker.watch = Some(worker.watch.map_or(ends, |at| at.min(ends)));
            }
            let number = worker.next_number;
            worker.next_number = number.wrapping_add(1);
            works.push(Work { number, function: attempt.function, args: attempt.args.clone() });
            worker.planned_ns += estimate_ns;
            worker.work.push_back(InWorker { number, attempt, estimate_ns });
        }
        if works.is_empty() {
            return;
        }
        if worker.busy_since.is_none() {
            worker.busy_since = Some(now);
            worker.quiet_beats = 0;
            worker.front_beats = 0;
            session.slot_taken(key.program);
        }
        session.in_workers += works.len();
        worker.active_at = now;
        self.idle.remove(&(key, to));
        actions.push(Action::Assign(to, works));
    }

    /// Gives busy workers the next attempts of their lane before they run dry, unless another session is due.
    fn top_up(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let waiting = self.sessions.values().filter(|session| session.wants_worker());
        let Some(fewest) = waiting.map(|session| session.slots_used).min() else { return };
        let low = WORKER_PLAN.as_nanos() as u64 / 2;
        let running_dry: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_work())
            .filter(|(_, worker)| worker.planned_ns <= low || worker.work.len() == 1)
            .filter_map(|(key, worker)| Some((*key, worker.lane, worker.busy_since?)))
            .collect();
        for (worker, key, busy_since) in running_dry {
            let Some(session) = self.sessions.get(&key.session) else { continue };
            let Some(lane) = session.lanes.get(key.program) else { continue };
            // Where slots cannot be shared evenly, they are taken in turns.
            let may_have = |used, least| used <= least || used == least + 1 && now.since(busy_since) < TURN;
            let least_in_lane = session.waiting().map(|(other, _)| other.slots_used).min().unwrap_or(0);
            let is_its_turn =
                may_have(session.slots_used, fewest) && may_have(lane.slots_used, least_in_lane);
            if is_its_turn && !session.fresh_workers && !lane.is_empty() && lane.runs().is_some() {
                let most = lane.queued().div_ceil(lane.slots_used.max(1));
                self.assign(now, key, worker, most, actions);
            }
        }
    }

    /// Takes back work that is stuck behind a long attempt, so that the next free slot gets it.
    fn take_back_stuck(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let someone_hoards = self.sessions.values().any(|session| session.in_workers > session.slots_used);
        if !someone_hoards || self.draining.is_some() {
            self.rebalance = None;
            return;
        }
        let alive = self.workers.values().filter(|worker| !worker.is_ending()).count();
        let free = (self.capacity() as usize).saturating_sub(alive);
        let takers = self.idle.len() + free;
        // Of all there is to do for a job, looking at each worker would be the most: it is done when it is time, and at
        // once only if nobody could have taken anything when that was set.
        let is_soon = |at| takers == 0 || at <= now + STUCK;
        if self.rebalance.is_some_and(|at| now < at && is_soon(at)) {
            return;
        }
        let mut known = None;
        let mut stuck = Vec::new();
        let mut next = now + WORTH_HIDING;
        for (key, worker) in self.workers.iter().filter(|(_, worker)| worker.hoards()) {
            let patience = match known {
                Some((lane, patience)) if lane == worker.lane => patience,
                _ => self.patience(now, worker, free),
            };
            known = Some((worker.lane, patience));
            let at = worker.active_at + patience;
            if at <= now {
                stuck.push((worker.active_at, *key));
            } else {
                next = next.min(at);
            }
        }
        stuck.sort_unstable();
        // Each taker takes from one; without any, it is whoever is done next. What was asked for is on its way to them.
        let asked = self.workers.values().filter(|worker| worker.is_asked()).count();
        let most = takers.max(1).saturating_sub(asked);
        if stuck.len() > most {
            next = next.min(now + STUCK);
        }
        for (_, key) in stuck.into_iter().take(most) {
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.active_at = now;
                worker.revoke(key, actions);
            }
        }
        self.rebalance = Some(next);
    }

    /// Longest time for which a worker may sit on work beyond the attempt it runs. While workers start nobody could take it
    /// at once: they are idle soon. Nor is another lane's worker sent away for work that may begin any moment.
    fn patience(&self, now: Moment, worker: &Worker, free: usize) -> Duration {
        let lane = worker.lane;
        let may_start =
            || free > 0 && self.can_start(now, worker.program) && self.starting_workers(lane) == 0;
        if self.idle_workers(lane).next().is_some() || may_start() { STUCK } else { WORTH_HIDING }
    }

    /// Number of slots a session may count on: an equal part, with every session that has work.
    pub(super) fn share_of(&self, key: SessionKey) -> u32 {
        let others =
            self.sessions.iter().filter(|(other, session)| **other != key && session.is_active()).count();
        self.capacity().div_ceil(u32::try_from(others + 1).unwrap_or(u32::MAX))
    }

    /// Tells dispatchers how much to send, where that changed by more than a quarter.
    pub(super) fn announce_windows(&mut self, actions: &mut Vec<Action>) {
        let active = self.sessions.values().filter(|session| session.is_active()).count();
        let (capacity, has_no_room) = (self.capacity(), self.has_no_room());
        let has_enough_args = self.has_enough_args();
        for session in self.sessions.values_mut() {
            let sharing = u32::try_from(active + usize::from(!session.is_active())).unwrap_or(u32::MAX);
            let takes_work = self.draining.is_none() && !has_no_room;
            let connection = session.connection().and_then(|key| self.connections.get(&key));
            let round_trip = connection.map_or(Duration::ZERO, |connection| connection.round_trip);
            let share = capacity.div_ceil(sharing.max(1));
            let window = if takes_work { session.window_for(share, round_trip) } else { 0 };
            let window = if has_enough_args { window.min(session.held() as u32) } else { window };
            let change = window.abs_diff(session.window());
            let notable = change > session.window() / 4 || (change > 0 && (window == 0 || window <= 64));
            if notable && let Some(connection) = session.connection() {
                session.grant(window);
                actions.push(Action::Send(connection, FromNode::Window(window)));
            }
        }
    }

    /// Gives back at once what sessions sent, or workers gave back, although nothing of it can run here.
    fn return_what_cannot_run(&mut self) {
        let stopped = self.draining.is_some() || self.slots == 0;
        let lacks_storage = |program| self.programs.get(&program).is_some_and(ProgramState::lacks_storage);
        for session in self.sessions.values_mut() {
            session.return_queued(|lane| stopped || lane.runs().is_none_or(lacks_storage));
        }
    }

    /// Takes back from every worker what it has not started, for its dispatcher.
    pub(super) fn return_everything(&mut self, actions: &mut Vec<Action>) {
        for (key, worker) in &mut self.workers {
            if worker.is_busy() {
                worker.recall_all();
                worker.revoke(*key, actions);
            }
        }
    }
}

/// Whether the worker may be given an attempt that should take so long, as far as known.
fn may_take(estimate_ns: Option<u64>, worker: &Worker) -> bool {
    let plan = WORKER_PLAN.as_nanos() as u64;
    match (worker.work.len(), estimate_ns) {
        (0, _) => true,
        (WORKER_ATTEMPTS.., _) | (_, None) => false,
        (1, Some(estimate)) if u128::from(estimate.max(worker.planned_ns)) <= WORTH_HIDING.as_nanos() => true,
        (_, Some(estimate)) => worker.planned_ns + estimate <= plan,
    }
}
