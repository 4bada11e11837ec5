//! Event in, exact actions out, nothing left over.

mod batches;
mod budgets;
mod checks;
mod counters;
mod parts;
mod programs;
mod questions;
mod watching;
mod windows;

use std::time::Duration;

use pp_protocol::limits::{
    OUTCOME_BYTES_KEPT, OUTPUT_BYTES_KEPT, OUTPUT_BYTES_SENT, PROGRAM_BUILDS, PROGRAM_BYTES, PROGRAMS,
};
use pp_protocol::worker::{Finished, Work, WorkResult};
use pp_protocol::{
    Attempt, AttemptId, Death, Digest, Ended, Farewell, FromNode, FunctionId, Hello, JobId, MachineId,
    Moment, NodeId, Outcome, Payload, ProgramBuild, ProgramId, ProgramOffer, ProgramRefusal, ProgramStatus,
    Refusal, Resume, Role, SecretId, SessionId, Stream, Target, ToNode, Version, WorkerDeath, WorkerShortage,
};

use super::{
    Accepted, Action, ConnectionKey, Core, CoreConfig, Event, Program, Progress, Proof, SessionKey,
    StartFailure, WorkerKey,
};

const FUNCTION: FunctionId = FunctionId(7);
const MILLISECOND: u64 = 1_000_000;
const DIGEST: Digest = Digest([3; 32]);

/// A node core with a clock and a record of what it wants done.
struct Node {
    core: Core,
    now: Moment,
    actions: Vec<Action>,
    /// Whether dispatchers may send as much as tests like.
    lifts_windows: bool,
}

impl Node {
    fn with_slots(slots: u32) -> Self {
        let config = CoreConfig {
            id: NodeId(1),
            started: Moment(0),
            name: "node".into(),
            slots,
            cpus: 2,
            target: target(),
            fresh_worker_per_job: false,
            stores_programs: true,
            confinement: "none".into(),
            libc: String::new(),
            silence: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
        };
        Self { core: Core::new(config), now: Moment(0), actions: Vec::new(), lifts_windows: true }
    }

    /// Feeds an event, and yields what is to be done, without heartbeats and windows, which have tests of their own.
    fn on(&mut self, event: Event) -> Vec<Action> {
        if self.lifts_windows {
            self.core.sessions.values_mut().for_each(|session| session.lift_window());
        }
        self.core.handle(self.now, event, &mut self.actions);
        self.core.check_invariants();
        let noise = |action: &Action| {
            matches!(
                action,
                Action::Send(
                    _,
                    FromNode::Window(_)
                        | FromNode::Status(_)
                        | FromNode::Welcome(_)
                        | FromNode::Ping(_)
                        | FromNode::Program(ProgramId::BUILT_IN, ProgramStatus::Ready)
                )
            )
        };
        std::mem::take(&mut self.actions).into_iter().filter(|action| !noise(action)).collect()
    }

    fn receive(&mut self, connection: u32, message: ToNode) -> Vec<Action> {
        self.on(Event::Received(ConnectionKey(connection), vec![message]))
    }

    /// A dispatcher that runs the node's own program.
    fn connect(&mut self, connection: u32) {
        assert_eq!(self.on(connected(ConnectionKey(connection))), []);
        assert_eq!(self.receive(connection, ToNode::Hello(Box::new(hello(connection)))), []);
        let ready = status(connection, ProgramStatus::Ready);
        assert_eq!(self.receive(connection, offer(ProgramId::FIRST, Vec::new())), [ready]);
    }

    /// A dispatcher that runs a program of its own.
    fn connect_with(&mut self, connection: u32, target: Target) -> Vec<Action> {
        self.on(connected(ConnectionKey(connection)));
        let told = self.receive(connection, ToNode::Hello(Box::new(hello(connection))));
        let build = ProgramBuild { digest: DIGEST, target, bytes: 100, name: "fib".into() };
        [told, self.receive(connection, offer(ProgramId::FIRST, vec![build]))].concat()
    }

    /// A connected dispatcher, and workers 0 to `workers` that wait for work.
    fn ready(slots: u32) -> Self {
        let mut node = Self::with_slots(slots);
        node.connect(1);
        let attempts: Vec<_> = (0..slots).map(attempt).collect();
        let spawned = node.receive(1, ToNode::Run(attempts.clone()));
        assert_eq!(
            spawned,
            (0..slots).map(|n| Action::Spawn(WorkerKey(n), Program::Own)).collect::<Vec<_>>()
        );
        for n in 0..slots {
            node.on(Event::WorkerReady(WorkerKey(n)));
        }
        for n in 0..slots {
            node.finish(n, 0, MILLISECOND);
        }
        node.receive(1, ToNode::Ack(u64::from(slots)));
        node
    }

    fn finish(&mut self, worker: u32, number: u32, run_time_ns: u64) -> Vec<Action> {
        let result = WorkResult::Succeeded(Payload::from(vec![1]));
        self.on(Event::WorkerFinished(WorkerKey(worker), vec![Finished { number, run_time_ns, result }]))
    }
}

fn target() -> Target {
    Target::new("linux", "x86_64")
}

fn offer(program: ProgramId, builds: Vec<ProgramBuild>) -> ToNode {
    ToNode::Offer(ProgramOffer { program, builds })
}

/// The same of the node's own functions, which its own program has.
fn of_built_in(told: &Action) -> Action {
    match told {
        Action::Send(key, FromNode::Program(_, status)) => {
            Action::Send(*key, FromNode::Program(ProgramId::BUILT_IN, status.clone()))
        }
        other => panic!("{other:?}"),
    }
}

/// Status of the first program.
fn status(connection: u32, status: ProgramStatus) -> Action {
    Action::Send(ConnectionKey(connection), FromNode::Program(ProgramId::FIRST, status))
}

fn proved(connection: ConnectionKey, role: Role, secret: Option<SecretId>) -> Event {
    Event::Connected(connection, Proof { role, version: Version::V1, secret, machine: None })
}

fn connected(connection: ConnectionKey) -> Event {
    proved(connection, Role::Dispatcher, None)
}

fn hello(session: u32) -> Hello {
    Hello {
        session: SessionId(session.into()),
        name: format!("dispatcher {session}"),
        resume: None,
        fresh_workers: false,
    }
}

fn attempt(job: u32) -> Attempt {
    Attempt {
        id: AttemptId { job: JobId::new(job, 0), number: 1 },
        program: ProgramId::FIRST,
        function: FUNCTION,
        time_limit_ns: 0,
        args: Payload::from(vec![job as u8]),
    }
}

fn work(number: u32, job: u32) -> Work {
    Work { number, function: FUNCTION, args: Payload::from(vec![job as u8]) }
}

fn outcome(job: u32, run_time_ns: u64, ended: Ended) -> Outcome {
    Outcome { id: attempt(job).id, run_time_ns, ended }
}

fn killed() -> WorkerDeath {
    WorkerDeath::new(Death::Signal(9), vec!["last words".into()])
}

fn outcomes(connection: u32, first: u64, all: Vec<Outcome>) -> Action {
    Action::Send(ConnectionKey(connection), FromNode::Outcomes(first, all))
}

#[test]
fn an_attempt_starts_a_worker_runs_in_it_and_its_outcome_is_sent() {
    let mut node = Node::with_slots(2);
    node.connect(1);
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(5)])), [Action::Spawn(WorkerKey(0), Program::Own)]);
    let assigned = node.on(Event::WorkerReady(WorkerKey(0)));
    assert_eq!(assigned, [Action::Assign(WorkerKey(0), vec![work(0, 5)])]);
    let ended = Ended::Succeeded(Payload::from(vec![1]));
    assert_eq!(node.finish(0, 0, 42), [outcomes(1, 0, vec![outcome(5, 42, ended)])]);
    assert_eq!(node.receive(1, ToNode::Ack(1)), []);
}

#[test]
fn a_dead_worker_is_counted_against_what_was_running_and_nothing_else() {
    let mut node = Node::ready(1);
    // Jobs of a known millisecond: the second is sent ahead, the third waits at the node.
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11), attempt(12)]));
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    let actions = node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    let died = Ended::WorkerDied(Box::new(killed()));
    assert_eq!(
        actions,
        [Action::Spawn(WorkerKey(1), Program::Own), outcomes(1, 1, vec![outcome(10, 0, died)])],
        "a new worker, and only the running attempt is lost"
    );
    let assigned = node.on(Event::WorkerReady(WorkerKey(1)));
    assert_eq!(assigned, [Action::Assign(WorkerKey(1), vec![work(0, 11), work(1, 12)])], "in the old order");
}

/// A worker that has run two attempts and reported neither.
fn with_two_unreported() -> (Node, Progress) {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11)]));
    (node, Progress { started: 3, finished: 3, started_at_ns: 0 })
}

#[test]
fn of_what_finished_unreported_in_a_dead_worker_the_last_is_charged_and_the_rest_runs_again() {
    let (mut node, progress) = with_two_unreported();
    let died = Ended::WorkerDied(Box::new(killed()));
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [Action::Spawn(WorkerKey(1), Program::Own), outcomes(1, 1, vec![outcome(11, 0, died)])]
    );
}

#[test]
fn what_finished_unreported_and_was_cancelled_does_not_run_again() {
    let (mut node, progress) = with_two_unreported();
    let both = vec![attempt(10).id, attempt(11).id];
    assert_eq!(node.receive(1, ToNode::Cancel(both)), [Action::Revoke(WorkerKey(0))]);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), []);
    let cancelled = |job| outcome(job, 0, Ended::Cancelled);
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [outcomes(1, 1, vec![cancelled(11), cancelled(10)])]
    );
}

#[test]
fn cancelling_a_queued_attempt_takes_it_out_and_a_running_one_kills_its_worker() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11), attempt(12)]));
    let cancelled = |job| outcome(job, 0, Ended::Cancelled);
    assert_eq!(node.receive(1, ToNode::Cancel(vec![attempt(12).id])), [outcomes(1, 1, vec![cancelled(12)])]);
    assert_eq!(node.receive(1, ToNode::Cancel(vec![attempt(10).id])), [Action::Revoke(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    let killed_for_it = node.on(Event::Revoked(WorkerKey(0), progress));
    assert_eq!(killed_for_it, [Action::Kill(WorkerKey(0)), Action::Spawn(WorkerKey(1), Program::Own)]);
    let actions = node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    assert_eq!(actions, [outcomes(1, 2, vec![cancelled(10)])]);
    assert_eq!(
        node.on(Event::WorkerReady(WorkerKey(1))),
        [Action::Assign(WorkerKey(1), vec![work(0, 11)])],
        "its neighbour runs"
    );
}

#[test]
fn recalling_gives_back_what_has_not_started_and_leaves_what_has() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11), attempt(12)]));
    let ids = vec![attempt(10).id, attempt(11).id, attempt(12).id];
    let returned = |job| outcome(job, 0, Ended::Returned);
    assert_eq!(
        node.receive(1, ToNode::Recall(ids)),
        [Action::Revoke(WorkerKey(0)), outcomes(1, 1, vec![returned(12)])]
    );
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), [outcomes(1, 2, vec![returned(11)])]);
    // While the worker throws away what was revoked it gets nothing new.
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(13)])), []);
    node.finish(0, 1, MILLISECOND);
    assert_eq!(
        node.on(Event::WorkerSkipped(WorkerKey(0), 3)),
        [Action::Assign(WorkerKey(0), vec![work(3, 13)])]
    );
}

#[test]
fn an_attempt_recalled_and_cancelled_at_once_is_cancelled() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let batch = vec![ToNode::Recall(vec![attempt(10).id]), ToNode::Cancel(vec![attempt(10).id])];
    let revoke = || Action::Revoke(WorkerKey(0));
    assert_eq!(node.on(Event::Received(ConnectionKey(1), batch)), [revoke(), revoke()]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), [Action::Kill(WorkerKey(0))]);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), []);
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [outcomes(1, 1, vec![outcome(10, 0, Ended::Cancelled)])]
    );
}

#[test]
fn a_worker_gets_no_work_between_a_revocation_and_the_answer_to_it() {
    let mut node = Node::ready(1);
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(10)])),
        [Action::Assign(WorkerKey(0), vec![work(1, 10)])]
    );
    let batch = vec![ToNode::Cancel(vec![attempt(10).id]), ToNode::Run(vec![attempt(11)])];
    let received = node.on(Event::Received(ConnectionKey(1), batch));
    assert_eq!(received, [Action::Revoke(WorkerKey(0))], "the answer would seem to be about both");
    let progress = Progress { started: 1, finished: 1, started_at_ns: 0 };
    let cancelled = outcomes(1, 1, vec![outcome(10, 0, Ended::Cancelled)]);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), [cancelled]);
    let skipped = node.on(Event::WorkerSkipped(WorkerKey(0), 2));
    assert_eq!(skipped, [Action::Assign(WorkerKey(0), vec![work(2, 11)])]);
}

#[test]
fn an_attempt_beyond_its_time_limit_is_killed_when_it_has_really_run_so_long() {
    let mut node = Node::ready(1);
    let limited = Attempt { time_limit_ns: 100 * MILLISECOND, ..attempt(10) };
    node.receive(1, ToNode::Run(vec![limited]));
    node.now = Moment(100 * MILLISECOND);
    assert_eq!(node.core.next_deadline(), Some(node.now));
    assert_eq!(node.on(Event::Tick), [Action::Observe(WorkerKey(0))]);
    // It started 30 ms late: it has 30 ms left.
    let progress = Progress { started: 2, finished: 1, started_at_ns: 30 * MILLISECOND };
    assert_eq!(node.on(Event::Observed(WorkerKey(0), progress)), []);
    assert_eq!(node.core.next_deadline(), Some(Moment(130 * MILLISECOND)));
    node.now = Moment(130 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), [Action::Observe(WorkerKey(0))]);
    assert_eq!(node.on(Event::Observed(WorkerKey(0), progress)), [Action::Kill(WorkerKey(0))]);
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [outcomes(1, 1, vec![outcome(10, 0, Ended::TimedOut)])]
    );
}

#[test]
fn what_runs_as_the_node_is_killed_goes_back_uncharged() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    assert_eq!(node.on(Event::Kill), [Action::Revoke(WorkerKey(0)), Action::Kill(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), []);
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [outcomes(1, 1, vec![outcome(10, 0, Ended::Returned)])]
    );
}

#[test]
fn a_worker_that_had_died_by_itself_as_its_node_was_killed_is_charged() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.on(Event::Kill);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    node.on(Event::Revoked(WorkerKey(0), progress));
    let death = WorkerDeath::new(Death::Signal(11), Vec::new());
    let died = Ended::WorkerDied(Box::new(death.clone()));
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, death)),
        [outcomes(1, 1, vec![outcome(10, 0, died)])]
    );
}

#[test]
fn a_worker_that_died_before_it_could_be_killed_did_not_time_out() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![Attempt { time_limit_ns: 30 * MILLISECOND, ..attempt(10) }]));
    // The node was frozen, and its deadline comes before the news.
    node.now = Moment(500 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), [Action::Observe(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Observed(WorkerKey(0), progress)), [Action::Kill(WorkerKey(0))]);
    let death = WorkerDeath::new(Death::Signal(11), Vec::new());
    let died = outcome(10, 0, Ended::WorkerDied(Box::new(death.clone())));
    assert_eq!(node.on(Event::WorkerExited(WorkerKey(0), progress, death)), [outcomes(1, 1, vec![died])]);
}

#[test]
fn an_attempt_that_started_while_its_worker_was_killed_for_another_one_runs_again_uncharged() {
    let mut node = Node::ready(1);
    let limited = Attempt { time_limit_ns: 30 * MILLISECOND, ..attempt(10) };
    node.receive(1, ToNode::Run(vec![limited, attempt(11)]));
    node.now = Moment(30 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), [Action::Observe(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Observed(WorkerKey(0), progress)), [Action::Kill(WorkerKey(0))]);
    // The first one ended by itself before the signal came.
    let ended = outcome(10, 5, Ended::Succeeded(Payload::from(vec![1])));
    assert_eq!(node.finish(0, 1, 5), [outcomes(1, 1, vec![ended])]);
    let progress = Progress { started: 3, finished: 2, started_at_ns: 30 * MILLISECOND };
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [Action::Spawn(WorkerKey(1), Program::Own)],
        "it waits for the next worker"
    );
}

#[test]
fn dispatchers_share_the_slots_one_by_one() {
    let mut node = Node::ready(2);
    node.connect(2);
    node.receive(1, ToNode::Run((10..20).map(attempt).collect()));
    node.receive(2, ToNode::Run((30..40).map(attempt).collect()));
    node.now = node.now + Duration::from_secs(1);
    // Both workers are the first dispatcher's; the one that falls free goes to the second.
    let actions = node.on(Event::WorkerFinished(
        WorkerKey(0),
        (1..3)
            .map(|number| Finished { number, run_time_ns: MILLISECOND, result: WorkResult::UnknownFunction })
            .collect(),
    ));
    let replaced = [Action::Retire(WorkerKey(0)), Action::Spawn(WorkerKey(2), Program::Own)];
    assert!(actions.starts_with(&replaced), "workers are not shared: {actions:?}");
    let given = node.on(Event::WorkerReady(WorkerKey(2)));
    assert!(
        matches!(&given[..], [Action::Assign(WorkerKey(2), works)] if works[0].args[0] == 30),
        "{given:?}"
    );
}

/// The number of the worker that is started, if one is.
fn spawned(actions: &[Action]) -> Option<u32> {
    actions.iter().find_map(|action| match action {
        Action::Spawn(worker, _) => Some(worker.0),
        _ => None,
    })
}

impl Node {
    /// Worker 0 runs one job after the other of its lane, whose jobs take a tenth of a millisecond each, until it makes
    /// way for another worker. Yields when, and which.
    fn run_until_another_spawns(&mut self) -> (Duration, u32) {
        let begun = self.now;
        for number in 1..u32::MAX {
            self.now = self.now + Duration::from_micros(100);
            if let Some(other) = spawned(&self.finish(0, number, MILLISECOND / 10)) {
                return (self.now.since(begun), other);
            }
            assert!(self.now.since(begun) < Duration::from_secs(1), "nobody else has a turn");
        }
        unreachable!()
    }
}

#[test]
fn a_slot_that_cannot_be_shared_is_taken_in_turns() {
    let mut node = Node::ready(1);
    node.connect(2);
    node.receive(1, ToNode::Run((10..10_010).map(attempt).collect()));
    node.receive(2, ToNode::Run(vec![attempt(30)]));
    let (waited, worker) = node.run_until_another_spawns();
    assert!(waited >= Duration::from_millis(200) && waited < Duration::from_millis(300), "{waited:?}");
    let given = node.on(Event::WorkerReady(WorkerKey(worker)));
    assert_eq!(given, [Action::Assign(WorkerKey(worker), vec![work(0, 30)])]);
}

/// An attempt that calls a function of another program.
fn attempt_of(program: ProgramId, job: u32) -> Attempt {
    Attempt { program, ..attempt(job) }
}

#[test]
fn a_slot_is_taken_in_turns_by_the_programs_of_one_dispatcher() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run((10..10_010).map(attempt).collect()));
    node.receive(1, ToNode::Run(vec![attempt_of(ProgramId::BUILT_IN, 30)]));
    let (waited, worker) = node.run_until_another_spawns();
    assert!(waited >= Duration::from_millis(200) && waited < Duration::from_millis(300), "{waited:?}");
    let given = node.on(Event::WorkerReady(WorkerKey(worker)));
    assert_eq!(given, [Action::Assign(WorkerKey(worker), vec![work(0, 30)])]);
}

#[test]
fn what_a_node_cannot_run_of_a_dispatchers_programs_does_not_keep_it_from_running_the_others() {
    let mut node = Node::with_slots(3);
    node.connect(1);
    let second = ProgramId(2);
    let other = Target::new("linux", "aarch64");
    let build = ProgramBuild { digest: DIGEST, target: other.clone(), bytes: 100, name: "fib".into() };
    let refusal = ProgramRefusal::WrongTarget { node: target(), offered: vec![other] };
    let refused = FromNode::Program(second, ProgramStatus::Refused(refusal));
    assert_eq!(node.receive(1, offer(second, vec![build])), [Action::Send(ConnectionKey(1), refused)]);
    let never_offered = ProgramId(9);
    let all = [second, ProgramId::FIRST, never_offered, ProgramId::BUILT_IN, second];
    let attempts = (0..).zip(all).map(|(job, program)| attempt_of(program, job)).collect();
    let returned = [2, 0, 4].map(|job| outcome(job, 0, Ended::Returned));
    assert_eq!(
        node.receive(1, ToNode::Run(attempts)),
        [
            Action::Spawn(WorkerKey(0), Program::Own),
            Action::Spawn(WorkerKey(1), Program::Own),
            outcomes(1, 0, returned.to_vec())
        ]
    );
    let given = [0, 1].map(|worker| node.on(Event::WorkerReady(WorkerKey(worker))));
    assert_eq!(
        given.concat(),
        [Action::Assign(WorkerKey(0), vec![work(0, 3)]), Action::Assign(WorkerKey(1), vec![work(0, 1)])]
    );
    let cancelled = node.receive(1, ToNode::Cancel(vec![attempt(1).id]));
    assert_eq!(cancelled, [Action::Revoke(WorkerKey(1))], "an attempt is found whatever it is of");
}

#[test]
fn offers_that_make_no_sense_end_the_session() {
    let build = || ProgramBuild { digest: DIGEST, target: target(), bytes: 100, name: "fib".into() };
    let many = PROGRAM_BUILDS + 1;
    let nonsense = [
        offer(ProgramId::BUILT_IN, Vec::new()),
        offer(ProgramId(2), (0..many).map(|_| build()).collect()),
        // In use for the node's own program.
        offer(ProgramId::FIRST, vec![build()]),
    ];
    for message in nonsense {
        let mut node = Node::ready(1);
        node.receive(1, ToNode::Run(vec![attempt(1)]));
        let actions = node.receive(1, message);
        assert!(actions.contains(&Action::Close(ConnectionKey(1))), "{actions:?}");
        assert!(actions.contains(&Action::Kill(WorkerKey(0))), "{actions:?}");
    }
    let mut node = Node::ready(1);
    let taken = (2..).take_while(|number| {
        let actions = node.receive(1, offer(ProgramId(*number), Vec::new()));
        !actions.contains(&Action::Close(ConnectionKey(1)))
    });
    assert_eq!(taken.count(), PROGRAMS - 1, "beside the first one");
}

#[test]
fn growing_starts_workers_at_once_and_shrinking_loses_nothing() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run((10..14).map(attempt).collect()));
    let grown = node.on(Event::Resize(3));
    assert_eq!(grown, [1, 2].map(|n| Action::Spawn(WorkerKey(n), Program::Own)));
    node.on(Event::WorkerReady(WorkerKey(1)));
    node.on(Event::WorkerReady(WorkerKey(2)));
    let shrunk = node.on(Event::Resize(1));
    assert_eq!(shrunk.len(), 2, "two of three leave: {shrunk:?}");
    assert_eq!(node.core.status().slots, 1);
}

#[test]
fn a_worker_that_leaves_while_it_throws_work_away_leaves_after_that() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11)]));
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Resize(0)), [Action::Revoke(WorkerKey(0)), Action::Revoke(WorkerKey(0))]);
    let returned = outcome(11, 0, Ended::Returned);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), [outcomes(1, 1, vec![returned])]);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), []);
    node.finish(0, 1, MILLISECOND);
    assert_eq!(node.on(Event::WorkerSkipped(WorkerKey(0), 3)), [Action::Retire(WorkerKey(0))]);
}

#[test]
fn without_slots_attempts_go_back_instead_of_waiting() {
    let mut node = Node::ready(1);
    assert_eq!(node.on(Event::Resize(0)), [Action::Retire(WorkerKey(0))]);
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(10)])),
        [outcomes(1, 1, vec![outcome(10, 0, Ended::Returned)])]
    );
    node.on(Event::WorkerExited(WorkerKey(0), Progress::default(), killed()));
    assert_eq!(node.on(Event::Resize(1)), []);
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(11)])), [Action::Spawn(WorkerKey(1), Program::Own)]);
}

#[test]
fn a_session_that_comes_back_in_time_goes_on_and_one_that_does_not_is_killed() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11)]));
    assert_eq!(node.on(Event::Disconnected(ConnectionKey(1))), []);
    let done = outcome(10, 5, Ended::Succeeded(Payload::from(vec![1])));
    assert_eq!(node.finish(0, 1, 5), [], "the outcome is kept");
    node.on(connected(ConnectionKey(2)));
    let resume = Resume {
        node: NodeId(1),
        outcomes_received: 1,
        parts_taken: 0,
        held: vec![attempt(10).id, attempt(11).id],
    };
    let resumed = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    assert_eq!(resumed, [outcomes(2, 1, vec![done])], "nothing is run again, what was kept is sent");

    assert_eq!(node.on(Event::Disconnected(ConnectionKey(2))), []);
    node.now = Moment(0) + Duration::from_secs(10);
    assert_eq!(node.on(Event::Tick), [Action::Kill(WorkerKey(0))]);
}

#[test]
fn on_resuming_the_node_gives_up_what_the_dispatcher_has_given_up() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11), attempt(12)]));
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume {
        node: NodeId(1),
        outcomes_received: 1,
        parts_taken: 0,
        held: vec![attempt(10).id, attempt(11).id],
    };
    let resumed = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    assert_eq!(resumed, [outcomes(2, 1, vec![outcome(12, 0, Ended::Cancelled)])]);
}

fn cut_off(connection: u32, reason: &str) -> [Action; 2] {
    let connection = ConnectionKey(connection);
    let refusal = Refusal::NotPermitted(reason.into());
    [Action::Send(connection, FromNode::Refused(refusal)), Action::Close(connection)]
}

#[test]
fn a_dispatcher_that_gives_an_operators_order_is_cut_off_with_its_session() {
    for (order, name) in [(ToNode::Resize(5), "Resize"), (ToNode::Drain, "Drain")] {
        let mut node = Node::ready(1);
        let mut expected = vec![Action::Retire(WorkerKey(0))];
        expected.extend(cut_off(1, &format!("{name} is not for a connection of a dispatcher")));
        assert_eq!(node.receive(1, order), expected);
        assert_eq!(node.core.status().slots, 1, "nothing came of it");
        assert_eq!((node.core.status().sessions, node.core.status().draining), (0, false));
    }
}

#[test]
fn an_operator_gives_orders_and_runs_nothing() {
    let mut node = Node::with_slots(1);
    let operator = |key| proved(ConnectionKey(key), Role::Operator, None);
    for key in [1, 2] {
        node.on(operator(key));
        assert_eq!(node.receive(key, ToNode::Hello(Box::new(hello(key)))), []);
    }
    assert_eq!(node.receive(1, ToNode::Resize(3)), []);
    assert_eq!((node.core.status().slots, node.core.status().sessions), (3, 0));
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(1)])),
        cut_off(1, "Run is not for a connection of an operator")
    );
    assert_eq!(node.receive(2, ToNode::Goodbye), [Action::Close(ConnectionKey(2))]);
}

#[test]
fn a_greeting_comes_first_and_once() {
    let mut node = Node::with_slots(1);
    node.on(connected(ConnectionKey(1)));
    assert_eq!(node.receive(1, ToNode::Ping(1)), cut_off(1, "Ping came before a greeting"));
    node.connect(2);
    let again = node.receive(2, ToNode::Hello(Box::new(hello(2))));
    assert_eq!(again, cut_off(2, "Hello came a second time"));
}

#[test]
fn a_greeting_that_was_overtaken_by_that_of_a_younger_connection_changes_nothing() {
    let mut node = Node::ready(1);
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    node.on(connected(ConnectionKey(3)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 0, held: Vec::new() };
    let again = Hello { resume: Some(resume), ..hello(1) };
    assert_eq!(node.receive(3, ToNode::Hello(Box::new(again.clone()))), []);
    let second = ConnectionKey(2);
    assert_eq!(
        node.receive(2, ToNode::Hello(Box::new(again))),
        [
            Action::Send(second, FromNode::Refused(Refusal::AlreadyConnected(NodeId(1)))),
            Action::Close(second)
        ]
    );
    assert_eq!(
        node.receive(3, ToNode::Run(vec![attempt(10)])),
        [Action::Assign(WorkerKey(0), vec![work(1, 10)])]
    );
}

#[test]
fn a_dispatcher_that_means_an_earlier_session_begins_a_new_one() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    // This session has made one outcome.
    let resume = Resume { node: NodeId(1), outcomes_received: 2, parts_taken: 0, held: vec![attempt(10).id] };
    let greeting = Hello { resume: Some(resume), ..hello(1) };
    assert_eq!(node.receive(2, ToNode::Hello(Box::new(greeting))), [Action::Kill(WorkerKey(0))]);
}

#[test]
fn a_second_connection_of_the_same_dispatcher_is_refused_and_changes_nothing() {
    let mut node = Node::ready(1);
    node.on(connected(ConnectionKey(2)));
    assert_eq!(
        node.receive(2, ToNode::Hello(Box::new(hello(1)))),
        [
            Action::Send(ConnectionKey(2), FromNode::Refused(Refusal::AlreadyConnected(NodeId(1)))),
            Action::Close(ConnectionKey(2))
        ]
    );
}

#[test]
fn a_program_that_is_missing_is_asked_for_stored_and_run() {
    let mut node = Node::with_slots(1);
    let (digest, key) = (DIGEST, ConnectionKey(1));
    let told = [Action::LocateProgram(digest), status(1, ProgramStatus::Preparing)];
    assert_eq!(node.connect_with(1, target()), told);
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(1)])), []);
    assert_eq!(node.on(Event::ProgramMissing(digest)), [Action::Send(key, FromNode::ProgramNeeded(digest))]);
    let piece = Payload::from(vec![9; 10]);
    assert_eq!(
        node.receive(1, ToNode::ProgramChunk { digest, number: 0, bytes: piece.clone(), last: true }),
        [Action::StoreProgram { digest, size: 100, piece, last: true }]
    );
    assert_eq!(
        node.on(Event::ProgramStored(digest)),
        [status(1, ProgramStatus::Ready), Action::Spawn(WorkerKey(0), Program::Sent(digest))]
    );
}

#[test]
fn a_program_whose_connection_broke_off_is_asked_for_again_on_the_next_one() {
    let digest = DIGEST;
    let resume = Resume { node: NodeId(1), outcomes_received: 0, parts_taken: 0, held: Vec::new() };
    let again = Hello { resume: Some(resume), ..hello(1) };
    let [first, second, third] = [1, 2, 3].map(ConnectionKey);
    let needed = |key| Action::Send(key, FromNode::ProgramNeeded(digest));
    let build = ProgramBuild { digest, target: target(), bytes: 100, name: "fib".into() };
    let offered = || offer(ProgramId::FIRST, vec![build.clone()]);

    let mut node = Node::with_slots(1);
    let told = [Action::LocateProgram(digest), status(1, ProgramStatus::Preparing)];
    assert_eq!(node.connect_with(1, target()), told);
    assert_eq!(node.on(Event::ProgramMissing(digest)), [needed(first)]);
    assert_eq!(node.on(Event::Disconnected(first)), [Action::AbandonProgram(digest)]);
    node.on(connected(second));
    assert_eq!(node.receive(2, ToNode::Hello(Box::new(again.clone()))), []);
    let told = [Action::LocateProgram(digest), status(2, ProgramStatus::Preparing)];
    assert_eq!(node.receive(2, offered()), told);
    assert_eq!(node.on(Event::ProgramMissing(digest)), [needed(second)]);
    // The node has not noticed that the second connection is gone, too.
    node.on(connected(third));
    let asked = [Action::Close(second), Action::AbandonProgram(digest), needed(third)];
    assert_eq!(node.receive(3, ToNode::Hello(Box::new(again))), asked);
    assert_eq!(node.receive(3, offered()), [status(3, ProgramStatus::Preparing)]);
}

#[test]
fn a_program_for_another_architecture_is_refused_with_both_named() {
    let mut node = Node::with_slots(1);
    let other = Target::new("linux", "aarch64");
    let refusal = ProgramRefusal::WrongTarget { node: target(), offered: vec![other.clone()] };
    let text = refusal.to_string();
    assert!(text.contains("linux/x86_64") && text.contains("linux/aarch64"), "{text}");
    assert_eq!(node.connect_with(1, other), [status(1, ProgramStatus::Refused(refusal))]);
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(1)])),
        [outcomes(1, 0, vec![outcome(1, 0, Ended::Returned)])]
    );
}

fn failure(reason: &str, stderr: &[&str]) -> StartFailure {
    let stderr = stderr.iter().map(|line| (*line).to_owned()).collect();
    StartFailure { reason: reason.into(), stderr, is_shortage: false }
}

#[test]
fn a_program_that_keeps_failing_is_told_as_trouble_and_given_back_what_waits() {
    let mut node = Node::ready(1);
    node.on(Event::WorkerExited(WorkerKey(0), Progress::default(), killed()));
    node.receive(1, ToNode::Run(vec![attempt(9)]));
    let mut told = Vec::new();
    for worker in 1..4 {
        told = node.on(Event::WorkerFailed(WorkerKey(worker), failure("no memory", &[])));
        node.now = node.core.next_deadline().expect("another try");
        node.on(Event::Tick);
    }
    let troubled = |retried| {
        let reason = "its workers do not start: no memory; trying again".into();
        status(1, ProgramStatus::Troubled { reason, retried })
    };
    let returned = outcomes(1, 1, vec![outcome(9, 0, Ended::Returned)]);
    assert_eq!(told, [of_built_in(&troubled(false)), troubled(false), returned]);
    node.now = node.now + Duration::from_secs(1);
    assert_eq!(node.on(Event::Tick), [of_built_in(&troubled(true)), troubled(true)]);
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(10)])), [Action::Spawn(WorkerKey(4), Program::Own)]);
    let ready = node.on(Event::WorkerReady(WorkerKey(4)));
    assert!(ready.contains(&status(1, ProgramStatus::Ready)), "{ready:?}");
}

#[test]
fn a_shortage_is_no_reason_to_refuse_a_program() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    let shortage = StartFailure { is_shortage: true, ..failure("too many open files", &[]) };
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(0), shortage)), []);
    node.now = node.core.next_deadline().expect("another try");
    assert_eq!(node.on(Event::Tick), [Action::Spawn(WorkerKey(1), Program::Own)]);
}

fn shortage() -> StartFailure {
    StartFailure { is_shortage: true, ..failure("too few descriptors", &[]) }
}

fn trouble(told: Option<(u32, u32, &str)>) -> Action {
    let told = told.map(|(room, slots, reason)| WorkerShortage::new(room, slots, reason));
    Action::Send(ConnectionKey(1), FromNode::Trouble(told))
}

impl Node {
    fn wait_for_deadline(&mut self) -> Vec<Action> {
        self.now = self.core.next_deadline().expect("something is due");
        self.on(Event::Tick)
    }
}

/// Workers 0 and 1 of 4 run jobs of unknown length, 2 and 3 did not start, two more jobs wait.
fn half_of_four() -> Node {
    let mut node = Node::with_slots(4);
    node.connect(1);
    node.receive(1, ToNode::Run((0..6).map(attempt).collect()));
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(2), shortage())), []);
    node.on(Event::WorkerReady(WorkerKey(0)));
    node.on(Event::WorkerReady(WorkerKey(1)));
    let told = node.on(Event::WorkerFailed(WorkerKey(3), shortage()));
    assert_eq!(told, [trouble(Some((2, 4, "too few descriptors")))]);
    assert_eq!(node.core.status().slots, 2);
    node
}

#[test]
fn where_some_workers_cannot_start_those_that_can_go_on_and_one_more_is_tried_ever_more_slowly() {
    let mut node = half_of_four();
    let mut tries = Vec::new();
    for worker in 4..12 {
        let spawned = Action::Spawn(WorkerKey(worker), Program::Own);
        while !node.wait_for_deadline().contains(&spawned) {
            assert!(node.now < Moment(60_000 * MILLISECOND), "worker {worker} is never tried");
            node.on(Event::Received(ConnectionKey(1), Vec::new()));
        }
        tries.push(node.now.0 / MILLISECOND);
        assert_eq!(node.on(Event::WorkerFailed(WorkerKey(worker), shortage())), [], "it was told before");
        node.on(Event::Received(ConnectionKey(1), Vec::new()));
    }
    assert_eq!(tries, [200, 600, 1_400, 3_000, 6_200, 11_200, 16_200, 21_200]);
    let given = node.finish(0, 0, MILLISECOND);
    assert!(given.iter().any(|action| matches!(action, Action::Assign(WorkerKey(0), _))), "{given:?}");
}

#[test]
fn what_was_short_and_is_there_again_is_used_one_by_one_and_said() {
    let mut node = half_of_four();
    assert_eq!(node.wait_for_deadline(), [Action::Spawn(WorkerKey(4), Program::Own)]);
    let ready = node.on(Event::WorkerReady(WorkerKey(4)));
    assert!(ready.contains(&Action::Spawn(WorkerKey(5), Program::Own)), "{ready:?}");
    let ready = node.on(Event::WorkerReady(WorkerKey(5)));
    assert!(ready.contains(&trouble(None)), "{ready:?}");
    assert_eq!(node.core.status().slots, 4);
}

#[test]
fn a_shortage_is_forgotten_when_nobody_waits_for_a_worker_any_more() {
    let mut node = half_of_four();
    node.receive(1, ToNode::Cancel(vec![attempt(2).id, attempt(3).id, attempt(4).id, attempt(5).id]));
    while node.wait_for_deadline() != [trouble(None)] {
        assert_eq!(node.core.status().slots, 2, "it is known for a while");
        node.on(Event::Received(ConnectionKey(1), Vec::new()));
    }
    assert_eq!((node.now.0 / MILLISECOND, node.core.status().slots), (11_200, 4));
}

#[test]
fn while_workers_are_short_one_that_idles_makes_way_for_another_program() {
    let mut node = half_of_four();
    let digest = DIGEST;
    let actions = node.connect_with(2, target());
    let told = Some(WorkerShortage::new(2, 4, "too few descriptors"));
    assert_eq!(
        actions[0],
        Action::Send(ConnectionKey(2), FromNode::Trouble(told)),
        "a newcomer is told, too"
    );
    node.on(Event::ProgramStored(digest));
    node.receive(1, ToNode::Cancel((2..6).map(|job| attempt(job).id).collect()));
    node.receive(2, ToNode::Run(vec![attempt(9)]));
    node.now = node.now + Duration::from_secs(1);
    let retired = node.finish(0, 0, MILLISECOND);
    assert!(retired.contains(&Action::Retire(WorkerKey(0))), "{retired:?}");
    // Its descriptors are free once it is gone.
    let progress = Progress { started: 1, finished: 1, started_at_ns: 0 };
    let gone = node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    assert_eq!(gone, [Action::Spawn(WorkerKey(4), Program::Sent(digest))]);
}

#[test]
fn a_program_is_not_refused_for_some_workers_that_do_not_start_while_others_may() {
    let mut node = Node::with_slots(3);
    node.connect(1);
    node.receive(1, ToNode::Run((0..3).map(attempt).collect()));
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(0), failure("it could not be loaded", &[]))), []);
    let ready = node.on(Event::WorkerReady(WorkerKey(1)));
    assert!(ready.contains(&Action::Spawn(WorkerKey(3), Program::Own)), "{ready:?}");
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(2), failure("it could not be loaded", &[]))), []);
    let told = node.on(Event::WorkerFailed(WorkerKey(3), failure("it could not be loaded", &[])));
    assert_eq!(told, [trouble(Some((1, 3, "it could not be loaded")))]);
}

#[test]
fn a_program_that_never_started_is_refused_and_its_attempts_go_back() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    let actions = node.on(Event::WorkerFailed(WorkerKey(0), failure("no init", &["oops"])));
    let refusal = ProgramRefusal::DoesNotStart { reason: "no init".into(), stderr: vec!["oops".into()] };
    let refused = status(1, ProgramStatus::Refused(refusal));
    assert_eq!(
        actions,
        [of_built_in(&refused), refused, outcomes(1, 0, vec![outcome(1, 0, Ended::Returned)])]
    );
}

#[test]
fn a_program_that_started_before_is_started_again_after_a_while() {
    let mut node = Node::ready(2);
    node.on(Event::WorkerExited(WorkerKey(0), Progress::default(), killed()));
    node.on(Event::WorkerExited(WorkerKey(1), Progress::default(), killed()));
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(9)])), [Action::Spawn(WorkerKey(2), Program::Own)]);
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(2), failure("no memory", &[]))), []);
    node.now = Moment(200 * MILLISECOND);
    assert_eq!(node.core.next_deadline(), Some(node.now));
    assert_eq!(node.on(Event::Tick), [Action::Spawn(WorkerKey(3), Program::Own)]);
}

#[test]
fn the_wait_for_a_program_that_nobody_needs_any_more_is_over_once() {
    let mut node = Node::ready(1);
    node.on(Event::WorkerExited(WorkerKey(0), Progress::default(), killed()));
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(9)])), [Action::Spawn(WorkerKey(1), Program::Own)]);
    assert_eq!(node.on(Event::WorkerFailed(WorkerKey(1), failure("no memory", &[]))), []);
    let cancelled = outcomes(1, 1, vec![outcome(9, 0, Ended::Cancelled)]);
    assert_eq!(node.receive(1, ToNode::Cancel(vec![attempt(9).id])), [cancelled]);
    node.now = Moment(200 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), []);
    assert_eq!(node.core.next_deadline(), Some(Moment(1_000 * MILLISECOND)), "the next one is the heartbeat");
}

/// The only worker becomes ready, and dies at once.
fn die_early(node: &mut Node, worker: u32) -> Vec<Action> {
    node.on(Event::WorkerReady(WorkerKey(worker)));
    node.on(Event::WorkerExited(WorkerKey(worker), Progress::default(), killed()))
}

fn dies_early(retried: bool) -> ProgramStatus {
    let reason =
        "its workers die before they begin anything: the last one was killed by signal 9 (SIGKILL); trying again".into();
    ProgramStatus::Troubled { reason, retried }
}

#[test]
fn workers_that_die_before_they_begin_anything_are_started_ever_more_slowly_and_told_as_trouble() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    node.receive(1, ToNode::Run(vec![attempt(9)]));
    let mut tries = Vec::new();
    for worker in 0..2 {
        assert_eq!(die_early(&mut node, worker), [], "nothing is charged, and no other is started at once");
        assert_eq!(node.wait_for_deadline(), [Action::Spawn(WorkerKey(worker + 1), Program::Own)]);
        tries.push(node.now.0 / MILLISECOND);
    }
    assert_eq!(tries, [200, 600]);
    let told = die_early(&mut node, 2);
    let troubled = |retried| status(1, dies_early(retried));
    let returned = outcomes(1, 0, vec![outcome(9, 0, Ended::Returned)]);
    assert_eq!(told, [of_built_in(&troubled(false)), troubled(false), returned]);
    node.now = Moment(1_400 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), [of_built_in(&troubled(true)), troubled(true)]);
    // That one more becomes ready changes nothing; that it does something does.
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(10)])), [Action::Spawn(WorkerKey(3), Program::Own)]);
    let ready = node.on(Event::WorkerReady(WorkerKey(3)));
    assert_eq!(ready, [Action::Assign(WorkerKey(3), vec![work(0, 10)])]);
    let finished = node.finish(3, 0, MILLISECOND);
    assert!(finished.contains(&status(1, ProgramStatus::Ready)), "{finished:?}");
}

#[test]
fn a_worker_that_dies_before_it_begins_anything_while_others_do_well_is_only_missed() {
    let mut node = Node::ready(2);
    node.on(Event::Resize(3));
    node.receive(1, ToNode::Run((10..13).map(attempt).collect()));
    node.receive(1, ToNode::Run((13..19).map(attempt).collect()));
    node.on(Event::WorkerReady(WorkerKey(2)));
    let told = node.on(Event::WorkerExited(WorkerKey(2), Progress::default(), killed()));
    let reason = "its workers die before they begin anything: the last one was killed by signal 9 (SIGKILL)";
    assert_eq!(told, [trouble(Some((2, 3, reason)))]);
}

#[test]
fn an_idle_worker_that_is_told_to_leave_or_ran_something_is_no_early_death() {
    let mut node = Node::ready(1);
    let done = Progress { started: 1, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::WorkerExited(WorkerKey(0), done, killed())), []);
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(9)])), [Action::Spawn(WorkerKey(1), Program::Own)]);
    node.on(Event::WorkerReady(WorkerKey(1)));
    node.receive(1, ToNode::Cancel(vec![attempt(9).id]));
    node.on(Event::Revoked(WorkerKey(1), Progress::default()));
    node.on(Event::WorkerSkipped(WorkerKey(1), 1));
    assert_eq!(node.on(Event::Resize(0)), [Action::Retire(WorkerKey(1))]);
    node.on(Event::WorkerExited(WorkerKey(1), Progress::default(), killed()));
    node.on(Event::Resize(1));
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(10)])), [Action::Spawn(WorkerKey(2), Program::Own)]);
}

fn no_room() -> Event {
    Event::ProgramFailed(DIGEST, ProgramRefusal::NotStored("the disk is full".into()))
}

fn not_stored() -> ProgramStatus {
    let reason = "the node could not store the program: the disk is full; trying again".into();
    ProgramStatus::Troubled { reason, retried: false }
}

fn chunk(last: bool) -> ToNode {
    numbered_chunk(0, last)
}

fn numbered_chunk(number: u32, last: bool) -> ToNode {
    ToNode::ProgramChunk { digest: DIGEST, number, bytes: Payload::from(vec![9; 10]), last }
}

/// A node that was sent a program, and is verifying it.
fn storing() -> Node {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    node.on(Event::ProgramMissing(DIGEST));
    node.receive(1, chunk(true));
    node
}

#[test]
fn a_program_that_could_not_be_stored_is_asked_for_again_until_it_could() {
    let mut node = storing();
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    let first = outcomes(1, 0, vec![outcome(1, 0, Ended::Returned)]);
    assert_eq!(node.on(no_room()), [status(1, not_stored()), first], "its attempts go elsewhere");
    let mut tries = Vec::new();
    for number in 1..4 {
        let late = outcome(number + 1, 0, Ended::Returned);
        assert_eq!(
            node.receive(1, ToNode::Run(vec![attempt(number + 1)])),
            [outcomes(1, number.into(), vec![late])],
            "what comes late, too"
        );
        while node.wait_for_deadline() != [Action::LocateProgram(DIGEST)] {
            node.receive(1, ToNode::Ping(1));
        }
        tries.push(node.now.0 / MILLISECOND);
        let needed = Action::Send(ConnectionKey(1), FromNode::ProgramNeeded(DIGEST));
        assert_eq!(node.on(Event::ProgramMissing(DIGEST)), [needed]);
        node.receive(1, chunk(true));
        if number < 3 {
            assert_eq!(node.on(no_room()), [status(1, not_stored())]);
        }
    }
    assert_eq!(tries, [200, 600, 1_400]);
    assert_eq!(node.on(Event::ProgramStored(DIGEST)), [status(1, ProgramStatus::Ready)]);
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(9)])),
        [Action::Spawn(WorkerKey(0), Program::Sent(DIGEST))]
    );
}

#[test]
fn the_rest_of_what_could_not_be_stored_is_not_taken_for_a_part_of_what_is_sent_then() {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    node.on(Event::ProgramMissing(DIGEST));
    node.receive(1, chunk(false));
    assert_eq!(node.on(no_room()), [status(1, not_stored())]);
    assert_eq!(node.receive(1, numbered_chunk(1, false)), [], "this is for nobody");
    assert_eq!(node.wait_for_deadline(), [Action::LocateProgram(DIGEST)]);
    let needed = Action::Send(ConnectionKey(1), FromNode::ProgramNeeded(DIGEST));
    assert_eq!(node.on(Event::ProgramMissing(DIGEST)), [needed]);
    assert_eq!(node.receive(1, numbered_chunk(2, true)), [], "nor is this");
    assert!(matches!(node.receive(1, chunk(false))[..], [Action::StoreProgram { last: false, .. }]));
    assert!(matches!(
        node.receive(1, numbered_chunk(1, true))[..],
        [Action::StoreProgram { last: true, .. }]
    ));
}

#[test]
fn who_offers_a_program_that_could_not_be_stored_is_told_and_sends_it_if_the_other_is_gone() {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    node.on(Event::ProgramMissing(DIGEST));
    node.receive(1, chunk(false));
    node.on(no_room());
    assert_eq!(node.connect_with(2, target()), [status(2, not_stored())]);
    assert_eq!(node.on(Event::Disconnected(ConnectionKey(1))), []);
    assert_eq!(node.wait_for_deadline(), [Action::LocateProgram(DIGEST)]);
    let needed = Action::Send(ConnectionKey(2), FromNode::ProgramNeeded(DIGEST));
    assert_eq!(node.on(Event::ProgramMissing(DIGEST)), [needed]);
}

#[test]
fn nobody_waits_for_a_program_that_could_not_be_stored_once_no_session_runs_it() {
    let mut node = storing();
    node.on(no_room());
    assert_eq!(node.receive(1, ToNode::Goodbye), [Action::Close(ConnectionKey(1))]);
    node.now = node.now + Duration::from_secs(60);
    assert_eq!(node.on(Event::Tick), []);
}

#[test]
fn draining_gives_back_what_waits_finishes_what_runs_and_ends() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11), attempt(12)]));
    let returned = |job| outcome(job, 0, Ended::Returned);
    assert_eq!(node.on(Event::Drain), [Action::Revoke(WorkerKey(0)), outcomes(1, 1, vec![returned(12)])]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), progress)), [outcomes(1, 2, vec![returned(11)])]);
    let done = outcome(10, 3, Ended::Succeeded(Payload::from(vec![1])));
    assert_eq!(node.finish(0, 1, 3), [outcomes(1, 3, vec![done])]);
    let farewell = node.receive(1, ToNode::Ack(4));
    let goodbye = FromNode::Goodbye(Farewell::Stopped);
    assert_eq!(
        farewell,
        [
            Action::Send(ConnectionKey(1), goodbye),
            Action::Close(ConnectionKey(1)),
            Action::Kill(WorkerKey(0))
        ]
    );
    assert_eq!(node.on(Event::WorkerExited(WorkerKey(0), progress, killed())), [Action::End]);
}

#[test]
fn a_draining_node_takes_no_new_session_and_brings_the_ones_it_has_to_their_end() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    assert_eq!(node.on(Event::Drain), [Action::Revoke(WorkerKey(0))]);
    node.on(Event::Revoked(WorkerKey(0), Progress { started: 2, finished: 1, started_at_ns: 0 }));
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 0, held: vec![attempt(10).id] };
    assert_eq!(node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) }))), []);
    let done = outcome(10, 3, Ended::Succeeded(Payload::from(vec![1])));
    assert_eq!(node.finish(0, 1, 3), [outcomes(2, 1, vec![done])]);
    node.on(connected(ConnectionKey(3)));
    assert_eq!(
        node.receive(3, ToNode::Hello(Box::new(hello(3)))),
        [
            Action::Send(ConnectionKey(3), FromNode::Refused(Refusal::Draining)),
            Action::Close(ConnectionKey(3))
        ]
    );
}

#[test]
fn work_stuck_behind_a_long_attempt_is_taken_back_when_another_worker_idles() {
    let mut node = Node::ready(2);
    node.receive(1, ToNode::Run((10..14).map(attempt).collect()));
    node.finish(1, 1, MILLISECOND);
    node.finish(1, 2, MILLISECOND);
    let due = node.core.next_deadline().expect("it looks after the other worker");
    node.now = due;
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(
        node.on(Event::Revoked(WorkerKey(0), progress)),
        [Action::Assign(WorkerKey(1), vec![work(3, 11)])]
    );
}

/// Worker 0 holds attempts 10 and 11, and has not finished the first; worker 1 has finished its own.
fn stuck_behind_a_long_attempt() -> Node {
    let mut node = Node::ready(2);
    node.receive(1, ToNode::Run((10..14).map(attempt).collect()));
    node.finish(1, 1, MILLISECOND);
    node.finish(1, 2, MILLISECOND);
    node
}

/// Progress of worker 0 then.
const FIRST_RUNS: Progress = Progress { started: 2, finished: 1, started_at_ns: 0 };

#[test]
fn stuck_work_is_taken_back_by_a_worker_that_idles_for_moments_only() {
    let mut node = stuck_behind_a_long_attempt();
    for number in 3..5 {
        node.now = node.now + Duration::from_millis(1);
        let next = 10 + number;
        let given = node.receive(1, ToNode::Run(vec![attempt(next)]));
        assert_eq!(given, [Action::Assign(WorkerKey(1), vec![work(number, next)])]);
        let revokes = node.finish(1, number, MILLISECOND / 2).contains(&Action::Revoke(WorkerKey(0)));
        assert_eq!(revokes, number == 4, "as soon as it is stuck");
    }
}

#[test]
fn stuck_work_is_taken_back_for_whoever_is_done_next() {
    let mut node = stuck_behind_a_long_attempt();
    node.receive(1, ToNode::Run(vec![attempt(14)]));
    let mut number = 3;
    let taken_back = loop {
        node.now = node.now + Duration::from_millis(1);
        // Worker 1 is never without work.
        let mut actions = node.receive(1, ToNode::Run(vec![attempt(12 + number)]));
        actions.extend(node.finish(1, number, MILLISECOND / 2));
        number += 1;
        if actions.contains(&Action::Revoke(WorkerKey(0))) {
            break node.now;
        }
        assert!(node.now < Moment(0) + Duration::from_millis(100), "it is never taken back");
    };
    assert!(taken_back >= Moment(0) + Duration::from_millis(50), "the way to a worker was worth hiding");
    node.on(Event::Revoked(WorkerKey(0), FIRST_RUNS));
    node.finish(1, number, MILLISECOND / 2);
    let next = node.core.workers[&WorkerKey(1)].work.front().map(|piece| piece.attempt.id.job);
    assert_eq!(next, Some(attempt(11).id.job), "it comes before what came later");
}

#[test]
fn one_idle_worker_takes_from_one_worker() {
    let mut node = Node::ready(3);
    node.receive(1, ToNode::Run((10..16).map(attempt).collect()));
    node.finish(2, 1, MILLISECOND);
    node.finish(2, 2, MILLISECOND);
    node.now = node.now + Duration::from_millis(2);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(0))]);
    node.now = node.now + Duration::from_millis(2);
    assert_eq!(node.on(Event::Tick), [], "what was asked for is on its way");
    assert_eq!(
        node.on(Event::Revoked(WorkerKey(0), FIRST_RUNS)),
        [Action::Assign(WorkerKey(2), vec![work(3, 11)])]
    );
    node.finish(2, 3, MILLISECOND);
    node.now = node.now + Duration::from_millis(2);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(1))]);
}

#[test]
fn a_worker_that_had_claimed_everything_is_not_asked_again_at_once() {
    let mut node = stuck_behind_a_long_attempt();
    node.now = node.now + Duration::from_millis(2);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(0))]);
    let all = Progress { started: 3, finished: 2, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), all)), []);
    let due = node.core.next_deadline().expect("it looks after the other worker");
    assert!(due >= node.now + Duration::from_millis(2), "it would ask without pause");
}

#[test]
fn work_that_came_back_unbegun_is_given_in_single_pieces() {
    let mut node = stuck_behind_a_long_attempt();
    node.now = node.now + Duration::from_millis(2);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(0))]);
    let nothing = Progress { started: 1, finished: 1, started_at_ns: 0 };
    // A single piece is never taken back, so the work cannot wander among workers for ever.
    assert_eq!(
        node.on(Event::Revoked(WorkerKey(0), nothing)),
        [Action::Assign(WorkerKey(1), vec![work(3, 10)])]
    );
    assert_eq!(
        node.on(Event::WorkerSkipped(WorkerKey(0), 3)),
        [Action::Assign(WorkerKey(0), vec![work(3, 11)])]
    );
    node.receive(1, ToNode::Run((14..18).map(attempt).collect()));
    let given = node.finish(1, 3, MILLISECOND / 10);
    let is_batch = |action: &Action| matches!(action, Action::Assign(WorkerKey(1), works) if works.len() > 1);
    assert!(given.iter().any(is_batch), "batches again, once something has ended: {given:?}");
}

#[test]
fn what_comes_back_from_a_worker_of_a_refused_program_is_returned() {
    let mut node = Node::with_slots(1);
    let digest = DIGEST;
    node.connect_with(1, target());
    node.on(Event::ProgramStored(digest));
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    node.on(Event::WorkerReady(WorkerKey(0)));
    node.finish(0, 0, MILLISECOND);
    node.receive(1, ToNode::Run(vec![attempt(2), attempt(3)]));
    node.on(Event::ProgramFailed(digest, ProgramRefusal::Unavailable("it was built anew".into())));
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    let died = Ended::WorkerDied(Box::new(killed()));
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), progress, killed())),
        [outcomes(1, 1, vec![outcome(2, 0, died), outcome(3, 0, Ended::Returned)])]
    );
}

impl Node {
    /// A second passes, in which the dispatcher says that it lives.
    fn beat(&mut self) -> Vec<Action> {
        self.now = self.now + Duration::from_secs(1);
        self.receive(1, ToNode::Ping(1));
        self.on(Event::Tick)
    }

    /// Whether the worker is killed within some heartbeats, being so far whenever it is looked at.
    fn is_killed_when_seen(&mut self, progress: Progress) -> bool {
        (0..20).any(|_| {
            let looked = self.beat().contains(&Action::Observe(WorkerKey(0)));
            looked && self.on(Event::Observed(WorkerKey(0), progress)).contains(&Action::Kill(WorkerKey(0)))
        })
    }
}

#[test]
fn what_has_finished_is_to_be_reported_within_seconds_and_what_runs_may_run_for_ever() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let running = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert!(!node.is_killed_when_seen(running));
    let unreported = Progress { finished: 2, ..running };
    assert!(node.is_killed_when_seen(unreported));
    let silent = WorkerDeath::new(Death::Silent, killed().stderr);
    let died = outcome(10, 0, Ended::WorkerDied(Box::new(silent)));
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), unreported, killed())),
        [outcomes(1, 1, vec![died])]
    );
}

#[test]
fn a_worker_that_does_not_begin_what_it_was_given_is_replaced_and_nothing_charged() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let idle = Progress { started: 1, finished: 1, started_at_ns: 0 };
    assert!(node.is_killed_when_seen(idle));
    assert_eq!(
        node.on(Event::WorkerExited(WorkerKey(0), idle, killed())),
        [Action::Spawn(WorkerKey(1), Program::Own)]
    );
}

#[test]
fn a_job_that_writes_to_its_page_does_not_outlive_its_time_limit() {
    // Whenever it is looked at, it runs something else, or has only just begun, or has finished.
    type Lie = fn(Moment, u32) -> Progress;
    let lies: [Lie; 3] = [
        |now, _| Progress { started: 2, finished: 1, started_at_ns: now.0 + 1_000 },
        |now, _| Progress { started: 700, finished: 5, started_at_ns: now.0 },
        |now, look| Progress { started: 2, finished: 2 - look % 2, started_at_ns: now.0 },
    ];
    for lie in lies {
        let mut node = Node::ready(1);
        let limited = Attempt { time_limit_ns: Duration::from_secs(2).as_nanos() as u64, ..attempt(10) };
        node.receive(1, ToNode::Run(vec![limited]));
        let (mut looks, mut killed_at) = (0, None);
        for second in 1..=20 {
            let mut actions = node.beat();
            while actions.contains(&Action::Observe(WorkerKey(0))) {
                looks += 1;
                actions = node.on(Event::Observed(WorkerKey(0), lie(node.now, looks)));
            }
            if actions.contains(&Action::Kill(WorkerKey(0))) {
                killed_at = Some(second);
                break;
            }
        }
        assert!(killed_at.is_some_and(|second| second <= 2 + 10 + 2), "{killed_at:?}");
        let timed_out = outcome(10, 0, Ended::TimedOut);
        assert_eq!(
            node.on(Event::WorkerExited(WorkerKey(0), lie(node.now, 0), killed())),
            [outcomes(1, 1, vec![timed_out])]
        );
    }
}

#[test]
fn a_worker_that_does_not_throw_away_what_was_revoked_is_replaced() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.receive(1, ToNode::Cancel(vec![attempt(10).id]));
    let idle = Progress { started: 1, finished: 1, started_at_ns: 0 };
    let cancelled = outcome(10, 0, Ended::Cancelled);
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), idle)), [outcomes(1, 1, vec![cancelled])]);
    assert!(node.is_killed_when_seen(idle));
}

#[test]
fn a_worker_that_something_large_is_moving_to_or_from_is_left_alone() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let unreported = Progress { started: 2, finished: 2, started_at_ns: 0 };
    for _ in 0..20 {
        node.on(Event::WorkerMoving(WorkerKey(0)));
        if node.beat().contains(&Action::Observe(WorkerKey(0))) {
            assert_eq!(node.on(Event::Observed(WorkerKey(0), unreported)), []);
        }
    }
    assert!(node.is_killed_when_seen(unreported));
}

#[test]
fn a_worker_that_could_not_report_is_charged_to_what_it_ended_last() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let cut_off = WorkerDeath::new(Death::CutOff, killed().stderr);
    let unreported = Progress { started: 2, finished: 2, started_at_ns: 0 };
    let died = outcome(10, 0, Ended::WorkerDied(Box::new(cut_off.clone())));
    assert_eq!(node.on(Event::WorkerExited(WorkerKey(0), unreported, cut_off)), [outcomes(1, 1, vec![died])]);
}

/// Lines of a worker that prints much.
fn much() -> Event {
    Event::WorkerOutput(WorkerKey(0), 2, Stream::Stdout, vec!["x".repeat(8_000); 8])
}

#[test]
fn a_worker_that_prints_more_than_its_dispatcher_takes_waits_until_it_has() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let mut sent = 0;
    loop {
        let actions = node.on(much());
        for action in &actions {
            let Action::Send(_, FromNode::Output(lines)) = action else { continue };
            sent += lines.iter().map(pp_protocol::OutputLine::weight).sum::<usize>();
        }
        if actions.contains(&Action::HoldOutput(WorkerKey(0), true)) {
            break;
        }
        assert!(sent < OUTPUT_BYTES_SENT);
    }
    assert!(sent >= OUTPUT_BYTES_SENT, "nothing was dropped");
    let unreported = Progress { started: 2, finished: 2, started_at_ns: 0 };
    assert!(!node.is_killed_when_seen(unreported), "it cannot report meanwhile");
    assert_eq!(node.receive(1, ToNode::OutputReceived(1_000)), []);
    let release = Action::HoldOutput(WorkerKey(0), false);
    assert_eq!(node.receive(1, ToNode::OutputReceived(sent as u64)), std::slice::from_ref(&release));
    while !node.on(much()).contains(&Action::HoldOutput(WorkerKey(0), true)) {}
    assert_eq!(node.on(Event::Disconnected(ConnectionKey(1))), [release], "nobody waits for who is away");
}

#[test]
fn what_is_printed_while_the_dispatcher_is_away_is_kept_within_bounds_and_the_rest_is_counted() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.on(Event::Disconnected(ConnectionKey(1)));
    let printed = 2 * OUTPUT_BYTES_KEPT / 64_000;
    (0..printed).for_each(|_| assert_eq!(node.on(much()), []));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 0, held: vec![attempt(10).id] };
    let back = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    let [Action::Send(_, FromNode::Output(lines))] = &back[..] else { panic!("{back:?}") };
    let bytes: usize = lines.iter().map(pp_protocol::OutputLine::weight).sum();
    assert!(bytes <= OUTPUT_BYTES_KEPT + 200);
    let (last, kept) = lines.split_last().unwrap();
    assert_eq!(
        last.text,
        format!(
            "({} lines of output were dropped: they could not be sent in time)",
            8 * printed - kept.len()
        )
    );
}

#[test]
fn whoever_is_cut_off_is_told_before_how_much_of_the_output_was_dropped() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let printed = 2 * OUTPUT_BYTES_KEPT / 64_000;
    (0..printed).for_each(|_| drop(node.on(much())));
    let told = node.receive(1, ToNode::Drain);
    let word = |action: &Action| match action {
        Action::Send(_, FromNode::Output(lines)) => {
            lines.iter().any(|line| line.text.contains("were dropped"))
        }
        _ => false,
    };
    let refused = |action: &Action| matches!(action, Action::Send(_, FromNode::Refused(_)));
    let places = [told.iter().position(word), told.iter().position(refused)];
    assert!(places[0].is_some() && places[0] < places[1], "{told:?}");
}

#[test]
fn what_is_printed_belongs_to_the_running_attempt() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    // Five as it was when work behind the attempt had been revoked, and thrown away by the worker.
    for started in [2, 5] {
        let lines = vec!["hello".into()];
        let printed = node.on(Event::WorkerOutput(WorkerKey(0), started, Stream::Stdout, lines));
        let text = "hello".into();
        let line = pp_protocol::OutputLine { attempt: Some(attempt(10).id), stream: Stream::Stdout, text };
        assert_eq!(printed, [Action::Send(ConnectionKey(1), FromNode::Output(vec![line]))]);
    }
}

#[test]
fn a_silent_peer_is_cut_off_but_not_for_this_sides_own_lateness() {
    let mut node = Node::ready(1);
    for _ in 0..5 {
        node.now = node.now + Duration::from_secs(1);
        assert_eq!(node.on(Event::Tick), []);
    }
    node.now = node.now + Duration::from_secs(1);
    assert_eq!(node.on(Event::Tick), [Action::Close(ConnectionKey(1))]);

    let mut frozen = Node::ready(1);
    frozen.now = Moment(0) + Duration::from_secs(60);
    assert_eq!(frozen.on(Event::Tick), [], "the process was frozen, not its peer");
}

#[test]
fn over_a_long_way_more_is_sent_ahead() {
    let mut node = Node::ready(1);
    let mut windows = Vec::new();
    for (round_trip, number) in [(Duration::ZERO, 1), (Duration::from_millis(400), 2)] {
        node.now = node.core.next_deadline().expect("a heartbeat");
        node.on(Event::Tick);
        node.now = node.now + round_trip;
        node.core.handle(
            node.now,
            Event::Received(ConnectionKey(1), vec![ToNode::Pong(number)]),
            &mut node.actions,
        );
        node.actions.clear();
        windows.push(
            node.core.sessions[&SessionKey(0)]
                .window_for(1, node.core.connections[&ConnectionKey(1)].round_trip),
        );
    }
    // Its jobs take a millisecond each; a single long answer counts for a quarter.
    assert_eq!(windows, [1 + 20, 1 + 20 + 100]);
}

#[test]
fn work_stuck_behind_a_long_attempt_is_taken_back_when_a_slot_has_no_worker_yet() {
    let mut node = Node::ready(1);
    node.on(Event::Resize(2));
    // Nothing waits, so the second slot has no worker, and both attempts seem too short to start one.
    let both = vec![work(1, 10), work(2, 11)];
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(10), attempt(11)])),
        [Action::Assign(WorkerKey(0), both)]
    );
    node.now = node.now + Duration::from_millis(3);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(0))]);
    let progress = Progress { started: 2, finished: 1, started_at_ns: 0 };
    let revoked = node.on(Event::Revoked(WorkerKey(0), progress));
    assert_eq!(revoked, [Action::Spawn(WorkerKey(1), Program::Own)]);
    let ready = node.on(Event::WorkerReady(WorkerKey(1)));
    assert_eq!(ready, [Action::Assign(WorkerKey(1), vec![work(0, 11)])]);
}

#[test]
fn whoever_comes_or_comes_back_is_told_what_has_become_of_the_nodes_own_functions() {
    let mut node = Node::ready(1);
    node.on(Event::WorkerExited(WorkerKey(0), Progress::default(), killed()));
    node.receive(1, ToNode::Run(vec![attempt(9)]));
    for worker in 1..4 {
        node.on(Event::WorkerFailed(WorkerKey(worker), failure("no memory", &[])));
        node.now = node.core.next_deadline().expect("another try");
        node.on(Event::Tick);
    }
    let is_trouble = |action: &Action| {
        let Action::Send(_, FromNode::Program(ProgramId::BUILT_IN, status)) = action else { return false };
        matches!(status, ProgramStatus::Troubled { .. })
    };
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 0, parts_taken: 0, held: vec![attempt(9).id] };
    let back = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    assert!(back.iter().any(is_trouble), "{back:?}");
    node.on(connected(ConnectionKey(3)));
    let new = node.receive(3, ToNode::Hello(Box::new(hello(3))));
    assert!(new.iter().any(is_trouble), "{new:?}");
}

#[test]
fn a_worker_that_idles_for_moments_does_not_make_way_before_its_turn_is_over() {
    let mut node = Node::ready(1);
    node.connect(2);
    node.now = Moment(100 * MILLISECOND);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    assert_eq!(node.receive(2, ToNode::Run(vec![attempt(30)])), []);
    assert_eq!(
        spawned(&node.finish(0, 1, MILLISECOND)),
        None,
        "to start another one takes as long as it may idle"
    );
    node.now = node.now + Duration::from_millis(1);
    assert_eq!(
        node.receive(1, ToNode::Run(vec![attempt(11)])),
        [Action::Assign(WorkerKey(0), vec![work(2, 11)])]
    );
    assert_eq!(spawned(&node.finish(0, 2, MILLISECOND)), None);
    let finished = node.now;
    let due = node.core.next_deadline().expect("the other one waits");
    assert_eq!(due.since(finished), Duration::from_millis(5));
    node.now = due;
    assert_eq!(
        node.on(Event::Tick),
        [Action::Retire(WorkerKey(0)), Action::Spawn(WorkerKey(1), Program::Own)]
    );
}

/// A dispatcher that came with this secret and runs something.
fn ready_with(secret: SecretId) -> Node {
    let mut node = Node::with_slots(1);
    node.on(proved(ConnectionKey(1), Role::Dispatcher, Some(secret)));
    node.receive(1, ToNode::Hello(Box::new(hello(1))));
    node.receive(1, offer(ProgramId::FIRST, Vec::new()));
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.on(Event::WorkerReady(WorkerKey(0)));
    node
}

#[test]
fn whoever_came_with_a_secret_that_is_removed_is_ended_within_a_second() {
    let [old, new] = [SecretId(1), SecretId(2)];
    let mut node = ready_with(old);
    assert_eq!(node.on(Event::AcceptOnly([old, new].into())), [], "both are accepted");
    node.on(proved(ConnectionKey(2), Role::Operator, Some(old)));
    node.on(proved(ConnectionKey(3), Role::Operator, Some(new)));
    node.on(proved(ConnectionKey(4), Role::Operator, None));
    let closed = [1, 2].map(|key| Action::Close(ConnectionKey(key)));
    assert_eq!(node.on(Event::AcceptOnly([new].into())), closed, "the others stay, and so does this process");
    let late = node.on(proved(ConnectionKey(5), Role::Dispatcher, Some(old)));
    assert_eq!(late, [Action::Close(ConnectionKey(5))], "whoever was just being let in");
    node.now = Moment(0) + Duration::from_millis(999);
    assert!(node.core.next_deadline().is_some_and(|deadline| deadline <= node.now));
    assert_eq!(node.on(Event::Tick), [Action::Kill(WorkerKey(0))]);
    assert_eq!(node.core.status().sessions, 0);
}

#[test]
fn a_dispatcher_that_comes_back_with_a_secret_that_is_accepted_goes_on() {
    let [old, new] = [SecretId(1), SecretId(2)];
    let mut node = ready_with(old);
    node.on(Event::AcceptOnly([new].into()));
    node.now = Moment(0) + Duration::from_millis(500);
    assert_eq!(node.on(proved(ConnectionKey(2), Role::Dispatcher, Some(new))), []);
    let resume = Resume { node: NodeId(1), outcomes_received: 0, parts_taken: 0, held: vec![attempt(10).id] };
    let back = ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) }));
    assert_eq!(node.receive(2, back), []);
    node.now = Moment(0) + Duration::from_secs(2);
    node.receive(2, ToNode::Ping(1));
    let done = outcome(10, 5, Ended::Succeeded(Payload::from(vec![1])));
    assert_eq!(node.finish(0, 0, 5), [outcomes(2, 0, vec![done])], "nothing was killed");
    assert_eq!(node.on(Event::AcceptOnly([new].into())), [], "it is the new secret's now");
}

#[test]
fn a_session_that_is_away_as_its_secret_is_removed_is_not_kept_for_long() {
    let [old, new] = [SecretId(1), SecretId(2)];
    let mut node = ready_with(old);
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(Event::AcceptOnly([new].into()));
    node.now = Moment(0) + Duration::from_secs(1);
    assert_eq!(node.on(Event::Tick), [Action::Kill(WorkerKey(0))]);
}

#[test]
fn a_machine_that_is_listed_no_more_or_not_for_its_role_is_ended_and_the_others_stay() {
    let secret = SecretId(1);
    let machine = |number| MachineId([number; 32]);
    let listed = |machines: &[(u8, Role)]| {
        let machines = machines.iter().map(|(number, role)| (machine(*number), *role)).collect();
        Event::AcceptOnly(Accepted { secrets: [secret].into(), machines: Some(machines) })
    };
    let proved = |connection, number, role| {
        let proof =
            Proof { role, version: Version::V1, secret: Some(secret), machine: Some(machine(number)) };
        Event::Connected(ConnectionKey(connection), proof)
    };
    let mut node = Node::with_slots(1);
    node.on(listed(&[(1, Role::Dispatcher), (2, Role::Dispatcher), (2, Role::Operator)]));
    node.on(proved(1, 1, Role::Dispatcher));
    node.receive(1, ToNode::Hello(Box::new(hello(1))));
    node.on(proved(2, 2, Role::Dispatcher));
    node.on(proved(3, 2, Role::Operator));
    assert_eq!(node.on(proved(4, 3, Role::Dispatcher)), [Action::Close(ConnectionKey(4))]);
    let closed = [1, 3].map(|key| Action::Close(ConnectionKey(key)));
    assert_eq!(node.on(listed(&[(2, Role::Dispatcher)])), closed);
    let without_key =
        Proof { role: Role::Dispatcher, version: Version::V1, secret: Some(secret), machine: None };
    assert_eq!(node.on(Event::Connected(ConnectionKey(5), without_key)), [Action::Close(ConnectionKey(5))]);
    node.now = Moment(0) + Duration::from_millis(999);
    node.on(Event::Tick);
    assert_eq!(node.core.status().sessions, 0, "that of the machine that was removed");
}
