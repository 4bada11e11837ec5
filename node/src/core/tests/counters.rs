//! What is counted: each of it by what makes it happen.

use pp_protocol::{DeathKind, OutcomeKind, RefusalKind};

use super::*;
use crate::core::Counters;

#[test]
fn attempts_are_counted_by_their_ends_and_their_run_times() {
    let mut node = Node::ready(2);
    let second = AttemptId { job: JobId::new(10, 0), number: 2 };
    node.receive(1, ToNode::Run(vec![Attempt { id: second, ..attempt(10) }, attempt(11)]));
    let finished = |number, run_time_ns, result| vec![Finished { number, run_time_ns, result }];
    let slow = WorkResult::Succeeded(Payload::default());
    node.on(Event::WorkerFinished(WorkerKey(0), finished(1, MILLISECOND + 1, slow)));
    node.on(Event::WorkerFinished(WorkerKey(1), finished(1, 7, WorkResult::UnknownFunction)));
    node.receive(1, ToNode::Run(vec![attempt(12)]));
    node.receive(1, ToNode::Cancel(vec![attempt(12).id]));
    let idle = Progress { started: 2, finished: 2, started_at_ns: 0 };
    node.on(Event::Revoked(WorkerKey(0), idle));
    let counters = node.core.counters();
    let of = |kind| counters.ended.of(kind);
    // Two that took exactly a millisecond made the workers ready.
    assert_eq!(of(OutcomeKind::Succeeded), 3);
    assert_eq!((of(OutcomeKind::UnknownFunction), of(OutcomeKind::Cancelled)), (1, 1));
    assert_eq!((counters.ended.ended(), counters.ended.ran()), (5, 4));
    assert_eq!(counters.ended.run_times[..3], [3, 1, 0]);
    assert_eq!(counters.ended.run_time_ns, 3 * MILLISECOND + 8);
    assert_eq!((counters.retries, counters.recalled, counters.workers_started), (1, 0, 2));
    node.receive(1, ToNode::Goodbye);
    assert_eq!(node.core.counters().ended, counters.ended, "a session that is over is still counted");
}

#[test]
fn workers_connections_and_sessions_that_were_lost_are_counted_and_those_that_ended_are_not() {
    let mut node = Node::ready(1);
    let progress = Progress { started: 1, finished: 1, started_at_ns: 0 };
    node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    node.on(Event::Disconnected(ConnectionKey(1)));
    node.on(connected(ConnectionKey(2)));
    let resume = Resume { node: NodeId(1), outcomes_received: 1, parts_taken: 0, held: Vec::new() };
    node.receive(2, ToNode::Hello(Box::new(Hello { resume: Some(resume), ..hello(1) })));
    node.on(Event::Disconnected(ConnectionKey(2)));
    node.now = node.now + Duration::from_secs(20);
    node.on(Event::Tick);
    node.connect(3);
    node.receive(3, ToNode::Goodbye);
    node.on(Event::Drain);
    node.on(connected(ConnectionKey(4)));
    node.receive(4, ToNode::Hello(Box::new(hello(4))));
    let Counters { workers_lost, connections, connections_lost, refusals, .. } = node.core.counters();
    assert_eq!(workers_lost.into_iter().collect::<Vec<_>>(), [(DeathKind::Signal, 1)]);
    assert_eq!(
        (connections.into_iter().collect::<Vec<_>>(), connections_lost),
        (vec![(Role::Dispatcher, 4)], 2)
    );
    assert_eq!(refusals.into_iter().collect::<Vec<_>>(), [(RefusalKind::Draining, 1)]);
    let Counters { sessions_begun, sessions_resumed, sessions_lost, .. } = node.core.counters();
    assert_eq!((sessions_begun, sessions_resumed, sessions_lost), (2, 1, 1));
}
