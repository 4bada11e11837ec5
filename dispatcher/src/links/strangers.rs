//! Nodes that announced themselves and have not proved that they know the secret: how many are known, and how often they are
//! dialled. Anybody on a network can announce anything, and nobody there is to be flooded by way of a dispatcher.
//!
//! Time is passed in, and nothing is dialled here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pp_protocol::Moment;
use pp_protocol::limits::STRANGERS_ANNOUNCED;

use crate::core::NodeKey;

/// Connections to strangers that are made at once, all together; then one more every so often.
const AT_ONCE: u32 = 16;
/// Time between two of them: four in a second.
pub(super) const EVERY: Duration = Duration::from_millis(250);
/// The same for each address, whatever is announced there.
const AT_ONCE_AT_ONE: u32 = 4;
const EVERY_AT_ONE: Duration = Duration::from_secs(60);

/// Strangers that are known, and those that were and have proved themselves.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    unproved: BTreeMap<NodeKey, Stranger>,
    proved: BTreeSet<NodeKey>,
    /// Addresses at which a node proved itself: these are dialled whenever there is a reason.
    proved_at: BTreeSet<SocketAddr>,
    all: Bucket,
    /// Addresses that have been dialled of late.
    each: BTreeMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Stranger {
    /// Its first address.
    at: Option<IpAddr>,
    /// Dials that came to nothing.
    failed: u32,
}

/// Whether a node that was announced is taken notice of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    /// And this one is to be forgotten.
    InsteadOf(NodeKey),
    /// There is room for no more of them.
    Refused,
}

impl Strangers {
    /// A node is announced at `addresses`, for the first time or again.
    ///
    /// If too many are known, the one gives way that has been dialled in vain most often; or one of the address at which
    /// most are announced, so that many names of one address leave room for others.
    pub(super) fn admit(&mut self, node: NodeKey, addresses: &[SocketAddr]) -> Admission {
        let at = addresses.first().map(SocketAddr::ip);
        if self.proved.contains(&node) {
            return Admission::Granted;
        }
        if let Some(known) = self.unproved.get_mut(&node) {
            known.at = at;
            return Admission::Granted;
        }
        let mut admission = Admission::Granted;
        if self.unproved.len() >= STRANGERS_ANNOUNCED {
            let Some(other) = self.most_in_vain().or_else(|| self.one_of_the_most(at)) else {
                return Admission::Refused;
            };
            self.unproved.remove(&other);
            admission = Admission::InsteadOf(other);
        }
        self.unproved.insert(node, Stranger { at, failed: 0 });
        admission
    }

    fn most_in_vain(&self) -> Option<NodeKey> {
        let failed = self.unproved.iter().filter(|(_, stranger)| stranger.failed > 0);
        failed.max_by_key(|(_, stranger)| stranger.failed).map(|(node, _)| *node)
    }

    /// The last one of the address that most have, if one more at `newcomer` leaves it with fewer than that.
    fn one_of_the_most(&self, newcomer: Option<IpAddr>) -> Option<NodeKey> {
        let mut counts = BTreeMap::<_, usize>::new();
        for stranger in self.unproved.values() {
            *counts.entry(stranger.at).or_default() += 1;
        }
        let here = counts.get(&newcomer).copied().unwrap_or(0);
        let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let mut theirs = self.unproved.iter().rev().filter(|(_, stranger)| stranger.at == most);
        theirs.next().filter(|_| count > here + 1).map(|(node, _)| *node)
    }

    /// Whether a node that was announced has proved that it knows the secret.
    pub(super) fn has_proved(&self, node: NodeKey) -> bool {
        self.proved.contains(&node)
    }

    /// The `addresses` that may be dialled now. Those at which nobody has proved anything count as dialled.
    pub(super) fn permit(&mut self, now: Moment, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        addresses
            .iter()
            .copied()
            .filter(|address| self.proved_at.contains(address) || self.take_turn(now, address.ip()))
            .collect()
    }

    fn take_turn(&mut self, now: Moment, ip: IpAddr) -> bool {
        if !self.all.has_room(now, EVERY, AT_ONCE) {
            return false;
        }
        self.each.retain(|_, bucket| !bucket.is_empty(now));
        let each = self.each.entry(ip).or_default();
        let may = each.has_room(now, EVERY_AT_ONE, AT_ONCE_AT_ONE);
        if may {
            each.add(now, EVERY_AT_ONE);
            self.all.add(now, EVERY);
        }
        may
    }

    /// A node has proved at `address` that it knows the secret: it is no stranger any more, and what was `dialled` on the
    /// way does not count.
    pub(super) fn proved(&mut self, node: NodeKey, address: SocketAddr, dialled: &[SocketAddr]) {
        for counted in dialled.iter().filter(|dialled| !self.proved_at.contains(dialled)) {
            self.all.take_back(EVERY);
            if let Some(each) = self.each.get_mut(&counted.ip()) {
                each.take_back(EVERY_AT_ONE);
            }
        }
        self.proved_at.insert(address);
        self.unproved.remove(&node);
        self.proved.insert(node);
    }

    /// A dial came to nothing.
    pub(super) fn failed(&mut self, node: NodeKey) {
        if let Some(stranger) = self.unproved.get_mut(&node) {
            stranger.failed = stranger.failed.saturating_add(1);
        }
    }

    /// A node is not announced any more: it gives way first.
    pub(super) fn gone(&mut self, node: NodeKey) {
        if let Some(stranger) = self.unproved.get_mut(&node) {
            stranger.failed = u32::MAX;
        }
    }
}

/// A bucket that leaks: there is room for some at once, and then for one each time that an interval has passed (the generic
/// cell rate algorithm of ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Time at which all that was added has leaked out.
    empty_at: Moment,
}

impl Bucket {
    fn is_empty(self, now: Moment) -> bool {
        self.empty_at <= now
    }

    fn has_room(self, now: Moment, every: Duration, at_once: u32) -> bool {
        self.empty_at.since(now) <= every * (at_once - 1)
    }

    fn add(&mut self, now: Moment, every: Duration) {
        self.empty_at = self.empty_at.max(now) + every;
    }

    fn take_back(&mut self, every: Duration) {
        self.empty_at = Moment(self.empty_at.0.saturating_sub(every.as_nanos() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::new([10, 0, 0, host].into(), 60_000)
    }

    fn at(seconds: f64) -> Moment {
        Moment(1) + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn strangers_are_dialled_four_times_a_second_and_one_address_once_a_minute() {
        let mut strangers = Strangers::default();
        let dialled = |strangers: &mut Strangers, seconds| {
            (1..=200).filter(|host| !strangers.permit(at(seconds), &[address(*host)]).is_empty()).count()
        };
        assert_eq!([0.0, 0.1, 1.0, 2.0].map(|now| dialled(&mut strangers, now)), [16, 0, 4, 4]);
        let mut strangers = Strangers::default();
        let mut at_one = |seconds| strangers.permit(at(seconds), &[address(1); 20]).len();
        assert_eq!([0.0, 1.0, 59.0, 61.0, 62.0, 121.0].map(&mut at_one), [4, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn who_proves_to_know_the_secret_costs_nothing_and_is_dialled_at_will() {
        let mut strangers = Strangers::default();
        for host in 0..100 {
            let both = [address(host), SocketAddr::new([10, 0, 1, host].into(), 7)];
            assert_eq!(strangers.admit(NodeKey(host.into()), &both), Admission::Granted);
            assert_eq!(strangers.permit(at(0.0), &both), both, "a hundred are found at once");
            strangers.proved(NodeKey(host.into()), both[0], &both);
        }
        let again: Vec<_> = (0..100).map(address).collect();
        assert_eq!(strangers.permit(at(0.0), &again), again);
        let forged: Vec<_> = (100..200).map(address).collect();
        let forged = [&again[..1], &forged].concat();
        assert_eq!(
            strangers.permit(at(0.0), &forged).len(),
            1 + 16,
            "other addresses under its name are others"
        );
    }

    #[test]
    fn a_few_are_known_at_once_and_whoever_was_dialled_in_vain_or_has_many_names_gives_way() {
        let mut strangers = Strangers::default();
        let key = |number: usize| NodeKey(number as u32);
        for number in 0..STRANGERS_ANNOUNCED {
            assert_eq!(strangers.admit(key(number), &[address(1)]), Admission::Granted);
        }
        assert_eq!(
            strangers.admit(key(1_000), &[address(1)]),
            Admission::Refused,
            "it has many names already"
        );
        assert_eq!(strangers.admit(key(0), &[address(1)]), Admission::Granted, "it is known");
        let last = key(STRANGERS_ANNOUNCED - 1);
        assert_eq!(strangers.admit(key(1_001), &[address(2)]), Admission::InsteadOf(last));
        strangers.failed(key(7));
        assert_eq!(strangers.admit(key(1_002), &[address(1)]), Admission::InsteadOf(key(7)));
        strangers.failed(key(8));
        strangers.gone(key(9));
        assert_eq!(strangers.admit(key(1_003), &[address(1)]), Admission::InsteadOf(key(9)));
        strangers.proved(key(1_001), address(2), &[address(2)]);
        assert_eq!(
            strangers.admit(key(1_004), &[address(1)]),
            Admission::Granted,
            "one is no stranger any more"
        );
        assert_eq!(strangers.unproved.len(), STRANGERS_ANNOUNCED);
    }
}
