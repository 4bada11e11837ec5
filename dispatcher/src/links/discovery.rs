//! Discovery of nodes: the local one, the configured ones, those that names resolve to, those that announce themselves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, ResolvedService, ServiceDaemon, ServiceEvent};
use pp_protocol::advert::{Advert, SERVICE};
use pp_protocol::limits::NODES_ANNOUNCED;
use pp_protocol::shown_name;
use tokio::sync::mpsc;

use super::Address;
use crate::core::NodeKind;

/// Time between two look-ups of a `dns:` name.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
/// Words of nodes that wait to be taken in; whoever brings more waits.
pub(crate) const WORDS_WAITING: usize = 64;

/// Word of a node.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is one.
    Node {
        /// Its identity, which tells it from others.
        identity: String,
        /// A name for it until it says its own.
        name: String,
        /// Its addresses.
        addresses: Addresses,
        /// Its origin.
        kind: NodeKind,
    },
    /// It does not announce itself any more.
    Gone {
        /// The identity under which it was reported.
        identity: String,
    },
}

/// Addresses at which a node can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// In this process.
    Local,
    /// At whatever the name resolves to when it is dialled.
    Named(Address),
    /// At these, all at once.
    Announced(Vec<SocketAddr>),
}

impl Found {
    pub(crate) fn local() -> Self {
        Self::Node {
            identity: "local".into(),
            name: "local".into(),
            addresses: Addresses::Local,
            kind: NodeKind::Local,
        }
    }

    fn configured(address: Address) -> Self {
        Self::Node {
            identity: format!("configured {address}"),
            name: address.to_string(),
            addresses: Addresses::Named(address),
            kind: NodeKind::Configured,
        }
    }
}

/// Looks for nodes on the network until it is dropped.
pub(crate) struct Discovery(ServiceDaemon);

impl Drop for Discovery {
    fn drop(&mut self) {
        // The answer is of no interest: its thread ends by itself.
        let _ = self.0.shutdown();
    }
}

/// The nodes of which it is known from the start that they are there.
pub(crate) fn named(configured: &[Address]) -> impl Iterator<Item = Found> {
    configured.iter().filter(|address| !address.each).cloned().map(Found::configured)
}

/// Starts looking for nodes other than those [`named`].
pub(crate) fn start(
    configured: &[Address],
    discover: bool,
    found: &mpsc::Sender<Found>,
) -> Option<Discovery> {
    for address in configured.iter().filter(|address| address.each) {
        tokio::spawn(look_up(address.clone(), found.clone()));
    }
    if !discover {
        return None;
    }
    match browse(found.clone()) {
        Ok(discovery) => Some(discovery),
        Err(error) => {
            tracing::warn!(%error, "cannot look for nodes on the network; name them with PP_NODES");
            None
        }
    }
}

/// Every address a name has is a node; new ones are noticed within seconds.
async fn look_up(address: Address, found: mpsc::Sender<Found>) {
    let mut known = Known::new(NODES_ANNOUNCED);
    let mut failed = String::new();
    loop {
        match address.look_up().await {
            Ok(addresses) => {
                failed.clear();
                for each in addresses {
                    match known.add(each) {
                        Added::New => {}
                        Added::Known => continue,
                        Added::Refused { first } => {
                            if first {
                                tracing::warn!(
                                    "{} has had {NODES_ANNOUNCED} addresses: no others of it are used",
                                    address.host
                                );
                            }
                            continue;
                        }
                    }
                    if found.send(Found::configured(each.into())).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                // Said once, not every five seconds.
                let reason = error.to_string();
                if failed != reason {
                    tracing::warn!("{reason}; trying again");
                    failed = reason;
                }
            }
        }
        tokio::time::sleep(LOOK_UP_EVERY).await;
    }
}

fn browse(found: mpsc::Sender<Found>) -> Result<Discovery, mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    // Bridges and virtual cables of containers lead to nodes that cannot be dialled from here.
    daemon.disable_interface(IfKind::Predicate(IfPredicate::new(|interface| is_virtual(&interface.name))))?;
    let announcements = daemon.browse(SERVICE)?;
    tokio::spawn(async move {
        let mut known = Known::new(NODES_ANNOUNCED);
        while let Ok(event) = announcements.recv_async().await {
            let word = match event {
                ServiceEvent::ServiceResolved(service) => announced(&service, &mut known),
                ServiceEvent::ServiceRemoved(_, service) if known.has(&service) => {
                    tracing::debug!(service, "node not announced any more");
                    Some(Found::Gone { identity: service })
                }
                _ => None,
            };
            if let Some(word) = word
                && found.send(word).await.is_err()
            {
                return;
            }
        }
    });
    Ok(Discovery(daemon))
}

fn announced(service: &ResolvedService, known: &mut Known<String>) -> Option<Found> {
    let Some(advert) = Advert::from_txt(|key| service.get_property_val_str(key)) else {
        tracing::debug!(service = service.fullname, "ignored an announcement that is not one of ours");
        return None;
    };
    if let Added::Refused { first } = known.add(service.fullname.clone()) {
        if first {
            tracing::warn!(
                "{NODES_ANNOUNCED} nodes have been announced on this network: no others are taken notice of; name those \
                 that are missing in PP_NODES"
            );
        }
        return None;
    }
    tracing::debug!(service = service.fullname, slots = advert.slots, "node announced");
    let mut addresses: Vec<_> = service.addresses.iter().map(|ip| socket_address(ip, service.port)).collect();
    addresses.sort();
    Some(Found::Node {
        identity: service.fullname.clone(),
        name: advert
            .name
            .unwrap_or_else(|| shown_name(service.fullname.trim_end_matches(SERVICE).trim_end_matches('.'))),
        addresses: Addresses::Announced(addresses),
        kind: NodeKind::Discovered,
    })
}

/// Things heard of, a limited number: anybody on a network can announce anything, and what is once known is
/// remembered for as long as the dispatcher lives.
struct Known<T> {
    limit: usize,
    all: BTreeSet<T>,
    /// Something was refused.
    is_over: bool,
}

/// Result of adding something to what is known.
#[derive(Debug, PartialEq, Eq)]
enum Added {
    New,
    Known,
    /// There is no room for more; whether this is the first time that is so.
    Refused {
        first: bool,
    },
}

impl<T: Ord> Known<T> {
    fn new(limit: usize) -> Self {
        Self { limit, all: BTreeSet::new(), is_over: false }
    }

    fn has(&self, one: &T) -> bool {
        self.all.contains(one)
    }

    fn add(&mut self, one: T) -> Added {
        if self.all.contains(&one) {
            return Added::Known;
        }
        if self.all.len() >= self.limit {
            return Added::Refused { first: !std::mem::replace(&mut self.is_over, true) };
        }
        self.all.insert(one);
        Added::New
    }
}

fn socket_address(ip: &mdns_sd::ScopedIp, port: u16) -> SocketAddr {
    let mut address = SocketAddr::new(ip.to_ip_addr(), port);
    // A link-local address means nothing without the interface it was heard on.
    if let (SocketAddr::V6(address), mdns_sd::ScopedIp::V6(scoped)) = (&mut address, ip)
        && address.ip().is_unicast_link_local()
    {
        address.set_scope_id(scoped.scope_id().index);
    }
    address
}

fn is_virtual(interface: &str) -> bool {
    ["docker", "veth", "br-", "virbr", "cni", "flannel"].iter().any(|prefix| interface.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_the_limit_and_that_is_said_once() {
        let mut known = Known::new(2);
        assert_eq!([known.add("a"), known.add("a"), known.add("b")], [Added::New, Added::Known, Added::New]);
        let refused = |first| Added::Refused { first };
        assert_eq!(
            [known.add("c"), known.add("d"), known.add("c")],
            [refused(true), refused(false), refused(false)]
        );
        assert_eq!(
            (known.add("b"), known.has(&"c")),
            (Added::Known, false),
            "those that are known still are"
        );
    }
}
