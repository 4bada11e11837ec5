//! The dispatcher's core, and nodes that have run what they got by the time all others were heard.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::ensure;
use pp_dispatcher::core::{
    Action, Core, DispatcherConfig, Event, JobOutcome, NewJob, NodeKey, NodeKind, Ticket,
};
use pp_protocol::{
    Attempt, Ended, FromNode, JobId, Moment, NodeId, NodeStatus, Outcome, ProgramId, ProgramStatus,
    SessionId, Target, ToNode, VersionRange, Welcome,
};

use super::{FUNCTION, Payloads, RUN_TIME_NS};

const SLOTS: u32 = 8;
const WINDOW: u32 = 32;
/// Batches submitted and not resolved: more than fits the windows of few nodes.
const BATCHES: u32 = 4;
/// Taken in before the deadline is looked at, as in the shell.
const EVENTS_AT_ONCE: usize = 64;

/// A ticket that nobody waits for.
#[derive(Debug)]
struct Nobody;

impl Ticket for Nobody {
    fn accepted(&self, _job: JobId) {}
}

struct Cluster {
    core: Core<Nobody>,
    now: Moment,
    actions: Vec<Action<Nobody>>,
    /// Number of outcomes that each node has sent.
    sent: Vec<u64>,
    /// Events that the nodes are about to cause.
    answers: VecDeque<Event<Nobody>>,
    payloads: Payloads,
    resolved: u32,
}

pub(super) fn run(nodes: u32, at_once: u32, jobs: u32) -> anyhow::Result<()> {
    let mut cluster = Cluster::new(nodes);
    let in_flight = if at_once == 1 { 1 } else { BATCHES * at_once };
    let mut submitted = 0;
    while cluster.resolved < jobs {
        cluster.hear_nodes();
        while submitted < jobs && submitted - cluster.resolved + at_once <= in_flight {
            let count = at_once.min(jobs - submitted);
            cluster.submit(submitted..submitted + count);
            submitted += count;
        }
        cluster.tick_if_due();
        ensure!(!cluster.answers.is_empty() || cluster.resolved == jobs, "jobs wait, and no node got one");
    }
    ensure!(cluster.core.kept() == 0, "{} jobs are kept that are resolved", cluster.core.kept());
    Ok(())
}

impl Cluster {
    fn new(nodes: u32) -> Self {
        let mut cluster = Self {
            core: Core::new(DispatcherConfig {
                programs: [ProgramId::FIRST].into(),
                ..DispatcherConfig::new(SessionId(1), 1)
            }),
            now: Moment(0),
            actions: Vec::new(),
            sent: vec![0; nodes as usize],
            answers: VecDeque::new(),
            payloads: Payloads::new(),
            resolved: 0,
        };
        for node in 0..nodes {
            let (key, kind) = (NodeKey(node), NodeKind::Configured);
            cluster.handle(Event::NodeFound { node: key, name: "node".into(), kind });
            cluster.handle(Event::LinkUp(key, Box::new(welcome(node)), VersionRange::SPOKEN.newest));
            let ready = FromNode::Program(ProgramId::FIRST, ProgramStatus::Ready);
            cluster.handle(Event::Received(key, vec![ready]));
        }
        cluster
    }

    fn submit(&mut self, numbers: std::ops::Range<u32>) {
        let new = |number| NewJob {
            ticket: Nobody,
            program: ProgramId::FIRST,
            function: FUNCTION,
            args: self.payloads.of(number),
            options: None,
        };
        let jobs = numbers.map(new).collect();
        self.handle(Event::Submit(jobs));
    }

    /// Takes in what has arrived by now.
    fn hear_nodes(&mut self) {
        for _ in 0..self.answers.len().min(EVENTS_AT_ONCE) {
            let Some(answer) = self.answers.pop_front() else { return };
            self.handle(answer);
        }
    }

    fn tick_if_due(&mut self) {
        if self.core.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Event::Tick);
        }
    }

    fn handle(&mut self, event: Event<Nobody>) {
        self.now = self.now + Duration::from_micros(1);
        self.core.handle(self.now, event, &mut self.actions);
        for action in self.actions.drain(..) {
            match action {
                Action::Resolve(_, resolution) => {
                    assert!(matches!(resolution.outcome, JobOutcome::Succeeded(_)), "{resolution:?}");
                    self.resolved += 1;
                }
                Action::Send(key, ToNode::Run(attempts)) => {
                    let sent = &mut self.sent[key.0 as usize];
                    let first = *sent;
                    *sent += attempts.len() as u64;
                    let outcomes = attempts.into_iter().map(outcome).collect();
                    self.answers.push_back(Event::Received(key, vec![FromNode::Outcomes(first, outcomes)]));
                }
                _ => {}
            }
        }
    }
}

/// The job returns its arguments.
fn outcome(attempt: Attempt) -> Outcome {
    Outcome { id: attempt.id, run_time_ns: RUN_TIME_NS, ended: Ended::Succeeded(attempt.args) }
}

fn welcome(node: u32) -> Welcome {
    Welcome {
        node: NodeId(u128::from(node)),
        name: format!("node{node}"),
        software: String::new(),
        libc: String::new(),
        confinement: String::new(),
        target: Target::here(),
        resumed: false,
        held: Vec::new(),
        window: WINDOW,
        status: NodeStatus { slots: SLOTS, ..NodeStatus::default() },
    }
}
