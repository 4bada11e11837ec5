//! Addresses of nodes as people write them.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use pp_protocol::DEFAULT_PORT;
use pp_protocol::address::{self, HostIp};

/// A text that is not the address of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a node; write HOST, HOST:PORT, [IPV6]:PORT, [fe80::1%INTERFACE]:PORT or dns:NAME[:PORT]"
)]
pub struct AddressError(pub String);

/// The address of a node, as configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name, or an IP address with the interface that leads there, if it was said.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Every address the name has is a node of its own, and the name is looked up again and again.
    pub(crate) each: bool,
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `IPV6` or any of the first two behind `dns:`. An address of IPv6 may
    /// have its interface: `fe80::1%eth0`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError(text.into());
        let (rest, each) = match text.trim().strip_prefix("dns:") {
            Some(rest) => (rest, true),
            None => (text.trim(), false),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // Without brackets, the last colon of an address of IPv6 is one of its own.
            _ if rest.parse::<HostIp>().is_ok() => (rest, None),
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| bad()))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<HostIp>().map_err(|_| bad())?.to_string(),
            None => host.parse::<HostIp>().map_or_else(|_| host.to_owned(), |ip| ip.to_string()),
        };
        let is_ip = host.parse::<HostIp>().is_ok();
        let is_name = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/:%[]".contains(c));
        if port != 0 && (is_ip || is_name) { Ok(Self { host, port, each }) } else { Err(bad()) }
    }

    /// As people write it.
    pub(crate) fn written(&self) -> String {
        if self.each { format!("dns:{self}") } else { self.to_string() }
    }

    /// Every address it stands for now.
    pub(crate) async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let host = self.host.as_str();
        match host.parse::<HostIp>() {
            Ok(ip) => Ok(vec![ip.socket_address(self.port)?]),
            Err(_) => match tokio::net::lookup_host((host, self.port)).await {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => {
                    let reason = format!(
                        "cannot look up the name {host}: {error}; check how it is written, and that the DNS or /etc/hosts of \
                         this machine knows it"
                    );
                    Err(io::Error::new(error.kind(), reason))
                }
            },
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: HostIp::from(address).to_string(), port: address.port(), each: false }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&address::with_port(&self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let read = |text| Address::parse(text).map(|address| (address.to_string(), address.each)).ok();
        let one = |text: &str| Some((text.to_owned(), false));
        assert_eq!(read("render1"), one("render1:60000"));
        assert_eq!(read("render1:7"), one("render1:7"));
        assert_eq!(read("10.0.0.1:7"), one("10.0.0.1:7"));
        assert_eq!(read("[fe80::1]:7"), one("[fe80::1]:7"));
        assert_eq!(read("fe80::1"), one("[fe80::1]:60000"));
        assert_eq!(read("dns:nodes.example:7"), Some(("nodes.example:7".into(), true)));
        assert_eq!(read("fe80::1%eth0"), one("[fe80::1%eth0]:60000"));
        assert_eq!(read("[fe80::1%eth0]"), one("[fe80::1%eth0]:60000"));
        assert_eq!(read("[fe80::1%eth0]:7"), one("[fe80::1%eth0]:7"));
        assert_eq!(read("[fe80::1%3]:7"), one("[fe80::1%3]:7"));
        assert_eq!(read(" render1 "), one("render1:60000"));
        for text in ["[fe80::1%eth0]:7", "[fe80::1%3]:60000", "[fd00::1]:7", "10.0.0.1:7", "render1:7"] {
            assert_eq!(read(text), one(text), "what is shown is read again");
        }
        for text in
            ["fe80::1%", "[fe80::1%eth0", "render1%eth0", "[render1]:7", "a:b:7", "10.0.0.1%lo", "render1:0"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("host:port"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("http://host"), None);
    }
}
