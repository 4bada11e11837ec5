//! Jobs that do nothing: what the job path costs. Floor: the bare chain of three processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use pp_dispatcher::Dispatcher;

use crate::jobs::{add_one, add_one_to_each, nothing};
use crate::report::{Better, Report, median};
use crate::{chain, memory, server};

const JOBS: u32 = 1_000_000;
const MAPPED: u32 = 10_000_000;
/// Calls in a job, where calls are put together by hand.
const CHUNK: u64 = 1_000;

/// One handle each.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    measure(report, "noop", handles)
}

/// No handles; a callback for each.
pub(crate) fn run_callbacks(report: &mut Report) -> anyhow::Result<()> {
    measure(report, "callbacks", callbacks)
}

/// So many jobs each way, after as many that are not counted.
fn measure(
    report: &mut Report,
    name: &str,
    jobs_per_second: fn(&Dispatcher, u64) -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let jobs = report.jobs(JOBS).into();
    server::each_way(report, |report, way, dispatcher| {
        let figure = || jobs_per_second(dispatcher, jobs);
        figure()?;
        let floor = || chain::jobs_per_second(jobs);
        report.measure(&format!("{name} {way}"), "jobs/s", Better::More, figure, floor)?;
        Ok(())
    })
}

/// Ten million inputs, none of which is kept; once, and the most memory this process had meanwhile.
pub(crate) fn run_map(report: &mut Report) -> anyhow::Result<()> {
    let inputs = report.jobs(MAPPED).into();
    server::each_way(report, |report, way, dispatcher| {
        memory::forget_peak()?;
        let rate = map(dispatcher, inputs)?;
        let peak = memory::peak()? as f64 / f64::from(1 << 20);
        let floor = Some((chain::jobs_per_second(inputs)?, Better::More));
        report.show(&format!("map {way}, {inputs} inputs"), rate, "jobs/s", floor);
        report.show(&format!("map {way}, peak memory"), peak, "MiB", None);
        Ok(())
    })
}

/// As many inputs, in chunks, each of which is one job: what other systems do where they have a chunk size. There is no
/// floor: what is left is encoding, and adding.
pub(crate) fn run_chunks(report: &mut Report) -> anyhow::Result<()> {
    let inputs = report.jobs(MAPPED).into();
    server::each_way(report, |report, way, dispatcher| {
        map_in_chunks(dispatcher, inputs)?;
        let rates = (0..report.runs).map(|_| map_in_chunks(dispatcher, inputs));
        let rate = median(rates.collect::<anyhow::Result<_>>()?);
        report.show(&format!("chunks {way}, of {CHUNK}"), rate, "calls/s", None);
        Ok(())
    })
}

fn handles(dispatcher: &Dispatcher, count: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let jobs: Vec<_> = (0..count).map(|_| dispatcher.submit(nothing, ())).collect();
    for job in jobs {
        job.wait()?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn callbacks(dispatcher: &Dispatcher, count: u64) -> anyhow::Result<f64> {
    let ended = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    for _ in 0..count {
        let ended = Arc::clone(&ended);
        let note = move |result: Result<(), _>| {
            ended.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        };
        dispatcher.job(nothing, ()).callback(note).submit();
    }
    dispatcher.wait();
    let elapsed = started.elapsed();
    ensure!(ended.load(Ordering::Relaxed) == count, "every callback is called once");
    Ok(count as f64 / elapsed.as_secs_f64())
}

fn map(dispatcher: &Dispatcher, count: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut sum = 0_u64;
    for result in dispatcher.map(add_one, 0..count) {
        sum += result?;
    }
    ensure!(sum == count * (count + 1) / 2, "the sum is right");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn map_in_chunks(dispatcher: &Dispatcher, count: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut sum = 0_u64;
    let chunk_from = move |first: u64| (first..count.min(first + CHUNK)).collect();
    let chunks = (0..count).step_by(CHUNK as usize).map(chunk_from);
    for result in dispatcher.map(add_one_to_each, chunks) {
        sum += result?.into_iter().sum::<u64>();
    }
    ensure!(sum == count * (count + 1) / 2, "the sum is right");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
