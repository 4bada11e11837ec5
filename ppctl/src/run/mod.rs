//! `ppctl run`: a command for each argument, on every core.
//!
//! What is run is composed by [`pp_run`], one job after the other, on a thread that reads arguments as they are needed; jobs
//! run as commands of a dispatcher; their ends are told to the one loop in [`engine`], which prints.

mod ahead;
mod base;
mod each_node;
mod engine;
mod files;
mod finished;
mod guard;
pub(crate) mod interrupts;
mod joblog;
mod json;
mod loader;
mod options;
mod output;
mod results;
mod screen;
mod share;
mod slots;
mod spool;
mod summary;
mod task;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use pp_run::{Input, Opened, Plan, Records, Start, Values, unsupported};

pub(crate) use self::options::Options;
use self::screen::not_written;
use crate::Arguments;

/// Exit code where the run itself went wrong, not its jobs.
pub(crate) const WRONG: u8 = 255;

pub(crate) fn run(arguments: &Arguments, options: &Options) -> anyhow::Result<ExitCode> {
    let share = options.share(pp_node::processors() as usize)?;
    let plan = options.plan(share.local_workers.max(1))?;
    if options.dry_run {
        return show(options, &plan);
    }
    let reads = plan.words().sources.iter().any(|source| source.values == Values::Input(Input::Standard));
    let is_given = options.retry_failed || options.only_command().is_some();
    if reads && !is_given && !options.quiet && io::stdin().is_terminal() {
        crate::warn(options.reads_terminal());
    }
    let reads_terminal = (reads || options.pipe) && !is_given && io::stdin().is_terminal();
    let guard = options.joblog.as_ref().and_then(|_| guard::run_below(reads_terminal));
    engine::run(arguments, options, plan, share, guard)
}

/// What to do instead of an option that GNU parallel has and this has not.
pub(crate) fn refusal(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(option) => unsupported::refusal(option),
        _ => None,
    }
}

/// Opens something that holds arguments.
fn open(input: &Input, delimiter: &[u8]) -> io::Result<Opened<'static>> {
    Ok(match input {
        Input::Standard => Box::new(Records::new(BufReader::new(io::stdin()), delimiter)),
        Input::File(path) => {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Box::new(Records::new(BufReader::new(file), delimiter))
        }
    })
}

/// Shows what would be run.
fn show(options: &Options, plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (tasks, total) = match options.only_command() {
        Some(command) => task::given(vec![(1, command)]),
        None => task::tasks(plan, &options.delimiter()?, false)?,
    };
    for task in tasks {
        let (task, start) = (task?, Start { slot: 1, total: total.unwrap_or_default() });
        let mut line = task.tag(start).unwrap_or_default();
        line.extend(task.command(start));
        line.push(b'\n');
        match out.write_all(&line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.map_err(not_written)?,
        }
    }
    out.flush().map_err(not_written)?;
    Ok(ExitCode::SUCCESS)
}
