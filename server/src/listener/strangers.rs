//! Strangers: peers that are connected and have not proved yet that they know the secret.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use tokio::task::AbortHandle;

/// The handshakes under way, a limited number of them.
pub(super) struct Strangers {
    limit: usize,
    /// Oldest first, with where they come from.
    handshakes: VecDeque<(IpAddr, AbortHandle)>,
}

impl Strangers {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, handshakes: VecDeque::new() }
    }

    /// Number there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes one in. If there are too many, another one is sent away, and it is true.
    pub(super) fn add(&mut self, from: IpAddr, handshake: AbortHandle) -> bool {
        self.handshakes.retain(|(_, handshake)| !handshake.is_finished());
        let is_crowded = self.handshakes.len() >= self.limit && self.send_one_away();
        self.handshakes.push_back((network_of(from), handshake));
        is_crowded
    }

    /// Ends the oldest handshake of the network that has most of them under way, so that a flood from one place keeps
    /// out nobody of another. False if there is none.
    pub(super) fn send_one_away(&mut self) -> bool {
        self.handshakes.retain(|(_, handshake)| !handshake.is_finished());
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for (from, _) in &self.handshakes {
            *counts.entry(*from).or_default() += 1;
        }
        let most = counts.values().max();
        let oldest = self.handshakes.iter().position(|(from, _)| counts.get(from) == most);
        let oldest = oldest.and_then(|place| self.handshakes.remove(place));
        oldest.inspect(|(_, handshake)| handshake.abort()).is_some()
    }
}

/// An address of IPv4; of IPv6 the network that one customer has (RFC 6177).
fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_from_one_place_keeps_out_nobody_of_another() {
        let mut strangers = Strangers::new(8);
        let mut come = |from: &str| {
            let handshake = tokio::spawn(std::future::pending::<()>());
            strangers.add(from.parse().expect("an address"), handshake.abort_handle());
            handshake
        };
        let honest = [come("10.0.0.9"), come("fd00::1")];
        let flood: Vec<_> = (0..100_u32).map(|n| come(&format!("fd00:0:0:7::{n:x}"))).collect();
        let mut ended = Vec::new();
        for (n, handshake) in flood.into_iter().enumerate() {
            if n < 94 {
                assert!(handshake.await.is_err_and(|error| error.is_cancelled()), "the oldest go first");
            } else {
                ended.push(handshake.is_finished());
            }
        }
        assert_eq!(ended, [false; 6], "as many stay as there is room for");
        assert!(honest.iter().all(|handshake| !handshake.is_finished()), "and those of elsewhere");
    }

    #[tokio::test]
    async fn with_nobody_there_nobody_is_sent_away() {
        let mut strangers = Strangers::new(8);
        assert!(!strangers.send_one_away());
        let ended = tokio::spawn(async {});
        strangers.add("10.0.0.9".parse().expect("an address"), ended.abort_handle());
        ended.await.expect("it ends");
        assert!(!strangers.send_one_away(), "who has ended is not there");
    }
}
