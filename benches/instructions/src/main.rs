//! Guards the job path: counts how many instructions a job takes in each piece of it, and compares that with what is
//! recorded.
//!
//! ```sh
//! cargo run --release -p pp-instructions               # count, compare, and fail if a piece got more expensive
//! cargo run --release -p pp-instructions -- --record   # count, and record
//! ```
//!
//! Time says little on a machine that is never quiet; instructions hardly vary. Valgrind counts them: the program starts
//! itself under it, once for each [piece](pieces) with few jobs and once with many, and the difference is what those
//! jobs took, without start and end. A piece has one thread and no I/O, and decides nothing by a clock or by chance, so
//! the same program takes as many instructions each time, whatever else the machine does (on the wire, where every
//! connection has keys of its own, some hundred more or less in millions). Built in another folder it takes up to 0.3 %
//! more or less.
//!
//! Counts are of the instructions of the release build as it is, with those of the C library (memory, copies) and
//! of the cryptography. So a count is valid for one compiler, one C library and one kind of processor (Valgrind offers
//! programs the instructions that the real one has, up to AVX2): these are recorded beside the counts, and where another
//! one is used nothing is compared, which is said aloud. What is not covered: system calls, the shells' tasks, waking
//! up, memory that misses the caches, and the worker's loop, which decides by the clock when it writes. `pp-benches`
//! measures the whole.

mod count;
mod pieces;
mod record;
mod verdict;

use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::pieces::PIECES;
use crate::record::Record;

const HELP: &str = "\
Counts the instructions a job takes in each piece of the job path, and compares them with what is recorded.

Usage: pp-instructions                     count, compare, and fail if a piece got more expensive
       pp-instructions --record            count, and record
       pp-instructions measure PIECE JOBS  run a piece with so many jobs: for Valgrind and other profilers
";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--record"] => record(),
        ["measure", piece, jobs] => measure(piece, jobs),
        ["-h" | "--help"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("these arguments make no sense; what does:\n{HELP}"),
    }
}

fn check() -> anyhow::Result<ExitCode> {
    let recorded = Record::read()?;
    let counted = count_all()?;
    let verdict = verdict::compare(&recorded, &counted);
    print!("{}", verdict.text);
    Ok(if verdict.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn record() -> anyhow::Result<ExitCode> {
    let counted = count_all()?;
    // Where there is no record yet, or a broken one, there is nothing to compare.
    if let Ok(recorded) = Record::read() {
        print!("{}", verdict::table(&recorded, &counted));
    }
    counted.write()?;
    println!(
        "recorded in {}; commit it with the change that made it so, and say why",
        Record::path().display()
    );
    Ok(ExitCode::SUCCESS)
}

fn count_all() -> anyhow::Result<Record> {
    if cfg!(debug_assertions) {
        bail!(
            "this was built without optimisation, and the counts are of what is shipped; build it with --release"
        );
    }
    let counts = PIECES.iter().map(|piece| Ok((piece.name.to_owned(), count::per_job(piece.name)?)));
    Ok(Record { made_with: count::made_with(), counts: counts.collect::<anyhow::Result<_>>()? })
}

fn measure(piece: &str, jobs: &str) -> anyhow::Result<ExitCode> {
    let jobs = jobs.parse().with_context(|| format!("{jobs:?} is not a number of jobs"))?;
    let Some(found) = PIECES.iter().find(|known| known.name == piece) else {
        let names: Vec<_> = PIECES.iter().map(|known| known.name).collect();
        bail!("there is no piece {piece:?}; there are {}", names.join(", "));
    };
    (found.run)(jobs)?;
    Ok(ExitCode::SUCCESS)
}
