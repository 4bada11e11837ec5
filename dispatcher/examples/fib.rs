//! Fibonacci numbers: every term of a range is a job, and any core of the network may compute it.
//!
//! ```sh
//! cargo run --release --example fib              # terms 20 to 35
//! cargo run --release --example fib -- 30..40    # terms 30 to 39
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::ops::Range;

use pp_dispatcher::{Dispatcher, job};

#[job]
fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let Some(terms) = terms(std::env::args().skip(1)) else {
        eprintln!(
            "usage: fib [FROM..TO]\nTerms FROM up to, but not including, TO: at most 94. Default: 20..36"
        );
        std::process::exit(2);
    };

    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;
    let jobs: Vec<_> = terms.map(|n| (n, dispatcher.submit(fib, (n,)))).collect();
    for (n, job) in jobs {
        println!("fib {n} = {}", job.wait()?);
    }
    println!("\n{}", dispatcher.stats());
    Ok(())
}

/// Terms to compute. The 94th is the first that 64 bits do not hold.
fn terms(mut arguments: impl Iterator<Item = String>) -> Option<Range<u64>> {
    let Some(range) = arguments.next() else { return Some(20..36) };
    let (from, to) = range.split_once("..")?;
    let terms = from.parse().ok()?..to.parse().ok()?;
    (terms.end <= 94 && !terms.is_empty() && arguments.next().is_none()).then_some(terms)
}
