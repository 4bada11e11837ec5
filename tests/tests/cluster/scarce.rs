//! Too few descriptors, processes, bytes of a file: what can run does, and the rest is said.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, NodeInfo, NodeState};
use pp_tests::process::{Process, Server, ServerOptions, binary, command};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use rustix::process::Signal;

use crate::jobs::{builder, descriptor_limit, dispatcher, nap, node, only_node, square};

/// Makes this program one that runs jobs on so many local workers and says how that went.
pub(crate) const LOCAL_WORKERS: &str = "CLUSTER_TEST_LOCAL_WORKERS";

/// A server whose program is started with these limits.
fn limited(limits: &[&str], workers: usize) -> Server {
    let wrapper = ["prlimit"].iter().chain(limits).map(ToString::to_string).collect();
    Server::start_with(ServerOptions { wrapper, workers, ..ServerOptions::default() })
}

/// Runs this program on so many local workers with these limits, and yields what it says and what it logs.
fn run_limited(limits: &[&str], workers: usize) -> Process {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = command("prlimit", home.path());
    command.args(limits).arg(std::env::current_exe().expect("a path"));
    let mut program = Process::start(command.env(LOCAL_WORKERS, workers.to_string()));
    program.wait();
    program
}

pub(crate) fn run_on_local_workers(workers: &str) {
    let workers = workers.parse().expect("it is a number");
    let dispatcher = match Dispatcher::builder().local_workers(workers).discover(false).start() {
        Ok(dispatcher) => dispatcher,
        Err(error) => return println!("it does not start: {error}"),
    };
    let used = naps(&dispatcher, 5 * workers);
    match used {
        Ok(used) => println!("{used} workers; {}", dispatcher.nodes()[0]),
        Err(error) => println!("failed: {error}"),
    }
}

/// On how many workers so many jobs of 50 ms run.
fn naps(dispatcher: &Dispatcher, jobs: usize) -> Result<usize, pp_dispatcher::JobError> {
    let jobs: Vec<_> = (0..jobs).map(|_| dispatcher.submit(nap, (50,))).collect();
    let workers: Result<BTreeSet<u32>, _> = jobs.into_iter().map(|job| job.wait()).collect();
    Ok(workers?.len())
}

/// Waits until the node says that it has fewer slots than it was to have.
fn short(dispatcher: &Dispatcher, server: &Server, remedy: &str) -> NodeInfo {
    wait_within(PATIENCE, "the node to say what is short", || {
        let node = node(dispatcher, server)?;
        let reason = node.reason.as_ref()?.to_string();
        assert!(reason.contains("slots") && reason.contains(remedy), "{reason}");
        Some(node)
    })
}

fn warnings(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count()
}

pub(crate) fn where_descriptors_are_few_those_workers_that_start_do_all_the_work() {
    const WORKERS: usize = 60;
    let server = limited(&["--nofile=160:160"], WORKERS);
    let dispatcher = dispatcher([&server]);
    // As soon as it is known how many there is room for.
    naps(&dispatcher, WORKERS).expect("every job ends well");
    let node = short(&dispatcher, &server, "ulimit -Hn");
    assert!((10..WORKERS).contains(&node.slots), "{} slots", node.slots);
    let started = Instant::now();
    let used = naps(&dispatcher, 10 * node.slots).expect("every job ends well");
    let took = started.elapsed();
    assert!((node.slots..WORKERS).contains(&used), "{used} workers in {} slots", node.slots);
    assert!(took < 5 * 10 * Duration::from_millis(50), "they went on: {took:?}");
    assert!(warnings(&server.log()) <= 4, "{}", server.log());
    // It still answers others: some descriptors are kept for them.
    let home = tempfile::tempdir().expect("a directory");
    let mut operator = command(binary("ppctl"), home.path());
    operator.args(["nodes", "--time", "0", "--node", &server.address()]);
    let mut operator =
        Process::start(operator.env("PP_DISCOVER", "0").env("PP_SECRET", pp_tests::process::SECRET));
    operator.wait();
    assert!(
        operator.stdout().contains("slots: 160 descriptors"),
        "{}{}",
        operator.stdout(),
        operator.stderr()
    );
}

pub(crate) fn a_dispatcher_with_few_descriptors_uses_those_local_workers_that_start() {
    let program = run_limited(&["--nofile=160:160"], 60);
    let (said, log) = (program.stdout(), program.stderr());
    assert!(said.contains("workers; local") && said.contains("of 60 slots"), "{said}{log}");
    assert!(log.lines().count() <= 4, "{log}");
}

pub(crate) fn a_dispatcher_with_next_to_no_descriptors_says_which_limit_and_what_to_do() {
    for limit in [4, 6, 8, 10, 16] {
        let program = run_limited(&[&format!("--nofile={limit}")], 1);
        let (said, log) = (program.stdout(), program.stderr());
        let expected = format!("this process may have {limit} descriptors");
        assert!(said.starts_with("it does not start"), "{limit}: {said}{log}");
        assert!(said.contains(&expected) && said.contains("ulimit -n"), "{limit}: {said}{log}");
    }
}

pub(crate) fn the_descriptor_limit_is_raised_for_the_node_and_not_for_its_jobs() {
    let server = limited(&["--nofile=64:4096"], 24);
    let dispatcher = dispatcher([&server]);
    wait_until("all workers to be used", || naps(&dispatcher, 100).expect("every job ends well") == 24);
    assert_eq!(node(&dispatcher, &server).and_then(|node| node.reason), None);
    assert_eq!(dispatcher.submit(descriptor_limit, ()).wait(), Ok(64));
}

/// A user that nobody is.
const NOBODY: u32 = 61_234;
const NOBODY_ELSE: u32 = 61_235;

pub(crate) fn where_processes_are_few_those_workers_that_start_do_all_the_work() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("skipped: this needs a user of its own (needs root)");
    }
    let store = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(store.path(), Some(NOBODY), None).expect("root may do that");
    let user = NOBODY.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--clear-groups", "prlimit", "--nproc=40:40"];
    let server = Server::start_with(ServerOptions {
        wrapper: wrapper.iter().map(ToString::to_string).collect(),
        workers: 60,
        environment: vec![("PP_STORE".into(), store.path().display().to_string())],
        ..ServerOptions::default()
    });
    let dispatcher = dispatcher([&server]);
    naps(&dispatcher, 120).expect("every job ends well");
    let node = short(&dispatcher, &server, "ulimit -u");
    assert!((2..30).contains(&node.slots), "{} slots", node.slots);
    naps(&dispatcher, 60).expect("every job ends well");
    assert!(warnings(&server.log()) <= 6, "{}", server.log());
}

pub(crate) fn a_node_that_may_have_no_more_threads_says_so_and_lives_on() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("skipped: this needs a user of its own (needs root)");
    }
    let store = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(store.path(), Some(NOBODY_ELSE), None).expect("root may do that");
    let user = NOBODY_ELSE.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--clear-groups", "prlimit", "--nproc=1:1"];
    let mut server = Server::start_with(ServerOptions {
        wrapper: wrapper.iter().map(ToString::to_string).collect(),
        environment: vec![("PP_STORE".into(), store.path().display().to_string())],
        ..ServerOptions::default()
    });
    let dispatcher = builder([&server]).local_workers(1).start().expect("it starts");
    assert_eq!(dispatcher.submit(square, (8,)).wait(), Ok(64), "the other cores do the work");
    wait_within(PATIENCE, "the node to say what is short", || {
        only_node(&dispatcher).reason.filter(|reason| reason.to_string().contains("ulimit -u"))
    });
    server.process().signal(Signal::TERM);
    assert!(server.process().wait().success() && !server.log().contains("panicked"), "{}", server.log());
}

pub(crate) fn a_node_that_may_write_no_large_files_says_so_and_lives_on() {
    let server = limited(&["--fsize=65536"], 1);
    let dispatcher = builder([&server]).local_workers(1).start().expect("it starts");
    assert_eq!(dispatcher.submit(square, (8,)).wait(), Ok(64), "the other cores do the work");
    wait_within(PATIENCE, "the node to say what is in the way", || {
        let node = only_node(&dispatcher);
        let reason = node.reason.filter(|_| node.state == NodeState::Preparing)?.to_string();
        assert!(reason.contains("ulimit -f"), "{reason}");
        Some(())
    });
}

pub(crate) fn where_not_even_a_page_may_be_written_jobs_say_so() {
    let program = run_limited(&["--fsize=1024"], 2);
    let (said, log) = (program.stdout(), program.stderr());
    assert!(said.starts_with("failed:") && said.contains("ulimit -f"), "{said}{log}");
}

pub(crate) fn processor_time_that_is_used_up_is_told_before_the_end() {
    let mut server = Server::start(1);
    // As the system does once the limit is reached, and then each second.
    (0..2).for_each(|_| server.process().signal(Signal::XCPU));
    server.process().wait_for_stderr("ulimit -t");
    assert!(server.process().wait().success(), "it ends in good order: {}", server.log());
}
