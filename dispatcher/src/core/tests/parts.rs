//! What jobs send ahead of their results.

use std::sync::Arc;

use pp_protocol::Part;
use pp_protocol::limits::{PART_BYTES, PART_BYTES_SENT};

use super::*;
use crate::core::{PartKey, TakeParts, Taker};

struct Nobody;

impl TakeParts for Nobody {
    fn take(&self, _part: Part) {}

    fn queue(&self) -> usize {
        0
    }
}

fn taking(number: u32) -> NewJob<Number> {
    let taker = Some(Taker(Arc::new(Nobody)));
    with_options(number, JobOptions { taker, idempotent: true, ..JobOptions::default() })
}

fn part(attempt: AttemptId, bytes: usize) -> Part {
    Part { attempt, stream: Stream::Stdout, bytes: Payload::from(vec![7; bytes]) }
}

impl Dispatcher {
    /// With a node at which a job is whose parts are taken.
    fn taking() -> Self {
        let mut dispatcher = Self::new();
        dispatcher.connect(A, 1, 1);
        let sent = dispatcher.on(Event::Submit(vec![taking(0)]));
        assert!(matches!(&sent[..], [Action::Send(A, ToNode::Run(_))]));
        dispatcher
    }

    /// A part arrives; yields those handed to their takers, and what else is to be done.
    fn arrives(&mut self, number: u64, part: Part) -> (Vec<PartKey>, Vec<Action<Number>>) {
        let mut keys = Vec::new();
        let mut actions = self.on(Event::Received(A, vec![FromNode::Part(number, part)]));
        actions.retain(|action| match action {
            Action::Part(_, key, _) => {
                keys.push(*key);
                false
            }
            _ => true,
        });
        (keys, actions)
    }
}

fn told(taken: u64) -> Action<Number> {
    Action::Send(A, ToNode::PartsTaken(taken))
}

#[test]
fn a_part_goes_to_its_taker_and_the_node_is_told_once_it_is_taken() {
    let mut dispatcher = Dispatcher::taking();
    let (first, _) = dispatcher.arrives(0, part(id(0, 1), 5));
    let (second, rest) = dispatcher.arrives(1, part(id(0, 1), 5));
    assert_eq!((first.len(), second.len(), rest), (1, 1, vec![]));
    assert_eq!(dispatcher.on(Event::PartsTaken(second)), [], "the first one is not taken");
    assert_eq!(dispatcher.on(Event::PartsTaken(first)), [told(2)]);
}

#[test]
fn a_part_of_another_attempt_or_of_a_job_without_taker_is_dropped() {
    let mut dispatcher = Dispatcher::taking();
    assert_eq!(dispatcher.arrives(0, part(id(0, 2), 5)), (vec![], vec![told(1)]));
    assert_eq!(dispatcher.arrives(1, part(id(7, 1), 5)), (vec![], vec![told(2)]));
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    assert_eq!(dispatcher.arrives(0, part(id(0, 1), 5)), (vec![], vec![told(1)]));
}

#[test]
fn a_part_that_arrives_again_after_a_blip_counts_once() {
    let mut dispatcher = Dispatcher::taking();
    let (taken, _) = dispatcher.arrives(0, part(id(0, 1), 5));
    let (waiting, _) = dispatcher.arrives(1, part(id(0, 1), 5));
    dispatcher.on(Event::PartsTaken(taken));
    let dials = dispatcher.on(Event::LinkDown(A));
    let [Action::Dial(A, Some(resume))] = &dials[..] else { panic!("{dials:?}") };
    assert_eq!(resume.parts_taken, 1);
    let held = vec![id(0, 1)];
    let back = Welcome { resumed: true, held, ..welcome(A, 1, 1) };
    dispatcher.on(Event::LinkUp(A, Box::new(back), Version::V1));
    assert_eq!(dispatcher.arrives(1, part(id(0, 1), 5)), (vec![], vec![]), "its taker has it");
    assert_eq!(dispatcher.arrives(2, part(id(0, 1), 5)).0.len(), 1);
    assert_eq!(dispatcher.on(Event::PartsTaken(waiting)), [told(2)]);
}

#[test]
fn word_of_a_session_that_is_over_is_not_taken_for_one_of_the_next() {
    let mut dispatcher = Dispatcher::taking();
    let (old, _) = dispatcher.arrives(0, part(id(0, 1), 5));
    dispatcher.restart(A, 1);
    let (new, _) = dispatcher.arrives(0, part(id(0, 2), 5));
    assert_eq!(dispatcher.on(Event::PartsTaken(old)), []);
    assert_eq!(dispatcher.on(Event::PartsTaken(new)), [told(1)]);
}

#[test]
fn a_node_that_sends_more_than_it_may_or_leaves_one_out_is_left() {
    let left = |actions: &[Action<Number>]| {
        let refused = |action: &Action<Number>| {
            matches!(action, Action::Report(Report::NodeRefused(A, NodeRefusal::Violation(_))))
        };
        actions.contains(&Action::Close(A)) && actions.iter().any(refused)
    };
    let mut dispatcher = Dispatcher::taking();
    let fitting = (PART_BYTES_SENT / part(id(0, 1), PART_BYTES).weight()) as u64;
    for number in 0..fitting {
        assert_eq!(dispatcher.arrives(number, part(id(0, 1), PART_BYTES)).1, []);
    }
    assert!(left(&dispatcher.arrives(fitting, part(id(0, 1), PART_BYTES)).1));
    let mut dispatcher = Dispatcher::taking();
    assert!(left(&dispatcher.arrives(1, part(id(0, 1), 5)).1));
}

#[test]
fn a_job_whose_parts_are_taken_is_not_copied() {
    let mut dispatcher = Dispatcher::taking();
    dispatcher.connect(B, 1, 1);
    let sent = dispatcher.pass(Duration::from_secs(2));
    assert!(!sent.iter().any(|action| matches!(action, Action::Send(B, ToNode::Run(_)))), "{sent:?}");
}
