//! Thousands of jobs while real nodes are killed, frozen, thawed, restarted, drained and resized, and workers killed.
//!
//! Every job must have one right outcome, its callback must be called once, and nothing may be left behind. Lasts for
//! `CHAOS_SECONDS` (default 30); `CHAOS_SEED` repeats the faults of an earlier run in their order, not to the moment.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_dispatcher::{Dispatcher, Job, JobError, Output, job};
use pp_tests::process::{SECRET, Server, is_worker, resident};
use pp_tests::random::Random;
use pp_tests::wait::{wait_until, wait_within};
use rustix::process::{Pid, Signal, kill_process};

/// Time that everything has to end once nothing is broken any more.
const HEAL_TIME: Duration = Duration::from_secs(60);
/// Jobs under way at once.
const JOBS_AT_ONCE: u64 = 400;
/// Bytes of large arguments and results.
const LARGE: RangeInclusive<u64> = 60_000..=500_000;
/// Runs of bad luck are no fault: a job may be there when this many workers die.
const ATTEMPTS: u32 = 50;

/// Takes its time, and yields a value that tells whether it was the right job, and its worker's process id.
#[job]
fn work(n: u64, milliseconds: u64) -> (u64, u32) {
    std::thread::sleep(Duration::from_millis(milliseconds));
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15), std::process::id())
}

/// Yields the same bytes, each of them changed.
#[job]
fn invert(bytes: Bytes) -> Bytes {
    bytes.iter().map(|byte| !byte).collect()
}

/// Prints so many lines.
#[job]
fn chatter(lines: u64) -> u64 {
    for line in 0..lines {
        println!("line {line} {}", "z".repeat(90));
        eprintln!("and {line}");
    }
    lines
}

/// Ends its worker if the file is there, and removes it.
#[job]
fn die_once(file: String) -> bool {
    if std::fs::remove_file(&file).is_ok() {
        std::process::abort();
    }
    true
}

#[derive(Default)]
struct Tally {
    submitted: AtomicU64,
    ended: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// Process ids of workers seen.
    workers: Mutex<BTreeSet<u32>>,
}

fn submit(dispatcher: &Dispatcher, tally: &Arc<Tally>, random: &mut Random, home: &std::path::Path) {
    let n = tally.submitted.fetch_add(1, Ordering::SeqCst);
    let counts = Arc::clone(tally);
    let called = AtomicU64::new(0);
    let check = move |right: Result<bool, String>| {
        counts.ended.fetch_add(1, Ordering::SeqCst);
        let times = called.fetch_add(1, Ordering::SeqCst) + 1;
        if right != Ok(true) || times != 1 {
            counts.wrong.lock().expect("nobody panics").push(format!("job {n}: {right:?}, call {times}"));
        }
    };
    match random.within(0..=99) {
        0 => {
            let file = home.join(n.to_string());
            std::fs::write(&file, "").expect("a file");
            let job = dispatcher.job(die_once, (file.display().to_string(),)).max_attempts(ATTEMPTS);
            job.callback(move |result| check(result.map_err(|error| error.to_string()))).submit();
            return;
        }
        1..=5 => {
            let bytes = Bytes::from(vec![n as u8; random.within(LARGE) as usize]);
            let right: Bytes = bytes.iter().map(|byte| !byte).collect();
            let job = dispatcher.job(invert, (bytes,)).max_attempts(ATTEMPTS);
            job.callback(move |result| check(result.map_err(|e| e.to_string()).map(|bytes| bytes == right)))
                .submit();
            return;
        }
        6..=7 => {
            let lines = random.within(0..=2_000);
            let job = dispatcher.job(chatter, (lines,)).max_attempts(ATTEMPTS);
            job.callback(move |result| check(result.map_err(|e| e.to_string()).map(|told| told == lines)))
                .submit();
            return;
        }
        _ => {}
    }
    let workers = Arc::clone(tally);
    let job = dispatcher.job(work, (n, random.within(0..=29))).max_attempts(ATTEMPTS);
    job.callback(move |result| {
        check(result.map_err(|error| error.to_string()).map(|(value, worker)| {
            workers.workers.lock().expect("nobody panics").insert(worker);
            value == n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }));
    })
    .submit();
}

/// Submits many jobs that take long, some of which print, and cancels them one after the other.
fn cancel_many(dispatcher: &Dispatcher, random: &mut Random) -> Vec<Job<u64>> {
    let jobs: Vec<_> = (0..random.within(0..=5_000)).map(|_| dispatcher.submit(chatter, (3_000,))).collect();
    std::thread::park_timeout(Duration::from_millis(random.within(0..=300)));
    jobs.iter().for_each(Job::cancel);
    jobs
}

fn check_cancelled(jobs: Vec<Job<u64>>) {
    for job in jobs {
        let outcome = job.wait();
        let is_right = matches!(outcome, Ok(3_000) | Err(JobError::Cancelled));
        assert!(is_right, "a cancelled job ended as {outcome:?}");
    }
}

/// Breaks something, or mends it.
fn disturb(
    servers: &mut [Server],
    frozen: &mut BTreeSet<usize>,
    dispatcher: &Dispatcher,
    tally: &Tally,
    random: &mut Random,
) -> String {
    let which = random.index(servers.len());
    let server = &mut servers[which];
    match random.within(0..=7) {
        _ if frozen.remove(&which) => {
            server.process().signal(Signal::CONT);
            format!("thaw {which}")
        }
        0 | 1 => {
            server.restart();
            format!("kill and restart {which}")
        }
        2 | 3 => {
            server.process().signal(Signal::STOP);
            frozen.insert(which);
            format!("freeze {which}")
        }
        4 => {
            server.process().signal(Signal::TERM);
            server.process().wait();
            server.restart();
            format!("drain and restart {which}")
        }
        5 => {
            let slots = random.within(0..=3) as usize;
            // One that is not connected now cannot be resized: that is an answer too.
            let done = dispatcher.resize(&server.address(), slots).is_ok();
            format!("resize {which} to {slots}: {done}")
        }
        6 => {
            let slots = random.within(0..=2) as usize;
            dispatcher.set_local_workers(slots).expect("a sensible number");
            format!("resize the local node to {slots}")
        }
        _ => {
            let workers = tally.workers.lock().expect("nobody panics");
            let victim = workers.iter().rev().copied().find(|worker| is_worker(*worker as i32));
            // It may end by itself before the signal arrives.
            let killed =
                victim.and_then(|pid| Pid::from_raw(pid as i32)).map(|pid| kill_process(pid, Signal::KILL));
            format!("kill a worker: {killed:?}")
        }
    }
}

fn nothing_is_lost_doubled_or_left_behind() {
    let seconds = std::env::var("CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let mut random = Random::from_environment("CHAOS_SEED");
    let home = tempfile::tempdir().expect("a directory");
    let mut servers = [Server::start(2), Server::start(2), Server::start(1)];
    let dispatcher = Dispatcher::builder()
        .local_workers(1)
        .discover(false)
        .secret(SECRET)
        .output(Output::EventsOnly)
        .nodes(servers.iter().map(Server::address))
        .start()
        .expect("it starts");
    dispatcher.wait_for_nodes(servers.len(), HEAL_TIME);

    let tally = Arc::<Tally>::default();
    let mut frozen = BTreeSet::new();
    let mut cancelled = Vec::new();
    let (mut story, mut memory, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
    let started = Instant::now();
    let mut next_fault = started;
    while started.elapsed() < Duration::from_secs(seconds) {
        while tally.submitted.load(Ordering::SeqCst) - tally.ended.load(Ordering::SeqCst) < JOBS_AT_ONCE {
            submit(&dispatcher, &tally, &mut random, home.path());
        }
        if Instant::now() >= next_fault {
            let asked = Instant::now();
            let unresolved = dispatcher.stats().unresolved;
            assert!(asked.elapsed() < Duration::from_secs(1), "stats() answers whatever is broken");
            let fault = disturb(&mut servers, &mut frozen, &dispatcher, &tally, &mut random);
            story.push(format!("{:6.2} s, {unresolved} jobs: {fault}", started.elapsed().as_secs_f64()));
            memory.push(resident(std::process::id()));
            descriptors.push(descriptors_open());
            // Some faults last for longer than a node may be silent.
            check_cancelled(std::mem::replace(&mut cancelled, cancel_many(&dispatcher, &mut random)));
            next_fault = Instant::now() + Duration::from_millis(random.within(0..=2499));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }

    let mended = Instant::now();
    for which in frozen {
        servers[which].process().signal(Signal::CONT);
    }
    dispatcher.set_local_workers(1).expect("a sensible number");
    for server in &servers {
        wait_within(HEAL_TIME, "every node to be used again", || {
            dispatcher.resize(&server.address(), 2).ok()
        });
    }
    let all_used = mended.elapsed();
    let told = || format!("{}\n{}", story.join("\n"), dispatcher.stats());
    assert!(dispatcher.wait_timeout(HEAL_TIME), "jobs are left: {}", told());
    let (submitted, ended) = (tally.submitted.load(Ordering::SeqCst), tally.ended.load(Ordering::SeqCst));
    let wrong = tally.wrong.lock().expect("nobody panics");
    assert!(
        wrong.is_empty() && submitted == ended,
        "{submitted} submitted, {ended} ended, {wrong:?}: {}",
        told()
    );
    check_cancelled(cancelled);
    let (early, late) = (memory[memory.len() / 4], memory[memory.len() - 1]);
    assert!(late < early + (64 << 20), "memory grows: {memory:?}");
    let (early, late) = (descriptors[descriptors.len() / 4], descriptors[descriptors.len() - 1]);
    assert!(late < early + 50, "descriptors are left open: {descriptors:?}");
    let all_ended = mended.elapsed();
    eprintln!(
        "{ended} jobs, {} faults; once mended, all nodes were used after {all_used:.1?}, all jobs had ended after \
         {all_ended:.1?}",
        story.len()
    );

    dispatcher.shutdown();
    drop(dispatcher);
    for server in &mut servers {
        server.process().signal(Signal::TERM);
        server.process().wait();
    }
    let workers = tally.workers.lock().expect("nobody panics");
    wait_until("every worker to be gone", || workers.iter().all(|worker| !is_worker(*worker as i32)));
}

/// Descriptors this process has open.
fn descriptors_open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![nothing_is_lost_doubled_or_left_behind])
}
