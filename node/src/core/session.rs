//! One dispatcher's standing with this node: what it queued here, what it is owed, how long its jobs take.

use std::collections::VecDeque;
use std::time::Duration;

use pp_protocol::limits::{
    LARGE_ARGS_BYTES, OUTCOME_BYTES_AT_NODE, OUTCOME_BYTES_KEPT, OUTCOMES_KEPT, WINDOW_ATTEMPTS,
};
use pp_protocol::{
    Attempt, AttemptId, Ended, FromNode, FunctionId, Moment, Outcome, ProgramId, RunTimes, SessionId, Tally,
};

use super::admission::Proof;
use super::counters::SessionTally;
use super::lanes::{Lane, Lanes};
use super::output::Output;
use super::parts::Parts;
use super::{Action, ConnectionKey, Core, Program};

/// A dispatcher sends so much work ahead that its slots stay busy for this long, and a round trip, without more of it.
const AHEAD: Duration = Duration::from_millis(20);
/// Jobs longer than this are not sent ahead: fetching the next one costs nothing beside them.
const TOO_LONG_TO_SEND_AHEAD: Duration = Duration::from_millis(500);
/// Most attempts sent ahead for one slot.
const AHEAD_ATTEMPTS: u64 = 32_768;

/// Connection of a session's dispatcher.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    /// Over this connection.
    Connected(ConnectionKey),
    /// Not at all: its connection broke off. It may come back until then.
    Silent { until: Moment },
}

#[derive(Debug)]
pub(super) struct Session {
    /// The dispatcher's own identifier of the session.
    pub(super) id: SessionId,
    /// The dispatcher, for people.
    pub(super) name: String,
    pub(super) link: Link,
    /// The youngest connection it has been on.
    pub(super) youngest_connection: ConnectionKey,
    /// Proof with which this one was opened.
    pub(super) proof: Option<Proof>,
    /// Whether each of its attempts has a worker of its own.
    pub(super) fresh_workers: bool,
    /// Its programs, and what waits for each.
    pub(super) lanes: Lanes,
    /// Attempts in workers, started or not.
    pub(super) in_workers: usize,
    /// Workers holding its attempts.
    pub(super) slots_used: usize,
    /// Turn of the node in which it was last given a worker.
    pub(super) last_turn: u64,
    /// The window last announced.
    window: u32,
    /// The largest window ever announced: attempts may have been sent for it before there was word of another.
    granted: u32,
    /// Size of the large arguments of its attempts.
    args_bytes: u64,
    /// Run times of its functions.
    pub(super) run_times: RunTimes,
    /// Outcomes not acknowledged, oldest first.
    outcomes: VecDeque<Outcome>,
    /// Total size of these, and the size from which on no more attempts are started.
    outcome_bytes: usize,
    outcome_room: usize,
    /// Number of outcomes there ever were.
    outcomes_made: u64,
    /// Number of the youngest outcomes that have not been sent.
    unsent: usize,
    /// Output of its jobs, on the way to it.
    pub(super) output: Output,
    /// What its jobs sent ahead of their results, on the way to it.
    pub(super) parts: Parts,
    /// Total run time of its attempts.
    run_time_ns: u64,
    /// How they ended.
    tally: SessionTally,
    /// Jobs that wait at the dispatcher itself, as it said last.
    pub(super) waiting: u64,
}

/// Statistics of a session, for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionStatistics {
    /// The dispatcher.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Attempts that ended.
    pub ended: u64,
    /// Their total run time.
    pub run_time: Duration,
    /// Attempts waiting.
    pub queued: usize,
    /// Jobs that wait at the dispatcher itself, for any node, as it said last.
    pub waiting: u64,
    /// Workers holding its attempts.
    pub slots_used: usize,
    /// Outcomes kept until they are acknowledged.
    pub kept: usize,
    /// Parts of what jobs send ahead of their results, kept until they are taken.
    pub parts: usize,
    /// Number of attempts without outcome that it was told it may have here.
    pub window: u32,
}

impl Session {
    pub(super) fn new(id: SessionId, name: String, connection: ConnectionKey, proof: Option<Proof>) -> Self {
        Self {
            id,
            name,
            link: Link::Connected(connection),
            youngest_connection: connection,
            proof,
            fresh_workers: false,
            lanes: Lanes::default(),
            in_workers: 0,
            slots_used: 0,
            last_turn: 0,
            window: 0,
            granted: 0,
            args_bytes: 0,
            run_times: RunTimes::default(),
            outcomes: VecDeque::new(),
            outcome_bytes: 0,
            outcome_room: OUTCOME_BYTES_KEPT,
            outcomes_made: 0,
            unsent: 0,
            output: Output::default(),
            parts: Parts::default(),
            run_time_ns: 0,
            tally: SessionTally::default(),
            waiting: 0,
        }
    }

    /// The connection it is on, while it is on one.
    pub(super) fn connection(&self) -> Option<ConnectionKey> {
        match self.link {
            Link::Connected(connection) => Some(connection),
            Link::Silent { .. } => None,
        }
    }

    /// The window last announced.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// It may have so many attempts here from now on.
    pub(super) fn grant(&mut self, window: u32) {
        self.window = window;
        self.granted = self.granted.max(window);
    }

    /// It may have as many attempts here as it likes.
    #[cfg(test)]
    pub(super) fn lift_window(&mut self) {
        self.granted = u32::MAX;
    }

    /// The most attempts that it was ever told it may have here.
    pub(super) fn granted(&self) -> usize {
        self.granted as usize
    }

    /// Size of the large arguments of its attempts.
    pub(super) fn args_bytes(&self) -> u64 {
        self.args_bytes
    }

    /// The same as it is found by counting.
    pub(super) fn args_bytes_of<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> u64 {
        attempts.map(large_args).sum()
    }

    /// There are so many sessions at the node.
    pub(super) fn is_one_of(&mut self, sessions: usize) {
        self.outcome_room = (OUTCOME_BYTES_AT_NODE / sessions.max(1)).min(OUTCOME_BYTES_KEPT);
        self.output.is_one_of(sessions);
        self.parts.is_one_of(sessions);
    }

    /// Attempts of which its dispatcher has not acknowledged an outcome.
    pub(super) fn unsettled(&self) -> usize {
        self.held() + self.outcomes.len()
    }

    /// Attempts without outcome.
    pub(super) fn held(&self) -> usize {
        self.lanes.queued() + self.in_workers
    }

    /// Whether it takes part in the sharing of slots.
    pub(super) fn is_active(&self) -> bool {
        self.in_workers > 0 || self.lanes.any_waits()
    }

    /// Whether attempts wait that may be started, as far as outcomes that are not acknowledged go.
    fn may_start(&self) -> bool {
        self.lanes.any_waits()
            && self.outcomes.len() < OUTCOMES_KEPT
            && self.outcome_bytes < self.outcome_room
    }

    /// The lanes whose next attempt may be started, as far as the session goes, and what they run.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Lane, Program)> {
        let lanes = if self.may_start() { Some(&self.lanes) } else { None };
        let lanes = lanes.into_iter().flat_map(|lanes| lanes.iter()).filter(|lane| !lane.is_empty());
        lanes.filter_map(|lane| Some((lane, lane.runs()?)))
    }

    /// Whether any of its attempts may be started, as far as the session goes.
    pub(super) fn wants_worker(&self) -> bool {
        self.lanes.any_waits() && self.waiting().next().is_some()
    }

    /// Attempts for their lanes, with large arguments of this size. Those of programs that were never offered go back.
    pub(super) fn take_in(&mut self, attempts: Vec<Attempt>, args_bytes: u64) {
        self.args_bytes += args_bytes;
        let Some(first) = attempts.first().map(|attempt| attempt.program) else { return };
        // Nearly always, all are of one program.
        if attempts.iter().all(|attempt| attempt.program == first) {
            return self.take_in_run(first, attempts);
        }
        let mut attempts = attempts.into_iter().peekable();
        while let Some(program) = attempts.peek().map(|attempt| attempt.program) {
            let run = std::iter::from_fn(|| attempts.next_if(|attempt| attempt.program == program));
            self.take_in_run(program, run.collect());
        }
    }

    fn take_in_run(&mut self, program: ProgramId, attempts: Vec<Attempt>) {
        if let Err(attempts) = self.lanes.extend(program, attempts) {
            attempts.into_iter().for_each(|attempt| self.leaves(&attempt, Ended::Returned));
        }
    }

    /// Gives back attempts that were not taken in.
    pub(super) fn turn_away(&mut self, attempts: Vec<Attempt>) {
        attempts.into_iter().for_each(|attempt| self.stopped(attempt.id, Ended::Returned));
    }

    /// Time at which it is forgotten, unless it comes back.
    pub(super) fn forget_at(&self) -> Option<Moment> {
        match self.link {
            Link::Connected(_) => None,
            Link::Silent { until } => Some(until),
        }
    }

    /// Learns from one attempt.
    #[inline]
    pub(super) fn learn(&mut self, function: FunctionId, run_time_ns: u64) {
        self.run_times.learn(function, run_time_ns);
        self.run_time_ns = self.run_time_ns.saturating_add(run_time_ns);
    }

    /// Number of attempts it should have at the node when it may use `slots` of it.
    pub(super) fn window_for(&self, slots: u32, round_trip: Duration) -> u32 {
        let ahead_ns = (AHEAD + round_trip).as_nanos() as u64;
        let ahead = match self.run_times.mean() {
            None => 0,
            Some(mean) if u128::from(mean) > TOO_LONG_TO_SEND_AHEAD.as_nanos() => 0,
            Some(mean) => (ahead_ns / mean.max(1)).clamp(1, AHEAD_ATTEMPTS),
        };
        let window = u64::from(slots) * (1 + ahead);
        u32::try_from(window).unwrap_or(u32::MAX).min(WINDOW_ATTEMPTS.max(slots))
    }

    /// Notes what came of an attempt that was run.
    #[inline]
    pub(super) fn reported(&mut self, id: AttemptId, run_time_ns: u64, ended: Ended) {
        self.tally.reported(&ended, run_time_ns);
        self.ended(id, run_time_ns, ended);
    }

    /// Notes the end of an attempt that did not come to its own.
    pub(super) fn stopped(&mut self, id: AttemptId, ended: Ended) {
        self.tally.stopped(&ended);
        self.ended(id, 0, ended);
    }

    /// Notes how an attempt ended; it is sent by [`Core::flush_sessions`].
    #[inline]
    fn ended(&mut self, id: AttemptId, run_time_ns: u64, ended: Ended) {
        let outcome = Outcome { id, run_time_ns, ended };
        self.outcome_bytes += outcome.weight();
        self.outcomes.push_back(outcome);
        self.outcomes_made += 1;
        self.unsent += 1;
    }

    /// An attempt has ended without having run to its end.
    pub(super) fn leaves(&mut self, attempt: &Attempt, ended: Ended) {
        self.forgets_args_of(attempt);
        self.stopped(attempt.id, ended);
    }

    /// An attempt has ended: its arguments are no longer here.
    #[inline]
    pub(super) fn forgets_args_of(&mut self, attempt: &Attempt) {
        self.args_bytes -= large_args(attempt);
    }

    /// A worker of this program holds attempts.
    pub(super) fn slot_taken(&mut self, program: ProgramId) {
        self.slots_used += 1;
        if let Some(lane) = self.lanes.get_mut(program) {
            lane.slots_used += 1;
        }
    }

    /// It does not any more.
    pub(super) fn slot_freed(&mut self, program: ProgramId) {
        self.slots_used -= 1;
        if let Some(lane) = self.lanes.get_mut(program) {
            lane.slots_used -= 1;
        }
    }

    /// Gives back everything that waits in the lanes of which this holds.
    pub(super) fn return_queued(&mut self, which: impl Fn(&Lane) -> bool) {
        if !self.lanes.iter().any(|lane| !lane.is_empty() && which(lane)) {
            return;
        }
        for attempt in self.lanes.take_all(which) {
            self.leaves(&attempt, Ended::Returned);
        }
    }

    /// The first `received` outcomes have arrived.
    pub(super) fn acknowledged(&mut self, received: u64) {
        let first_kept = self.outcomes_made - self.outcomes.len() as u64;
        let sent = self.outcomes.len() - self.unsent;
        let done = usize::try_from(received.saturating_sub(first_kept)).unwrap_or(usize::MAX).min(sent);
        self.outcome_bytes -= self.outcomes.drain(..done).map(|outcome| outcome.weight()).sum::<usize>();
    }

    /// Whether so many outcomes can have arrived, and so many parts have been taken.
    pub(super) fn may_have_sent(&self, outcomes: u64, parts: u64) -> bool {
        outcomes <= self.outcomes_made && self.parts.may_have_sent(parts)
    }

    /// Size of the outcomes, the output and the parts that have not arrived, as far as is known.
    pub(super) fn unacknowledged_bytes(&self) -> usize {
        self.outcome_bytes + self.output.under_way() + self.parts.under_way()
    }

    /// Whether every outcome has arrived.
    pub(super) fn all_acknowledged(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Attempts whose outcome is kept.
    pub(super) fn kept(&self) -> impl Iterator<Item = AttemptId> {
        self.outcomes.iter().map(|outcome| outcome.id)
    }

    /// Every outcome and every part kept is to be sent again, on a new connection.
    pub(super) fn send_all_again(&mut self) {
        self.unsent = self.outcomes.len();
        self.parts.send_all_again();
    }

    pub(super) fn flush(&mut self, actions: &mut Vec<Action>) {
        let Link::Connected(connection) = self.link else { return };
        if let Some(lines) = self.output.take_lines() {
            actions.push(Action::Send(connection, FromNode::Output(lines)));
        }
        self.parts.flush(connection, actions);
        if self.unsent > 0 {
            let first = self.outcomes_made - self.unsent as u64;
            let outcomes = self.outcomes.range(self.outcomes.len() - self.unsent..).cloned().collect();
            self.unsent = 0;
            actions.push(Action::Send(connection, FromNode::Outcomes(first, outcomes)));
        }
    }

    /// Its attempts that have ended.
    pub(super) fn tally(&self) -> Tally {
        self.tally.all(self.outcomes_made, self.run_time_ns)
    }

    pub(super) fn statistics(&self) -> SessionStatistics {
        SessionStatistics {
            name: self.name.clone(),
            connected: self.connection().is_some(),
            ended: self.outcomes_made,
            run_time: Duration::from_nanos(self.run_time_ns),
            queued: self.lanes.queued(),
            waiting: self.waiting,
            slots_used: self.slots_used,
            kept: self.outcomes.len(),
            parts: self.parts.count(),
            window: self.window,
        }
    }
}

/// Size of the arguments, as far as they count.
#[inline]
fn large_args(attempt: &Attempt) -> u64 {
    let bytes = attempt.args.len();
    if bytes < LARGE_ARGS_BYTES { 0 } else { bytes as u64 }
}

impl Core {
    /// Sends what the event being handled made ready: one batch for each session.
    pub(super) fn flush_sessions(&mut self, actions: &mut Vec<Action>) {
        for session in self.sessions.values_mut() {
            session.flush(actions);
        }
    }
}
