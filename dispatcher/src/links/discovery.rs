//! Discovery of nodes: the local one, the configured ones, those that names resolve to, those that announce themselves.

mod on_link;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, IfPredicate, Receiver, ResolvedService, ServiceDaemon, ServiceEvent};
use pp_protocol::advert::{Advert, SERVICE};
use pp_protocol::limits::{ADDRESSES_ANNOUNCED, ADDRESSES_NAMED};
use pp_protocol::shown_name;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use self::on_link::Networks;
use super::Address;
use crate::core::{NodeKind, Unreachable};

/// Time between two look-ups of a `dns:` name.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
/// Time until it is looked for nodes anew where that broke off; it doubles from time to time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
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
    /// A name of which every address is a node was looked up; why that came to nothing, if it did.
    LookedUp {
        /// The name, as it was written.
        name: String,
        /// Cause.
        failed: Option<Unreachable>,
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
pub(crate) struct Discovery {
    task: JoinHandle<()>,
    missed: Arc<Notify>,
}

impl Discovery {
    /// A node that was announced could not be taken notice of: those that are there are to be heard again later.
    pub(crate) fn missed_one(&self) {
        self.missed.notify_one();
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The nodes of which it is known from the start that they are there.
pub(crate) fn named(configured: &[Address]) -> impl Iterator<Item = Found> {
    configured.iter().filter(|address| !address.each).cloned().map(Found::configured)
}

/// The names of which every address is a node.
pub(crate) fn looked_up(configured: &[Address]) -> impl Iterator<Item = &Address> {
    configured.iter().filter(|address| address.each)
}

/// Starts looking for nodes other than those [`named`].
pub(crate) fn start(
    configured: &[Address],
    discover: bool,
    found: &mpsc::Sender<Found>,
) -> Option<Discovery> {
    for address in looked_up(configured) {
        tokio::spawn(look_up(address.clone(), found.clone()));
    }
    if !discover {
        return None;
    }
    let missed = Arc::<Notify>::default();
    let task = tokio::spawn(look_around(found.clone(), Arc::clone(&missed)));
    Some(Discovery { task, missed })
}

/// Every address a name has is a node; new ones are noticed within seconds. Ends when there is nobody to tell.
async fn look_up(address: Address, found: mpsc::Sender<Found>) -> Result<(), SendError<Found>> {
    let mut known = Known::new(ADDRESSES_NAMED);
    // Said once, not every five seconds.
    let mut said = None;
    loop {
        let failed = match address.look_up().await {
            Ok(addresses) => {
                let failed = addresses.is_empty().then_some(Unreachable::NoAddress);
                for each in addresses {
                    match known.add(each) {
                        Added::New => found.send(Found::configured(each.into())).await?,
                        Added::Known | Added::Refused { first: false } => {}
                        Added::Refused { first: true } => tracing::warn!(
                            "{} has had {ADDRESSES_NAMED} addresses: no others of it are used",
                            address.host
                        ),
                    }
                }
                failed
            }
            Err(error) => Some(Unreachable::Name(error.into())),
        };
        if said.as_ref() != Some(&failed) {
            if let Some(reason) = &failed {
                tracing::warn!("{}: {reason}; trying again", address.written());
            }
            said = Some(failed.clone());
            found.send(Found::LookedUp { name: address.written(), failed }).await?;
        }
        tokio::time::sleep(LOOK_UP_EVERY).await;
    }
}

/// Reason to look for nodes anew.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("cannot look for nodes on the network: {0}")]
    Failed(#[from] mdns_sd::Error),
    #[error("more nodes are announced on the network than can be taken in")]
    Flooded,
    #[error("not all nodes that were announced on the network were taken notice of")]
    Missed,
    /// The dispatcher has ended.
    #[error("there is nobody to tell")]
    Unheard,
}

/// Looks for nodes for ever. What the library for it remembers of announcements is forgotten each time it is begun anew.
async fn look_around(found: mpsc::Sender<Found>, missed: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    let mut adverts = Adverts::default();
    loop {
        let began = Instant::now();
        let interrupted = browse(&found, &missed, pause, &mut adverts).await;
        match interrupted {
            Interrupted::Unheard => return,
            Interrupted::Missed => tracing::debug!("{interrupted}; looking again"),
            Interrupted::Failed(_) | Interrupted::Flooded => tracing::warn!(
                "{interrupted}; looking again in {} s; nodes can be named with PP_NODES",
                pause.as_secs()
            ),
        }
        if !matches!(interrupted, Interrupted::Missed) {
            tokio::time::sleep(pause).await;
        }
        pause =
            if began.elapsed() > 2 * LONGEST_PAUSE { FIRST_PAUSE } else { (2 * pause).min(LONGEST_PAUSE) };
    }
}

/// A responder, which ends with this.
struct Responder(ServiceDaemon);

impl Drop for Responder {
    fn drop(&mut self) {
        // The answer is of no interest: its thread ends by itself.
        let _ = self.0.shutdown();
    }
}

impl Responder {
    fn start() -> Result<(Self, Receiver<ServiceEvent>), mdns_sd::Error> {
        let responder = Self(ServiceDaemon::new()?);
        // Bridges and virtual cables of containers lead to nodes that cannot be dialled from here.
        let containers = IfPredicate::new(|interface| is_virtual(&interface.name));
        responder.0.disable_interface(IfKind::Predicate(containers))?;
        let announcements = responder.0.browse(SERVICE)?;
        Ok((responder, announcements))
    }
}

/// Tells of nodes until that has to be begun anew. Where some were missed, that is after `pause`.
async fn browse(
    found: &mpsc::Sender<Found>,
    missed: &Notify,
    pause: Duration,
    adverts: &mut Adverts,
) -> Interrupted {
    let (_responder, announcements) = match Responder::start() {
        Ok(started) => started,
        Err(error) => return error.into(),
    };
    let missed = async {
        missed.notified().await;
        tokio::time::sleep(pause).await;
    };
    tokio::pin!(missed);
    loop {
        let event = tokio::select! {
            // The library ends a subscription that is behind.
            event = announcements.recv_async() => match event {
                Ok(event) => event,
                Err(_) => return Interrupted::Flooded,
            },
            () = &mut missed => return Interrupted::Missed,
        };
        let word = match event {
            ServiceEvent::ServiceResolved(service) => adverts.read(&service),
            ServiceEvent::ServiceRemoved(_, service) => {
                tracing::debug!(service, "node not announced any more");
                Some(Found::Gone { identity: service })
            }
            _ => None,
        };
        if let Some(word) = word
            && found.send(word).await.is_err()
        {
            return Interrupted::Unheard;
        }
    }
}

/// Reads announcements.
#[derive(Default)]
struct Adverts {
    networks: Networks,
    /// It was said that some are of nodes that are not on the network.
    is_off_link_said: bool,
}

impl Adverts {
    fn read(&mut self, service: &ResolvedService) -> Option<Found> {
        let Some(advert) = Advert::from_txt(|key| service.get_property_val_str(key)) else {
            tracing::debug!(service = service.fullname, "ignored an announcement that is not one of ours");
            return None;
        };
        let on_link = service.addresses.iter().filter_map(|ip| self.networks.on_link(ip, service.port));
        let mut addresses: Vec<_> = on_link.collect();
        addresses.sort();
        addresses.truncate(ADDRESSES_ANNOUNCED);
        let name = advert
            .name
            .unwrap_or_else(|| shown_name(service.fullname.trim_end_matches(SERVICE).trim_end_matches('.')));
        if addresses.is_empty() {
            self.say_off_link(&name, service);
            return None;
        }
        tracing::debug!(service = service.fullname, slots = advert.slots, "node announced");
        Some(Found::Node {
            identity: service.fullname.clone(),
            name,
            addresses: Addresses::Announced(addresses),
            kind: NodeKind::Discovered,
        })
    }

    /// Said of the first one; it may be one of thousands that somebody made up.
    fn say_off_link(&mut self, name: &str, service: &ResolvedService) {
        let all = service.addresses.iter().take(ADDRESSES_ANNOUNCED);
        let all = all.map(|ip| ip.to_ip_addr().to_string()).collect::<Vec<_>>().join(", ");
        if std::mem::replace(&mut self.is_off_link_said, true) {
            return tracing::debug!(name, all, "ignored an announcement of something elsewhere");
        }
        tracing::warn!(
            "{name} is announced at {all}, which is not on the network that the announcement came from: nothing is dialled \
             there unless it is named in PP_NODES (others like it are ignored, too)"
        );
    }
}

/// Addresses that a name has had, a limited number: what is once known is remembered for as long as the dispatcher lives.
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
        assert_eq!(known.add("b"), Added::Known, "those that are known still are");
    }
}
