//! Jobs for one node: they run there or nowhere.

use super::*;

const FIRST: ProgramId = ProgramId::FIRST;

/// For the first life of this node.
fn job_for(number: u32, node: NodeKey) -> NewJob<Number> {
    with_options(number, JobOptions { node: Some(life(node)), ..JobOptions::default() })
}

fn life(node: NodeKey) -> NodeId {
    NodeId(node.0.into())
}

fn submit_for(dispatcher: &mut Dispatcher, node: NodeKey, count: u32) -> Vec<Action<Number>> {
    let first = dispatcher.submitted;
    dispatcher.submitted += count;
    let jobs = (first..first + count).map(|number| job_for(number, node)).collect();
    dispatcher.on(Event::Submit(jobs))
}

/// The outcomes of jobs that ended without a result, as people read them.
fn lost(actions: &[Action<Number>]) -> Vec<(u32, String)> {
    let ended = actions.iter().filter_map(|action| match action {
        Action::Resolve(Number(job), Resolution { outcome: JobOutcome::Lost(history), .. }) => {
            Some((*job, history.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        }
        _ => None,
    });
    ended.collect()
}

const GONE: &str = "the job was for this node only, which is gone";

#[test]
fn a_job_for_one_node_waits_for_it_while_others_idle() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 4, 4);
    assert_eq!(submit_for(&mut dispatcher, A, 3), [run(A, &[(0, 1)])]);
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A), run(A, &[(1, 1)])]);
    assert_eq!(dispatcher.pass(Duration::from_secs(2)), [], "nothing is asked back, and nothing is copied");
    assert_eq!(dispatcher.on(Event::Cancel(vec![JobId::new(2, 0)])).len(), 1);
    assert_eq!(dispatcher.outcomes(A, 1, vec![succeeded(1, 1)]), [done(1, A)]);
}

#[test]
fn what_a_node_was_sent_for_itself_is_not_asked_back_for_others() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 8);
    submit_for(&mut dispatcher, A, 4);
    dispatcher.submit(4);
    let asked = dispatcher.connect(B, 4, 4);
    let Some(Action::Send(A, ToNode::Recall(attempts))) = asked.last() else { panic!("{asked:?}") };
    assert!(attempts.iter().all(|id| id.job.place() >= 4), "{attempts:?}");
}

#[test]
fn a_job_for_one_node_is_never_copied() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    let options = JobOptions { node: Some(life(A)), idempotent: true, ..JobOptions::default() };
    assert_eq!(dispatcher.on(Event::Submit(vec![with_options(0, options)])), [run(A, &[(0, 1)])]);
    dispatcher.outcomes(A, 0, vec![]);
    assert_eq!(dispatcher.pass(Duration::from_secs(2)), []);
}

#[test]
fn a_node_that_is_lost_takes_its_own_jobs_with_it_and_leaves_the_others() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 2);
    submit_for(&mut dispatcher, A, 3);
    dispatcher.connect(B, 1, 2);
    dispatcher.submit(1);
    dispatcher.on(Event::LinkDown(A));
    let gone = DialFailure::Unreachable(Unreachable::NotListening { at: "there".into() });
    let actions = dispatcher.on(Event::DialFailed(A, Box::new(gone)));
    let why = "no ppserver listens there (there)";
    let ran = format!("attempt 1 on host 1: the node was lost while the job may have been running: {why}");
    let waited = format!("on host 1: {GONE}: {why}");
    assert_eq!(lost(&actions), [(0, ran), (1, waited.clone()), (2, waited)]);
    assert_eq!(dispatcher.core.unresolved(), 1);
}

#[test]
fn another_life_of_the_node_is_another_node() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    submit_for(&mut dispatcher, A, 2);
    dispatcher.pass(Duration::from_secs(2));
    dispatcher.on(Event::LinkDown(A));
    let restarted = Welcome { node: NodeId(1_000), ..welcome(A, 1, 1) };
    let actions = dispatcher.on(Event::LinkUp(A, Box::new(restarted), Version::V1));
    assert_eq!(lost(&actions)[1], (1, format!("on host 1: {GONE}: it restarted")));
    let actions = submit_for(&mut dispatcher, A, 1);
    let unknown = lost(&actions).pop().expect("it cannot run").1;
    assert!(unknown.starts_with("on node 00000000: ") && unknown.contains("started again"), "{unknown}");
}

#[test]
fn a_blip_costs_a_node_none_of_its_jobs() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 2);
    submit_for(&mut dispatcher, A, 3);
    dispatcher.on(Event::LinkDown(A));
    assert_eq!(submit_for(&mut dispatcher, A, 1), []);
    let back = Welcome { resumed: true, held: vec![id(0, 1)], ..welcome(A, 1, 2) };
    let actions = dispatcher.on(Event::LinkUp(A, Box::new(back), Version::V1));
    assert_eq!(actions, [Action::Report(Report::NodeConnected(A)), run(A, &[(1, 2)])]);
    assert_eq!(
        dispatcher.outcomes(A, 0, vec![succeeded(0, 1), succeeded(1, 2)]),
        [done(0, A), done(1, A), run(A, &[(2, 1), (3, 1)])]
    );
}

#[test]
fn a_session_that_the_node_gave_up_is_begun_anew_with_its_jobs() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    submit_for(&mut dispatcher, A, 2);
    dispatcher.on(Event::LinkDown(A));
    let actions = dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1));
    assert!(actions.contains(&run(A, &[(0, 2)])), "{actions:?}");
    assert_eq!(dispatcher.core.unresolved(), 2);
}

#[test]
fn a_node_that_is_reached_under_another_address_keeps_its_jobs() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    submit_for(&mut dispatcher, A, 2);
    dispatcher.find(B);
    let same = Welcome { node: life(A), ..welcome(B, 1, 1) };
    let actions = dispatcher.on(Event::LinkUp(B, Box::new(same), Version::V1));
    assert!(actions.contains(&run(B, &[(0, 2)])), "{actions:?}");
    assert_eq!((lost(&actions), dispatcher.core.unresolved()), (vec![], 2));
}

#[test]
fn jobs_that_kill_their_workers_are_tried_again_there_until_they_are_held_for_poison() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    submit_for(&mut dispatcher, A, 1);
    for number in 1..3 {
        let retried = dispatcher.outcomes(A, u64::from(number) - 1, vec![died(0, number)]);
        assert!(retried.contains(&run(A, &[(0, number + 1)])), "{retried:?}");
    }
    let ended = dispatcher.outcomes(A, 2, vec![died(0, 3)]);
    assert_eq!(lost(&ended).len(), 1);
}

#[test]
fn a_job_whose_node_is_gone_or_refuses_its_program_ends_at_once() {
    let mut dispatcher = Dispatcher::offering(&[FIRST]);
    dispatcher.connect(A, 1, 1);
    let of_first = |number| NewJob { program: FIRST, ..job_for(number, A) };
    assert_eq!(dispatcher.on(Event::Submit(vec![of_first(0)])), [], "it may run the program soon");
    let refusal = ProgramRefusal::Unavailable("it was removed".into());
    let told = FromNode::Program(FIRST, ProgramStatus::Refused(refusal.clone()));
    let actions = dispatcher.on(Event::Received(A, vec![told]));
    assert_eq!(lost(&actions), [(0, format!("on host 1: {refusal}"))]);
    assert_eq!(lost(&dispatcher.on(Event::Submit(vec![of_first(1)]))).len(), 1);
    assert_eq!(dispatcher.on(Event::Submit(vec![job_for(2, A)])).len(), 1, "it runs its own functions");
    dispatcher.on(Event::Received(A, vec![FromNode::Refused(Refusal::Draining)]));
    let actions = dispatcher.on(Event::Submit(vec![job_for(3, A)]));
    assert_eq!(lost(&actions), [(3, format!("on host 1: {GONE}: {}", Refusal::Draining))]);
}

#[test]
fn so_many_jobs_end_at_once_and_the_rest_without_delay() {
    const MOST: usize = crate::core::programs::FAILED_AT_ONCE;
    let mut dispatcher = Dispatcher::new();
    let count = MOST as u32 + 1;
    assert_eq!(lost(&submit_for(&mut dispatcher, A, count)).len(), MOST);
    assert_eq!(dispatcher.core.next_deadline(), Some(Moment(0)));
    assert_eq!(lost(&dispatcher.on(Event::Tick)).len(), 1);
    assert_eq!(dispatcher.core.kept(), 0);
    assert_ne!(dispatcher.core.next_deadline(), Some(Moment(0)));
}

#[test]
fn jobs_for_one_node_and_for_any_take_turns_unless_one_is_more_urgent() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(5);
    submit_for(&mut dispatcher, A, 3);
    let urgent = JobOptions { priority: 1, ..JobOptions::default() };
    dispatcher.on(Event::Submit(vec![with_options(8, urgent)]));
    let mut order = Vec::new();
    for first in 0..9 {
        let job = order.last().copied().unwrap_or(0);
        let actions = dispatcher.outcomes(A, first, vec![succeeded(job, 1)]);
        let next = actions.iter().find_map(|action| match action {
            Action::Send(A, ToNode::Run(attempts)) => Some(attempts[0].id.job.place()),
            _ => None,
        });
        order.extend(next);
    }
    assert_eq!(order, [8, 5, 1, 6, 2, 7, 3, 4]);
}

#[test]
fn what_waits_for_a_node_without_slots_is_reported() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 0, 0);
    dispatcher.connect(B, 1, 1);
    submit_for(&mut dispatcher, A, 2);
    // Both are heard of all the time.
    let mut reports = Vec::new();
    for second in 0..6 {
        reports.extend(dispatcher.pass(Duration::from_secs(1)));
        for node in [A, B] {
            dispatcher.on(Event::Received(node, vec![FromNode::Pong(2 * (second + 1))]));
        }
    }
    assert_eq!(reports, [Action::Report(Report::Stalled(2))]);
}

#[test]
fn a_dispatcher_that_ends_cancels_jobs_for_one_node_too() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    submit_for(&mut dispatcher, A, 2);
    let actions = dispatcher.on(Event::Shutdown);
    let cancelled = actions.iter().filter(|action| matches!(action, Action::Resolve(..))).count();
    assert_eq!((cancelled, dispatcher.core.kept()), (2, 0));
}
