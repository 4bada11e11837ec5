//! Announcing the node on the local network.
//!
//! The responder's library takes orders and performs them later; whether they had an effect is seen in the events that
//! it reports, which are logged here.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo, UnregisterStatus};
use pp_node::Node;
use pp_protocol::VersionRange;
use pp_protocol::advert::{self, Advert, SERVICE};

/// Time that the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// The library says a farewell twice, the second time after so long.
const SECOND_FAREWELL: Duration = Duration::from_millis(150);
/// Time that the first announcement may take: names are tried out for less than a second before (RFC 6762, section 8.1).
const FIRST_ANNOUNCEMENT: Duration = Duration::from_secs(5);

/// Announces the node until it is dropped or said goodbye for.
pub(crate) struct Advertiser {
    daemon: ServiceDaemon,
    name: String,
    port: u16,
    /// None for every address of this machine.
    address: Option<IpAddr>,
    node: Node,
    events: Receiver<DaemonEvent>,
}

impl fmt::Debug for Advertiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Advertiser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Advertiser {
    /// Announces `node` at `address`, or where that is none in particular, at every address of this machine.
    pub(crate) fn start(node: Node, name: String, address: SocketAddr) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let events = daemon.monitor()?;
        // Nobody can reach this machine through the bridges and virtual cables of its own containers.
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(|interface| {
            is_virtual(&interface.name)
        })))?;
        let port = address.port();
        let address = Some(address.ip()).filter(|address| !address.is_unspecified());
        let advertiser = Self { daemon, name, port, address, node, events };
        advertiser.announce()?;
        Ok(advertiser)
    }

    fn announce(&self) -> Result<(), mdns_sd::Error> {
        self.daemon.register(self.service()?)
    }

    fn service(&self) -> Result<ServiceInfo, mdns_sd::Error> {
        let id = self.node.id();
        let slots = self.node.status().borrow().slots;
        let advert = Advert { id, slots, versions: VersionRange::SPOKEN, name: Some(self.name.clone()) };
        let txt: HashMap<String, String> =
            advert.to_txt().into_iter().map(|(key, value)| (key.into(), value)).collect();
        let label = advert::label(&self.name);
        // The host name is of this life of the node only, so that addresses of an earlier one never mix with its own.
        let host = format!("{label}-{id}.local.");
        let instance = format!("{label}-{}", self.port);
        Ok(match self.address {
            Some(address) => ServiceInfo::new(SERVICE, &instance, &host, address, self.port, txt)?,
            None => ServiceInfo::new(SERVICE, &instance, &host, "", self.port, txt)?.enable_addr_auto(),
        })
    }

    /// Announces the number of slots whenever it changes, and logs what became of announcements, for ever.
    pub(crate) async fn keep_up_to_date(&self) {
        tokio::join!(self.follow_slots(), self.watch());
    }

    async fn follow_slots(&self) {
        let mut status = self.node.status();
        let mut announced = status.borrow().slots;
        while status.changed().await.is_ok() {
            let slots = status.borrow_and_update().slots;
            if slots != announced {
                announced = slots;
                if let Err(error) = self.announce() {
                    tracing::warn!(%error, "cannot announce the new number of slots");
                }
            }
        }
        std::future::pending().await
    }

    async fn watch(&self) {
        let announced = self.watch_for_announcement();
        tokio::pin!(announced);
        if tokio::time::timeout(FIRST_ANNOUNCEMENT, &mut announced).await.is_err() {
            tracing::error!(
                "this node could not be announced on any network within {} s: is there an interface that is up and \
                 carries multicast? Without, dispatchers have to name it in PP_NODES",
                FIRST_ANNOUNCEMENT.as_secs()
            );
            announced.await;
            tracing::info!("this node is announced on the network now");
        }
        loop {
            self.watch_for_announcement().await;
        }
    }

    /// Logs what the responder reports, up to the next announcement.
    async fn watch_for_announcement(&self) {
        while let Ok(event) = self.events.recv_async().await {
            match event {
                DaemonEvent::Announce(name, place) => {
                    tracing::debug!(name, place, "announced on the network");
                    return;
                }
                DaemonEvent::Error(error) => {
                    tracing::error!(%error, "cannot announce this node on the network");
                }
                DaemonEvent::NameChange(change) => tracing::info!(
                    name = change.original,
                    instead = change.new_name,
                    interface = change.intf_name,
                    "another node of this name is announced: this one is announced by another"
                ),
                event => tracing::trace!(?event, "mDNS"),
            }
        }
        tracing::error!("the mDNS responder has ended: this node is not announced any more");
        std::future::pending().await
    }

    /// Tells the network that the node leaves.
    pub(crate) async fn goodbye(self) {
        let name = self.service().map(|service| service.get_fullname().to_owned());
        if let Ok(done) = name.and_then(|name| self.daemon.unregister(&name)) {
            match tokio::time::timeout(FAREWELL, done.recv_async()).await {
                Ok(Ok(UnregisterStatus::OK)) => tokio::time::sleep(SECOND_FAREWELL).await,
                status => tracing::warn!(?status, "the network was not told that this node leaves"),
            }
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(FAREWELL, done.recv_async()).await;
        }
    }
}

fn is_virtual(interface: &str) -> bool {
    ["docker", "veth", "br-", "virbr", "cni", "flannel"].iter().any(|prefix| interface.starts_with(prefix))
}
