//! Sharing of work: the part of what waits that each node is given, and what is taken back from it.

use super::*;
use pp_protocol::limits::LARGE_ARGS_BYTES;

use crate::core::job::{Job, Owner};
use crate::core::jobs::Jobs;
use crate::core::session::Session;

const MILLISECOND: u64 = 1_000_000;

/// The numbers of attempts that nodes are sent, in order.
fn counts(actions: &[Action<Number>]) -> Vec<(NodeKey, usize)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(node, ToNode::Run(attempts)) => Some((*node, attempts.len())),
        _ => None,
    });
    sent.collect()
}

fn is_recall(action: &Action<Number>) -> bool {
    matches!(action, Action::Send(_, ToNode::Recall(_)))
}

#[test]
fn busy_nodes_are_sent_an_eighth_of_their_room_in_turns() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 101);
    dispatcher.connect(B, 1, 101);
    dispatcher.submit(2);
    assert_eq!(counts(&dispatcher.submit(40)), [(A, 12), (B, 12), (A, 11), (B, 5)]);
}

#[test]
fn what_waits_for_a_busy_node_does_not_keep_others_from_what_they_run() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, SECOND]);
    dispatcher.connect(A, 1, 8);
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    dispatcher.told(A, SECOND, ProgramStatus::Ready);
    dispatcher.submit_of(&[FIRST; 8]);
    dispatcher.submit_of(&[SECOND]);
    dispatcher.connect(B, 1, 8);
    dispatcher.told(B, SECOND, refused());
    dispatcher.pass(Duration::from_millis(100));
    let asked = dispatcher.told(B, FIRST, ProgramStatus::Ready);
    assert!(matches!(&asked[..], [Action::Send(A, ToNode::Recall(_))]), "{asked:?}");
}

#[test]
fn nothing_is_asked_back_while_jobs_wait_that_an_idle_node_takes() {
    // B has a free slot, and its arguments are too many for what is next.
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 8);
    dispatcher.submit(8);
    dispatcher.find(B);
    let mut small = welcome(B, 2, 2);
    small.status.memory_total = 1 << 20;
    dispatcher.on(Event::LinkUp(B, Box::new(small), Version::V1));
    let large = || NewJob { args: Payload::from(vec![0; 1 << 20]), ..new_job(0) };
    let actions = dispatcher.on(Event::Submit(vec![large(), large()]));
    assert_eq!((counts(&actions), actions.iter().any(is_recall)), (vec![(B, 1)], false), "{actions:?}");
}

#[test]
fn so_many_nodes_are_looked_at_for_what_is_first_in_the_queue() {
    for (small, sent) in [(63, 1), (64, 0)] {
        let mut dispatcher = Dispatcher::new();
        let nodes = (10..=10 + small).map(NodeKey);
        for node in nodes {
            dispatcher.find(node);
            let mut welcome = welcome(node, 1, 2);
            welcome.status.memory_total = if node.0 == 10 + small { 1 << 30 } else { 4 << 20 };
            dispatcher.on(Event::LinkUp(node, Box::new(welcome), Version::V1));
        }
        let large = |bytes| NewJob { args: Payload::from(vec![0; bytes]), ..new_job(0) };
        let each = dispatcher.on(Event::Submit((0..=small).map(|_| large(LARGE_ARGS_BYTES)).collect()));
        assert_eq!(counts(&each).len(), small as usize + 1, "each of them runs one");
        assert_eq!(counts(&dispatcher.on(Event::Submit(vec![large(1 << 20)]))).len(), sent, "{small}");
    }
}

#[test]
fn a_node_that_is_hardly_faster_gets_a_copy_of_what_takes_longer_than_usual() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    dispatcher.submit(2);
    let took = |job, milliseconds| Outcome { run_time_ns: milliseconds * MILLISECOND, ..succeeded(job, 1) };
    dispatcher.outcomes(A, 0, vec![took(0, 100)]);
    dispatcher.outcomes(B, 0, vec![took(1, 67)]);
    let options = JobOptions { idempotent: true, ..JobOptions::default() };
    assert_eq!(counts(&dispatcher.on(Event::Submit(vec![with_options(2, options)]))), [(A, 1)]);
    assert_eq!(counts(&dispatcher.pass(Duration::from_millis(99))), []);
    assert_eq!(counts(&dispatcher.pass(Duration::from_millis(1))), [(B, 1)]);
}

/// A session with a node of this memory, at which jobs with arguments of these sizes are.
fn session(memory_total: u64, slots: u32, args: &[usize]) -> (Session, NodeStatus, Jobs<Number>) {
    let mut session = Session::new(Moment(0), &welcome(A, slots, 10), Version::V1, &BTreeSet::new());
    let mut jobs = Jobs::default();
    for bytes in args {
        let args = Payload::from(vec![0; *bytes]);
        let id = jobs.insert(Job::new(Owner::Submitter(Number(0)), FUNCTION, args, None));
        session.take_on(A, slots, id, jobs.find_mut(id).expect("it was inserted"));
    }
    (session, NodeStatus { slots, memory_total, ..NodeStatus::default() }, jobs)
}

#[test]
fn large_arguments_have_room_in_a_quarter_of_a_nodes_memory_and_small_ones_always() {
    let quarter = 1 << 20;
    let (session, status, _jobs) = session(4 * quarter as u64, 4, &[quarter - LARGE_ARGS_BYTES]);
    let fits = |bytes| session.has_room_for(bytes, &status);
    assert_eq!([LARGE_ARGS_BYTES - 1, LARGE_ARGS_BYTES, LARGE_ARGS_BYTES + 1].map(fits), [true, true, false]);
    let (session, status, _jobs) = self::session(4 * quarter as u64, 4, &[quarter]);
    let fits = |bytes| session.has_room_for(bytes, &status);
    assert_eq!([1, LARGE_ARGS_BYTES - 1, LARGE_ARGS_BYTES].map(fits), [true, true, false]);
    let (session, status, _jobs) = self::session(4 * quarter as u64, 4, &[]);
    assert!(session.has_room_for(8 * quarter, &status), "what fits nowhere is tried one by one");
}

#[test]
fn fewer_are_sent_ahead_of_a_function_that_runs_longer_than_those_a_window_was_granted_for() {
    let (mut session, ..) = session(0, 2, &[]);
    session.run_times.learn(FUNCTION, 1_000);
    session.grant(10);
    session.run_times.learn(FunctionId(8), 4_000);
    session.run_times.learn(FunctionId(9), 1_000_000);
    let windows = [7, 8, 9, 10].map(|function| session.window_for(FunctionId(function), 2));
    assert_eq!(windows, [10, 4, 2, 2], "as long, four times as long, very long, nobody knows");
}

#[test]
fn a_backlog_is_what_the_attempts_beyond_the_slots_take_or_longer_if_none_has_ended_for_longer() {
    let (mut session, ..) = session(0, 2, &[1; 6]);
    let at = |milliseconds| Moment(milliseconds * MILLISECOND);
    assert_eq!(session.backlog(at(0), 2), None, "nobody knows");
    session.run_times.learn(FUNCTION, 3 * MILLISECOND);
    let milliseconds = |milliseconds| Some(Duration::from_millis(milliseconds));
    assert_eq!(session.backlog(at(1), 2), milliseconds(4 * 3 / 2));
    assert_eq!(session.backlog(at(10), 2), milliseconds(4 * 10 / 2));
    session.progress(at(9));
    assert_eq!(session.backlog(at(10), 2), milliseconds(4 * 3 / 2));
}

/// A dispatcher of which so many jobs run at each node.
fn limited(jobs_per_node: JobsPerNode) -> Dispatcher {
    let jobs_per_node = Some(jobs_per_node);
    Dispatcher::with(DispatcherConfig { jobs_per_node, ..DispatcherConfig::new(SessionId(1), 1) })
}

#[test]
fn a_node_with_more_slots_than_jobs_may_take_is_sent_so_many_and_none_ahead() {
    let mut dispatcher = limited(JobsPerNode::Exactly(2));
    dispatcher.connect(A, 4, 40);
    assert_eq!(counts(&dispatcher.submit(9)), [(A, 2)]);
    let actions = dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]);
    assert_eq!(counts(&actions), [(A, 1)]);
    let wider = dispatcher.on(Event::Received(A, vec![FromNode::Window(80)]));
    assert_eq!(counts(&wider), []);
    let view = dispatcher.core.nodes().next().expect("it is known");
    assert_eq!((view.own_slots, view.status.slots, view.window), (4, 2, 2));
}

#[test]
fn a_limit_beyond_a_nodes_slots_changes_nothing_there() {
    let mut dispatcher = limited(JobsPerNode::Exactly(4));
    dispatcher.connect(A, 4, 40);
    assert_eq!(counts(&dispatcher.submit(80)), [(A, 40)]);
}

#[test]
fn a_limit_that_depends_on_processors_follows_them_and_the_slots() {
    let mut dispatcher = limited(JobsPerNode::Percent(50.0));
    dispatcher.find(A);
    let mut welcome = welcome(A, 4, 40);
    welcome.status.cpus = 4;
    let status = welcome.status;
    dispatcher.on(Event::LinkUp(A, Box::new(welcome), Version::V1));
    assert_eq!(counts(&dispatcher.submit(90)), [(A, 2)]);
    let tell = |dispatcher: &mut Dispatcher, status| {
        counts(&dispatcher.on(Event::Received(A, vec![FromNode::Status(status)])))
    };
    assert_eq!(tell(&mut dispatcher, NodeStatus { cpus: 6, ..status }), [(A, 1)]);
    assert_eq!(tell(&mut dispatcher, NodeStatus { slots: 3, cpus: 6, ..status }), [(A, 37)]);
    assert_eq!(tell(&mut dispatcher, status), []);
}

#[test]
fn jobs_for_one_node_count_for_its_limit() {
    let mut dispatcher = limited(JobsPerNode::Exactly(1));
    dispatcher.connect(A, 4, 40);
    let options = JobOptions { node: Some(NodeId(A.0.into())), ..JobOptions::default() };
    let jobs = (0..3).map(|number| with_options(number, options.clone())).collect();
    assert_eq!(counts(&dispatcher.on(Event::Submit(jobs))), [(A, 1)]);
    assert_eq!(counts(&dispatcher.submit(3)), []);
}
