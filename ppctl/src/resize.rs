//! `ppctl resize`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use pp_dispatcher::NodeInfo;
use pp_protocol::Role;
use serde_json::json;

use crate::find::find;
use crate::{Arguments, print, remote, wait_for};

/// Time to wait for the node's answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(
    arguments: &Arguments,
    nodes: &[String],
    name: Option<&str>,
    slots: usize,
) -> anyhow::Result<ExitCode> {
    let (dispatcher, node) = match (name, nodes) {
        (Some(name), _) => find(arguments, nodes, name, Role::Operator)?,
        (None, [address]) => find(arguments, &[], address, Role::Operator)?,
        (None, []) => bail!("which node? Say its name or its address: ppctl resize NODE {slots}"),
        (None, _) => bail!(
            "which of the {} nodes named with --node? Say its name or its address as well: ppctl resize {} NODE {slots}",
            nodes.len(),
            nodes.iter().map(|node| format!("--node {node}")).collect::<Vec<_>>().join(" ")
        ),
    };
    let before = node.slots;
    dispatcher.resize(&node.label(), slots)?;
    let same = |other: &NodeInfo| other.label() == node.label() && other.slots == slots;
    wait_for(PATIENCE, || remote(&dispatcher).into_iter().find(same)).ok_or_else(|| {
        anyhow!("{} did not confirm within {} s; look at `ppctl nodes`", node.label(), PATIENCE.as_secs())
    })?;
    if arguments.json {
        let done = json!({ "node": node.name, "address": node.address, "before": before, "slots": slots });
        print(&format!("{done}\n"))?;
    } else {
        print(&format!("{}: {before} -> {slots} slots\n", node.label()))?;
    }
    Ok(ExitCode::SUCCESS)
}
