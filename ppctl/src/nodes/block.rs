//! The nodes as blocks: all that is known of each, a line for each kind.

use std::fmt::{Error, Write as _};

use super::Line;

/// How this side's release is named by those of it.
const OWN_RELEASE: &str = concat!("ppserver ", env!("CARGO_PKG_VERSION"));

pub(super) fn blocks(nodes: &[Line]) -> Result<String, Error> {
    let mut out = String::new();
    for (number, node) in nodes.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        block(&mut out, node)?;
    }
    Ok(out)
}

fn block(out: &mut String, node: &Line) -> Result<(), Error> {
    let found = match node.found {
        "network" => "found on the network",
        _ => "named here",
    };
    match node.address == node.name {
        true => writeln!(out, "{}: {}, {found}", node.name, node.state)?,
        false => writeln!(out, "{} ({}): {}, {found}", node.name, node.address, node.state)?,
    }
    let mut line = |what: &str, text: &str| writeln!(out, "  {what:10}{text}");
    if let Some(reason) = &node.reason {
        line("because", reason)?;
    }
    // Nothing of the rest is known of one that never was connected.
    if node.software.is_empty() {
        return Ok(());
    }
    let Line { slots, busy, queued, dispatchers, cpus, load, .. } = node;
    let others = if *dispatchers == 1 { "1 dispatcher" } else { &format!("{dispatchers} dispatchers") };
    line("jobs", &format!("{busy} of {slots} slots busy, {queued} waiting there; {others} connected"))?;
    let processors = if *cpus == 1 { "1 processor" } else { &format!("{cpus} processors") };
    line("machine", &format!("{processors}, load {load:.2}, {} of memory in use", node.memory()))?;
    let other_release = match node.software == OWN_RELEASE {
        true => String::new(),
        false => format!(" (this is ppctl {}: install the same release)", env!("CARGO_PKG_VERSION")),
    };
    let libc = if node.libc.is_empty() { "an unknown C library" } else { &node.libc };
    line("software", &format!("{}{other_release}, {}, {libc}", node.software, node.target))?;
    line("confined", if node.confinement.is_empty() { "unknown" } else { &node.confinement })
}
