//! Which addresses are on a network that this machine is in.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use if_addrs::{IfAddr, Interface};
use mdns_sd::ScopedIp;

/// Time for which the system's word of its interfaces is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// The networks of this machine's interfaces.
#[derive(Debug, Default)]
pub(super) struct Networks {
    interfaces: Vec<Interface>,
    asked: Option<Instant>,
}

impl Networks {
    /// The address as it is dialled, if it is on the network of an interface that it was heard of on: whoever announces
    /// something can be sent no further than they can reach themselves.
    pub(super) fn on_link(&mut self, ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
        if self.asked.is_none_or(|asked| asked.elapsed() > BELIEVED) {
            // Where the system does not say, nothing is on any of them.
            self.interfaces = if_addrs::get_if_addrs().unwrap_or_default();
            self.asked = Some(Instant::now());
        }
        on_link(&self.interfaces, ip, port)
    }
}

fn on_link(interfaces: &[Interface], ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let mut address = SocketAddr::new(ip.to_ip_addr(), port);
    let heard_on = |interface: &&Interface| match ip {
        ScopedIp::V4(ip) => ip.interface_ids().iter().any(|id| Some(id.index) == interface.index),
        ScopedIp::V6(ip) => Some(ip.scope_id().index) == interface.index,
        _ => false,
    };
    if let (SocketAddr::V6(address), ScopedIp::V6(scoped)) = (&mut address, ip)
        && address.ip().is_unicast_link_local()
    {
        // It means nothing without the interface, and is on its link whatever the networks there are.
        address.set_scope_id(scoped.scope_id().index);
    }
    let is_usable = port != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
    let is_there = |interface: &Interface| is_in(&interface.addr, address.ip());
    (is_usable && interfaces.iter().filter(heard_on).any(is_there)).then_some(address)
}

/// Whether an address is of the network in which `own` is.
fn is_in(own: &IfAddr, ip: IpAddr) -> bool {
    match (own, ip) {
        (IfAddr::V4(own), IpAddr::V4(ip)) => {
            let mask = own.netmask.to_bits();
            // The last one of a network is everybody's.
            let is_broadcast = own.prefixlen < 31 && ip.to_bits() | mask == u32::MAX;
            own.ip.to_bits() & mask == ip.to_bits() & mask && !is_broadcast
        }
        (IfAddr::V6(own), IpAddr::V6(ip)) => {
            let mask = own.netmask.to_bits();
            ip.is_unicast_link_local() || own.ip.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(index: u32, ip: &str, prefixlen: u8) -> Interface {
        let addr = match ip.parse().expect("an address") {
            IpAddr::V4(ip) => {
                let netmask = u32::MAX.checked_shl(32 - u32::from(prefixlen)).unwrap_or(0).into();
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen, broadcast: None })
            }
            IpAddr::V6(ip) => {
                let netmask = u128::MAX.checked_shl(128 - u32::from(prefixlen)).unwrap_or(0).into();
                IfAddr::V6(Ifv6Addr { ip, netmask, prefixlen, broadcast: None })
            }
        };
        Interface {
            name: format!("eth{index}"),
            addr,
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    #[test]
    fn only_what_is_on_the_network_of_the_interface_that_spoke_of_it_is_dialled() {
        let own = [
            interface(2, "10.0.0.5", 24),
            interface(2, "fd00::5", 64),
            interface(2, "fe80::5", 64),
            interface(3, "192.168.7.5", 16),
        ];
        let heard = |ip: &str, index: usize| {
            // As the library has them: made from the interface on which they were heard.
            let spoke = interface(index as u32, ip, 32);
            on_link(&own, &ScopedIp::from(&spoke), 60_000).map(|address| address.to_string())
        };
        let dialled = |text: &str| Some(text.to_owned());
        assert_eq!(heard("10.0.0.9", 2), dialled("10.0.0.9:60000"));
        assert_eq!(heard("192.168.200.1", 3), dialled("192.168.200.1:60000"));
        assert_eq!(heard("fd00::9", 2), dialled("[fd00::9]:60000"));
        assert_eq!(heard("fe80::9", 2), dialled("[fe80::9%2]:60000"));
        for (ip, index) in [
            ("10.0.1.9", 2),
            ("10.0.0.9", 3),
            ("93.184.216.34", 2),
            ("127.0.0.1", 2),
            ("10.0.0.255", 2),
            ("0.0.0.0", 2),
            ("224.0.0.1", 2),
            ("fd01::9", 2),
            ("fd00::9", 3),
            ("fe80::9", 3),
            ("::1", 2),
        ] {
            assert_eq!(heard(ip, index), None, "{ip} on {index}");
        }
    }
}
