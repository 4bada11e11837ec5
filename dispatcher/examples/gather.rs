//! Jobs awaited from async code: a `Job` is a `Future`, for any runtime. Here tokio gathers the parts of an estimate of
//! pi, and then gives up on one that would take too long.
//!
//! ```sh
//! cargo run --release --example gather          # 16 jobs
//! cargo run --release --example gather -- 100   # that many
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::time::Duration;

use pp_dispatcher::{Dispatcher, JobError, job};
use tokio::task::JoinSet;
use tokio::{select, time};

const DARTS: u64 = 5_000_000;

/// Throws darts at a square, and counts those that hit the quarter circle in it.
#[job]
fn hits(seed: u64, darts: u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..darts).filter(|_| random().powi(2) + random().powi(2) < 1.0).count() as u64
}

// Not #[tokio::main]: init() comes first, before there is a runtime.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let parts = match arguments.as_slice() {
        [] => Some(16),
        [told] => told.parse().ok().filter(|parts| *parts > 0),
        _ => None,
    };
    let Some(parts) = parts else {
        eprintln!("usage: gather [JOBS]\nJOBS is a whole number above 0. Default: 16");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(gather(parts))
}

async fn gather(parts: u64) -> Result<(), Box<dyn std::error::Error>> {
    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;

    let jobs: JoinSet<_> = (0..parts).map(|seed| dispatcher.submit(hits, (seed, DARTS))).collect();
    let counts: Vec<u64> = jobs.join_all().await.into_iter().collect::<Result<_, _>>()?;
    let pi = 4.0 * counts.iter().sum::<u64>() as f64 / (parts * DARTS) as f64;
    println!("{parts} jobs threw {DARTS} darts each: pi is about {pi:.4}");

    let mut endless = dispatcher.submit(hits, (parts, u64::MAX));
    select! {
        hits = &mut endless => println!("hits: {}", hits?),
        () = time::sleep(Duration::from_secs(1)) => {
            endless.cancel();
            assert_eq!(endless.await, Err(JobError::Cancelled));
            println!("a job with {} darts was cancelled after a second", u64::MAX);
        }
    }
    println!("\n{}", dispatcher.stats());
    Ok(())
}
