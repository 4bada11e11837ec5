//! Jobs of mixed length in random order on nodes of different speed. Floor: all the work divided so that every worker
//! ends at the same moment, which is less than the best order could reach. Beside it stands what is reached in the given
//! order if each worker takes the next job the moment it is free, since nobody knows beforehand how long a job takes.

use std::time::Instant;

use crate::jobs::take;
use crate::report::{Better, Report};
use crate::server::{self, Server};

const JOBS: u32 = 160;
/// Workers of a node, and how many times longer its jobs take.
const NODES: [(u32, u32); 2] = [(4, 1), (4, 2)];

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let servers = NODES.map(|(workers, slowness)| Server::start(workers, slowness));
    let servers = servers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let dispatcher = server::remote(&servers)?;
    let lengths = lengths(report.jobs(JOBS), 1);
    // All the work, spread over all the workers so that all end at once.
    let speed: f64 = NODES.iter().map(|(workers, slowness)| f64::from(*workers) / f64::from(*slowness)).sum();
    let best = lengths.iter().sum::<u64>() as f64 / 1e3 / speed;
    let makespan = || {
        let started = Instant::now();
        let jobs: Vec<_> =
            lengths.iter().map(|length| dispatcher.job(take, (*length,)).idempotent(true).submit()).collect();
        for job in jobs {
            job.wait()?;
        }
        Ok(started.elapsed().as_secs_f64())
    };
    report.measure("tail, makespan", "s", Better::Less, makespan, || Ok(best))?;
    report.show("tail, in order without delay", in_order(&lengths), "s", Some((best, Better::Less)));
    Ok(())
}

/// The makespan, in seconds, if the worker that is free first takes the next job, and the faster one of two.
fn in_order(lengths: &[u64]) -> f64 {
    let workers = NODES.iter().flat_map(|&(workers, slowness)| (0..workers).map(move |_| slowness));
    let mut free_at: Vec<_> = workers.map(|slowness| (0, u64::from(slowness))).collect();
    for length in lengths {
        let (free, slowness) = free_at.iter_mut().min().expect("there are workers");
        *free += *length * *slowness;
    }
    free_at.iter().map(|(free, _)| *free).max().unwrap_or(0) as f64 / 1e3
}

/// Three of four jobs take 50 ms, one 300 ms, in an order that the seed decides (splitmix64).
fn lengths(jobs: u32, seed: u64) -> Vec<u64> {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    };
    (0..jobs).map(|_| if random() % 4 == 0 { 300 } else { 50 }).collect()
}
