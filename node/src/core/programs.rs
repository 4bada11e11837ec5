//! Programs: which one a session runs, and how the node comes by it.
//!
//! ```text
//! offered ──> Locating ──> Usable                       (it was in the store)
//!                └──> Fetching ──> Storing ──> Usable   (its dispatcher sent it)
//!                         └───────────┴─────┴──> refused: forgotten, and tried again with the next session
//! ```
//! One dispatcher at a time sends a program, however many run it.

use std::collections::BTreeMap;
use std::time::Duration;

use pp_protocol::limits::PROGRAM_BYTES;
use pp_protocol::{Digest, FromNode, Moment, Payload, ProgramOffer, ProgramRefusal, Target};

use super::session::{Session, SessionProgram};
use super::{Action, Core, Program, SessionKey, StartFailure, WorkerKey};

/// Workers in a row that do not start before dispatchers are told of the trouble, and given back what waits.
const TROUBLE: u32 = 3;
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
    /// When to try again after that.
    not_before: Option<Moment>,
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

/// Whether workers can be started from what a session runs.
pub(super) fn is_usable(programs: &BTreeMap<Program, ProgramState>, program: &SessionProgram) -> bool {
    let SessionProgram::Runs(program) = program else { return false };
    // While there is trouble, jobs are better off elsewhere; when its time comes, another try is made with those that come.
    let in_trouble = |health: &Health| health.failures >= TROUBLE && health.not_before.is_some();
    matches!(programs.get(program), Some(ProgramState::Usable(health)) if !in_trouble(health))
}

impl Core {
    /// What a session that offers these programs will run.
    pub(super) fn choose_program(&self, offers: &[ProgramOffer]) -> SessionProgram {
        if offers.is_empty() {
            return SessionProgram::Runs(Program::Own);
        }
        if !self.config.stores_programs {
            let reason = "this node runs its own program only".into();
            return SessionProgram::Refused(ProgramRefusal::NotStored(reason));
        }
        let Some(offer) = offers.iter().find(|offer| offer.target == self.config.target) else {
            let offered: Vec<Target> = offers.iter().map(|offer| offer.target.clone()).collect();
            let node = self.config.target.clone();
            return SessionProgram::Refused(ProgramRefusal::WrongTarget { node, offered });
        };
        if offer.bytes > PROGRAM_BYTES {
            let refusal = ProgramRefusal::TooLarge { bytes: offer.bytes, limit: PROGRAM_BYTES };
            return SessionProgram::Refused(refusal);
        }
        SessionProgram::Runs(Program::Sent(offer.digest))
    }

    /// Sees to it that the program of a new session is here, or tells the session why it will not be.
    pub(super) fn prepare_program(
        &mut self,
        key: SessionKey,
        offers: &[ProgramOffer],
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = self.sessions.get(&key) else { return };
        let program = match &session.program {
            SessionProgram::Runs(program) => *program,
            SessionProgram::Refused(refusal) => {
                let digest = offers.first().map_or(Digest([0; 32]), |offer| offer.digest);
                let message = FromNode::ProgramRefused(digest, refusal.clone());
                actions.extend(session.connection.map(|connection| Action::Send(connection, message)));
                return;
            }
        };
        // Whatever was wrong with it before may have been mended since: each new session is one more try.
        if let Program::Sent(digest) = program
            && !self.programs.contains_key(&program)
        {
            let offer = offers.iter().find(|offer| offer.digest == digest);
            let size = offer.map_or(0, |offer| offer.bytes);
            self.programs.insert(program, ProgramState::Locating { size });
            actions.push(Action::LocateProgram(digest));
        }
    }

    pub(super) fn program_stored(&mut self, digest: Digest) {
        let program = Program::Sent(digest);
        let size = match self.programs.get(&program) {
            Some(ProgramState::Locating { size } | ProgramState::Storing { size }) => *size,
            // It was only looked whether it is still there.
            _ => return,
        };
        self.programs.insert(program, ProgramState::Usable(Health { size, ..Health::default() }));
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
        let runs_it = SessionProgram::Runs(program);
        let source = self.sessions.iter().find_map(|(key, session)| {
            let connection = session.connection.filter(|_| session.program == runs_it)?;
            Some((*key, connection))
        });
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
        let digest = match program {
            Program::Sent(digest) => digest,
            Program::Own => Digest([0; 32]),
        };
        let runs_it = SessionProgram::Runs(program);
        for session in self.sessions.values_mut().filter(|session| session.program == runs_it) {
            session.program = SessionProgram::Refused(refusal.clone());
            let message = FromNode::ProgramRefused(digest, refusal.clone());
            actions.extend(session.connection.map(|connection| Action::Send(connection, message)));
        }
        // Nothing of it is remembered beyond the sessions that were told.
        match program {
            Program::Own => self.programs.insert(program, ProgramState::usable()),
            Program::Sent(_) => self.programs.remove(&program),
        };
    }

    /// Whether a worker can be started from the program now.
    pub(super) fn can_start(&self, now: Moment, program: Program) -> bool {
        match self.programs.get(&program) {
            Some(ProgramState::Usable(health)) => health.not_before.is_none_or(|at| at <= now),
            _ => false,
        }
    }

    /// Programs that were left alone for a while may be started again.
    pub(super) fn end_waits_for_programs(&mut self, now: Moment) {
        for state in self.programs.values_mut() {
            if let ProgramState::Usable(health) = state {
                health.not_before.take_if(|at| *at <= now);
            }
        }
    }

    pub(super) fn program_starts(&mut self, program: Program, actions: &mut Vec<Action>) {
        self.proven.insert(program);
        if let Some(ProgramState::Usable(health)) = self.programs.get_mut(&program) {
            let was_in_trouble = health.failures >= TROUBLE;
            *health = Health { size: health.size, ..Health::default() };
            if was_in_trouble {
                self.tell_trouble(program, self.shortage().map(Into::into), actions);
            }
        }
    }

    /// Tells whoever runs the program why its workers do not start, or that they do again.
    fn tell_trouble(&self, program: Program, reason: Option<String>, actions: &mut Vec<Action>) {
        let runs_it = SessionProgram::Runs(program);
        let told = self.sessions.values().filter(|session| session.program == runs_it);
        let connections = told.filter_map(|session| session.connection);
        actions.extend(connections.map(|key| Action::Send(key, FromNode::Trouble(reason.clone()))));
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
        let may_pass = self.proven.contains(&program) || self.starting_workers(program) > 0;
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
                if health.failures >= TROUBLE {
                    let runs_it = SessionProgram::Runs(program);
                    let sessions = self.sessions.values_mut();
                    sessions.filter(|session| session.program == runs_it).for_each(Session::return_queue);
                    let reason = format!("its workers do not start: {reason}; trying again");
                    self.tell_trouble(program, Some(reason), actions);
                }
            }
            Some(ProgramState::Usable(_)) => {
                self.program_refused(program, ProgramRefusal::DoesNotStart { reason, stderr }, actions);
            }
            _ => {}
        }
    }
}
