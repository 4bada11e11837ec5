//! The dispatcher's decisions, without any I/O.
//!
//! [`Core`] owns every job, attempt and node of one dispatcher. The shell tells it what happened ([`Event`]) with the
//! time at which it happened, and performs what it asks for ([`Action`]). The calling contract:
//!
//! 1. `handle(now, event, &mut actions)` for each event, `now` never going back;
//! 2. perform the actions in order;
//! 3. call `handle(now, Event::Tick, ..)` when `next_deadline()` has come.
//!
//! `T`, the [`Ticket`], is whatever the shell needs to tell the submitter how its job ended.
//!
//! ```text
//! job (job.rs):     Delayed ──> Queued ──> AtNode ──> resolved
//!                                 ^          │ node lost, worker died, returned unstarted (retries.rs)
//!                                 └─ front ──┘
//!
//! node (nodes.rs):  Waiting ──> Dialling ──> InSession ──> (silent for 3 s) suspect ──> (5 s) lost
//!                      ^            │            │ closed   ^                             │
//!                      │            │            v          │ resumed                     │
//!                      └── failed ──┴──── Link::Broken ─────┴─ refused, restarted, 5 s ──> lost
//! ```

mod actions;
mod blame;
mod causes;
mod copies;
mod delays;
mod events;
mod explain;
mod finish;
mod invariants;
mod job;
mod jobs;
mod links;
mod lives;
mod nodes;
mod outcomes;
mod parts;
mod per_node;
mod pinned;
mod programs;
mod queue;
mod random;
mod received;
mod resolve;
mod retries;
mod schedule;
mod session;
mod takers;
#[cfg(test)]
mod tests;
mod views;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pp_protocol::{AttemptId, JobId, Moment, ProgramId, SessionId};

pub use self::actions::{Action, JobOutcome, Report, Resolution};
pub use self::causes::{
    DialStage, Failure, FailureCause, NodeLoss, NodeReason, NodeRefusal, NodeTrouble, NotAsKnown, Unreachable,
};
use self::delays::Delays;
pub use self::events::{DialFailure, Event, JobOptions, NewJob, TakeParts, Taker, Ticket};
pub use self::explain::{JobExplanation, NodeWait, PlaceAtNode, WaitCause};
use self::finish::Finishing;
use self::jobs::Jobs;
use self::nodes::Node;
pub use self::nodes::NodeKind;
pub use self::parts::PartKey;
pub use self::per_node::JobsPerNode;
use self::pinned::Pinned;
use self::queue::Queue;
use self::random::Random;
use self::takers::Takers;
pub use self::views::{JobOwner, JobStatus, JobView, NodeState, NodeView};

/// A node, numbered by the shell; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub u32);

/// Settings of a core.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// Identifier of this dispatcher.
    pub session: SessionId,
    /// Seed of the jitter in waiting times.
    pub seed: u64,
    /// Number of deaths of workers and nodes for which a job is held for poison.
    pub max_attempts: u32,
    /// Silence after which a node gets no new work.
    pub suspect_after: Duration,
    /// Silence after which a node is lost.
    pub lost_after: Duration,
    /// Jobs that run at each node at once, if that is fewer than it has slots.
    pub jobs_per_node: Option<JobsPerNode>,
    /// The dispatcher only looks: nodes grant it no window, which says nothing about them.
    pub observer: bool,
    /// The programs that each node is offered as it is connected. Until it says what has become of one, it is preparing it.
    pub programs: BTreeSet<ProgramId>,
}

impl DispatcherConfig {
    /// The defaults: three attempts, suspect after 3 s, lost after 5 s, no programs.
    pub fn new(session: SessionId, seed: u64) -> Self {
        Self {
            session,
            seed,
            max_attempts: 3,
            suspect_after: Duration::from_secs(3),
            lost_after: Duration::from_secs(5),
            jobs_per_node: None,
            observer: false,
            programs: BTreeSet::new(),
        }
    }
}

/// State of a dispatcher. The [module documentation](self) says how to drive it.
#[derive(Debug)]
pub struct Core<T> {
    config: DispatcherConfig,
    random: Random,
    jobs: Jobs<T>,
    queue: Queue,
    /// Jobs that wait for one node each.
    pinned: Pinned,
    delays: Delays,
    nodes: BTreeMap<NodeKey, Node>,
    /// Nodes that take another attempt now.
    takers: Takers,
    /// Connected nodes with more attempts than slots.
    overfull: BTreeSet<NodeKey>,
    /// Time at which a node to recall from was last looked for among many.
    recall_looked_at: Moment,
    /// Time at which one is to be looked for again.
    recall_due: Option<Moment>,
    /// Candidates for a copy ([`Copying::Candidate`](job::Copying)), by the time at which their attempts were sent.
    copyable: BTreeSet<(Moment, JobId)>,
    /// Time at which one of them may be worth it.
    copy_due: Option<Moment>,
    /// Attempts that the event at hand gave up, by the node they are at.
    cancelled: BTreeMap<NodeKey, Vec<AttemptId>>,
    /// Attempts that the event at hand asks back, by the node they are at.
    recalled: BTreeMap<NodeKey, Vec<AttemptId>>,
    finishing: Finishing,
    /// Time of the next heartbeat.
    heartbeat: Option<Moment>,
    stalled: Stalled,
    /// Programs that no node will ever run, and why.
    unrunnable: BTreeMap<ProgramId, Failure>,
    /// Number of outcomes of attempts that had been given up before.
    late_outcomes: u64,
    announced: Announced,
    /// How often nodes are to tell what happens there, if anybody wants to know.
    watching: Option<Duration>,
}

/// Whether jobs wait without any node to run them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stalled {
    No,
    Since(Moment),
    /// For so long that it was reported, once.
    Reported,
}

/// Tickets that are told the identifiers of their jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Announced {
    Nobody,
    /// Tickets of new jobs, and of jobs at places before this one.
    Until(u32),
    Everybody,
}

/// Time for which jobs wait without any node before that is reported.
const STALL: Duration = Duration::from_secs(5);

impl<T: Ticket> Core<T> {
    /// Takes in an event that happened at `now`, and appends the actions that it asks for.
    pub fn handle(&mut self, now: Moment, event: Event<T>, actions: &mut Vec<Action<T>>) {
        let is_beat = matches!(event, Event::Tick) && self.heartbeat.is_some_and(|due| due <= now);
        match event {
            Event::Submit(jobs) if self.is_finishing() => self.cancel_new(jobs, actions),
            Event::Submit(jobs) => self.submit(now, jobs),
            Event::Cancel(jobs) => jobs.into_iter().for_each(|job| self.cancel(job, actions)),
            Event::NodeFound { node, name, kind } => self.node_found(now, node, name, kind, actions),
            Event::NodeGone(node) => self.node_gone(node),
            Event::NodeForgotten(node) => self.node_forgotten(node),
            Event::LinkUp(node, welcome, version) => self.link_up(now, node, *welcome, version, actions),
            Event::DialFailed(node, failure) => self.dial_failed(now, node, *failure, actions),
            Event::LinkDown(node) => self.link_down(now, node, actions),
            Event::Received(node, messages) => self.received(now, node, messages, actions),
            Event::PartsTaken(parts) => self.parts_taken(&parts, actions),
            Event::Finish => self.finish(),
            Event::Watch(interval) => self.watch(interval, actions),
            Event::Shutdown => self.shutdown(actions),
            Event::Tick => self.tick(now, actions),
        }
        self.fail_what_is_unrunnable(actions);
        if self.pinned.has_changed() || self.pinned.has_more_in_vain() {
            self.fail_what_waits_in_vain(actions);
        }
        self.finish_some(actions);
        self.send_cancellations(actions);
        self.send_recalls(actions);
        self.schedule(now, actions);
        if is_beat {
            self.tell_waiting(now, actions);
        }
        self.watch_for_stall(now);
    }
}

/// The earlier of two times that may be.
fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}

impl<T> Core<T> {
    /// A dispatcher without jobs and nodes.
    pub fn new(config: DispatcherConfig) -> Self {
        Self {
            random: Random::new(config.seed),
            unrunnable: BTreeMap::new(),
            config,
            jobs: Jobs::default(),
            queue: Queue::default(),
            pinned: Pinned::default(),
            delays: Delays::default(),
            nodes: BTreeMap::new(),
            takers: Takers::default(),
            overfull: BTreeSet::new(),
            recall_looked_at: Moment(0),
            recall_due: None,
            copyable: BTreeSet::new(),
            copy_due: None,
            cancelled: BTreeMap::new(),
            recalled: BTreeMap::new(),
            finishing: Finishing::No,
            heartbeat: None,
            stalled: Stalled::No,
            late_outcomes: 0,
            announced: Announced::Nobody,
            watching: None,
        }
    }

    /// Time at which [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        let stall = match self.stalled {
            Stalled::Since(since) => Some(since + STALL),
            Stalled::No | Stalled::Reported => None,
        };
        let has_more_to_fail = self.has_unrunnable() || self.pinned.has_more_in_vain();
        let more_to_do = (has_more_to_fail || self.has_more_to_finish()).then_some(Moment(0));
        // Asked after each event: adapters of iterators would take twice as long.
        let mut next = more_to_do;
        for due in [self.heartbeat, self.delays.next(), self.recall_due, self.copy_due, stall] {
            next = earlier(next, due);
        }
        for node in self.nodes.values() {
            next = earlier(earlier(next, node.redial_at()), node.lives.resting_until());
        }
        next
    }

    fn tick(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        self.release_delayed(now);
        self.redial(now, actions);
        self.end_rests(now);
        self.beat(now, actions);
        if let Stalled::Since(since) = self.stalled
            && since + STALL <= now
        {
            self.stalled = Stalled::Reported;
            actions.push(Action::Report(Report::Stalled(self.stranded())));
        }
    }

    fn watch_for_stall(&mut self, now: Moment) {
        let stalled = self.stranded() > 0;
        self.stalled = match self.stalled {
            _ if !stalled => Stalled::No,
            Stalled::No => Stalled::Since(now),
            known => known,
        };
    }
}
