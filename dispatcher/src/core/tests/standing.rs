//! Standing of nodes with this dispatcher: what is shown and reported of them, and what they are believed.

use pp_protocol::Farewell;

use super::*;

const BEAT: Duration = Duration::from_millis(500);

fn status_of(slots: u32) -> FromNode {
    FromNode::Status(NodeStatus { slots, ..NodeStatus::default() })
}

fn view_of_programs(dispatcher: &Dispatcher) -> Vec<(ProgramId, ProgramStatus)> {
    let view = dispatcher.core.nodes().next().expect("the node is listed");
    view.programs.into_iter().map(|(program, status)| (program, status.clone())).collect()
}

#[test]
fn a_node_that_left_is_shown_as_unreachable_and_dialled_when_there_is_word_of_it() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.on(Event::Received(A, vec![FromNode::Goodbye(Farewell::Stopped)]));
    assert_eq!(dispatcher.state(A), NodeState::Unreachable);
    assert_eq!(dispatcher.find(A), [Action::Dial(A, None)]);
}

#[test]
fn a_connection_that_comes_up_beside_one_that_stands_is_closed_and_changes_nothing() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    let second = Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1);
    assert_eq!(dispatcher.on(second), [Action::Close(A)]);
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)]);
}

#[test]
fn a_node_without_slots_is_connected_and_one_without_a_window_is_getting_ready() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 0, 0);
    dispatcher.connect(B, 1, 0);
    assert_eq!([A, B].map(|node| dispatcher.state(node)), [NodeState::Connected, NodeState::Preparing]);
}

#[test]
fn a_change_of_slots_is_reported_and_no_other_news_of_a_node() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    assert_eq!(dispatcher.on(Event::Received(A, vec![status_of(1)])), []);
    let resized = Action::Report(Report::NodeResized(A, 2));
    assert_eq!(dispatcher.on(Event::Received(A, vec![status_of(2)])), [resized]);
}

#[test]
fn the_outcome_of_an_attempt_that_was_given_up_is_counted() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    dispatcher.on(Event::Received(A, vec![FromNode::Goodbye(Farewell::Stopped)]));
    dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1));
    assert_eq!(dispatcher.core.late_outcomes(), 0);
    dispatcher.connect(B, 1, 0);
    assert_eq!(dispatcher.outcomes(B, 0, vec![succeeded(0, 1)]), []);
    assert_eq!(dispatcher.core.late_outcomes(), 1);
}

#[test]
fn jobs_that_wait_for_a_node_that_runs_their_program_are_not_stalled_however_long_it_is_busy() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(2);
    for _ in 0..20 {
        assert_eq!(dispatcher.pass(BEAT), []);
        dispatcher.on(Event::Received(A, vec![FromNode::Pong(u64::MAX)]));
    }
}

#[test]
fn a_nodes_word_counts_for_programs_that_it_was_offered_and_for_its_own_functions() {
    let mut dispatcher = Dispatcher::offering(&[FIRST]);
    dispatcher.connect(A, 1, 1);
    assert_eq!(view_of_programs(&dispatcher), [(FIRST, ProgramStatus::Preparing)]);
    assert_eq!(dispatcher.told(A, SECOND, refused()), [], "this dispatcher never heard of it");
    dispatcher.told(A, FIRST, ProgramStatus::Ready);
    assert_eq!(view_of_programs(&dispatcher), [(FIRST, ProgramStatus::Ready)]);
    dispatcher.told(A, ProgramId::BUILT_IN, refused());
    let of_both = [(ProgramId::BUILT_IN, refused()), (FIRST, ProgramStatus::Ready)];
    assert_eq!(view_of_programs(&dispatcher), of_both);
}

/// A tick comes when it is due, or late by so much; yields whether the node is suspect three seconds after it was heard of.
fn is_suspect_after_three_seconds(lateness: Duration) -> bool {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.now = Moment(0) + BEAT + lateness;
    dispatcher.on(Event::Tick);
    dispatcher.pass(Duration::from_secs(3) - BEAT - lateness);
    dispatcher.state(A) == NodeState::Suspect
}

#[test]
fn what_makes_a_heartbeat_late_is_no_silence_of_the_nodes_beyond_the_usual() {
    assert!(is_suspect_after_three_seconds(Duration::ZERO));
    assert!(is_suspect_after_three_seconds(BEAT));
    assert!(!is_suspect_after_three_seconds(2 * BEAT));
}

#[test]
fn a_suspect_is_trusted_again_once_no_question_has_been_out_for_so_long_as_makes_one() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.pass(Duration::from_millis(3_500));
    dispatcher.on(Event::Received(A, vec![status_of(1)]));
    assert_eq!(dispatcher.state(A), NodeState::Suspect, "the first question is three seconds old");
    dispatcher.on(Event::Received(A, vec![FromNode::Pong(1)]));
    assert_eq!(dispatcher.state(A), NodeState::Connected);
}

#[test]
fn dispatchers_that_cannot_reach_a_node_dial_it_again_at_different_times() {
    let waits = (0..64).map(|seed| {
        let mut dispatcher = Dispatcher::new();
        dispatcher.core = Core::new(DispatcherConfig::new(SessionId(1), seed));
        dispatcher.find(A);
        dispatcher.on(Event::DialFailed(A, Box::new(DialFailure::Unreachable(Unreachable::NoAddress))));
        let deadlines = std::iter::from_fn(|| {
            dispatcher.now = dispatcher.core.next_deadline()?;
            Some((dispatcher.now, dispatcher.on(Event::Tick)))
        });
        let mut dialled = deadlines.filter(|(_, actions)| *actions == [Action::Dial(A, None)]);
        dialled.next().expect("it is dialled again").0
    });
    let waits: BTreeSet<_> = waits.map(|at| at.since(Moment(0)).as_millis()).collect();
    assert!(waits.first() < Some(&115) && waits.last() > Some(&185), "{waits:?}");
    assert!(waits.iter().all(|wait| (100..=200).contains(wait)), "{waits:?}");
}

#[test]
fn a_dial_that_failed_says_why() {
    let unreachable = DialFailure::Unreachable(Unreachable::NoAddress);
    let refused = DialFailure::Refused(NodeRefusal::InUseElsewhere);
    assert_eq!(unreachable.to_string(), "its name has no address");
    assert_eq!(refused.to_string(), "it is in use under another address now");
}
