//! Strangers: peers that are connected and have not proved yet that they know the secret.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use pp_protocol::limits::HANDSHAKES_OF_ONE_SOURCE_DIVISOR;
use tokio::task::AbortHandle;

/// The handshakes under way, a limited number of them.
pub(super) struct Strangers {
    limit: usize,
    /// Number there may be of one source.
    limit_of_one: usize,
    /// Oldest first, with where they come from.
    handshakes: VecDeque<(IpAddr, AbortHandle)>,
}

/// Reason to send somebody away for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowd {
    /// There may be so many in all: the oldest of the source that has most had to go.
    Of(usize),
    /// There may be so many of one source: its oldest had to go.
    OfOneSource(usize),
}

impl Strangers {
    pub(super) fn new(limit: usize) -> Self {
        let limit_of_one = (limit / HANDSHAKES_OF_ONE_SOURCE_DIVISOR).max(1);
        Self { limit, limit_of_one, handshakes: VecDeque::new() }
    }

    /// Takes one in. If there are too many, another one is sent away.
    pub(super) fn add(&mut self, from: IpAddr, handshake: AbortHandle) -> Option<Crowd> {
        let from = network_of(from);
        self.handshakes.retain(|(_, handshake)| !handshake.is_finished());
        let of_one = self.handshakes.iter().filter(|(other, _)| *other == from).count();
        let crowd = if of_one >= self.limit_of_one {
            self.send_away(|other| other == from).then_some(Crowd::OfOneSource(self.limit_of_one))
        } else if self.handshakes.len() >= self.limit {
            self.send_one_away().then_some(Crowd::Of(self.limit))
        } else {
            None
        };
        self.handshakes.push_back((from, handshake));
        crowd
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
        self.send_away(|from| counts.get(&from) == most)
    }

    /// Ends the oldest handshake of those sources.
    fn send_away(&mut self, is_one: impl Fn(IpAddr) -> bool) -> bool {
        let oldest = self.handshakes.iter().position(|(from, _)| is_one(*from));
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
    use tokio::task::JoinHandle;

    use super::*;

    fn come(strangers: &mut Strangers, from: &str) -> (JoinHandle<()>, Option<Crowd>) {
        let handshake = tokio::spawn(std::future::pending::<()>());
        let crowd = strangers.add(from.parse().expect("an address"), handshake.abort_handle());
        (handshake, crowd)
    }

    #[tokio::test]
    async fn a_flood_from_one_place_keeps_out_nobody_of_another() {
        let mut strangers = Strangers::new(16);
        let honest = ["10.0.0.9", "fd00::1"].map(|from| come(&mut strangers, from));
        let flood: Vec<_> =
            (0..100_u32).map(|n| come(&mut strangers, &format!("fd00:0:0:7::{n:x}"))).collect();
        for (n, (handshake, crowd)) in flood.into_iter().enumerate() {
            assert_eq!(crowd, (n >= 4).then_some(Crowd::OfOneSource(4)), "a quarter is for one of them");
            if n < 96 {
                assert!(handshake.await.is_err_and(|error| error.is_cancelled()), "the oldest go first");
            } else {
                assert!(!handshake.is_finished(), "as many stay as there is room for");
            }
        }
        assert!(honest.iter().all(|(handshake, crowd)| !handshake.is_finished() && crowd.is_none()));
    }

    #[tokio::test]
    async fn of_many_sources_the_one_that_has_most_gives_way() {
        let mut strangers = Strangers::new(16);
        let large: Vec<_> = (0..3).map(|_| come(&mut strangers, "10.0.0.1").0).collect();
        let small: Vec<_> = (2..15).map(|n| come(&mut strangers, &format!("10.0.0.{n}")).0).collect();
        assert_eq!(come(&mut strangers, "10.0.0.99").1, Some(Crowd::Of(16)));
        tokio::task::yield_now().await;
        assert_eq!(large.iter().map(JoinHandle::is_finished).collect::<Vec<_>>(), [true, false, false]);
        assert!(small.iter().all(|handshake| !handshake.is_finished()));
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
