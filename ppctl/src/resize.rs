//! `ppctl resize`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use pp_dispatcher::{Dispatcher, NodeInfo, NodeState};
use pp_protocol::address::is_like_address;
use serde_json::json;

use crate::{Arguments, is_settled, look, print, remote, wait_for};

/// How long to look for the node, and then for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for word of other nodes once one of the name was found.
const OTHERS: Duration = Duration::from_secs(1);

pub(crate) fn run(
    arguments: &Arguments,
    nodes: &[String],
    name: Option<&str>,
    slots: usize,
) -> anyhow::Result<ExitCode> {
    let (dispatcher, node) = match (name, nodes) {
        (Some(name), _) => find(arguments, nodes, name)?,
        (None, [address]) => find(arguments, &[], address)?,
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

/// The node of that name among those that can be found, and those at `nodes`; else the one at that address.
fn find(arguments: &Arguments, nodes: &[String], name: &str) -> anyhow::Result<(Dispatcher, NodeInfo)> {
    // What looks like an address is dialled; only a name, maybe with an address behind it, is worth a search.
    let is_address = is_like_address(name);
    let dispatcher =
        if is_address { look_at_one(arguments, name)? } else { look(arguments, nodes).start()? };
    let wanted = |node: &NodeInfo| is_address || node.name == name || node.label() == name;
    let found =
        wait_for(PATIENCE, || remote(&dispatcher).into_iter().find(|node| wanted(node) && is_settled(node)));
    if found.is_some() && !is_address {
        // Others that can be found are heard, too: one of them may have the same name.
        wait_for(OTHERS, || remote(&dispatcher).iter().all(is_settled).then_some(()));
        let same: Vec<_> = remote(&dispatcher).into_iter().filter(wanted).collect();
        if same.len() > 1 {
            let addresses: Vec<_> = same.iter().map(|node| node.address.as_str()).collect();
            bail!(
                "{} nodes are called {name:?}; name one of them by its address: {}",
                same.len(),
                addresses.join(", ")
            );
        }
    }
    let (dispatcher, found) = match found {
        None if !is_address && !name.contains(' ') => {
            let others: Vec<_> = remote(&dispatcher).iter().map(NodeInfo::label).collect();
            let dispatcher = look_at_one(arguments, name)?;
            let found = wait_for(PATIENCE, || remote(&dispatcher).into_iter().find(is_settled));
            if !others.is_empty() && found.as_ref().is_none_or(|node| !is_usable(node)) {
                bail!("no node is called {name:?}; there are: {}", others.join(", "));
            }
            (dispatcher, found)
        }
        found => (dispatcher, found),
    };
    match found {
        None => bail!("no node {name:?} was found; `ppctl nodes` lists those there are"),
        Some(node) if is_usable(&node) => Ok((dispatcher, node)),
        Some(node) => bail!("{node}"),
    }
}

fn look_at_one(arguments: &Arguments, address: &str) -> anyhow::Result<Dispatcher> {
    Ok(look(arguments, &[]).discover(false).nodes([address]).start()?)
}

/// Whether it takes orders.
fn is_usable(node: &NodeInfo) -> bool {
    matches!(node.state, NodeState::Connected | NodeState::Preparing)
}
