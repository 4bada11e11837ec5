//! Claims that hold when everything was mended, every job resolved, and some time has passed: nothing is left over.

use pp_dispatcher::core::{NodeState, NodeView};
use pp_node::core::Core;

use super::World;
use super::network::{Connection, Toward};
use super::site::node_of;

impl World {
    pub(super) fn check_rest(&self) {
        for site in 0..self.sites.len() {
            if self.sites[site].is_in_use() {
                self.check_site_at_rest(site);
            }
        }
        for (node, machine) in self.nodes.iter().enumerate() {
            if let Some(core) = machine.core() {
                core.check_invariants();
                self.check_workers_at_rest(node, core);
                self.check_sessions_at_rest(node, core);
            }
        }
        // A node that is dialled under another address in the moment of a blip begins a new session.
        if self.options.only_blips && !self.options.two_addresses {
            self.ledger.check_nothing_ran_twice();
        }
    }

    fn check_site_at_rest(&self, site: usize) {
        let core = &self.sites[site].core;
        assert_eq!(core.unresolved(), 0, "dispatcher {site} has resolved everything");
        for view in core.nodes() {
            let node = node_of(view.key);
            assert_eq!(view.attempts, 0, "dispatcher {site} has nothing at node {node}");
            let view = self.connected_view(site, node);
            assert!(view.is_some(), "dispatcher {site} uses node {node}");
            let slots = view.map(|view| view.own_slots);
            assert_eq!(slots, Some(self.nodes[node].usual_slots), "node {node} has its slots back");
        }
        assert_eq!(core.kept(), 0, "dispatcher {site} keeps no job");
    }

    /// The dispatcher's view of a node, under whichever address it uses it.
    fn connected_view(&self, site: usize, node: usize) -> Option<NodeView<'_>> {
        let keys = self.keys_of(node);
        let views = self.sites[site].core.nodes().filter(|view| keys.contains(&view.key));
        let mut connected = views.filter(|view| view.state == NodeState::Connected);
        let one = connected.next();
        assert!(connected.next().is_none(), "dispatcher {site} uses node {node} under one address only");
        one
    }

    fn check_workers_at_rest(&self, node: usize, core: &Core) {
        let machine = &self.nodes[node];
        let [starting, idle, busy] = core.statistics().workers;
        assert_eq!((starting, busy), (0, 0), "node {node} runs nothing ({idle} workers are idle)");
        assert!(idle <= machine.usual_slots as usize, "node {node} has no more workers than slots");
        assert_eq!(machine.workers.len(), idle, "node {node} knows all its workers");
        let is_loaded = machine.workers.values().any(|worker| worker.is_loaded());
        assert!(!is_loaded, "the workers of node {node} have nothing to do");
    }

    fn check_sessions_at_rest(&self, node: usize, core: &Core) {
        let owner = self.nodes[node].local_to;
        let expected: Vec<_> = (0..self.sites.len())
            .filter(|site| self.sites[*site].is_in_use() && owner.is_none_or(|owner| owner == *site))
            .collect();
        let mut sessions: Vec<_> = core
            .statistics()
            .sessions
            .into_iter()
            .map(|session| {
                let site = session.name.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok());
                (site.unwrap_or(usize::MAX), session)
            })
            .collect();
        sessions.sort_by_key(|(site, _)| *site);
        let found: Vec<_> = sessions.iter().map(|(site, _)| *site).collect();
        assert_eq!(found, expected, "node {node} has a session with each dispatcher that lives");
        for (site, session) in sessions {
            assert_eq!((session.queued, session.slots_used), (0, 0), "node {node} holds no attempts");
            assert_eq!(session.kept, 0, "node {node} keeps no outcomes that arrived");
            assert_eq!(session.parts, 0, "node {node} keeps no parts that were taken");
            // A heartbeat may just have changed it.
            let is_on_its_way = |connection: &Connection| {
                (connection.site, connection.node) == (site, node) && !connection.is_quiet(Toward::Dispatcher)
            };
            if self.connections.iter().any(is_on_its_way) {
                continue;
            }
            let view = self.connected_view(site, node);
            let limit = view.as_ref().and_then(|view| self.options.limit(view.own_slots));
            let believed = view.map(|view| view.window);
            let granted = session.window.min(limit.unwrap_or(u32::MAX));
            assert_eq!(believed, Some(granted), "dispatcher {site} knows the window of node {node}");
        }
    }
}
