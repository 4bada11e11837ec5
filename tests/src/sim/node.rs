//! A node: its core, and what `pp_node`'s shell does around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pp_node::core::{Action, Config, ConnectionKey, Core, Event, Program, WorkerKey};
use pp_protocol::{Death, Digest, FromNode, NodeId, Refusal, ToNode, WorkerDeath};

use super::World;
use super::agenda::What;
use super::faults::Fault;
use super::ledger::JobName;
use super::network::{Connection, ConnectionId, Message, Packet, Toward};
use super::worker::{SimWorker, Step, WorkerEvent};

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
    core: Option<Core>,
    /// The power is off: not even its machine answers.
    pub(super) is_off: bool,
    /// How often it was frozen and not thawed.
    pub(super) frozen: u32,
    /// What arrived while it was frozen.
    held: VecDeque<NodeInput>,
    peers: BTreeMap<ConnectionKey, ConnectionId>,
    next_connection: u32,
    pub(super) workers: BTreeMap<WorkerKey, SimWorker>,
    /// Programs on its disk.
    store: BTreeSet<Digest>,
    /// Programs of which the last piece has not arrived.
    arriving: BTreeMap<Digest, Vec<u8>>,
    /// Counts the changes of its deadline.
    wake: u64,
    /// How many times longer jobs take here.
    pub(super) slowness: u32,
    /// How many of the next workers cannot be started, once one has been.
    pub(super) failing_starts: u32,
    /// What was started as a worker in this life of it.
    has_started: BTreeSet<Program>,
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
    fn workers_in_use(&self) -> impl Iterator<Item = (&WorkerKey, &SimWorker)> {
        self.workers.iter().filter(|(_, worker)| worker.counts())
    }
}

impl World {
    /// Starts the process of a node: a new life of it.
    pub(super) fn start_node(&mut self, node: usize) {
        let id = NodeId(u128::from(self.random.next()) << 64 | u128::from(self.random.next()));
        let machine = &mut self.nodes[node];
        let mut config = Config {
            id,
            name: machine.name.clone(),
            slots: machine.usual_slots,
            cpus: machine.usual_slots,
            target: super::site::target(),
            fresh_worker_per_job: self.options.fresh_workers,
            stores_programs: machine.local_to.is_none(),
            silence: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            drain_time: Duration::from_secs(5),
        };
        config.cpus = config.cpus.max(1);
        machine.life += 1;
        machine.core = Some(Core::new(config));
        machine.is_off = false;
        machine.next_connection = 0;
        machine.has_started.clear();
        let life = machine.life;
        self.story.tell(self.now, None, || format!("node {node}: started, life {life}"));
    }

    /// The process of a node is gone, and its workers with it.
    pub(super) fn end_node(&mut self, node: usize, power: bool) {
        self.story
            .tell(self.now, None, || format!("node {node}: gone{}", if power { ", power off" } else { "" }));
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
        self.story.tell(self.now, None, || format!("node {node}: thawed"));
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
                self.node_event(node, Event::Connected(key));
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
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            self.node_tick(node);
        }
        self.wake_node_in_time(node);
    }

    fn worker_event(&mut self, node: usize, key: WorkerKey, event: WorkerEvent) {
        let progress = self.nodes[node].workers.get(&key).map(SimWorker::progress).unwrap_or_default();
        let event = match event {
            WorkerEvent::Ready => {
                let machine = &mut self.nodes[node];
                machine.has_started.extend(machine.workers.get(&key).map(|worker| worker.program));
                Event::WorkerReady(key)
            }
            WorkerEvent::Finished(finished) => {
                if self.frees_slot_twice() {
                    let death = WorkerDeath { death: Death::Exit(0), stderr: Vec::new() };
                    self.node_event(node, Event::WorkerExited(key, progress, death));
                }
                Event::WorkerFinished(key, finished)
            }
            WorkerEvent::Skipped(number) => Event::WorkerSkipped(key, number),
            WorkerEvent::Output(text) => Event::WorkerOutput(key, progress, Self::PRINTS_TO, text),
            WorkerEvent::FailedToStart(reason) => {
                self.nodes[node].workers.remove(&key);
                Event::WorkerFailed(key, reason, Vec::new())
            }
            WorkerEvent::Exited(death) => {
                self.nodes[node].workers.remove(&key);
                Event::WorkerExited(key, progress, death)
            }
        };
        self.node_event(node, event);
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
    fn node_event(&mut self, node: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            let Some(core) = &mut self.nodes[node].core else { return };
            core.handle(self.now, event, &mut actions);
            if self.check_this_time() {
                self.nodes[node].core.iter().for_each(Core::check_invariants);
            }
            for action in actions {
                events.extend(self.perform_for_node(node, action));
            }
        }
    }

    fn perform_for_node(&mut self, node: usize, action: Action) -> Option<Event> {
        let machine = &mut self.nodes[node];
        let life = machine.life;
        match action {
            Action::Send(key, message) => {
                if let Some(id) = machine.peers.get(&key).copied() {
                    self.node_sends(id, message);
                }
            }
            Action::Close(key) => {
                if let Some(id) = machine.peers.remove(&key) {
                    self.stop_sending(id, Toward::Dispatcher);
                }
            }
            Action::LocateProgram(digest) => {
                let found = machine.store.contains(&digest);
                let input = if found { NodeInput::Stored(digest) } else { NodeInput::Missing(digest) };
                self.after_disk(node, input);
            }
            Action::StoreProgram { digest, piece, last, .. } => {
                let pieces = machine.arriving.entry(digest).or_default();
                pieces.extend(piece.0);
                if last {
                    let pieces = machine.arriving.remove(&digest);
                    assert_eq!(
                        pieces.as_deref(),
                        Some(&super::site::PROGRAM[..]),
                        "a program arrives as it was sent"
                    );
                    machine.store.insert(digest);
                    self.after_disk(node, NodeInput::Stored(digest));
                }
            }
            Action::AbandonProgram(digest) => {
                machine.arriving.remove(&digest);
            }
            Action::Spawn(key, program) => self.spawn_worker(node, key, program),
            Action::Assign(key, works) => {
                let worker = machine.workers.get_mut(&key)?;
                assert!(worker.counts() || !worker.is_ordered, "no work is given to a worker told to end");
                worker.raise(works.len() as u32);
                for work in &works {
                    let job = JobName::of(&work.args);
                    self.story.tell(self.now, Some(job), || {
                        format!("node {node}: {job} goes to worker {} as number {}", key.0, work.number)
                    });
                }
                let delay = self.random.time(Duration::ZERO, Duration::from_micros(20));
                let at = worker.arrival(self.now + delay);
                self.agenda.add(at, What::Worker(node, life, key, Step::Frame(works)));
            }
            Action::Observe(key) => {
                return machine.workers.get(&key).map(|worker| Event::Observed(key, worker.progress()));
            }
            Action::Revoke(key) => {
                let revoked = machine.workers.get_mut(&key).map(SimWorker::revoke);
                self.story
                    .tell(self.now, None, || format!("node {node}: worker {} revoked: {revoked:?}", key.0));
                return revoked.map(|progress| Event::Revoked(key, progress));
            }
            Action::Kill(key) => self.end_worker(node, key, Step::Die(Death::Signal(9))),
            Action::Retire(key) => self.end_worker(node, key, Step::Retire),
            Action::End => {
                self.end_node(node, false);
                // Whoever drained it starts it again.
                self.mend_later(Fault::Down(node));
            }
        }
        None
    }

    fn node_sends(&mut self, id: ConnectionId, message: FromNode) {
        let broke_off = matches!(message, FromNode::Refused(Refusal::BadHello(_)));
        assert!(!broke_off, "dispatchers keep to what they were promised");
        if self.story.is_wanted() {
            self.tell_of_outcomes(id, &message);
        }
        let Some(message) = self.spoil_from_node(id, message) else { return };
        self.send(id, Message::FromNode(message));
    }

    fn tell_of_outcomes(&mut self, id: ConnectionId, message: &FromNode) {
        let FromNode::Outcomes(first, outcomes) = message else { return };
        let Connection { site, node, .. } = self.connections[id.0];
        for (outcome, number) in outcomes.iter().zip(*first..) {
            let job = self.sites[site].name_of(outcome.id.job, site);
            let (attempt, word) = (outcome.id.number, outcome.ended.word());
            self.story.tell(self.now, job, || {
                let job = job.map(|job| job.to_string()).unwrap_or_default();
                format!("node {node}: outcome {number}: {job} attempt {attempt} {word}")
            });
        }
    }

    fn after_disk(&mut self, node: usize, input: NodeInput) {
        let life = self.nodes[node].life;
        let after = self.random.magnitude(Duration::from_micros(50), Duration::from_millis(20));
        self.agenda.add(self.now + after, What::NodeInput(node, life, input));
    }

    fn spawn_worker(&mut self, node: usize, key: WorkerKey, program: Program) {
        let machine = &mut self.nodes[node];
        if let Program::Sent(digest) = program {
            assert!(machine.store.contains(&digest), "workers are started of programs the node has");
        }
        machine.workers.insert(key, SimWorker::new(program));
        let slots = machine.core.as_ref().map_or(0, |core| core.status().slots as usize);
        let in_use = machine.workers_in_use().count();
        assert!(in_use <= slots, "node {node} has {slots} slots and starts worker {in_use}");
        let fails = machine.has_started.contains(&program) && machine.failing_starts > 0;
        machine.failing_starts -= u32::from(fails);
        let step = if fails { Step::FailToStart } else { Step::Start };
        let life = machine.life;
        let after = self.random.magnitude(Duration::from_millis(1), Duration::from_millis(50));
        self.agenda.add(self.now + after, What::Worker(node, life, key, step));
    }

    fn end_worker(&mut self, node: usize, key: WorkerKey, step: Step) {
        let machine = &mut self.nodes[node];
        let life = machine.life;
        let Some(worker) = machine.workers.get_mut(&key) else { return };
        worker.is_ordered = true;
        let job = worker.runs_job();
        if let Some(limit) = job.and_then(|job| self.ledger.job(job).spec.time_limit)
            && !self.options.freezes()
        {
            let ran = self.now.0.saturating_sub(worker.progress().started_at_ns);
            let late = Duration::from_nanos(ran).saturating_sub(limit);
            assert!(late < Duration::from_millis(10), "a job is killed {late:?} after its time limit");
        }
        self.story.tell(self.now, job, || format!("node {node}: worker {} is told to end: {step:?}", key.0));
        // A process may take its time, even to be killed.
        let most = if self.random.percent(3) { Duration::from_secs(5) } else { Duration::from_millis(5) };
        let after = self.random.magnitude(Duration::from_micros(10), most);
        self.agenda.add(self.now + after, What::Worker(node, life, key, step));
    }
}

impl NodeInput {
    /// What is in order among itself, and in no order to what comes from elsewhere.
    fn source(&self) -> (u8, usize) {
        match self {
            Self::Serve(id) | Self::Batch(id, _) | Self::Closed(id) => (0, id.0),
            Self::Worker(key, _) => (1, key.0 as usize),
            Self::Stored(_) | Self::Missing(_) => (2, 0),
            Self::Resize(_) | Self::Drain => (3, 0),
        }
    }
}
