//! Workers come and go while jobs run: prints how many jobs a second end while there are 1, 2, 4 and 1 workers.
//! Each job waits for 5 ms, as one that asks a slow service would, so that more workers help on any machine.
//!
//! ```sh
//! cargo run --release --example resize          # a second for each
//! cargo run --release --example resize -- 10    # that many seconds
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pp_dispatcher::{Dispatcher, job};

const WORKERS: [usize; 4] = [1, 2, 4, 1];

#[job]
fn ask_slow_service(question: u64) -> u64 {
    thread::sleep(Duration::from_millis(5));
    question + 1
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let seconds = match arguments.as_slice() {
        [] => Some(1.0),
        [told] => told.parse().ok(),
        _ => None,
    };
    let Some(phase) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        eprintln!("usage: resize [SECONDS]\nSECONDS for each number of workers. Default: 1");
        std::process::exit(2);
    };

    // Only the local workers are resized, so nodes on the network are used only if PP_NODES or PP_DISCOVER says so.
    let dispatcher = Dispatcher::builder().local_workers(WORKERS[0]).start()?;
    // Inputs without end: the map takes them as results are taken.
    let mut answers = dispatcher.map(ask_slow_service, 0..).unordered();
    let progress = ProgressBar::new(WORKERS.len() as u64);
    for workers in WORKERS {
        dispatcher.set_local_workers(workers)?;
        let start = Instant::now();
        let in_time = iter::from_fn(|| answers.next().filter(|_| start.elapsed() < phase));
        let answers = in_time.collect::<Result<Vec<_>, _>>()?.len();
        let rate = answers as f64 / start.elapsed().as_secs_f64();
        progress.suspend(|| println!("{workers} workers: {rate:.0} jobs/s"));
        progress.inc(1);
    }
    // What is still in flight is cancelled with the map.
    drop(answers);
    println!("\n{}", dispatcher.stats());
    Ok(())
}
