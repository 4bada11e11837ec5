//! Divide and conquer: chunks of numbers are sorted by jobs, and the sorted chunks merged, two by two, by further jobs.
//!
//! ```sh
//! cargo run --release --example merge_sort                   # a million generated numbers
//! cargo run --release --example merge_sort -- 5000000        # that many
//! cargo run --release --example merge_sort -- numbers.txt    # those of a file, one on each line
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::collections::VecDeque;
use std::error::Error;
use std::iter;

use indicatif::ProgressBar;
use pp_dispatcher::{Dispatcher, job};

/// Enough for a job to be worth its way, few enough for every core to get some.
const NUMBERS_PER_CHUNK: usize = 50_000;

#[job]
fn sort(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

#[job]
fn merge(left: Vec<i64>, right: Vec<i64>) -> Vec<i64> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        merged.extend(if l <= r { left.next() } else { right.next() });
    }
    merged.extend(left.chain(right));
    merged
}

fn main() -> Result<(), Box<dyn Error>> {
    pp_dispatcher::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let numbers = match arguments.as_slice() {
        [] => generate(1_000_000),
        [told] if !told.starts_with('-') => {
            told.parse().map_or_else(|_| read(told), |count| Ok(generate(count)))?
        }
        _ => {
            eprintln!(
                "usage: merge_sort [COUNT | FILE]\nSorts COUNT generated numbers, or those in FILE, one on each line."
            );
            std::process::exit(2);
        }
    };

    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;
    let (count, sum) = (numbers.len(), checksum(&numbers));
    let sorted = merge_sort(&dispatcher, &numbers)?;

    assert!(sorted.is_sorted(), "the numbers are not in order");
    assert_eq!((sorted.len(), checksum(&sorted)), (count, sum), "these are not the same numbers");
    if let (Some(first), Some(last)) = (sorted.first(), sorted.last()) {
        println!("smallest {first}, largest {last}");
    }
    println!("{count} numbers sorted and checked\n\n{}", dispatcher.stats());
    Ok(())
}

fn merge_sort(dispatcher: &Dispatcher, numbers: &[i64]) -> Result<Vec<i64>, Box<dyn Error>> {
    let chunks = numbers.chunks(NUMBERS_PER_CHUNK);
    let progress = ProgressBar::new((2 * chunks.len()).saturating_sub(1) as u64);
    let mut jobs: VecDeque<_> = chunks.map(|chunk| dispatcher.submit(sort, (chunk.to_vec(),))).collect();
    while let Some(left) = jobs.pop_front() {
        let left = left.wait()?;
        progress.inc(1);
        let Some(right) = jobs.pop_front() else { return Ok(left) };
        jobs.push_back(dispatcher.submit(merge, (left, right.wait()?)));
        progress.inc(1);
    }
    Ok(Vec::new())
}

/// The same numbers in each run, in no order (splitmix64).
fn generate(count: usize) -> Vec<i64> {
    let mut state = 0u64;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((mixed ^ (mixed >> 31)).cast_signed())
    };
    iter::from_fn(next).take(count).collect()
}

fn read(path: &str) -> Result<Vec<i64>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let number = |(index, line): (usize, &str)| {
        line.trim().parse().map_err(|_| format!("{path}, line {}: {line:?} is not a whole number", index + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(number).collect()
}

fn checksum(numbers: &[i64]) -> i64 {
    numbers.iter().fold(0, |sum, number| sum.wrapping_add(*number))
}
