//! From `start()` to the first result of a local worker. Floor: starting this program once and waiting for its end.

use std::time::Instant;

use crate::jobs::nothing;
use crate::report::{Better, Report};
use crate::{chain, server};

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let first_result = || {
        let started = Instant::now();
        server::local(2)?.submit(nothing, ()).wait()?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    // What is timed ends with the dispatcher gone; that is part of what a short program waits for.
    report.measure("startup, start to end of a job", "ms", Better::Less, first_result, || {
        Ok(chain::start_and_exit()?)
    })?;
    Ok(())
}
