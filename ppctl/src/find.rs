//! The one node that is meant by a name or an address.

use std::time::Duration;

use anyhow::bail;
use pp_dispatcher::{Dispatcher, NodeInfo, NodeState};
use pp_protocol::Role;
use pp_protocol::address::is_like_address;

use crate::{Arguments, is_settled, look, remote, wait_for};

/// Time to look for the node.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time to wait for word of other nodes once one of the name was found.
const OTHERS: Duration = Duration::from_secs(1);

/// The node of that name among those that can be found in this role, and those at `nodes`; else the one at that address.
pub(crate) fn find(
    arguments: &Arguments,
    nodes: &[String],
    name: &str,
    role: Role,
) -> anyhow::Result<(Dispatcher, NodeInfo)> {
    // What looks like an address is dialled; only a name, maybe with an address behind it, is worth a search.
    let is_address = is_like_address(name);
    let dispatcher = if is_address {
        look_at_one(arguments, name, role)?
    } else {
        look(arguments, nodes, role).start()?
    };
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
    // It is there, and what is waited for says what may be wrong with it.
    if found.is_none()
        && let Some(node) = remote(&dispatcher).into_iter().find(wanted)
    {
        bail!("{node}");
    }
    let (dispatcher, found) = match found {
        None if !is_address && !name.contains(' ') => {
            let others: Vec<_> = remote(&dispatcher).iter().map(label_or_reason).collect();
            let dispatcher = look_at_one(arguments, name, role)?;
            let found = wait_for(PATIENCE, || remote(&dispatcher).into_iter().find(is_settled));
            if !others.is_empty() && found.as_ref().is_none_or(|node| !is_usable(node)) {
                bail!("no node is called {name:?}; there are: {}", others.join(", and "));
            }
            (dispatcher, found)
        }
        found => (dispatcher, found),
    };
    match found {
        None => match remote(&dispatcher).pop() {
            Some(node) => bail!("{node}"),
            None => bail!("no node {name:?} was found; `ppctl nodes` lists those there are"),
        },
        Some(node) if is_usable(&node) => Ok((dispatcher, node)),
        Some(node) => bail!("{node}"),
    }
}

fn look_at_one(arguments: &Arguments, address: &str, role: Role) -> anyhow::Result<Dispatcher> {
    Ok(look(arguments, &[], role).discover(false).nodes([address]).start()?)
}

/// Its name and address; if it is not used, also why.
fn label_or_reason(node: &NodeInfo) -> String {
    if is_usable(node) { node.label() } else { node.to_string() }
}

/// Whether it takes orders.
fn is_usable(node: &NodeInfo) -> bool {
    matches!(node.state, NodeState::Connected | NodeState::Preparing)
}
