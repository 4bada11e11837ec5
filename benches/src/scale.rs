//! The dispatcher's core alone, with simulated nodes: what deciding costs as nodes grow. Floor: one node.

use std::time::{Duration, Instant};

use pp_dispatcher::core::{Action, Config, Core, Event, JobOutcome, NewJob, NodeKey, NodeKind, Ticket};
use pp_protocol::{
    Ended, FromNode, FunctionId, JobId, Moment, NodeId, NodeStatus, Outcome, Payload, SessionId, Target,
    ToNode, Welcome,
};

use crate::report::{Better, Report};

const SLOTS: u32 = 64;
/// Jobs that pass through, whatever the number of nodes.
const JOBS: usize = 2_000_000;
/// Submitted at once.
const BATCH: usize = 10_000;

/// A ticket that nobody waits for.
#[derive(Debug)]
struct Nobody;

impl Ticket for Nobody {
    fn accepted(&self, _job: JobId) {}
}

pub(crate) fn run(report: &mut Report) {
    let one = decision_ns(1);
    for nodes in [10, 100, 1_000, 10_000] {
        let floor = Some((one, Better::Less));
        report.show(&format!("scale, {nodes} nodes of {SLOTS} slots"), decision_ns(nodes), "ns a job", floor);
    }
}

/// Nanoseconds from submission to resolution of a job, in the core alone.
fn decision_ns(nodes: u32) -> f64 {
    let mut core = Core::new(Config::new(SessionId(1), 1));
    let mut now = Moment(0);
    let mut actions = Vec::new();
    for node in 0..nodes {
        let key = NodeKey(node);
        core.handle(
            now,
            Event::NodeFound { node: key, name: "node".into(), kind: NodeKind::Configured },
            &mut actions,
        );
        core.handle(now, Event::LinkUp(key, Box::new(welcome(node))), &mut actions);
    }
    actions.clear();
    let mut sequence = vec![0_u64; nodes as usize];
    let (mut submitted, mut resolved) = (0, 0);
    let started = Instant::now();
    let mut held: Vec<(NodeKey, Vec<Outcome>)> = Vec::new();
    while resolved < JOBS {
        now = now + Duration::from_micros(10);
        if submitted < JOBS && submitted - resolved < 4 * BATCH.max((nodes * SLOTS) as usize) {
            let new = || NewJob {
                ticket: Nobody,
                function: FunctionId(7),
                args: Payload::default(),
                options: None,
            };
            core.handle(now, Event::Submit((0..BATCH).map(|_| new()).collect()), &mut actions);
            submitted += BATCH;
        }
        for (key, outcomes) in std::mem::take(&mut held) {
            let first = sequence[key.0 as usize];
            sequence[key.0 as usize] += outcomes.len() as u64;
            core.handle(now, Event::Received(key, vec![FromNode::Outcomes(first, outcomes)]), &mut actions);
        }
        for action in actions.drain(..) {
            match action {
                Action::Resolve(_, resolution) => {
                    assert!(matches!(resolution.outcome, JobOutcome::Succeeded(_)), "{resolution:?}");
                    resolved += 1;
                }
                Action::Send(key, ToNode::Run(attempts)) => {
                    let ended = attempts.into_iter().map(|attempt| Outcome {
                        id: attempt.id,
                        run_time_ns: 1_000,
                        ended: Ended::Succeeded(Payload::default()),
                    });
                    held.push((key, ended.collect()));
                }
                _ => {}
            }
        }
    }
    started.elapsed().as_secs_f64() * 1e9 / JOBS as f64
}

fn welcome(node: u32) -> Welcome {
    Welcome {
        node: NodeId(u128::from(node)),
        name: format!("node{node}"),
        software: String::new(),
        target: Target::here(),
        resumed: false,
        held: Vec::new(),
        window: 4 * SLOTS,
        status: NodeStatus { slots: SLOTS, ..NodeStatus::default() },
    }
}
