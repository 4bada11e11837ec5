//! A world of dispatchers and nodes in which things break: both cores, real; everything around them, simulated.
//!
//! A seed draws a world (`options.rs`): its size, its jobs, its faults. It runs while faults strike, heals, and
//! then has to come to rest: every job resolved exactly once with the outcome it should have, nothing left over in any
//! core. Invariants of the cores and the claims of the world are asserted on the way; a claim that does not hold is a
//! panic, which [`run()`] turns into a [`Violation`] with the seed that shows it again.
//!
//! ```text
//! site.rs     a dispatcher: its core; links.rs, its connections               ┐
//! node.rs     a node: its core; shell.rs, what its shell does for it          ├ joined by network.rs
//! worker.rs   the processes of a node                                         ┘
//! faults.rs   what breaks         ledger.rs   what is true of each job         rest.rs   nothing is left over
//! claims.rs   what may be said     story.rs, facts.rs   what happened, and what it changed in one job
//! spoil.rs    mistakes made on purpose, to prove that they are caught
//! ```
//!
//! Not simulated: bytes, encryption, files. Nothing here reads a clock, a thread or the order of a hash map:
//! the same seed is the same world.

mod agenda;
mod claims;
mod facts;
mod faults;
mod ledger;
mod links;
mod network;
mod node;
mod options;
mod rest;
mod run;
mod shell;
mod site;
mod spoil;
mod story;
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use pp_dispatcher::core::Resolution;
use pp_protocol::{Moment, SessionId};

use self::agenda::{Agenda, What};
use self::claims::Arrivals;
pub use self::ledger::JobName;
use self::ledger::Ledger;
use self::network::{Connection, Toward};
use self::node::Machine;
use self::options::Options;
pub use self::run::{Summary, Sweep, Violation, run, sweep};
use self::site::{SimTicket, Site, SiteInput};
pub use self::spoil::Mistake;
use self::spoil::Spoiler;
use self::story::Story;
pub use self::story::Verbosity;
use crate::random::Random;

/// Time after the last job was resolved when nothing may be left over.
const REST: Duration = Duration::from_secs(20);
/// More events than any world needs.
const MOST_EVENTS: u64 = 3_000_000;

/// Everything there is.
#[derive(Debug)]
struct World {
    options: Options,
    random: Random,
    now: Moment,
    agenda: Agenda,
    heals_at: Moment,
    is_healed: bool,
    nodes: Vec<Machine>,
    sites: Vec<Site>,
    connections: Vec<Connection>,
    /// Number of faults that block each path in each direction.
    blocked: BTreeMap<(usize, usize, Toward), u32>,
    /// Additional time that packets may take between a dispatcher and a node.
    late: BTreeMap<(usize, usize), Duration>,
    last_blip: BTreeMap<(usize, usize), Moment>,
    ledger: Ledger,
    arrivals: Arrivals,
    story: Story,
    spoiler: Spoiler,
    events: u64,
}

impl World {
    fn new(seed: u64, mistake: Option<Mistake>, verbosity: Verbosity) -> Self {
        let mut random = Random::new(seed);
        let options = Options::draw(&mut random);
        // Clocks start somewhere, and not at 0.
        let now = Moment(random.within(1..=u64::from(u32::MAX)));
        let mut world = Self {
            heals_at: now + options.heal_after,
            now,
            options,
            random,
            agenda: Agenda::default(),
            is_healed: false,
            nodes: Vec::new(),
            sites: Vec::new(),
            connections: Vec::new(),
            blocked: BTreeMap::new(),
            late: BTreeMap::new(),
            last_blip: BTreeMap::new(),
            ledger: Ledger::default(),
            arrivals: Arrivals::default(),
            story: Story::new(verbosity),
            spoiler: Spoiler::new(mistake),
            events: 0,
        };
        world.story.record(now, None, || format!("{:?}", world.options));
        world.populate();
        world.strike_later();
        world
    }

    fn populate(&mut self) {
        for node in 0..self.options.nodes {
            let slots = self.options.slots(&mut self.random);
            self.nodes.push(Machine::new(format!("node-{node}"), slots, None));
            self.start_node(node);
        }
        for site in 0..self.options.sites {
            let program = self.random.within(0..=1) as u8;
            let seed = self.random.next();
            self.sites.push(Site::new(SessionId(site as u128 + 1), seed, program, &self.options));
            let last_start = self.options.last_start.min(self.options.heal_after);
            let starts_at = self.now + self.random.time(Duration::ZERO, last_start);
            if self.options.local_nodes {
                let slots = self.options.slots(&mut self.random);
                let node = self.nodes.len();
                self.nodes.push(Machine::new("local".into(), slots, Some(site)));
                self.start_node(node);
                self.agenda.add(starts_at, What::SiteInput(site, SiteInput::Found(node)));
            }
            for node in 0..self.options.nodes {
                let after = self.random.magnitude(Duration::from_millis(1), Duration::from_secs(2));
                self.agenda.add(starts_at + after, What::SiteInput(site, SiteInput::Found(node)));
            }
            self.plan_jobs(site, starts_at);
        }
    }

    /// Jobs are submitted in groups, while faults strike.
    fn plan_jobs(&mut self, site: usize, starts_at: Moment) {
        let specs = self.options.jobs(&mut self.random);
        let gap = self.heals_at.since(starts_at) / (specs.len() as u32) * (self.options.group as u32);
        let mut at = starts_at;
        let mut group = Vec::new();
        for (spec, number) in specs.iter().zip(0..) {
            group.push(number);
            if let Some(after) = self.options.cancel_after(spec, &mut self.random) {
                self.agenda.add(at + after, What::SiteInput(site, SiteInput::Cancel(number)));
            }
            if group.len() >= self.options.group || number as usize + 1 == specs.len() {
                let group = std::mem::take(&mut group);
                self.agenda.add(at, What::SiteInput(site, SiteInput::Submit(group)));
                at = (at + self.random.time(Duration::ZERO, gap * 2)).min(self.heals_at);
            }
        }
        self.ledger.add_site(specs);
    }

    /// Time that the last job has to be resolved after everything was mended.
    fn patience(&self) -> Duration {
        let seconds = Duration::from_secs;
        if !self.options.faults.is_empty() {
            // A node that came and went again and again is given a minute of rest.
            let rest =
                seconds(if self.options.faults.iter().any(|kind| kind.ends_sessions()) { 60 } else { 0 });
            return seconds(20) + rest + self.ledger.longest_time();
        }
        // Nothing ever breaks: no slot should be idle for long.
        let all = self.nodes.iter().enumerate();
        let slots = all.filter(|(node, it)| it.local_to.is_none() && self.runs_everything(*node));
        let usable = |slots| self.options.limit(slots).unwrap_or(slots);
        let slots: Vec<_> = slots.map(|(_, it)| usable(it.usual_slots)).collect();
        // All jobs may be for the smallest node.
        let smallest = slots.iter().min().copied().unwrap_or(1);
        let slots = if self.options.pins() { smallest } else { slots.iter().sum() };
        // Work is sent ahead for 20 ms, not for as long as the way to a node and back takes.
        let way = self.options.latency * 4;
        let ahead = Duration::from_millis(20);
        let start = if self.options.fresh_workers { Duration::from_millis(60) } else { Duration::ZERO };
        let each = start + if way > ahead { way } else { Duration::ZERO };
        seconds(2) + self.ledger.shortest_time(slots, each)
    }

    /// Runs the world until it has come to rest.
    fn run(&mut self) {
        let patience = self.patience();
        let mut rests_at = None;
        while let Some((at, what)) = self.agenda.pop() {
            if rests_at.is_some_and(|rests_at| at > rests_at) {
                break;
            }
            assert!(self.agenda.count() < MOST_EVENTS, "so much happens that nobody will see the end of it");
            self.now = self.now.max(at);
            if !self.is_healed && self.now > self.heals_at {
                self.heal();
            }
            self.happen(what);
            if self.is_healed && rests_at.is_none() {
                if self.ledger.unresolved() == 0 {
                    rests_at = Some(self.now + REST);
                } else if self.now.since(self.heals_at) > patience {
                    let first = self.ledger.first_unresolved().unwrap_or_default();
                    self.record_standing();
                    panic!("{patience:?} after everything was mended {first} is not resolved");
                }
            }
        }
        assert!(rests_at.is_some(), "nothing happens any more, and jobs are not resolved");
        self.check_rest();
    }

    /// Records how dispatchers stand with nodes, for the end of the story.
    fn record_standing(&mut self) {
        for (number, site) in self.sites.iter().enumerate().filter(|(_, site)| site.is_in_use()) {
            for view in site.core.nodes() {
                self.story.record_of_site(self.now, number, || format!("dispatcher {number}: {view:?}"));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let statistics = node.core().map(|core| core.statistics());
            self.story.record(self.now, None, || format!("node {number}: {statistics:?}"));
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Flush(id, toward) => self.flush(id, toward),
            What::Arrive(id, toward) => self.arrive(id, toward),
            What::DialTimeout(id, stage) => {
                let site = self.connections[id.0].site;
                if self.connections[id.0].stage == stage {
                    self.site_input(site, SiteInput::TimedOut(id, stage));
                }
            }
            What::SendProgram(id, digest) => self.send_program(id, digest),
            What::NodeWakes(node, wake) => self.node_wakes(node, wake),
            What::SiteWakes(site, wake) => self.site_wakes(site, wake),
            What::NodeInput(node, life, input) => {
                if self.nodes[node].life == life {
                    self.node_input(node, input);
                }
            }
            What::SiteInput(site, input) => self.site_input(site, input),
            What::Worker(node, life, key, step) => self.worker(node, life, key, step),
            What::Strike => self.strike(),
            What::Mend(fault) => self.mend(fault),
        }
    }

    /// From now on nothing breaks. What faults broke is mended by their own plans, which end here at the latest.
    fn heal(&mut self) {
        self.is_healed = true;
        self.story.record(self.now, None, || "healed".into());
        for node in 0..self.nodes.len() {
            self.announce(node);
        }
    }

    /// Discovery has word of a node.
    fn announce(&mut self, node: usize) {
        for site in 0..self.sites.len() {
            if self.nodes[node].local_to.is_none_or(|owner| owner == site) {
                let after = self.random.time(Duration::ZERO, Duration::from_secs(1));
                self.agenda.add(self.now + after, What::SiteInput(site, SiteInput::Found(node)));
            }
        }
    }

    /// The dispatcher's own cores, if it has any.
    fn local_node(&self, site: usize) -> Option<usize> {
        self.nodes.iter().position(|machine| machine.local_to == Some(site))
    }

    fn settle(&mut self, ticket: &SimTicket, resolution: &Resolution) {
        let (now, job) = (self.now, ticket.job);
        self.story.record(now, Some(job), || format!("{job} is resolved: {:?}", resolution.outcome));
        for _ in 0..self.times_to_settle() {
            let Site { losses, lost, .. } = &self.sites[job.site as usize];
            self.ledger.resolve(job, resolution, *losses, lost);
        }
    }

    /// Whether to check a core's invariants now: always in small worlds, now and then in large ones.
    fn check_this_time(&mut self) -> bool {
        self.events += 1;
        self.events < 20_000 || self.events.is_multiple_of(16)
    }

    /// Merges what comes from several sources in any order, each source's own order kept.
    fn shuffled<T, S: Ord + Copy>(&mut self, all: Vec<T>, source: impl Fn(&T) -> S) -> Vec<T> {
        let mut sources: Vec<S> = all.iter().map(&source).collect();
        for last in (1..sources.len()).rev() {
            let other = self.random.index(last + 1);
            sources.swap(last, other);
        }
        let mut queues = BTreeMap::<S, std::collections::VecDeque<T>>::new();
        for one in all {
            queues.entry(source(&one)).or_default().push_back(one);
        }
        sources.into_iter().filter_map(|source| queues.get_mut(&source)?.pop_front()).collect()
    }
}
