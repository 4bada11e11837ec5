//! Both cores in simulated worlds of faults: see `pp_tests::sim`.

use std::time::{SystemTime, UNIX_EPOCH};

use pp_tests::sim::{JobName, Mistake, Verbosity, run, sweep};

fn holds(from: u64, count: u64) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = sweep(from, count, threads, None);
    if let Some(violation) = sweep.violation {
        panic!("{violation}");
    }
    assert_eq!(sweep.seeds, count);
}

#[test]
fn every_claim_holds_in_known_worlds() {
    holds(1, 500);
}

#[test]
fn every_claim_holds_in_new_worlds() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    let from = now.as_nanos() as u64;
    println!("seeds from {from} on");
    holds(from, 500);
}

#[test]
fn a_seed_is_always_the_same_world() {
    for seed in 1..20 {
        let [one, other] = [(); 2].map(|()| run(seed, None, Verbosity::Everything));
        assert_eq!(one, other);
    }
}

#[test]
fn the_story_of_a_job_says_what_each_event_changed_in_it() {
    let followed = Verbosity::Job(JobName { site: 0, number: 0 });
    let stories = (1..20).filter_map(|seed| run(seed, None, followed).ok()).map(|summary| summary.story);
    let tells = |story: &[String], change: &str| story.iter().any(|line| line.contains(change));
    let whole = stories.filter(|story| {
        tells(story, "queued, attempt 0  ->  job 0, at node")
            && tells(story, "nothing  ->  worker")
            && tells(story, "attempt 1  ->  nothing")
            && tells(story, "submitter   nothing  ->  Succeeded")
    });
    assert!(whole.count() > 0, "some of these jobs wait, run, and succeed");
}

#[test]
fn every_mistake_made_on_purpose_is_caught() {
    for mistake in Mistake::ALL {
        let sweep = sweep(1, 1_000, 2, Some(*mistake));
        let caught = sweep.violation.unwrap_or_else(|| panic!("{mistake:?} is not caught in 1,000 worlds"));
        println!("{mistake:?} is caught after {} worlds: {}", sweep.seeds, caught.claim);
    }
}
