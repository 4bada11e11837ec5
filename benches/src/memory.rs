//! Memory of a job while it waits. There is no floor: the figure itself is the excess over its payload.

use std::time::Instant;

use anyhow::Context;

use crate::jobs::nothing;
use crate::report::Report;
use crate::server;

const JOBS: u32 = 1_000_000;

/// Memory of this process that is in use, in bytes.
pub(crate) fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("there is no /proc")?;
    let pages: u64 = statm.split(' ').nth(1).context("it has two numbers")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The most that was in use since [`forget_peak`], in bytes.
pub(crate) fn peak() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("there is no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("there is a peak")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Lets the peak begin anew, at what is in use now.
pub(crate) fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("the peak cannot be reset")
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let dispatcher = server::local(0)?;
    dispatcher.submit(nothing, ()).cancel();
    let jobs = report.jobs(JOBS) as usize;
    let before = resident()?;
    let started = Instant::now();
    let handles: Vec<_> = (0..jobs).map(|_| dispatcher.submit(nothing, ())).collect();
    // Once this is answered, everything submitted has been taken in.
    let stats = dispatcher.stats();
    let elapsed = started.elapsed().as_secs_f64();
    assert!(stats.unresolved >= jobs, "they wait");
    let each = resident()?.saturating_sub(before) as f64 / jobs as f64;
    report.show("memory, queued no-op job", each, "bytes, its handle included", None);
    report.show(&format!("memory, queueing {jobs}"), elapsed, "s", None);
    drop(handles);
    Ok(())
}
