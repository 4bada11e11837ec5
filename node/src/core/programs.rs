//! Programs: which ones a session runs, and how the node comes by them.
//!
//! ```text
//! offered ──> Locating ──> Usable                       (it was in the store)
//!                └──> Fetching ──> Storing ──> Usable   (its dispatcher sent it)
//!                         └───────────┴─────┴──> refused: forgotten, and tried again with the next offer
//! ```
//! One dispatcher at a time sends a program, however many run it. What has become of a program is told to each session
//! that offered it, under the number it has there.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::limits::{PROGRAM_BUILDS, PROGRAM_BYTES, PROGRAMS};
use pp_protocol::{
    Digest, FromNode, Moment, Payload, ProgramBuild, ProgramId, ProgramOffer, ProgramRefusal, ProgramStatus,
    Target,
};

use super::lanes::{Lane, LaneKey, LaneProgram};
use super::work::{Worker, WorkerState};
use super::{Action, Core, Program, SessionKey, StartFailure, WorkerKey};

/// Workers in a row that do not start before dispatchers are told of the trouble, and given back what waits.
const TROUBLE: u32 = 3;
/// Of so many programs that no session runs it is remembered that they started before.
const PROVEN_KEPT: usize = 1_024;
/// How long to wait before a program that has started before, and now does not, is started again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum ProgramState {
    /// The store is being asked.
    Locating { size: u64 },
    /// A session sends it.
    Fetching { from: SessionKey, size: u64 },
    /// Complete, being verified.
    Storing { size: u64 },
    /// Workers can be started from it.
    Usable(Health),
}

#[derive(Debug, Default)]
pub(super) struct Health {
    /// Size of the executable file in bytes.
    size: u64,
    /// Workers in a row that did not become ready.
    failures: u32,
    /// Why the last one did not.
    reason: String,
    /// When to try again after that.
    not_before: Option<Moment>,
}

impl Health {
    fn is_troubled(&self) -> bool {
        self.failures >= TROUBLE
    }

    /// While there is trouble, jobs are better off elsewhere; when its time comes, another try is made with those that come.
    fn status(&self) -> ProgramStatus {
        if self.is_troubled() {
            ProgramStatus::Troubled { reason: self.reason.clone(), retried: self.not_before.is_none() }
        } else {
            ProgramStatus::Ready
        }
    }
}

impl ProgramState {
    pub(super) fn usable() -> Self {
        Self::Usable(Health::default())
    }

    pub(super) fn retry_at(&self) -> Option<Moment> {
        match self {
            Self::Usable(health) => health.not_before,
            _ => None,
        }
    }
}

impl Core {
    /// A session offers a program, perhaps again.
    pub(super) fn offered(&mut self, key: SessionKey, offer: ProgramOffer, actions: &mut Vec<Action>) {
        let ProgramOffer { program: id, builds } = offer;
        let chosen = self.choose_build(&builds);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let known = session.lanes.get(id).map(Lane::runs);
        if id == ProgramId::BUILT_IN || builds.len() > PROGRAM_BUILDS {
            return self.protocol_broken(key, "it offered a program that makes no sense", actions);
        }
        if known.is_none() && session.lanes.len() > PROGRAMS {
            return self.protocol_broken(key, "it offered too many programs", actions);
        }
        if let Some(Some(program)) = known
            && chosen != LaneProgram::Runs(program)
        {
            return self.protocol_broken(key, "it offered another program under a number in use", actions);
        }
        // Whatever was wrong with it before may have been mended since: each offer is one more try.
        session.lanes.set(id, chosen.clone());
        if let LaneProgram::Runs(program @ Program::Sent(digest)) = chosen
            && !self.programs.contains_key(&program)
        {
            let size = builds.iter().find(|build| build.digest == digest).map_or(0, |build| build.bytes);
            self.programs.insert(program, ProgramState::Locating { size });
            actions.push(Action::LocateProgram(digest));
        }
        self.tell_status(LaneKey { session: key, program: id }, actions);
    }

    /// Which of the builds of a program runs here.
    fn choose_build(&self, builds: &[ProgramBuild]) -> LaneProgram {
        if builds.is_empty() {
            return LaneProgram::Runs(Program::Own);
        }
        if !self.config.stores_programs {
            let reason = "this node runs its own program only".into();
            return LaneProgram::Refused(ProgramRefusal::NotStored(reason));
        }
        let Some(build) = builds.iter().find(|build| build.target == self.config.target) else {
            let offered: Vec<Target> = builds.iter().map(|build| build.target.clone()).collect();
            let node = self.config.target.clone();
            return LaneProgram::Refused(ProgramRefusal::WrongTarget { node, offered });
        };
        if build.bytes > PROGRAM_BYTES {
            let refusal = ProgramRefusal::TooLarge { bytes: build.bytes, limit: PROGRAM_BYTES };
            return LaneProgram::Refused(refusal);
        }
        LaneProgram::Runs(Program::Sent(build.digest))
    }

    /// What there is to say of a session's program.
    fn status_of(&self, program: &LaneProgram) -> ProgramStatus {
        match program {
            LaneProgram::Refused(refusal) => ProgramStatus::Refused(refusal.clone()),
            LaneProgram::Runs(program) => match self.programs.get(program) {
                Some(ProgramState::Usable(health)) => health.status(),
                _ => ProgramStatus::Preparing,
            },
        }
    }

    fn tell_status(&self, key: LaneKey, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get(&key.session) else { return };
        if let Some(lane) = session.lanes.get(key.program)
            && let Some(connection) = session.connection()
        {
            let message = FromNode::Program(key.program, self.status_of(&lane.program));
            actions.push(Action::Send(connection, message));
        }
    }

    /// Tells everybody who runs the program what has become of it.
    fn tell_status_of(&self, program: Program, actions: &mut Vec<Action>) {
        for key in self.lanes_that_run(program) {
            self.tell_status(key, actions);
        }
    }

    fn lanes_that_run(&self, program: Program) -> impl Iterator<Item = LaneKey> {
        let lanes = self.sessions.iter().flat_map(|(session, it)| {
            it.lanes.iter().map(|lane| (LaneKey { session: *session, program: lane.id }, lane))
        });
        lanes.filter(move |(_, lane)| lane.runs() == Some(program)).map(|(key, _)| key)
    }

    pub(super) fn program_stored(&mut self, digest: Digest, actions: &mut Vec<Action>) {
        let program = Program::Sent(digest);
        let size = match self.programs.get(&program) {
            Some(ProgramState::Locating { size } | ProgramState::Storing { size }) => *size,
            // It was only looked whether it is still there.
            _ => return,
        };
        self.programs.insert(program, ProgramState::Usable(Health { size, ..Health::default() }));
        self.tell_status_of(program, actions);
    }

    /// The program is not in the store: the first session that runs it is asked for it.
    pub(super) fn program_missing(&mut self, digest: Digest, actions: &mut Vec<Action>) {
        let program = Program::Sent(digest);
        let size = match self.programs.get(&program) {
            Some(ProgramState::Locating { size } | ProgramState::Fetching { size, .. }) => *size,
            // Somebody has removed it since.
            Some(ProgramState::Usable(health)) => health.size,
            _ => return,
        };
        let source = self
            .lanes_that_run(program)
            .find_map(|lane| Some((lane.session, self.sessions.get(&lane.session)?.connection()?)));
        match source {
            Some((from, connection)) => {
                self.programs.insert(program, ProgramState::Fetching { from, size });
                actions.push(Action::Send(connection, FromNode::ProgramNeeded(digest)));
            }
            None => {
                self.programs.remove(&program);
            }
        }
    }

    pub(super) fn program_chunk(
        &mut self,
        key: SessionKey,
        digest: Digest,
        piece: Payload,
        last: bool,
        actions: &mut Vec<Action>,
    ) {
        let program = Program::Sent(digest);
        match self.programs.get(&program) {
            Some(ProgramState::Fetching { from, size }) if *from == key => {
                let size = *size;
                actions.push(Action::StoreProgram { digest, size, piece, last });
                if last {
                    self.programs.insert(program, ProgramState::Storing { size });
                }
            }
            _ => {}
        }
    }

    pub(super) fn program_unavailable(
        &mut self,
        key: SessionKey,
        digest: Digest,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let program = Program::Sent(digest);
        if matches!(self.programs.get(&program), Some(ProgramState::Fetching { from, .. }) if *from == key) {
            actions.push(Action::AbandonProgram(digest));
            self.program_refused(program, ProgramRefusal::Unavailable(reason), actions);
        }
    }

    /// A session is gone: what it was sending is asked for again, of another session that runs it.
    pub(super) fn program_source_lost(&mut self, key: SessionKey, actions: &mut Vec<Action>) {
        let interrupted: Vec<_> = self
            .programs
            .iter()
            .filter(|(_, state)| matches!(state, ProgramState::Fetching { from, .. } if *from == key))
            .filter_map(|(program, _)| match program {
                Program::Sent(digest) => Some(*digest),
                Program::Own => None,
            })
            .collect();
        for digest in interrupted {
            actions.push(Action::AbandonProgram(digest));
            self.program_missing(digest, actions);
        }
    }

    /// The program does not run here: everybody who wanted to run it is told, and gets its attempts back.
    pub(super) fn program_refused(
        &mut self,
        program: Program,
        refusal: ProgramRefusal,
        actions: &mut Vec<Action>,
    ) {
        for key in self.lanes_that_run(program).collect::<Vec<_>>() {
            if let Some(session) = self.sessions.get_mut(&key.session)
                && let Some(lane) = session.lanes.get_mut(key.program)
            {
                lane.program = LaneProgram::Refused(refusal.clone());
            }
            self.tell_status(key, actions);
        }
        // Nothing of it is remembered beyond the sessions that were told.
        match program {
            Program::Own => self.programs.insert(program, ProgramState::usable()),
            Program::Sent(_) => self.programs.remove(&program),
        };
    }

    /// What no session runs any more is looked for anew when one offers it.
    pub(super) fn forget_unused_programs(&mut self) {
        let in_use: BTreeSet<_> =
            self.sessions.values().flat_map(|session| session.lanes.iter()).filter_map(Lane::runs).collect();
        let is_unused = |program: &Program| matches!(program, Program::Sent(_)) && !in_use.contains(program);
        self.programs
            .retain(|program, state| !(is_unused(program) && matches!(state, ProgramState::Usable(_))));
        if self.proven.len() > PROVEN_KEPT {
            self.proven.retain(|program| !is_unused(program));
        }
    }

    /// Whether a worker can be started from the program now.
    pub(super) fn can_start(&self, now: Moment, program: Program) -> bool {
        match self.programs.get(&program) {
            Some(ProgramState::Usable(health)) => health.not_before.is_none_or(|at| at <= now),
            _ => false,
        }
    }

    /// Programs that were left alone for a while may be started again.
    pub(super) fn end_waits_for_programs(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut tried_again = Vec::new();
        for (program, state) in &mut self.programs {
            if let ProgramState::Usable(health) = state
                && health.not_before.take_if(|at| *at <= now).is_some()
                && health.is_troubled()
            {
                tried_again.push(*program);
            }
        }
        for program in tried_again {
            self.tell_status_of(program, actions);
        }
    }

    pub(super) fn program_starts(&mut self, program: Program, actions: &mut Vec<Action>) {
        self.proven.insert(program);
        if let Some(ProgramState::Usable(health)) = self.programs.get_mut(&program) {
            let was_in_trouble = health.is_troubled();
            *health = Health { size: health.size, ..Health::default() };
            if was_in_trouble {
                self.tell_status_of(program, actions);
            }
        }
    }

    /// A worker did not become ready.
    pub(super) fn worker_failed(
        &mut self,
        now: Moment,
        key: WorkerKey,
        failure: StartFailure,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.remove(&key) else { return };
        if worker.is_ending() {
            return;
        }
        let program = worker.program;
        let StartFailure { reason, stderr, is_shortage } = failure;
        let may_start = |other: &Worker| other.program == program && other.state == WorkerState::Starting;
        let may_pass = self.proven.contains(&program) || self.workers.values().any(may_start);
        if let Program::Sent(digest) = program
            && may_pass
            && !is_shortage
        {
            // Somebody may have removed it.
            actions.push(Action::LocateProgram(digest));
        }
        // Where others of it run, it is not the program that is to blame.
        let others_run = || self.workers.values().any(|other| other.program == program && other.is_running());
        if is_shortage || others_run() {
            return self.fell_short(now, reason);
        }
        match self.programs.get_mut(&program) {
            // It has started before, or others of it may: the machine is short of something, which may pass.
            Some(ProgramState::Usable(health)) if may_pass => {
                // What was started together fails together.
                if health.not_before.is_none() {
                    let wait = FIRST_RETRY * 2_u32.saturating_pow(health.failures.min(16));
                    health.failures += 1;
                    health.not_before = Some(now + wait.min(LAST_RETRY));
                }
                health.reason = format!("its workers do not start: {reason}; trying again");
                if health.is_troubled() {
                    let sessions = self.sessions.values_mut();
                    sessions.for_each(|session| session.return_queued(|lane| lane.runs() == Some(program)));
                    self.tell_status_of(program, actions);
                }
            }
            Some(ProgramState::Usable(_)) => {
                self.program_refused(program, ProgramRefusal::DoesNotStart { reason, stderr }, actions);
            }
            _ => {}
        }
    }
}
