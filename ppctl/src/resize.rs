//! `ppctl resize`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use pp_dispatcher::NodeInfo;
use serde::Serialize;

use crate::find::{Meant, is_usable};
use crate::{Arguments, orders, remote, wait_for};

/// Time to wait for the node's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the order changed.
#[derive(Debug, Serialize)]
struct Resized {
    before: usize,
    slots: usize,
}

pub(crate) fn run(
    arguments: &Arguments,
    named: &[String],
    words: &[String],
    slots: usize,
) -> anyhow::Result<ExitCode> {
    let usage = |nodes: &str| format!("ppctl resize {nodes}NODE {slots}");
    let nodes = orders::whom(arguments, named, words, usage)?;
    let given = orders::give(&nodes, |meant| resize(meant, slots));
    orders::tell(arguments, &nodes, &given, |node, Resized { before, slots }| {
        format!("{}: {before} -> {slots} slots", node.label())
    })
}

fn resize(Meant { dispatcher, node }: &Meant, slots: usize) -> anyhow::Result<Resized> {
    if !is_usable(node) {
        bail!("{node}");
    }
    dispatcher.resize(&node.label(), slots)?;
    let same = |other: &NodeInfo| other.id == node.id && other.slots == slots;
    wait_for(PATIENCE, || remote(dispatcher).into_iter().find(same)).ok_or_else(|| {
        let seconds = PATIENCE.as_secs();
        let now = remote(dispatcher).into_iter().find(|other| other.id == node.id);
        match now {
            Some(now) if now.state == pp_dispatcher::NodeState::Draining => {
                anyhow!(
                    "{} is draining: it ends, and its slots are what they are; start it again to use it",
                    node.label()
                )
            }
            _ => anyhow!("{} did not confirm within {seconds} s; look at `ppctl nodes`", node.label()),
        }
    })?;
    Ok(Resized { before: node.slots, slots })
}
