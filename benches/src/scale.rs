//! The dispatcher's core alone, with simulated nodes: what deciding costs as nodes grow. Floor: one node.
//!
//! Only the core is timed, not what the simulated nodes do. A job is a decision: from its submission over its way to a
//! node to its resolution. Once there is always more than the nodes can take, and once a little less, so that slots idle
//! and every job is placed as it comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pp_dispatcher::core::{
    Action, Core, DispatcherConfig, Event, JobOutcome, NewJob, NodeKey, NodeKind, Ticket,
};
use pp_protocol::{
    Attempt, Ended, FromNode, FunctionId, JobId, Moment, NodeId, NodeStatus, Outcome, Payload, ProgramId,
    ProgramStatus, SessionId, Target, ToNode, VersionRange, Welcome,
};

use crate::memory::resident;
use crate::report::{Better, Report};

const SLOTS: u32 = 64;
/// Attempts that a node takes beyond its slots, for each slot.
const AHEAD: u32 = 1;
/// Jobs that pass through, whatever the number of nodes.
const JOBS: u32 = 10_000_000;
/// Submitted at once.
const BATCH: usize = 1_000;

/// A ticket that nobody waits for.
#[derive(Debug)]
struct Nobody;

impl Ticket for Nobody {
    fn accepted(&self, _job: JobId) {}
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let jobs = report.jobs(JOBS) as usize;
    // First, while no memory lies about that was used before.
    let (mut cluster, queued) = (Cluster::new(0), jobs.min(1_000_000));
    let before = resident()?;
    cluster.submit(queued);
    let each = resident()?.saturating_sub(before) as f64 / queued as f64;
    report.show("scale, queued job in the core", each, "bytes", None);
    drop(cluster);
    for (places_filled, what) in [(3.0, "much queued"), (0.9, "slots idle")] {
        let mut floor = None;
        for nodes in [1, 10, 100, 1_000, 10_000] {
            let ns = Cluster::new(nodes).ns_per_job(jobs, places_filled);
            let floor = Some((*floor.get_or_insert(ns), Better::Less));
            report.show(&format!("scale, {nodes} nodes, {what}"), ns, "ns a job", floor);
        }
    }
    Ok(())
}

/// The core, and nodes that have run what they got by the time all others were heard.
struct Cluster {
    core: Core<Nobody>,
    now: Moment,
    /// Used again and again, as the shell does.
    actions: Vec<Action<Nobody>>,
    /// Number of outcomes that each node has sent.
    sent: Vec<u64>,
    /// Events that the nodes are about to cause.
    answers: VecDeque<Event<Nobody>>,
    resolved: usize,
    /// Time for which the core has been at work.
    busy: Duration,
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
            resolved: 0,
            busy: Duration::ZERO,
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

    fn handle(&mut self, event: Event<Nobody>) {
        self.now = self.now + Duration::from_micros(1);
        let started = Instant::now();
        self.core.handle(self.now, event, &mut self.actions);
        self.busy += started.elapsed();
        for action in self.actions.drain(..) {
            match action {
                Action::Resolve(_, resolution) => {
                    assert!(matches!(resolution.outcome, JobOutcome::Succeeded(_)), "{resolution:?}");
                    self.resolved += 1;
                }
                Action::Send(key, ToNode::Run(attempts)) => {
                    let sent = &mut self.sent[key.0 as usize];
                    let outcomes = FromNode::Outcomes(*sent, attempts.iter().map(outcome).collect());
                    *sent += attempts.len() as u64;
                    self.answers.push_back(Event::Received(key, vec![outcomes]));
                }
                _ => {}
            }
        }
    }

    fn submit(&mut self, count: usize) {
        let new = || NewJob {
            ticket: Nobody,
            program: ProgramId::FIRST,
            function: FunctionId(7),
            args: Payload::default(),
            options: None,
        };
        self.handle(Event::Submit((0..count).map(|_| new()).collect()));
    }

    /// Nanoseconds that the core spends on a job, if there are about so many jobs for each place at a node.
    fn ns_per_job(mut self, jobs: usize, places_filled: f64) -> f64 {
        let places = self.sent.len() * (SLOTS * (1 + AHEAD)) as usize;
        let in_flight = (places as f64 * places_filled) as usize;
        self.busy = Duration::ZERO;
        let mut submitted = 0;
        while self.resolved < jobs {
            let count = in_flight.saturating_sub(submitted - self.resolved).min(jobs - submitted);
            if count >= BATCH.min(in_flight / 4).max(1) || self.answers.is_empty() {
                self.submit(count.min(BATCH));
                submitted += count.min(BATCH);
            }
            if let Some(answer) = self.answers.pop_front() {
                self.handle(answer);
            }
        }
        self.busy.as_nanos() as f64 / self.resolved as f64
    }
}

fn outcome(attempt: &Attempt) -> Outcome {
    Outcome { id: attempt.id, run_time_ns: 1_000, ended: Ended::Succeeded(Payload::default()) }
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
        window: SLOTS * (1 + AHEAD),
        status: NodeStatus { slots: SLOTS, ..NodeStatus::default() },
    }
}
