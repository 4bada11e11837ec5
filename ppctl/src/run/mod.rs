//! `ppctl run`: a command for each argument, on every core.
//!
//! What is run is composed by [`pp_run`], one job after the other, on a thread that reads arguments as they are needed; jobs
//! run as commands of a dispatcher; their ends are told to the one loop in [`engine`], which prints.

mod engine;
mod finished;
mod options;

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::process::ExitCode;

use pp_run::{ComposeError, Composed, Input, Opened, Plan, Records, Start};

pub(crate) use self::options::Options;
use crate::Arguments;

/// Exit code where the run itself went wrong, not its jobs.
pub(crate) const WRONG: u8 = 255;

pub(crate) fn run(arguments: &Arguments, options: &Options) -> anyhow::Result<ExitCode> {
    let local_workers = options.local_workers(pp_node::processors() as usize)?;
    let plan = options.plan(local_workers)?;
    if options.dry_run {
        return show(&plan, &options.delimiter()?);
    }
    engine::run(arguments, options, plan, local_workers)
}

/// Opens something that holds arguments.
fn open(input: &Input, delimiter: &[u8]) -> io::Result<Opened<'static>> {
    Ok(match input {
        Input::Standard => Box::new(Records::new(BufReader::new(io::stdin()), delimiter)),
        Input::File(path) => Box::new(Records::new(BufReader::new(File::open(path)?), delimiter)),
    })
}

/// Jobs as they are composed.
type Jobs = Box<dyn Iterator<Item = Result<Composed, ComposeError>>>;

/// The jobs, and how many there are if that has to be known before the first.
fn jobs(plan: &Plan, delimiter: &[u8]) -> Result<(Jobs, u64), ComposeError> {
    let jobs = plan.jobs(|input| open(input, delimiter))?;
    if !plan.needs_total() {
        return Ok((Box::new(jobs), 0));
    }
    let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
    let total = jobs.len() as u64;
    Ok((Box::new(jobs.into_iter().map(Ok)), total))
}

/// Shows what would be run.
fn show(plan: &Plan, delimiter: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (jobs, total) = jobs(plan, delimiter)?;
    for job in jobs {
        let mut line = job?.command(Start { slot: 1, total });
        line.push(b'\n');
        match out.write_all(&line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written?,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
