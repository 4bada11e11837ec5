//! Announcements that nobody has checked: as many nodes as somebody likes, at whatever address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use pp_protocol::advert::{Advert, SERVICE};
use pp_protocol::{NodeId, VersionRange};

/// Group and port at which responders announce (RFC 6762, section 3).
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// A packet is sent once it has so many bytes.
const PACKET_BYTES: usize = 1_100;
/// Time for which they are to be believed, in seconds.
const TTL: u32 = 120;

/// Types and classes of records (RFC 1035, section 3.2; RFC 2782; RFC 6762, section 10.2).
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;
const SHARED: u16 = 1;
const UNIQUE: u16 = 0x8001;

/// Announces so many nodes at `targets` in turn from `interface`, an address of this host.
///
/// # Errors
/// When nothing can be sent there.
pub fn announce(interface: IpAddr, nodes: u32, targets: &[SocketAddr]) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::new(interface, 0))?;
    let mut packet = Packet::default();
    for (number, target) in (0..nodes).zip(targets.iter().cycle()) {
        packet.add_node(number, *target);
        if packet.records.len() > PACKET_BYTES || number + 1 == nodes {
            socket.send_to(&packet.take(), GROUP)?;
        }
    }
    Ok(())
}

/// A response (RFC 6762, section 18).
#[derive(Default)]
struct Packet {
    answers: u16,
    records: Vec<u8>,
}

impl Packet {
    fn add_node(&mut self, number: u32, target: SocketAddr) {
        let service: Vec<&str> = SERVICE.trim_end_matches('.').split('.').collect();
        let instance = format!("forged{number}");
        let instance: Vec<&str> = [instance.as_str()].into_iter().chain(service.iter().copied()).collect();
        let host = format!("host{number}");
        let host = [host.as_str(), "local"];
        let advert =
            Advert { id: NodeId(number.into()), slots: 8, versions: VersionRange::SPOKEN, name: None };
        let txt = advert.to_txt().into_iter().flat_map(|(key, value)| {
            let text = format!("{key}={value}");
            [vec![text.len() as u8], text.into_bytes()].concat()
        });
        let server = [&[0; 4], target.port().to_be_bytes().as_slice(), &name(&host)].concat();
        let IpAddr::V4(ip) = target.ip() else { panic!("addresses of IPv4 only") };
        self.add(&service, PTR, SHARED, &name(&instance));
        self.add(&instance, SRV, UNIQUE, &server);
        self.add(&instance, TXT, UNIQUE, &txt.collect::<Vec<_>>());
        self.add(&host, A, UNIQUE, &ip.octets());
    }

    fn add(&mut self, owner: &[&str], kind: u16, class: u16, data: &[u8]) {
        self.answers += 1;
        self.records.extend(name(owner));
        self.records.extend([kind.to_be_bytes(), class.to_be_bytes()].concat());
        self.records.extend(TTL.to_be_bytes());
        self.records.extend((data.len() as u16).to_be_bytes());
        self.records.extend(data);
    }

    fn take(&mut self) -> Vec<u8> {
        let Self { answers, records } = std::mem::take(self);
        // Identifier, "an answer of an authority", no questions, answers, nothing else.
        let header = [0, 0x8400, 0, answers, 0, 0].map(u16::to_be_bytes).concat();
        [header, records].concat()
    }
}

/// Labels, each behind its length (RFC 1035, section 3.1).
fn name(labels: &[&str]) -> Vec<u8> {
    let labels = labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}
