//! Jobs on nodes: shared out, resized, printed from, ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pp_dispatcher::{ClusterEvent, Death, Dispatcher, FailureCause, JobError};
use pp_tests::process::{Process, SECRET, Server, ServerOptions, binary, command, is_alive};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};

use crate::jobs::{abort, builder, dispatcher, greet, hang, meet, nap, node, slow_square, square};

pub(crate) fn every_job_runs_on_the_node_that_was_named() {
    let mut server = Server::start(2);
    let dispatcher = dispatcher([&server]);
    let jobs: Vec<_> = (0..5_000).map(|n| dispatcher.submit(square, (n,))).collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    let table = dispatcher.stats().to_string();
    let line = table.lines().find(|line| line.contains(&server.address())).expect("the node is in the table");
    assert!(line.contains("      5000 |        100.00 |"), "{table}");
    for said in ["connected", "program stored"] {
        server.process().wait_for_stderr(said);
    }
}

pub(crate) fn local_cores_and_two_nodes_share_the_jobs() {
    const SLOTS: usize = 4;
    const MEETINGS: usize = 10;
    // Workers reach what was there when they were started.
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().display().to_string();
    let servers = [Server::start(2), Server::start(1)];
    let dispatcher = builder(&servers).local_workers(1).start().expect("it starts");
    // Jobs that wait for each other: they end only if every slot runs one at the same time, however long it takes until it
    // is ready for that. Jobs that end by themselves might all have ended by then.
    for meeting in 0..MEETINGS {
        let all = meeting * SLOTS..(meeting + 1) * SLOTS;
        let submit = |n| dispatcher.submit(meet, (directory.clone(), n, all.end));
        let jobs: Vec<_> = all.clone().map(submit).collect();
        let workers: BTreeSet<_> = jobs.into_iter().map(|job| job.wait().expect("all come")).collect();
        assert_eq!(workers.len(), SLOTS, "as many workers as there are slots");
    }
    let mut ended: Vec<_> = dispatcher.stats().nodes.iter().map(|node| node.jobs_ended).collect();
    ended.sort_unstable();
    assert_eq!(ended, [MEETINGS, MEETINGS, 2 * MEETINGS].map(|jobs| jobs as u64), "each does its part");
}

pub(crate) fn two_dispatchers_share_a_node_slot_by_slot() {
    let server = Server::start(2);
    let greedy = dispatcher([&server]);
    let modest = dispatcher([&server]);
    let many: Vec<_> = (0..300).map(|_| greedy.submit(nap, (20,))).collect();
    wait_until("the first to keep the node busy", || greedy.nodes().iter().any(|node| node.busy == 2));
    let few: Vec<_> = (0..20).map(|_| modest.submit(nap, (20,))).collect();
    assert!(few.into_iter().all(|job| job.wait().is_ok()));
    let waiting = many.iter().filter(|job| !job.has_ended()).count();
    assert!(waiting > 150, "the second did not wait for the first, of whose jobs only {waiting} were left");
    assert!(many.into_iter().all(|job| job.wait().is_ok()));
}

fn ppctl(server: &Server, arguments: &[&str]) -> String {
    let mut command = command(binary("ppctl"), server.home());
    let mut process =
        Process::start(command.args(arguments).env("PP_SECRET", SECRET).env("PP_DISCOVER", "0"));
    let status = process.wait();
    assert!(status.success(), "ppctl {arguments:?}: {}", process.stderr());
    process.stdout()
}

fn busy_becomes(dispatcher: &Dispatcher, server: &Server, slots: usize) {
    wait_until("the node to run as many jobs as it has slots", || {
        node(dispatcher, server).is_some_and(|node| node.slots == slots && node.busy == slots)
    });
}

pub(crate) fn ppctl_resizes_a_node_during_a_run_without_losing_a_job() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let jobs: Vec<_> = (0..400).map(|n| dispatcher.submit(slow_square, (n, 20))).collect();
    busy_becomes(&dispatcher, &server, 1);
    let address = server.address();
    let said = ppctl(&server, &["resize", &address, "4"]);
    assert!(said.contains("1 -> 4"), "{said}");
    busy_becomes(&dispatcher, &server, 4);
    ppctl(&server, &["resize", &address, "0"]);
    busy_becomes(&dispatcher, &server, 0);
    let ended = dispatcher.stats().nodes.iter().map(|node| node.jobs_ended).sum::<u64>();
    assert!(!dispatcher.wait_timeout(Duration::from_millis(100)));
    assert_eq!(
        dispatcher.stats().nodes.iter().map(|node| node.jobs_ended).sum::<u64>(),
        ended,
        "nothing runs"
    );
    ppctl(&server, &["resize", &address, "8"]);
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
}

pub(crate) fn a_dispatcher_resizes_a_node_down_to_none_and_back() {
    let server = Server::start(2);
    let dispatcher = dispatcher([&server]);
    // A node says once a second how busy it is: so many last until it has said so each time.
    let jobs: Vec<_> = (0..1_200).map(|n| dispatcher.submit(slow_square, (n, 20))).collect();
    for slots in [4, 1, 0, 8] {
        dispatcher.resize(&server.address(), slots).expect("the node is connected");
        busy_becomes(&dispatcher, &server, slots);
    }
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
}

pub(crate) fn with_restart_every_job_has_a_worker_of_its_own() {
    let mut options = ServerOptions { workers: 1, ..ServerOptions::default() };
    options.arguments.push("--restart".into());
    let server = Server::start_with(options);
    let dispatcher = dispatcher([&server]);
    let jobs: Vec<_> = (0..10).map(|_| dispatcher.submit(nap, (1,))).collect();
    let workers: BTreeSet<_> = jobs.into_iter().map(|job| job.wait().expect("it naps")).collect();
    assert_eq!(workers.len(), 10, "what one leaks, the next does not have");
}

pub(crate) fn what_a_job_prints_on_a_node_arrives_with_its_name() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let events = dispatcher.events();
    dispatcher.submit(greet, ("world".into(),)).wait().expect("it prints");
    let name = node(&dispatcher, &server).expect("it is known").name;
    wait_within(PATIENCE, "the line", || match events.try_next() {
        Some(ClusterEvent::Printed { node, job, line, .. }) if line == "hello world" => {
            assert!(node == name && job.is_some());
            Some(())
        }
        _ => None,
    });
}

pub(crate) fn a_job_on_a_node_is_cancelled_or_killed_at_its_limit() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let home = tempfile::tempdir().expect("a directory");
    for limit in [None, Some(Duration::from_millis(300))] {
        let file = home.path().join(format!("{limit:?}"));
        let job = dispatcher.job(hang, (file.display().to_string(),));
        let job = if let Some(limit) = limit { job.timeout(limit).submit() } else { job.submit() };
        let pid: i32 = wait_within(PATIENCE, "the job to run", || {
            std::fs::read_to_string(&file).ok()?.trim().parse().ok()
        });
        let started = Instant::now();
        match limit {
            None => {
                job.cancel();
                assert_eq!(job.wait(), Err(JobError::Cancelled));
            }
            Some(limit) => assert_eq!(job.wait(), Err(JobError::TimedOut(limit))),
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        wait_until("its worker to be gone", || !is_alive(pid));
        assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9), "the slot is free again");
    }
}

pub(crate) fn many_jobs_cancelled_one_after_the_other_freeze_nobody() {
    let server = Server::start(2);
    let (dispatcher, neighbour) = (dispatcher([&server]), dispatcher([&server]));
    let seen = neighbour.events();
    let at_node = || node(&dispatcher, &server).map_or(0, |node| node.jobs_at_node);
    let cancel_many = || {
        // The shortest jobs of the same function make the window large.
        let tiny: Vec<_> = (0..50_000).map(|_| dispatcher.submit(nap, (0,))).collect();
        assert!(tiny.into_iter().all(|job| job.wait().is_ok()));
        let pending: Vec<_> = (0..200_000).map(|_| dispatcher.submit(nap, (60_000,))).collect();
        // As many as the window holds; they arrive by the thousand.
        let mut sent = 0;
        wait_until("no more jobs to be sent ahead", || {
            std::thread::sleep(Duration::from_millis(50));
            std::mem::replace(&mut sent, at_node()) == at_node() && sent > 0
        });
        pending.iter().for_each(|job| job.cancel());
        assert!(pending.into_iter().all(|job| job.wait() == Err(JobError::Cancelled)));
        wait_until("the node to have given up all of them", || at_node() == 0);
        sent
    };
    // The last tiny one may have been held up, which leaves the window small.
    assert!((0..10).any(|_| cancel_many() > 3_000), "the window stays small");
    assert_eq!(neighbour.submit(square, (3,)).wait(), Ok(9));
    neighbour.shutdown();
    let trouble: Vec<_> = seen.filter(|event| !matches!(event, ClusterEvent::NodeConnected { .. })).collect();
    assert!(trouble.is_empty(), "{trouble:?}");
}

pub(crate) fn long_jobs_are_not_hoarded_after_short_ones() {
    let server = Server::start(2);
    let dispatcher = dispatcher([&server]);
    let tiny: Vec<_> = (0..50_000).map(|n| dispatcher.submit(square, (n,))).collect();
    assert!(tiny.into_iter().all(|job| job.wait().is_ok()));
    let long: Vec<_> = (0..1_000).map(|_| dispatcher.submit(nap, (60_000,))).collect();
    wait_until("the node to run two of them", || {
        node(&dispatcher, &server).is_some_and(|node| node.busy == 2)
    });
    let at_node = node(&dispatcher, &server).map(|node| node.jobs_at_node);
    assert_eq!(at_node, Some(2), "nobody knows how long they run");
    long.iter().for_each(|job| job.cancel());
}

pub(crate) fn a_lost_worker_on_a_node_is_told_with_its_last_words() {
    let server = Server::start(2);
    let dispatcher = dispatcher([&server]);
    let others: Vec<_> = (0..999).map(|n| dispatcher.submit(square, (n,))).collect();
    let error = dispatcher.submit(abort, ()).wait().expect_err("it kills its worker");
    let JobError::Lost(history) = &error else { panic!("{error}") };
    assert_eq!(history.iter().map(|failure| failure.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    for failure in history {
        let FailureCause::WorkerDied(death) = &failure.cause else { panic!("{failure}") };
        assert_eq!(death.death, Death::Signal(6), "a program can tell SIGABRT from others: {failure}");
    }
    let text = error.to_string();
    assert!(text.contains("SIGABRT") && text.contains("I cannot go on"), "{text}");
    for (n, job) in (0..).zip(others) {
        assert_eq!(job.wait(), Ok(n * n));
    }
}
