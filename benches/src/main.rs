//! Measures the whole: each figure beside its *floor*, what the same machine does at the same time without any of this.
//!
//! The machine is never quiet, so a figure alone says little. Its ratio to the floor, measured in turns in the same
//! run, is what changes are judged by.

mod cancel;
mod chain;
mod commands;
mod compare;
mod cpu;
mod jobs;
mod latency;
mod memory;
mod noop;
mod payload;
mod recovery;
mod report;
mod scale;
mod server;
mod startup;
mod tail;
mod worker;

use clap::{Parser, ValueEnum};

use crate::report::Report;

/// Measures jobs per second, latency, throughput and cost, each beside its floor measured in the same run.
#[derive(Debug, Parser)]
#[command(after_help = "Build the daemon too, with the same profile: cargo build --release --bin ppserver")]
struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value_t = Bench::All)]
    bench: Bench,
    /// One JSON object a line: {"bench","value","unit","floor","ratio","better"}
    #[arg(long)]
    json: bool,
    /// Measure so often, and report the median [default: 5; 3 to compare, which takes a quarter of an hour]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..1_000))]
    runs: Option<u32>,
    /// Measure with so many jobs, where their number can be chosen
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Measure this way only, where there are two
    #[arg(long, value_enum)]
    way: Option<server::Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// By map over ten million inputs: jobs a second, and memory
    Map,
    /// By map over as many inputs, a thousand in each job
    Chunks,
    /// No-op jobs a second, one handle each
    Noop,
    /// The same with a callback on every job
    Callbacks,
    /// One job at a time: microseconds from submit to result
    Latency,
    /// 1 MiB in and out
    Bytes,
    /// 64 MiB in and out, and small jobs meanwhile
    Large,
    /// CPU-bound jobs on two workers against one thread
    Cpu,
    /// Bytes for each queued job
    Memory,
    /// The dispatcher's core with 1 to 10,000 simulated nodes
    Scale,
    /// From start() to the first result
    Startup,
    /// A worker for each job: from submit to result
    Worker,
    /// Jobs of mixed length on nodes of different speed
    Tail,
    /// From the death of a node to the start of its job on another
    Recovery,
    /// A million pending jobs cancelled: until all have ended, and the longest stall of their node
    Cancel,
    /// Commands by `ppctl run`: a second, and from its start to the first output
    Commands,
    /// All of these
    All,
    /// All of these, and the peers that benches/peers/setup installs; written to benches/RESULTS.md
    Compare,
}

fn main() -> anyhow::Result<()> {
    pp_dispatcher::init();
    if chain::serve_if_told() {
        return Ok(());
    }
    let arguments = Arguments::parse();
    let runs = arguments.runs.unwrap_or(if arguments.bench == Bench::Compare { 3 } else { 5 });
    let mut report = Report::new(arguments.json, runs, arguments.jobs, arguments.way);
    if arguments.bench == Bench::Compare {
        return compare::run(&report);
    }
    let wanted = |bench| arguments.bench == bench || arguments.bench == Bench::All;
    // First, while this process is small: its peak is measured.
    if wanted(Bench::Map) {
        noop::run_map(&mut report)?;
    }
    if wanted(Bench::Chunks) {
        noop::run_chunks(&mut report)?;
    }
    if wanted(Bench::Noop) {
        noop::run(&mut report)?;
    }
    if wanted(Bench::Callbacks) {
        noop::run_callbacks(&mut report)?;
    }
    if wanted(Bench::Latency) {
        latency::run(&mut report)?;
    }
    if wanted(Bench::Bytes) {
        payload::run_bytes(&mut report)?;
    }
    if wanted(Bench::Large) {
        payload::run_large(&mut report)?;
    }
    if wanted(Bench::Cpu) {
        cpu::run(&mut report)?;
    }
    if wanted(Bench::Memory) {
        memory::run(&mut report)?;
    }
    if wanted(Bench::Scale) {
        scale::run(&mut report)?;
    }
    if wanted(Bench::Startup) {
        startup::run(&mut report)?;
    }
    if wanted(Bench::Worker) {
        worker::run(&mut report)?;
    }
    if wanted(Bench::Recovery) {
        recovery::run(&mut report)?;
    }
    if wanted(Bench::Cancel) {
        cancel::run(&mut report)?;
    }
    if wanted(Bench::Tail) {
        tail::run(&mut report)?;
    }
    if wanted(Bench::Commands) {
        commands::run(&mut report)?;
    }
    Ok(())
}
