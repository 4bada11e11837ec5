//! What a node tells an operator who watches it ([`ToNode::Watch`](crate::ToNode::Watch)): a frame of what runs, what has
//! ended since the frame before, who has jobs there, and what was counted since the node started.
//!
//! A frame has at most [`ACTIVITY_BYTES`]: what does not fit is left out, and how much that is, is said. Times are told by how
//! long ago something was, since the clocks of two machines differ. Counts are since the start of the node, so that nothing is
//! missed by whoever misses frames: what happened between two of them is their difference.

use serde::{Deserialize, Serialize};

use crate::fields::read_name;
use crate::limits::ACTIVITY_BYTES;
use crate::{AttemptId, Digest, NodeStatus, OutcomeKind, ProgramId, Tally};

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its number in this watch, from 1 on.
    pub number: u64,
    /// Time since the node started, in nanoseconds.
    pub uptime_ns: u64,
    /// Slots, load, memory.
    pub status: NodeStatus,
    /// What was counted since the node started.
    pub totals: Totals,
    /// Names of functions, for people: others tell their places here.
    pub functions: Vec<FunctionLabel>,
    /// Sessions, those with work first.
    pub sessions: Vec<SessionActivity>,
    /// Programs of these sessions.
    pub programs: Vec<ProgramActivity>,
    /// Workers, those that run something first.
    pub workers: Vec<WorkerActivity>,
    /// Attempts that were in a worker and have ended since the frame before: those that failed first, then those that took
    /// longest.
    pub attempts: Vec<EndedAttempt>,
    /// What there was no room for.
    pub left_out: LeftOut,
}

/// How many of each were left out of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Sessions.
    pub sessions: u32,
    /// Programs.
    pub programs: u32,
    /// Workers.
    pub workers: u32,
    /// Attempts that ended.
    pub attempts: u64,
}

/// The name of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionLabel {
    /// The end of its path, or its identifier where no worker has told its name.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
}

/// Place of a name in [`Activity::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionPlace(pub u16);

impl FunctionPlace {
    /// There was no room for its name.
    pub const LEFT_OUT: Self = Self(u16::MAX);
}

/// A dispatcher's standing with the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionActivity {
    /// Its number at the node, never used again.
    pub session: u32,
    /// Its user, machine and program, as it says.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
    /// Whether it is connected; if not, it may come back.
    pub connected: bool,
    /// Slots that its attempts take.
    pub running: u32,
    /// Attempts of it that are at the node and have no slot.
    pub queued: u32,
    /// Slots that it may count on, with every session that has work.
    pub share: u32,
    /// Attempts without outcome that it may have at the node.
    pub window: u32,
    /// Jobs that wait at the dispatcher itself, for any node, as it said last.
    pub waiting: u64,
    /// Attempts that ended.
    pub ended: u64,
    /// Their run time together, in nanoseconds.
    pub run_time_ns: u64,
}

/// A program of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramActivity {
    /// The session.
    pub session: u32,
    /// Its number there.
    pub program: ProgramId,
    /// Its file name.
    #[serde(deserialize_with = "read_name")]
    pub name: String,
    /// The build that runs here, if one was sent.
    pub digest: Option<Digest>,
    /// What has become of it.
    pub standing: ProgramStanding,
}

/// What has become of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramStanding {
    /// The node does not have it yet.
    Preparing,
    /// It runs.
    Ready,
    /// Its workers do not start just now, and why.
    Troubled(String),
    /// It cannot run here, and why.
    Refused(String),
}

/// A worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerActivity {
    /// Its number at the node, never used again.
    pub worker: u32,
    /// The session whose attempts it runs.
    pub session: u32,
    /// What it does.
    pub doing: Doing,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    /// It runs an attempt.
    Running {
        /// The function.
        function: FunctionPlace,
        /// The attempt.
        attempt: AttemptId,
        /// For how long, in nanoseconds.
        for_ns: u64,
    },
    /// It is between two attempts, or on its way to one.
    Busy,
    /// It waits for work.
    Idle,
    /// It starts.
    Starting,
    /// It ends.
    Ending,
}

/// An attempt that ended in a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its session.
    pub session: u32,
    /// The worker.
    pub worker: u32,
    /// The function.
    pub function: FunctionPlace,
    /// When it ended: so many nanoseconds before this frame was made.
    pub ended_ago_ns: u64,
    /// Run time in nanoseconds.
    pub run_time_ns: u64,
    /// How it ended.
    pub ended: OutcomeKind,
    /// Reason why it failed, shortened; empty if it did not.
    pub reason: String,
}

/// What a node counted since it started. Nothing here ever gets less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Attempts that ended.
    pub ended: Tally,
    /// Attempts that came after others of the same job.
    pub retries: u64,
    /// Attempts that dispatchers asked back.
    pub recalled: u64,
    /// Outcomes dropped because their dispatcher had given up the session, or ended, before they arrived there.
    pub late_outcomes: u64,
    /// Lines of output that were dropped because they could not be sent in time.
    pub dropped_lines: u64,
    /// Workers that were started.
    pub workers_started: u64,
    /// Workers that did not become ready.
    pub workers_failed: u64,
    /// Workers that were killed by the node.
    pub workers_killed: u64,
    /// Workers that died by themselves.
    pub workers_lost: u64,
    /// Connections that broke off, or fell silent.
    pub connections_lost: u64,
    /// Connections that the node closed for a reason.
    pub refusals: u64,
    /// Sessions that began.
    pub sessions_begun: u64,
    /// Times that a session went on over another connection.
    pub sessions_resumed: u64,
    /// Sessions whose dispatcher did not come back in time.
    pub sessions_lost: u64,
    /// Programs that were sent there and stored.
    pub programs_received: u64,
    /// Programs that do not run there, and times that one could not be stored.
    pub programs_failed: u64,
}

impl Activity {
    /// The name of a function, for people.
    pub fn function(&self, place: FunctionPlace) -> &str {
        self.functions.get(usize::from(place.0)).map_or("…", |label| &label.name)
    }

    /// The session of this number, if it is told of.
    pub fn session(&self, session: u32) -> Option<&SessionActivity> {
        self.sessions.iter().find(|known| known.session == session)
    }

    /// Whether it is as large as a frame may be, at most.
    pub fn is_within_limits(&self) -> bool {
        self.weight() <= ACTIVITY_BYTES
    }

    /// Bytes that it has on a wire, at most.
    pub fn weight(&self) -> usize {
        let functions: usize = self.functions.iter().map(FunctionLabel::weight).sum();
        let sessions: usize = self.sessions.iter().map(SessionActivity::weight).sum();
        let programs: usize = self.programs.iter().map(ProgramActivity::weight).sum();
        let workers: usize = self.workers.iter().map(WorkerActivity::weight).sum();
        let attempts: usize = self.attempts.iter().map(EndedAttempt::weight).sum();
        Self::FIXED_BYTES + functions + sessions + programs + workers + attempts
    }

    /// Weight of a frame without lists.
    pub const FIXED_BYTES: usize = 600;
}

/// Bytes that a number has on a wire.
fn number(number: u64) -> usize {
    match number {
        0..251 => 1,
        251..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

fn text(text: &str) -> usize {
    number(text.len() as u64) + text.len()
}

fn attempt(id: AttemptId) -> usize {
    number(id.job.0) + number(id.number.into())
}

impl FunctionLabel {
    /// Bytes that it has on a wire.
    pub fn weight(&self) -> usize {
        text(&self.name)
    }
}

impl SessionActivity {
    /// Bytes that it has on a wire.
    pub fn weight(&self) -> usize {
        let small = [self.session, self.running, self.queued, self.share, self.window];
        let large = [self.waiting, self.ended, self.run_time_ns];
        let numbers = small.into_iter().map(u64::from).chain(large).map(number);
        1 + text(&self.name) + numbers.sum::<usize>()
    }
}

impl ProgramActivity {
    /// Bytes that it has on a wire.
    pub fn weight(&self) -> usize {
        let reason = match &self.standing {
            ProgramStanding::Preparing | ProgramStanding::Ready => 0,
            ProgramStanding::Troubled(reason) | ProgramStanding::Refused(reason) => text(reason),
        };
        let digest = if self.digest.is_some() { 33 } else { 1 };
        number(self.session.into()) + number(self.program.0.into()) + text(&self.name) + digest + 1 + reason
    }
}

impl WorkerActivity {
    /// Bytes that it has on a wire.
    pub fn weight(&self) -> usize {
        let doing = match self.doing {
            Doing::Running { function, attempt: id, for_ns } => {
                number(function.0.into()) + attempt(id) + number(for_ns)
            }
            Doing::Busy | Doing::Idle | Doing::Starting | Doing::Ending => 0,
        };
        number(self.worker.into()) + number(self.session.into()) + 1 + doing
    }
}

impl EndedAttempt {
    /// Bytes that it has on a wire.
    pub fn weight(&self) -> usize {
        let small = [self.session, self.worker, self.function.0.into()];
        let numbers = small.into_iter().map(u64::from).chain([self.ended_ago_ns, self.run_time_ns]);
        attempt(self.attempt) + numbers.map(number).sum::<usize>() + 1 + text(&self.reason)
    }
}
