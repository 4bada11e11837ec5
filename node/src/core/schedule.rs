//! Which session gets a worker, and how much work a worker gets at once.
//!
//! Sessions share the slots one by one: whoever occupies the fewest is next, equals take turns. Within a slot, work is
//! given in batches that take about a millisecond, so that tiny jobs stream and long ones are spread.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::limits::WORKER_ATTEMPTS;
use pp_protocol::worker::Work;
use pp_protocol::{FromNode, Moment};

use super::programs::is_usable;
use super::session::{Session, SessionProgram};
use super::work::{InWorker, Worker, WorkerState};
use super::{Action, Core, Program, SessionKey, WorkerKey};

/// How much work a worker holds, by the time it should take.
const WORKER_PLAN: Duration = Duration::from_millis(1);
/// A worker that runs an attempt no longer than this gets the next one ahead, to hide the way to it.
const WORTH_HIDING: Duration = Duration::from_millis(50);
/// Room that is made for work to be given at once; there may be more.
const WORKS_EXPECTED: usize = 256;
/// A worker that has not reported for so long has the rest of its work taken back, if it could be started elsewhere at
/// once. Where it cannot, that takes as long as is [`WORTH_HIDING`].
const STUCK: Duration = Duration::from_millis(2);

impl Core {
    /// Starts whatever can be started.
    pub(super) fn schedule(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.return_what_cannot_run();
        if self.draining.is_none() {
            let mut hopeless = BTreeSet::new();
            while let Some((key, program)) = self.next_session(&hopeless) {
                if !self.serve(now, key, program, actions) {
                    hopeless.insert(program);
                }
            }
            self.top_up(now, actions);
        }
        self.take_back_stuck(now, actions);
    }

    /// The session to be given the next worker, leaving out programs that cannot have one now.
    fn next_session(&self, hopeless: &BTreeSet<Program>) -> Option<(SessionKey, Program)> {
        self.sessions
            .iter()
            .filter_map(|(key, session)| Some((*key, session, session.wants_worker()?)))
            .filter(|(_, _, program)| !hopeless.contains(program))
            .min_by_key(|(_, session, _)| (session.slots_used, session.last_turn))
            .map(|(key, _, program)| (key, program))
    }

    /// Gives the session a worker, or starts one. False if there is neither worker nor room for one.
    fn serve(&mut self, now: Moment, key: SessionKey, program: Program, actions: &mut Vec<Action>) -> bool {
        let idle = self.idle_workers(program).next();
        if let Some(worker) = idle {
            self.turn += 1;
            let share = self.fair_batch(key, program);
            if let Some(session) = self.sessions.get_mut(&key) {
                session.last_turn = self.turn;
            }
            self.assign(now, key, worker, share, actions);
            return true;
        }
        if self.can_start(now, program) && self.wants_more_workers(program) && self.make_room(actions) {
            let worker = WorkerKey(self.next_worker);
            self.next_worker += 1;
            self.workers.insert(worker, Worker::starting(program, now));
            actions.push(Action::Spawn(worker, program));
            return true;
        }
        false
    }

    fn idle_workers(&self, program: Program) -> impl Iterator<Item = WorkerKey> {
        let all = (program, WorkerKey(0))..=(program, WorkerKey(u32::MAX));
        self.idle.range(all).map(|(_, key)| *key)
    }

    pub(super) fn starting_workers(&self, program: Program) -> usize {
        let starting = |worker: &&Worker| worker.state == WorkerState::Starting && worker.program == program;
        self.workers.values().filter(starting).count()
    }

    /// An equal part of the session's queue for every worker that could take one now.
    fn fair_batch(&self, key: SessionKey, program: Program) -> usize {
        let takers = self.idle_workers(program).count() + self.starting_workers(program);
        let queued = self.sessions.get(&key).map_or(0, |session| session.queue.len());
        queued.div_ceil(takers.max(1))
    }

    /// Whether more attempts wait for the program than workers of it are starting.
    fn wants_more_workers(&self, program: Program) -> bool {
        let queued: usize = self
            .sessions
            .values()
            .filter(|session| session.wants_worker() == Some(program))
            .map(|session| session.queue.len())
            .sum();
        queued > self.starting_workers(program)
    }

    /// Makes room for one more worker if there is none, by retiring an idle one. False if that is not possible, or takes
    /// until that one is gone.
    fn make_room(&mut self, actions: &mut Vec<Action>) -> bool {
        let alive = self.workers.values().filter(|worker| !worker.is_ending()).count();
        let is_short = !self.may_try_more();
        let makes_way = if is_short { alive == self.workers.len() } else { alive == self.slots as usize };
        if makes_way {
            let Some((_, idle)) = self.idle.first().copied() else { return false };
            self.retire(idle, actions);
        }
        !is_short && alive <= self.slots as usize
    }

    /// Lets an idle worker go.
    pub(super) fn retire(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&key) {
            self.idle.remove(&(worker.program, key));
            worker.state = WorkerState::Ending;
            actions.push(Action::Retire(key));
        }
    }

    /// Gives a worker the front of a session's queue: at most `most` attempts, and about [`WORKER_PLAN`] of work.
    fn assign(
        &mut self,
        now: Moment,
        key: SessionKey,
        to: WorkerKey,
        most: usize,
        actions: &mut Vec<Action>,
    ) {
        let (Some(session), Some(worker)) = (self.sessions.get_mut(&key), self.workers.get_mut(&to)) else {
            return;
        };
        let singly = session.fresh_workers || session.singly;
        if singly && worker.is_busy() {
            return;
        }
        let most = if singly { 1 } else { most };
        let mut works = Vec::with_capacity(most.min(session.queue.len()).min(WORKS_EXPECTED));
        // Jobs of one function follow each other: what is known of it is looked up once.
        let mut known = None;
        while works.len() < most {
            let Some(function) = session.queue.front().map(|attempt| attempt.function) else { break };
            let estimate = match known {
                Some((known, estimate)) if known == function => estimate,
                _ => session.run_times.of(function),
            };
            known = Some((function, estimate));
            if !may_take(estimate, worker) {
                break;
            }
            let Some(attempt) = session.queue.pop_front() else { break };
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
        if worker.session.replace(key).is_none() {
            session.slots_used += 1;
            worker.quiet_beats = 0;
        }
        session.in_workers += works.len();
        worker.active_at = now;
        self.idle.remove(&(worker.program, to));
        actions.push(Action::Assign(to, works));
    }

    /// Gives busy workers the next attempts of their session before they run dry, unless another session is due.
    fn top_up(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let fewest = |sessions: &std::collections::BTreeMap<SessionKey, Session>| {
            let waiting = sessions.values().filter(|session| session.wants_worker().is_some());
            waiting.map(|session| session.slots_used).min()
        };
        let Some(fewest) = fewest(&self.sessions) else { return };
        let low = WORKER_PLAN.as_nanos() as u64 / 2;
        let running_dry: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_work())
            .filter(|(_, worker)| worker.planned_ns <= low || worker.work.len() == 1)
            .filter_map(|(key, worker)| Some((*key, worker.session?)))
            .collect();
        for (worker, key) in running_dry {
            let Some(session) = self.sessions.get(&key) else { continue };
            let tops_up = !session.fresh_workers && session.wants_worker().is_some();
            if tops_up && session.slots_used <= fewest + 1 {
                let most = session.queue.len().div_ceil(session.slots_used.max(1));
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
                Some((program, patience)) if program == worker.program => patience,
                _ => self.patience(now, worker.program, free),
            };
            known = Some((worker.program, patience));
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

    /// How long a worker of the program may sit on work beyond the attempt it runs. While workers start nobody could
    /// take it at once: they are idle soon. Nor is another program's worker sent away for work that may begin any moment.
    fn patience(&self, now: Moment, program: Program, free: usize) -> Duration {
        let may_start = || free > 0 && self.can_start(now, program) && self.starting_workers(program) == 0;
        if self.idle_workers(program).next().is_some() || may_start() { STUCK } else { WORTH_HIDING }
    }

    /// How many slots a session may count on: an equal part, with every session that has work.
    pub(super) fn share_of(&self, key: SessionKey) -> u32 {
        if self.draining.is_some() {
            return 0;
        }
        let others =
            self.sessions.iter().filter(|(other, session)| **other != key && session.is_active()).count();
        self.capacity().div_ceil(u32::try_from(others + 1).unwrap_or(u32::MAX))
    }

    /// Tells dispatchers how much to send, where that changed by more than a quarter.
    pub(super) fn announce_windows(&mut self, actions: &mut Vec<Action>) {
        let active = self.sessions.values().filter(|session| session.is_active()).count();
        let (capacity, has_no_room) = (self.capacity(), self.has_no_room());
        for session in self.sessions.values_mut() {
            let sharing = u32::try_from(active + usize::from(!session.is_active())).unwrap_or(u32::MAX);
            let takes_work =
                self.draining.is_none() && !has_no_room && is_usable(&self.programs, &session.program);
            let connection = session.connection.and_then(|key| self.connections.get(&key));
            let round_trip = connection.map_or(Duration::ZERO, |connection| connection.round_trip);
            let share = capacity.div_ceil(sharing.max(1));
            let window = if takes_work { session.window_for(share, round_trip) } else { 0 };
            let change = window.abs_diff(session.window);
            let notable = change > session.window / 4 || (change > 0 && (window == 0 || window <= 64));
            if notable && let Some(connection) = session.connection {
                session.window = window;
                actions.push(Action::Send(connection, FromNode::Window(window)));
            }
        }
    }

    /// Gives back at once what sessions sent, or workers gave back, although nothing of it can run here.
    fn return_what_cannot_run(&mut self) {
        let stopped = self.draining.is_some() || self.slots == 0;
        for session in self.sessions.values_mut() {
            if stopped || matches!(session.program, SessionProgram::Refused(_)) {
                session.return_queue();
            }
        }
    }

    /// Takes back from every worker what it has not started, for its dispatcher.
    pub(super) fn return_everything(&mut self, actions: &mut Vec<Action>) {
        for (key, worker) in &mut self.workers {
            if let Some(session) = worker.session {
                let attempts: Vec<_> = worker.attempts_of(session).collect();
                worker.recall_all(attempts);
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
