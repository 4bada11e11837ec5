//! Why a job has not ended: a case for each reason that is given, with its words.

use pp_protocol::Farewell;

use super::*;
use crate::core::{JobExplanation, NodeWait, PlaceAtNode, WaitCause};

const FIRST: ProgramId = ProgramId::FIRST;

impl Dispatcher {
    fn explain(&self, job: u32) -> JobExplanation {
        let told = |view: &crate::core::NodeView<'_>| (view.name.to_owned(), view.reason.clone());
        self.core.explain(self.now, JobId::new(job, 0), told)
    }

    fn why(&self, job: u32) -> String {
        self.explain(job).to_string()
    }

    /// Why the first node does not have the job.
    fn cause(&self, job: u32) -> WaitCause {
        match self.explain(job) {
            JobExplanation::Waits { nodes, .. } => nodes[0].cause.clone(),
            JobExplanation::WaitsForOne { node, .. } => node.cause,
            other => panic!("{other:?}"),
        }
    }

    fn told_status(&mut self, node: NodeKey, status: NodeStatus) {
        self.on(Event::Received(node, vec![FromNode::Status(status)]));
    }

    fn submit_with(&mut self, options: JobOptions) {
        let job = with_options(self.submitted, options);
        self.submitted += 1;
        self.on(Event::Submit(vec![job]));
    }
}

fn busy(slots: usize, own: usize, dispatchers: usize) -> WaitCause {
    WaitCause::Busy { slots, own, dispatchers }
}

#[test]
fn a_job_that_is_not_known_has_ended() {
    let dispatcher = Dispatcher::new();
    assert_eq!(dispatcher.explain(0), JobExplanation::Ended);
    assert_eq!(dispatcher.why(0), "it has ended, or its dispatcher never had it");
    let silent = "its dispatcher does not say: it has ended, or is held up";
    assert_eq!(JobExplanation::NoAnswer.to_string(), silent);
}

#[test]
fn a_job_that_is_not_to_start_yet_says_when() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let not_before = Some(Moment(0) + Duration::from_millis(2_500));
    dispatcher.submit_with(JobOptions { not_before, ..JobOptions::default() });
    dispatcher.pass(Duration::from_secs(1));
    assert_eq!(dispatcher.why(0), "it is not to start before its time, which comes in 1.5 s");
}

#[test]
fn a_job_at_a_node_runs_there_or_waits_behind_others() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 4);
    dispatcher.submit(4);
    let place = |dispatcher: &Dispatcher, job| match dispatcher.explain(job) {
        JobExplanation::AtNode { node, attempt: 1, place } if node == "host 1" => place,
        other => panic!("{other:?}"),
    };
    let behind = |others| PlaceAtNode::Behind { others, slots: 2 };
    let places = [0, 1, 2, 3].map(|job| place(&dispatcher, job));
    assert_eq!(places, [PlaceAtNode::Runs, PlaceAtNode::Runs, behind(2), behind(3)]);
    assert_eq!(dispatcher.why(0), "its attempt 1 is at host 1, and runs there or starts in a moment");
    let waits = "its attempt 1 is at host 1, behind 3 others for its 2 slots; it is asked back once a slot idles elsewhere";
    assert_eq!(dispatcher.why(3), waits);
    dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]);
    assert_eq!(place(&dispatcher, 2), PlaceAtNode::Runs);
    dispatcher.told_status(A, NodeStatus { slots: 2, busy: 2, sessions: 2, ..NodeStatus::default() });
    assert_eq!(place(&dispatcher, 2), PlaceAtNode::Shares { slots: 2, dispatchers: 2 });
    let shares = "its attempt 1 is at host 1, and runs there or waits for a slot: all its 2 are taken, and 2 dispatchers share the node";
    assert_eq!(dispatcher.why(2), shares);
    dispatcher.pass(Duration::from_millis(3_500));
    let silent = "its attempt 1 is at host 1, which is silent; if it stays so for a few seconds, the job runs elsewhere";
    assert_eq!(dispatcher.why(1), silent);
    dispatcher.on(Event::LinkDown(A));
    assert_eq!(place(&dispatcher, 1), PlaceAtNode::NodeIsReconnecting);
    assert!(dispatcher.why(1).contains("to which the connection broke; it goes on if that is back"));
}

#[test]
fn a_job_that_waits_says_of_each_node_why_it_is_not_there() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.submit(1);
    let nowhere = "it waits: no node is known; start `ppserver -a` on a machine of this network";
    assert_eq!(dispatcher.why(0), nowhere);
    dispatcher.find(A);
    assert_eq!(dispatcher.why(0), "it waits: node 1: it is not connected yet");
    let gone = DialFailure::Unreachable(Unreachable::NotListening { at: "there".into() });
    dispatcher.on(Event::DialFailed(A, Box::new(gone)));
    assert_eq!(dispatcher.why(0), "it waits: node 1: no ppserver listens there (there)");
    dispatcher.submit(2);
    assert!(dispatcher.why(0).starts_with("it waits, as 2 other jobs do: "), "{}", dispatcher.why(0));
}

#[test]
fn nodes_that_may_take_it_soon_come_first_and_of_many_there_is_a_number() {
    let mut dispatcher = Dispatcher::new();
    for node in 1..=9 {
        dispatcher.connect(NodeKey(node), 0, 0);
    }
    dispatcher.connect(NodeKey(10), 1, 1);
    dispatcher.submit(3);
    let JobExplanation::Waits { jobs: 2, nodes, more_nodes: 5 } = dispatcher.explain(1) else {
        panic!("{:?}", dispatcher.explain(1))
    };
    assert_eq!((nodes.len(), nodes[0].node.as_str(), &nodes[0].cause), (5, "host 10", &busy(1, 1, 0)));
    let why = dispatcher.why(1);
    assert!(
        why.starts_with("it waits, as another job does: host 10: its slot is taken; host 1: it has no slots"),
        "{why}"
    );
    assert!(why.ends_with("; and 5 other nodes do not take it, either"), "{why}");
}

#[test]
fn slots_are_taken_by_jobs_of_this_dispatcher_or_of_others() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 2);
    dispatcher.submit(3);
    assert_eq!(dispatcher.cause(2), busy(2, 2, 0));
    assert_eq!(dispatcher.why(2), "it waits: host 1: all its 2 slots are taken");
    dispatcher.told_status(A, NodeStatus { slots: 2, busy: 2, sessions: 3, ..NodeStatus::default() });
    let shared = "all its 2 slots are taken, 2 by jobs of this dispatcher, which shares it with 2";
    assert_eq!(dispatcher.cause(2).to_string(), shared);
}

#[test]
fn a_node_that_takes_no_jobs_just_now_says_why() {
    let mut dispatcher = Dispatcher::offering(&[FIRST]);
    dispatcher.connect(A, 1, 1);
    dispatcher.on(Event::Submit(vec![NewJob { program: FIRST, ..new_job(0) }]));
    assert_eq!(dispatcher.why(0), "it waits: host 1: it is being sent the program");
    let reason = "the disk is full: make room".to_owned();
    dispatcher.told(A, FIRST, ProgramStatus::Troubled { reason: reason.clone(), retried: false });
    assert_eq!(dispatcher.why(0), format!("it waits: host 1: {reason}"));
    let refusal = ProgramRefusal::WrongTarget {
        node: Target::new("linux", "riscv64"),
        offered: vec![Target::new("linux", "x86_64")],
    };
    dispatcher.told(A, FIRST, ProgramStatus::Refused(refusal));
    assert!(
        dispatcher.why(0).contains("the node is linux/riscv64, the program was built for linux/x86_64"),
        "{}",
        dispatcher.why(0)
    );

    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 2, 0);
    dispatcher.submit(1);
    let shortage = WorkerShortage::new(0, 2, "descriptors are short: raise the limit");
    dispatcher.on(Event::Received(A, vec![FromNode::Trouble(Some(shortage))]));
    let short =
        "it waits: host 1: its workers do not start: descriptors are short: raise the limit; trying again";
    assert_eq!(dispatcher.why(0), short);
    dispatcher.on(Event::Received(A, vec![FromNode::Trouble(None)]));
    dispatcher.told_status(A, NodeStatus { slots: 2, draining: true, ..NodeStatus::default() });
    let drains =
        "it waits: host 1: it is draining: it finishes what runs and then ends; start it again to use it";
    assert_eq!(dispatcher.why(0), drains);
    dispatcher.told_status(A, NodeStatus { slots: 0, ..NodeStatus::default() });
    assert_eq!(dispatcher.why(0), "it waits: host 1: it has no slots: give it some with `ppctl resize`");
    dispatcher.told_status(A, NodeStatus { slots: 2, ..NodeStatus::default() });
    dispatcher.pass(Duration::from_millis(3_500));
    assert_eq!(dispatcher.why(0), "it waits: host 1: it is silent, and gets jobs once it is heard of again");
    dispatcher.on(Event::LinkDown(A));
    assert_eq!(dispatcher.why(0), "it waits: host 1: the connection to it broke, and is made anew");
    dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 2, 0)), Version::V1));
    dispatcher.on(Event::Received(A, vec![FromNode::Goodbye(Farewell::Stopped)]));
    assert_eq!(dispatcher.why(0), "it waits: host 1: the node said goodbye: it was told to stop");
}

#[test]
fn a_node_that_comes_and_goes_rests() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    for life in 1..=3 {
        dispatcher.restart(A, life);
    }
    dispatcher.submit(1);
    let rests = "it waits: host 1: it has come and gone again and again, and gets jobs in 1 s if it stays; its log says why it ends";
    assert_eq!(dispatcher.why(0), rests);
}

#[test]
fn a_job_that_failed_at_a_node_is_tried_elsewhere_first() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.connect(B, 1, 1);
    dispatcher.submit(2);
    let died = Ended::WorkerDied(Box::new(WorkerDeath::new(Death::Signal(9), Vec::new())));
    dispatcher.outcomes(A, 0, vec![ended(0, 1, died)]);
    assert_eq!(dispatcher.cause(0), busy(1, 1, 0), "that may have room first");
    let JobExplanation::Waits { nodes, .. } = dispatcher.explain(0) else { panic!("it waits") };
    let there = NodeWait { node: "host 1".into(), cause: WaitCause::FailedThere };
    assert_eq!(nodes[1], there);
    assert_eq!(there.to_string(), "host 1: the job failed there last, and is tried elsewhere first");
}

#[test]
fn a_job_for_one_node_says_what_that_lacks() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 0, 0);
    dispatcher.connect(B, 1, 1);
    dispatcher.submit_with(JobOptions { node: Some(NodeId(1)), ..JobOptions::default() });
    let waits = "it waits for one node only, host 1: it has no slots: give it some with `ppctl resize`";
    assert_eq!(dispatcher.why(0), waits);
    let told = |view: &crate::core::NodeView<'_>| (view.name.to_owned(), view.reason.clone());
    let stranded = dispatcher.core.stranded_for_one(dispatcher.now, told);
    assert_eq!(stranded, [(1, NodeWait { node: "host 1".into(), cause: WaitCause::NoSlots })]);
    // It is told after a few seconds.
    let told = dispatcher.pass(Duration::from_secs(6));
    assert!(told.contains(&Action::Report(Report::Stalled(1))), "{told:?}");
}

#[test]
fn large_arguments_wait_for_those_that_are_there() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 8);
    let bytes = 9 << 20;
    let large = |number| NewJob { args: Payload::from(vec![0; bytes]), ..new_job(number) };
    dispatcher.on(Event::Submit((0..3).map(large).collect()));
    dispatcher.outcomes(A, 0, Vec::new());
    assert_eq!(dispatcher.cause(2), WaitCause::LargeArguments { bytes });
}

#[test]
fn causes_that_last_for_moments_have_words_too() {
    for (cause, words) in [
        (WaitCause::Next, "it takes more, and this job is sent next"),
        (WaitCause::NoLocalWorkers, "none of this machine's cores is used: there are no local workers"),
        (
            WaitCause::LargeArguments { bytes: 5_000_000 },
            "large arguments are there already, and the 5000000 bytes of this job are too much beside them",
        ),
    ] {
        assert_eq!(cause.to_string(), words);
    }
}

#[test]
fn a_question_is_answered_by_whoever_has_the_job() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    dispatcher.submit(1);
    let ask = |job| Event::Received(A, vec![FromNode::ExplainJob(7, JobId::new(job, 0))]);
    assert_eq!(dispatcher.on(ask(0)), [Action::Explain(A, 7, JobId::new(0, 0))]);
    assert_eq!(dispatcher.on(ask(1)), []);
}
