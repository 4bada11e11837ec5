//! Finishing: what runs goes on, nothing else is begun.

use super::*;

/// The jobs that are told to be cancelled, and at which node they were.
fn cancelled(actions: &[Action<Number>]) -> Vec<(u32, Option<NodeKey>)> {
    let ended = actions.iter().filter_map(|action| match action {
        Action::Resolve(Number(job), Resolution { outcome: JobOutcome::Cancelled, node, .. }) => {
            Some((*job, *node))
        }
        _ => None,
    });
    ended.collect()
}

fn recall(node: NodeKey, jobs: impl IntoIterator<Item = u32>) -> Action<Number> {
    Action::Send(node, ToNode::Recall(jobs.into_iter().map(|job| id(job, 1)).collect()))
}

#[test]
fn what_waits_is_cancelled_and_what_is_at_a_node_is_asked_for() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 2);
    dispatcher.submit(4);
    let actions = dispatcher.on(Event::Finish);
    assert_eq!(cancelled(&actions), [(2, None), (3, None)]);
    assert_eq!(actions.last(), Some(&recall(A, [0, 1])));
    let returned = Outcome { id: id(1, 1), run_time_ns: 0, ended: Ended::Returned };
    let actions = dispatcher.outcomes(A, 0, vec![returned, succeeded(0, 1)]);
    assert_eq!(cancelled(&actions), [(1, Some(A))]);
    assert!(actions.contains(&done(0, A)), "{actions:?}");
    assert_eq!(dispatcher.core.kept(), 0);
    assert_eq!(cancelled(&dispatcher.submit(2)), [(4, None), (5, None)], "what comes too late");
}

#[test]
fn what_is_lost_meanwhile_is_not_tried_again() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 2);
    dispatcher.connect(B, 2, 2);
    dispatcher.submit(4);
    dispatcher.on(Event::Finish);
    dispatcher.on(Event::LinkDown(A));
    let gone = DialFailure::Unreachable(Unreachable::NotListening { at: "there".into() });
    let actions = dispatcher.on(Event::DialFailed(A, Box::new(gone)));
    assert_eq!(cancelled(&actions).len(), 2, "{actions:?}");
    assert_eq!(dispatcher.core.kept(), 2, "what runs elsewhere goes on");
}

#[test]
fn what_could_not_be_asked_back_is_asked_for_on_the_next_connection() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 2);
    dispatcher.submit(2);
    dispatcher.on(Event::LinkDown(A));
    assert_eq!(dispatcher.on(Event::Finish), []);
    let back = Welcome { resumed: true, held: vec![id(0, 1), id(1, 1)], ..welcome(A, 1, 2) };
    let actions = dispatcher.on(Event::LinkUp(A, Box::new(back), Version::V1));
    assert!(actions.contains(&recall(A, [0, 1])), "{actions:?}");
}

#[test]
fn more_jobs_than_are_looked_at_in_one_turn_are_cancelled_in_several() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.submit(20_000);
    assert_eq!(cancelled(&dispatcher.on(Event::Finish)).len(), 8_192);
    let mut left = 20_000 - 8_192;
    while left > 0 {
        assert_eq!(dispatcher.core.next_deadline(), Some(Moment(0)));
        left -= cancelled(&dispatcher.on(Event::Tick)).len();
    }
    assert_ne!(dispatcher.core.next_deadline(), Some(Moment(0)));
}
