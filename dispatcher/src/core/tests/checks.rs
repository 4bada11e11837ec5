//! The invariants notice what does not hold: everything else here and in the simulation relies on them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::core::job::Location;
use crate::core::nodes::Node;
use crate::core::queue::Verdict;

/// One job runs on A, one waits there, and one waits for its time; one waits for A alone.
fn in_use() -> Dispatcher {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 2);
    dispatcher.submit(2);
    let not_before = Some(dispatcher.now + Duration::from_secs(1));
    let delayed = with_options(2, JobOptions { not_before, ..JobOptions::default() });
    dispatcher.on(Event::Submit(vec![delayed]));
    let node = Some(NodeId(A.0.into()));
    let pinned = with_options(3, JobOptions { node, ..JobOptions::default() });
    dispatcher.on(Event::Submit(vec![pinned]));
    dispatcher
}

fn node(core: &mut Core<Number>) -> &mut Node {
    core.nodes.get_mut(&A).expect("the node is known")
}

#[test]
fn whatever_does_not_hold_between_events_is_noticed() {
    type Break = fn(&mut Core<Number>);
    let breaks: [(&str, Break); 12] = [
        ("a node is listed under its load", |core| node(core).listed = Some(1)),
        ("it is known how large the arguments at a node are", |core| {
            let mut large = core.jobs.find_mut(JobId::new(0, 0));
            large.as_mut().expect("it runs").args = Payload::from(vec![0; 1 << 20]);
        }),
        ("a job knows where its node keeps it", |core| {
            let job = core.jobs.find_mut(JobId::new(0, 0)).expect("it runs");
            let Location::AtNode { position, .. } = &mut job.location else { panic!("it runs") };
            *position = 1;
        }),
        ("a node with more attempts than slots is known", |core| core.overfull.clear()),
        ("a delayed job is listed under its time", |core| {
            let (until, number) = (Moment(0) + Duration::from_secs(1), 1);
            core.delays.remove(until, number);
            core.delays.add(until, JobId::new(9, 9));
        }),
        ("it is known how many jobs are in the queue", |core| {
            core.queue.line(PROGRAM).push(0, JobId::new(0, 0));
        }),
        ("a job that is queued is in the queue", |core| {
            let job = core.jobs.find_mut(JobId::new(2, 0)).expect("it waits");
            job.location = Location::Queued;
        }),
        ("a job for one node is at no other", |core| {
            core.jobs.find_mut(JobId::new(0, 0)).expect("it runs").rare().only_at = Some(NodeId(9));
        }),
        ("it is known which node lives which life", |core| core.pinned.began(NodeId(9), B)),
        ("no job waits for a node that is gone", |core| {
            core.pinned.push(NodeId(9), PROGRAM, 0, JobId::new(9, 9));
        }),
        ("there is no queue without jobs", |core| {
            let line = core.pinned.line(NodeId(A.0.into()), PROGRAM).expect("one waits");
            line.take(|_| Verdict::Take);
        }),
        ("nodes are told at once of what was given up", |core| {
            core.cancelled.insert(A, Vec::new());
        }),
    ];
    for (claim, make_wrong) in breaks {
        let mut dispatcher = in_use();
        make_wrong(&mut dispatcher.core);
        let checked = catch_unwind(AssertUnwindSafe(|| dispatcher.core.check_invariants()));
        let told = checked.expect_err(claim);
        let text = told.downcast_ref::<String>().map(String::as_str);
        let text = text.or(told.downcast_ref::<&str>().copied()).unwrap_or_default();
        assert!(text.contains(claim), "{claim}: {text}");
    }
}
