//! The dispatcher's core alone, with simulated nodes: what deciding costs as nodes grow. Floor: one node.
//!
//! Only the core is timed, not what the simulated nodes do. A job is a decision: from its submission over its way to a
//! node to its resolution.

use std::time::{Duration, Instant};

use pp_dispatcher::core::{Action, Config, Core, Event, JobOutcome, NewJob, NodeKey, NodeKind, Ticket};
use pp_protocol::{
    Attempt, Ended, FromNode, FunctionId, JobId, Moment, NodeId, NodeStatus, Outcome, Payload, SessionId,
    Target, ToNode, Welcome,
};

use crate::memory::resident;
use crate::report::{Better, Report};

const SLOTS: u32 = 64;
/// How many attempts a node takes beyond its slots, as often as it has slots.
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
    let mut floor = None;
    for nodes in [1, 10, 100, 1_000, 10_000] {
        let ns = Cluster::new(nodes).ns_per_job(jobs);
        let name = format!("scale, {nodes} nodes of {SLOTS} slots");
        report.show(&name, ns, "ns a job", Some((*floor.get_or_insert(ns), Better::Less)));
    }
    let (mut cluster, queued) = (Cluster::new(0), jobs.min(1_000_000));
    let before = resident()?;
    (0..queued / BATCH).for_each(|_| cluster.submit(BATCH));
    let each = resident()?.saturating_sub(before) as f64 / queued as f64;
    report.show("scale, queued job in the core", each, "bytes", None);
    Ok(())
}

/// The core, and nodes that have run everything by the next moment.
struct Cluster {
    core: Core<Nobody>,
    now: Moment,
    actions: Vec<Action<Nobody>>,
    /// How many outcomes each node has sent.
    sent: Vec<u64>,
    /// How long the core has been at work.
    busy: Duration,
}

impl Cluster {
    fn new(nodes: u32) -> Self {
        let core = Core::new(Config::new(SessionId(1), 1));
        let (now, actions, busy) = (Moment(0), Vec::new(), Duration::ZERO);
        let mut cluster = Self { core, now, actions, sent: vec![0; nodes as usize], busy };
        for node in 0..nodes {
            let (key, kind) = (NodeKey(node), NodeKind::Configured);
            cluster.handle(vec![
                Event::NodeFound { node: key, name: "node".into(), kind },
                Event::LinkUp(key, Box::new(welcome(node))),
            ]);
        }
        cluster.actions.clear();
        cluster
    }

    fn handle(&mut self, events: Vec<Event<Nobody>>) {
        self.now = self.now + Duration::from_micros(10);
        let started = Instant::now();
        for event in events {
            self.core.handle(self.now, event, &mut self.actions);
        }
        self.busy += started.elapsed();
    }

    fn submit(&mut self, count: usize) {
        let new =
            || NewJob { ticket: Nobody, function: FunctionId(7), args: Payload::default(), options: None };
        self.handle(vec![Event::Submit((0..count).map(|_| new()).collect())]);
    }

    /// Nanoseconds that the core spends on a job.
    fn ns_per_job(mut self, jobs: usize) -> f64 {
        // As many as all nodes can have, and some that wait.
        let places = self.sent.len() * (SLOTS * (1 + AHEAD)) as usize;
        let in_flight = (places + places / 4).max(2 * BATCH);
        self.busy = Duration::ZERO;
        let (mut submitted, mut resolved) = (0, 0);
        while resolved < jobs {
            while submitted < jobs && submitted - resolved < in_flight {
                self.submit(BATCH);
                submitted += BATCH;
            }
            let mut events = Vec::new();
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Resolve(_, resolution) => {
                        assert!(matches!(resolution.outcome, JobOutcome::Succeeded(_)), "{resolution:?}");
                        resolved += 1;
                    }
                    Action::Send(key, ToNode::Run(attempts)) => events.push(self.run(key, attempts)),
                    _ => {}
                }
            }
            self.handle(events);
        }
        self.busy.as_nanos() as f64 / resolved as f64
    }

    /// What a node answers.
    fn run(&mut self, key: NodeKey, attempts: Vec<Attempt>) -> Event<Nobody> {
        let sent = &mut self.sent[key.0 as usize];
        let first = *sent;
        *sent += attempts.len() as u64;
        let ended = Ended::Succeeded(Payload::default());
        let outcomes = attempts.into_iter().map(|attempt| Outcome {
            id: attempt.id,
            run_time_ns: 1_000,
            ended: ended.clone(),
        });
        Event::Received(key, vec![FromNode::Outcomes(first, outcomes.collect())])
    }
}

fn welcome(node: u32) -> Welcome {
    Welcome {
        node: NodeId(u128::from(node)),
        name: format!("node{node}"),
        software: String::new(),
        target: Target::here(),
        resumed: false,
        held: Vec::new(),
        window: SLOTS * (1 + AHEAD),
        status: NodeStatus { slots: SLOTS, ..NodeStatus::default() },
    }
}
