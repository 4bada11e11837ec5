//! `ppctl nodes`: the nodes as a table, as a block for each, or as JSON; once, or again and again.

mod block;
mod frame;
mod table;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, NodeInfo, NodeKind, NodeState};
use pp_protocol::Role;
use serde::Serialize;

use self::frame::Frame;
use crate::run::interrupts;
use crate::{Arguments, is_read, is_settled, look, remote, wait_for, warn};

/// Time that named nodes have to answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(4);
/// Least time between two lists.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// How nodes are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Time to look for them on the network.
    pub(crate) time: Duration,
    /// A block for each.
    pub(crate) verbose: bool,
    /// Again and again.
    pub(crate) watch: Option<Duration>,
}

/// A node, as `--json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    name: String,
    address: String,
    found: &'static str,
    state: &'static str,
    reason: Option<String>,
    slots: usize,
    busy: usize,
    queued: usize,
    dispatchers: usize,
    cpus: usize,
    load: f32,
    memory_used: u64,
    memory_total: u64,
    confinement: String,
    /// Empty until it is connected, and so are the next two.
    software: String,
    target: String,
    libc: String,
}

impl From<NodeInfo> for Line {
    fn from(node: NodeInfo) -> Self {
        Self {
            found: match node.kind {
                NodeKind::Local => "local",
                NodeKind::Configured => "named",
                NodeKind::Discovered => "network",
                _ => "otherwise",
            },
            state: match node.state {
                NodeState::Connecting => "connecting",
                NodeState::Preparing | NodeState::Connected => "connected",
                NodeState::Draining => "draining",
                NodeState::Suspect => "silent",
                NodeState::Reconnecting => "reconnecting",
                NodeState::Unreachable => "unreachable",
                NodeState::Refused => "refused",
                _ => "other",
            },
            reason: node.reason.map(|reason| reason.to_string()),
            slots: node.slots,
            busy: node.busy,
            queued: node.queued,
            dispatchers: node.dispatchers,
            cpus: node.cpus,
            load: node.load,
            memory_used: node.memory_used,
            memory_total: node.memory_total,
            confinement: node.confinement,
            software: node.software,
            target: node.target.map(|target| target.to_string()).unwrap_or_default(),
            libc: node.libc,
            name: node.name,
            address: node.address,
        }
    }
}

impl Line {
    /// Memory in use, and of the machine.
    fn memory(&self) -> String {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        match self.memory_total {
            0 => "-".into(),
            total => format!("{:.1} of {:.1} GiB", gib(self.memory_used), gib(total)),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, named: &[String], manner: Manner) -> anyhow::Result<ExitCode> {
    let builder = look(arguments, named, Role::Operator);
    let discovering = builder.discovers()?;
    let dispatcher = builder.start()?;
    let started = Instant::now();
    let look_until = if discovering { started + manner.time } else { started };
    wait_for(ANSWER_TIME.max(manner.time), || {
        let nodes = remote(&dispatcher);
        let all_settled = nodes.iter().all(is_settled) && (discovering || !nodes.is_empty());
        (Instant::now() >= look_until && all_settled).then_some(())
    });
    match manner.watch {
        Some(pause) => watch(arguments, &dispatcher, manner.verbose, pause.max(LEAST_PAUSE)),
        None => list(arguments, &dispatcher, manner.verbose),
    }
}

fn lines(dispatcher: &Dispatcher) -> Vec<Line> {
    remote(dispatcher).into_iter().map(Into::into).collect()
}

fn text(nodes: &[Line], verbose: bool) -> Result<String, std::fmt::Error> {
    if verbose { block::blocks(nodes) } else { table::table(nodes) }
}

/// Lists them once.
fn list(arguments: &Arguments, dispatcher: &Dispatcher, verbose: bool) -> anyhow::Result<ExitCode> {
    let nodes = lines(dispatcher);
    if arguments.json {
        is_read(&format!("{}\n", serde_json::to_string_pretty(&nodes)?))?;
    } else if nodes.is_empty() {
        warn(
            "no node was found. Start `ppserver -a` on a machine of this network, or name one with --node or PP_NODES if the \
             network does not carry multicast",
        );
    } else {
        is_read(&text(&nodes, verbose)?)?;
    }
    let is_any_connected = nodes.iter().any(|node| node.state == "connected");
    Ok(if is_any_connected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lists them again and again, until it is interrupted or nobody reads any more.
fn watch(
    arguments: &Arguments,
    dispatcher: &Dispatcher,
    verbose: bool,
    pause: Duration,
) -> anyhow::Result<ExitCode> {
    let (interrupt, interrupted) = channel();
    interrupts::tell(None, move |_| {
        // It may have ended meanwhile.
        let _ = interrupt.send(());
    })?;
    let mut frame = Frame::new(!arguments.json && io::stdout().is_terminal());
    loop {
        let nodes = lines(dispatcher);
        let shown = if arguments.json {
            format!("{}\n", serde_json::to_string(&nodes)?)
        } else if nodes.is_empty() {
            frame.next("no node was found yet\n")
        } else {
            frame.next(&text(&nodes, verbose)?)
        };
        if !is_read(&shown)? {
            return Ok(ExitCode::SUCCESS);
        }
        match interrupted.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                // What the terminal shows of the key is no part of a table.
                is_read(frame.last())?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}
