//! A node is killed while it runs a job: how long until that job starts again on another. Floor: the bare round trips
//! that noticing and sending take.

use std::time::Duration;

use anyhow::Context;

use crate::chain;
use crate::jobs::{monotonic_ns, started_at};
use crate::report::{Better, Report};
use crate::server::{self, Server};

/// Run time of the jobs that are interrupted.
const JOB_MS: u64 = 300;
/// Number of times a node is killed.
const KILLS: u32 = 20;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let before = std::mem::replace(&mut report.runs, KILLS);
    let floor = || Ok((chain::tcp_round_trip(200)? + chain::unix_round_trip(200)?) / 1e3);
    report.measure("recovery, killed node to rerun", "ms", Better::Less, kill_one, floor)?;
    report.runs = before;
    Ok(())
}

fn kill_one() -> anyhow::Result<f64> {
    let mut servers = [Server::start(2, 1)?, Server::start(2, 1)?];
    let dispatcher = server::remote(&servers)?;
    let jobs = [(); 2].map(|()| dispatcher.submit(started_at, (JOB_MS,)));
    // One runs on each node, which has been told and so will be seen.
    while dispatcher.nodes().iter().filter(|node| node.jobs_at_node > 0).count() < 2 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    std::thread::park_timeout(Duration::from_millis(JOB_MS / 3));
    let killed = monotonic_ns();
    servers[0].kill();
    let mut rerun = None;
    for job in jobs {
        rerun = Some(job.wait()?).filter(|started| *started > killed).or(rerun);
    }
    let rerun = rerun.context("one of the two was running on the node that was killed")?;
    Ok((rerun - killed) as f64 / 1e6)
}
