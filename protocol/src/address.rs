//! IP addresses as text and back, without losing the interface that link-local ones belong to (RFC 4007, section 11).
//!
//! `fe80::1` is an address on every link of a machine; only `fe80::1%eth0` says which. People and messages get the name
//! of the interface, the system its index.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// An IP address, and the interface that leads there if it was said: `10.0.0.1`, `fd00::1`, `fe80::1%eth0`, `fe80::1%3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIp {
    /// The address.
    pub ip: IpAddr,
    /// Name or index of the interface.
    pub zone: Option<String>,
}

/// Text is not an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an IP address; write it as 10.0.0.1, fd00::1, or fe80::1%eth0 with the interface")]
pub struct NotAnIp;

impl FromStr for HostIp {
    type Err = NotAnIp;

    fn from_str(text: &str) -> Result<Self, NotAnIp> {
        let Some((ip, zone)) = text.split_once('%') else {
            return Ok(Self { ip: text.parse().map_err(|_| NotAnIp)?, zone: None });
        };
        let ip: Ipv6Addr = ip.parse().map_err(|_| NotAnIp)?;
        let is_name = |c: char| c.is_ascii_graphic() && !"/%[]".contains(c);
        if zone.is_empty() || !zone.chars().all(is_name) {
            return Err(NotAnIp);
        }
        Ok(Self { ip: ip.into(), zone: Some(zone.into()) })
    }
}

impl fmt::Display for HostIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl HostIp {
    /// The address with `port`, for the system.
    ///
    /// # Errors
    /// When there is no such interface here, or none was said and one is needed.
    pub fn socket_address(&self, port: u16) -> io::Result<SocketAddr> {
        let IpAddr::V6(ip) = self.ip else { return Ok(SocketAddr::new(self.ip, port)) };
        let scope_id = match &self.zone {
            Some(zone) => index_of(zone)?,
            None if ip.is_unicast_link_local() => {
                let reason = format!(
                    "{ip} is a link-local address: say the interface that leads there, as in {ip}%eth0"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            None => 0,
        };
        Ok(SocketAddrV6::new(ip, port, 0, scope_id).into())
    }
}

impl From<SocketAddr> for HostIp {
    /// The IP address of it, without its port; the interface by name, if it still has one.
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                let index = address.scope_id();
                Some(interfaces::name(index).unwrap_or_else(|_| index.to_string()))
            }
            _ => None,
        };
        Self { ip: address.ip().to_canonical(), zone }
    }
}

/// A socket address as text that can be given back to any tool of this machine: `10.0.0.1:60000`,
/// `[fe80::1%eth0]:60000`. One of IPv4 that was mapped into IPv6 is what it was.
pub fn shown(address: SocketAddr) -> String {
    with_port(&HostIp::from(address).to_string(), address.port())
}

/// Host and port as one text; IPv6 addresses in brackets.
pub fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether tools take `text` for an address, to be dialled, rather than for the name of a node: an IP address, or anything
/// with a colon and without a blank.
///
/// ```
/// use pp_protocol::address::is_like_address;
///
/// assert!(["10.0.0.1", "host:60000", "[fd00::1]:7", "dns:nodes"].into_iter().all(is_like_address));
/// assert!(!["render1", "render1.example.org", "left: the old one"].into_iter().any(is_like_address));
/// ```
pub fn is_like_address(text: &str) -> bool {
    text.parse::<HostIp>().is_ok() || (text.contains(':') && !text.contains(char::is_whitespace))
}

fn index_of(zone: &str) -> io::Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    interfaces::index(zone).map_err(|error| {
        io::Error::new(error.kind(), format!("there is no network interface {zone:?} here ({error})"))
    })
}

/// Names and indexes of interfaces. The system is asked through a socket, whichever it is (netdevice(7)).
#[cfg(target_os = "linux")]
mod interfaces {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::net::netdevice::{index_to_name, name_to_index};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

    pub(super) fn name(index: u32) -> io::Result<String> {
        Ok(index_to_name(any_socket()?, index)?)
    }

    pub(super) fn index(name: &str) -> io::Result<u32> {
        Ok(name_to_index(any_socket()?, name)?)
    }

    fn any_socket() -> io::Result<OwnedFd> {
        Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
    }
}

/// Elsewhere interfaces have their indexes only.
#[cfg(not(target_os = "linux"))]
mod interfaces {
    use std::io;

    pub(super) fn name(_index: u32) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn index(_name: &str) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_interface_through_text_and_back() {
        for text in ["10.0.0.1", "fd00::1", "fe80::1%lo", "fe80::1%3", "::1%lo"] {
            assert_eq!(text.parse::<HostIp>().map(|ip| ip.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "host", "10.0.0.1%lo", "fe80::1%", "fe80::1%a b", "fe80::1%a%b", "[fe80::1]"] {
            assert_eq!(text.parse::<HostIp>(), Err(NotAnIp), "{text}");
        }
    }

    #[test]
    fn an_interface_is_known_to_the_system_by_index_and_to_people_by_name() {
        let read = |text: &str| text.parse::<HostIp>().unwrap().socket_address(7);
        let by_name = read("fe80::1%lo").unwrap();
        assert_eq!(by_name, read("fe80::1%1").unwrap(), "loopback is the first one everywhere");
        assert_eq!(shown(by_name), "[fe80::1%lo]:7");
        assert_eq!(shown(read("fe80::1%4000000000").unwrap()), "[fe80::1%4000000000]:7", "one that is gone");
        assert_eq!(shown("[::ffff:10.0.0.1]:7".parse().unwrap()), "10.0.0.1:7");
        assert_eq!(shown(read("fd00::1").unwrap()), "[fd00::1]:7");
        let unknown = read("fe80::1%nowhere7").unwrap_err().to_string();
        assert!(unknown.contains("no network interface \"nowhere7\""), "{unknown}");
        let missing = read("fe80::1").unwrap_err().to_string();
        assert!(missing.contains("fe80::1%eth0"), "{missing}");
    }
}
