//! Runs the simulation: many seeds to find a violation, or one to read its story.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pp_tests::sim::{JobName, Verbosity, run, sweep};

const USAGE: &str = "usage: sim [--seeds COUNT] [--from SEED]      many seeds
       sim --seed SEED [-v] [--job SITE.NUMBER]  one, and its story";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)) {
        Some(Arguments { seed: Some(seed), verbosity, .. }) => one(seed, verbosity),
        Some(Arguments { from, seeds, .. }) => many(from, seeds),
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    verbosity: Verbosity,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        // Without a base seed every run tries other worlds.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let mut arguments = Self { seeds: 10_000, from: now, seed: None, verbosity: Verbosity::Silent };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
                "--from" => arguments.from = words.next()?.parse().ok()?,
                "--seed" => arguments.seed = Some(words.next()?.parse().ok()?),
                "-v" if arguments.verbosity == Verbosity::Silent => {
                    arguments.verbosity = Verbosity::Everything
                }
                "-v" => {}
                "--job" => arguments.verbosity = Verbosity::Job(job(&words.next()?)?),
                _ => return None,
            }
        }
        Some(arguments)
    }
}

fn job(text: &str) -> Option<JobName> {
    let (site, number) = text.split_once('.').unwrap_or(("0", text));
    Some(JobName { site: site.parse().ok()?, number: number.parse().ok()? })
}

fn one(seed: u64, verbosity: Verbosity) -> ExitCode {
    let (story, violation) = match run(seed, None, verbosity) {
        Ok(summary) => (summary.story, None),
        Err(violation) => (violation.story.clone(), Some(violation)),
    };
    for line in story {
        println!("{line}");
    }
    match violation {
        None => {
            println!("seed {seed}: every claim held");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{seeds} seeds from {from} on {threads} threads");
    let started = Instant::now();
    let sweep = sweep(from, seeds, threads, None);
    let time = started.elapsed().as_secs_f64();
    let (done, events) = (sweep.seeds, sweep.events);
    println!("{done} seeds, {events} events in {time:.1} s ({:.0} seeds/s)", done as f64 / time);
    match sweep.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
