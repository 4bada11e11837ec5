//! Programs: offered, sent, kept, and started again.

use super::*;

fn needed(connection: u32) -> Action {
    Action::Send(ConnectionKey(connection), FromNode::ProgramNeeded(DIGEST))
}

fn build(bytes: u64) -> ProgramBuild {
    ProgramBuild { digest: DIGEST, target: target(), bytes, name: "fib".into() }
}

fn stored(last: bool) -> Action {
    Action::StoreProgram { digest: DIGEST, size: 100, piece: Payload::from(vec![9; 10]), last }
}

#[test]
fn a_program_that_was_removed_from_the_store_is_asked_for_again_with_its_size() {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    node.on(Event::ProgramStored(DIGEST));
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    node.on(Event::WorkerReady(WorkerKey(0)));
    node.finish(0, 0, MILLISECOND);
    node.on(Event::WorkerExited(
        WorkerKey(0),
        Progress { started: 1, finished: 1, started_at_ns: 0 },
        killed(),
    ));
    node.receive(1, ToNode::Run(vec![attempt(2)]));
    let failed = node.on(Event::WorkerFailed(WorkerKey(1), failure("no such file", &[])));
    assert_eq!(failed, [Action::LocateProgram(DIGEST)], "somebody may have removed it");
    assert_eq!(node.on(Event::ProgramMissing(DIGEST)), [needed(1)]);
    assert_eq!(node.receive(1, chunk(true)), [stored(true)]);
}

#[test]
fn a_program_that_another_node_stored_meanwhile_is_used() {
    let mut node = storing();
    assert_eq!(node.on(no_room()), [status(1, not_stored())]);
    assert_eq!(node.on(Event::ProgramStored(DIGEST)), [status(1, ProgramStatus::Ready)]);
}

#[test]
fn only_whoever_was_asked_for_a_program_sends_it_or_says_that_it_cannot() {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    node.connect_with(2, target());
    assert_eq!(node.on(Event::ProgramMissing(DIGEST)), [needed(1)]);
    assert_eq!(node.receive(2, chunk(true)), []);
    let cannot = || ToNode::ProgramUnavailable(DIGEST, "it was built anew".into());
    assert_eq!(node.receive(2, cannot()), []);
    assert_eq!(node.receive(1, chunk(false)), [stored(false)]);
    let told = node.receive(1, cannot());
    assert_eq!(told[0], Action::AbandonProgram(DIGEST));
    let refused = ProgramStatus::Refused(ProgramRefusal::Unavailable("it was built anew".into()));
    assert_eq!(told[1..], [1, 2].map(|connection| status(connection, refused.clone())));
}

#[test]
fn a_program_may_have_so_many_builds_of_such_a_size() {
    let offered = |builds: Vec<ProgramBuild>| {
        let mut node = Node::with_slots(1);
        node.connect(1);
        node.receive(1, offer(ProgramId(2), builds))
    };
    let at_limit = offered(vec![build(100); PROGRAM_BUILDS]);
    assert_eq!(at_limit[0], Action::LocateProgram(DIGEST));
    assert_eq!(offered(vec![build(PROGRAM_BYTES)])[0], Action::LocateProgram(DIGEST));
    let refusal = ProgramRefusal::TooLarge { bytes: PROGRAM_BYTES + 1, limit: PROGRAM_BYTES };
    let told = FromNode::Program(ProgramId(2), ProgramStatus::Refused(refusal));
    assert_eq!(offered(vec![build(PROGRAM_BYTES + 1)]), [Action::Send(ConnectionKey(1), told)]);
}

#[test]
fn of_its_own_functions_a_node_says_something_only_if_they_do_not_run() {
    let mut node = Node::with_slots(1);
    node.on(connected(ConnectionKey(1)));
    let greeting = vec![ToNode::Hello(Box::new(hello(1)))];
    node.core.handle(node.now, Event::Received(ConnectionKey(1), greeting), &mut node.actions);
    let told = node.actions.iter().filter(|action| matches!(action, Action::Send(_, FromNode::Program(..))));
    assert_eq!(told.count(), 0, "{:?}", node.actions);
}

#[test]
fn it_is_remembered_of_so_many_programs_that_they_started_before() {
    let mut node = Node::with_slots(1);
    node.connect_with(1, target());
    let others = (0..1_023_u32).map(|number| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        Program::Sent(Digest(digest))
    });
    node.core.proven = others.chain([Program::Sent(DIGEST)]).collect();
    node.connect(2);
    node.receive(2, ToNode::Goodbye);
    assert_eq!(node.core.proven.len(), 1_024);
    node.core.proven.insert(Program::Sent(Digest([8; 32])));
    node.connect(3);
    node.receive(3, ToNode::Goodbye);
    assert!(node.core.proven.iter().eq(&[Program::Sent(DIGEST)]), "what is in use");
}

/// The first dispatcher's jobs run in worker 0, the second one's program has never started.
fn beside_one_that_runs() -> Node {
    let mut node = Node::ready(2);
    node.connect_with(2, target());
    node.on(Event::ProgramStored(DIGEST));
    node
}

#[test]
fn a_program_that_does_not_start_is_refused_whatever_others_do() {
    let mut node = Node::with_slots(2);
    node.connect(1);
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    node.connect_with(2, target());
    node.on(Event::ProgramStored(DIGEST));
    node.receive(2, ToNode::Run(vec![attempt(1)]));
    let told = node.on(Event::WorkerFailed(WorkerKey(1), failure("no init", &[])));
    let refusal = ProgramRefusal::DoesNotStart { reason: "no init".into(), stderr: Vec::new() };
    assert_eq!(told[0], status(2, ProgramStatus::Refused(refusal)), "{told:?}");
}

#[test]
fn a_worker_that_dies_early_is_its_programs_trouble_whatever_others_do() {
    let mut node = beside_one_that_runs();
    node.now = Moment(1_000 * MILLISECOND);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    node.receive(2, ToNode::Run(vec![attempt(1)]));
    node.on(Event::WorkerExited(
        WorkerKey(1),
        Progress { started: 1, finished: 1, started_at_ns: 0 },
        killed(),
    ));
    node.on(Event::WorkerReady(WorkerKey(2)));
    node.on(Event::WorkerExited(WorkerKey(2), Progress::default(), killed()));
    assert!(!node.core.is_short(), "nothing is short: the other one runs");
}
