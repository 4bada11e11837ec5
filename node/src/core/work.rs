//! Workers and the attempts in them: how attempts end, and who is to blame when a worker dies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pp_protocol::worker::{Finished, WorkResult};
use pp_protocol::{Attempt, AttemptId, Death, DeathKind, Ended, Moment, WorkerDeath};

use super::lanes::LaneKey;
use super::watch::Place;
use super::{Action, Core, Program, Progress, SessionKey, WorkerKey};
use crate::wrapping::is_before;

/// Death of a worker that this node killed.
const KILLED: Death = Death::Signal(9);
/// A worker that owes an answer, runs nothing and has not reported for so many heartbeats, a second each, is killed: it
/// never will. Counted, not timed: while this process is suspended, so may be its workers.
const QUIET_BEATS: u32 = 5;

/// An attempt with a time limit that has not been reported for so many heartbeats beyond it, since those before it were, has
/// run for too long, whatever its worker's page says: a job can write there. One that does not begin for less than that is
/// [noticed](QUIET_BEATS) before.
const LATE_BEATS: u32 = 10;

#[derive(Debug)]
pub(super) struct Worker {
    /// Whose attempts it runs.
    pub(super) lane: LaneKey,
    pub(super) program: Program,
    pub(super) state: WorkerState,
    /// Work it was given and has not reported, in order.
    pub(super) work: VecDeque<InWorker>,
    /// Expected run time of that work, in nanoseconds.
    pub(super) planned_ns: u64,
    /// The number its next piece of work gets.
    pub(super) next_number: u32,
    /// Time to see whether an attempt in it has run too long.
    pub(super) watch: Option<Moment>,
    /// Time when it last reported, was given work, or was asked for the work that is stuck in it.
    pub(super) active_at: Moment,
    /// Time when it was started.
    pub(super) started_at: Moment,
    /// Since when it has held attempts without a break: then it takes a slot of its session.
    pub(super) busy_since: Option<Moment>,
    /// Number of heartbeats since it last reported, or was seen to run something.
    pub(super) quiet_beats: u32,
    /// How many heartbeats there were since the first of its work became the first, but for those in which something large
    /// was moving, or it was not listened to.
    pub(super) front_beats: u32,
    /// Whether something large has moved since the last heartbeat.
    is_moving: bool,
    /// The piece it was last seen to run, and when that had begun at the latest.
    seen: Option<(u32, Moment)>,
    /// Whether it is being killed because it owed an answer and gave none.
    is_silent: bool,
    /// Number of revocations of its work that the shell was asked for and has not answered. It gets no more until then: the
    /// answer would be taken for one about that work, too.
    revoking: u32,
    /// Attempts to be cancelled or recalled as soon as it is known how far it has come.
    orders: Orders,
    /// The attempt for whose sake it is being killed, if any, and how that ends.
    doomed: Option<(AttemptId, Ended)>,
    /// The attempt it reported last, to which late output belongs.
    pub(super) last: Option<AttemptId>,
    /// The attempt that sent something ahead of its result last: it does not run again under its number, or that would be sent
    /// twice.
    pub(super) sent_ahead: Option<AttemptId>,
    /// It gets no more work: it is surplus, or used up.
    pub(super) leaving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WorkerState {
    /// The process is starting.
    Starting,
    /// Takes work.
    Ready,
    /// Work up to this number was revoked; no more until it has been thrown away.
    Skipping(u32),
    /// Killed or retired; its exit is awaited.
    Ending,
}

#[derive(Debug)]
pub(super) struct InWorker {
    pub(super) number: u32,
    pub(super) attempt: Attempt,
    /// Expected run time, in nanoseconds.
    pub(super) estimate_ns: u64,
}

/// The greater one counts where both were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Recall,
    Cancel,
}

impl Worker {
    pub(super) fn starting(lane: LaneKey, program: Program, now: Moment) -> Self {
        Self {
            lane,
            program,
            state: WorkerState::Starting,
            work: VecDeque::new(),
            planned_ns: 0,
            next_number: 0,
            watch: None,
            active_at: now,
            started_at: now,
            busy_since: None,
            quiet_beats: 0,
            front_beats: 0,
            is_moving: false,
            seen: None,
            is_silent: false,
            revoking: 0,
            orders: Orders::default(),
            doomed: None,
            last: None,
            sent_ahead: None,
            leaving: false,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.work.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.takes_work() && self.work.is_empty()
    }

    /// Whether it may be given work, or more of it.
    pub(super) fn takes_work(&self) -> bool {
        self.state == WorkerState::Ready && !self.leaving && self.revoking == 0
    }

    /// Whether it holds work that another could start.
    pub(super) fn hoards(&self) -> bool {
        self.state == WorkerState::Ready && self.work.len() > 1 && !self.is_asked()
    }

    /// Whether its work was revoked and the answer is on its way.
    pub(super) fn is_asked(&self) -> bool {
        self.revoking > 0
    }

    /// Whether it has started, and is to go on.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, WorkerState::Ready | WorkerState::Skipping(_))
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state == WorkerState::Ending
    }

    /// Number of attempts it holds.
    pub(super) fn holds(&self) -> usize {
        self.work.len()
    }

    /// Starting, idle, busy; one that ends counts as busy until it is gone.
    pub(super) fn state_for_people(&self) -> usize {
        match self.state {
            WorkerState::Starting => 0,
            WorkerState::Ready if self.work.is_empty() => 1,
            _ => 2,
        }
    }

    pub(super) fn attempts_of(&self, session: SessionKey) -> impl Iterator<Item = AttemptId> {
        let attempts = if self.lane.session == session { Some(&self.work) } else { None };
        attempts.into_iter().flatten().map(|piece| piece.attempt.id)
    }

    /// Whether it owes an answer: what came of its work, or that it threw away what was revoked.
    fn owes(&self) -> bool {
        match self.state {
            WorkerState::Ready => !self.work.is_empty(),
            WorkerState::Skipping(_) => true,
            WorkerState::Starting | WorkerState::Ending => false,
        }
    }

    /// Asks for what it has not claimed.
    pub(super) fn revoke(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        self.revoking += 1;
        actions.push(Action::Revoke(key));
    }

    /// Everything that turns out not to have started goes back to the dispatcher, not to the queue here.
    pub(super) fn recall_all(&mut self) {
        let attempts = self.work.iter().map(|piece| piece.attempt.id).collect();
        self.orders.add(attempts, Order::Recall);
    }

    /// The attempt that runs, if the worker has come this far.
    pub(super) fn running(&self, progress: Progress) -> Option<&InWorker> {
        let number = progress.started.wrapping_sub(1);
        self.work.iter().find(|piece| piece.number == number && progress.started != progress.finished)
    }

    /// When a piece that runs now began, as its page says; but not later than when it was first seen to run.
    fn began(&mut self, number: u32, said: Moment, now: Moment) -> Moment {
        let seen = self.seen.filter(|(seen, _)| *seen == number).map_or(now, |(_, began)| began);
        let began = said.min(seen);
        self.seen = Some((number, began));
        began
    }

    /// The attempt that has taken too long by heartbeats alone.
    fn late(&self) -> Option<AttemptId> {
        let first = &self.work.front()?.attempt;
        let beats = first.time_limit()?.as_secs().saturating_add(LATE_BEATS.into());
        (u64::from(self.front_beats) > beats).then_some(first.id)
    }

    fn pop(&mut self) -> Option<InWorker> {
        let piece = self.work.pop_front()?;
        self.planned_ns -= piece.estimate_ns;
        Some(piece)
    }

    pub(super) fn check_invariants(&self) {
        let programs = self.work.iter().map(|piece| piece.attempt.program);
        assert!(programs.eq(std::iter::repeat_n(self.lane.program, self.work.len())), "work is of its lane");
        let planned: u64 = self.work.iter().map(|piece| piece.estimate_ns).sum();
        assert_eq!(self.planned_ns, planned, "a worker's plan is the sum of its work's");
        let numbers: Vec<_> = self.work.iter().map(|piece| piece.number).collect();
        assert!(numbers.windows(2).all(|pair| is_before(pair[0], pair[1])), "work is numbered in order");
    }
}

impl Core {
    pub(super) fn worker_ready(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&key).filter(|worker| worker.state == WorkerState::Starting)
        else {
            return;
        };
        worker.state = WorkerState::Ready;
        let program = worker.program;
        self.idle.insert((worker.lane, key));
        self.found_room();
        self.program_starts(program, actions);
    }

    pub(super) fn worker_finished(
        &mut self,
        now: Moment,
        key: WorkerKey,
        finished: Vec<Finished>,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.active_at = now;
        worker.quiet_beats = 0;
        worker.front_beats = 0;
        let (program, is_first) = (worker.program, worker.last.is_none());
        let place = Place { worker: key, lane: worker.lane, program };
        let mut session = self.sessions.get_mut(&worker.lane.session);
        if let Some(lane) = session.as_mut().and_then(|session| session.lanes.get_mut(worker.lane.program)) {
            lane.singly = false;
        }
        for result in finished {
            if worker.work.front().is_none_or(|piece| piece.number != result.number) {
                // It reports what it was not given: whatever it runs, it is no worker any more.
                self.kill_worker(key, actions);
                return;
            }
            let Some(piece) = worker.pop() else { return };
            worker.last = Some(piece.attempt.id);
            if let Some(session) = &mut session {
                session.in_workers -= 1;
                session.learn(piece.attempt.function, result.run_time_ns);
                session.forgets_args_of(&piece.attempt);
                let ended = ended(result.result);
                if !self.watchers.is_empty() {
                    self.watchers.note(now, place, &piece.attempt, result.run_time_ns, &ended);
                }
                session.reported(piece.attempt.id, result.run_time_ns, ended);
            }
        }
        if is_first {
            self.program_does_well(program, actions);
        }
        self.settle(key, actions);
    }

    pub(super) fn worker_skipped(&mut self, key: WorkerKey, number: u32, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.quiet_beats = 0;
        if worker.state == WorkerState::Skipping(number) {
            worker.state = WorkerState::Ready;
            self.settle(key, actions);
        }
    }

    /// Only what was running is to blame. What had finished unreported, and what had not started, goes back in front;
    /// except that if finishing is what it could not do, the one that finished last is to blame.
    pub(super) fn worker_exited(
        &mut self,
        now: Moment,
        key: WorkerKey,
        progress: Progress,
        mut death: WorkerDeath,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut worker) = self.workers.remove(&key) else { return };
        self.idle.remove(&(worker.lane, key));
        self.drop_part_of(key, worker.lane.session);
        if worker.is_silent && death.death == KILLED {
            death.death = Death::Silent;
        }
        if !worker.is_ending() || worker.is_silent {
            *self.counters.workers_lost.entry(DeathKind::from(&death.death)).or_default() += 1;
        }
        // One that nobody killed died of something: of what it ran or, while it owed the report, of what it ran last. Were
        // that not charged, it would be run for ever.
        let could_not_finish = matches!(death.death, Death::CutOff | Death::HeldUp | Death::Silent);
        let died_of_the_last =
            progress.started == progress.finished && (could_not_finish || !worker.is_ending());
        let finished_last = died_of_the_last.then(|| progress.finished.wrapping_sub(1));
        let running = worker.running(progress).map(|piece| piece.number).or(finished_last);
        // One that died before it could be killed only seemed to run for so long: word of its end was late.
        let is_true = |ended: &Ended| *ended != Ended::TimedOut || death.death == KILLED;
        let mut doomed = worker.doomed.take().filter(|(_, ended)| is_true(ended));
        // Counts wrap around: one that has reported anything had begun something.
        let began_nothing = (progress.started, progress.finished) == (0, 0) && worker.last.is_none();
        let place = Place { worker: key, lane: worker.lane, program: worker.program };
        let Some(session) = self.sessions.get_mut(&worker.lane.session) else { return };
        session.in_workers -= worker.work.len();
        if worker.busy_since.is_some() {
            session.slot_freed(worker.lane.program);
        }
        while let Some(piece) = worker.work.pop_back() {
            let id = piece.attempt.id;
            let is_running = running == Some(piece.number);
            // One that was seen beyond its time limit has run for too long, whatever the page says by now.
            let is_doomed =
                |(doomed, ended): &mut _| *doomed == id && (is_running || *ended == Ended::TimedOut);
            let its_doom = doomed.take_if(is_doomed);
            let ended = match (its_doom, worker.orders.of(id)) {
                (Some((_, ended)), _) => ended,
                // It was told to go back, and had died by itself before it could be killed.
                (None, Some(Order::Recall)) if is_running && death.death != KILLED => {
                    Ended::WorkerDied(Box::new(death.clone()))
                }
                (None, Some(order)) => order.outcome(),
                // It may have been killed for an attempt that ended just before that: then the one that runs is not to
                // blame, either.
                (None, None) if !is_running || doomed.is_some() => {
                    if worker.sent_ahead != Some(id) {
                        session.lanes.put_back(piece.attempt, false);
                        continue;
                    }
                    Ended::Returned
                }
                (None, None) => Ended::WorkerDied(Box::new(death.clone())),
            };
            if is_running && !self.watchers.is_empty() {
                let run_time = now.since(Moment(progress.started_at_ns)).as_nanos() as u64;
                self.watchers.note(now, place, &piece.attempt, run_time, &ended);
            }
            session.leaves(&piece.attempt, ended);
        }
        if began_nothing && !worker.is_ending() {
            self.worker_began_nothing(now, worker.program, &death.death, actions);
        }
    }

    /// A worker that holds nothing any more is free for anybody, or leaves.
    pub(super) fn settle(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&key).filter(|worker| worker.work.is_empty()) else { return };
        worker.watch = None;
        worker.orders.0.clear();
        let session = self.sessions.get_mut(&worker.lane.session);
        let is_used_up = session.as_ref().is_some_and(|session| session.fresh_workers);
        if worker.busy_since.take().is_some()
            && let Some(session) = session
        {
            session.slot_freed(worker.lane.program);
        }
        match worker.state {
            WorkerState::Ready if worker.leaving || is_used_up => {
                worker.state = WorkerState::Ending;
                actions.push(Action::Retire(key));
            }
            WorkerState::Ready if worker.revoking == 0 => {
                self.idle.insert((worker.lane, key));
            }
            WorkerState::Ready | WorkerState::Starting | WorkerState::Skipping(_) | WorkerState::Ending => {}
        }
    }

    pub(super) fn kill_worker(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&key)
            && worker.state != WorkerState::Ending
        {
            self.idle.remove(&(worker.lane, key));
            worker.state = WorkerState::Ending;
            worker.watch = None;
            self.counters.workers_killed += 1;
            actions.push(Action::Kill(key));
        }
    }

    /// A session is gone: what runs for it is killed, and its other workers leave.
    pub(super) fn end_workers_of(&mut self, session: SessionKey, actions: &mut Vec<Action>) {
        let its_workers = self.workers.iter().filter(|(_, worker)| worker.lane.session == session);
        for (key, is_idle) in its_workers.map(|(key, it)| (*key, it.is_idle())).collect::<Vec<_>>() {
            if is_idle {
                self.retire(key, actions);
            } else {
                self.kill_worker(key, actions);
            }
        }
    }

    /// Ends attempts, wherever they are. Each is answered by an outcome, sooner or later.
    pub(super) fn cancel(&mut self, key: SessionKey, ids: &[AttemptId], actions: &mut Vec<Action>) {
        self.take_out(key, ids, Order::Cancel, actions);
    }

    /// Gives back attempts that have not started.
    pub(super) fn recall(&mut self, key: SessionKey, ids: &[AttemptId], actions: &mut Vec<Action>) {
        self.counters.recalled += ids.len() as u64;
        self.take_out(key, ids, Order::Recall, actions);
    }

    fn take_out(&mut self, key: SessionKey, ids: &[AttemptId], order: Order, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let mut in_workers = BTreeSet::new();
        for id in ids {
            match session.lanes.take_out(*id) {
                Some(attempt) => session.leaves(&attempt, order.outcome()),
                None => drop(in_workers.insert(*id)),
            }
        }
        if in_workers.is_empty() {
            return;
        }
        let its_workers = self.workers.iter_mut().filter(|(_, worker)| worker.lane.session == key);
        for (worker_key, worker) in its_workers {
            let wanted =
                worker.work.iter().map(|piece| piece.attempt.id).filter(|id| in_workers.contains(id));
            let wanted: Vec<_> = wanted.collect();
            if !wanted.is_empty() {
                worker.orders.add(wanted, order);
                worker.revoke(*worker_key, actions);
            }
        }
    }

    /// Everything the worker had not claimed at `progress` is the node's again.
    pub(super) fn revoked(&mut self, key: WorkerKey, progress: Progress, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.revoking -= 1;
        let orders = std::mem::take(&mut worker.orders);
        let running = worker.running(progress).map(|piece| piece.attempt.id);
        let mut session = self.sessions.get_mut(&worker.lane.session);
        let mut revoked_any = false;
        while worker.work.back().is_some_and(|piece| !is_before(piece.number, progress.started)) {
            let Some(piece) = worker.work.pop_back() else { break };
            worker.planned_ns -= piece.estimate_ns;
            revoked_any = true;
            let Some(session) = &mut session else { continue };
            session.in_workers -= 1;
            match orders.of(piece.attempt.id) {
                Some(order) => session.leaves(&piece.attempt, order.outcome()),
                None => session.lanes.put_back(piece.attempt, worker.work.is_empty()),
            }
        }
        if revoked_any && worker.state == WorkerState::Ready {
            worker.state = WorkerState::Skipping(worker.next_number);
        }
        let cancelled = running.filter(|id| orders.of(*id) == Some(Order::Cancel));
        if worker.is_ending() {
            // What runs in it is to go back, too, once it is gone.
            worker.orders = orders;
        } else if !orders.0.is_empty() {
            // What has finished is reported in a moment. If the worker dies instead, it is not to run again.
            let finished = worker.work.iter().map(|piece| piece.attempt.id).filter(|id| running != Some(*id));
            let cancelled = finished.filter(|id| orders.of(*id) == Some(Order::Cancel)).collect();
            worker.orders.add(cancelled, Order::Cancel);
        }
        match cancelled {
            Some(id) => {
                worker.doomed = Some((id, Ended::Cancelled));
                self.kill_worker(key, actions);
            }
            None => self.settle(key, actions),
        }
    }

    /// Asks how far the workers are that may be running an attempt beyond its time.
    pub(super) fn watch_time_limits(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for (key, worker) in &mut self.workers {
            if worker.watch.take_if(|at| *at <= now).is_some() {
                actions.push(Action::Observe(*key));
            }
        }
    }

    /// Asks how far the workers are that have not reported for a while although they owe an answer.
    pub(super) fn watch_quiet_workers(&mut self, actions: &mut Vec<Action>) {
        for (key, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.owes()) {
            let session = self.sessions.get(&worker.lane.session);
            if session.is_some_and(|session| session.output.holds(*key) || session.parts.holds(*key)) {
                worker.quiet_beats = 0;
                continue;
            }
            worker.quiet_beats += 1;
            worker.front_beats += u32::from(!std::mem::take(&mut worker.is_moving));
            // One that was given its work just now has not had a second yet.
            if worker.quiet_beats > 1 || worker.late().is_some() {
                actions.push(Action::Observe(*key));
            }
        }
    }

    /// Something large is on its way to the worker, or from it.
    pub(super) fn worker_is_moving(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.quiet_beats = 0;
            worker.is_moving = true;
        }
    }

    pub(super) fn observed(
        &mut self,
        now: Moment,
        key: WorkerKey,
        progress: Progress,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&key).filter(|worker| !worker.is_ending()) else { return };
        let running = worker.running(progress).map(|piece| piece.number);
        let began = running.map(|number| worker.began(number, Moment(progress.started_at_ns), now));
        let mut overdue = worker.late();
        let mut watch: Option<Moment> = None;
        for piece in &worker.work {
            let Some(limit) = piece.attempt.time_limit() else { continue };
            let ends = if let Some(began) = began.filter(|_| running == Some(piece.number)) {
                began + limit
            } else if is_before(piece.number, progress.started) {
                // It has finished, its report is on the way.
                continue;
            } else {
                now + limit
            };
            if ends <= now {
                overdue = overdue.or(Some(piece.attempt.id));
            } else {
                watch = Some(watch.map_or(ends, |at| at.min(ends)));
            }
        }
        worker.watch = watch;
        if progress.started != progress.finished {
            worker.quiet_beats = 0;
        }
        if let Some(id) = overdue {
            worker.doomed = Some((id, Ended::TimedOut));
            self.kill_worker(key, actions);
        } else if worker.owes() && worker.quiet_beats > QUIET_BEATS {
            worker.is_silent = true;
            self.kill_worker(key, actions);
        }
    }
}

/// Orders for attempts, for those that have one.
#[derive(Debug, Default)]
struct Orders(BTreeMap<AttemptId, Order>);

impl Orders {
    fn add(&mut self, attempts: Vec<AttemptId>, order: Order) {
        for id in attempts {
            let known = self.0.entry(id).or_insert(order);
            *known = order.max(*known);
        }
    }

    fn of(&self, id: AttemptId) -> Option<Order> {
        self.0.get(&id).copied()
    }
}

impl Order {
    fn outcome(self) -> Ended {
        match self {
            Self::Cancel => Ended::Cancelled,
            Self::Recall => Ended::Returned,
        }
    }
}

fn ended(result: WorkResult) -> Ended {
    match result {
        WorkResult::Succeeded(result) => Ended::Succeeded(result),
        WorkResult::Panicked(panic) => Ended::Panicked(Box::new(panic)),
        WorkResult::TooLarge(size, limit) => Ended::TooLarge(size, limit),
        WorkResult::UnknownFunction => Ended::UnknownFunction,
        WorkResult::BadArguments(reason) => Ended::BadArguments(reason),
        WorkResult::BadResult(reason) => Ended::BadResult(reason),
    }
}
