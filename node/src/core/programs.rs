//! Programs: which ones a session runs, and whether workers can be started from them. How they are sent here is in
//! [`uploads`](super::uploads).
//!
//! ```text
//! offered ──> Locating ──> Usable                       (it was in the store)
//!                │  └──> Wanted                           (as many as may be are being sent just now)
//!                ^  └──> Fetching ──> Storing ──> Usable   (its dispatcher sent it)
//!                │           └───────────┼─────┴──> refused: forgotten, and tried again with the next offer
//!                └────────── Waiting <───┘                 (it could not be stored, which may pass)
//! ```
//! What has become of a program is told to each session that offered it, under the number it has there.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::limits::{NAME_BYTES, PROGRAM_BUILDS, PROGRAM_BYTES, PROGRAMS, cut};
use pp_protocol::{
    Death, Digest, FromNode, Moment, ProgramBuild, ProgramId, ProgramOffer, ProgramRefusal, ProgramStatus,
    Target,
};

use super::lanes::{Lane, LaneKey, LaneProgram};
use super::uploads::Upload;
use super::work::{Worker, WorkerState};
use super::{Action, Core, Program, SessionKey, StartFailure, WorkerKey};

/// Workers in a row that do not start before dispatchers are told of the trouble, and given back what waits.
const TROUBLE: u32 = 3;
/// Of so many programs that no session runs it is remembered that they started before.
const PROVEN_KEPT: usize = 1_024;
/// Pause before a program that has started before, and now does not, is started again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// The same of one that could not be stored: with every try, all of it is sent again.
const LAST_STORE_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum ProgramState {
    /// The store is being asked.
    Locating(Sought),
    /// It is not here. A session is asked for it once fewer programs are being sent.
    Wanted(Sought),
    /// A session sends it.
    Fetching(Upload),
    /// Complete, being verified.
    Storing(Sought),
    /// It could not be stored, or nobody goes on with it, and is asked for again later.
    Waiting { until: Moment, sought: Sought },
    /// Workers can be started from it.
    Usable(Health),
}

/// A program that is not here yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Sought {
    /// Size of the executable file in bytes.
    pub(super) size: u64,
    /// Number of times in a row that it could not be stored.
    failures: u32,
    /// Reason of the last failure.
    reason: String,
    /// Sessions that began to send it and did not go on.
    pub(super) stalled: BTreeSet<SessionKey>,
}

impl Sought {
    fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    fn is_troubled(&self) -> bool {
        self.failures > 0
    }

    /// Status; a program that is fetched again after a failure is in trouble until it is here.
    fn status(&self) -> ProgramStatus {
        if self.is_troubled() {
            ProgramStatus::Troubled { reason: self.reason.clone(), retried: false }
        } else {
            ProgramStatus::Preparing
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Health {
    /// Size of the executable file in bytes.
    size: u64,
    /// Workers in a row that did not become ready, or died before they began anything.
    failures: u32,
    /// Reason of the last failure.
    reason: String,
    /// Whether any of them had become ready: then it takes work that is done to end the trouble, not one more of those.
    began_nothing: bool,
    /// Time of the next try.
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
            Self::Fetching(upload) => Some(upload.look),
            Self::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether what waits for it is better off elsewhere, as it could not be stored.
    pub(super) fn lacks_storage(&self) -> bool {
        match self {
            Self::Locating(sought) | Self::Wanted(sought) | Self::Storing(sought) => sought.is_troubled(),
            Self::Fetching(Upload { sought, .. }) | Self::Waiting { sought, .. } => sought.is_troubled(),
            Self::Usable(_) => false,
        }
    }

    fn status(&self) -> ProgramStatus {
        match self {
            Self::Locating(sought) | Self::Wanted(sought) | Self::Storing(sought) => sought.status(),
            Self::Fetching(Upload { sought, .. }) | Self::Waiting { sought, .. } => sought.status(),
            Self::Usable(health) => health.status(),
        }
    }
}

/// Pause before the next try, after so many failures in a row.
fn wait_after(failures: u32, most: Duration) -> Duration {
    (FIRST_RETRY * 2_u32.saturating_pow(failures.clamp(1, 16) - 1)).min(most)
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
        let its_build = |build: &&ProgramBuild| chosen == LaneProgram::Runs(Program::Sent(build.digest));
        let build = builds.iter().find(its_build).or(builds.first());
        let name = build.map_or(String::new(), |build| cut(&build.name, NAME_BYTES).to_owned());
        session.lanes.set(id, name, chosen.clone());
        if let LaneProgram::Runs(program @ Program::Sent(digest)) = chosen
            && !self.programs.contains_key(&program)
        {
            let size = builds.iter().find(|build| build.digest == digest).map_or(0, |build| build.bytes);
            self.programs.insert(program, ProgramState::Locating(Sought::new(size)));
            actions.push(Action::LocateProgram(digest));
        }
        self.send_program_status(LaneKey { session: key, program: id }, actions);
    }

    /// The build of a program that runs here.
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

    /// Status of a session's program.
    pub(super) fn status_of(&self, program: &LaneProgram) -> ProgramStatus {
        match program {
            LaneProgram::Refused(refusal) => ProgramStatus::Refused(refusal.clone()),
            LaneProgram::Runs(program) => {
                self.programs.get(program).map_or(ProgramStatus::Preparing, ProgramState::status)
            }
        }
    }

    pub(super) fn is_ready(&self, program: Program) -> bool {
        self.status_of(&LaneProgram::Runs(program)) == ProgramStatus::Ready
    }

    pub(super) fn send_program_status(&self, key: LaneKey, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get(&key.session) else { return };
        if let Some(lane) = session.lanes.get(key.program)
            && let Some(connection) = session.connection()
        {
            let message = FromNode::Program(key.program, self.status_of(&lane.program));
            actions.push(Action::Send(connection, message));
        }
    }

    /// Tells everybody who runs the program what has become of it.
    fn announce_program_status(&self, program: Program, actions: &mut Vec<Action>) {
        for key in self.lanes_that_run(program) {
            self.send_program_status(key, actions);
        }
    }

    pub(super) fn lanes_that_run(&self, program: Program) -> impl Iterator<Item = LaneKey> {
        let lanes = self.sessions.iter().flat_map(|(session, it)| {
            it.lanes.iter().map(|lane| (LaneKey { session: *session, program: lane.id }, lane))
        });
        lanes.filter(move |(_, lane)| lane.runs() == Some(program)).map(|(key, _)| key)
    }

    pub(super) fn program_stored(&mut self, digest: Digest, actions: &mut Vec<Action>) {
        self.is_program_wanted = true;
        let program = Program::Sent(digest);
        let size = match self.programs.get(&program) {
            Some(ProgramState::Locating(sought)) => sought.size,
            Some(ProgramState::Storing(sought)) => {
                self.counters.programs_received += 1;
                sought.size
            }
            // Another node of this machine may have stored it.
            Some(ProgramState::Waiting { sought, .. }) => sought.size,
            // It was only looked whether it is still there.
            _ => return,
        };
        self.programs.insert(program, ProgramState::Usable(Health { size, ..Health::default() }));
        self.announce_program_status(program, actions);
    }

    /// The program is not in the store: the first session that runs it is asked for it.
    pub(super) fn program_missing(&mut self, digest: Digest) {
        let program = Program::Sent(digest);
        let sought = match self.programs.get(&program) {
            Some(ProgramState::Locating(sought) | ProgramState::Fetching(Upload { sought, .. })) => {
                sought.clone()
            }
            // Somebody has removed it since.
            Some(ProgramState::Usable(health)) => Sought::new(health.size),
            _ => return,
        };
        self.programs.insert(program, ProgramState::Wanted(sought));
        self.is_program_wanted = true;
    }

    /// The program that was sent is not in the store.
    pub(super) fn program_failed(
        &mut self,
        now: Moment,
        digest: Digest,
        refusal: ProgramRefusal,
        actions: &mut Vec<Action>,
    ) {
        self.is_program_wanted = true;
        let program = Program::Sent(digest);
        self.counters.programs_failed += 1;
        if !matches!(refusal, ProgramRefusal::NotStored(_)) {
            return self.program_refused(program, refusal, actions);
        }
        // A disk that is full may have room again.
        let Some(ProgramState::Fetching(Upload { sought, .. }) | ProgramState::Storing(sought)) =
            self.programs.get(&program)
        else {
            return;
        };
        let mut sought = sought.clone();
        sought.failures += 1;
        sought.reason = format!("{refusal}; trying again");
        let until = now + wait_after(sought.failures, LAST_STORE_RETRY);
        self.programs.insert(program, ProgramState::Waiting { until, sought });
        self.announce_program_status(program, actions);
        // What it lacks may be what another one takes that does not go on.
        self.give_up_the_idlest(now, actions);
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
            self.send_program_status(key, actions);
        }
        self.is_program_wanted = true;
        // Nothing of it is remembered beyond the sessions that were told.
        match program {
            Program::Own => self.programs.insert(program, ProgramState::usable()),
            Program::Sent(_) => self.programs.remove(&program),
        };
    }

    /// Programs that no session runs any more are forgotten, and looked for anew when one offers them.
    pub(super) fn forget_unused_programs(&mut self) {
        let in_use: BTreeSet<_> =
            self.sessions.values().flat_map(|session| session.lanes.iter()).filter_map(Lane::runs).collect();
        let is_unused = |program: &Program| matches!(program, Program::Sent(_)) && !in_use.contains(program);
        let rests = |state: &ProgramState| {
            matches!(state, ProgramState::Usable(_) | ProgramState::Wanted(_) | ProgramState::Waiting { .. })
        };
        self.programs.retain(|program, state| !(is_unused(program) && rests(state)));
        self.functions.retain(|program| !is_unused(program));
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
        self.look_at_uploads(now, actions);
        let mut tried_again = Vec::new();
        for (program, state) in &mut self.programs {
            if state.retry_at().is_none_or(|at| at > now) {
                continue;
            }
            match (program, &mut *state) {
                (Program::Sent(digest), ProgramState::Waiting { sought, .. }) => {
                    *state = ProgramState::Locating(std::mem::take(sought));
                    actions.push(Action::LocateProgram(*digest));
                }
                (_, ProgramState::Usable(health)) => {
                    health.not_before = None;
                    if health.is_troubled() {
                        tried_again.push(*program);
                    }
                }
                _ => {}
            }
        }
        for program in tried_again {
            self.announce_program_status(program, actions);
        }
    }

    /// A worker of the program has become ready.
    pub(super) fn program_starts(&mut self, program: Program, actions: &mut Vec<Action>) {
        self.proven.insert(program);
        if let Some(ProgramState::Usable(health)) = self.programs.get(&program)
            && !health.began_nothing
        {
            self.program_does_well(program, actions);
        }
    }

    /// A worker of the program has finished its first piece of work, or has become ready where that was all there was to it.
    pub(super) fn program_does_well(&mut self, program: Program, actions: &mut Vec<Action>) {
        if let Some(ProgramState::Usable(health)) = self.programs.get_mut(&program) {
            let was_in_trouble = health.is_troubled();
            *health = Health { size: health.size, ..Health::default() };
            if was_in_trouble {
                self.announce_program_status(program, actions);
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
        self.counters.workers_failed += 1;
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
        if may_pass {
            // It has started before, or others of it may: the machine is short of something, which may pass.
            self.pause_program(now, program, format!("its workers do not start: {reason}"), actions);
        } else if matches!(self.programs.get(&program), Some(ProgramState::Usable(_))) {
            self.program_refused(program, ProgramRefusal::DoesNotStart { reason, stderr }, actions);
        }
    }

    /// A worker became ready, and was gone before it began anything. No attempt is to blame, and without a pause that could go
    /// on for ever.
    pub(super) fn worker_began_nothing(
        &mut self,
        now: Moment,
        program: Program,
        death: &Death,
        actions: &mut Vec<Action>,
    ) {
        let reason = format!("its workers die before they begin anything: the last one {death}");
        // That others have become ready says nothing. Where one has done something, it is not the program that is to blame.
        let does_well =
            |other: &Worker| other.program == program && other.is_running() && other.last.is_some();
        if self.workers.values().any(does_well) {
            return self.fell_short(now, reason);
        }
        if let Some(ProgramState::Usable(health)) = self.programs.get_mut(&program) {
            health.began_nothing = true;
        }
        self.pause_program(now, program, reason, actions);
    }

    /// Starts no workers of a program for a while. After several in a row in vain, jobs are better off elsewhere.
    fn pause_program(&mut self, now: Moment, program: Program, reason: String, actions: &mut Vec<Action>) {
        let Some(ProgramState::Usable(health)) = self.programs.get_mut(&program) else { return };
        // What was started together fails together.
        if health.not_before.is_none() {
            health.failures += 1;
            health.not_before = Some(now + wait_after(health.failures, LAST_RETRY));
        }
        health.reason = format!("{reason}; trying again");
        if health.is_troubled() {
            let sessions = self.sessions.values_mut();
            sessions.for_each(|session| session.return_queued(|lane| lane.runs() == Some(program)));
            self.announce_program_status(program, actions);
        }
    }
}
