//! What jobs send ahead of their results.

use pp_protocol::limits::{PART_BYTES, PART_BYTES_SENT};

use super::*;

const NUMBER: u32 = 1;

/// The worker sends bytes ahead of the result of the piece of work of this number.
fn sends(number: u32, bytes: usize) -> Event {
    Event::WorkerPart(WorkerKey(0), number, Stream::Stdout, Payload::from(vec![7; bytes]))
}

fn part(number: u64, bytes: usize) -> Action {
    let bytes = Payload::from(vec![7; bytes]);
    let part = pp_protocol::Part { attempt: attempt(10).id, stream: Stream::Stdout, bytes };
    Action::Send(ConnectionKey(1), FromNode::Part(number, part))
}

fn read_on() -> Action {
    Action::ReadOn(WorkerKey(0))
}

/// A node whose one worker runs job 10.
fn running() -> Node {
    let mut node = Node::ready(1);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node
}

#[test]
fn a_part_is_sent_at_once_and_its_worker_read_on() {
    let mut node = running();
    assert_eq!(node.on(sends(NUMBER, 5)), [part(0, 5), read_on()]);
    assert_eq!(node.on(sends(NUMBER, 6)), [part(1, 6), read_on()]);
    assert_eq!(node.receive(1, ToNode::PartsTaken(2)), []);
    assert_eq!(node.core.statistics().sessions[0].parts, 0);
}

#[test]
fn a_worker_waits_until_its_dispatcher_has_taken_enough_and_is_not_taken_to_be_silent() {
    let mut node = running();
    let mut sent = 0;
    while node.on(sends(NUMBER, PART_BYTES)).len() == 2 {
        sent += 1;
    }
    let bytes = sent as usize * PART_BYTES;
    assert!((PART_BYTES_SENT / 2..=PART_BYTES_SENT).contains(&bytes), "{bytes} bytes are under way");
    let unreported = Progress { started: 2, finished: 2, started_at_ns: 0 };
    assert!(!node.is_killed_when_seen(unreported), "it cannot report meanwhile");
    assert_eq!(node.receive(1, ToNode::PartsTaken(1)), [part(sent, PART_BYTES), read_on()]);
}

#[test]
fn one_that_waits_is_killed_at_its_time_limit_all_the_same() {
    let mut node = Node::ready(1);
    let limited = Attempt { time_limit_ns: 5 * MILLISECOND, ..attempt(10) };
    node.receive(1, ToNode::Run(vec![limited]));
    while node.on(sends(NUMBER, PART_BYTES)).len() == 2 {}
    node.now = node.now + Duration::from_millis(10);
    assert_eq!(node.on(Event::Tick), [Action::Observe(WorkerKey(0))]);
    let running = Progress { started: 2, finished: 1, started_at_ns: 1 };
    assert_eq!(node.on(Event::Observed(WorkerKey(0), running)), [Action::Kill(WorkerKey(0))]);
    let died = node.on(Event::WorkerExited(WorkerKey(0), running, killed()));
    assert!(died.contains(&outcomes(1, 1, vec![outcome(10, 0, Ended::TimedOut)])), "{died:?}");
}

#[test]
fn those_not_taken_are_sent_again_after_a_blip_under_their_numbers_and_before_the_outcome() {
    let mut node = running();
    (0..3).for_each(|_| drop(node.on(sends(NUMBER, 5))));
    node.on(Event::Disconnected(ConnectionKey(1)));
    assert_eq!(node.on(sends(NUMBER, 5)), [], "it waits, whose dispatcher is away");
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 1, held: vec![attempt(10).id] };
    let back = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    let again = |number| match part(number, 5) {
        Action::Send(_, message) => Action::Send(ConnectionKey(2), message),
        other => other,
    };
    assert_eq!(back, [again(1), again(2), again(3), read_on()]);
    let ended = Ended::Succeeded(Payload::from(vec![1]));
    assert_eq!(node.finish(0, NUMBER, 42), [outcomes(2, 1, vec![outcome(10, 42, ended)])]);
}

#[test]
fn a_dispatcher_that_has_taken_more_than_was_sent_is_another_one() {
    let mut node = running();
    node.on(sends(NUMBER, 5));
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 2, held: vec![attempt(10).id] };
    let told = node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    assert_eq!(told, [Action::Kill(WorkerKey(0))], "its session begins anew");
}

#[test]
fn an_attempt_that_has_sent_something_ahead_does_not_run_again_under_its_number() {
    let mut node = running();
    node.on(sends(NUMBER, 5));
    // It was killed for something else, and has ended this one without having reported that.
    let key = WorkerKey(0);
    node.core.workers.get_mut(&key).unwrap().state = super::super::work::WorkerState::Ending;
    let progress = Progress { started: 2, finished: 2, started_at_ns: 0 };
    let told = node.on(Event::WorkerExited(key, progress, killed()));
    assert_eq!(told, [outcomes(1, 1, vec![outcome(10, 0, Ended::Returned)])]);
}

#[test]
fn what_waits_of_a_worker_that_is_gone_is_dropped() {
    let mut node = running();
    while node.on(sends(NUMBER, PART_BYTES)).len() == 2 {}
    let running = Progress { started: 2, finished: 1, started_at_ns: 0 };
    node.on(Event::WorkerExited(WorkerKey(0), running, killed()));
    let told = node.receive(1, ToNode::PartsTaken(u64::MAX));
    assert_eq!(told, []);
    assert_eq!(node.core.statistics().sessions[0].parts, 0);
}

#[test]
fn a_worker_that_sends_what_is_not_of_the_work_it_runs_is_no_worker() {
    let mut node = running();
    assert_eq!(node.on(sends(NUMBER + 1, 5)), [Action::Kill(WorkerKey(0))]);
}
