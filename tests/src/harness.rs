//! A test program's `main`.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: what it claims, and the function that shows it.
pub type Test = (&'static str, fn());

/// Time after which it is told how long a test took: whoever waits for the tests is to know for which.
const LONG: Duration = Duration::from_secs(5);

/// The machine: a test that is to be alone on it has all of it.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs tests as `cargo test` expects it, one after the other: they measure and kill processes.
pub fn run(tests: &[Test]) -> ! {
    run_some_side_by_side(1, &[], tests)
}

/// As [`run`], so many at once: for tests that wait most of the time, each with machines of its own.
pub fn run_side_by_side(at_once: usize, tests: &[Test]) -> ! {
    run_some_side_by_side(at_once, tests, &[])
}

/// Runs so many of the first tests at once, and the others after those, one after the other.
pub fn run_some_side_by_side(at_once: usize, side_by_side: &[Test], alone: &[Test]) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(at_once.min(arguments.test_threads.unwrap_or(at_once)));
    let side_by_side = side_by_side.iter().map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::test(name, move || {
            let _with_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            judge(name, test)
        })
    });
    let alone = alone.iter().map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::test(name, move || {
            let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
            judge(name, test)
        })
    });
    libtest_mimic::run(&arguments, side_by_side.chain(alone).collect()).exit()
}

fn judge(name: &str, test: fn()) -> Result<(), Failed> {
    let started = Instant::now();
    let ended = std::panic::catch_unwind(test);
    let took = started.elapsed();
    if took >= LONG {
        println!("{name} took {:.1} s", took.as_secs_f64());
    }
    ended.map_err(|panic| Failed::from(message_of(&*panic)))
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Lists test functions by their names.
#[macro_export]
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        &[$((stringify!($test), $test as fn())),*]
    };
}
