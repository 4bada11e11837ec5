//! What a frame holds that is sent to somebody who [watches](super::watch): as much as fits, what matters most first.

use std::collections::BTreeMap;

use pp_protocol::limits::{ACTIVITY_BYTES, FUNCTIONS_NAMED, WATCHED_PROGRAMS, WATCHED_SESSIONS, cut};
use pp_protocol::worker::FunctionName;
use pp_protocol::{
    Activity, Doing, EndedAttempt, FunctionId, FunctionLabel, FunctionPlace, LeftOut, Moment,
    ProgramActivity, ProgramId, ProgramStanding, ProgramStatus, SessionActivity, Totals, WorkerActivity,
    shown,
};

use super::counters::Counters;
use super::lanes::{Lane, LaneProgram};
use super::watch::{Noted, Strip};
use super::work::Worker;
use super::{Core, Program, Progress, WorkerKey};

/// Parts of a frame. What its sessions, programs and attempts do not need is left for workers.
const SESSION_BYTES: usize = 1_536;
const PROGRAM_BYTES: usize = 1_024;
const ATTEMPT_BYTES: usize = 2_560;
const FUNCTION_BYTES: usize = 1_024;
const _: () = assert!(
    Activity::FIXED_BYTES + SESSION_BYTES + PROGRAM_BYTES + ATTEMPT_BYTES + FUNCTION_BYTES
        <= ACTIVITY_BYTES - 1_024,
    "there is room for workers"
);

/// Longest name of a session or a program that is told, and the longest reason.
const LABEL_BYTES: usize = 120;
/// Programs of which the names of functions are known at once.
const PROGRAMS_NAMED: usize = 256;

/// Names of functions, for people.
#[derive(Debug, Default)]
pub(super) struct FunctionNames(BTreeMap<Program, BTreeMap<FunctionId, Box<str>>>);

impl FunctionNames {
    fn of(&self, program: Program, function: FunctionId) -> Option<&str> {
        Some(self.0.get(&program)?.get(&function)?)
    }

    /// Forgets those of programs of which this does not hold.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Program) -> bool) {
        self.0.retain(|program, _| is_kept(program));
    }
}

/// What all frames of one moment have in common.
pub(super) struct Seen {
    sessions: Vec<SessionActivity>,
    programs: Vec<ProgramActivity>,
    /// What was asked about workers, in the order in which it is told.
    workers: Vec<SeenWorker>,
    totals: Totals,
    left_out: LeftOut,
}

struct SeenWorker {
    key: WorkerKey,
    session: u32,
    /// What it runs, if it runs something.
    running: Option<(Program, FunctionId)>,
    doing: Doing,
}

impl SeenWorker {
    /// Those that run longest first, then those that do something.
    fn rank(&self) -> (u8, u64) {
        match self.doing {
            Doing::Running { for_ns, .. } => (0, u64::MAX - for_ns),
            Doing::Busy => (1, 0),
            Doing::Starting => (2, 0),
            Doing::Idle => (3, 0),
            Doing::Ending => (4, 0),
        }
    }
}

/// The names that a frame tells, each once.
#[derive(Default)]
struct Labels {
    labels: Vec<FunctionLabel>,
    places: BTreeMap<(Program, FunctionId), FunctionPlace>,
    bytes: usize,
}

impl Labels {
    fn place(&mut self, names: &FunctionNames, program: Program, function: FunctionId) -> FunctionPlace {
        if let Some(place) = self.places.get(&(program, function)) {
            return *place;
        }
        let name = names.of(program, function).map_or_else(|| format!("{:016x}", function.0), str::to_owned);
        let label = FunctionLabel { name };
        let place = match u16::try_from(self.labels.len()) {
            Ok(place) if self.bytes + label.weight() <= FUNCTION_BYTES => {
                self.bytes += label.weight();
                self.labels.push(label);
                FunctionPlace(place)
            }
            _ => FunctionPlace::LEFT_OUT,
        };
        self.places.insert((program, function), place);
        place
    }
}

/// Takes items while they fit, and yields how many did not, and their bytes.
fn take_while_fits<T>(
    items: impl Iterator<Item = T>,
    most: usize,
    bytes: usize,
    weight: impl Fn(&T) -> usize,
) -> (Vec<T>, usize) {
    let (mut taken, mut used) = (Vec::new(), 0);
    for item in items.take(most) {
        if used + weight(&item) > bytes {
            break;
        }
        used += weight(&item);
        taken.push(item);
    }
    (taken, used)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Text of others, in one line and short, fit to be shown before it is cut: so it is no longer where it arrives.
fn label(text: &str) -> String {
    cut(&shown(cut(text, LABEL_BYTES)), LABEL_BYTES).replace('\t', " ")
}

impl Core {
    /// A worker told the names of its program's functions.
    pub(super) fn functions_named(&mut self, key: WorkerKey, names: Vec<FunctionName>) {
        let Some(worker) = self.workers.get(&key) else { return };
        if self.functions.0.contains_key(&worker.program) || self.functions.0.len() >= PROGRAMS_NAMED {
            return;
        }
        let names = names.into_iter().take(FUNCTIONS_NAMED);
        let names = names.map(|FunctionName { function, name }| (function, label(&name).into()));
        self.functions.0.insert(worker.program, names.collect());
    }

    /// Looks at everything once, for all frames that are made now.
    pub(super) fn frame_for_all(&self, now: Moment, progress: &[(WorkerKey, Progress)]) -> Seen {
        let (sessions, programs, left_out) = self.seen_sessions();
        let mut asked = progress.iter().peekable();
        let workers = self.workers.iter().map(|(key, worker)| {
            while asked.next_if(|(other, _)| other < key).is_some() {}
            let progress = asked.next_if(|(other, _)| other == key).map(|(_, progress)| *progress);
            seen_worker(now, *key, worker, progress)
        });
        let mut workers: Vec<_> = workers.collect();
        workers.sort_by_key(SeenWorker::rank);
        Seen { sessions, programs, workers, totals: totals(&self.counters()), left_out }
    }

    fn seen_sessions(&self) -> (Vec<SessionActivity>, Vec<ProgramActivity>, LeftOut) {
        let mut all: Vec<_> = self.sessions.iter().collect();
        all.sort_by_key(|(key, session)| (!session.is_active(), **key));
        let seen = all.iter().map(|(key, session)| {
            let tally = session.tally();
            SessionActivity {
                session: key.0,
                name: label(&session.name),
                connected: session.connection().is_some(),
                running: count(session.slots_used),
                queued: count(session.held().saturating_sub(session.slots_used)),
                share: self.share_of(**key),
                window: session.window(),
                waiting: session.waiting,
                ended: tally.ended(),
                run_time_ns: tally.run_time_ns,
            }
        });
        let (sessions, _) = take_while_fits(seen, WATCHED_SESSIONS, SESSION_BYTES, SessionActivity::weight);
        // Everybody has the node's own functions: they are told of where somebody uses them.
        let is_told =
            |lane: &&Lane| lane.id != ProgramId::BUILT_IN || lane.slots_used > 0 || !lane.is_empty();
        let lanes = all.iter().take(sessions.len()).flat_map(|(key, session)| {
            session.lanes.iter().filter(is_told).map(|lane| ProgramActivity {
                session: key.0,
                program: lane.id,
                name: if lane.id == ProgramId::BUILT_IN { "ppserver".into() } else { label(&lane.name) },
                digest: match lane.runs() {
                    Some(Program::Sent(digest)) => Some(digest),
                    Some(Program::Own) | None => None,
                },
                standing: self.standing(&lane.program),
            })
        });
        let lanes: Vec<_> = lanes.take(WATCHED_PROGRAMS + 1).collect();
        let of_all: usize =
            self.sessions.values().map(|session| session.lanes.iter().filter(is_told).count()).sum();
        let (programs, _) =
            take_while_fits(lanes.into_iter(), WATCHED_PROGRAMS, PROGRAM_BYTES, ProgramActivity::weight);
        let left_out = LeftOut {
            sessions: count(all.len() - sessions.len()),
            programs: count(of_all - programs.len()),
            ..LeftOut::default()
        };
        (sessions, programs, left_out)
    }

    fn standing(&self, program: &LaneProgram) -> ProgramStanding {
        match self.status_of(program) {
            ProgramStatus::Preparing => ProgramStanding::Preparing,
            ProgramStatus::Ready => ProgramStanding::Ready,
            ProgramStatus::Troubled { reason, .. } => ProgramStanding::Troubled(label(&reason)),
            ProgramStatus::Refused(refusal) => ProgramStanding::Refused(label(&refusal.to_string())),
        }
    }

    /// The frame of this number for somebody for whom these attempts were noted.
    pub(super) fn frame(&self, now: Moment, number: u64, seen: &Seen, strip: Strip) -> Activity {
        let mut labels = Labels::default();
        let ended = strip.ended();
        let attempts = strip.into_sorted().map(|noted| self.told(now, noted, &mut labels));
        let (attempts, attempt_bytes) =
            take_while_fits(attempts, usize::MAX, ATTEMPT_BYTES, EndedAttempt::weight);
        let left = ACTIVITY_BYTES - Activity::FIXED_BYTES - FUNCTION_BYTES - attempt_bytes;
        let of_sessions: usize = seen.sessions.iter().map(SessionActivity::weight).sum();
        let of_programs: usize = seen.programs.iter().map(ProgramActivity::weight).sum();
        let workers = seen.workers.iter().map(|worker| {
            let mut doing = worker.doing;
            if let (Some((program, id)), Doing::Running { function, .. }) = (worker.running, &mut doing) {
                *function = labels.place(&self.functions, program, id);
            }
            WorkerActivity { worker: worker.key.0, session: worker.session, doing }
        });
        let (workers, _) =
            take_while_fits(workers, usize::MAX, left - of_sessions - of_programs, WorkerActivity::weight);
        let left_out = LeftOut {
            workers: count(seen.workers.len() - workers.len()),
            attempts: ended - attempts.len() as u64,
            ..seen.left_out
        };
        Activity {
            number,
            uptime_ns: now.since(self.config.started).as_nanos() as u64,
            status: self.status(),
            totals: seen.totals,
            functions: labels.labels,
            sessions: seen.sessions.clone(),
            programs: seen.programs.clone(),
            workers,
            attempts,
            left_out,
        }
    }

    fn told(&self, now: Moment, noted: Noted, labels: &mut Labels) -> EndedAttempt {
        EndedAttempt {
            attempt: noted.attempt,
            session: noted.session.0,
            worker: noted.worker.0,
            function: labels.place(&self.functions, noted.program, noted.function),
            ended_ago_ns: now.since(noted.at).as_nanos() as u64,
            run_time_ns: noted.run_time_ns,
            ended: noted.ended,
            reason: noted.reason,
        }
    }
}

fn seen_worker(now: Moment, key: WorkerKey, worker: &Worker, progress: Option<Progress>) -> SeenWorker {
    let running = progress.and_then(|progress| Some((worker.running(progress)?, progress)));
    let doing = match running {
        Some((piece, progress)) => Doing::Running {
            function: FunctionPlace::LEFT_OUT,
            attempt: piece.attempt.id,
            for_ns: now.since(Moment(progress.started_at_ns)).as_nanos() as u64,
        },
        None if worker.is_ending() => Doing::Ending,
        None if worker.is_busy() => Doing::Busy,
        None if worker.is_running() => Doing::Idle,
        None => Doing::Starting,
    };
    let running = running.map(|(piece, _)| (worker.program, piece.attempt.function));
    SeenWorker { key, session: worker.lane.session.0, running, doing }
}

/// What was counted, without details.
fn totals(counters: &Counters) -> Totals {
    Totals {
        ended: counters.ended,
        retries: counters.retries,
        recalled: counters.recalled,
        late_outcomes: counters.late_outcomes,
        dropped_lines: counters.dropped_lines,
        workers_started: counters.workers_started,
        workers_failed: counters.workers_failed,
        workers_killed: counters.workers_killed,
        workers_lost: counters.workers_lost.values().sum(),
        connections_lost: counters.connections_lost,
        refusals: counters.refusals.values().sum(),
        sessions_begun: counters.sessions_begun,
        sessions_resumed: counters.sessions_resumed,
        sessions_lost: counters.sessions_lost,
        programs_received: counters.programs_received,
        programs_failed: counters.programs_failed,
    }
}
