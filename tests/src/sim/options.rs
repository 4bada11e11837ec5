//! Options of a seed's world: how large, how fast, how faulty, with which jobs.
//!
//! Each seed switches off most kinds of faults and jobs, so that what hides behind a frequent one is found as well.

use std::time::Duration;

use pp_protocol::limits::PART_BYTES;
use pp_protocol::{FunctionId, ProgramId};

use super::faults::Kind;
use super::ledger::{Fate, JobSpec, LAST_CANCELLATION, LONGEST_DELAY};
use super::links::{FIRST, SECOND};
use crate::random::Random;

/// Arguments of this size count as large.
const LARGE_WEIGHT: usize = 5_000;
/// Of a job that is not to be sent at once.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) nodes: usize,
    pub(super) sites: usize,
    /// Whether each dispatcher has cores of its own.
    pub(super) local_nodes: bool,
    /// Whether nodes are configured, not discovered.
    pub(super) configured: bool,
    /// Whether each node is found under two addresses.
    pub(super) two_addresses: bool,
    /// Whether every worker runs one attempt only.
    pub(super) fresh_workers: bool,
    /// The usual time from one end of a connection to the other.
    pub(super) latency: Duration,
    /// Limit on the jobs of a dispatcher at each node.
    pub(super) jobs_per_node: Option<u32>,
    /// Whether jobs call functions of several programs, of which not every node runs each.
    pub(super) several_programs: bool,
    /// From which weight on messages are large.
    pub(super) bulk_from: usize,
    /// Memory of the nodes, in bytes, if they tell: too little for large arguments in all their slots.
    pub(super) memory: u64,
    pub(super) faults: Vec<Kind>,
    /// The usual time between two faults.
    pub(super) fault_gap: Duration,
    /// Time when the last fault is over.
    pub(super) heal_after: Duration,
    /// Nothing but connections breaks, and these only for moments: nothing may run twice.
    pub(super) only_blips: bool,
    /// Most jobs that are submitted at once.
    pub(super) group: usize,
    /// Time when the last dispatcher starts.
    pub(super) last_start: Duration,
    jobs_per_site: u64,
    shortest: Duration,
    longest: Duration,
    odd_jobs_percent: u64,
    cancels_percent: u64,
    delays_percent: u64,
    pins_percent: u64,
    parts_percent: u64,
    /// Longest time that a dispatcher takes for a part.
    pub(super) taking: Duration,
}

impl Options {
    pub(super) fn draw(random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        let only_blips = random.percent(25);
        let only_orders = only_blips && random.percent(30);
        let kinds = match only_blips {
            true if only_orders => Kind::ORDERS,
            true => Kind::BLIPS,
            false => Kind::ALL,
        };
        let share = random.within(10..=70);
        let mut faults: Vec<_> = kinds.iter().copied().filter(|_| random.percent(share)).collect();
        if random.percent(10) {
            faults.clear();
        }
        // From microseconds to seconds, and not always as wide a mix.
        let shortest = random.magnitude(Duration::from_micros(10), ms(500));
        // What runs longer than a node may take to drain runs again.
        let most = if only_orders { ms(1_000) } else { ms(6_000) };
        let longest = random.magnitude(shortest, most).max(shortest * 2);
        // Now and then a large one.
        let (nodes, sites) = if random.percent(2) { (16, 6) } else { (4, 3) };
        let most_jobs = if longest < ms(20) { 200 } else { 40 };
        let taking =
            random.magnitude(Duration::from_micros(10), ms(if faults.is_empty() { 5 } else { 1_000 }));
        Self {
            nodes: random.within(1..=nodes) as usize,
            sites: random.within(1..=sites) as usize,
            local_nodes: random.percent(25),
            configured: random.percent(50),
            two_addresses: random.percent(10),
            fresh_workers: random.percent(10),
            latency: random.magnitude(Duration::from_micros(20), ms(60)),
            jobs_per_node: random.percent(15).then(|| random.within(1..=3) as u32),
            several_programs: random.percent(30),
            bulk_from: if random.percent(30) { 1 } else { usize::MAX },
            memory: if random.percent(50) { 10 * LARGE_WEIGHT as u64 } else { 0 },
            faults,
            fault_gap: random.magnitude(ms(100), ms(4_000)),
            heal_after: random.time(ms(1_000), ms(20_000)),
            only_blips,
            group: random.magnitude(ms(1), ms(200)).as_millis() as usize,
            last_start: if random.percent(30) { random.time(ms(0), ms(10_000)) } else { Duration::ZERO },
            jobs_per_site: random.within(1..=most_jobs),
            shortest,
            longest,
            odd_jobs_percent: random.within(0..=30),
            cancels_percent: if random.percent(50) { random.within(0..=30) } else { 0 },
            delays_percent: if random.percent(30) { random.within(0..=50) } else { 0 },
            pins_percent: if random.percent(30) { random.within(0..=60) } else { 0 },
            parts_percent: if random.percent(40) { random.within(0..=60) } else { 0 },
            taking,
        }
    }

    /// Whether nodes are frozen at times.
    pub(super) fn freezes(&self) -> bool {
        self.faults.iter().any(|kind| matches!(kind, Kind::FreezeNode | Kind::FreezeSite))
    }

    /// Attempts that a dispatcher may have at a node with so many slots, if they are not to take all of them.
    pub(super) fn limit(&self, slots: u32) -> Option<u32> {
        self.jobs_per_node.filter(|limit| *limit < slots)
    }

    /// Whether some jobs are for one node only.
    pub(super) fn pins(&self) -> bool {
        self.pins_percent > 0
    }

    /// The programs that each dispatcher offers.
    pub(super) fn programs(&self) -> Vec<ProgramId> {
        if self.several_programs { vec![FIRST, SECOND] } else { vec![FIRST] }
    }

    pub(super) fn slots(&self, random: &mut Random) -> u32 {
        random.within(1..=4) as u32
    }

    pub(super) fn jobs(&self, random: &mut Random) -> Vec<JobSpec> {
        let count = random.within(1..=self.jobs_per_site);
        (0..count).map(|_| self.job(random)).collect()
    }

    /// Whether, and how long after its submission, a job is cancelled.
    pub(super) fn cancel_after(&self, spec: &JobSpec, random: &mut Random) -> Option<Duration> {
        let needs_it = spec.fate == Fate::Endless && spec.time_limit.is_none();
        (needs_it || random.percent(self.cancels_percent))
            .then(|| random.magnitude(Duration::from_micros(100), LAST_CANCELLATION))
    }

    fn job(&self, random: &mut Random) -> JobSpec {
        let fate = match random.within(0..=4) {
            _ if !random.percent(self.odd_jobs_percent) => Fate::Returns,
            0 => Fate::Panics,
            1 => Fate::BadArguments,
            2 => Fate::Endless,
            3 => Fate::Poison,
            _ => Fate::Returns,
        };
        let run_time = random.magnitude(self.shortest, self.longest);
        let limit = random.magnitude(Duration::from_millis(1), Duration::from_secs(4));
        // A limit near the run time could end either way.
        let is_clear = run_time < limit / 16 || run_time > limit * 2 || fate == Fate::Endless;
        let program = match random.within(0..=9) {
            0..=2 if self.several_programs => SECOND,
            3 | 4 if self.several_programs => ProgramId::BUILT_IN,
            _ => FIRST,
        };
        JobSpec {
            fate,
            program,
            function: FunctionId(u64::from(run_time.as_micros().max(1).ilog10()) + 10 * fate as u64),
            run_time,
            time_limit: (is_clear && random.percent(30)).then_some(limit),
            max_attempts: random.percent(10).then(|| random.within(1..=4) as u32),
            retry_panics: random.percent(20),
            idempotent: random.percent(20),
            priority: if random.percent(20) { random.within(0..=4) as i32 - 2 } else { 0 },
            weight: match random.within(0..=9) {
                0 => LARGE_WEIGHT,
                1 => 100,
                _ => 0,
            },
            prints: random.percent(20),
            parts: if random.percent(self.parts_percent) { random.within(1..=40) as u32 } else { 0 },
            part_weight: if random.percent(50) { PART_BYTES - 16 } else { random.within(0..=100) as usize },
            delay: random
                .percent(self.delays_percent)
                .then(|| random.magnitude(SHORTEST_DELAY, LONGEST_DELAY)),
            only_at: random.percent(self.pins_percent).then(|| random.index(self.nodes)),
        }
    }
}
