//! The decisions of a node, without any I/O.
//!
//! [`Core`] owns every slot, session, attempt and program of the node. The shell tells it what happened
//! ([`Event`]) with the time at which it happened, and performs what it asks for ([`Action`]). The calling contract:
//!
//! 1. `handle(now, event, &mut actions)` for each event, `now` never going back;
//! 2. perform the actions in order; the ones that ask a question ([`Action::Observe`], [`Action::Look`], [`Action::Revoke`],
//!    [`Action::LocateProgram`]) are answered by an event;
//! 3. call `handle(now, Event::Tick, ..)` when `next_deadline()` has come.
//!
//! ```text
//! attempt:   Run ──> queued at the node ──> in a worker ──> started ──> outcome kept ──> acknowledged
//!                       │     ^                 │              │
//!                       │     └── revoked ──────┘              ├── worker died: outcome "worker died"
//!                       └── cancelled, recalled, returned      └── cancelled, timed out: worker killed
//! worker:    Starting ──> Ready <──> Skipping        (Skipping: work was revoked and is being thrown away)
//!                └───────────┴──────────┴──> Ending ──> gone
//! ```

mod admission;
mod connect;
mod counters;
mod frame;
mod lanes;
mod output;
mod parts;
mod programs;
mod questions;
mod queue;
mod resize;
mod schedule;
mod session;
mod shortage;
#[cfg(test)]
mod tests;
mod uploads;
mod watch;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pp_protocol::limits::args_bytes_at_node;
use pp_protocol::worker::{Finished, FunctionName, Work};
use pp_protocol::{
    Digest, FromNode, Moment, NodeId, NodeStatus, Payload, ProgramRefusal, Stream, Target, ToNode,
    WorkerDeath, WorkerShortage,
};

pub use self::admission::{Accepted, Proof};
use self::connect::Connection;
pub use self::counters::Counters;
use self::frame::FunctionNames;
use self::lanes::{Lane, LaneKey};
use self::programs::ProgramState;
use self::questions::Questions;
use self::session::Session;
pub use self::session::SessionStatistics;
use self::shortage::Shortage;
use self::watch::Watchers;
use self::work::Worker;

/// A connection, numbered by the shell; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub u32);

/// Reason why a worker did not become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// Reason, in words.
    pub reason: String,
    /// The last lines it wrote to standard error.
    pub stderr: Vec<String>,
    /// Whether the machine lacks something just now: descriptors, processes, memory.
    pub is_shortage: bool,
}

/// A worker, numbered by the core; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerKey(pub u32);

/// A session, numbered by the core; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionKey(u32);

/// Progress of a worker, as read from its page. Counts wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of pieces of work it has claimed; the last one claimed is number `started - 1`.
    pub started: u32,
    /// Number of these it has finished. One is running while this differs from `started`.
    pub finished: u32,
    /// Start of the last claimed piece, on the monotonic clock.
    pub started_at_ns: u64,
}

/// Executable that a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// The program the node itself runs in: the dispatcher's own, or `ppserver` with its built-in functions.
    Own,
    /// One that a dispatcher sent.
    Sent(Digest),
}

/// Settings of a core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This life of the node.
    pub id: NodeId,
    /// When it started.
    pub started: Moment,
    /// The node's name, for people.
    pub name: String,
    /// Room for attempts.
    pub slots: u32,
    /// Processors the node may use.
    pub cpus: u32,
    /// Target that programs must be built for.
    pub target: Target,
    /// The C library of its machine, for people; empty if that is not known.
    pub libc: String,
    /// Whether a worker runs one attempt only.
    pub fresh_worker_per_job: bool,
    /// Whether programs can be received; if not, sessions run the node's own.
    pub stores_programs: bool,
    /// What workers are confined to, for people.
    pub confinement: String,
    /// Silence after which a connection is closed.
    pub silence: Duration,
    /// Time for which a session without connection is kept.
    pub grace: Duration,
    /// Time that running attempts have to end when the node drains.
    pub drain_time: Duration,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer proved that it knows a secret, and to be in a role.
    Connected(ConnectionKey, Proof),
    /// From now on these proofs open the node, and no other.
    AcceptOnly(Accepted),
    /// Messages arrived.
    Received(ConnectionKey, Vec<ToNode>),
    /// The connection is gone.
    Disconnected(ConnectionKey),
    /// So many bytes wait to be sent on it, which is more than [`QUEUED_BYTES`](pp_protocol::limits::QUEUED_BYTES).
    Behind(ConnectionKey, usize),
    /// So many pieces of a program being received are written.
    ProgramWritten(Digest, u32),
    /// The store has this program, or has it now.
    ProgramStored(Digest),
    /// The store does not have this program.
    ProgramMissing(Digest),
    /// The program could not be stored. That it was [not stored](ProgramRefusal::NotStored) may pass; any other reason stays.
    ProgramFailed(Digest, ProgramRefusal),
    /// The worker waits for work.
    WorkerReady(WorkerKey),
    /// These are the names of the functions of the worker's program.
    FunctionsNamed(WorkerKey, Vec<FunctionName>),
    /// The worker never became ready: why, and what it last wrote to standard error.
    WorkerFailed(WorkerKey, StartFailure),
    /// Work ended, in order.
    WorkerFinished(WorkerKey, Vec<Finished>),
    /// Revoked work before this number has been thrown away.
    WorkerSkipped(WorkerKey, u32),
    /// Lines were printed when the worker had started so many pieces of work.
    WorkerOutput(WorkerKey, u32, Stream, Vec<String>),
    /// The worker sent bytes ahead of the result of the piece of work of this number. Nothing more of it is told before
    /// [`Action::ReadOn`].
    WorkerPart(WorkerKey, u32, Stream, Payload),
    /// Something large is on its way to the worker, or from it.
    WorkerMoving(WorkerKey),
    /// The worker is gone, having come so far.
    WorkerExited(WorkerKey, Progress, WorkerDeath),
    /// The answer to [`Action::Observe`].
    Observed(WorkerKey, Progress),
    /// The answer to [`Action::Look`], in the same order, without workers that are gone.
    Looked(Vec<(WorkerKey, Progress)>),
    /// The answer to [`Action::Revoke`].
    Revoked(WorkerKey, Progress),
    /// The operator wants so many slots.
    Resize(u32),
    /// Finish what runs, then end.
    Drain,
    /// End at once.
    Kill,
    /// Load and memory of the machine.
    Load(SystemLoad),
    /// The time of [`Core::next_deadline`] has come.
    Tick,
}

/// Load and memory of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SystemLoad {
    /// Load average over one minute.
    pub load: f32,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Memory of the machine, in bytes.
    pub memory_total: u64,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message.
    Send(ConnectionKey, FromNode),
    /// Close the connection, which has some time to write what is queued; no event follows.
    Close(ConnectionKey),
    /// Look for a program in the store.
    LocateProgram(Digest),
    /// Add a piece to a program being received; complete it with the last. Answered by [`Event::ProgramWritten`].
    StoreProgram {
        /// The program.
        digest: Digest,
        /// Its announced size in bytes.
        size: u64,
        /// The compressed piece.
        piece: Payload,
        /// Whether it is the last one.
        last: bool,
    },
    /// Forget the pieces received of a program.
    AbandonProgram(Digest),
    /// Start a worker.
    Spawn(WorkerKey, Program),
    /// Give a worker more work.
    Assign(WorkerKey, Vec<Work>),
    /// Read how far a worker has come.
    Observe(WorkerKey),
    /// Read how far each of these workers has come, for somebody who watches.
    Look(Vec<WorkerKey>),
    /// Take back what a worker has not claimed.
    Revoke(WorkerKey),
    /// Leave what a worker prints and reports where it is, or take it again.
    HoldOutput(WorkerKey, bool),
    /// Read on what a worker says after a part of it: that is on its way.
    ReadOn(WorkerKey),
    /// Kill a worker and its process group; its exit follows as an event.
    Kill(WorkerKey),
    /// Let an idle worker end; its exit follows as an event.
    Retire(WorkerKey),
    /// The node is done.
    End,
}

/// Statistics of a node, for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// The node's name.
    pub name: String,
    /// Slots, load, memory.
    pub status: NodeStatus,
    /// Worker processes by state: starting, idle, busy.
    pub workers: [usize; 3],
    /// Connections of peers that have proved who they are.
    pub connections: usize,
    /// Programs of dispatchers that are here, or on their way.
    pub programs: usize,
    /// Each session, in the order they came.
    pub sessions: Vec<SessionStatistics>,
    /// When the node started.
    pub started: Moment,
    /// What has been counted since then.
    pub counters: Counters,
}

/// The state of a node. See the [module documentation](self) for how to drive it.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    slots: u32,
    system: SystemLoad,
    /// Large arguments that a session may have here, in bytes.
    args_limit: u64,
    draining: Option<Draining>,
    /// Proofs that open the node; every one that was proved, as long as nothing is said.
    accepted: Option<Accepted>,
    connections: BTreeMap<ConnectionKey, Connection>,
    sessions: BTreeMap<SessionKey, Session>,
    workers: BTreeMap<WorkerKey, Worker>,
    programs: BTreeMap<Program, ProgramState>,
    /// Whether to look for programs that sessions may be asked for.
    is_program_wanted: bool,
    /// Programs that a worker was ever started from.
    proven: BTreeSet<Program>,
    /// Whether the machine gives fewer workers than there are slots.
    shortage: Option<Shortage>,
    /// Words in which everybody was told of that.
    told_shortage: Option<WorkerShortage>,
    /// Workers that wait for work, by whose they are.
    idle: BTreeSet<(LaneKey, WorkerKey)>,
    /// Time of the next heartbeat.
    heartbeat: Option<Moment>,
    /// Time to look for workers that sit on work, if any may.
    rebalance: Option<Moment>,
    /// Time from which an idle worker makes way for a lane that waits, if one may.
    room_due: Option<Moment>,
    /// What was counted, but for what the sessions count that are here.
    counters: Counters,
    /// Operators who watch.
    watchers: Watchers,
    /// Names of functions.
    functions: FunctionNames,
    /// Counts the heartbeats that ask peers for an answer.
    pings: u64,
    /// What operators want to know of jobs.
    questions: Questions,
    next_worker: u32,
    next_session: u32,
    /// Rises with every pick of a session, so that equals take turns.
    turn: u64,
}

#[derive(Debug)]
struct Draining {
    /// Time at which running attempts are killed.
    until: Moment,
    /// Whether the farewell has been said.
    farewell: bool,
    /// Whether the end was announced to the shell.
    ended: bool,
}

impl Core {
    /// A node without sessions and workers.
    pub fn new(config: CoreConfig) -> Self {
        Self {
            slots: config.slots,
            config,
            system: SystemLoad::default(),
            args_limit: args_bytes_at_node(0),
            draining: None,
            accepted: None,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            workers: BTreeMap::new(),
            programs: BTreeMap::from([(Program::Own, ProgramState::usable())]),
            is_program_wanted: false,
            proven: BTreeSet::new(),
            shortage: None,
            told_shortage: None,
            idle: BTreeSet::new(),
            heartbeat: None,
            rebalance: None,
            room_due: None,
            counters: Counters::default(),
            pings: 0,
            questions: Questions::default(),
            watchers: Watchers::default(),
            functions: FunctionNames::default(),
            next_worker: 0,
            next_session: 0,
            turn: 0,
        }
    }

    /// Takes in what happened at `now`, appending what is to be done to `actions`.
    pub fn handle(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Connected(key, proof) => self.connected(now, key, proof, actions),
            Event::AcceptOnly(accepted) => self.accept_only(now, accepted, actions),
            Event::Received(key, messages) => {
                self.heard(now, key);
                self.received_all(now, key, messages, actions);
            }
            Event::Disconnected(key) => self.disconnected(now, key, actions),
            Event::Behind(key, waiting) => self.behind(key, waiting, actions),
            Event::ProgramWritten(digest, pieces) => self.program_written(now, digest, pieces, actions),
            Event::ProgramStored(digest) => self.program_stored(digest, actions),
            Event::ProgramMissing(digest) => self.program_missing(digest),
            Event::ProgramFailed(digest, refusal) => self.program_failed(now, digest, refusal, actions),
            Event::WorkerReady(key) => self.worker_ready(key, actions),
            Event::FunctionsNamed(key, names) => self.functions_named(key, names),
            Event::WorkerFailed(key, failure) => self.worker_failed(now, key, failure, actions),
            Event::WorkerFinished(key, finished) => self.worker_finished(now, key, finished, actions),
            Event::WorkerSkipped(key, number) => self.worker_skipped(key, number, actions),
            Event::WorkerOutput(key, started, stream, lines) => {
                self.worker_output(key, started, stream, lines, actions)
            }
            Event::WorkerPart(key, number, stream, bytes) => {
                self.worker_part(key, number, stream, bytes, actions)
            }
            Event::WorkerMoving(key) => self.worker_is_moving(key),
            Event::WorkerExited(key, progress, death) => {
                self.worker_exited(now, key, progress, death, actions)
            }
            Event::Observed(key, progress) => self.observed(now, key, progress, actions),
            Event::Looked(workers) => self.looked(now, &workers, actions),
            Event::Revoked(key, progress) => self.revoked(key, progress, actions),
            Event::Resize(slots) => self.resize(slots, actions),
            Event::Drain => self.drain(now, actions),
            Event::Kill => self.kill(now, actions),
            Event::Load(load) => self.loaded(load),
            Event::Tick => self.tick(now, actions),
        }
        self.ask_for_programs(now, actions);
        self.schedule(now, actions);
        if self.shortage.is_some() || self.told_shortage.is_some() {
            self.announce_shortage(now, actions);
        }
        self.flush_sessions(actions);
        // After the outcomes: a dispatcher judges by them for what its window is meant.
        self.announce_windows(actions);
        self.end_if_drained(now, actions);
    }

    /// Time at which [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        let sessions = self.sessions.values().filter_map(|session| session.forget_at());
        let watches = self.workers.values().filter_map(|worker| worker.watch);
        let drain = self.draining.as_ref().filter(|draining| !draining.ended).map(|draining| draining.until);
        let starts = self.programs.values().filter_map(ProgramState::retry_at);
        let room = self.shortage.as_ref().and_then(|shortage| shortage.retry_at);
        sessions
            .chain(watches)
            .chain(starts)
            .chain(room)
            .chain(self.heartbeat)
            .chain(self.rebalance)
            .chain(self.room_due)
            .chain(self.watchers.due())
            .chain(drain)
            .min()
    }

    fn tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.beat(now, actions);
        self.forget_silent_sessions(now, actions);
        self.watch_time_limits(now, actions);
        self.end_waits_for_programs(now, actions);
        self.end_wait_for_room(now);
        self.end_drain_time(now, actions);
        self.look(now, actions);
    }

    /// This life of the node.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Slots, load, memory.
    pub fn status(&self) -> NodeStatus {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        NodeStatus {
            slots: self.capacity(),
            busy: count(self.workers.values().filter(|worker| worker.is_busy()).count()),
            queued: count(self.sessions.values().map(|session| session.lanes.queued()).sum()),
            sessions: count(self.sessions.values().filter(|session| session.connection().is_some()).count()),
            cpus: self.config.cpus,
            load: self.system.load,
            memory_used: self.system.memory_used,
            memory_total: self.system.memory_total,
            draining: self.draining.is_some(),
        }
    }

    /// Numbers for people.
    pub fn statistics(&self) -> Statistics {
        let mut workers = [0; 3];
        for worker in self.workers.values() {
            workers[worker.state_for_people()] += 1;
        }
        Statistics {
            name: self.config.name.clone(),
            status: self.status(),
            workers,
            connections: self.connections.len(),
            programs: self.programs.keys().filter(|program| **program != Program::Own).count(),
            sessions: self.sessions.values().map(Session::statistics).collect(),
            started: self.config.started,
            counters: self.counters(),
        }
    }

    /// Checks the invariants, which hold after every event. Called by tests and the simulation.
    ///
    /// # Panics
    /// When it does not.
    pub fn check_invariants(&self) {
        let busy = self.workers.values().filter(|worker| worker.is_busy() && !worker.is_ending()).count();
        let alive = self.workers.values().filter(|worker| !worker.is_ending()).count();
        assert!(busy <= alive, "busy workers are alive");
        for (key, worker) in &self.workers {
            worker.check_invariants();
            let listed = self.idle.contains(&(worker.lane, *key));
            assert_eq!(listed, worker.is_idle(), "a worker that could work is listed as idle");
            let surplus = worker.leaving && !worker.is_busy() && worker.state == work::WorkerState::Ready;
            assert!(!surplus, "a worker that is to leave leaves as soon as it can");
        }
        for (lane, key) in &self.idle {
            let worker = &self.workers[key];
            assert!(worker.is_idle() && worker.lane == *lane, "an idle worker is one that could work");
        }
        for (key, session) in &self.sessions {
            session.lanes.check_invariants();
            let its_workers = || self.workers.values().filter(|worker| worker.lane.session == *key);
            let in_workers: usize = its_workers().map(Worker::holds).sum();
            assert_eq!(session.in_workers, in_workers, "a session knows how much of its work is in workers");
            let waiting = session.lanes.iter().flat_map(Lane::waiting);
            let in_workers = its_workers().flat_map(|worker| worker.work.iter().map(|piece| &piece.attempt));
            let args_bytes = Session::args_bytes_of(waiting.chain(in_workers));
            assert_eq!(session.args_bytes(), args_bytes, "and how large its arguments are");
            let busy = its_workers().filter(|worker| worker.busy_since.is_some()).count();
            assert_eq!(session.slots_used, busy, "a session knows how many workers it occupies");
            let of_lanes: usize = session.lanes.iter().map(|lane| lane.slots_used).sum();
            assert_eq!(of_lanes, busy, "and which of its programs does");
            if let Some(connection) = session.connection() {
                assert!(self.connections.contains_key(&connection), "a session's connection is open");
            }
        }
    }
}
