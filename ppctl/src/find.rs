//! The nodes that are meant by names, patterns and addresses.
//!
//! What looks like an address is dialled, and nothing else is looked for; only a name or a pattern is worth a search. A name that
//! no node has is taken for that of a machine.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use pp_dispatcher::{Dispatcher, NodeInfo, NodePattern, NodeReason, NodeRefusal, NodeState};
use pp_protocol::Role;
use pp_protocol::address::is_like_address;

use crate::{Arguments, DISCOVERY, is_settled, look, remote, wait_for};

/// Time to look for nodes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time to wait for word of other nodes once those of the names were found.
const OTHERS: Duration = Duration::from_secs(1);

/// Nodes that are not used of which it is said why where a name was not found.
const REASONS: usize = 2;
/// A pattern that every name fits.
pub(crate) const EVERY: &str = "*";

/// A node that is meant, and the dispatcher that sees it.
#[derive(Clone, Debug)]
pub(crate) struct Meant {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) node: NodeInfo,
}

/// What was found of the nodes that are meant.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Each once, whether it is used or not.
    pub(crate) meant: Vec<Meant>,
    /// Names and patterns that no node has.
    pub(crate) missing: Vec<String>,
    /// All nodes that were seen while names were looked for.
    pub(crate) seen: Vec<NodeInfo>,
}

/// Looks for the nodes that these words mean, among those that can be found in this role and those at `named`.
///
/// # Errors
/// When a dispatcher cannot be started, or several nodes have a name that is no pattern.
pub(crate) fn search(
    arguments: &Arguments,
    named: &[String],
    words: &[String],
    role: Role,
) -> anyhow::Result<Search> {
    let (addresses, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| is_like_address(word));
    let mut search = Search::default();
    // Both looks take their time at once.
    let at_addresses = (!addresses.is_empty()).then(|| look_at(arguments, &addresses, role)).transpose()?;
    if !names.is_empty() {
        search.look_for_names(arguments, named, &names, role)?;
    }
    if let Some(dispatcher) = at_addresses {
        wait_for(PATIENCE, || remote(&dispatcher).iter().all(is_settled).then_some(()));
        remote(&dispatcher).into_iter().for_each(|node| search.add(&dispatcher, node));
    }
    Ok(search)
}

impl Search {
    fn look_for_names(
        &mut self,
        arguments: &Arguments,
        named: &[String],
        names: &[&String],
        role: Role,
    ) -> anyhow::Result<()> {
        let builder = look(arguments, named, role);
        let discovers = builder.discovers()?;
        let dispatcher = builder.start()?;
        let names: Vec<Name<'_>> = names.iter().map(|name| Name::new(name)).collect();
        let (started, is_one_of_several) =
            (Instant::now(), names.iter().any(|name| name.pattern.is_of_several()));
        wait_for(PATIENCE, || {
            let nodes = remote(&dispatcher);
            let is_settled_all = nodes.iter().all(is_settled);
            let is_found = |name: &Name<'_>| nodes.iter().any(|node| name.is_of(node) && is_settled(node));
            let is_time = !discovers || !is_one_of_several || started.elapsed() >= DISCOVERY;
            let is_done = is_time && names.iter().all(is_found) || !discovers && is_settled_all;
            is_done.then_some(())
        });
        // Others that can be found are heard, too: one of them may have the same name.
        wait_for(OTHERS, || remote(&dispatcher).iter().all(is_settled).then_some(()));
        self.seen = remote(&dispatcher);
        self.seen.sort_by(|a, b| a.name.cmp(&b.name));
        if is_one_of_several {
            self.tell_of_nameless(&names);
        }
        for name in &names {
            let mut those: Vec<_> = self.seen.iter().filter(|node| name.is_of(node)).cloned().collect();
            if those.len() > 1 {
                those.retain(|node| !is_known_elsewhere(node));
            }
            if those.len() > 1 && !name.pattern.is_of_several() {
                let addresses: Vec<_> = those.iter().map(|node| node.address.as_str()).collect();
                bail!(
                    "{} nodes are called {:?}; name one of them by its address: {}",
                    those.len(),
                    name.text,
                    addresses.join(", ")
                );
            }
            if those.is_empty() {
                self.missing.push(name.text.to_owned());
            }
            those.into_iter().for_each(|node| self.add(&dispatcher, node));
        }
        self.try_as_machines(arguments, role)
    }

    /// A pattern may mean nodes that have not told their names: whoever drains all that it means has to know.
    fn tell_of_nameless(&self, names: &[Name<'_>]) {
        for node in &self.seen {
            let is_meant = names.iter().any(|name| name.is_of(node));
            if node.id.is_none() && !is_meant && !is_known_elsewhere(node) {
                crate::warn(&format!(
                    "it is not known whether a node is meant, as it did not tell its name: {node}"
                ));
            }
        }
    }

    /// Names that no node has may be those of machines.
    fn try_as_machines(&mut self, arguments: &Arguments, role: Role) -> anyhow::Result<()> {
        let may_be_one = |name: &&String| !name.contains([' ', '*', '?']);
        for name in self.missing.iter().filter(may_be_one).cloned().collect::<Vec<_>>() {
            let Ok(dispatcher) = look_at(arguments, &[&name], role) else { continue };
            wait_for(PATIENCE, || remote(&dispatcher).iter().any(is_settled).then_some(()));
            let nodes = remote(&dispatcher);
            // Among others it is a word that was mistyped, rather than a machine that is out of reach.
            if self.seen.is_empty() || nodes.iter().any(is_usable) {
                self.missing.retain(|missing| *missing != name);
                nodes.into_iter().for_each(|node| self.add(&dispatcher, node));
            }
        }
        Ok(())
    }

    fn add(&mut self, dispatcher: &Dispatcher, node: NodeInfo) {
        let is_known = self.meant.iter().any(|Meant { node: known, .. }| match node.id {
            Some(_) => node.id == known.id,
            None => node.label() == known.label(),
        });
        if !is_known {
            self.meant.push(Meant { dispatcher: dispatcher.clone(), node });
        }
    }

    /// The nodes, if there is one for each word.
    ///
    /// # Errors
    /// Which word means none, and which nodes there are.
    pub(crate) fn all(self) -> anyhow::Result<Vec<Meant>> {
        let Some(missing) = self.missing.first() else { return Ok(self.meant) };
        Err(anyhow!("{}", not_there(missing, &self.seen)))
    }
}

/// What is said of a name or pattern that none of these nodes has.
pub(crate) fn not_there(name: &str, seen: &[NodeInfo]) -> String {
    let what = match NodePattern::new(name).is_of_several() {
        true if name == EVERY => "there is no node".into(),
        true => format!("no node's name fits {name:?}"),
        false => format!("no node is called {name:?}"),
    };
    match seen {
        [] => format!(
            "{what}, and none was found: start `ppserver -a` on a machine of this network, or name one with --node or PP_NODES \
             if the network does not carry multicast"
        ),
        nodes => {
            let is_short = nodes.iter().filter(|node| !is_usable(node)).count() <= REASONS;
            let told = |node: &NodeInfo| match is_usable(node) {
                true => node.label(),
                false if is_short => node.to_string(),
                false => format!("{} (not used)", node.label()),
            };
            let nodes: Vec<_> = nodes.iter().map(told).collect();
            let hint = if is_short { "" } else { "; `ppctl explain` says why some are not used" };
            format!("{what}; there are: {}{hint}", nodes.join(if is_short { "; " } else { ", " }))
        }
    }
}

/// The node of that name among those that can be found in this role, and those at `named`; else the one at that address.
///
/// # Errors
/// When there is no such node, or it is not used; why.
pub(crate) fn find(
    arguments: &Arguments,
    named: &[String],
    name: &str,
    role: Role,
) -> anyhow::Result<(Dispatcher, NodeInfo)> {
    let mut meant = search(arguments, named, &[name.to_owned()], role)?.all()?;
    match (meant.pop(), meant.len()) {
        (None, _) => bail!("no node {name:?} was found; `ppctl nodes` lists those there are"),
        (Some(Meant { dispatcher, node }), 0) if is_usable(&node) => Ok((dispatcher, node)),
        (Some(Meant { node, .. }), 0) => bail!("{node}"),
        (Some(_), others) => bail!("{} nodes are meant by {name:?}; name one of them", others + 1),
    }
}

/// A name, or a pattern, as it was written.
struct Name<'a> {
    text: &'a str,
    pattern: NodePattern,
}

impl<'a> Name<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, pattern: NodePattern::new(text) }
    }

    fn is_of(&self, node: &NodeInfo) -> bool {
        node.label() == self.text || self.pattern.fits(&node.name, &node.address)
    }
}

pub(crate) fn look_at(
    arguments: &Arguments,
    addresses: &[&String],
    role: Role,
) -> anyhow::Result<Dispatcher> {
    let addresses = addresses.iter().map(|address| address.as_str());
    Ok(look(arguments, &[], role).discover(false).nodes(addresses).start()?)
}

/// Whether it takes orders.
pub(crate) fn is_usable(node: &NodeInfo) -> bool {
    matches!(node.state, NodeState::Connected | NodeState::Preparing | NodeState::Draining)
}

/// Whether it is the same node as another one that was found.
pub(crate) fn is_known_elsewhere(node: &NodeInfo) -> bool {
    matches!(
        node.reason,
        Some(NodeReason::SameNode { .. } | NodeReason::Refused(NodeRefusal::InUseElsewhere))
    )
}
