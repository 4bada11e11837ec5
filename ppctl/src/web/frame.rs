//! What is seen at a moment, as a line of the stream: the nodes as this dispatcher stands with them, and what each has told
//! since the line before.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pp_dispatcher::{Activity, Doing, NodeId, NodeInfo, OutcomeKind};
use serde::Serialize;

use crate::nodes::Line;

/// All nodes at a moment.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    /// Milliseconds since the page is served.
    at: u64,
    nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Serialize)]
struct Node {
    /// By which orders name it.
    id: String,
    #[serde(flatten)]
    line: Line,
    /// What it told since the line before, oldest first.
    activities: Vec<Told>,
}

/// What a node told. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// When that came, since the page is served.
    at: u64,
    uptime: u64,
    /// Attempts that ended since the node started, by how; of those that came to their end, how many ran how long.
    ended: BTreeMap<&'static str, u64>,
    classes: Vec<u64>,
    workers: Vec<Worker>,
    attempts: Vec<Attempt>,
    /// Attempts of which the page is not told more than that they ended.
    left_out: u64,
}

#[derive(Debug, Serialize)]
struct Worker {
    worker: u32,
    doing: &'static str,
    function: String,
    session: String,
    /// For how long what it runs has run.
    ran: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Attempt {
    worker: u32,
    function: String,
    session: String,
    /// So long before this was told it ended.
    ago: f64,
    took: f64,
    outcome: &'static str,
    reason: String,
}

impl Frame {
    pub(super) fn new(at: Duration, nodes: Vec<NodeInfo>, mut told: BTreeMap<NodeId, Vec<Told>>) -> Self {
        let node = |node: NodeInfo| {
            let activities = node.id.and_then(|id| told.remove(&id)).unwrap_or_default();
            Node { id: node.label(), line: node.into(), activities }
        };
        Self { at: milliseconds(at), nodes: nodes.into_iter().map(node).collect() }
    }

    pub(super) fn line(&self) -> Bytes {
        // What it is made of can always be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

impl Told {
    pub(super) fn new(at: Duration, activity: &Activity) -> Self {
        let session =
            |number| activity.session(number).map_or_else(String::new, |session| session.name.clone());
        let workers = activity.workers.iter().map(|worker| {
            let (doing, function, ran) = match worker.doing {
                Doing::Running { function, for_ns, .. } => {
                    ("running", activity.function(function).to_owned(), Some(for_ns / 1_000_000))
                }
                Doing::Busy => ("busy", String::new(), None),
                Doing::Idle => ("idle", String::new(), None),
                Doing::Starting => ("starting", String::new(), None),
                Doing::Ending => ("ending", String::new(), None),
            };
            Worker { worker: worker.worker, doing, function, session: session(worker.session), ran }
        });
        let attempts = activity.attempts.iter().map(|attempt| Attempt {
            worker: attempt.worker,
            function: activity.function(attempt.function).to_owned(),
            session: session(attempt.session),
            ago: attempt.ended_ago_ns as f64 / 1e6,
            took: attempt.run_time_ns as f64 / 1e6,
            outcome: attempt.ended.name(),
            reason: attempt.reason.clone(),
        });
        let ended = &activity.totals.ended;
        Self {
            at: milliseconds(at),
            uptime: activity.uptime_ns / 1_000_000,
            ended: OutcomeKind::ALL.into_iter().map(|kind| (kind.name(), ended.of(kind))).collect(),
            classes: ended.run_times.to_vec(),
            workers: workers.collect(),
            attempts: attempts.collect(),
            left_out: activity.left_out.attempts,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}
