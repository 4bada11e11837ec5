//! How much work a worker is given at once, when it is given more, and when some is taken back.

use super::*;

const TINY: FunctionId = FunctionId(8);
const LONG: FunctionId = FunctionId(9);

fn of(function: FunctionId, jobs: std::ops::Range<u32>) -> ToNode {
    ToNode::Run(jobs.map(|job| Attempt { function, ..attempt(job) }).collect())
}

/// How many pieces each worker is given, in order.
fn given(actions: &[Action]) -> Vec<(u32, usize)> {
    let assigned = actions.iter().filter_map(|action| match action {
        Action::Assign(WorkerKey(worker), works) => Some((*worker, works.len())),
        _ => None,
    });
    assigned.collect()
}

/// Workers that have nothing to do, on a node that knows that one function takes a tenth of a millisecond and another one
/// more than what is worth hiding.
fn knowing(slots: u32) -> Node {
    let mut node = Node::ready(slots);
    for (number, function, run_time_ns) in [(1, TINY, MILLISECOND / 10), (2, LONG, 51 * MILLISECOND)] {
        node.receive(1, of(function, 90..91));
        node.finish(0, number, run_time_ns);
    }
    node
}

#[test]
fn a_worker_is_given_a_millisecond_of_work_and_more_when_half_of_it_is_done() {
    let mut node = knowing(1);
    assert_eq!(given(&node.receive(1, of(TINY, 0..40))), [(0, 10)]);
    for number in 3..7 {
        assert_eq!(given(&node.finish(0, number, MILLISECOND / 10)), [], "{number}");
    }
    assert_eq!(given(&node.finish(0, 7, MILLISECOND / 10)), [(0, 5)]);
}

#[test]
fn a_worker_that_runs_its_last_piece_is_given_the_next_one_unless_that_takes_long() {
    let mut node = knowing(1);
    assert_eq!(given(&node.receive(1, of(FUNCTION, 0..4))), [(0, 2)], "to hide the way to it");
    assert_eq!(given(&node.finish(0, 3, MILLISECOND)), [(0, 1)]);
    let mut node = knowing(1);
    assert_eq!(given(&node.receive(1, of(LONG, 0..4))), [(0, 1)]);
    assert_eq!(given(&node.finish(0, 3, 51 * MILLISECOND)), [(0, 1)]);
}

#[test]
fn what_is_known_of_one_function_is_not_taken_for_the_next() {
    let mut node = knowing(1);
    let mixed = [of(TINY, 0..2), of(LONG, 2..4)].map(|run| match run {
        ToNode::Run(attempts) => attempts,
        _ => Vec::new(),
    });
    assert_eq!(
        given(&node.receive(1, ToNode::Run(mixed.concat()))),
        [(0, 2)],
        "the long ones may go elsewhere"
    );
}

#[test]
fn workers_that_idle_share_what_there_is() {
    let mut node = knowing(2);
    assert_eq!(given(&node.receive(1, of(TINY, 0..10))), [(0, 5), (1, 5)]);
}

#[test]
fn a_dispatcher_that_wants_fresh_workers_gets_one_for_each_attempt() {
    let mut node = Node::with_slots(1);
    node.core.config.fresh_worker_per_job = true;
    node.connect(1);
    node.receive(1, of(FUNCTION, 0..3));
    assert_eq!(given(&node.on(Event::WorkerReady(WorkerKey(0)))), [(0, 1)]);
    let done = node.finish(0, 0, MILLISECOND);
    assert!(done.contains(&Action::Retire(WorkerKey(0))), "{done:?}");
}

/// Two dispatchers on one slot: the first one's jobs run, and the second one waits.
fn contended() -> Node {
    let mut node = Node::ready(1);
    node.connect(2);
    node.receive(1, of(FUNCTION, 0..1_000));
    node.receive(2, of(FUNCTION, 0..1));
    node
}

#[test]
fn a_worker_is_given_more_while_others_wait_until_its_turn_is_over() {
    for (after, more) in [(0, true), (199, true), (200, false)] {
        let mut node = contended();
        node.now = Moment(after * MILLISECOND);
        let given = given(&node.finish(0, 1, MILLISECOND));
        assert_eq!(!given.is_empty(), more, "after {after} ms: {given:?}");
    }
    let mut node = Node::ready(1);
    node.receive(1, of(FUNCTION, 0..1_000));
    node.now = Moment(200 * MILLISECOND);
    assert_eq!(given(&node.finish(0, 1, MILLISECOND)).len(), 1, "nobody else waits");
}

#[test]
fn a_dispatcher_that_has_two_slots_more_than_one_that_waits_is_given_nothing_ahead() {
    let mut node = Node::ready(2);
    node.connect(2);
    node.receive(1, of(FUNCTION, 0..1_000));
    node.receive(2, of(FUNCTION, 0..1));
    assert_eq!(given(&node.finish(0, 1, MILLISECOND)), []);
}

#[test]
fn of_all_workers_the_one_that_sits_on_more_than_one_piece_is_asked() {
    let mut node = Node::ready(3);
    // Worker 0 runs the only piece it has, worker 1 has two, worker 2 idles.
    node.receive(1, of(FUNCTION, 0..1));
    node.now = Moment(MILLISECOND);
    node.receive(1, of(FUNCTION, 1..5));
    node.finish(2, 1, MILLISECOND);
    node.finish(2, 2, MILLISECOND);
    node.now = Moment(10 * MILLISECOND);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(1))]);
}

#[test]
fn work_is_left_for_long_where_no_worker_of_its_lane_idles_and_taken_back_soon_where_one_does() {
    let mut node = Node::ready(3);
    node.connect(2);
    node.now = Moment(MILLISECOND);
    // Worker 0 is of the first dispatcher; workers 1 and 2 make way for two of the second.
    node.receive(1, of(FUNCTION, 0..1));
    node.now = Moment(1_000 * MILLISECOND);
    node.receive(1, ToNode::Ping(1));
    node.receive(2, of(FUNCTION, 0..2));
    for old in [1, 2] {
        let progress = Progress { started: 1, finished: 1, started_at_ns: 0 };
        node.on(Event::WorkerExited(WorkerKey(old), progress, killed()));
    }
    for new in [3, 4] {
        node.on(Event::WorkerReady(WorkerKey(new)));
    }
    for new in [3, 4] {
        node.finish(new, 0, MILLISECOND);
    }
    // Both hoard; one of the second dispatcher idles.
    node.finish(0, 1, MILLISECOND);
    node.receive(1, of(FUNCTION, 10..12));
    node.receive(2, of(FUNCTION, 10..14));
    node.finish(4, 1, MILLISECOND);
    node.finish(4, 2, MILLISECOND);
    let busy = |worker: u32| node.core.workers[&WorkerKey(worker)].work.len();
    assert_eq!([0, 3, 4].map(busy), [2, 2, 0]);
    node.now = node.now + Duration::from_millis(3);
    assert_eq!(node.on(Event::Tick), [Action::Revoke(WorkerKey(3))]);
}

#[test]
fn a_worker_from_which_nothing_came_back_is_given_more_at_once() {
    let mut node = Node::ready(1);
    node.receive(1, of(FUNCTION, 10..11));
    assert_eq!(node.receive(1, ToNode::Recall(vec![attempt(10).id])), [Action::Revoke(WorkerKey(0))]);
    let claimed = Progress { started: 2, finished: 1, started_at_ns: 0 };
    assert_eq!(node.on(Event::Revoked(WorkerKey(0), claimed)), []);
    assert_eq!(given(&node.receive(1, of(FUNCTION, 11..12))), [(0, 1)]);
}

#[test]
fn a_worker_that_is_done_before_its_revocation_is_answered_waits_for_that() {
    let mut node = Node::ready(1);
    node.receive(1, of(FUNCTION, 10..11));
    node.receive(1, ToNode::Cancel(vec![attempt(10).id]));
    node.finish(0, 1, MILLISECOND);
    assert_eq!(given(&node.receive(1, of(FUNCTION, 11..12))), []);
    let all = Progress { started: 2, finished: 2, started_at_ns: 0 };
    assert_eq!(given(&node.on(Event::Revoked(WorkerKey(0), all))), [(0, 1)]);
}

#[test]
fn a_worker_that_reports_what_it_was_not_given_is_killed_and_nothing_charged() {
    let (mut node, progress) = with_two_unreported();
    assert_eq!(node.finish(0, 77, MILLISECOND)[0], Action::Kill(WorkerKey(0)));
    let gone = node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    assert_eq!(gone, [Action::Spawn(WorkerKey(1), Program::Own)]);
    let again = node.on(Event::WorkerReady(WorkerKey(1)));
    assert_eq!(again, [Action::Assign(WorkerKey(1), vec![work(0, 10), work(1, 11)])], "both run again");
}

#[test]
fn a_quiet_worker_is_killed_at_the_sixth_heartbeat() {
    let (mut node, progress) = with_two_unreported();
    let mut beats = 1;
    while !node.beat().contains(&Action::Observe(WorkerKey(0)))
        || !node.on(Event::Observed(WorkerKey(0), progress)).contains(&Action::Kill(WorkerKey(0)))
    {
        beats += 1;
    }
    assert_eq!(beats, 6);
}

#[test]
fn idle_workers_leave_first_and_those_that_start_are_killed() {
    let mut node = Node::ready(2);
    node.receive(1, of(FUNCTION, 10..11));
    assert_eq!(node.on(Event::Resize(1)), [Action::Retire(WorkerKey(1))]);
    let mut node = Node::with_slots(2);
    node.connect(1);
    node.receive(1, of(FUNCTION, 0..2));
    assert_eq!(node.core.statistics().workers, [2, 0, 0]);
    assert_eq!(node.on(Event::Resize(1)), [Action::Kill(WorkerKey(0))]);
}

#[test]
fn workers_are_counted_by_what_they_do() {
    let mut node = Node::ready(2);
    node.receive(1, of(FUNCTION, 10..11));
    assert_eq!(node.core.statistics().workers, [0, 1, 1]);
}

#[test]
fn a_drain_ends_in_time_whether_or_not_its_last_outcomes_are_acknowledged() {
    let mut node = Node::ready(1);
    node.receive(1, of(FUNCTION, 10..11));
    node.on(Event::Drain);
    node.now = Moment(29_500 * MILLISECOND);
    node.receive(1, ToNode::Ping(1));
    node.on(Event::Tick);
    assert_eq!(node.core.next_deadline(), Some(Moment(30_000 * MILLISECOND)));
    node.finish(0, 1, MILLISECOND);
    let farewell = node.now + Duration::from_secs(2);
    let mut told = Vec::new();
    while node.now < farewell {
        told.extend(node.wait_for_deadline());
        node.receive(1, ToNode::Ping(1));
    }
    assert!(told.contains(&Action::Close(ConnectionKey(1))), "{told:?}");
    let progress = Progress { started: 2, finished: 2, started_at_ns: 0 };
    assert_eq!(node.on(Event::WorkerExited(WorkerKey(0), progress, killed())), [Action::End]);
    assert_eq!(node.core.next_deadline(), Some(Moment(40_000 * MILLISECOND)), "only the session is kept");
}

#[test]
fn a_worker_that_takes_the_place_of_another_says_nothing_about_room_for_more() {
    let mut node = half_of_four();
    let progress = Progress { started: 1, finished: 0, started_at_ns: 0 };
    let replaced = node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    assert_eq!(replaced[0], Action::Spawn(WorkerKey(4), Program::Own));
    let ready = node.on(Event::WorkerReady(WorkerKey(4)));
    assert_eq!(given(&ready), [(4, 1)]);
    assert!(!ready.iter().any(|action| matches!(action, Action::Spawn(..))), "{ready:?}");
}

#[test]
fn of_the_workers_that_idle_one_makes_way_for_which_nothing_waits() {
    let mut node = Node::with_slots(2);
    for (connection, worker) in [(1, 0), (2, 1)] {
        node.connect(connection);
        node.receive(connection, of(FUNCTION, 0..1));
        node.on(Event::WorkerReady(WorkerKey(worker)));
        node.finish(worker, 0, MILLISECOND);
    }
    // The first dispatcher's next attempt waits until outcomes are acknowledged.
    let session = node.core.sessions.get_mut(&SessionKey(0)).expect("it is connected");
    let result = Payload::from(vec![0; OUTCOME_BYTES_KEPT]);
    session.reported(attempt(9).id, 0, Ended::Succeeded(result));
    assert_eq!(given(&node.receive(1, of(FUNCTION, 1..2))), []);
    node.now = node.now + Duration::from_secs(1);
    node.connect(3);
    assert_eq!(node.receive(3, of(FUNCTION, 0..1))[0], Action::Retire(WorkerKey(1)));
}
