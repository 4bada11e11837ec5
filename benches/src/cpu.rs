//! Jobs that keep a core busy, on two workers: how many times faster than one thread. Floor: two bare threads that
//! divide the same work, which is all that this machine has to give just then.

use std::time::Instant;

use pp_dispatcher::Dispatcher;

use crate::jobs::spin;
use crate::report::{Better, Report, median};
use crate::server;

/// Time that all of it takes on one thread.
const SERIAL_MS: u64 = 2_000;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    server::each_way(report, |report, way, dispatcher| {
        dispatcher.map(spin, [1, 1]).for_each(drop);
        for job_ms in [100, 10, 1] {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..report.runs {
                let jobs = SERIAL_MS / job_ms;
                let steps = steps_in(job_ms);
                let serial = seconds(|| one_after_the_other(steps, jobs));
                bare.push(serial / seconds(|| two_threads(steps, jobs)));
                ours.push(serial / with_dispatcher(dispatcher, steps, jobs)?);
            }
            let (ours, bare) = (median(ours), median(bare));
            let name = format!("cpu {way}, {job_ms} ms jobs");
            report.show(&name, ours, "x one thread, on 2 workers", Some((bare, Better::More)));
        }
        Ok(())
    })
}

/// Steps that `spin` does in so many milliseconds, now.
fn steps_in(milliseconds: u64) -> u64 {
    const SOME: u64 = 20_000_000;
    let taken = seconds(|| {
        spin(SOME);
    });
    (SOME as f64 * milliseconds as f64 / 1e3 / taken) as u64
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn one_after_the_other(steps: u64, jobs: u64) {
    (0..jobs).for_each(|_| {
        spin(steps);
    });
}

fn two_threads(steps: u64, jobs: u64) {
    std::thread::scope(|scope| {
        scope.spawn(|| one_after_the_other(steps, jobs / 2));
        one_after_the_other(steps, jobs - jobs / 2);
    });
}

fn with_dispatcher(dispatcher: &Dispatcher, steps: u64, jobs: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let jobs: Vec<_> = (0..jobs).map(|_| dispatcher.submit(spin, (steps,))).collect();
    for job in jobs {
        job.wait()?;
    }
    Ok(started.elapsed().as_secs_f64())
}
