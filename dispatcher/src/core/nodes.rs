//! What a dispatcher knows of a node.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pp_protocol::limits::OUTPUT_BYTES_TOLD;
use pp_protocol::{
    Attempt, AttemptId, FunctionId, JobId, Moment, NodeId, NodeStatus, OutputLine, RunTimes, Welcome,
};

use super::NodeKey;
use super::jobs::{ArgsBytes, Job, Jobs, LARGE_ARGS};

/// How large the arguments may be, all together, of what a node is sent ahead of its slots. A fast network carries less
/// in the time for which work is sent ahead; and what is sent soon after it was made is still in a cache.
const ARGS_AHEAD: u64 = 16 << 20;
/// All that is at a node may have arguments as large as this part of its memory, and as this where it does not tell.
const ARGS_MEMORY_PART: u64 = 4;
const ARGS_AT_NODE: u64 = 4 << 30;
/// A node whose slots are busy is sent more once this part of its window is free, or so many attempts fit: some at once
/// cost both sides less than one by one.
const REFILL_PART: u32 = 8;
const MOST_WAITED_FOR: u32 = 64;
/// A life of a node that ends sooner is short.
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// Short lives in a row before a node has to rest.
const SHORT_LIVES_FORGIVEN: u32 = 3;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How a node became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// The dispatcher's own cores.
    Local,
    /// Named by the user: dialled for ever.
    Configured,
    /// Found on the network: dialled while there is word of it.
    Discovered,
}

/// What can be seen of a node from outside.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// The shell's key for it.
    pub key: NodeKey,
    /// Its own name, or what it was found under.
    pub name: &'a str,
    /// How it became known.
    pub kind: NodeKind,
    /// How the dispatcher stands with it.
    pub state: NodeState,
    /// Why it is not used, if it is not.
    pub reason: Option<&'a str>,
    /// What it last said of itself.
    pub status: &'a NodeStatus,
    /// Attempts at it.
    pub attempts: usize,
    /// Attempts without outcome it takes.
    pub window: u32,
    /// Jobs it finished for this dispatcher.
    pub jobs: u64,
    /// How long they ran together.
    pub run_time: Duration,
}

/// How a dispatcher stands with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Being dialled for the first time.
    Connecting,
    /// Connected, not ready for jobs: it is being sent the program, or cannot start workers just now.
    Preparing,
    /// In use.
    Connected,
    /// Connected, finishing what runs: it takes no more.
    Draining,
    /// Connected, silent for too long to be given new work.
    Suspect,
    /// The connection broke; its attempts may still be running.
    Reconnecting,
    /// Not reachable; dialled again in a while.
    Unreachable,
    /// It does not want this dispatcher, or cannot run its program.
    Refused,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: NodeKind,
    pub(super) state: State,
    /// The life of the node that the session is, or last was, with.
    pub(super) incarnation: Option<NodeId>,
    pub(super) status: NodeStatus,
    /// Attempts without outcome it takes.
    pub(super) window: u32,
    /// How long its attempts ran when it granted that, in nanoseconds, if any had ended.
    granted_for: Option<u64>,
    /// Why it does not run this program.
    pub(super) program_refused: Option<String>,
    /// Why its workers do not start just now.
    pub(super) trouble: Option<String>,
    /// Places of the jobs with an attempt at it, in no order.
    pub(super) attempts: Vec<u32>,
    /// How large those arguments are together that are not small.
    args: ArgsBytes,
    /// Counts the attempts sent to it, wrapping around.
    pub(super) sent: u32,
    /// The load under which it is listed among the takers.
    pub(super) listed: Option<u32>,
    pub(super) outcomes: Received,
    /// How much output has arrived since the node was told.
    output_bytes: usize,
    /// How long its attempts run.
    pub(super) run_times: RunTimes,
    /// When it last told of the end of an attempt, or was sent one while it had none.
    pub(super) progressed: Moment,
    /// Attempts were asked back, and the answer is not complete.
    pub(super) recalled_at: Option<Moment>,
    pub(super) jobs: u64,
    /// How long its attempts ran together.
    pub(super) run_time_ns: u64,
    /// When its last life began, and how many lives in a row were short.
    began: Option<Moment>,
    short_lives: u32,
    /// It comes and goes: it gets no work before then.
    pub(super) resting_until: Option<Moment>,
    /// Dials in a row that came to nothing.
    pub(super) failed_dials: u32,
    pub(super) pings: u64,
    /// When the pings without an answer were sent; the last one is number `pings`.
    pub(super) unanswered: VecDeque<Moment>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Not connected, nothing under way.
    Waiting { redial: Option<Moment>, failed: FailedDial },
    /// Being dialled; nothing of ours is there. What came of the dial before is still what is known of it.
    Dialling { failed: Option<FailedDial> },
    /// Heard of at `heard`.
    Connected { heard: Moment, suspect: bool },
    /// The connection broke at `since`; attempts may still run there. `redial` is none while it is being dialled.
    Reconnecting { since: Moment, redial: Option<Moment> },
}

/// Why a node is not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailedDial {
    pub(super) reason: String,
    /// It answered, and does not want this dispatcher.
    pub(super) refused: bool,
}

impl Node {
    pub(super) fn new(name: String, kind: NodeKind) -> Self {
        Self {
            name,
            kind,
            state: State::Dialling { failed: None },
            incarnation: None,
            status: NodeStatus::default(),
            window: 0,
            granted_for: None,
            program_refused: None,
            trouble: None,
            attempts: Vec::new(),
            args: ArgsBytes::default(),
            sent: 0,
            listed: None,
            outcomes: Received::default(),
            output_bytes: 0,
            run_times: RunTimes::default(),
            progressed: Moment(0),
            recalled_at: None,
            jobs: 0,
            run_time_ns: 0,
            began: None,
            short_lives: 0,
            resting_until: None,
            failed_dials: 0,
            pings: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// A session without any past began.
    pub(super) fn begin(&mut self, now: Moment, welcome: &Welcome) {
        if self.incarnation != Some(welcome.node) {
            self.new_life(now);
        }
        self.incarnation = Some(welcome.node);
        self.outcomes = Received::default();
        self.program_refused = None;
        self.run_times = RunTimes::default();
        self.connected(now, welcome);
    }

    /// A node whose lives are short rests at the beginning of each, longer and longer.
    fn new_life(&mut self, now: Moment) {
        let was_short = self.began.is_some_and(|began| now.since(began) < SHORT_LIFE);
        self.short_lives = if was_short { self.short_lives.saturating_add(1) } else { 0 };
        self.began = Some(now);
        let doublings = self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN);
        let rest =
            doublings.map(|doublings| (FIRST_REST * 2_u32.saturating_pow(doublings)).min(LONGEST_REST));
        self.resting_until = rest.map(|rest| now + rest);
    }

    pub(super) fn connected(&mut self, now: Moment, welcome: &Welcome) {
        self.state = State::Connected { heard: now, suspect: false };
        if self.kind != NodeKind::Local {
            self.name.clone_from(&welcome.name);
        }
        self.status = welcome.status;
        self.grant(welcome.window);
        self.failed_dials = 0;
        self.output_bytes = 0;
        self.recalled_at = None;
        self.unanswered.clear();
        self.trouble = None;
    }

    /// Lines arrived. Yields how much the node is to be told of, if that is notable.
    pub(super) fn output_arrived(&mut self, lines: &[OutputLine]) -> Option<u64> {
        self.output_bytes += lines.iter().map(OutputLine::weight).sum::<usize>();
        let is_notable = self.output_bytes >= OUTPUT_BYTES_TOLD;
        is_notable.then(|| std::mem::take(&mut self.output_bytes) as u64)
    }

    /// The next attempt of a job is sent to this node, which is `key`.
    pub(super) fn take_on<T>(&mut self, key: NodeKey, id: JobId, job: &mut Job<T>) -> Attempt {
        job.attempt += 1;
        job.node = Some(key);
        job.position = self.attempts.len() as u32;
        self.sent = self.sent.wrapping_add(1);
        job.sent = self.sent;
        job.sent_ahead = self.attempts.len() >= self.status.slots as usize;
        if let Some(args) = job.large_args() {
            self.args.add(args);
        }
        self.attempts.push(id.place());
        let limit = job.time_limit();
        Attempt {
            id: AttemptId { job: id, number: job.attempt },
            function: job.function,
            time_limit_ns: limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
            args: job.args.clone(),
        }
    }

    /// Another ping is sent; its number.
    pub(super) fn ping(&mut self, now: Moment) -> u64 {
        self.pings += 1;
        self.unanswered.push_back(now);
        self.pings
    }

    /// The ping of that number, and so all before it, arrived there.
    pub(super) fn answered(&mut self, number: u64) {
        let still_out = usize::try_from(self.pings.saturating_sub(number)).unwrap_or(usize::MAX);
        while self.unanswered.len() > still_out {
            self.unanswered.pop_front();
        }
    }

    /// How long a ping has been without an answer: nothing may arrive there although something arrives from there.
    pub(super) fn unanswered_for(&self, now: Moment) -> Duration {
        self.unanswered.front().map_or(Duration::ZERO, |sent| now.since(*sent))
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// Whether it is connected and runs this program, be it full or not.
    pub(super) fn may_take_work(&self) -> bool {
        self.is_connected()
            && self.program_refused.is_none()
            && self.status.slots > 0
            && !self.status.draining
    }

    /// Whether it takes work now, or will as soon as it has room.
    pub(super) fn will_take_work(&self) -> bool {
        self.may_take_work() && self.window > 0 && self.resting_until.is_none()
    }

    /// Whether arguments of this size are not too much beside those that are at it already.
    pub(super) fn has_room_for(&self, args_bytes: usize) -> bool {
        args_bytes < LARGE_ARGS || self.attempts.is_empty() || self.has_room_for_large(args_bytes)
    }

    fn has_room_for_large(&self, args_bytes: usize) -> bool {
        let bytes = args_bytes as u64;
        let at_node = match self.status.memory_total {
            0 => ARGS_AT_NODE,
            memory => memory / ARGS_MEMORY_PART,
        };
        self.args.all + bytes <= at_node && (self.has_free_slot() || self.args.ahead + bytes <= ARGS_AHEAD)
    }

    fn has_free_slot(&self) -> bool {
        self.attempts.len() < self.status.slots as usize
    }

    /// Nothing is at it any more.
    pub(super) fn forget_all(&mut self) {
        self.attempts.clear();
        self.args = ArgsBytes::default();
    }

    /// For how many more there has to be room before it is sent any.
    fn least_room(&self, attempts: u32) -> u32 {
        if attempts < self.status.slots { 1 } else { (self.window / REFILL_PART).clamp(1, MOST_WAITED_FOR) }
    }

    /// How loaded it is, in 256ths of its slots, if it would take another attempt now.
    pub(super) fn takes_at_load(&self) -> Option<u32> {
        let attempts = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        match self.state {
            State::Connected { suspect: false, .. }
                if attempts.saturating_add(self.least_room(attempts)) <= self.window
                    && self.will_take_work() =>
            {
                Some((u64::from(attempts) * 256 / u64::from(self.status.slots)) as u32)
            }
            _ => None,
        }
    }

    pub(super) fn redial_at(&self) -> Option<Moment> {
        match self.state {
            State::Waiting { redial, .. } | State::Reconnecting { redial, .. } => redial,
            State::Dialling { .. } | State::Connected { .. } => None,
        }
    }

    /// Attempts it holds beyond its slots.
    pub(super) fn excess(&self) -> usize {
        self.attempts.len().saturating_sub(self.status.slots as usize)
    }

    /// How long it will take to start the last of its attempts, as far as known. Attempts of which none has ended for a
    /// while take at least that long, whatever was seen before.
    pub(super) fn backlog(&self, now: Moment) -> Option<Duration> {
        let slots = u64::from(self.status.slots.max(1));
        let each = Duration::from_nanos(self.run_times.mean()?).max(now.since(self.progressed));
        let each = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(each.saturating_mul(self.excess() as u64) / slots))
    }

    /// The attempt at this position of its list, with these arguments, is no longer there.
    pub(super) fn forget<T>(&mut self, position: u32, args: Option<ArgsBytes>, jobs: &mut Jobs<T>) {
        if let Some(args) = args {
            self.args.subtract(args);
        }
        self.attempts.swap_remove(position as usize);
        if let Some(moved) = self.attempts.get(position as usize)
            && let Some(moved) = jobs.at_mut(*moved)
        {
            moved.position = position;
        }
    }

    /// Learns from an attempt that ran.
    pub(super) fn learn(&mut self, function: FunctionId, run_time_ns: u64) {
        self.run_times.learn(function, run_time_ns);
        self.run_time_ns = self.run_time_ns.saturating_add(run_time_ns);
    }

    /// It takes so many attempts, if they are as long as the last ones were.
    pub(super) fn grant(&mut self, window: u32) {
        self.window = window;
        self.granted_for = self.run_times.mean();
    }

    /// How many attempts it may have when one of this function is added: of a function that runs longer than what its
    /// window was granted for fewer are sent ahead, and none of one that has not run there.
    pub(super) fn window_for(&self, function: FunctionId) -> u32 {
        let ahead = u64::from(self.window.saturating_sub(self.status.slots));
        let usable = match (self.run_times.of(function), self.granted_for) {
            // A node that had not run anything granted no more than it can run at once.
            (_, None) => ahead,
            (None, Some(_)) => 0,
            (Some(time), Some(granted)) if time <= granted => ahead,
            (Some(time), Some(granted)) => {
                (u128::from(ahead) * u128::from(granted) / u128::from(time)) as u64
            }
        };
        self.window.min(self.status.slots) + usable as u32
    }

    pub(super) fn view(&self, key: NodeKey, observed: bool) -> NodeView<'_> {
        let state =
            match &self.state {
                State::Dialling { failed: None } => NodeState::Connecting,
                State::Waiting { failed, .. } | State::Dialling { failed: Some(failed) } => {
                    if failed.refused { NodeState::Refused } else { NodeState::Unreachable }
                }
                State::Connected { .. } if self.program_refused.is_some() => NodeState::Refused,
                State::Connected { suspect: true, .. } => NodeState::Suspect,
                State::Connected { .. } if self.status.draining => NodeState::Draining,
                State::Connected { .. } if self.window == 0 && self.may_take_work() && !observed => {
                    NodeState::Preparing
                }
                State::Connected { .. } => NodeState::Connected,
                State::Reconnecting { .. } => NodeState::Reconnecting,
            };
        let reason = match &self.state {
            State::Waiting { failed, .. } | State::Dialling { failed: Some(failed) } => {
                Some(failed.reason.as_str())
            }
            State::Connected { .. } if self.trouble.is_some() => self.trouble.as_deref(),
            State::Connected { .. } if self.resting_until.is_some() => {
                Some("it has come and gone again and again; it gets jobs once it has stayed for a while")
            }
            _ => self.program_refused.as_deref(),
        };
        NodeView {
            key,
            name: &self.name,
            kind: self.kind,
            state,
            reason,
            status: &self.status,
            attempts: self.attempts.len(),
            window: self.window,
            jobs: self.jobs,
            run_time: Duration::from_nanos(self.run_time_ns),
        }
    }

    pub(super) fn check_invariants<T>(&self, jobs: &Jobs<T>) {
        let held = matches!(self.state, State::Connected { .. } | State::Reconnecting { .. });
        assert!(
            held || self.attempts.is_empty(),
            "attempts are at nodes that are connected or may come back"
        );
        assert_eq!(self.listed, self.takes_at_load(), "a node is listed under its load");
        let jobs = self.attempts.iter().filter_map(|place| jobs.at(*place));
        let mut args = ArgsBytes::default();
        jobs.filter_map(Job::large_args).for_each(|large| args.add(large));
        assert_eq!(self.args, args, "it is known how large the arguments at a node are");
    }
}

/// Which outcomes of a session arrived: all before `next`, and those in `beyond`. Large ones may be overtaken by small.
#[derive(Debug, Default)]
pub(super) struct Received {
    next: u64,
    /// Start and end of each run of outcomes that arrived early.
    beyond: BTreeMap<u64, u64>,
}

impl Received {
    /// Notes that `count` outcomes from `first` on arrived.
    pub(super) fn note(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        if first > self.next {
            let known = self.beyond.entry(first).or_insert(end);
            *known = end.max(*known);
        } else {
            self.next = self.next.max(end);
        }
        while let Some(early) = self.beyond.first_entry()
            && *early.key() <= self.next
        {
            self.next = self.next.max(early.remove());
        }
    }

    /// How many outcomes arrived without a gap.
    pub(super) fn without_gap(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_that_overtook_others_count_once_the_gap_is_filled() {
        let mut received = Received::default();
        received.note(0, 2);
        received.note(3, 2);
        assert_eq!(received.without_gap(), 2);
        received.note(6, 1);
        received.note(2, 1);
        assert_eq!(received.without_gap(), 5);
        received.note(1, 3);
        received.note(5, 1);
        assert_eq!(received.without_gap(), 7);
        assert!(received.beyond.is_empty());
    }
}
