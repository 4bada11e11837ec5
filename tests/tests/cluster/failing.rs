//! Nodes and dispatchers that die, freeze, thaw and leave.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pp_dispatcher::{ClusterEvent, Dispatcher, NodeState};
use pp_tests::process::{Process, SECRET, Server, command, copy_program, is_alive};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use rustix::process::Signal;

use crate::jobs::{abort, builder, dispatcher, hang, nap, node, slow_square, square, start_strays_and_hang};

/// Makes this program one that starts jobs at the node named by it and waits for them.
pub(crate) const ABANDONING: &str = "CLUSTER_TEST_ABANDONING";

/// Submits jobs whose callbacks count themselves; when all are resolved, each has to have counted once.
struct Counted(Vec<Arc<AtomicU32>>);

impl Counted {
    fn submit(dispatcher: &Dispatcher, jobs: u64, milliseconds: u64) -> Self {
        let submit = |n: u64| {
            let count = Arc::new(AtomicU32::new(0));
            let counter = Arc::clone(&count);
            let job = dispatcher.job(slow_square, (n, milliseconds)).callback(move |result| {
                assert_eq!(result, Ok(n * n), "the result of job {n}");
                counter.fetch_add(1, Ordering::SeqCst);
            });
            job.submit();
            count
        };
        Self((0..jobs).map(submit).collect())
    }

    fn ended(&self) -> usize {
        self.0.iter().filter(|count| count.load(Ordering::SeqCst) > 0).count()
    }

    /// Waits for all of them.
    fn check(&self, dispatcher: &Dispatcher) {
        assert!(dispatcher.wait_timeout(PATIENCE), "{} of {} ended", self.ended(), self.0.len());
        let counts: Vec<_> = self.0.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        assert!(counts.iter().all(|count| *count == 1), "each has one right outcome: {counts:?}");
    }
}

pub(crate) fn a_killed_node_costs_nothing_and_is_used_again_when_it_is_back() {
    let mut servers = [Server::start(2), Server::start(2)];
    let dispatcher = dispatcher(&servers);
    let events = dispatcher.events();
    let jobs = Counted::submit(&dispatcher, 600, 10);
    wait_until("some to have run on both", || {
        dispatcher.nodes().iter().filter(|node| node.jobs_ended > 20).count() == 2
    });
    servers[0].process().kill();
    let lost = wait_within(PATIENCE, "word of the loss", || {
        events.try_next().filter(|event| matches!(event, ClusterEvent::NodeLost { .. }))
    });
    assert!(lost.to_string().contains("jobs queued again"), "{lost}");
    wait_until("the node to be seen to be gone", || {
        node(&dispatcher, &servers[0]).is_some_and(|node| node.state == NodeState::Unreachable)
    });
    let before = node(&dispatcher, &servers[0]).expect("it is known").jobs_ended;
    servers[0].restart();
    let restarted = Instant::now();
    wait_within(Duration::from_secs(5), "jobs to end on the node again", || {
        node(&dispatcher, &servers[0]).filter(|node| node.jobs_ended > before)
    });
    eprintln!("used again {:?} after its restart", restarted.elapsed());
    jobs.check(&dispatcher);
}

pub(crate) fn a_frozen_node_loses_its_jobs_to_others_and_is_used_again_when_it_thaws() {
    let mut servers = [Server::start(1), Server::start(1)];
    let dispatcher = dispatcher(&servers);
    dispatcher.wait();
    let jobs = Counted::submit(&dispatcher, 200, 20);
    wait_until("some to have run on both", || {
        dispatcher.nodes().iter().filter(|node| node.jobs_ended > 5).count() == 2
    });
    servers[0].process().signal(Signal::STOP);
    let frozen = Instant::now();
    wait_until("the node to be declared lost", || {
        let asked = Instant::now();
        let state = node(&dispatcher, &servers[0]).map(|node| node.state);
        assert!(asked.elapsed() < Duration::from_secs(1), "nodes() takes {:?}", asked.elapsed());
        state.is_some_and(|state| !matches!(state, NodeState::Connected | NodeState::Suspect))
    });
    assert!(frozen.elapsed() < Duration::from_secs(6), "{:?}", frozen.elapsed());
    jobs.check(&dispatcher);
    let before = node(&dispatcher, &servers[0]).expect("it is known").jobs_ended;
    servers[0].process().signal(Signal::CONT);
    wait_until("the node to be connected again", || {
        node(&dispatcher, &servers[0]).is_some_and(|node| node.state == NodeState::Connected)
    });
    Counted::submit(&dispatcher, 50, 10).check(&dispatcher);
    assert!(node(&dispatcher, &servers[0]).expect("it is known").jobs_ended > before, "it is used again");
    // Its workers went on while it was frozen: what they ended was done elsewhere by then.
    servers[0].process().signal(Signal::USR1);
    servers[0].process().wait_for_stdout("outcomes came too late for their dispatchers, and were dropped");
}

pub(crate) fn a_job_that_may_run_twice_is_copied_where_a_slot_idles() {
    let mut servers = [Server::start(1), Server::start(1)];
    let dispatcher = dispatcher(&servers);
    let jobs = [3, 4].map(|n| dispatcher.job(slow_square, (n, 300)).idempotent(true).submit());
    wait_until("one to run on each", || {
        dispatcher.nodes().iter().filter(|node| node.jobs_at_node == 1).count() == 2
    });
    servers[0].process().signal(Signal::STOP);
    let frozen = Instant::now();
    assert_eq!(jobs.map(|job| job.wait()), [Ok(9), Ok(16)]);
    assert!(
        frozen.elapsed() < Duration::from_secs(4),
        "nobody waited for the node to be lost: {:?}",
        frozen.elapsed()
    );
    servers[0].process().signal(Signal::CONT);
}

pub(crate) fn shutting_down_does_not_wait_for_a_frozen_node() {
    let mut servers = [Server::start(1), Server::start(1)];
    let dispatcher = dispatcher(&servers);
    let jobs: Vec<_> = (0..1_000).map(|_| dispatcher.submit(nap, (1_000,))).collect();
    wait_until("both to be at work", || {
        dispatcher.nodes().iter().filter(|node| node.jobs_at_node > 0).count() == 2
    });
    servers[0].process().signal(Signal::STOP);
    let asked = Instant::now();
    dispatcher.stats();
    assert!(asked.elapsed() < Duration::from_secs(1), "stats() takes {:?}", asked.elapsed());
    let asked = Instant::now();
    dispatcher.shutdown();
    assert!(asked.elapsed() < Duration::from_secs(1), "shutdown() takes {:?}", asked.elapsed());
    assert!(jobs.into_iter().all(|job| job.wait().is_err()), "every handle is resolved");
    servers[0].process().signal(Signal::CONT);
}

pub(crate) fn a_drained_node_finishes_what_runs_and_the_rest_goes_elsewhere() {
    let mut servers = [Server::start(2), Server::start(2)];
    let dispatcher = dispatcher(&servers);
    let events = dispatcher.events();
    let jobs = Counted::submit(&dispatcher, 200, 25);
    wait_until("some to have run on both", || {
        dispatcher.nodes().iter().filter(|node| node.jobs_ended > 5).count() == 2
    });
    servers[0].process().signal(Signal::TERM);
    assert!(servers[0].process().wait().success(), "{}", servers[0].log());
    jobs.check(&dispatcher);
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, ClusterEvent::JobRetried { .. }), "a drain ends no job: {event}");
    }
}

pub(crate) fn a_second_signal_ends_a_drain_at_once() {
    let home = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let file = home.path().join("running");
    let job = dispatcher.submit(hang, (file.display().to_string(),));
    let worker = worker_in(&file, 1)[0];
    server.process().signal(Signal::TERM);
    server.process().wait_for_stderr("finish");
    assert!(is_alive(worker), "what runs may finish");
    wait_until("the node to be seen to drain", || {
        node(&dispatcher, &server).is_some_and(|node| node.state == NodeState::Draining)
    });
    server.process().signal(Signal::TERM);
    server.process().wait();
    wait_until("the worker to be gone", || !is_alive(worker));
    job.cancel();
    assert!(job.wait().is_err());
}

pub(crate) fn a_program_removed_from_a_running_nodes_store_is_sent_again() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    assert_eq!(dispatcher.submit(square, (2,)).wait(), Ok(4));
    let store = server.home().join(".cache/ppserver");
    let mut removed = 0;
    for entry in std::fs::read_dir(&store).expect("the store is there") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
        removed += 1;
    }
    assert!(removed > 0, "the program was there");
    assert!(dispatcher.job(abort, ()).max_attempts(1).submit().wait().is_err(), "its worker is gone");
    assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9), "and another one is started");
}

pub(crate) fn a_store_that_is_removed_from_under_a_node_is_made_again() {
    let server = Server::start(1);
    let first = dispatcher([&server]);
    assert_eq!(first.submit(square, (2,)).wait(), Ok(4));
    let store = server.home().join(".cache/ppserver");
    std::fs::remove_dir_all(server.home().join(".cache")).expect("it can be removed");
    assert!(first.job(abort, ()).max_attempts(1).submit().wait().is_err(), "its worker is gone");
    let soon = |job: pp_dispatcher::Job<u64>| job.wait_timeout(PATIENCE).map_err(|_| "it hangs");
    assert_eq!(soon(first.submit(square, (3,))), Ok(Ok(9)), "{}", server.log());
    assert!(store.is_dir());
    std::fs::remove_dir_all(&store).expect("it can be removed");
    let second = dispatcher([&server]);
    assert_eq!(soon(second.submit(square, (4,))), Ok(Ok(16)), "{}", server.log());
}

/// Makes this program one that removes its own executable while it runs.
pub(crate) const REMOVED: &str = "CLUSTER_TEST_REMOVED";

pub(crate) fn remove_itself() {
    let dispatcher = Dispatcher::builder().local_workers(1).start().expect("it starts");
    assert_eq!(dispatcher.submit(square, (2,)).wait(), Ok(4));
    std::fs::remove_file(std::env::current_exe().expect("a path")).expect("it can be removed");
    assert!(dispatcher.job(abort, ()).max_attempts(1).submit().wait().is_err(), "its worker is gone");
    println!("then {:?}", dispatcher.submit(square, (3,)).wait());
}

pub(crate) fn a_program_whose_file_is_removed_while_it_runs_goes_on() {
    let home = tempfile::tempdir().expect("a directory");
    let copy = home.path().join("program");
    copy_program(std::env::current_exe().expect("a path"), &copy);
    let mut program = Process::start(command(&copy, home.path()).env(REMOVED, "1"));
    program.wait();
    assert!(program.stdout().contains("then Ok(9)"), "{}{}", program.stdout(), program.stderr());
}

pub(crate) fn nothing_that_jobs_started_outlives_them_however_they_are_ended() {
    let home = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(4);
    let [first, second] = [dispatcher([&server]), dispatcher([&server])];
    let file = |name: &str| home.path().join(name);
    let begin = |dispatcher: &Dispatcher, name: &str, limit: Option<Duration>| {
        let job = dispatcher.job(start_strays_and_hang, (file(name).display().to_string(),));
        let job = limit.into_iter().fold(job, |job, limit| job.timeout(limit)).submit();
        (job, worker_in(&file(name), 3))
    };
    let all_gone = |what: &str, processes: Vec<i32>| {
        wait_until(what, || !processes.iter().any(|process| is_alive(*process)));
    };
    let (cancelled, of_cancelled) = begin(&first, "cancelled", None);
    cancelled.cancel();
    all_gone("what a cancelled job started to be gone", of_cancelled);
    let (_limited, of_limited) = begin(&first, "limited", Some(Duration::from_millis(500)));
    all_gone("what a job beyond its limit started to be gone", of_limited);
    let (_abandoned, of_abandoned) = begin(&second, "abandoned", None);
    second.shutdown();
    all_gone("what a job of a dispatcher that has left started to be gone", of_abandoned);
    let (_killed, of_killed) = begin(&first, "killed", None);
    server.process().kill();
    all_gone("what a job of a daemon that was killed started to be gone", of_killed);
}

/// Waits for so many workers to have written their process ids.
fn worker_in(file: &Path, count: usize) -> Vec<i32> {
    wait_within(PATIENCE, "workers to run", || {
        let text = std::fs::read_to_string(file).ok()?;
        let workers: Vec<_> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (workers.len() == count).then_some(workers)
    })
}

pub(crate) fn start_jobs_and_hang(node: &str) {
    let dispatcher = Dispatcher::builder().local_workers(1).node(node).start().expect("it starts");
    let file = std::env::var("CLUSTER_TEST_FILE").expect("it was told");
    let jobs: Vec<_> = (0..10).map(|_| dispatcher.submit(start_strays_and_hang, (file.clone(),))).collect();
    jobs.into_iter().for_each(|job| drop(job.wait()));
}

pub(crate) fn a_killed_dispatcher_leaves_no_process_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("workers");
    let server = Server::start(1);
    let mut command = command(std::env::current_exe().expect("a path"), home.path());
    command.env(ABANDONING, server.address()).env("CLUSTER_TEST_FILE", &file).env("PP_SECRET", SECRET);
    let mut abandoning = Process::start(&mut command);
    // Each of two wrote its own, and of two that it started.
    let workers = worker_in(&file, 6);
    let neighbour = builder([&server]).start().expect("it starts");
    let waiting = neighbour.submit(nap, (1,));
    abandoning.kill();
    for worker in workers {
        wait_until("a worker to be gone", || !is_alive(worker));
    }
    assert!(waiting.wait().is_ok(), "another dispatcher gets the slot");
    assert_eq!(neighbour.submit(square, (4,)).wait(), Ok(16));
}
