//! Faults: what breaks, and when it is mended.

use std::time::Duration;

use pp_protocol::Death;

use super::World;
use super::agenda::What;
use super::ledger::MOST_SLOWNESS;
use super::network::{ConnectionId, Toward};
use super::node::NodeInput;
use super::site::SiteInput;
use super::worker::Step;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A connection breaks, and both ends see it.
    Cut,
    /// A connection breaks while the path is blocked for a moment.
    ShortBlock,
    /// Packets take longer between a dispatcher and a node.
    Late,
    /// Jobs take longer on a node.
    Slow,
    /// An operator or a dispatcher changes a node's slots.
    Resize,
    /// A connection breaks, and at most one end sees it.
    Vanish,
    /// A connection makes no progress in one direction, while new ones do.
    Stall,
    /// Nothing passes between a dispatcher and a node.
    Block,
    /// Nothing passes in one direction.
    BlockOneWay,
    /// Nothing passes between a node and anybody.
    Isolate,
    FreezeNode,
    FreezeSite,
    CrashNode,
    PowerOffNode,
    CrashSite,
    PowerOffSite,
    ShutDownSite,
    /// A dispatcher begins nothing more.
    FinishSite,
    Drain,
    /// The node is told to end at once.
    Kill,
    KillWorker,
    /// Workers cannot be started for a while.
    FailStarts,
    /// Only some workers can be started for a while.
    Shortage,
    /// Discovery hears nothing more of a node, and then again.
    Gone,
    /// Discovery has word of a node once more.
    Found,
}

impl Kind {
    /// Nothing runs again because of these.
    pub(super) const BLIPS: &[Self] =
        &[Self::Cut, Self::ShortBlock, Self::Late, Self::Slow, Self::Resize, Self::Shortage, Self::Found];
    /// Nor because nodes end in good order, even if connections break meanwhile.
    pub(super) const ORDERS: &[Self] =
        &[Self::Cut, Self::Drain, Self::FinishSite, Self::Resize, Self::Found, Self::Gone];
    pub(super) const ALL: &[Self] = &[
        Self::Cut,
        Self::ShortBlock,
        Self::Late,
        Self::Slow,
        Self::Resize,
        Self::Vanish,
        Self::Stall,
        Self::Block,
        Self::BlockOneWay,
        Self::Isolate,
        Self::FreezeNode,
        Self::FreezeSite,
        Self::CrashNode,
        Self::PowerOffNode,
        Self::CrashSite,
        Self::PowerOffSite,
        Self::ShutDownSite,
        Self::FinishSite,
        Self::Drain,
        Self::Kill,
        Self::KillWorker,
        Self::FailStarts,
        Self::Shortage,
        Self::Gone,
        Self::Found,
    ];
}

impl Kind {
    /// Whether a dispatcher may have to begin anew with a node.
    pub(super) fn ends_sessions(self) -> bool {
        self == Self::Drain || !Self::BLIPS.contains(&self)
    }
}

/// Fault that is to be mended.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Blocked(usize, usize, Toward),
    Late(usize, usize),
    Slow(usize),
    Resized(usize),
    FrozenNode(usize),
    FrozenSite(usize),
    Down(usize),
    FailingStarts(usize),
    Shortage(usize),
    Gone(usize, usize),
    Stalled(ConnectionId, Toward),
}

/// A connection that breaks for a moment is left alone for so long after that: a second blip would be no blip.
const BETWEEN_BLIPS: Duration = Duration::from_secs(8);

impl World {
    pub(super) fn strike_later(&mut self) {
        let gap = self.options.fault_gap;
        let at = self.now + self.random.time(Duration::ZERO, gap * 2);
        if at < self.heals_at && !self.options.faults.is_empty() {
            self.agenda.add(at, What::Strike);
        }
    }

    /// One of the world's kinds of faults, somewhere.
    pub(super) fn strike(&mut self) {
        self.strike_later();
        let kind = self.options.faults[self.random.index(self.options.faults.len())];
        let remote = self.options.nodes;
        let node = self.random.index(remote);
        let site = self.random.index(self.sites.len());
        if matches!(kind, Kind::Cut | Kind::ShortBlock) && self.options.only_blips {
            let last = self.last_blip.insert((site, node), self.now);
            if let Some(last) = last.filter(|last| self.now.since(*last) < BETWEEN_BLIPS) {
                self.last_blip.insert((site, node), last);
                return;
            }
        }
        self.story.record(self.now, None, || format!("fault: {kind:?}, node {node}, dispatcher {site}"));
        match kind {
            Kind::Cut => self.cut_path(site, node),
            Kind::ShortBlock => {
                let time = self.random.time(Duration::ZERO, Duration::from_millis(1_500));
                self.block(site, node, Toward::Node, time);
                self.block(site, node, Toward::Dispatcher, time);
                self.cut_path(site, node);
            }
            Kind::Vanish => {
                for id in self.connections_between(site, node) {
                    self.vanish(id);
                }
            }
            Kind::Stall => {
                let toward = if self.random.percent(50) { Toward::Node } else { Toward::Dispatcher };
                for id in self.connections_between(site, node) {
                    self.stall(id, toward);
                    self.mend_later(Fault::Stalled(id, toward));
                }
            }
            Kind::Late => {
                let late = self.random.time(Duration::ZERO, Duration::from_millis(400));
                self.late.insert((site, node), late);
                self.mend_later(Fault::Late(site, node));
            }
            Kind::Slow => {
                self.nodes[node].slowness = self.random.within(1..=u64::from(MOST_SLOWNESS)) as u32;
                self.mend_later(Fault::Slow(node));
            }
            Kind::Resize => self.resize(site, node),
            // Little happens after it.
            Kind::FinishSite if self.random.percent(20) => self.site_input(site, SiteInput::Finish),
            Kind::FinishSite => {}
            Kind::Block => {
                let time = self.outage();
                self.block(site, node, Toward::Node, time);
                self.block(site, node, Toward::Dispatcher, time);
            }
            Kind::BlockOneWay => {
                let toward = if self.random.percent(50) { Toward::Node } else { Toward::Dispatcher };
                let time = self.outage();
                self.block(site, node, toward, time);
            }
            Kind::Isolate => {
                let time = self.outage();
                for site in 0..self.sites.len() {
                    self.block(site, node, Toward::Node, time);
                    self.block(site, node, Toward::Dispatcher, time);
                }
            }
            Kind::FreezeNode => {
                self.nodes[node].frozen += 1;
                self.mend_later(Fault::FrozenNode(node));
            }
            Kind::FreezeSite => self.freeze_site(site),
            Kind::CrashNode | Kind::PowerOffNode => {
                if self.nodes[node].is_up() {
                    self.end_node(node, kind == Kind::PowerOffNode);
                    self.mend_later(Fault::Down(node));
                }
            }
            Kind::CrashSite | Kind::PowerOffSite | Kind::ShutDownSite => self.strike_site(site, kind),
            Kind::Drain => self.node_input(node, NodeInput::Drain),
            Kind::Kill => self.node_input(node, NodeInput::Kill),
            Kind::KillWorker => self.kill_a_worker(node),
            Kind::FailStarts => {
                self.nodes[node].failing_starts = self.random.within(1..=4) as u32;
                self.mend_later(Fault::FailingStarts(node));
            }
            Kind::Shortage => {
                self.nodes[node].most_workers = Some(self.random.within(0..=3) as usize);
                self.mend_later(Fault::Shortage(node));
            }
            Kind::Gone => {
                self.site_input(site, SiteInput::Gone(node));
                self.mend_later(Fault::Gone(site, node));
            }
            Kind::Found => self.site_input(site, SiteInput::Found(node)),
        }
    }

    pub(super) fn mend(&mut self, fault: Fault) {
        self.story.record(self.now, None, || format!("mended: {fault:?}"));
        match fault {
            Fault::Blocked(site, node, toward) => self.unblock(site, node, toward),
            Fault::Late(site, node) => {
                self.late.remove(&(site, node));
            }
            Fault::Slow(node) => self.nodes[node].slowness = 1,
            Fault::Resized(node) => {
                let slots = self.nodes[node].usual_slots;
                self.node_input(node, NodeInput::Resize(slots));
            }
            Fault::FrozenNode(node) => self.thaw_node(node),
            Fault::FrozenSite(site) => {
                self.thaw_site(site);
                if let Some(node) = self.local_node(site) {
                    self.thaw_node(node);
                }
            }
            Fault::Down(node) if self.nodes[node].is_up() => {}
            Fault::Down(node) => {
                if self.random.percent(20) {
                    self.nodes[node].store.clear();
                }
                self.start_node(node);
                self.announce(node);
            }
            Fault::FailingStarts(node) => self.nodes[node].failing_starts = 0,
            Fault::Shortage(node) => self.nodes[node].most_workers = None,
            Fault::Stalled(id, toward) => self.unstall(id, toward),
            Fault::Gone(site, node) => self.site_input(site, SiteInput::Found(node)),
        }
    }

    /// Time for which something is broken: often about as long as the patience of nodes and dispatchers.
    fn outage(&mut self) -> Duration {
        self.random.magnitude(Duration::from_millis(20), Duration::from_secs(16))
    }

    pub(super) fn mend_later(&mut self, fault: Fault) {
        let time = self.outage();
        self.mend_after(time, fault);
    }

    fn mend_after(&mut self, time: Duration, fault: Fault) {
        let at = (self.now + time).min(self.heals_at);
        self.agenda.add(at, What::Mend(fault));
    }

    fn block(&mut self, site: usize, node: usize, toward: Toward, time: Duration) {
        *self.blocked.entry((site, node, toward)).or_default() += 1;
        self.mend_after(time, Fault::Blocked(site, node, toward));
    }

    fn connections_between(&self, site: usize, node: usize) -> Vec<ConnectionId> {
        let between = |index: &usize| {
            let connection = &self.connections[*index];
            connection.site == site && connection.node == node && !connection.is_over()
        };
        (0..self.connections.len()).filter(between).map(ConnectionId).collect()
    }

    fn cut_path(&mut self, site: usize, node: usize) {
        for id in self.connections_between(site, node) {
            self.cut(id);
        }
    }

    fn resize(&mut self, site: usize, node: usize) {
        // One's own cores can be resized, too.
        let node = self.local_node(site).filter(|_| self.random.percent(20)).unwrap_or(node);
        let slots = self.random.within(0..=5) as u32;
        self.node_input(node, NodeInput::Resize(slots));
        // What an operator ordered may still be on its way when all else is mended.
        let last_word = self.heals_at + Duration::from_secs(5);
        self.agenda.add(last_word, What::Mend(Fault::Resized(node)));
    }

    fn freeze_site(&mut self, site: usize) {
        self.sites[site].frozen += 1;
        if let Some(node) = self.local_node(site) {
            self.nodes[node].frozen += 1;
        }
        self.mend_later(Fault::FrozenSite(site));
    }

    /// Dispatchers do not come back; one is always left.
    fn strike_site(&mut self, site: usize, kind: Kind) {
        let staying = self.sites.iter().filter(|site| site.is_staying()).count();
        if staying < 2 || !self.sites[site].is_staying() {
            return;
        }
        self.sites[site].is_leaving = true;
        match kind {
            Kind::ShutDownSite => self.site_input(site, SiteInput::Shutdown),
            _ => self.end_site(site, kind == Kind::PowerOffSite),
        }
        if let Some(node) = self.local_node(site) {
            self.end_node(node, kind == Kind::PowerOffSite);
        }
    }

    fn kill_a_worker(&mut self, node: usize) {
        let machine = &self.nodes[node];
        let ready: Vec<_> =
            machine.workers.iter().filter(|(_, worker)| worker.is_ready()).map(|(key, _)| *key).collect();
        if !ready.is_empty() {
            let key = ready[self.random.index(ready.len())];
            self.worker(node, self.nodes[node].life, key, Step::Die(Death::Signal(9)));
        }
    }
}
