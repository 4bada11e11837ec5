//! Changing the number of local workers while jobs run: 1, 2, 4, 1.
//!
//! ```text
//! cargo run --release --example resize
//! ```
//! Each job waits for five milliseconds, as one that reads from a slow device does, so that four workers help even on
//! one core.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, job};

/// How long each number of workers is kept.
const PHASE: Duration = Duration::from_secs(1);
/// How many jobs are kept pending, so that nobody runs dry.
const PENDING: usize = 64;

#[job]
fn read_slow_device() {
    std::thread::sleep(Duration::from_millis(5));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let dispatcher = Dispatcher::builder().discover(false).local_workers(1).start()?;
    let ended = Arc::new(AtomicUsize::new(0));
    let mut submitted = 0;
    for workers in [1, 2, 4, 1] {
        dispatcher.set_local_workers(workers)?;
        let (started, before) = (Instant::now(), ended.load(Ordering::Relaxed));
        while started.elapsed() < PHASE {
            while submitted - ended.load(Ordering::Relaxed) < PENDING {
                let ended = Arc::clone(&ended);
                let count = move |_| {
                    ended.fetch_add(1, Ordering::Relaxed);
                };
                let _job = dispatcher.job(read_slow_device, ()).callback(count).submit();
                submitted += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let jobs = ended.load(Ordering::Relaxed) - before;
        println!("{workers} workers: {:>4.0} jobs/s", jobs as f64 / started.elapsed().as_secs_f64());
    }
    dispatcher.wait();
    println!("{submitted} jobs were submitted, {} ended", ended.load(Ordering::Relaxed));
    println!("\n{}", dispatcher.stats());
    Ok(())
}
