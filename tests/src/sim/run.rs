//! One seed, or many of them on all cores.

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Mistake, Verbosity, World};

/// Summary of a world that held all claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events its cores took in.
    pub events: u64,
    /// Story of what happened, as far as it was wanted.
    pub story: Vec<String>,
}

/// A claim that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The world in which it did not.
    pub seed: u64,
    /// The claim, and where it is made.
    pub claim: String,
    /// Story up to then, as far as it was wanted.
    pub story: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.claim)?;
        write!(f, "replay: cargo run --release -p pp-tests --bin sim -- --seed {} -v", self.seed)
    }
}

thread_local! {
    /// The message and the place of the last panic of a simulated world on this thread.
    static CLAIM: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_SIMULATING: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs the world of a seed, with a mistake made on purpose if one is given.
///
/// # Errors
/// When a claim does not hold.
pub fn run(seed: u64, mistake: Option<Mistake>, verbosity: Verbosity) -> Result<Summary, Violation> {
    listen_for_panics();
    IS_SIMULATING.set(true);
    let mut world = World::new(seed, mistake, verbosity);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    IS_SIMULATING.set(false);
    let story = world.story.take();
    match ended {
        Ok(()) => Ok(Summary { events: world.events, story }),
        Err(_) => Err(Violation { seed, claim: CLAIM.take().unwrap_or_default(), story }),
    }
}

/// Panics of simulated worlds are kept for their violation and not printed.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_SIMULATING.with_borrow(|simulating| *simulating) {
                let message = info.payload_as_str().unwrap_or("a panic");
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                CLAIM.set(Some(format!("{message} ({place})")));
            } else {
                usual(info);
            }
        }));
    });
}

/// Summary of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Seeds that were run.
    pub seeds: u64,
    /// Events the cores of all worlds took in.
    pub events: u64,
    /// The violation of the smallest seed that has one.
    pub violation: Option<Violation>,
}

/// Runs the seeds from `from` on, `count` of them, on so many threads; no further than the first violation.
pub fn sweep(from: u64, count: u64, threads: usize, mistake: Option<Mistake>) -> Sweep {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Sweep::default();
        while !stop.load(Ordering::Relaxed) {
            let offset = next.fetch_add(1, Ordering::Relaxed);
            if offset >= count {
                break;
            }
            done.seeds += 1;
            match run(from.wrapping_add(offset), mistake, Verbosity::Silent) {
                Ok(summary) => done.events += summary.events,
                Err(violation) => {
                    stop.store(true, Ordering::Relaxed);
                    done.violation = Some(violation);
                }
            }
        }
        done
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a sweep does not panic")).collect::<Vec<_>>()
    });
    all.into_iter().fold(Sweep::default(), |mut sum, part| {
        sum.seeds += part.seeds;
        sum.events += part.events;
        let first = [sum.violation.take(), part.violation].into_iter().flatten();
        sum.violation = first.min_by_key(|violation| violation.seed.wrapping_sub(from));
        sum
    })
}
