//! Operators who watch nodes.

use std::time::{Duration, Instant};

use pp_dispatcher::{Activity, Dispatcher, Doing, OutcomeKind, WatchError, job};
use pp_tests::process::{SECRET, Server, Signal};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use rustix::process::{Pid, kill_process};

use crate::jobs::{dispatcher, hang, nap};

#[job]
fn fail_oddly() {
    panic!("no \x1b[31mred\nsecond line");
}

fn operator(server: &Server) -> Dispatcher {
    let builder = Dispatcher::builder().observer(true).discover(false).secret(SECRET);
    let operator = builder.node(server.address()).start().expect("it starts");
    wait_until("the node to be connected", || {
        let is_there = |node: &pp_dispatcher::NodeInfo| node.slots > 0;
        operator.nodes().iter().any(is_there)
    });
    operator
}

fn what_runs(frame: &Activity) -> Vec<&str> {
    let running = frame.workers.iter().filter_map(|worker| match worker.doing {
        Doing::Running { function, .. } => Some(frame.function(function)),
        _ => None,
    });
    running.collect()
}

pub(crate) fn an_operator_sees_what_runs_what_failed_and_which_worker_died() {
    let server = Server::start(2);
    let dispatcher = dispatcher([&server]);
    let operator = operator(&server);
    assert_eq!(dispatcher.watch(Duration::ZERO).err(), Some(WatchError::NotOperator));
    let watch = operator.watch(Duration::ZERO).expect("it may");
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("pid");
    let hanging = dispatcher.job(hang, (file.display().to_string(),)).max_attempts(1).submit();
    let pid: i32 =
        wait_within(PATIENCE, "the job to run", || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    let started = Instant::now();
    let frame = watch.by_ref_until(|frame| !what_runs(frame).is_empty());
    assert!(started.elapsed() < Duration::from_secs(1), "seen after {:?}", started.elapsed());
    assert!(what_runs(&frame)[0].ends_with("jobs::hang"), "{:?}", frame.functions);
    assert!(frame.sessions.iter().any(|session| session.name.contains('@') && session.running == 1));
    assert!(frame.uptime_ns > 0 && frame.programs.iter().any(|program| program.digest.is_some()));

    dispatcher.submit(fail_oddly, ()).wait().expect_err("it panics");
    let frame = watch.by_ref_until(|frame| !frame.attempts.is_empty());
    let failed = &frame.attempts[0];
    assert_eq!((failed.ended, &failed.reason[..]), (OutcomeKind::Panicked, "no \\x1b[31mred"));
    assert!(frame.function(failed.function).ends_with("watching::fail_oddly"));

    kill_process(Pid::from_raw(pid).expect("a number"), Signal::KILL).expect("it is there");
    hanging.wait().expect_err("its worker was killed");
    let frame = watch.by_ref_until(|frame| frame.totals.workers_lost == 1);
    assert_eq!(frame.totals.ended.of(OutcomeKind::WorkerDied), 1);

    // However small the interval that was asked for.
    let frames = |time: Duration| {
        let until = Instant::now() + time;
        std::iter::from_fn(|| watch.next_timeout(until.saturating_duration_since(Instant::now()))).count()
    };
    let seen = frames(Duration::from_secs(2));
    assert!((4..=9).contains(&seen), "{seen} frames in two seconds");
}

pub(crate) fn whoever_stops_watching_is_told_nothing_and_a_node_that_comes_back_tells_again() {
    let mut server = Server::start(1);
    let operator = operator(&server);
    let watch = operator.watch(Duration::from_millis(250)).expect("it may");
    let first = watch.next_timeout(PATIENCE).expect("a frame");
    server.restart();
    let after = wait_within(PATIENCE, "a frame of its next life", || {
        watch.next_timeout(PATIENCE).filter(|frame| frame.node != first.node)
    });
    assert!(after.activity.number < 5, "it begins anew");
    let other = operator.watch(Duration::from_millis(250)).expect("it may");
    drop(watch);
    assert!(other.next_timeout(PATIENCE).is_some(), "the other one goes on");
    drop(other);
    let late = operator.watch(Duration::from_secs(3_600)).expect("it may");
    assert!(late.next_timeout(PATIENCE).is_some(), "a frame at once, however long the time to the next");
    // Some may have been on their way.
    let more = (0..10).take_while(|_| late.next_timeout(Duration::from_millis(600)).is_some()).count();
    assert!(more <= 2, "{more} more than were asked for");
    operator.shutdown();
    assert!(late.next_timeout(PATIENCE).is_none(), "it ends with its dispatcher");
}

pub(crate) fn a_node_knows_how_many_jobs_wait_at_its_dispatchers() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let operator = operator(&server);
    let watch = operator.watch(Duration::ZERO).expect("it may");
    let jobs: Vec<_> = (0..500).map(|_| dispatcher.submit(nap, (600_000,))).collect();
    let at_node = wait_within(PATIENCE, "some to be there", || {
        let at_node = dispatcher.nodes().iter().map(|node| node.jobs_at_node).sum::<usize>();
        (at_node > 0).then_some(at_node)
    });
    let waiting = (500 - at_node) as u64;
    watch.by_ref_until(|frame| frame.sessions.iter().any(|session| session.waiting == waiting));
    jobs.iter().for_each(pp_dispatcher::Job::cancel);
    watch.by_ref_until(|frame| frame.sessions.iter().any(|session| session.waiting == 0));
}

trait Until {
    /// The first frame of which this holds.
    fn by_ref_until(&self, is_it: impl Fn(&Activity) -> bool) -> Activity;
}

impl Until for pp_dispatcher::Watch {
    fn by_ref_until(&self, is_it: impl Fn(&Activity) -> bool) -> Activity {
        wait_within(PATIENCE, "a frame", || {
            let frame = self.next_timeout(Duration::from_secs(5))?.activity;
            is_it(&frame).then_some(frame)
        })
    }
}
