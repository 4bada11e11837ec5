//! A network of hosts within this machine: each is a network namespace, and a cable leads from it to a switch, which is
//! a bridge in a namespace of its own. Nothing of it touches the network that this machine is in.
//!
//! Processes and files are those of this machine; only the network is apart. See network_namespaces(7), veth(4).

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wait::wait_until;

/// Beginning of the namespaces' names; then the process that made them, and what each one is.
const PREFIX: &str = "pp-tests";

/// Hosts that are cabled to one switch. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    /// Only kept to be removed.
    _switch: Namespace,
}

/// A host: processes started in it see its network alone.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    /// The switch's end of its cable.
    socket: String,
    switch: String,
    /// Its address.
    pub address: String,
}

impl Network {
    /// Reason why this process may not make networks, if it may not.
    pub fn forbidden() -> Option<String> {
        Namespace::make("trial").err()
    }

    /// Cables so many hosts to a switch, and waits until they can speak.
    ///
    /// # Panics
    /// When some part of it cannot be made.
    pub fn start(hosts: usize) -> Self {
        remove_abandoned();
        let switch = Namespace::make("switch").unwrap_or_else(|reason| panic!("{reason}"));
        // A switch as one buys it: it knows nothing of multicast groups.
        switch.ip("link add switch type bridge mcast_snooping 0");
        switch.ip("link set switch up");
        let hosts = (1..=hosts).map(|number| Host::cable(number, &switch)).collect();
        let network = Self { hosts, _switch: switch };
        wait_until("the addresses to be usable", || network.hosts.iter().all(Host::is_ready));
        network
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Host {
    fn cable(number: usize, switch: &Namespace) -> Self {
        let namespace = Namespace::make(&format!("host{number}")).unwrap_or_else(|reason| panic!("{reason}"));
        let (socket, address) = (format!("socket{number}"), format!("10.99.7.{number}"));
        switch.ip(&format!("link add {socket} type veth peer name eth0 netns {}", namespace.0));
        switch.ip(&format!("link set {socket} master switch up"));
        namespace.ip("link set lo up");
        namespace.ip("link set eth0 up");
        namespace.ip(&format!("address add {address}/24 dev eth0"));
        namespace.ip("route add 224.0.0.0/4 dev eth0");
        Self { namespace, socket, switch: switch.0.clone(), address }
    }

    /// Whether no address is being tried out any more, as those of IPv6 are at first.
    fn is_ready(&self) -> bool {
        let addresses = self.namespace.ip("address show dev eth0");
        addresses.contains(&self.address)
            && addresses.contains("LOWER_UP")
            && !addresses.contains("tentative")
    }

    /// Its address of IPv6 on this link alone, which means nothing without an interface.
    ///
    /// # Panics
    /// When it has none.
    pub fn link_local(&self) -> String {
        let shown = self.namespace.ip("-6 -brief address show dev eth0 scope link");
        let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64"));
        address.unwrap_or_else(|| panic!("no address in {shown:?}")).to_owned()
    }

    /// Number of the interface that its cable is in.
    ///
    /// # Panics
    /// When there is none.
    pub fn interface_index(&self) -> String {
        let shown = self.namespace.ip("-oneline link show dev eth0");
        shown.split(':').next().expect("a number comes first").trim().to_owned()
    }

    /// Beginning of a command that is to run on this host.
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace.0].map(Into::into).into()
    }

    /// Gives it one more address, which is of no network here.
    pub fn add_address(&self, address: &str) {
        self.namespace.ip(&format!("address add {address} dev lo"));
    }

    /// Has it send to `router` whatever is not for its own network.
    pub fn route_all_by(&self, router: &Self) {
        self.namespace.ip(&format!("route add default via {}", router.address));
    }

    /// Pulls its cable out of the switch.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set {} down", self.switch, self.socket));
    }

    /// Puts its cable back in.
    pub fn plug(&self) {
        ip(&format!("-n {} link set {} up", self.switch, self.socket));
    }
}

impl Host {
    /// Loses everything that is sent to it; what it sends arrives.
    pub fn deafen(&self) {
        // A bucket too small for any packet lets none through (tc-tbf(8)).
        self.tc("add", " tbf rate 8bit burst 1 limit 1");
    }

    /// Lets it hear again.
    pub fn undeafen(&self) {
        self.tc("del", "");
    }

    fn tc(&self, order: &str, what: &str) {
        let arguments = format!("-n {} qdisc {order} dev {} root{what}", self.switch, self.socket);
        let status = Command::new("tc").args(arguments.split_whitespace()).status();
        assert!(status.is_ok_and(|status| status.success()), "`tc {arguments}` (iproute2) failed");
    }
}

/// A network namespace; removed when dropped, with everything in it.
#[derive(Debug)]
struct Namespace(String);

impl Namespace {
    fn make(role: &str) -> Result<Self, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{PREFIX}-{}-{}-{role}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        try_ip(&format!("netns add {name}")).map(|_| Self(name))
    }

    /// Runs `ip` in it.
    fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.0))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about one that stays.
        let _ = try_ip(&format!("netns del {}", self.0));
    }
}

/// Removes what tests left that were killed.
fn remove_abandoned() {
    for line in ip("netns list").lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another test may be about to do the same.
            let _ = try_ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Runs `ip` (iproute2), and yields what it printed, or why it failed.
fn try_ip(arguments: &str) -> Result<String, String> {
    let run = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = run.map_err(|error| format!("cannot run ip (iproute2): {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(format!("`ip {arguments}` failed: {}", reason.trim()))
    }
}
