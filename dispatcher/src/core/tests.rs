//! Event in, exact actions out, nothing left over.

mod checks;
mod delays;
mod explain;
mod finish;
mod parts;
mod pinned;
mod sharing;
mod standing;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::limits::OUTPUT_BYTES_TOLD;
use pp_protocol::{
    Attempt, AttemptId, Death, Ended, FromNode, FunctionId, JobId, Moment, NodeId, NodeStatus, Outcome,
    OutputLine, Panic, Payload, ProgramId, ProgramRefusal, ProgramStatus, Refusal, Resume, Role, SessionId,
    Stream, Target, ToNode, Version, Violation, Welcome, WorkerDeath, WorkerShortage,
};

use super::{
    Action, Core, DialFailure, DispatcherConfig, Event, Failure, FailureCause, JobOptions, JobOutcome,
    JobStatus, JobsPerNode, NewJob, NodeKey, NodeKind, NodeLoss, NodeReason, NodeRefusal, NodeState,
    NodeTrouble, Report, Resolution, Ticket, Unreachable,
};

const FUNCTION: FunctionId = FunctionId(7);
/// Nodes run their own functions from the beginning.
const PROGRAM: ProgramId = ProgramId::BUILT_IN;
const ARGS_BYTES: usize = 1;
const A: NodeKey = NodeKey(1);
const B: NodeKey = NodeKey(2);
const C: NodeKey = NodeKey(3);

/// A ticket that is a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number(u32);

thread_local! {
    /// Jobs of this test that were told their identifiers.
    static TOLD: RefCell<BTreeSet<u32>> = RefCell::default();
}

impl Ticket for Number {
    fn accepted(&self, _job: JobId) {
        TOLD.with_borrow_mut(|told| told.insert(self.0));
    }
}

/// A dispatcher core with a clock.
struct Dispatcher {
    core: Core<Number>,
    now: Moment,
    submitted: u32,
}

impl Dispatcher {
    fn new() -> Self {
        Self::offering(&[])
    }

    fn offering(programs: &[ProgramId]) -> Self {
        let programs = programs.iter().copied().collect();
        Self::with(DispatcherConfig { programs, ..DispatcherConfig::new(SessionId(1), 1) })
    }

    fn with(config: DispatcherConfig) -> Self {
        Self { core: Core::new(config), now: Moment(0), submitted: 0 }
    }

    /// Feeds an event, and yields what is to be done, without pings and acknowledgements.
    fn on(&mut self, event: Event<Number>) -> Vec<Action<Number>> {
        let mut actions = Vec::new();
        self.core.handle(self.now, event, &mut actions);
        self.core.check_invariants();
        actions.retain(|action| {
            !matches!(action, Action::Send(_, ToNode::Ping(_) | ToNode::Ack(_) | ToNode::Waiting(_)))
        });
        actions
    }

    fn find(&mut self, node: NodeKey) -> Vec<Action<Number>> {
        let name = format!("node {}", node.0);
        self.on(Event::NodeFound { node, name, kind: NodeKind::Configured })
    }

    /// With a node that has so many slots and takes so many attempts.
    fn connect(&mut self, node: NodeKey, slots: u32, window: u32) -> Vec<Action<Number>> {
        assert_eq!(self.find(node), [Action::Dial(node, None)]);
        let mut actions = self.on(Event::LinkUp(node, Box::new(welcome(node, slots, window)), Version::V1));
        assert_eq!(actions.remove(0), Action::Report(Report::NodeConnected(node)));
        actions
    }

    fn submit(&mut self, count: u32) -> Vec<Action<Number>> {
        let jobs = (0..count).map(|n| new_job(self.submitted + n)).collect();
        self.submitted += count;
        self.on(Event::Submit(jobs))
    }

    fn outcomes(&mut self, node: NodeKey, first: u64, outcomes: Vec<Outcome>) -> Vec<Action<Number>> {
        self.on(Event::Received(node, vec![FromNode::Outcomes(first, outcomes)]))
    }

    fn state(&self, node: NodeKey) -> NodeState {
        self.core.nodes().find(|view| view.key == node).expect("the node is known").state
    }

    fn pass(&mut self, time: Duration) -> Vec<Action<Number>> {
        let until = self.now + time;
        let mut actions = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            actions.extend(self.on(Event::Tick));
        }
        self.now = until;
        actions
    }

    /// A node with one slot goes, and is back in another life.
    fn restart(&mut self, key: NodeKey, life: u128) {
        self.pass(Duration::from_secs(2));
        self.on(Event::LinkDown(key));
        let restarted = Welcome { node: NodeId(1_000 + life), ..welcome(key, 1, 1) };
        self.on(Event::LinkUp(key, Box::new(restarted), Version::V1));
    }
}

fn new_job(number: u32) -> NewJob<Number> {
    NewJob {
        ticket: Number(number),
        program: PROGRAM,
        function: FUNCTION,
        args: Payload::from(vec![number as u8]),
        options: None,
    }
}

fn with_options(number: u32, options: JobOptions) -> NewJob<Number> {
    NewJob { options: Some(Box::new(options)), ..new_job(number) }
}

fn welcome(node: NodeKey, slots: u32, window: u32) -> Welcome {
    Welcome {
        node: NodeId(node.0.into()),
        name: format!("host {}", node.0),
        software: "test".into(),
        libc: String::new(),
        confinement: "none".into(),
        target: Target::new("linux", "x86_64"),
        resumed: false,
        held: Vec::new(),
        window,
        status: NodeStatus { slots, ..NodeStatus::default() },
    }
}

fn id(job: u32, number: u32) -> AttemptId {
    AttemptId { job: JobId::new(job, 0), number }
}

fn attempt(job: u32, number: u32) -> Attempt {
    Attempt {
        id: id(job, number),
        program: PROGRAM,
        function: FUNCTION,
        time_limit_ns: 0,
        args: Payload::from(vec![job as u8]),
    }
}

fn run(node: NodeKey, attempts: &[(u32, u32)]) -> Action<Number> {
    Action::Send(node, ToNode::Run(attempts.iter().map(|(job, number)| attempt(*job, *number)).collect()))
}

fn succeeded(job: u32, number: u32) -> Outcome {
    Outcome { id: id(job, number), run_time_ns: 5, ended: Ended::Succeeded(Payload::from(vec![42])) }
}

fn ended(job: u32, number: u32, ended: Ended) -> Outcome {
    Outcome { id: id(job, number), run_time_ns: 0, ended }
}

fn died(job: u32, number: u32) -> Outcome {
    let death = WorkerDeath::new(Death::Signal(11), vec!["last words".into()]);
    ended(job, number, Ended::WorkerDied(Box::new(death)))
}

fn resolve(job: u32, node: Option<NodeKey>, run_time: u64, outcome: JobOutcome) -> Action<Number> {
    let run_time = Duration::from_nanos(run_time);
    let (id, args_bytes) = (JobId::new(job, 0), ARGS_BYTES);
    Action::Resolve(
        Number(job),
        Resolution { outcome, job: id, function: FUNCTION, node, run_time, args_bytes },
    )
}

fn done(job: u32, node: NodeKey) -> Action<Number> {
    resolve(job, Some(node), 5, JobOutcome::Succeeded(Payload::from(vec![42])))
}

#[test]
fn jobs_wait_for_a_node_and_go_out_in_the_order_of_submission() {
    let mut dispatcher = Dispatcher::new();
    assert_eq!(dispatcher.submit(3), []);
    assert_eq!(dispatcher.core.job_status(JobId::new(0, 0)), Some(JobStatus::Queued));
    assert_eq!(dispatcher.connect(A, 2, 2), [run(A, &[(0, 1), (1, 1)])]);
    assert_eq!(dispatcher.core.job_status(JobId::new(0, 0)), Some(JobStatus::AtNode(A)));
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A), run(A, &[(2, 1)])]);
    assert_eq!(dispatcher.outcomes(A, 1, vec![succeeded(1, 1), succeeded(2, 1)]), [done(1, A), done(2, A)]);
    assert_eq!(dispatcher.core.unresolved(), 0);
}

#[test]
fn free_slots_are_filled_before_work_is_sent_ahead() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 8);
    dispatcher.connect(B, 2, 8);
    let actions = dispatcher.submit(5);
    assert_eq!(actions, [run(A, &[(0, 1), (1, 1)]), run(B, &[(2, 1), (3, 1)]), run(A, &[(4, 1)])]);
}

#[test]
fn large_arguments_are_sent_for_slots_that_idle_and_hardly_ahead() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 8);
    let sent = |actions: &[Action<Number>]| {
        let runs = actions.iter().filter_map(|action| match action {
            Action::Send(_, ToNode::Run(attempts)) => Some(attempts.len()),
            _ => None,
        });
        runs.sum::<usize>()
    };
    let of = |bytes: usize, count: usize| {
        (0..count).map(|_| NewJob { args: Payload::from(vec![0; bytes]), ..new_job(0) }).collect()
    };
    let actions = dispatcher.on(Event::Submit(of(6 << 20, 5)));
    assert_eq!(sent(&actions), 4, "two of them are sent ahead");
    assert_eq!(sent(&dispatcher.outcomes(A, 0, vec![succeeded(0, 1)])), 0, "that many are ahead still");
    assert_eq!(sent(&dispatcher.outcomes(A, 1, vec![succeeded(2, 1)])), 1);
    dispatcher.connect(B, 2, 8);
    assert_eq!(sent(&dispatcher.on(Event::Submit(of(40 << 20, 3)))), 2, "none is sent ahead");
    dispatcher.connect(C, 2, 8);
    assert_eq!(sent(&dispatcher.on(Event::Submit(of(1, 9)))), 9, "small ones are sent ahead whatever runs");
}

#[test]
fn a_node_is_sent_no_more_arguments_than_it_has_memory_for() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.find(A);
    let mut welcome = welcome(A, 4, 8);
    welcome.status.memory_total = 40 << 20;
    dispatcher.on(Event::LinkUp(A, Box::new(welcome), Version::V1));
    let large = |bytes: usize| NewJob { args: Payload::from(vec![0; bytes]), ..new_job(0) };
    let sent = dispatcher.on(Event::Submit(vec![large(50 << 20), large(1 << 20)]));
    assert!(matches!(&sent[..], [Action::Send(_, ToNode::Run(attempts))] if attempts.len() == 1));
    let sent = dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]);
    assert!(matches!(&sent[1..], [Action::Send(_, ToNode::Run(attempts))] if attempts.len() == 1));
}

#[test]
fn a_busy_node_is_sent_some_at_once() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 16);
    dispatcher.submit(20);
    let attempts = |dispatcher: &Dispatcher| dispatcher.core.nodes().next().map(|node| node.attempts);
    assert_eq!(attempts(&dispatcher), Some(16));
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)], "one is not worth it");
    let actions = dispatcher.outcomes(A, 1, vec![succeeded(1, 1)]);
    assert_eq!(actions, [done(1, A), run(A, &[(16, 1), (17, 1)])]);
    assert_eq!(attempts(&dispatcher), Some(16));
}

#[test]
fn work_is_sent_ahead_to_the_node_that_is_least_loaded_for_its_size() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 8);
    dispatcher.connect(B, 4, 8);
    let mut to = Vec::new();
    for _ in 0..10 {
        to.extend(dispatcher.submit(1).into_iter().map(|action| match action {
            Action::Send(node, ToNode::Run(attempts)) if attempts.len() == 1 => node,
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(to, [A, B, B, B, B, A, B, B, B, B], "B has four times as many slots");
}

#[test]
fn of_many_nodes_that_hold_too_much_one_to_recall_from_is_looked_for_now_and_then() {
    let is_recall = |action: &Action<Number>| matches!(action, Action::Send(_, ToNode::Recall(_)));
    let recalls = |actions: &[Action<Number>]| actions.iter().filter(|action| is_recall(action)).count();
    for (overfull, at_once) in [(32, 1), (33, 0)] {
        let mut dispatcher = Dispatcher::new();
        for node in (10..10 + overfull).map(NodeKey) {
            dispatcher.connect(node, 1, 2);
        }
        dispatcher.submit(2 * overfull);
        dispatcher.pass(Duration::from_millis(1));
        assert_eq!(recalls(&dispatcher.connect(A, 1, 1)), 1);
        assert_eq!(recalls(&dispatcher.on(Event::Tick)), at_once, "of too many it has only just been done");
        assert_eq!(recalls(&dispatcher.pass(Duration::from_millis(1))), 1 - at_once);
    }
}

#[test]
fn few_jobs_are_spread_over_the_nodes() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 4, 8);
    dispatcher.connect(B, 4, 8);
    assert_eq!(dispatcher.submit(2), [run(A, &[(0, 1)]), run(B, &[(1, 1)])]);
}

/// One job that may be copied runs on A for longer than jobs do there, while B has nothing to do.
fn with_a_copy() -> Dispatcher {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let options = JobOptions { idempotent: true, ..JobOptions::default() };
    let sent = dispatcher.on(Event::Submit(vec![with_options(0, options)]));
    assert_eq!(sent, [run(A, &[(0, 1)])]);
    assert_eq!(dispatcher.connect(B, 1, 1), [], "it has only just been sent");
    dispatcher.now = dispatcher.core.next_deadline().expect("it may become worth a copy");
    let copy = Attempt { args: Payload::from(vec![0]), ..attempt(1, 1) };
    let sent = dispatcher.on(Event::Tick);
    assert_eq!(sent, [Action::Send(B, ToNode::Run(vec![copy]))], "a job of its own with the same arguments");
    assert_eq!(dispatcher.core.unresolved(), 1);
    dispatcher
}

#[test]
fn a_copy_that_is_faster_resolves_the_job_and_the_original_is_cancelled() {
    let mut dispatcher = with_a_copy();
    let cancel = Action::Send(A, ToNode::Cancel(vec![id(0, 1)]));
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(1, 1)]), [done(0, B), cancel]);
    assert_eq!(dispatcher.outcomes(A, 0, vec![ended(0, 1, Ended::Cancelled)]), []);
    assert_eq!((dispatcher.core.unresolved(), dispatcher.core.kept()), (0, 0));
}

#[test]
fn a_copy_that_is_slower_is_cancelled() {
    let mut dispatcher = with_a_copy();
    let cancel = Action::Send(B, ToNode::Cancel(vec![id(1, 1)]));
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A), cancel]);
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(1, 1)]), [], "it was done all the same");
    assert_eq!((dispatcher.core.unresolved(), dispatcher.core.kept()), (0, 0));
}

#[test]
fn a_copy_that_nobody_needs_any_more_is_cancelled_once() {
    let mut dispatcher = with_a_copy();
    let cancel = |node, job| Action::Send(node, ToNode::Cancel(vec![id(job, 1)]));
    assert_eq!(
        dispatcher.on(Event::Cancel(vec![JobId::new(0, 0)])),
        [resolve(0, Some(A), 0, JobOutcome::Cancelled), cancel(A, 0), cancel(B, 1)]
    );
    assert_eq!(
        dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]),
        [],
        "the result overtook the order to cancel"
    );
    assert_eq!(dispatcher.outcomes(B, 0, vec![ended(1, 1, Ended::Cancelled)]), []);
    assert_eq!(dispatcher.core.kept(), 0);
}

#[test]
fn what_becomes_of_a_copy_is_no_failure_of_the_job() {
    let mut dispatcher = with_a_copy();
    assert_eq!(dispatcher.outcomes(B, 0, vec![died(1, 1)]), []);
    assert_eq!(dispatcher.core.unresolved(), 1);
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)]);
    assert_eq!(dispatcher.core.kept(), 0);
}

#[test]
fn a_much_faster_node_gets_a_copy_of_what_does_not_take_long_yet() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    assert_eq!(dispatcher.submit(2), [run(A, &[(0, 1)]), run(B, &[(1, 1)])]);
    let took =
        |job, milliseconds: u64| Outcome { run_time_ns: milliseconds * 1_000_000, ..succeeded(job, 1) };
    dispatcher.outcomes(A, 0, vec![took(0, 100)]);
    dispatcher.outcomes(B, 0, vec![took(1, 60)]);
    let options = JobOptions { idempotent: true, ..JobOptions::default() };
    let sent = dispatcher.on(Event::Submit(vec![with_options(2, options)]));
    assert!(matches!(sent[..], [Action::Send(A, ToNode::Run(_))]), "{sent:?}");
    assert_eq!(dispatcher.pass(Duration::from_millis(19)), []);
    let sent = dispatcher.pass(Duration::from_millis(1));
    assert!(matches!(sent[..], [Action::Send(B, ToNode::Run(_))]), "{sent:?}");
}

#[test]
fn a_job_that_may_not_run_twice_is_not_copied() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    dispatcher.connect(B, 1, 1);
    assert_eq!(dispatcher.pass(Duration::from_secs(2)), []);
}

#[test]
fn a_cancelled_job_is_answered_at_once_and_killed_where_it_runs() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(2);
    let cancelled = |job, node| resolve(job, node, 0, JobOutcome::Cancelled);
    assert_eq!(dispatcher.on(Event::Cancel(vec![JobId::new(1, 0)])), [cancelled(1, None)]);
    assert_eq!(
        dispatcher.on(Event::Cancel(vec![JobId::new(0, 0)])),
        [cancelled(0, Some(A)), Action::Send(A, ToNode::Cancel(vec![id(0, 1)]))]
    );
    assert_eq!(dispatcher.on(Event::Cancel(vec![JobId::new(0, 0)])), [], "once is enough");
    // The result overtook the order to cancel: it has been answered already.
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), []);
    assert_eq!(dispatcher.core.unresolved(), 0);
}

#[test]
fn a_closed_connection_is_redialled_at_once_and_a_refused_dial_is_the_death_of_the_node() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 3);
    dispatcher.submit(3);
    let held = vec![id(0, 1), id(1, 1), id(2, 1)];
    let resume = Resume { node: NodeId(1), outcomes_received: 0, parts_taken: 0, held };
    assert_eq!(dispatcher.on(Event::LinkDown(A)), [Action::Dial(A, Some(resume))]);
    let at = || "host:60000".to_owned();
    let failure = DialFailure::Unreachable(Unreachable::NotListening { at: at() });
    assert_eq!(
        dispatcher.on(Event::DialFailed(A, Box::new(failure))),
        [Action::Report(Report::NodeLost(A, NodeLoss::NotListening { at: at() }, 3))]
    );
    assert_eq!(
        dispatcher.connect(B, 4, 4),
        [run(B, &[(0, 2), (1, 2), (2, 2)])],
        "in front, in the old order"
    );
}

#[test]
fn a_blip_costs_nothing() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 3);
    dispatcher.submit(3);
    dispatcher.on(Event::LinkDown(A));
    // The node has the first two; the third was lost on the way.
    let held = vec![id(0, 1), id(1, 1)];
    let back = Welcome { resumed: true, held, ..welcome(A, 1, 3) };
    assert_eq!(
        dispatcher.on(Event::LinkUp(A, Box::new(back), Version::V1)),
        [Action::Report(Report::NodeConnected(A)), run(A, &[(2, 2)])]
    );
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)]);
}

#[test]
fn a_node_in_use_under_one_address_gives_way_when_it_answers_under_another() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    assert_eq!(dispatcher.find(B), [Action::Dial(B, None)]);
    dispatcher.on(Event::LinkDown(A));
    // The node saw the connection break, and took the other one for a dispatcher that began anew.
    let same = welcome(A, 1, 1);
    let elsewhere = NodeLoss::Refused(Box::new(NodeRefusal::InUseElsewhere));
    assert_eq!(
        dispatcher.on(Event::LinkUp(B, Box::new(same), Version::V1)),
        [
            Action::Close(A),
            Action::Report(Report::NodeLost(A, elsewhere, 1)),
            Action::Report(Report::NodeConnected(B)),
            run(B, &[(0, 2)]),
        ]
    );
    assert_eq!(dispatcher.state(A), NodeState::Refused);
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(0, 2)]), [done(0, B)]);
}

#[test]
fn what_a_node_cancelled_by_itself_is_tried_again() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    let cancelled = ended(0, 1, Ended::Cancelled);
    assert_eq!(dispatcher.outcomes(A, 0, vec![cancelled]), [run(A, &[(0, 2)])]);
}

#[test]
fn a_cancellation_that_a_broken_connection_swallowed_is_sent_again() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 2);
    dispatcher.submit(2);
    dispatcher.on(Event::Cancel(vec![JobId::new(0, 0)]));
    dispatcher.on(Event::LinkDown(A));
    let cancelled = resolve(1, Some(A), 0, JobOutcome::Cancelled);
    assert_eq!(dispatcher.on(Event::Cancel(vec![JobId::new(1, 0)])), [cancelled], "it cannot be sent now");
    let held = vec![id(0, 1), id(1, 1)];
    let back = Welcome { resumed: true, held: held.clone(), ..welcome(A, 2, 2) };
    assert_eq!(
        dispatcher.on(Event::LinkUp(A, Box::new(back), Version::V1)),
        [Action::Report(Report::NodeConnected(A)), Action::Send(A, ToNode::Cancel(held))]
    );
}

#[test]
fn a_copy_survives_a_connection_that_breaks_for_a_moment() {
    let mut dispatcher = with_a_copy();
    dispatcher.on(Event::LinkDown(B));
    let back = Welcome { resumed: true, held: vec![id(1, 1)], ..welcome(B, 1, 1) };
    let connected = Action::Report(Report::NodeConnected(B));
    assert_eq!(
        dispatcher.on(Event::LinkUp(B, Box::new(back), Version::V1)),
        [connected],
        "somebody waits for it"
    );
    let cancel = Action::Send(A, ToNode::Cancel(vec![id(0, 1)]));
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(1, 1)]), [done(0, B), cancel]);
}

#[test]
fn a_copy_that_nobody_needs_any_more_is_cancelled_once_its_node_is_back() {
    let mut dispatcher = with_a_copy();
    dispatcher.on(Event::LinkDown(B));
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)]);
    let back = Welcome { resumed: true, held: vec![id(1, 1)], ..welcome(B, 1, 1) };
    assert_eq!(
        dispatcher.on(Event::LinkUp(B, Box::new(back), Version::V1)),
        [Action::Report(Report::NodeConnected(B)), Action::Send(B, ToNode::Cancel(vec![id(1, 1)]))]
    );
}

#[test]
fn jobs_cancelled_together_are_cancelled_at_their_node_in_one_message() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 2, 2);
    dispatcher.submit(4);
    let all = (0..4).map(|place| JobId::new(place, 0)).collect();
    let sent: Vec<_> =
        dispatcher.on(Event::Cancel(all)).into_iter().filter(|a| matches!(a, Action::Send(..))).collect();
    let attempts = |key| match sent.iter().find(|action| matches!(action, Action::Send(to, _) if *to == key))
    {
        Some(Action::Send(_, ToNode::Cancel(attempts))) => attempts.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((sent.len(), attempts(A), attempts(B)), (2, 1, 2));
}

#[test]
fn identifiers_are_told_of_so_many_jobs_at_once() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.submit(5);
    assert!(!dispatcher.core.announce_ids(2));
    dispatcher.submit(1);
    assert!(!dispatcher.core.announce_ids(2));
    assert!(dispatcher.core.announce_ids(2));
    assert!(dispatcher.core.announce_ids(0), "once is enough");
    assert_eq!(TOLD.take(), BTreeSet::from_iter(0..6));
}

#[test]
fn a_node_that_restarted_has_lost_its_attempts() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    dispatcher.on(Event::LinkDown(A));
    let restarted = Welcome { node: NodeId(99), ..welcome(A, 1, 1) };
    assert_eq!(
        dispatcher.on(Event::LinkUp(A, Box::new(restarted), Version::V1)),
        [
            Action::Report(Report::NodeLost(A, NodeLoss::Restarted, 1)),
            Action::Report(Report::NodeConnected(A)),
            run(A, &[(0, 2)])
        ]
    );
    assert_eq!(
        dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]),
        [],
        "an outcome of the older attempt is dropped"
    );
    assert_eq!(dispatcher.core.late_outcomes(), 1);
    assert_eq!(dispatcher.outcomes(A, 1, vec![succeeded(0, 2)]), [done(0, A)]);
}

#[test]
fn a_node_that_refuses_in_the_midst_of_a_session_or_sends_what_it_may_not_is_left_with_the_reason() {
    let left = |message: FromNode, observer: bool, refusal: NodeRefusal| {
        let mut dispatcher = Dispatcher::new();
        let mut config = DispatcherConfig::new(SessionId(1), 1);
        config.observer = observer;
        dispatcher.core = Core::new(config);
        dispatcher.connect(A, 1, 1);
        let actions = dispatcher.on(Event::Received(A, vec![message]));
        let lost = Action::Report(Report::NodeLost(A, NodeLoss::Refused(Box::new(refusal.clone())), 0));
        assert_eq!(actions, [Action::Close(A), lost, Action::Report(Report::NodeRefused(A, refusal))]);
        assert_eq!(dispatcher.state(A), NodeState::Refused);
    };
    let refusal = Refusal::NotPermitted("Drain came too often".into());
    left(FromNode::Refused(refusal.clone()), false, NodeRefusal::Session(refusal));
    let violation = Violation::Role { message: "Window", role: Role::Operator };
    left(FromNode::Window(1), true, NodeRefusal::Violation(violation));
}

#[test]
fn silence_makes_a_node_suspect_then_lost() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    assert_eq!(dispatcher.pass(Duration::from_millis(3_500)), [Action::Report(Report::NodeSuspected(A))]);
    assert_eq!(dispatcher.state(A), NodeState::Suspect);
    let lost = dispatcher.pass(Duration::from_millis(1_500));
    let silent = NodeLoss::Silent(Duration::from_secs(5));
    assert_eq!(lost, [Action::Close(A), Action::Report(Report::NodeLost(A, silent, 1))]);
    assert_eq!(dispatcher.connect(B, 1, 1), [run(B, &[(0, 2)])]);
}

#[test]
fn a_node_that_is_heard_of_but_does_not_answer_gets_no_new_work() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let mut reports = Vec::new();
    for _ in 0..5 {
        reports.extend(dispatcher.pass(Duration::from_secs(1)));
        dispatcher
            .on(Event::Received(A, vec![FromNode::Status(NodeStatus { slots: 1, ..Default::default() })]));
    }
    assert_eq!(reports, [Action::Report(Report::NodeSuspected(A))]);
    assert_eq!(dispatcher.state(A), NodeState::Suspect);
    assert_eq!(dispatcher.submit(1), [], "what is sent may not arrive there");
    assert_eq!(dispatcher.on(Event::Received(A, vec![FromNode::Pong(1)])), [], "that was long ago");
    let answered = dispatcher.on(Event::Received(A, vec![FromNode::Pong(5)]));
    assert_eq!(answered, [run(A, &[(0, 1)])]);
}

#[test]
fn a_node_that_comes_and_goes_rests_longer_and_longer() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let is_resting = |dispatcher: &Dispatcher| dispatcher.core.nodes().any(|node| node.reason.is_some());
    let rests: Vec<_> = (2..6)
        .map(|life| {
            dispatcher.restart(A, life);
            is_resting(&dispatcher)
        })
        .collect();
    assert_eq!(rests, [false, false, true, true], "two short lives are forgiven");
    assert_eq!(dispatcher.submit(1), [], "it rests");
    assert_eq!(dispatcher.pass(Duration::from_secs(1)), [], "longer than the first time");
    assert_eq!(dispatcher.pass(Duration::from_secs(1)), [run(A, &[(0, 1)])]);
}

#[test]
fn this_sides_own_lateness_is_not_held_against_the_nodes() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.now = Moment(0) + Duration::from_secs(60);
    assert_eq!(dispatcher.on(Event::Tick), []);
    assert_eq!(dispatcher.state(A), NodeState::Connected);
}

#[test]
fn a_configured_node_is_dialled_for_ever_ever_more_slowly() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.find(A);
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(
            dispatcher.on(Event::DialFailed(A, Box::new(DialFailure::Unreachable(Unreachable::NoAddress)))),
            []
        );
        let before = dispatcher.now;
        loop {
            assert_eq!(dispatcher.state(A), NodeState::Unreachable);
            dispatcher.now = dispatcher.core.next_deadline().expect("it will be dialled again");
            if dispatcher.on(Event::Tick) == [Action::Dial(A, None)] {
                break;
            }
        }
        assert_eq!(dispatcher.state(A), NodeState::Unreachable, "until it answers");
        waits.push(dispatcher.now.since(before));
    }
    assert!(waits[0] < Duration::from_millis(300), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(3)), "{waits:?}");
    assert!(waits[7] >= Duration::from_millis(1_500), "{waits:?}");
}

#[test]
fn a_refusal_is_shown_and_tried_again_without_haste() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.find(A);
    let refusal = || NodeRefusal::Session(Refusal::Draining);
    let refused = dispatcher.on(Event::DialFailed(A, Box::new(DialFailure::Refused(refusal()))));
    assert_eq!(refused, [Action::Report(Report::NodeRefused(A, refusal()))]);
    let view = dispatcher.core.nodes().next().expect("the node is listed");
    assert_eq!((view.state, view.reason), (NodeState::Refused, Some(NodeReason::Refused(refusal()))));
    assert_eq!(dispatcher.find(A), [], "further word of it is no reason to dial");
    assert_eq!(dispatcher.pass(Duration::from_secs(6)), [Action::Dial(A, None)]);
}

#[test]
fn a_discovered_node_that_refused_and_went_is_dialled_when_there_is_word_of_it_again() {
    let mut dispatcher = Dispatcher::new();
    let found = Event::NodeFound { node: A, name: "node".into(), kind: NodeKind::Discovered };
    assert_eq!(dispatcher.on(found.clone()), [Action::Dial(A, None)]);
    dispatcher
        .on(Event::DialFailed(A, Box::new(DialFailure::Refused(NodeRefusal::Session(Refusal::Draining)))));
    assert_eq!(dispatcher.on(Event::NodeGone(A)), []);
    assert_eq!(dispatcher.pass(Duration::from_secs(60)), []);
    assert_eq!(dispatcher.on(found), [Action::Dial(A, None)]);
}

#[test]
fn a_node_is_forgotten_unless_it_has_ever_been_in_session() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.find(A);
    dispatcher.on(Event::DialFailed(A, Box::new(DialFailure::Unreachable(Unreachable::NoAddress))));
    assert_eq!(dispatcher.on(Event::NodeForgotten(A)), []);
    assert_eq!(dispatcher.core.nodes().count(), 0);
    assert_eq!(dispatcher.pass(Duration::from_secs(60)), [], "it is not dialled again");
    assert_eq!(
        dispatcher.on(Event::DialFailed(A, Box::new(DialFailure::Unreachable(Unreachable::NoAddress)))),
        []
    );
    dispatcher.connect(A, 1, 1);
    dispatcher.on(Event::NodeForgotten(A));
    assert_eq!(dispatcher.state(A), NodeState::Connected);
}

#[test]
fn a_job_that_always_kills_its_worker_is_lost_with_its_history() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    let death = WorkerDeath::new(Death::Signal(11), vec!["last words".into()]);
    let cause = FailureCause::WorkerDied(Box::new(death));
    let failure = |attempt| Failure { attempt, node: "host 1".into(), cause: cause.clone() };
    assert_eq!(
        failure(1).to_string(),
        "attempt 1 on host 1: its worker was killed by signal 11 (SIGSEGV); it last wrote: last words"
    );
    for number in 1..=2 {
        let retried = Action::Report(Report::JobRetried(JobId::new(0, 0), failure(number)));
        let first = u64::from(number) - 1;
        assert_eq!(
            dispatcher.outcomes(A, first, vec![died(0, number)]),
            [retried, run(A, &[(0, number + 1)])]
        );
    }
    let history = vec![failure(1), failure(2), failure(3)];
    assert_eq!(
        dispatcher.outcomes(A, 2, vec![died(0, 3)]),
        [resolve(0, Some(A), 0, JobOutcome::Lost(history))]
    );
}

#[test]
fn a_job_is_not_retried_where_it_just_failed_while_another_node_will_do() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    assert_eq!(dispatcher.submit(3), [run(A, &[(0, 1)]), run(B, &[(1, 1)])]);
    let actions = dispatcher.outcomes(A, 0, vec![died(0, 1)]);
    assert_eq!(actions[1..], [run(A, &[(2, 1)])], "the failed job waits for the other node");
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(1, 1)]), [done(1, B), run(B, &[(0, 2)])]);
}

#[test]
fn a_failed_job_does_not_wait_for_a_node_that_rests_or_prepares() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(B, 1, 1);
    (2..6).for_each(|life| dispatcher.restart(B, life));
    dispatcher.connect(A, 1, 1);
    assert_eq!(dispatcher.submit(1), [run(A, &[(0, 1)])]);
    assert_eq!(dispatcher.outcomes(A, 0, vec![died(0, 1)])[1..], [run(A, &[(0, 2)])]);
    dispatcher.pass(Duration::from_secs(2));
    dispatcher.on(Event::Received(B, vec![FromNode::Window(0)]));
    assert_eq!(dispatcher.outcomes(A, 1, vec![died(0, 2)])[1..], [run(A, &[(0, 3)])]);
}

#[test]
fn only_what_can_have_been_running_is_charged_for_a_lost_node() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.submit(3);
    let mut failures = 0;
    for life in 0..3 {
        if life == 0 {
            dispatcher.connect(A, 1, 3);
        } else {
            dispatcher.pass(Duration::from_secs(1));
            let again = Welcome { node: NodeId(100 + life), ..welcome(A, 1, 3) };
            dispatcher.on(Event::LinkUp(A, Box::new(again), Version::V1));
        }
        dispatcher.on(Event::LinkDown(A));
        let actions = dispatcher.on(Event::DialFailed(
            A,
            Box::new(DialFailure::Unreachable(Unreachable::NotListening { at: "host:60000".into() })),
        ));
        failures += actions.iter().filter(|action| matches!(action, Action::Resolve(Number(0), _))).count();
        assert!(
            !actions.iter().any(|action| matches!(action, Action::Resolve(Number(1 | 2), _))),
            "{actions:?}"
        );
    }
    assert_eq!(failures, 1, "the one that was there three times is held for poison");
}

#[test]
fn a_node_that_only_gave_up_the_session_charges_nobody() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    for number in 2..7 {
        dispatcher.on(Event::LinkDown(A));
        let actions = dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1));
        let lost = Report::NodeLost(A, NodeLoss::SessionGivenUp, 1);
        let connected = Action::Report(Report::NodeConnected(A));
        assert_eq!(actions, [Action::Report(lost), connected, run(A, &[(0, number)])]);
    }
    assert_eq!(dispatcher.core.job(JobId::new(0, 0)).map(|job| job.failures.len()), Some(0));
}

#[test]
fn trouble_of_a_node_is_reported_when_it_begins_and_shown_while_it_lasts() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let short_of = |what: &str| WorkerShortage::new(0, 1, what);
    let mut receive = |shortage: Option<&str>| {
        let actions = dispatcher.on(Event::Received(A, vec![FromNode::Trouble(shortage.map(short_of))]));
        let reason = dispatcher.core.nodes().next().and_then(|view| view.reason);
        (actions, reason)
    };
    let trouble = |what: &str| NodeTrouble::Workers(short_of(what));
    let report = |what: &str| vec![Action::Report(Report::NodeTroubled(A, trouble(what)))];
    let shown = |what: &str| Some(NodeReason::Troubled(trouble(what)));
    assert_eq!(receive(Some("memory")), (report("memory"), shown("memory")));
    assert_eq!(receive(Some("memory")), (vec![], shown("memory")), "that is known");
    assert_eq!(receive(Some("processes")), (report("processes"), shown("processes")));
    assert_eq!(receive(None), (vec![], None));
    assert_eq!(receive(Some("memory")).0, report("memory"));
}

#[test]
fn panics_are_outcomes_unless_they_are_to_be_retried() {
    let panic = || Box::new(Panic::new("oops"));
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    assert_eq!(
        dispatcher.outcomes(A, 0, vec![ended(0, 1, Ended::Panicked(panic()))]),
        [resolve(0, Some(A), 0, JobOutcome::Panicked(panic()))]
    );
    let options = JobOptions { retry_panics: true, max_attempts: Some(2), ..JobOptions::default() };
    dispatcher.on(Event::Submit(vec![with_options(9, options)]));
    let again = AttemptId { job: JobId::new(0, 1), number: 1 };
    let panicked = |number| Outcome {
        id: AttemptId { number, ..again },
        run_time_ns: 0,
        ended: Ended::Panicked(panic()),
    };
    let retried = dispatcher.outcomes(A, 1, vec![panicked(1)]);
    assert!(matches!(retried[..], [Action::Report(Report::JobRetried(..)), Action::Send(A, ToNode::Run(_))]));
    let last = dispatcher.outcomes(A, 2, vec![panicked(2)]);
    assert!(matches!(&last[..], [Action::Resolve(Number(9), resolution)]
        if resolution.outcome == JobOutcome::Panicked(panic())));
}

#[test]
fn attempts_that_ran_count_for_their_node_whatever_they_came_to() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 4);
    dispatcher.submit(4);
    let ran = |job, end: Ended| Outcome { run_time_ns: 7, ..ended(job, 1, end) };
    let ends = [Ended::TimedOut, Ended::Succeeded(Payload::default()), Ended::Returned, Ended::Cancelled];
    let outcomes = (0..).zip(ends).map(|(job, end)| ran(job, end)).collect();
    dispatcher.outcomes(A, 0, outcomes);
    let view = dispatcher.core.nodes().next().expect("the node is listed");
    assert_eq!((view.jobs, view.run_time), (2, Duration::from_nanos(14)), "two did not run");
}

#[test]
fn higher_priority_goes_first() {
    let mut dispatcher = Dispatcher::new();
    let urgent = JobOptions { priority: 1, ..JobOptions::default() };
    dispatcher.on(Event::Submit(vec![new_job(0), with_options(1, urgent)]));
    assert_eq!(dispatcher.connect(A, 2, 2), [run(A, &[(1, 1), (0, 1)])]);
}

#[test]
fn what_waits_at_a_busy_node_is_asked_back_when_another_idles() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 4);
    dispatcher.submit(4);
    assert_eq!(dispatcher.connect(B, 1, 4), [Action::Send(A, ToNode::Recall(vec![id(3, 1)]))]);
    let returned = dispatcher.outcomes(A, 0, vec![ended(3, 1, Ended::Returned)]);
    assert_eq!(returned, [run(B, &[(3, 2)])]);
}

#[test]
fn a_node_that_has_not_answered_a_recall_is_asked_again_after_a_while() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 4);
    dispatcher.submit(4);
    assert_eq!(dispatcher.connect(B, 1, 1), [Action::Send(A, ToNode::Recall(vec![id(3, 1)]))]);
    assert_eq!(dispatcher.connect(C, 1, 1), [], "the answer may be on its way");
    dispatcher.now = dispatcher.now + Duration::from_millis(100);
    let again = dispatcher.on(Event::Tick);
    assert!(matches!(&again[..], [Action::Send(A, ToNode::Recall(_))]), "{again:?}");
}

#[test]
fn jobs_of_a_dispatcher_that_only_observes_fail_at_once() {
    let config = DispatcherConfig { observer: true, ..DispatcherConfig::new(SessionId(1), 1) };
    let mut dispatcher = Dispatcher { core: Core::new(config), ..Dispatcher::new() };
    let failed = dispatcher.submit(1);
    assert!(
        matches!(&failed[..], [Action::Resolve(_, resolution)]
        if matches!(resolution.outcome, JobOutcome::Lost(_))),
        "{failed:?}"
    );
}

#[test]
fn jobs_that_can_run_nowhere_fail_some_at_a_time_until_none_is_left() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.on(Event::NodeFound { node: A, name: "local".into(), kind: NodeKind::Local });
    dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 0, 0)), Version::V1));
    dispatcher.submit(20_000);
    let refusal = ProgramRefusal::DoesNotStart { reason: "no init".into(), stderr: Vec::new() };
    let first =
        dispatcher.on(Event::Received(A, vec![FromNode::Program(PROGRAM, ProgramStatus::Refused(refusal))]));
    assert!(first.len() < 10_000, "nobody else waits for all of them");
    let mut turns = 1;
    while dispatcher.core.unresolved() > 0 {
        assert!(dispatcher.core.next_deadline() <= Some(dispatcher.now), "the rest is due at once");
        dispatcher.on(Event::Tick);
        turns += 1;
    }
    assert_eq!(turns, 3);
    assert!(dispatcher.core.next_deadline() > Some(dispatcher.now), "nothing more is to be done at once");
}

/// Jobs of a function that has not run yet.
fn jobs_of_another_function(count: u32) -> Event<Number> {
    Event::Submit((0..count).map(|_| NewJob { function: FunctionId(8), ..new_job(99) }).collect())
}

#[test]
fn a_window_measured_with_short_jobs_is_not_filled_with_others() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 2);
    dispatcher.submit(1);
    let window = vec![FromNode::Outcomes(0, vec![succeeded(0, 1)]), FromNode::Window(1_000)];
    dispatcher.on(Event::Received(A, window));
    let at_a = |dispatcher: &Dispatcher| dispatcher.core.nodes().map(|view| view.attempts).sum::<usize>();
    dispatcher.on(jobs_of_another_function(100));
    assert_eq!(at_a(&dispatcher), 2, "nobody knows how long these run");
    let first = ended(0, 1, Ended::Succeeded(Payload::default()));
    let first = Outcome { id: AttemptId { job: JobId::new(0, 1), number: 1 }, ..first };
    dispatcher.outcomes(A, 1, vec![Outcome { run_time_ns: 30_000_000_000, ..first }]);
    assert_eq!(at_a(&dispatcher), 2, "they run for long");
    // A node that is free takes what is short again.
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 2);
    dispatcher.submit(1);
    dispatcher
        .on(Event::Received(A, vec![FromNode::Outcomes(0, vec![succeeded(0, 1)]), FromNode::Window(50)]));
    dispatcher.submit(100);
    assert_eq!(at_a(&dispatcher), 50, "they are as short as those before");
}

#[test]
fn work_behind_attempts_that_turn_out_long_is_asked_back() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    dispatcher
        .on(Event::Received(A, vec![FromNode::Outcomes(0, vec![succeeded(0, 1)]), FromNode::Window(50)]));
    dispatcher.submit(50);
    assert_eq!(dispatcher.connect(B, 1, 1), [], "it takes no time, as far as is known");
    let asked = dispatcher.pass(Duration::from_secs(1));
    assert!(matches!(asked[..], [Action::Send(A, ToNode::Recall(_)), ..]), "{asked:?}");
}

#[test]
fn time_without_work_is_no_time_that_attempts_take() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    dispatcher
        .on(Event::Received(A, vec![FromNode::Outcomes(0, vec![succeeded(0, 1)]), FromNode::Window(50)]));
    dispatcher.pass(Duration::from_secs(1));
    dispatcher.submit(50);
    assert_eq!(dispatcher.connect(B, 1, 1), [], "they have only just been sent");
}

#[test]
fn a_program_that_does_not_start_at_home_starts_nowhere() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.on(Event::NodeFound { node: A, name: "local".into(), kind: NodeKind::Local });
    dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1));
    dispatcher.submit(1);
    let refusal = ProgramRefusal::DoesNotStart { reason: "no init".into(), stderr: Vec::new() };
    let cause = FailureCause::ProgramRefused(Box::new(refusal.clone()));
    dispatcher.on(Event::Received(A, vec![FromNode::Program(PROGRAM, ProgramStatus::Refused(refusal))]));
    let failure = Failure { attempt: 0, node: "local".into(), cause };
    assert_eq!(
        dispatcher.outcomes(A, 0, vec![ended(0, 1, Ended::Returned)]),
        [resolve(0, None, 0, JobOutcome::Lost(vec![failure.clone()]))]
    );
    let later = dispatcher.submit(1);
    assert!(matches!(&later[..], [Action::Resolve(_, resolution)]
        if resolution.outcome == JobOutcome::Lost(vec![failure])));
}

#[test]
fn jobs_that_wait_without_any_node_are_reported() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.submit(2);
    assert_eq!(dispatcher.pass(Duration::from_secs(20)), [Action::Report(Report::Stalled(2))]);
}

#[test]
fn a_node_is_told_how_much_of_what_its_jobs_print_has_arrived() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let line = OutputLine { attempt: None, stream: Stream::Stdout, text: "x".repeat(OUTPUT_BYTES_TOLD / 2) };
    let printed = Action::Report(Report::Printed(A, vec![line.clone()]));
    let arrives = || Event::Received(A, vec![FromNode::Output(vec![line.clone()])]);
    assert_eq!(dispatcher.on(arrives()), std::slice::from_ref(&printed));
    let told = Action::Send(A, ToNode::OutputReceived(2 * line.weight() as u64));
    assert_eq!(dispatcher.on(arrives()), [told, printed.clone()]);
    assert_eq!(dispatcher.on(arrives()), [printed]);
}

#[test]
fn shutting_down_resolves_everything_and_says_goodbye() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(2);
    let actions = dispatcher.on(Event::Shutdown);
    let cancelled = |job, node| resolve(job, node, 0, JobOutcome::Cancelled);
    assert_eq!(actions, [Action::Send(A, ToNode::Goodbye), cancelled(0, Some(A)), cancelled(1, None)]);
    assert_eq!(dispatcher.core.unresolved(), 0);
}

const FIRST: ProgramId = ProgramId::FIRST;
const SECOND: ProgramId = ProgramId(2);

impl Dispatcher {
    fn told(&mut self, node: NodeKey, program: ProgramId, status: ProgramStatus) -> Vec<Action<Number>> {
        self.on(Event::Received(node, vec![FromNode::Program(program, status)]))
    }

    fn submit_of(&mut self, programs: &[ProgramId]) -> Vec<Action<Number>> {
        let numbered = (self.submitted..).zip(programs);
        let jobs = numbered.map(|(n, program)| NewJob { program: *program, ..new_job(n) }).collect();
        self.submitted += programs.len() as u32;
        self.on(Event::Submit(jobs))
    }
}

/// The programs of what a node is sent, in order.
fn sent_to(node: NodeKey, actions: &[Action<Number>]) -> Vec<ProgramId> {
    let run = actions.iter().filter_map(|action| match action {
        Action::Send(key, ToNode::Run(attempts)) if *key == node => Some(attempts),
        _ => None,
    });
    run.flatten().map(|attempt| attempt.program).collect()
}

fn refused() -> ProgramStatus {
    ProgramStatus::Refused(ProgramRefusal::NotStored("the disk is full".into()))
}

#[test]
fn a_node_runs_the_programs_it_can_and_others_run_the_rest() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    for node in [A, B] {
        dispatcher.connect(node, 2, 8);
        dispatcher.told(node, FIRST, ProgramStatus::Ready);
    }
    let told = dispatcher.told(A, SECOND, refused());
    assert!(matches!(told[..], [Action::Report(Report::ProgramRefused(A, SECOND, _))]), "{told:?}");
    assert_eq!(dispatcher.told(A, SECOND, refused()), [], "it is no news");
    assert_eq!(dispatcher.state(A), NodeState::Connected, "it runs the other one");
    assert_eq!(dispatcher.submit_of(&[SECOND]), [], "the other node has not got it yet");
    let sent = dispatcher.submit_of(&[FIRST, ProgramId::BUILT_IN]);
    assert_eq!([A, B].map(|node| sent_to(node, &sent).len()), [1, 1], "{sent:?}");
    let sent = dispatcher.told(B, SECOND, ProgramStatus::Ready);
    assert_eq!(sent_to(B, &sent), [SECOND]);
    let sent = dispatcher.submit_of(&[SECOND; 4]);
    assert_eq!((sent_to(A, &sent), sent_to(B, &sent)), (vec![], vec![SECOND; 4]));
}

#[test]
fn programs_take_turns_however_many_jobs_of_one_of_them_wait() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    dispatcher.submit_of(&[FIRST; 100]);
    dispatcher.submit_of(&[SECOND; 2]);
    dispatcher.connect(A, 2, 2);
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    dispatcher.told(A, SECOND, ProgramStatus::Ready);
    let mut order = Vec::new();
    for n in 0..3 {
        let sent = dispatcher.outcomes(A, n, vec![ended(n as u32, 1, Ended::Succeeded(Payload::default()))]);
        order.extend(sent_to(A, &sent));
    }
    assert_eq!(order, [SECOND, FIRST, SECOND]);
}

#[test]
fn a_program_in_trouble_is_sent_elsewhere_until_its_time_comes() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    dispatcher.connect(A, 2, 8);
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    let troubled = |retried| ProgramStatus::Troubled { reason: "no memory".into(), retried };
    let told = dispatcher.told(A, FIRST, troubled(false));
    assert_eq!(told, [Action::Report(Report::NodeTroubled(A, NodeTrouble::Program("no memory".into())))]);
    assert_eq!(dispatcher.state(A), NodeState::Preparing);
    assert_eq!(dispatcher.submit_of(&[FIRST]), []);
    let sent = dispatcher.told(A, FIRST, troubled(true));
    assert_eq!((sent.len(), sent_to(A, &sent)), (1, vec![FIRST]), "one more try, and no news of it");
}

#[test]
fn what_waits_at_a_busy_node_is_asked_back_only_for_one_that_runs_it() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    dispatcher.connect(A, 1, 64);
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    dispatcher.submit_of(&[FIRST; 8]);
    dispatcher.connect(B, 1, 64);
    let asked = dispatcher.pass(Duration::from_millis(900));
    assert!(!asked.iter().any(|action| matches!(action, Action::Send(_, ToNode::Recall(_)))), "{asked:?}");
    let asked = dispatcher.told(B, FIRST, ProgramStatus::Ready);
    assert!(matches!(&asked[..], [Action::Send(A, ToNode::Recall(ids))] if ids.len() == 1), "{asked:?}");
}

#[test]
fn jobs_of_a_program_that_no_node_runs_are_told_as_stalled_whatever_else_runs() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    dispatcher.connect(A, 1, 1);
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    dispatcher.told(A, SECOND, refused());
    dispatcher.submit_of(&[FIRST, SECOND, SECOND]);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.extend(dispatcher.pass(Duration::from_secs(1)));
        dispatcher.on(Event::Received(A, Vec::new()));
    }
    let stalled = |action: &Action<Number>| matches!(action, Action::Report(Report::Stalled(2)));
    assert_eq!(told.iter().filter(|action| stalled(action)).count(), 1, "{told:?}");
}

#[test]
fn jobs_of_a_program_that_is_offered_to_nobody_fail_at_once_and_say_so() {
    let mut dispatcher = Dispatcher::offering(&[SECOND]);
    dispatcher.connect(A, 2, 8);
    dispatcher.told(A, SECOND, ProgramStatus::Ready);
    let told = dispatcher.submit_of(&[FIRST, SECOND, FIRST]);
    let lost = |action: &&Action<Number>| match action {
        Action::Resolve(_, Resolution { outcome: JobOutcome::Lost(failures), .. }) => {
            failures.iter().all(|failure| failure.cause == FailureCause::NotOffered)
        }
        _ => false,
    };
    assert_eq!((told.iter().filter(lost).count(), sent_to(A, &told)), (2, vec![SECOND]), "{told:?}");
}
