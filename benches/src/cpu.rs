//! Jobs that keep a core busy, on two workers. Floor: the same work on one thread of this process.

use std::time::Instant;

use pp_dispatcher::Dispatcher;

use crate::jobs::spin;
use crate::report::{Better, Report};
use crate::server;

/// How long all of it takes on one thread.
const SERIAL_MS: u64 = 2_000;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let dispatcher = server::local(2)?;
    dispatcher.map(spin, [1, 1]).for_each(drop);
    for job_ms in [100, 10, 1] {
        let steps = steps_in(job_ms);
        let jobs = SERIAL_MS / job_ms;
        let parallel = || parallel(&dispatcher, steps, jobs);
        let name = format!("cpu, {job_ms} ms jobs on 2 workers");
        report.measure(&name, "s (half is ideal)", Better::Less, parallel, || Ok(serial(steps, jobs)))?;
    }
    Ok(())
}

/// How much `spin` does in so many milliseconds, now.
fn steps_in(milliseconds: u64) -> u64 {
    const SOME: u64 = 20_000_000;
    let started = Instant::now();
    spin(SOME);
    (SOME as f64 * milliseconds as f64 / 1e3 / started.elapsed().as_secs_f64()) as u64
}

fn serial(steps: u64, jobs: u64) -> f64 {
    let started = Instant::now();
    (0..jobs).for_each(|_| {
        spin(steps);
    });
    started.elapsed().as_secs_f64()
}

fn parallel(dispatcher: &Dispatcher, steps: u64, jobs: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let jobs: Vec<_> = (0..jobs).map(|_| dispatcher.submit(spin, (steps,))).collect();
    for job in jobs {
        job.wait()?;
    }
    Ok(started.elapsed().as_secs_f64())
}
