//! How much each dispatcher is told to send.

use super::*;
use crate::core::session::Session;

impl Node {
    /// Feeds an event, and yields everything that is to be done.
    fn all_on(&mut self, event: Event) -> Vec<Action> {
        self.core.handle(self.now, event, &mut self.actions);
        self.core.check_invariants();
        std::mem::take(&mut self.actions)
    }

    /// The windows that connections are told in answer to an event.
    fn windows_on(&mut self, event: Event) -> Vec<(u32, u32)> {
        let actions = self.all_on(event).into_iter();
        let windows = actions.filter_map(|action| match action {
            Action::Send(ConnectionKey(key), FromNode::Window(window)) => Some((key, window)),
            Action::Send(ConnectionKey(key), FromNode::Welcome(welcome)) => Some((key, welcome.window)),
            _ => None,
        });
        windows.collect()
    }

    /// A dispatcher comes; the windows that are told then.
    fn greet(&mut self, connection: u32) -> Vec<(u32, u32)> {
        self.on(connected(ConnectionKey(connection)));
        let greeting = ToNode::Hello(Box::new(hello(connection)));
        let windows = self.windows_on(Event::Received(ConnectionKey(connection), vec![greeting]));
        self.receive(connection, offer(ProgramId::FIRST, Vec::new()));
        windows
    }
}

#[test]
fn a_window_is_told_when_it_changed_by_more_than_a_quarter_or_is_small() {
    let mut node = Node::with_slots(100);
    assert_eq!(node.greet(1), [(1, 100)]);
    for (slots, told) in [
        (125, None),
        (126, Some(126)),
        (95, None),
        (94, Some(94)),
        (64, Some(64)),
        (65, None),
        (64, None),
        (63, Some(63)),
        (63, None),
        (0, Some(0)),
        (0, None),
        (63, Some(63)),
        (200, Some(200)),
        (0, Some(0)),
    ] {
        let expected: Vec<_> = told.map(|window| (1, window)).into_iter().collect();
        assert_eq!(node.windows_on(Event::Resize(slots)), expected, "{slots} slots");
    }
}

#[test]
fn slots_are_offered_in_equal_parts_to_all_who_use_them_and_to_whoever_would_be_one_more() {
    let mut node = Node::with_slots(8);
    assert_eq!(node.greet(1), [(1, 8)]);
    assert_eq!(node.greet(2), [(2, 8)], "the other one uses none");
    let run = Event::Received(ConnectionKey(1), vec![ToNode::Run(vec![attempt(1)])]);
    assert_eq!(node.windows_on(run), [(2, 4)], "it waits for a worker");
    let ready = Event::WorkerReady(WorkerKey(0));
    assert_eq!(node.windows_on(ready), [], "it is in a worker, and nothing waits");
    assert_eq!(node.greet(3), [(3, 4)]);
    let run = Event::Received(ConnectionKey(2), vec![ToNode::Run(vec![attempt(2)])]);
    assert_eq!(node.windows_on(run), [(1, 4), (3, 3)]);
}

#[test]
fn a_node_that_drains_offers_nothing() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    assert_eq!(node.windows_on(Event::Drain), [(1, 0)]);
}

#[test]
fn while_no_worker_at_all_can_be_started_nothing_is_offered_and_what_waits_goes_back() {
    let mut node = Node::with_slots(2);
    node.connect(1);
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    for worker in 0..2 {
        let failed = node.windows_on(Event::WorkerFailed(WorkerKey(worker), shortage()));
        assert!(failed.iter().all(|(_, window)| *window == 1), "it may pass: {failed:?}");
        assert_eq!(node.wait_for_deadline(), [Action::Spawn(WorkerKey(worker + 1), Program::Own)]);
    }
    let actions = node.all_on(Event::WorkerFailed(WorkerKey(2), shortage()));
    let returned = outcomes(1, 0, vec![outcome(1, 0, Ended::Returned)]);
    let nothing = Action::Send(ConnectionKey(1), FromNode::Window(0));
    let told = trouble(Some((0, 2, "too few descriptors")));
    for action in [&returned, &nothing, &told] {
        assert!(actions.contains(action), "{action:?} in {actions:?}");
    }
    assert_eq!(node.greet(2), [(2, 0)]);
    assert!(node.core.is_short());
}

#[test]
fn what_takes_half_a_second_is_sent_ahead_and_what_takes_longer_is_not() {
    let half_a_second = 500 * MILLISECOND;
    for (run_time_ns, window) in [(half_a_second, 4), (half_a_second + 1, 2), (MILLISECOND, 2 * (1 + 20))] {
        let mut session = Session::new(SessionId(1), "dispatcher".into(), ConnectionKey(1), None);
        session.learn(FUNCTION, run_time_ns);
        assert_eq!(session.window_for(2, Duration::ZERO), window);
    }
}

#[test]
fn no_more_is_started_for_a_dispatcher_that_leaves_too_large_outcomes_unacknowledged() {
    let mut session = Session::new(SessionId(1), "dispatcher".into(), ConnectionKey(1), None);
    session.lanes.set(ProgramId::FIRST, String::new(), crate::core::lanes::LaneProgram::Runs(Program::Own));
    session.take_in(vec![attempt(0)], 0);
    let end = |session: &mut Session, job, bytes| {
        session.reported(attempt(job).id, 0, Ended::Succeeded(Payload::from(vec![0; bytes])));
        session.flush(&mut Vec::new());
    };
    let beside_the_result = outcome(0, 0, Ended::Succeeded(Payload::default())).weight();
    let all_but_one = OUTCOME_BYTES_KEPT - beside_the_result - 1;
    end(&mut session, 1, all_but_one);
    assert!(session.wants_worker());
    session.acknowledged(1);
    end(&mut session, 2, all_but_one + 1);
    assert!(!session.wants_worker());
    session.acknowledged(2);
    assert!(session.wants_worker(), "they are gone");
}

#[test]
fn outcomes_that_were_not_sent_cannot_have_arrived() {
    let mut session = Session::new(SessionId(1), "dispatcher".into(), ConnectionKey(1), None);
    session.stopped(attempt(1).id, Ended::Returned);
    session.flush(&mut Vec::new());
    session.stopped(attempt(2).id, Ended::Returned);
    session.acknowledged(2);
    assert!(session.kept().eq([attempt(2).id]));
}

#[test]
fn a_peer_is_asked_whether_it_lives_once_it_has_answered_the_question_before() {
    let mut node = Node::ready(1);
    node.on(proved(ConnectionKey(2), Role::Operator, None));
    node.receive(2, ToNode::Hello(Box::new(hello(2))));
    let questions = |actions: Vec<Action>| {
        let asked = actions.into_iter().filter_map(|action| match action {
            Action::Send(key, FromNode::Ping(number)) => Some((key.0, number)),
            _ => None,
        });
        asked.collect::<Vec<_>>()
    };
    let mut beats = Vec::new();
    for answer in [None, Some(1), None] {
        node.now = node.now + Duration::from_secs(1);
        beats.push(questions(node.all_on(Event::Tick)));
        if let Some(number) = answer {
            node.receive(1, ToNode::Pong(number));
        }
    }
    assert_eq!(beats, [vec![(1, 1)], vec![], vec![(1, 3)]], "an operator is not asked");
}

#[test]
fn a_heartbeat_that_is_late_by_another_one_is_no_excuse() {
    for (late_by, closed) in [(Duration::from_secs(1), true), (Duration::from_millis(1_001), false)] {
        let mut node = Node::ready(1);
        node.now = Moment(0) + Duration::from_secs(1) + late_by;
        let mut told = node.on(Event::Tick);
        for _ in 3..=6 {
            node.now = node.now + Duration::from_secs(1);
            told.extend(node.on(Event::Tick));
        }
        assert_eq!(told.contains(&Action::Close(ConnectionKey(1))), closed, "{late_by:?}");
    }
}

#[test]
fn outcomes_that_a_dispatcher_never_acknowledged_are_counted_when_it_leaves() {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10), attempt(11)]));
    node.finish(0, 1, MILLISECOND);
    node.finish(0, 2, MILLISECOND);
    assert_eq!(node.core.counters().late_outcomes, 0);
    node.receive(1, ToNode::Goodbye);
    assert_eq!((node.core.counters().late_outcomes, node.core.name()), (2, "node"));
}
