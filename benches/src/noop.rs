//! Jobs that do nothing: what the job path costs. Floor: the bare chain of three processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use pp_dispatcher::Dispatcher;

use crate::jobs::{add_one, nothing};
use crate::report::{Better, Report};
use crate::{chain, memory, server};

const JOBS: u64 = 1_000_000;
const MAPPED: u64 = 10_000_000;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let floor = || chain::messages_per_second(JOBS);
    server::each_way(|way, dispatcher| {
        handles(dispatcher)?;
        report.measure(&format!("noop {way}"), "jobs/s", Better::More, || handles(dispatcher), floor)?;
        let name = format!("noop {way}, callbacks");
        report.measure(&name, "jobs/s", Better::More, || callbacks(dispatcher), floor)?;
        let before = memory::resident()?;
        let rate = map(dispatcher)?;
        let more = memory::resident()?.saturating_sub(before) as f64 / 1e6;
        report.show(&format!("map 10 million {way}"), rate, "jobs/s", Some((floor()?, Better::More)));
        report.show(&format!("map 10 million {way}, memory"), more, "MB more afterwards", None);
        Ok(())
    })
}

fn handles(dispatcher: &Dispatcher) -> anyhow::Result<f64> {
    let started = Instant::now();
    let jobs: Vec<_> = (0..JOBS).map(|_| dispatcher.submit(nothing, ())).collect();
    for job in jobs {
        job.wait()?;
    }
    Ok(JOBS as f64 / started.elapsed().as_secs_f64())
}

fn callbacks(dispatcher: &Dispatcher) -> anyhow::Result<f64> {
    let ended = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    for _ in 0..JOBS {
        let ended = Arc::clone(&ended);
        let count = move |result: Result<(), _>| {
            ended.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        };
        dispatcher.job(nothing, ()).callback(count).submit();
    }
    dispatcher.wait();
    let elapsed = started.elapsed();
    ensure!(ended.load(Ordering::Relaxed) == JOBS, "every callback is called once");
    Ok(JOBS as f64 / elapsed.as_secs_f64())
}

fn map(dispatcher: &Dispatcher) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut sum = 0_u64;
    for result in dispatcher.map(add_one, 0..MAPPED) {
        sum += result?;
    }
    ensure!(sum == MAPPED * (MAPPED + 1) / 2, "the sum is right");
    Ok(MAPPED as f64 / started.elapsed().as_secs_f64())
}
