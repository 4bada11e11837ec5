//! One job at a time, submitted and waited for by a plain thread. Floor: one round trip of each kind a job makes.

use std::time::Instant;

use crate::jobs::add_one;
use crate::report::{Better, Report, median};
use crate::{chain, server};

const JOBS: u32 = 5_000;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let jobs = report.jobs(JOBS);
    server::each_way(report, |report, way, dispatcher| {
        let mut slowest = Vec::new();
        let mut one_by_one = || {
            let mut times = Vec::new();
            for n in 0..u64::from(jobs) {
                let started = Instant::now();
                dispatcher.submit(add_one, (n,)).wait()?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
            times.sort_by(f64::total_cmp);
            slowest.push(times[times.len() * 99 / 100]);
            Ok(median(times))
        };
        one_by_one()?;
        let floor = || {
            let wire = if way == "local" { 0.0 } else { chain::tcp_round_trip(jobs)? };
            Ok(wire + chain::unix_round_trip(jobs)? + chain::thread_round_trip(jobs))
        };
        report.measure(&format!("latency {way}, p50"), "us", Better::Less, one_by_one, floor)?;
        report.show(&format!("latency {way}, p99"), median(slowest), "us", None);
        Ok(())
    })
}
