//! From `start()` to the first result of a local worker. Floor: starting this program once and waiting for its end.

use std::time::Instant;

use crate::jobs::nothing;
use crate::report::{Better, Report};
use crate::{chain, server};

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let first_result = || {
        let started = Instant::now();
        let dispatcher = server::local(2)?;
        dispatcher.submit(nothing, ()).wait()?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    let floor = || Ok(chain::start_and_exit()?);
    report.measure("startup, start to first result", "ms", Better::Less, first_result, floor)?;
    Ok(())
}
