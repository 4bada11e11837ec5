//! Large arguments and results. Floor: the same blocks there and back over one loopback TCP connection, each sent back
//! once it has arrived.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use pp_dispatcher::Dispatcher;

use crate::jobs::{add_one, echo};
use crate::report::{Better, Report, median};
use crate::{chain, server};

const MIB: usize = 1 << 20;

/// 1 MiB in and out, many at once.
pub(crate) fn run_bytes(report: &mut Report) -> anyhow::Result<()> {
    let jobs = report.jobs(200) as usize;
    server::each_way(report, |report, way, dispatcher| {
        let floor = || chain::copy_rate(MIB, jobs, true);
        there_and_back(dispatcher, MIB, 20)?;
        let figure = || there_and_back(dispatcher, MIB, jobs);
        report.measure(&format!("bytes {way}, 1 MiB"), "MB/s each way", Better::More, figure, floor)?;
        Ok(())
    })
}

/// 64 MiB in and out, one at a time; and how long small jobs take meanwhile.
pub(crate) fn run_large(report: &mut Report) -> anyhow::Result<()> {
    let jobs = report.jobs(4) as usize;
    server::each_way(report, |report, way, dispatcher| {
        let floor = || chain::copy_rate(64 * MIB, jobs, false);
        let figure = || one_by_one(dispatcher, 64 * MIB, jobs);
        figure()?;
        report.measure(&format!("large {way}, 64 MiB"), "MB/s each way", Better::More, figure, floor)?;
        let (alone, meanwhile) = (small_jobs(dispatcher), small_jobs_meanwhile(dispatcher)?);
        let name = format!("large {way}, small jobs' p99");
        report.show(&name, meanwhile, "us meanwhile, alone", Some((alone, Better::Less)));
        Ok(())
    })
}

fn there_and_back(dispatcher: &Dispatcher, bytes: usize, times: usize) -> anyhow::Result<f64> {
    let block = Bytes::from(vec![7; bytes]);
    let started = Instant::now();
    for result in dispatcher.map(echo, std::iter::repeat_n(block.clone(), times)) {
        ensure!(result?.len() == bytes, "what was sent comes back");
    }
    Ok((bytes * times) as f64 / started.elapsed().as_secs_f64() / 1e6)
}

fn one_by_one(dispatcher: &Dispatcher, bytes: usize, times: usize) -> anyhow::Result<f64> {
    let block = Bytes::from(vec![7; bytes]);
    let started = Instant::now();
    for _ in 0..times {
        ensure!(dispatcher.submit(echo, (block.clone(),)).wait()?.len() == bytes, "what was sent comes back");
    }
    Ok((bytes * times) as f64 / started.elapsed().as_secs_f64() / 1e6)
}

/// The 99th of a hundred, in microseconds.
fn small_jobs(dispatcher: &Dispatcher) -> f64 {
    let one = |n: u64| {
        let started = Instant::now();
        let _ = dispatcher.submit(add_one, (n,)).wait();
        started.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<_> = (0..500).map(one).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

fn small_jobs_meanwhile(dispatcher: &Dispatcher) -> anyhow::Result<f64> {
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                one_by_one(dispatcher, 64 * MIB, 1)?;
            }
            anyhow::Ok(())
        });
        let slowest = median((0..3).map(|_| small_jobs(dispatcher)).collect());
        enough.store(true, Ordering::Relaxed);
        large.join().expect("it does not panic")?;
        Ok(slowest)
    })
}
