//! What a dispatcher decides, without any I/O.
//!
//! [`Core`] owns every job, attempt and node of one dispatcher. The shell tells it what happened ([`Event`]) with the
//! time at which it happened, and performs what it asks for ([`Action`]). The calling contract:
//!
//! 1. `handle(now, event, &mut actions)` for each event, `now` never going back;
//! 2. perform the actions in order;
//! 3. call `handle(now, Event::Tick, ..)` when `next_deadline()` has come.
//!
//! `T` is whatever the shell needs to tell the submitter how its job ended; the core hands it back and never looks.
//!
//! ```text
//! job:   delayed ──> queued ──> at a node ──> resolved
//!                      ^            │ node lost, worker died, returned unstarted
//!                      └── front ───┘
//!
//! node:  Waiting ──> Dialling ──> Connected ──> (silent for 3 s) suspect ──> (5 s) lost
//!           ^            │            │ closed                                  │
//!           │            │            v                                         │
//!           └── failed ──┴────── Reconnecting ── refused, restarted, 5 s ──> lost
//! ```

mod blame;
mod copies;
mod delays;
mod job;
mod jobs;
mod links;
mod lives;
mod nodes;
mod outcomes;
mod queue;
mod random;
mod received;
mod resolve;
mod retries;
mod schedule;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pp_protocol::{
    AttemptId, Digest, FromNode, FunctionId, JobId, Moment, OutputLine, Panic, Payload, Resume, SessionId,
    ToNode, Welcome,
};

use self::delays::Delays;
use self::job::{Copying, Job, Location};
use self::jobs::Jobs;
use self::nodes::Node;
pub use self::nodes::{NodeKind, NodeState, NodeView};
use self::queue::Queue;
use self::random::Random;
use self::session::Session;

/// A node, numbered by the shell; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub u32);

/// What a core is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// This dispatcher.
    pub session: SessionId,
    /// Seed of the jitter in waiting times.
    pub seed: u64,
    /// How often a job may be the one that was running as its worker or node died.
    pub max_attempts: u32,
    /// A node silent for so long gets no new work.
    pub suspect_after: Duration,
    /// A node silent for so long is lost.
    pub lost_after: Duration,
    /// It only looks: nodes grant it no window, which says nothing about them.
    pub observer: bool,
}

impl Config {
    /// The defaults: three attempts, suspect after 3 s, lost after 5 s.
    pub fn new(session: SessionId, seed: u64) -> Self {
        Self {
            session,
            seed,
            max_attempts: 3,
            suspect_after: Duration::from_secs(3),
            lost_after: Duration::from_secs(5),
            observer: false,
        }
    }
}

/// What the shell needs to tell the submitter how a job ended. The core hands it back and never looks into it.
pub trait Ticket {
    /// The job is known under this identifier. Told of each job once [`Core::tell_ids`] was called; perhaps twice.
    fn accepted(&self, job: JobId);
}

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewJob<T> {
    /// Handed back with the outcome.
    pub ticket: T,
    /// The function to call.
    pub function: FunctionId,
    /// Its serialised arguments.
    pub args: Payload,
    /// What differs from the usual.
    pub options: Option<Box<JobOptions>>,
}

/// What may differ from job to job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Kill an attempt that has run so long.
    pub time_limit: Option<Duration>,
    /// Instead of [`Config::max_attempts`].
    pub max_attempts: Option<u32>,
    /// Whether a panic is tried again like a dead worker.
    pub retry_panics: bool,
    /// Whether it does no harm to run it twice: then an attempt that takes long may get a copy elsewhere.
    pub idempotent: bool,
    /// Higher goes first.
    pub priority: i32,
    /// It is sent to no node before then.
    pub not_before: Option<Moment>,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// Jobs were submitted, in this order.
    Submit(Vec<NewJob<T>>),
    /// The submitter does not want these jobs any more.
    Cancel(Vec<JobId>),
    /// There is a node, or there is word of it again.
    NodeFound {
        /// The shell's key for it.
        node: NodeKey,
        /// What to call it until it says its own name.
        name: String,
        /// How it became known.
        kind: NodeKind,
    },
    /// There will be no more word of a discovered node.
    NodeGone(NodeKey),
    /// A node answered a dial and welcomed the session.
    LinkUp(NodeKey, Box<Welcome>),
    /// A dial came to nothing.
    DialFailed(NodeKey, DialFailure),
    /// An established connection is gone.
    LinkDown(NodeKey, String),
    /// Messages arrived.
    Received(NodeKey, Vec<FromNode>),
    /// Change a node's slots.
    Resize(NodeKey, u32),
    /// Resolve everything and say goodbye.
    Shutdown,
    /// The time of [`Core::next_deadline`] has come.
    Tick,
}

/// Why a dial came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// The machine answered, and nothing listens there.
    NotListening(String),
    /// No answer, or none in time.
    Unreachable(String),
    /// It listens, and does not want this dispatcher (or this dispatcher does not want it).
    Refused(String),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<T> {
    /// The job ended.
    Resolve(T, Resolution),
    /// Connect to a node; `LinkUp` or `DialFailed` follows.
    Dial(NodeKey, Option<Resume>),
    /// Send a message to a connected node.
    Send(NodeKey, ToNode),
    /// Close the connection to a node, or stop dialling it; no event follows.
    Close(NodeKey),
    /// A connected node needs this program.
    SendProgram(NodeKey, Digest),
    /// Tell whoever wants to know.
    Report(Report),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// What came of it.
    pub outcome: JobOutcome,
    /// Which job it was.
    pub job: JobId,
    /// What it was to call.
    pub function: FunctionId,
    /// Where its last attempt ran, if one did.
    pub node: Option<NodeKey>,
    /// How long that ran.
    pub run_time: Duration,
    /// How large its serialised arguments were.
    pub args_bytes: usize,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobOutcome {
    /// The serialised result.
    Succeeded(Payload),
    /// The function panicked.
    Panicked(Box<Panic>),
    /// It ran longer than its limit.
    TimedOut(Duration),
    /// The submitter did not want it any more.
    Cancelled,
    /// Workers or nodes died under it too often, or no node can run it.
    Lost(Vec<Failure>),
    /// The result has so many bytes, and the limit is that many.
    TooLarge(u64, u64),
    /// The worker has no such function.
    UnknownFunction,
    /// The arguments could not be decoded on the node.
    BadArguments(String),
    /// The result could not be serialised.
    BadResult(String),
}

/// An attempt that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which attempt, counted from 1; 0 if the job was never tried.
    pub attempt: u32,
    /// Where.
    pub node: String,
    /// What happened there.
    pub reason: String,
}

/// News for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A node can be used.
    NodeConnected(NodeKey),
    /// A node is silent and gets no new jobs.
    NodeSuspected(NodeKey),
    /// A node is lost, and so many of its attempts are queued again.
    NodeLost(NodeKey, String, usize),
    /// A node does not want this dispatcher, or cannot run its program.
    NodeRefused(NodeKey, String),
    /// A node cannot start workers just now.
    NodeTroubled(NodeKey, String),
    /// The node's slots changed.
    NodeResized(NodeKey, u32),
    /// A job is tried again after an attempt that failed.
    JobRetried(JobId, Failure),
    /// A job printed something.
    Printed(NodeKey, Vec<OutputLine>),
    /// So many jobs have been waiting for a while and there is no node to run them on.
    Stalled(usize),
}

/// The state of a dispatcher. See the [module documentation](self) for how to drive it.
#[derive(Debug)]
pub struct Core<T> {
    config: Config,
    random: Random,
    jobs: Jobs<T>,
    queue: Queue,
    delays: Delays,
    nodes: BTreeMap<NodeKey, Node>,
    /// Nodes that would take another attempt now, the least loaded first.
    takers: BTreeSet<(u32, NodeKey)>,
    /// Connected nodes that hold more attempts than they have slots.
    overfull: BTreeSet<NodeKey>,
    /// When a node to recall from was last looked for among many, and when it is to be done again.
    recall_looked_at: Moment,
    recall_due: Option<Moment>,
    /// Jobs that may be copied, by when their attempts were sent; and when one may be worth it.
    copyable: BTreeSet<(Moment, JobId)>,
    copy_due: Option<Moment>,
    /// Attempts that the event at hand gave up, by the node they are at.
    cancelled: BTreeMap<NodeKey, Vec<AttemptId>>,
    /// When the next heartbeat is due.
    heartbeat: Option<Moment>,
    /// Since when jobs wait without any node to run them; reported once.
    stalled: Stalled,
    /// Why no node will ever run this program, or jobs of this dispatcher.
    unrunnable: Option<Failure>,
    /// Outcomes of attempts that were given up before: counted, dropped.
    late_outcomes: u64,
    /// Which tickets are told their jobs' identifiers.
    telling: Telling,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stalled {
    No,
    Since(Moment),
    Reported,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Telling {
    Nobody,
    /// Those of new jobs, and of jobs at places before this one.
    Until(u32),
    Everybody,
}

/// How long jobs wait without any node before that is reported.
const STALL: Duration = Duration::from_secs(5);

impl<T: Ticket> Core<T> {
    /// Takes in what happened at `now`, appending what is to be done to `actions`.
    pub fn handle(&mut self, now: Moment, event: Event<T>, actions: &mut Vec<Action<T>>) {
        match event {
            Event::Submit(jobs) => self.submit(now, jobs),
            Event::Cancel(jobs) => jobs.into_iter().for_each(|job| self.cancel(job, actions)),
            Event::NodeFound { node, name, kind } => self.node_found(now, node, name, kind, actions),
            Event::NodeGone(node) => self.node_gone(node),
            Event::LinkUp(node, welcome) => self.link_up(now, node, *welcome, actions),
            Event::DialFailed(node, failure) => self.dial_failed(now, node, failure, actions),
            Event::LinkDown(node, reason) => self.link_down(now, node, reason, actions),
            Event::Received(node, messages) => self.received(now, node, messages, actions),
            Event::Resize(node, slots) => self.resize(node, slots, actions),
            Event::Shutdown => self.shutdown(actions),
            Event::Tick => self.tick(now, actions),
        }
        self.fail_if_unrunnable(actions);
        self.send_cancellations(actions);
        self.schedule(now, actions);
        self.watch_for_stall(now);
    }
}

impl<T> Core<T> {
    /// A dispatcher without jobs and nodes.
    pub fn new(config: Config) -> Self {
        Self {
            random: Random::new(config.seed),
            unrunnable: config.observer.then(|| Failure {
                attempt: 0,
                node: "this dispatcher".into(),
                reason: "it only observes nodes and runs no jobs; submit to one that is built without observer(true)"
                    .into(),
            }),
            config,
            jobs: Jobs::default(),
            queue: Queue::default(),
            delays: Delays::default(),
            nodes: BTreeMap::new(),
            takers: BTreeSet::new(),
            overfull: BTreeSet::new(),
            recall_looked_at: Moment(0),
            recall_due: None,
            copyable: BTreeSet::new(),
            copy_due: None,
            cancelled: BTreeMap::new(),
            heartbeat: None,
            stalled: Stalled::No,
            late_outcomes: 0,
            telling: Telling::Nobody,
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        let stall = match self.stalled {
            Stalled::Since(since) => Some(since + STALL),
            Stalled::No | Stalled::Reported => None,
        };
        let more_to_fail = (self.unrunnable.is_some() && self.any_waits()).then_some(Moment(0));
        self.nodes
            .values()
            .flat_map(|node| [node.redial_at(), node.lives.resting_until()])
            .flatten()
            .chain(self.heartbeat)
            .chain(self.delays.next())
            .chain(self.recall_due)
            .chain(self.copy_due)
            .chain(stall)
            .chain(more_to_fail)
            .min()
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
            actions.push(Action::Report(Report::Stalled(self.queue.len())));
        }
    }

    fn watch_for_stall(&mut self, now: Moment) {
        let stalled = self.queue.len() > 0 && !self.nodes.values().any(Node::may_take_work);
        self.stalled = match self.stalled {
            _ if !stalled => Stalled::No,
            Stalled::No => Stalled::Since(now),
            known => known,
        };
    }

    /// Every node ever heard of, in the order they were found.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.nodes.iter().map(|(key, node)| node.view(*key, self.config.observer))
    }

    /// Jobs not resolved.
    pub fn unresolved(&self) -> usize {
        self.jobs.unresolved()
    }

    /// Jobs kept: those not resolved, and cancelled ones whose node has not answered.
    pub fn kept(&self) -> usize {
        self.jobs.len()
    }

    /// Outcomes that came for attempts given up before.
    pub fn late_outcomes(&self) -> u64 {
        self.late_outcomes
    }

    /// Where a job is.
    pub fn job_status(&self, job: JobId) -> Option<JobStatus> {
        let job = self.jobs.find(job)?;
        Some(match &job.location {
            Location::Delayed { until, .. } => JobStatus::Delayed { until: *until },
            Location::Queued => JobStatus::Queued,
            Location::AtNode { node, .. } => JobStatus::AtNode(*node),
        })
    }

    /// What must hold after every event. Called by tests and the simulation.
    ///
    /// # Panics
    /// When it does not.
    pub fn check_invariants(&self) {
        let mut at_nodes = 0;
        for (key, node) in &self.nodes {
            node.check_invariants(&self.jobs);
            let attempts = node.session().map_or(&[][..], Session::attempts);
            at_nodes += attempts.len();
            for (position, place) in attempts.iter().enumerate() {
                let job = self.jobs.at(*place).expect("an attempt at a node is of a job");
                let Location::AtNode { node, position: known, .. } = job.location else {
                    panic!("the job of an attempt at a node is at a node");
                };
                assert_eq!(node, *key, "the job of an attempt at a node is at that node");
                assert_eq!(known as usize, position, "a job knows where its node keeps it");
            }
            let taker = self.takers.iter().find(|(_, taker)| taker == key).map(|(load, _)| *load);
            assert_eq!(taker, node.takes_at_load(), "a node is a taker exactly while it takes work");
            assert_eq!(
                self.overfull.contains(key),
                node.is_overfull(),
                "a node with more than it has slots is known"
            );
        }
        let waiting = self.queue.len() + self.delays.len();
        assert_eq!(self.jobs.len(), waiting + at_nodes, "every job is delayed, in the queue, or at a node");
        self.jobs.iter().for_each(|(id, job)| self.check_job(id, job));
    }

    fn check_job(&self, id: JobId, job: &Job<T>) {
        match &job.location {
            Location::Delayed { until, number } => {
                assert!(
                    self.delays.holds(*until, *number, id),
                    "a job that is delayed is listed under its time"
                );
            }
            Location::Queued => {}
            Location::AtNode { .. } => {
                if let Copying::Candidate { sent } = job.copying() {
                    let is_listed = self.copyable.contains(&(sent, id)) || !job.owner.is_submitter();
                    assert!(is_listed, "a job that may be copied is listed under the time it was sent");
                }
                return;
            }
        }
        assert!(job.owner.is_submitter(), "somebody waits for what waits");
        let is_candidate = matches!(job.copying(), Copying::Candidate { .. });
        assert!(!is_candidate, "what is copied is at a node");
    }
}

/// Where an unresolved job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Not to be sent before then.
    Delayed {
        /// The time.
        until: Moment,
    },
    /// Waiting for a node.
    Queued,
    /// At this node: waiting there, or running.
    AtNode(NodeKey),
}
