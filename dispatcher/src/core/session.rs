//! A session with a node: what this dispatcher has there.
//!
//! It begins when a node welcomes this dispatcher without a past, and outlives a connection that breaks for a moment. It
//! ends when the node is lost; its attempts are then no longer there.
//!
//! ```text
//! Link::Up ──── connection closed ───> Link::Broken ──── resumed ───> Link::Up
//!    │                                      │
//!    └── silent for 5 s, goodbye            └── refused, restarted, 5 s       ──> lost
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pp_protocol::limits::{LARGE_ARGS_BYTES, OUTPUT_BYTES_TOLD, args_bytes_at_node};
use pp_protocol::{
    Attempt, AttemptId, FunctionId, JobId, Moment, NodeId, NodeStatus, OutputLine, ProgramId, ProgramStatus,
    RunTimes, Version, Welcome, WorkerShortage,
};

use super::NodeKey;
use super::job::{ArgsBytes, Job, Location};
use super::jobs::Jobs;
use super::parts::Parts;
use super::received::Received;

/// Limit on the size of all large arguments that a node is sent ahead of its slots. A fast network carries less in the
/// time for which work is sent ahead; and what is sent soon after it was made is still in a cache.
const ARGS_AHEAD: u64 = 16 << 20;
/// A node whose slots are busy is sent more once this part of its window is free, or so many attempts fit: some at once
/// cost both sides less than one by one.
const REFILL_PART: u32 = 8;
const MOST_WAITED_FOR: u32 = 64;

#[derive(Debug)]
pub(super) struct Session {
    /// Life of the node that it is with.
    pub(super) with: NodeId,
    pub(super) link: Link,
    /// Attempts without outcome that the node is given: what it granted, or fewer.
    window: u32,
    granted: u32,
    /// Limit on them, if they are not to take all its slots.
    limit: Option<u32>,
    /// Mean run time when it granted that, in nanoseconds, if any attempt had ended.
    granted_for: Option<u64>,
    /// Status of the programs that the node was offered.
    programs: BTreeMap<ProgramId, ProgramStatus>,
    /// Places of the jobs with an attempt at the node, in no order.
    attempts: Vec<u32>,
    /// Size of their arguments, as far as they are large.
    args: ArgsBytes,
    /// Number of attempts sent, wrapping around.
    sent: u32,
    pub(super) outcomes: Received,
    pub(super) parts: Parts,
    pub(super) run_times: RunTimes,
    /// What it was sent last was for this node only.
    pub(super) served_pinned: bool,
    /// Time when the node last told of the end of an attempt, or was sent one while it had none.
    progressed: Moment,
}

/// The connection of a session.
#[derive(Debug)]
pub(super) enum Link {
    Up(Connection),
    /// It closed at `since`; attempts may still run. `redial` is none while the node is being dialled.
    Broken {
        since: Moment,
        redial: Option<Moment>,
    },
}

/// Connection to a node, and what is known of the node for as long as that lasts.
#[derive(Debug)]
pub(super) struct Connection {
    /// Protocol version that is spoken on it.
    pub(super) version: Version,
    /// Time when the node was last heard of.
    pub(super) heard: Moment,
    /// It has been silent, or has not answered, for too long to be given new work.
    pub(super) suspect: bool,
    /// Reason why its workers do not start just now.
    pub(super) trouble: Option<WorkerShortage>,
    /// Time when attempts were asked back, if the answer may still come.
    pub(super) recalled_at: Option<Moment>,
    /// How many jobs it was told to wait here, and when.
    pub(super) waiting_told: (Option<u64>, Moment),
    /// Output that has arrived since the node was told of it, in bytes.
    output_bytes: usize,
    /// Number of pings sent.
    pings: u64,
    /// Times when the pings without an answer were sent; the last one is number `pings`.
    unanswered: VecDeque<Moment>,
}

impl Session {
    /// One in which these programs are offered.
    pub(super) fn new(
        now: Moment,
        welcome: &Welcome,
        version: Version,
        offered: &BTreeSet<ProgramId>,
    ) -> Self {
        Self {
            with: welcome.node,
            link: Link::Up(Connection::new(now, version)),
            window: welcome.window,
            granted: welcome.window,
            limit: None,
            granted_for: None,
            programs: offered.iter().map(|program| (*program, ProgramStatus::Preparing)).collect(),
            attempts: Vec::new(),
            args: ArgsBytes::default(),
            sent: 0,
            outcomes: Received::default(),
            parts: Parts::default(),
            run_times: RunTimes::default(),
            served_pinned: false,
            progressed: now,
        }
    }

    /// The session goes on, on another connection.
    pub(super) fn resume(&mut self, now: Moment, welcome: &Welcome, version: Version) {
        // What it was told before may not have arrived.
        let connection = Connection { waiting_told: (None, now), ..Connection::new(now, version) };
        self.link = Link::Up(connection);
        self.grant(welcome.window);
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.link {
            Link::Up(connection) => Some(connection),
            Link::Broken { .. } => None,
        }
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.link {
            Link::Up(connection) => Some(connection),
            Link::Broken { .. } => None,
        }
    }

    /// Status of the programs that the node was offered, and of its own functions if it told one.
    pub(super) fn programs(&self) -> &BTreeMap<ProgramId, ProgramStatus> {
        &self.programs
    }

    /// Whether the node may tell what has become of this program: it was offered that, or has it itself.
    pub(super) fn may_tell_of(&self, program: ProgramId) -> bool {
        program == ProgramId::BUILT_IN || self.programs.contains_key(&program)
    }

    /// The node told what has become of a program.
    pub(super) fn learn_status(&mut self, program: ProgramId, status: ProgramStatus) {
        self.programs.insert(program, status);
    }

    /// Whether attempts may name the program now, or may soon.
    pub(super) fn may_run(&self, program: ProgramId) -> bool {
        !matches!(self.programs.get(&program), Some(ProgramStatus::Refused(_)))
    }

    /// The programs that attempts may name now.
    pub(super) fn runs(&self) -> BTreeSet<ProgramId> {
        let built_in = Some(ProgramId::BUILT_IN).filter(|program| !self.programs.contains_key(program));
        let told = self.programs.iter().filter(|(_, status)| {
            matches!(status, ProgramStatus::Ready | ProgramStatus::Troubled { retried: true, .. })
        });
        told.map(|(program, _)| *program).chain(built_in).collect()
    }

    /// Attempts without outcome that the node takes.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// The node takes so many attempts, if they run as long as the last ones did.
    pub(super) fn grant(&mut self, window: u32) {
        self.granted = window;
        self.window = window.min(self.limit.unwrap_or(u32::MAX));
        self.granted_for = self.run_times.mean();
    }

    /// The node is given no more attempts than so many, however many it takes: none is sent ahead of the slots that they may
    /// have, since the node would start it in another.
    pub(super) fn limit_window(&mut self, limit: Option<u32>) {
        self.limit = limit;
        self.window = self.granted.min(limit.unwrap_or(u32::MAX));
    }

    /// Attempts the node may have when one of this function is added: of a function that runs longer than what its
    /// window was granted for fewer are sent ahead, and none of one that has not run there.
    pub(super) fn window_for(&self, function: FunctionId, slots: u32) -> u32 {
        let ahead = u64::from(self.window.saturating_sub(slots));
        let usable = match (self.run_times.of(function), self.granted_for) {
            // A node that had not run anything granted no more than it can run at once.
            (_, None) => ahead,
            (None, Some(_)) => 0,
            (Some(time), Some(granted)) if time <= granted => ahead,
            (Some(time), Some(granted)) => {
                (u128::from(ahead) * u128::from(granted) / u128::from(time)) as u64
            }
        };
        self.window.min(slots) + usable as u32
    }

    /// Attempts for which there has to be room before the node is sent any.
    pub(super) fn least_room(&self, slots: u32) -> usize {
        let most =
            if self.has_free_slot(slots) { 1 } else { (self.window / REFILL_PART).clamp(1, MOST_WAITED_FOR) };
        most as usize
    }

    fn has_free_slot(&self, slots: u32) -> bool {
        self.attempts.len() < slots as usize
    }

    /// Number of attempts that it takes beyond those that are at it.
    pub(super) fn room(&self) -> usize {
        (self.window as usize).saturating_sub(self.attempts.len())
    }

    /// Whether arguments of this size are not too much beside those that are at it already.
    pub(super) fn has_room_for(&self, args_bytes: usize, status: &NodeStatus) -> bool {
        args_bytes < LARGE_ARGS_BYTES
            || self.attempts.is_empty()
            || self.has_room_for_large(args_bytes, status)
    }

    #[inline(never)]
    fn has_room_for_large(&self, args_bytes: usize, status: &NodeStatus) -> bool {
        let bytes = args_bytes as u64;
        self.args.all + bytes <= args_bytes_at_node(status.memory_total)
            && (self.has_free_slot(status.slots) || self.args.ahead + bytes <= ARGS_AHEAD)
    }

    /// Places of the jobs with an attempt at the node, in no order.
    pub(super) fn attempts(&self) -> &[u32] {
        &self.attempts
    }

    /// Attempts at the node beyond its slots.
    pub(super) fn excess(&self, slots: u32) -> usize {
        self.attempts.len().saturating_sub(slots as usize)
    }

    /// The next attempt of a job is sent to this node, which is `key`.
    pub(super) fn take_on<T>(&mut self, key: NodeKey, slots: u32, id: JobId, job: &mut Job<T>) -> Attempt {
        let (position, sent_ahead) = (self.attempts.len() as u32, !self.has_free_slot(slots));
        self.sent = self.sent.wrapping_add(1);
        self.attempts.push(id.place());
        if let Some(args) = ArgsBytes::of(&job.args, sent_ahead) {
            self.args.add(args);
        }
        job.next_attempt(id, Location::AtNode { node: key, position, sent: self.sent, sent_ahead })
    }

    /// The attempt at this position, with these arguments, is no longer at the node.
    pub(super) fn forget<T>(&mut self, position: u32, args: Option<ArgsBytes>, jobs: &mut Jobs<T>) {
        if let Some(args) = args {
            self.args.subtract(args);
        }
        self.attempts.swap_remove(position as usize);
        if let Some(moved) = self.attempts.get(position as usize)
            && let Some(moved) = jobs.at_mut(*moved)
            && let Location::AtNode { position: known, .. } = &mut moved.location
        {
            *known = position;
        }
    }

    /// Attempts at the node, in the order they were sent.
    pub(super) fn in_order<T>(&self, jobs: &Jobs<T>) -> Vec<AttemptId> {
        let attempts = self.attempts.iter().filter_map(|place| {
            let job = jobs.at(*place)?;
            let Location::AtNode { sent, .. } = job.location else { return None };
            let id = AttemptId { job: JobId::new(*place, job.generation), number: job.attempt };
            // Numbers wrap around; how many were sent since does not.
            Some((self.sent.wrapping_sub(sent), id))
        });
        let mut attempts: Vec<_> = attempts.collect();
        attempts.sort_unstable_by_key(|(sent_since, _)| std::cmp::Reverse(*sent_since));
        attempts.into_iter().map(|(_, id)| id).collect()
    }

    /// The node told of the end of attempts.
    pub(super) fn progress(&mut self, now: Moment) {
        self.progressed = now;
    }

    /// The node is about to be sent work.
    pub(super) fn before_work(&mut self, now: Moment) {
        if self.attempts.is_empty() {
            self.progressed = now;
        }
    }

    /// Number of attempts there that were sent before the one with this number.
    pub(super) fn sent_before<T>(&self, sent: u32, jobs: &Jobs<T>) -> usize {
        let age = |number: u32| self.sent.wrapping_sub(number);
        let is_older = |place: &&u32| match jobs.at(**place).map(|job| &job.location) {
            Some(Location::AtNode { sent: other, .. }) => age(*other) > age(sent),
            _ => false,
        };
        self.attempts.iter().filter(is_older).count()
    }

    /// Time until the last of its attempts starts, as far as known. Attempts of which none has ended for a while take at
    /// least that long, whatever was seen before.
    pub(super) fn backlog(&self, now: Moment, slots: u32) -> Option<Duration> {
        let each = Duration::from_nanos(self.run_times.mean()?).max(now.since(self.progressed));
        let each = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        let excess = self.excess(slots) as u64;
        Some(Duration::from_nanos(each.saturating_mul(excess) / u64::from(slots.max(1))))
    }

    pub(super) fn check_invariants<T>(&self, jobs: &Jobs<T>) {
        let jobs = self.attempts.iter().filter_map(|place| jobs.at(*place));
        let mut args = ArgsBytes::default();
        jobs.filter_map(Job::large_args).for_each(|large| args.add(large));
        assert_eq!(self.args, args, "it is known how large the arguments at a node are");
    }
}

impl Connection {
    fn new(now: Moment, version: Version) -> Self {
        Self {
            version,
            heard: now,
            suspect: false,
            trouble: None,
            recalled_at: None,
            // A node takes it that none do until it is told.
            waiting_told: (Some(0), now),
            output_bytes: 0,
            pings: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// Lines arrived. Yields the number of bytes that the node is to be told of, if that is notable.
    pub(super) fn output_arrived(&mut self, lines: &[OutputLine]) -> Option<u64> {
        self.output_bytes += lines.iter().map(OutputLine::weight).sum::<usize>();
        let is_notable = self.output_bytes >= OUTPUT_BYTES_TOLD;
        is_notable.then(|| std::mem::take(&mut self.output_bytes) as u64)
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

    /// Time for which a ping has been without an answer: nothing may arrive there although something arrives from there.
    pub(super) fn unanswered_for(&self, now: Moment) -> Duration {
        self.unanswered.front().map_or(Duration::ZERO, |sent| now.since(*sent))
    }

    /// This side was late by so much: that is not held against the node.
    pub(super) fn forgive(&mut self, lateness: Duration, now: Moment) {
        self.heard = (self.heard + lateness).min(now);
        self.unanswered.iter_mut().for_each(|sent| *sent = (*sent + lateness).min(now));
    }
}
