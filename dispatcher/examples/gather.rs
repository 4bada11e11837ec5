//! Jobs are futures: awaited from tokio, all together, or whichever comes first.
//!
//! ```text
//! cargo run --release --example gather
//! ```

use std::time::Duration;

use pp_dispatcher::{Dispatcher, Job, JobError, job};

/// Estimates pi from so many points of a quasi-random sequence (Halton, bases 2 and 3), starting at `first`.
#[job]
fn points_in_circle(first: u64, points: u64) -> u64 {
    let inside = |n: &u64| {
        let (x, y) = (radical_inverse(*n, 2), radical_inverse(*n, 3));
        x * x + y * y <= 1.0
    };
    (first..first + points).filter(inside).count() as u64
}

/// Takes a while.
#[job]
fn wait_for(milliseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

fn radical_inverse(mut n: u64, base: u64) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0 / base as f64);
    while n > 0 {
        value += (n % base) as f64 * digit;
        digit /= base as f64;
        n /= base;
    }
    value
}

/// Awaits jobs together, and yields their results in their order.
async fn gather<R: serde::de::DeserializeOwned>(jobs: Vec<Job<R>>) -> Result<Vec<R>, JobError> {
    futures_util::future::try_join_all(jobs).await
}

#[tokio::main(flavor = "current_thread")]
async fn run(dispatcher: Dispatcher) -> Result<(), JobError> {
    const PARTS: u64 = 40;
    const POINTS: u64 = 250_000;
    let parts = (0..PARTS).map(|part| dispatcher.submit(points_in_circle, (1 + part * POINTS, POINTS)));
    let inside: u64 = gather(parts.collect()).await?.into_iter().sum();
    println!("pi is about {:.6}, from {} points", 4.0 * inside as f64 / (PARTS * POINTS) as f64, PARTS * POINTS);

    let (hare, tortoise) = (dispatcher.submit(wait_for, (20,)), dispatcher.submit(wait_for, (60_000,)));
    let tortoise_id = tortoise.id();
    tokio::select! {
        first = hare => println!("the job of {} ms came first", first?),
        first = tortoise => println!("the job of {} ms came first, surprisingly", first?),
    }
    println!("job {} goes on; it ends with the dispatcher", tortoise_id.map_or("?".into(), |id| id.to_string()));

    let slow = dispatcher.job(wait_for, (60_000,)).timeout(Duration::from_millis(100)).submit();
    match slow.await {
        Err(JobError::TimedOut(limit)) => println!("a job with a limit of {limit:?} was killed in time"),
        other => println!("a job with a limit ended otherwise: {other:?}"),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;
    run(dispatcher.clone())?;
    println!("\n{}", dispatcher.stats());
    Ok(())
}
