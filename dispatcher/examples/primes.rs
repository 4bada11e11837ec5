//! Which of these numbers are prime? Each is tried by division in a job of its own; a callback prints each answer as
//! it arrives.
//!
//! ```sh
//! cargo run --release --example primes                           # six large numbers
//! cargo run --release --example primes -- 2147483647 99400891    # numbers of your own
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::time::Duration;

use pp_dispatcher::{Dispatcher, JobError, job};

const NUMBERS: [u64; 6] =
    [112272535095293, 112582705942171, 112272535095293, 115280095190773, 115797848077099, 1099726899285419];

/// The smallest number above 1 that divides `n`, if that is not `n` itself.
#[job]
fn smallest_divisor(n: u64) -> Option<u64> {
    let odd = (3..).step_by(2).take_while(|divisor| *divisor <= n / *divisor);
    std::iter::once(2).chain(odd).find(|divisor| n.is_multiple_of(*divisor) && *divisor < n)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let Some(numbers) = numbers(std::env::args().skip(1)) else {
        eprintln!("usage: primes [NUMBER ...]\nEach NUMBER is between 2 and {}.", u64::MAX);
        std::process::exit(2);
    };

    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;
    // The network takes a moment to answer, and this machine may be done with a few numbers before that.
    let nodes = dispatcher.wait_for_nodes(1, Duration::from_millis(1_500));
    println!("{} numbers, nodes beside this one: {nodes}", numbers.len());
    for n in numbers {
        dispatcher.job(smallest_divisor, (n,)).callback(move |divisor| report(n, divisor)).submit();
    }
    dispatcher.wait();
    println!("\n{}", dispatcher.stats());
    Ok(())
}

fn report(n: u64, divisor: Result<Option<u64>, JobError>) {
    match divisor {
        Ok(None) => println!("{n} is prime"),
        Ok(Some(divisor)) => println!("{n} is not prime, divisible by {divisor}"),
        Err(error) => eprintln!("{n}: {error}"),
    }
}

fn numbers(arguments: impl Iterator<Item = String>) -> Option<Vec<u64>> {
    let number = |text: String| text.parse().ok().filter(|n| *n >= 2);
    let told = arguments.map(number).collect::<Option<Vec<u64>>>()?;
    Some(if told.is_empty() { NUMBERS.into() } else { told })
}
