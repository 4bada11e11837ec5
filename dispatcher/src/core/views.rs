//! Views of nodes and jobs, for people and programs.

use std::time::Duration;

use pp_protocol::{JobId, Moment, NodeId, NodeStatus, ProgramId, ProgramStatus, Target};

use super::job::{Copying, Job, Location, Owner};
use super::nodes::{Node, NodeKind, State};
use super::session::{Link, Session};
use super::{Core, Failure, NodeKey, NodeReason, NodeRefusal, NodeTrouble};

/// View of a node.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// The shell's key for it.
    pub key: NodeKey,
    /// Its life, once it was in session: the last one.
    pub life: Option<NodeId>,
    /// Its own name, or what it was found under.
    pub name: &'a str,
    /// Its origin.
    pub kind: NodeKind,
    /// State of the connection to it, and whether it is used.
    pub state: NodeState,
    /// Reason why it is not used, if it is not.
    pub reason: Option<NodeReason>,
    /// Its word of the programs that it was offered.
    pub programs: Vec<(ProgramId, &'a ProgramStatus)>,
    /// Its own account of itself, the last one that arrived; of its slots, those that jobs of this dispatcher may take.
    pub status: &'a NodeStatus,
    /// All its slots.
    pub own_slots: u32,
    /// What its workers are confined to; empty until it said so.
    pub confinement: &'a str,
    /// The software that serves it; empty until it said so.
    pub software: &'a str,
    /// The target that programs must be built for there, once it said so.
    pub target: Option<&'a Target>,
    /// The C library of its machine; empty if it did not say.
    pub libc: &'a str,
    /// Attempts at it.
    pub attempts: usize,
    /// Attempts without outcome that it takes.
    pub window: u32,
    /// Attempts of this dispatcher that ended there, in all sessions.
    pub jobs: u64,
    /// Their run times together.
    pub run_time: Duration,
}

/// State of the connection to a node, and whether it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

/// View of a job that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView<'a> {
    /// Its location.
    pub status: JobStatus,
    /// Number of its last attempt; 0 before the first.
    pub attempt: u32,
    /// Its owner, who is told how it ends.
    pub owner: JobOwner,
    /// Its copy, which may have ended.
    pub copy: Option<JobId>,
    /// Attempts for which it was charged.
    pub failures: Vec<&'a Failure>,
}

/// Location of a job.
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

/// Owner of a job, who is told how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOwner {
    /// The submitter.
    Submitter,
    /// It is a copy of this job, which ends with its result if that is first.
    Original(JobId),
    /// Nobody any more. Its node was told to cancel it, and has not answered.
    Nobody,
}

impl<T> Core<T> {
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

    /// Location of a job, if it is kept.
    pub fn job_status(&self, job: JobId) -> Option<JobStatus> {
        self.jobs.find(job).map(Job::status)
    }

    /// View of a job, if it is kept.
    pub fn job(&self, job: JobId) -> Option<JobView<'_>> {
        let job = self.jobs.find(job)?;
        let copy = match job.copying() {
            Copying::Copied { copy } => Some(copy),
            Copying::Never | Copying::Possible | Copying::Candidate { .. } => None,
        };
        let owner = match job.owner {
            Owner::Submitter(_) => JobOwner::Submitter,
            Owner::Original(original) => JobOwner::Original(original),
            Owner::Nobody => JobOwner::Nobody,
        };
        let failures = job.failures().collect();
        Some(JobView { status: job.status(), attempt: job.attempt, owner, copy, failures })
    }
}

impl<T> Job<T> {
    fn status(&self) -> JobStatus {
        match self.location {
            Location::Delayed { until, .. } => JobStatus::Delayed { until },
            Location::Queued => JobStatus::Queued,
            Location::AtNode { node, .. } => JobStatus::AtNode(node),
        }
    }
}

impl Node {
    pub(super) fn view(&self, key: NodeKey, observed: bool) -> NodeView<'_> {
        let (state, reason) = self.standing(observed);
        NodeView {
            key,
            life: self.lives.last(),
            name: &self.name,
            kind: self.kind,
            state,
            reason,
            programs: self.told_programs().collect(),
            status: &self.status,
            own_slots: self.own_slots,
            confinement: &self.about.confinement,
            software: &self.about.software,
            target: self.about.target.as_ref(),
            libc: &self.about.libc,
            attempts: self.session().map_or(0, |session| session.attempts().len()),
            window: self.session().map_or(0, Session::window),
            jobs: self.jobs,
            run_time: Duration::from_nanos(self.run_time_ns),
        }
    }

    /// Status of the programs that the node was offered.
    fn told_programs(&self) -> impl Iterator<Item = (ProgramId, &ProgramStatus)> {
        let programs = self.session().into_iter().flat_map(|session| session.programs());
        programs.map(|(program, status)| (*program, status))
    }

    fn standing(&self, observed: bool) -> (NodeState, Option<NodeReason>) {
        let session = match &self.state {
            State::Dialling { failed: None } => return (NodeState::Connecting, None),
            State::Waiting { failed, .. } | State::Dialling { failed: Some(failed) } => {
                let state = if failed.is_refusal() { NodeState::Refused } else { NodeState::Unreachable };
                return (state, Some(failed.reason()));
            }
            State::InSession(session) => session,
        };
        let offered = || session.programs().iter().filter(|(program, _)| **program != ProgramId::BUILT_IN);
        let is_refused = |status: &ProgramStatus| matches!(status, ProgramStatus::Refused(_));
        let is_any_offered = offered().next().is_some();
        let reason = session.programs().values().find_map(|status| match status {
            ProgramStatus::Refused(refusal) => {
                Some(NodeReason::Refused(NodeRefusal::Program(Box::new(refusal.clone()))))
            }
            ProgramStatus::Troubled { reason, .. } => {
                Some(NodeReason::Troubled(NodeTrouble::Program(reason.clone())))
            }
            ProgramStatus::Preparing | ProgramStatus::Ready => None,
        });
        let Link::Up(connection) = &session.link else { return (NodeState::Reconnecting, reason) };
        let runs_none = || !session.runs().into_iter().any(|program| program != ProgramId::BUILT_IN);
        let state = if is_any_offered && offered().all(|(_, status)| is_refused(status)) {
            NodeState::Refused
        } else if connection.suspect {
            NodeState::Suspect
        } else if self.status.draining {
            NodeState::Draining
        } else if !observed && self.is_open() && (session.window() == 0 || is_any_offered && runs_none()) {
            NodeState::Preparing
        } else {
            NodeState::Connected
        };
        let shortage = connection.trouble.clone().map(NodeTrouble::Workers).map(NodeReason::Troubled);
        let rests = self.lives.resting_until().map(|_| NodeReason::Resting);
        (state, shortage.or(rests).or(reason))
    }
}
