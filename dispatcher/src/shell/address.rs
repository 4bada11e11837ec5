//! Addresses of nodes as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use pp_protocol::DEFAULT_PORT;

use crate::error::StartError;

/// The address of a node, as configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Every address the name has is a node of its own, and the name is looked up again and again.
    pub(crate) each: bool,
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `IPV6` or any of the first two behind `dns:`.
    pub(crate) fn parse(text: &str) -> Result<Self, StartError> {
        let bad = || StartError::Address(text.into());
        let (rest, each) = match text.strip_prefix("dns:") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, port) = if let Ok(address) = rest.parse::<SocketAddr>() {
            (address.ip().to_string(), address.port())
        } else if let Ok(ip) = rest.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            (ip.to_string(), DEFAULT_PORT)
        } else {
            match rest.split_once(':') {
                Some((host, port)) => (host.to_owned(), port.parse().map_err(|_| bad())?),
                None => (rest.to_owned(), DEFAULT_PORT),
            }
        };
        let sensible = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        if sensible { Ok(Self { host, port, each }) } else { Err(bad()) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
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
        assert_eq!(read("host:port"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("http://host"), None);
    }
}
