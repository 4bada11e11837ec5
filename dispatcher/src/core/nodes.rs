//! A node, as a dispatcher knows it.
//!
//! ```text
//! Waiting ──> Dialling ──> InSession (session.rs) ──> lost
//!    ^            │                                     │
//!    └── failed ──┴─────────────────────────────────────┘
//! ```

use std::collections::BTreeSet;

use pp_protocol::{FunctionId, Moment, NodeStatus, ProgramId, Target, Version, Welcome};

use super::causes::{NodeLoss, NodeReason, NodeRefusal};
use super::jobs::Jobs;
use super::lives::Lives;
use super::parts::Parts;
use super::per_node::JobsPerNode;
use super::session::{Connection, Link, Session};
use super::takers::Class;

/// Origin of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// The dispatcher's own cores.
    Local,
    /// Named by the user: dialled for ever.
    Configured,
    /// Found on the network: dialled while there is word of it.
    Discovered,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: NodeKind,
    pub(super) state: State,
    /// Its own account of itself, the last one that arrived; of its slots, those that jobs of this dispatcher may take.
    pub(super) status: NodeStatus,
    /// All its slots.
    pub(super) own_slots: u32,
    /// Limit on jobs of this dispatcher there.
    limit: Option<JobsPerNode>,
    /// What it says of itself, for people: apart from what is looked at for each job.
    pub(super) about: Box<About>,
    pub(super) lives: Lives,
    /// The nodes that run the same programs as it does.
    pub(super) class: Class,
    /// Load under which it is listed among the takers of its class.
    pub(super) listed: Option<u32>,
    /// Number of sessions that there were with it.
    sessions: u32,
    /// Attempts that ended there, in all sessions.
    pub(super) jobs: u64,
    /// Their run times together, in nanoseconds.
    pub(super) run_time_ns: u64,
}

/// What a node says of itself, for people.
#[derive(Debug, Default)]
pub(super) struct About {
    /// What its workers are confined to.
    pub(super) confinement: String,
    /// The software that serves it.
    pub(super) software: String,
    /// Target that programs must be built for.
    pub(super) target: Option<Target>,
    /// The C library of its machine.
    pub(super) libc: String,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most nodes are in session, and the way there is the job path")]
pub(super) enum State {
    /// Not connected, nothing under way.
    Waiting { redial: Option<Moment>, failed: FailedDial },
    /// Being dialled; nothing of ours is there. The result of the dial before is still what is known of it.
    Dialling { failed: Option<FailedDial> },
    /// It welcomed this dispatcher, and is connected or may be again.
    InSession(Session),
}

/// Reason why a node is not connected.
#[derive(Clone, Debug)]
pub(super) enum FailedDial {
    /// It answered, and does not want this dispatcher.
    Refused(NodeRefusal),
    /// So many dials in a row had no answer; none of them, if the last connection ended otherwise.
    Unanswered { reason: NodeReason, dials: u32 },
}

impl FailedDial {
    /// Something ended the last connection.
    pub(super) fn after(loss: &NodeLoss) -> Self {
        match loss {
            NodeLoss::Refused(refusal) => Self::Refused(NodeRefusal::clone(refusal)),
            loss => Self::not_dialled(NodeReason::Lost(loss.clone())),
        }
    }

    pub(super) fn not_dialled(reason: NodeReason) -> Self {
        Self::Unanswered { reason, dials: 0 }
    }

    pub(super) fn reason(&self) -> NodeReason {
        match self {
            Self::Refused(refusal) => NodeReason::Refused(refusal.clone()),
            Self::Unanswered { reason, .. } => reason.clone(),
        }
    }

    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Node {
    pub(super) fn new(name: String, kind: NodeKind, class: Class, limit: Option<JobsPerNode>) -> Self {
        Self {
            name,
            kind,
            state: State::Dialling { failed: None },
            status: NodeStatus::default(),
            own_slots: 0,
            limit,
            about: Box::default(),
            lives: Lives::default(),
            class,
            listed: None,
            sessions: 0,
            jobs: 0,
            run_time_ns: 0,
        }
    }

    /// A session without any past began.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        welcome: &Welcome,
        version: Version,
        offered: &BTreeSet<ProgramId>,
    ) {
        self.lives.seen(now, welcome.node);
        self.sessions = self.sessions.wrapping_add(1);
        let mut session = Session::new(now, welcome, version, offered);
        session.parts = Parts::of_session(self.sessions);
        self.state = State::InSession(session);
        self.take_in(welcome);
    }

    /// The node's account of itself as it is connected.
    pub(super) fn take_in(&mut self, welcome: &Welcome) {
        if self.kind != NodeKind::Local {
            self.name.clone_from(&welcome.name);
        }
        self.tell_status(welcome.status);
        self.about.confinement.clone_from(&welcome.confinement);
        self.about.software.clone_from(&welcome.software);
        self.about.target = Some(welcome.target.clone());
        self.about.libc.clone_from(&welcome.libc);
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::InSession(session) => Some(session),
            State::Waiting { .. } | State::Dialling { .. } => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::InSession(session) => Some(session),
            State::Waiting { .. } | State::Dialling { .. } => None,
        }
    }

    /// The node gave an account of itself: no more of its slots are used than may be, and no larger window.
    pub(super) fn tell_status(&mut self, status: NodeStatus) {
        let limit = self.limit.map(|limit| limit.with_processors(status.cpus));
        let limit = limit.filter(|limit| *limit < status.slots);
        self.own_slots = status.slots;
        self.status = NodeStatus { slots: limit.unwrap_or(status.slots), ..status };
        if let Some(session) = self.session_mut() {
            session.limit_window(limit);
        }
    }

    /// Reason why there is no session with it, as far as one is known.
    pub(super) fn why_not_in_session(&self) -> Option<NodeReason> {
        match &self.state {
            State::Waiting { failed, .. } | State::Dialling { failed: Some(failed) } => Some(failed.reason()),
            State::Dialling { failed: None } | State::InSession(_) => None,
        }
    }

    /// The session, while its connection stands.
    pub(super) fn connected(&self) -> Option<(&Session, &Connection)> {
        let session = self.session()?;
        Some((session, session.connection()?))
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.session_mut()?.connection_mut()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected().is_some()
    }

    /// Whether it is connected and has slots for whoever may use them.
    pub(super) fn is_open(&self) -> bool {
        self.is_connected() && self.status.slots > 0 && !self.status.draining
    }

    /// Whether it is connected and runs this program, or may soon, be it full or not.
    pub(super) fn may_run(&self, program: ProgramId) -> bool {
        self.is_open() && self.session().is_some_and(|session| session.may_run(program))
    }

    /// Whether it takes work now, or will as soon as it has room.
    pub(super) fn will_take_work(&self) -> bool {
        self.is_open()
            && self.session().is_some_and(|session| session.window() > 0)
            && self.lives.resting_until().is_none()
    }

    /// Its load in 256ths of its slots, if it takes another attempt now.
    pub(super) fn takes_at_load(&self) -> Option<u32> {
        let (session, connection) = self.connected()?;
        let slots = self.status.slots;
        if connection.suspect || session.room() < session.least_room(slots) || !self.will_take_work() {
            return None;
        }
        Some((session.attempts().len() as u64 * 256 / u64::from(slots)) as u32)
    }

    /// Whether it has more attempts than slots, and can be asked for some.
    pub(super) fn is_overfull(&self) -> bool {
        self.connected().is_some_and(|(session, _)| session.excess(self.status.slots) > 0)
    }

    pub(super) fn redial_at(&self) -> Option<Moment> {
        match &self.state {
            State::Waiting { redial, .. } => *redial,
            State::InSession(Session { link: Link::Broken { redial, .. }, .. }) => *redial,
            State::Dialling { .. } | State::InSession(_) => None,
        }
    }

    /// An attempt that ran there ended.
    pub(super) fn ran(&mut self, function: FunctionId, run_time_ns: u64) {
        self.jobs += 1;
        self.run_time_ns = self.run_time_ns.saturating_add(run_time_ns);
        if let Some(session) = self.session_mut() {
            session.run_times.learn(function, run_time_ns);
        }
    }

    pub(super) fn check_invariants<T>(&self, jobs: &Jobs<T>) {
        assert_eq!(self.listed, self.takes_at_load(), "a node is listed under its load");
        if let Some(session) = self.session() {
            session.check_invariants(jobs);
        }
    }
}
