//! What a job costs while it waits. There is no floor: the figure itself is the excess over its payload.

use std::time::Instant;

use anyhow::Context;

use crate::jobs::nothing;
use crate::report::Report;
use crate::server;

const JOBS: usize = 1_000_000;

/// Memory of this process that is in use, in bytes.
pub(crate) fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("there is no /proc")?;
    let pages: u64 = statm.split(' ').nth(1).context("it has two numbers")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let dispatcher = server::local(0)?;
    dispatcher.submit(nothing, ()).cancel();
    let before = resident()?;
    let started = Instant::now();
    let jobs: Vec<_> = (0..JOBS).map(|_| dispatcher.submit(nothing, ())).collect();
    // Once this is answered, everything submitted has been taken in.
    let stats = dispatcher.stats();
    let elapsed = started.elapsed().as_secs_f64();
    assert!(stats.unresolved >= JOBS, "they wait");
    let each = resident()?.saturating_sub(before) as f64 / JOBS as f64;
    report.show("memory, queued no-op job", each, "bytes, its handle included", None);
    report.show("memory, queueing a million", elapsed, "s", None);
    drop(jobs);
    Ok(())
}
