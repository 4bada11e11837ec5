//! The node's core, with one dispatcher, and workers that have run what they got by the time all others were heard.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use anyhow::ensure;
use pp_node::core::{Action, ConnectionKey, Core, CoreConfig, Event, Proof};
use pp_protocol::worker::{Finished, Work, WorkResult};
use pp_protocol::{
    Attempt, FromNode, Hello, Moment, NodeId, ProgramId, ProgramOffer, Role, SessionId, Target, ToNode,
    VersionRange,
};

use super::{FUNCTION, Payloads, RUN_TIME_NS, first_attempt};

const SLOTS: u32 = 8;
/// Batches sent and not ended: more than the workers take at once.
const BATCHES: u32 = 4;
/// Taken in before the deadline is looked at, as in the shell.
const EVENTS_AT_ONCE: usize = 64;
const CONNECTION: ConnectionKey = ConnectionKey(1);

struct Node {
    core: Core,
    now: Moment,
    actions: Vec<Action>,
    /// Events that workers and the dispatcher are about to cause.
    answers: VecDeque<Event>,
    payloads: Payloads,
    ended: u32,
    /// Attempts that the node takes.
    window: u32,
}

pub(super) fn run(at_once: u32, jobs: u32) -> anyhow::Result<()> {
    let mut node = Node::new();
    let in_flight = if at_once == 1 { 1 } else { BATCHES * at_once };
    let mut sent = 0;
    while node.ended < jobs || !node.answers.is_empty() {
        node.hear_others();
        // One at a time, the next is sent only once the end of the one before has been acknowledged.
        let is_heard = at_once > 1 || node.answers.is_empty();
        while is_heard && sent < jobs && sent - node.ended + at_once <= in_flight {
            let count = at_once.min(jobs - sent).min(node.window - (sent - node.ended));
            if count == 0 {
                break;
            }
            node.send(sent..sent + count);
            sent += count;
        }
        node.tick_if_due();
        ensure!(!node.answers.is_empty() || node.ended == jobs, "attempts wait, and no worker got one");
    }
    let kept: usize = node.core.statistics().sessions.iter().map(|session| session.kept).sum();
    ensure!(kept == 0, "{kept} outcomes are kept that were acknowledged");
    Ok(())
}

impl Node {
    fn new() -> Self {
        let config = CoreConfig {
            id: NodeId(1),
            started: Moment(0),
            name: "node".into(),
            slots: SLOTS,
            cpus: SLOTS,
            target: Target::here(),
            fresh_worker_per_job: false,
            stores_programs: true,
            confinement: "none".into(),
            libc: String::new(),
            silence: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
        };
        let mut node = Self {
            core: Core::new(config),
            now: Moment(0),
            actions: Vec::new(),
            answers: VecDeque::new(),
            payloads: Payloads::new(),
            ended: 0,
            window: 0,
        };
        let version = VersionRange::SPOKEN.newest;
        let proof = Proof { role: Role::Dispatcher, version, secret: None, machine: None };
        node.handle(Event::Connected(CONNECTION, proof));
        let hello =
            Hello { session: SessionId(1), name: "dispatcher".into(), resume: None, fresh_workers: false };
        node.handle(Event::Received(CONNECTION, vec![ToNode::Hello(Box::new(hello))]));
        let own = ProgramOffer { program: ProgramId::FIRST, builds: Vec::new() };
        node.handle(Event::Received(CONNECTION, vec![ToNode::Offer(own)]));
        node
    }

    fn send(&mut self, numbers: std::ops::Range<u32>) {
        let attempt = |number| Attempt {
            id: first_attempt(number),
            program: ProgramId::FIRST,
            function: FUNCTION,
            time_limit_ns: 0,
            args: self.payloads.of(number),
        };
        let attempts = numbers.map(attempt).collect();
        self.handle(Event::Received(CONNECTION, vec![ToNode::Run(attempts)]));
    }

    /// Takes in what has arrived by now.
    fn hear_others(&mut self) {
        for _ in 0..self.answers.len().min(EVENTS_AT_ONCE) {
            let Some(answer) = self.answers.pop_front() else { return };
            self.handle(answer);
        }
    }

    /// As the shell, which looks whether there is news for the daemon, too.
    fn tick_if_due(&mut self) {
        if self.core.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Event::Tick);
        }
        black_box(self.core.status());
    }

    fn handle(&mut self, event: Event) {
        self.now = self.now + Duration::from_micros(1);
        self.core.handle(self.now, event, &mut self.actions);
        for action in self.actions.drain(..) {
            match action {
                Action::Spawn(worker, _) => self.answers.push_back(Event::WorkerReady(worker)),
                Action::Assign(worker, works) => {
                    let all = works.into_iter().map(finished).collect();
                    self.answers.push_back(Event::WorkerFinished(worker, all));
                }
                Action::Send(_, FromNode::Outcomes(first, outcomes)) => {
                    self.ended += outcomes.len() as u32;
                    let received = first + outcomes.len() as u64;
                    self.answers.push_back(Event::Received(CONNECTION, vec![ToNode::Ack(received)]));
                }
                Action::Send(_, FromNode::Welcome(welcome)) => self.window = welcome.window,
                // Here it grows only.
                Action::Send(_, FromNode::Window(window)) => self.window = window.max(self.window),
                Action::Send(..) => {}
                other => panic!("where nothing fails, a node has no reason to ask for {other:?}"),
            }
        }
    }
}

/// The job returns its arguments.
fn finished(work: Work) -> Finished {
    Finished { number: work.number, run_time_ns: RUN_TIME_NS, result: WorkResult::Succeeded(work.args) }
}
