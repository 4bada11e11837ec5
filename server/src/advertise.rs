//! Announcing the node on the local network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, ServiceDaemon, ServiceInfo};
use pp_node::Node;
use pp_protocol::VersionRange;
use pp_protocol::advert::{Advert, SERVICE};

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Announces the node until it is dropped or said goodbye for.
pub(crate) struct Advertiser {
    daemon: ServiceDaemon,
    name: String,
    port: u16,
    address: Option<IpAddr>,
    node: Node,
}

impl Advertiser {
    /// Announces `node` at `port` of `address`, or of every address of this machine.
    pub(crate) fn start(
        node: Node,
        name: String,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        // Nobody can reach this machine through the bridges and virtual cables of its own containers.
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(|interface| {
            is_virtual(&interface.name)
        })))?;
        let address = address.filter(|address| !address.is_unspecified());
        let advertiser = Self { daemon, name, port, address, node };
        advertiser.announce()?;
        Ok(advertiser)
    }

    fn announce(&self) -> Result<String, mdns_sd::Error> {
        let id = self.node.id();
        let slots = self.node.status().borrow().slots;
        let advert = Advert { id, slots, versions: VersionRange::SPOKEN };
        let txt: HashMap<String, String> = advert.to_txt().map(|(key, value)| (key.into(), value)).into();
        // The host name is of this life of the node only, so that addresses of an earlier one never mix with its own.
        let host = format!("{}-{id}.local.", self.name.replace('.', "-"));
        let instance = format!("{}-{}", self.name, self.port);
        let info = match self.address {
            Some(address) => ServiceInfo::new(SERVICE, &instance, &host, address, self.port, txt)?,
            None => ServiceInfo::new(SERVICE, &instance, &host, "", self.port, txt)?.enable_addr_auto(),
        };
        let name = info.get_fullname().to_owned();
        self.daemon.register(info)?;
        Ok(name)
    }

    /// Announces the number of slots whenever it changes, for ever.
    pub(crate) async fn keep_up_to_date(&self) {
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

    /// Tells the network that the node leaves.
    pub(crate) async fn goodbye(self) {
        let name = format!("{}-{}.{SERVICE}", self.name, self.port);
        if let Ok(done) = self.daemon.unregister(&name) {
            let _ = tokio::time::timeout(FAREWELL, done.recv_async()).await;
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(FAREWELL, done.recv_async()).await;
        }
    }
}

fn is_virtual(interface: &str) -> bool {
    ["docker", "veth", "br-", "virbr", "cni", "flannel"].iter().any(|prefix| interface.starts_with(prefix))
}
