//! A test program's `main`.

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: what it claims, and the function that shows it.
pub type Test = (&'static str, fn());

/// Runs tests as `cargo test` expects it, one after the other: they measure and kill processes.
pub fn run(tests: &[Test]) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = tests.iter().map(|(name, test)| {
        let test = *test;
        Trial::test(*name, move || match std::panic::catch_unwind(test) {
            Ok(()) => Ok(()),
            Err(panic) => Err(Failed::from(message_of(&*panic))),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
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
