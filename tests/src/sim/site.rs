//! A dispatcher: its core, and what `pp_dispatcher`'s shell and links do around it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use pp_dispatcher::core::{
    Action, Core, DialFailure, DispatcherConfig, Event, JobsPerNode, NewJob, NodeKey, NodeKind, PartKey,
    Report, Ticket, Unreachable,
};
use pp_protocol::{JobId, NodeId, SessionId, Target};

use super::World;
use super::agenda::What;
use super::facts::event_in_words;
use super::ledger::JobName;
use super::network::{ConnectionId, Packet, Stage, Toward};
use super::options::Options;

/// Something reaches the dispatcher's thread.
#[derive(Clone, Debug)]
pub(super) enum SiteInput {
    Found(usize),
    Gone(usize),
    Packet(ConnectionId, Packet),
    TimedOut(ConnectionId, Stage),
    /// A part was taken.
    Taken(PartKey),
    Submit(Vec<u32>),
    Cancel(u32),
    Finish,
    Shutdown,
}

/// Ticket that the core hands back with an outcome. The core numbers the job through it.
#[derive(Clone, Debug)]
pub(super) struct SimTicket {
    pub(super) job: JobName,
    id: Rc<Cell<Option<JobId>>>,
}

impl Ticket for SimTicket {
    fn accepted(&self, job: JobId) {
        self.id.set(Some(job));
    }
}

#[derive(Debug)]
pub(super) struct Site {
    pub(super) core: Core<SimTicket>,
    pub(super) session: SessionId,
    /// Set of programs it offers: those of another number are others.
    pub(super) program: u8,
    /// The connection to each node, being dialled or established.
    pub(super) links: BTreeMap<NodeKey, ConnectionId>,
    /// Whether the process exists.
    pub(super) is_alive: bool,
    /// The power is off: not even its machine answers.
    pub(super) is_off: bool,
    /// Number of times it was frozen and not thawed.
    pub(super) frozen: u32,
    /// Inputs that arrived while it was frozen.
    held: VecDeque<SiteInput>,
    /// Counts the changes of its deadline.
    wake: u64,
    /// Identifiers of its jobs, as the core gave them.
    ids: BTreeMap<u32, Rc<Cell<Option<JobId>>>>,
    /// Times it gave up a node.
    pub(super) losses: u32,
    /// The nodes that it gave up.
    pub(super) lost: BTreeSet<usize>,
    pub(super) is_shut_down: bool,
    /// It was told to shut down, or will be gone in a moment.
    pub(super) is_leaving: bool,
}

impl Site {
    pub(super) fn new(session: SessionId, seed: u64, program: u8, options: &Options) -> Self {
        let programs = options.programs().into_iter().collect();
        let jobs_per_node = options.jobs_per_node.map(JobsPerNode::from);
        let mut core =
            Core::new(DispatcherConfig { programs, jobs_per_node, ..DispatcherConfig::new(session, seed) });
        core.announce_ids(0);
        Self {
            core,
            session,
            program,
            links: BTreeMap::new(),
            is_alive: true,
            is_off: false,
            frozen: 0,
            held: VecDeque::new(),
            wake: 0,
            ids: BTreeMap::new(),
            losses: 0,
            lost: BTreeSet::new(),
            is_shut_down: false,
            is_leaving: false,
        }
    }

    /// Whether anything is to be expected of it.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_alive && !self.is_shut_down
    }

    pub(super) fn is_staying(&self) -> bool {
        self.is_in_use() && !self.is_leaving
    }

    /// The core's identifier of a job that was submitted.
    pub(super) fn id_of(&self, job: u32) -> Option<JobId> {
        self.ids.get(&job).and_then(|id| id.get())
    }

    /// The job that the core calls this.
    pub(super) fn name_of(&self, id: JobId, site: usize) -> Option<JobName> {
        let named = self.ids.iter().find(|(_, known)| known.get() == Some(id))?;
        Some(JobName { site: site as u32, number: *named.0 })
    }

    pub(super) fn is_current(&self, key: NodeKey, id: ConnectionId) -> bool {
        self.links.get(&key) == Some(&id)
    }
}

/// Target of a node, of two kinds of machine. The first node is of the first kind.
pub(super) fn target(node: usize) -> Target {
    let arch = if node.is_multiple_of(2) { "x86_64" } else { "riscv64" };
    Target::new("linux", arch)
}

/// Added to the key of a node, this is the key of the same node under another address.
const OTHER_ADDRESS: u32 = 1_000;

/// A dispatcher's key for a node is the node's place in the world's list.
pub(super) fn key_of(node: usize) -> NodeKey {
    NodeKey(node as u32)
}

/// The node with that key, whichever address that is for.
pub(super) fn node_of(key: NodeKey) -> usize {
    (key.0 % OTHER_ADDRESS) as usize
}

impl World {
    /// The keys of a node: one for each address it is found under.
    pub(super) fn keys_of(&self, node: usize) -> Vec<NodeKey> {
        let has_two = self.options.two_addresses && self.nodes[node].local_to.is_none();
        let other = NodeKey(key_of(node).0 + OTHER_ADDRESS);
        [key_of(node)].into_iter().chain(has_two.then_some(other)).collect()
    }

    /// Something reaches the dispatcher's thread, or waits until that runs again.
    pub(super) fn site_input(&mut self, site: usize, input: SiteInput) {
        let it = &mut self.sites[site];
        if !it.is_in_use() {
            return;
        }
        if it.frozen > 0 {
            it.held.push_back(input);
        } else {
            self.take_site_input(site, input);
        }
    }

    pub(super) fn thaw_site(&mut self, site: usize) {
        let it = &mut self.sites[site];
        it.frozen -= 1;
        if it.frozen > 0 || !it.is_in_use() {
            return;
        }
        self.story.record_of_site(self.now, site, || format!("dispatcher {site}: thawed"));
        let held = std::mem::take(&mut self.sites[site].held);
        for input in self.shuffled(held.into(), SiteInput::source) {
            if self.sites[site].is_in_use() {
                self.take_site_input(site, input);
            }
        }
        self.wake_site_in_time(site);
    }

    fn take_site_input(&mut self, site: usize, input: SiteInput) {
        let deadline = self.sites[site].core.next_deadline();
        match input {
            SiteInput::Found(node) => {
                let kind = match self.nodes[node].local_to {
                    Some(_) => NodeKind::Local,
                    None if self.options.configured => NodeKind::Configured,
                    None => NodeKind::Discovered,
                };
                let name = self.nodes[node].name.clone();
                for key in self.keys_of(node) {
                    self.site_event(site, Event::NodeFound { node: key, name: name.clone(), kind });
                }
            }
            SiteInput::Gone(node) => {
                for key in self.keys_of(node) {
                    self.site_event(site, Event::NodeGone(key));
                }
            }
            SiteInput::Packet(id, packet) => self.site_packet(site, id, packet),
            SiteInput::TimedOut(id, stage) => {
                let key = self.connections[id.0].link;
                if self.sites[site].is_current(key, id) && self.connections[id.0].stage == stage {
                    self.dial_failed(site, id, DialFailure::Unreachable(Unreachable::NotAnswered));
                }
            }
            SiteInput::Taken(part) => self.site_event(site, Event::PartsTaken(vec![part])),
            SiteInput::Submit(jobs) => self.submit(site, &jobs),
            SiteInput::Cancel(job) => {
                self.ledger.job_mut(JobName { site: site as u32, number: job }).is_cancelled = true;
                if let Some(id) = self.sites[site].id_of(job) {
                    self.site_event(site, Event::Cancel(vec![id]));
                }
            }
            SiteInput::Finish => {
                self.ledger.site_finishes(site);
                self.site_event(site, Event::Finish);
            }
            SiteInput::Shutdown => {
                self.ledger.site_gone(site, true);
                self.site_event(site, Event::Shutdown);
                self.shut_down(site);
            }
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) && self.sites[site].is_in_use() {
            self.site_tick(site);
        }
        self.wake_site_in_time(site);
    }

    pub(super) fn site_wakes(&mut self, site: usize, wake: u64) {
        let it = &self.sites[site];
        if it.wake == wake && it.is_in_use() && it.frozen == 0 {
            self.site_tick(site);
            self.wake_site_in_time(site);
        }
    }

    fn site_tick(&mut self, site: usize) {
        self.site_event(site, Event::Tick);
        let deadline = self.sites[site].core.next_deadline();
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "a dispatcher's deadline is over once its tick was taken in"
        );
    }

    fn wake_site_in_time(&mut self, site: usize) {
        let it = &mut self.sites[site];
        it.wake += 1;
        let Some(deadline) = it.core.next_deadline() else { return };
        let wake = it.wake;
        let late = self.random.time(Duration::ZERO, Duration::from_millis(1));
        self.agenda.add(deadline.max(self.now) + late, What::SiteWakes(site, wake));
    }

    fn submit(&mut self, site: usize, jobs: &[u32]) {
        let mut new = Vec::new();
        for number in jobs {
            let job = JobName { site: site as u32, number: *number };
            let id = Rc::<Cell<Option<JobId>>>::default();
            self.sites[site].ids.insert(*number, Rc::clone(&id));
            let life = self.ledger.job(job).spec.only_at.and_then(|node| self.known_life(site, node));
            self.ledger.submitted(job, self.now, life);
            let spec = &self.ledger.job(job).spec;
            let options = spec.options(self.now, life);
            new.push(NewJob {
                ticket: SimTicket { job, id },
                program: spec.program,
                function: spec.function,
                args: job.args(spec.weight),
                options: self.spoil_options(options),
            });
        }
        self.site_event(site, Event::Submit(new));
    }

    /// The life of a node that the dispatcher knows last.
    fn known_life(&self, site: usize, node: usize) -> Option<NodeId> {
        let keys = self.keys_of(node);
        let mut views = self.sites[site].core.nodes().filter(|view| keys.contains(&view.key));
        views.find_map(|view| view.life)
    }

    pub(super) fn site_event(&mut self, site: usize, event: Event<SimTicket>) {
        self.story.begin(self.now, || format!("dispatcher {site} takes in {}", event_in_words(&event)));
        let mut actions = Vec::new();
        let it = &mut self.sites[site];
        it.core.handle(self.now, event, &mut actions);
        if self.check_this_time() {
            self.sites[site].core.check_invariants();
        }
        for action in &actions {
            if let Action::Report(Report::NodeLost(key, ..)) = action {
                self.sites[site].losses += 1;
                self.sites[site].lost.insert(node_of(*key));
            }
        }
        for action in actions {
            self.perform_for_site(site, action);
        }
        self.follow();
    }

    fn perform_for_site(&mut self, site: usize, action: Action<SimTicket>) {
        match action {
            Action::Resolve(ticket, resolution) => self.settle(&ticket, &resolution),
            Action::Part(_, key, part) => {
                for _ in 0..self.times_to_take() {
                    self.ledger.take_part(site, &part);
                }
                let after = self.random.magnitude(Duration::from_micros(1), self.options.taking);
                self.agenda.add(self.now + after, What::SiteInput(site, SiteInput::Taken(key)));
            }
            Action::Dial(key, resume) => self.dial(site, key, resume),
            Action::Send(key, message) => self.site_sends(site, key, message),
            Action::Close(key) => self.reset(site, key),
            Action::SendProgram(key, digest) => {
                if let Some(id) = self.established(site, key) {
                    let after = self.random.magnitude(Duration::from_millis(1), Duration::from_millis(50));
                    self.agenda.add(self.now + after, What::SendProgram(id, digest));
                }
            }
            // It has sent all pieces: they are few.
            // No operator asks, and nobody watches.
            Action::ProgramWritten(..) | Action::Explain(..) | Action::Activity(..) => {}
            Action::Report(report) => self.take_report(site, &report),
        }
    }

    fn take_report(&mut self, site: usize, report: &Report) {
        let about = match report {
            Report::Printed(_, lines) => {
                lines.first().and_then(|line| self.ledger.job_of(site, line.attempt?))
            }
            Report::JobRetried(id, _) => self.sites[site].name_of(*id, site),
            _ => None,
        };
        let line = || format!("dispatcher {site}: {report:?}");
        match about {
            Some(job) => self.story.record(self.now, Some(job), line),
            None => self.story.record_of_site(self.now, site, line),
        }
        let Report::Printed(_, lines) = report else { return };
        for line in lines {
            let its_own = line.text.starts_with(&format!("{site}."));
            assert!(its_own, "a dispatcher is shown what its own jobs print");
        }
    }

    /// The dispatcher ended in good order: what it sent is still written.
    fn shut_down(&mut self, site: usize) {
        self.story.record_of_site(self.now, site, || format!("dispatcher {site}: shut down"));
        self.sites[site].is_shut_down = true;
        for key in self.sites[site].links.keys().copied().collect::<Vec<_>>() {
            self.reset(site, key);
        }
    }

    /// The dispatcher's process is gone.
    pub(super) fn end_site(&mut self, site: usize, power: bool) {
        self.story.record_of_site(self.now, site, || {
            format!("dispatcher {site}: gone{}", if power { ", power off" } else { "" })
        });
        self.ledger.site_gone(site, false);
        self.sites[site].is_alive = false;
        self.sites[site].is_off = power;
        for index in 0..self.connections.len() {
            if self.connections[index].site != site {
                continue;
            }
            if power {
                self.connections[index].reading[Toward::Dispatcher as usize] = false;
            } else {
                self.break_off(ConnectionId(index), Toward::Dispatcher);
            }
        }
    }
}

impl SiteInput {
    /// Source of an input: inputs of one are in order, and in no order to those of others.
    fn source(&self) -> (u8, usize) {
        match self {
            Self::Packet(id, _) | Self::TimedOut(id, _) => (0, id.0),
            Self::Found(_) | Self::Gone(_) => (1, 0),
            Self::Submit(_) | Self::Cancel(_) | Self::Finish | Self::Shutdown => (2, 0),
            Self::Taken(_) => (3, 0),
        }
    }
}
