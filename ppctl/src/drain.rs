//! `ppctl drain`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use pp_dispatcher::{Farewell, NodeInfo, NodeLoss, NodeReason, NodeState, Unreachable};
use serde::Serialize;

use crate::find::{Meant, is_usable};
use crate::{Arguments, LOOK_EVERY, orders, print, remote, wait_for};

/// Time to wait for word of the node that it has begun.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Drained {
    /// It finishes what runs.
    Draining {
        /// Jobs that run.
        running: usize,
    },
    /// It has ended.
    Ended {
        /// None run.
        running: usize,
    },
}

/// What is known of a node whose end is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// It has not begun yet, or cannot be seen just now.
    NotYet,
    Goes(Drained),
    /// Nobody knows what has become of it.
    Lost(String),
}

pub(crate) fn run(
    arguments: &Arguments,
    named: &[String],
    words: &[String],
    waits: bool,
) -> anyhow::Result<ExitCode> {
    let usage = |nodes: &str| format!("ppctl drain {nodes}NODE");
    let nodes = orders::whom(arguments, named, words, usage)?;
    let tells_progress = waits && !arguments.json;
    let given = orders::give(&nodes, |meant| {
        let begun = begin(meant)?;
        if !waits {
            return Ok(begun);
        }
        wait(meant, begun, |drained| {
            if tells_progress {
                // What comes of it is told in any case.
                let _ = print(&format!("{}\n", words_of(&meant.node, drained)));
            }
        })
    });
    orders::tell(arguments, &nodes, &given, words_of)
}

fn words_of(node: &NodeInfo, drained: &Drained) -> String {
    let label = node.label();
    match drained {
        Drained::Draining { running: 0 } => format!("{label}: draining, no job runs any more"),
        Drained::Draining { running: 1 } => format!("{label}: draining, 1 job runs"),
        Drained::Draining { running } => format!("{label}: draining, {running} jobs run"),
        Drained::Ended { .. } => format!("{label}: drained, it has ended"),
    }
}

/// Tells a node to drain, and waits for word that it does.
fn begin(Meant { dispatcher, node }: &Meant) -> anyhow::Result<Drained> {
    if !is_usable(node) {
        bail!("{node}");
    }
    dispatcher.drain(&node.label())?;
    let begun = wait_for(PATIENCE, || match seen(node, now(dispatcher, node).as_ref(), 0) {
        Seen::NotYet => None,
        seen => Some(seen),
    });
    match begun {
        None | Some(Seen::NotYet) => bail!(
            "{} took the order, and did not say within {} s that it drains; look at `ppctl nodes`",
            node.label(),
            PATIENCE.as_secs()
        ),
        Some(Seen::Goes(drained)) => Ok(drained),
        Some(Seen::Lost(reason)) => bail!("{}: {reason}", node.label()),
    }
}

/// Waits until it has ended, telling how far it has come whenever that changes. The node itself limits the time for it.
fn wait(
    Meant { dispatcher, node }: &Meant,
    mut last: Drained,
    tell: impl Fn(&Drained),
) -> anyhow::Result<Drained> {
    while !matches!(last, Drained::Ended { .. }) {
        tell(&last);
        let next = loop {
            match seen(node, now(dispatcher, node).as_ref(), last.running()) {
                Seen::Lost(reason) => bail!("{}: {reason}", node.label()),
                Seen::Goes(drained) if drained != last => break drained,
                Seen::Goes(_) | Seen::NotYet => std::thread::park_timeout(LOOK_EVERY),
            }
        };
        last = next;
    }
    Ok(last)
}

/// The node as it is known now: by its address, as another life of it may be there.
fn now(dispatcher: &pp_dispatcher::Dispatcher, node: &NodeInfo) -> Option<NodeInfo> {
    remote(dispatcher).into_iter().find(|other| other.address == node.address && other.kind == node.kind)
}

impl Drained {
    /// Jobs that run, as far as is known.
    fn running(&self) -> usize {
        match self {
            Self::Draining { running } | Self::Ended { running } => *running,
        }
    }
}

/// What a look at a node says of the life of it that is drained, and on which so many jobs ran when it was last heard of. One that
/// has finished says goodbye: of one that is gone without a word, nobody knows that.
fn seen(drained: &NodeInfo, node: Option<&NodeInfo>, running: usize) -> Seen {
    const ENDED: Seen = Seen::Goes(Drained::Ended { running: 0 });
    let Some(node) = node else { return ENDED };
    if node.id != drained.id {
        // It was started again.
        return ENDED;
    }
    match (&node.state, &node.reason) {
        (NodeState::Draining, _) => Seen::Goes(Drained::Draining { running: node.busy }),
        (NodeState::Unreachable, Some(NodeReason::Lost(NodeLoss::Goodbye(Farewell::Stopped)))) => ENDED,
        (
            NodeState::Unreachable,
            Some(
                NodeReason::Lost(NodeLoss::NotListening { .. })
                | NodeReason::Unreachable(Unreachable::NotListening { .. }),
            ),
        ) if running == 0 => ENDED,
        (NodeState::Unreachable | NodeState::Refused, reason) => {
            let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
            Seen::Lost(format!(
                "it was draining and is lost, so that nobody knows what it had finished: {reason}"
            ))
        }
        _ => Seen::NotYet,
    }
}
