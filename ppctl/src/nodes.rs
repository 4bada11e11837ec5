//! `ppctl nodes`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pp_dispatcher::{NodeInfo, NodeKind, NodeState};
use pp_protocol::Role;
use serde::Serialize;

use crate::{Arguments, is_settled, look, print, remote, wait_for};

/// Characters of a name that are shown in the table. JSON has all of it.
const NAME_CHARACTERS: usize = 32;
/// Time that named nodes have to answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(4);

/// A node, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Line {
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
            name: node.name,
            address: node.address,
        }
    }
}

pub(crate) fn run(arguments: &Arguments, named: &[String], time: Duration) -> anyhow::Result<ExitCode> {
    let builder = look(arguments, named, Role::Operator);
    let discovering = builder.discovers()?;
    let dispatcher = builder.start()?;
    let started = Instant::now();
    let look_until = if discovering { started + time } else { started };
    wait_for(ANSWER_TIME.max(time), || {
        let nodes = remote(&dispatcher);
        let all_settled = nodes.iter().all(is_settled) && (discovering || !nodes.is_empty());
        (Instant::now() >= look_until && all_settled).then_some(())
    });
    let nodes: Vec<Line> = remote(&dispatcher).into_iter().map(Into::into).collect();
    let connected = nodes.iter().filter(|node| node.state == "connected").count();
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&nodes)?))?;
    } else if nodes.is_empty() {
        // There is nobody to tell if standard error is closed.
        let _ = writeln!(
            std::io::stderr(),
            "ppctl: no node was found. Start `ppserver -a` on a machine of this network, or name one with --node or \
             PP_NODES if the network does not carry multicast"
        );
    } else {
        print(&table(&nodes)?)?;
    }
    Ok(if connected > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The beginning of a name, marked where it goes on.
fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_CHARACTERS) {
        None => name.into(),
        Some(_) => name.chars().take(NAME_CHARACTERS - 1).chain(['…']).collect::<String>().into(),
    }
}

fn table(nodes: &[Line]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let width = |characters: fn(&Line) -> usize, least: usize| {
        nodes.iter().map(characters).max().unwrap_or(0).max(least)
    };
    let name = width(|node| node.name.chars().count().min(NAME_CHARACTERS), 4);
    let address = width(|node| node.address.chars().count(), 7);
    writeln!(
        out,
        "{:name$}  {:address$}  {:12} {:>5} {:>5} {:>6} {:>11} {:>6}  {:18}  CONFINED",
        "NODE", "ADDRESS", "STATE", "SLOTS", "BUSY", "QUEUED", "DISPATCHERS", "LOAD", "MEMORY"
    )?;
    for node in nodes {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let memory = format!("{:.1} of {:.1} GiB", gib(node.memory_used), gib(node.memory_total));
        writeln!(
            out,
            "{:name$}  {:address$}  {:12} {:>5} {:>5} {:>6} {:>11} {:>6.2}  {:18}  {}",
            shortened(&node.name),
            node.address,
            node.state,
            node.slots,
            node.busy,
            node.queued,
            node.dispatchers,
            node.load,
            if node.memory_total == 0 { "-".into() } else { memory },
            if node.confinement.is_empty() { "-" } else { &node.confinement }
        )?;
        if let Some(reason) = &node.reason {
            writeln!(out, "    {reason}")?;
        }
    }
    Ok(out)
}
