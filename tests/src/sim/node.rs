//! A node: its core, and what `pp_node`'s shell does around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pp_node::core::{ConnectionKey, Core, CoreConfig, Event, Program, Proof, SystemLoad, WorkerKey};
use pp_protocol::{Digest, NodeId, Payload, Role, ToNode, VersionRange};

use super::World;
use super::agenda::What;
use super::network::{ConnectionId, Packet, Toward};
use super::worker::{SimWorker, WorkerEvent};

/// Something reaches the node's task.
#[derive(Clone, Debug)]
pub(super) enum NodeInput {
    /// A peer proved that it knows the secret.
    Serve(ConnectionId),
    Batch(ConnectionId, Vec<ToNode>),
    Closed(ConnectionId),
    Worker(WorkerKey, WorkerEvent),
    /// From the program store.
    Stored(Digest),
    Missing(Digest),
    /// An order of the operator.
    Resize(u32),
    Drain,
    Kill,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    /// The dispatcher it is the own cores of, if it is.
    pub(super) local_to: Option<usize>,
    /// Slots when nobody has changed them.
    pub(super) usual_slots: u32,
    /// Counts its processes.
    pub(super) life: u32,
    pub(super) core: Option<Core>,
    /// The power is off: not even its machine answers.
    pub(super) is_off: bool,
    /// Number of times it was frozen and not thawed.
    pub(super) frozen: u32,
    /// Inputs that arrived while it was frozen.
    held: VecDeque<NodeInput>,
    pub(super) peers: BTreeMap<ConnectionKey, ConnectionId>,
    next_connection: u32,
    pub(super) workers: BTreeMap<WorkerKey, SimWorker>,
    /// Programs on its disk.
    pub(super) store: BTreeSet<Digest>,
    /// Programs of which the last piece has not arrived.
    pub(super) arriving: BTreeMap<Digest, Vec<Payload>>,
    /// Counts the changes of its deadline.
    wake: u64,
    /// Factor by which jobs take longer here.
    pub(super) slowness: u32,
    /// Number of the next workers that cannot be started, once one has been.
    pub(super) failing_starts: u32,
    /// Number of workers there can be, if the machine is short of something.
    pub(super) most_workers: Option<usize>,
    /// Programs that were started as a worker in this life of it.
    pub(super) has_started: BTreeSet<Program>,
}

impl Machine {
    pub(super) fn new(name: String, usual_slots: u32, local_to: Option<usize>) -> Self {
        Self {
            name,
            local_to,
            usual_slots,
            life: 0,
            core: None,
            is_off: false,
            frozen: 0,
            held: VecDeque::new(),
            peers: BTreeMap::new(),
            next_connection: 0,
            workers: BTreeMap::new(),
            store: BTreeSet::new(),
            arriving: BTreeMap::new(),
            wake: 0,
            slowness: 1,
            failing_starts: 0,
            most_workers: None,
            has_started: BTreeSet::new(),
        }
    }

    /// Whether its process exists.
    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Workers that exist and have not been told to end.
    pub(super) fn workers_in_use(&self) -> impl Iterator<Item = (&WorkerKey, &SimWorker)> {
        self.workers.iter().filter(|(_, worker)| worker.counts())
    }
}

impl World {
    /// Starts the process of a node: a new life of it.
    pub(super) fn start_node(&mut self, node: usize) {
        let id = NodeId(u128::from(self.random.next()) << 64 | u128::from(self.random.next()));
        let machine = &mut self.nodes[node];
        let mut config = CoreConfig {
            id,
            started: self.now,
            name: machine.name.clone(),
            slots: machine.usual_slots,
            cpus: machine.usual_slots,
            target: super::site::target(node),
            fresh_worker_per_job: self.options.fresh_workers,
            stores_programs: machine.local_to.is_none(),
            confinement: "none".into(),
            libc: String::new(),
            silence: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            drain_time: Duration::from_secs(5),
        };
        config.cpus = config.cpus.max(1);
        machine.life += 1;
        let mut core = Core::new(config);
        let load = SystemLoad { load: 0.0, memory_used: 0, memory_total: self.options.memory };
        core.handle(self.now, Event::Load(load), &mut Vec::new());
        machine.core = Some(core);
        machine.is_off = false;
        machine.next_connection = 0;
        machine.has_started.clear();
        let life = machine.life;
        self.story.record(self.now, None, || format!("node {node}: started, life {life}"));
    }

    /// The process of a node is gone, and its workers with it.
    pub(super) fn end_node(&mut self, node: usize, power: bool) {
        self.story.record(self.now, None, || {
            format!("node {node}: gone{}", if power { ", power off" } else { "" })
        });
        let machine = &mut self.nodes[node];
        machine.core = None;
        machine.is_off = power;
        machine.held.clear();
        machine.peers.clear();
        machine.arriving.clear();
        let running: Vec<_> = machine.workers.values().filter_map(SimWorker::runs_job).collect();
        machine.workers.clear();
        for job in running {
            self.worker_died(job);
        }
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.node != node {
                continue;
            }
            if power {
                connection.reading[Toward::Node as usize] = false;
            } else {
                self.break_off(ConnectionId(index), Toward::Node);
            }
        }
    }

    /// Something reaches the node's task, or waits until that runs again.
    pub(super) fn node_input(&mut self, node: usize, input: NodeInput) {
        let machine = &mut self.nodes[node];
        if !machine.is_up() {
            return;
        }
        if machine.frozen > 0 {
            machine.held.push_back(input);
        } else {
            self.take_node_input(node, input);
        }
    }

    pub(super) fn thaw_node(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.frozen -= 1;
        if machine.frozen > 0 || !machine.is_up() {
            return;
        }
        self.story.record(self.now, None, || format!("node {node}: thawed"));
        let held = std::mem::take(&mut self.nodes[node].held);
        for input in self.shuffled(held.into(), NodeInput::source) {
            if self.nodes[node].is_up() {
                self.take_node_input(node, input);
            }
        }
        self.wake_node_in_time(node);
    }

    fn take_node_input(&mut self, node: usize, input: NodeInput) {
        let deadline = self.nodes[node].core.as_ref().and_then(Core::next_deadline);
        match input {
            NodeInput::Serve(id) => {
                let machine = &mut self.nodes[node];
                let key = ConnectionKey(machine.next_connection);
                machine.next_connection += 1;
                machine.peers.insert(key, id);
                self.connections[id.0].key = Some(key);
                self.launch(id, Toward::Dispatcher, Packet::HandshakeDone);
                let version = VersionRange::SPOKEN.newest;
                let proof = Proof { role: Role::Dispatcher, version, secret: None, machine: None };
                self.node_event(node, Event::Connected(key, proof));
            }
            NodeInput::Batch(id, messages) => {
                if let Some(key) = self.connections[id.0].key {
                    self.node_event(node, Event::Received(key, messages));
                }
            }
            NodeInput::Closed(id) => {
                self.break_off(id, Toward::Node);
                if let Some(key) = self.connections[id.0].key
                    && self.nodes[node].peers.remove(&key).is_some()
                {
                    self.node_event(node, Event::Disconnected(key));
                }
            }
            NodeInput::Worker(key, event) => self.worker_event(node, key, event),
            NodeInput::Stored(digest) => self.node_event(node, Event::ProgramStored(digest)),
            NodeInput::Missing(digest) => self.node_event(node, Event::ProgramMissing(digest)),
            NodeInput::Resize(slots) => self.node_event(node, Event::Resize(slots)),
            NodeInput::Drain => self.node_event(node, Event::Drain),
            NodeInput::Kill => self.node_event(node, Event::Kill),
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            self.node_tick(node);
        }
        self.wake_node_in_time(node);
    }

    pub(super) fn node_wakes(&mut self, node: usize, wake: u64) {
        let machine = &self.nodes[node];
        if machine.wake == wake && machine.is_up() && machine.frozen == 0 {
            self.node_tick(node);
            self.wake_node_in_time(node);
        }
    }

    fn node_tick(&mut self, node: usize) {
        self.node_event(node, Event::Tick);
        let now = self.now;
        if let Some(core) = &self.nodes[node].core {
            let deadline = core.next_deadline();
            assert!(
                deadline.is_none_or(|at| at > now),
                "a node's deadline is over once its tick was taken in"
            );
        }
    }

    fn wake_node_in_time(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.wake += 1;
        let Some(deadline) = machine.core.as_ref().and_then(Core::next_deadline) else { return };
        let wake = machine.wake;
        let late = self.random.time(Duration::ZERO, Duration::from_millis(1));
        self.agenda.add(deadline.max(self.now) + late, What::NodeWakes(node, wake));
    }

    /// Lets the core take in an event, performs what it decides, and answers what it asks on the way.
    pub(super) fn node_event(&mut self, node: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.story.begin(self.now, || format!("node {node} takes in {event:?}"));
            let mut actions = Vec::new();
            let Some(core) = &mut self.nodes[node].core else { return };
            core.handle(self.now, event, &mut actions);
            if self.check_this_time() {
                self.nodes[node].core.iter().for_each(Core::check_invariants);
            }
            for action in actions {
                events.extend(self.perform_for_node(node, action));
            }
            self.follow();
        }
    }
}

impl NodeInput {
    /// Source of an input: inputs of one are in order, and in no order to those of others.
    fn source(&self) -> (u8, usize) {
        match self {
            Self::Serve(id) | Self::Batch(id, _) | Self::Closed(id) => (0, id.0),
            Self::Worker(key, _) => (1, key.0 as usize),
            Self::Stored(_) | Self::Missing(_) => (2, 0),
            Self::Resize(_) | Self::Drain | Self::Kill => (3, 0),
        }
    }
}
