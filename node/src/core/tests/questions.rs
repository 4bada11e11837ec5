//! Questions about jobs: to every dispatcher, and their answers back.

use pp_protocol::limits::{EXPLANATION_BYTES, QUESTIONS};
use pp_protocol::{JobAnswer, JobId, Role};

use super::*;

const OPERATOR: u32 = 9;
const JOB: JobId = JobId::new(17, 2);

/// Two dispatchers, and an operator.
fn node() -> Node {
    let mut node = Node::with_slots(1);
    node.connect(1);
    node.connect(2);
    node.on(proved(ConnectionKey(OPERATOR), Role::Operator, None));
    assert_eq!(node.receive(OPERATOR, ToNode::Hello(Box::new(hello(OPERATOR)))), []);
    node
}

fn asked(connection: u32, number: u64) -> Action {
    Action::Send(ConnectionKey(connection), FromNode::ExplainJob(number, JOB))
}

fn answered(session: u32, text: &str) -> Action {
    let Hello { session, name: dispatcher, .. } = hello(session);
    let answer = JobAnswer { job: JOB, session, dispatcher, text: text.into() };
    Action::Send(ConnectionKey(OPERATOR), FromNode::JobExplained(Box::new(answer)))
}

fn says(text: &str) -> ToNode {
    ToNode::JobExplained(0, text.into())
}

#[test]
fn every_dispatcher_is_asked_and_who_knows_the_job_answers_once() {
    let mut node = node();
    assert_eq!(node.receive(OPERATOR, ToNode::ExplainJob(JOB)), [asked(1, 0), asked(2, 0)]);
    assert_eq!(node.receive(2, says("it waits")), [answered(2, "it waits")]);
    assert_eq!(node.receive(2, says("again")), [], "it has answered");
    assert_eq!(node.receive(1, ToNode::JobExplained(1, "unasked".into())), []);
    assert_eq!(node.receive(1, says("mine, too")), [answered(1, "mine, too")]);
}

#[test]
fn an_answer_is_cut_and_one_that_nobody_waits_for_is_dropped() {
    let mut node = node();
    node.receive(OPERATOR, ToNode::ExplainJob(JOB));
    let long = "x".repeat(2 * EXPLANATION_BYTES);
    assert_eq!(node.receive(1, says(&long)), [answered(1, &long[..EXPLANATION_BYTES])]);
    node.on(Event::Disconnected(ConnectionKey(OPERATOR)));
    assert_eq!(node.receive(2, says("too late")), []);
}

#[test]
fn of_more_questions_than_are_kept_the_oldest_gives_way() {
    let mut node = node();
    for _ in 0..=QUESTIONS {
        node.receive(OPERATOR, ToNode::ExplainJob(JOB));
    }
    assert_eq!(node.receive(1, says("of the first")), []);
    assert_eq!(
        node.receive(1, ToNode::JobExplained(1, "of the second".into())),
        [answered(1, "of the second")]
    );
}

#[test]
fn a_dispatcher_may_not_ask() {
    let mut node = node();
    let told = node.receive(1, ToNode::ExplainJob(JOB));
    assert!(matches!(told[..], [Action::Send(_, FromNode::Refused(_)), Action::Close(_)]), "{told:?}");
}
