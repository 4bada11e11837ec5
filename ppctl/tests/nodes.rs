//! `ppctl run`: where jobs run, how many of them at once, and what becomes of nodes that are named.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use pp_tests::process::{self, Process, SECRET, Server, ServerOptions};
use pp_tests::wait::{wait_until, wait_within};
use tempfile::TempDir;

/// Longest time that hundreds of workers take to start.
const MANY_STARTS: Duration = Duration::from_secs(60);
/// A name that a shell would make something of.
const HOSTILE: &str = "b 'x\" $(touch oops) * ;";

fn server(name: &str, workers: usize) -> Server {
    let mut options = ServerOptions { workers, ..ServerOptions::default() };
    options.arguments.extend(["--name".into(), name.into()]);
    Server::start_with(options)
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// `ppctl run` with these nodes.
fn ppctl(home: &TempDir, nodes: &[&str], arguments: &[&str]) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), home.path());
    command.current_dir(home.path()).env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").arg("run");
    for node in nodes {
        command.args(["--node", node]);
    }
    command.args(arguments);
    command
}

/// Its exit code, and what it printed.
fn run(home: &TempDir, nodes: &[&str], arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = ppctl(home, nodes, arguments).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (status.code(), text(stdout), text(stderr))
}

/// Lines of a job log: host, start and run time, exit code.
fn logged(home: &TempDir) -> Vec<(String, f64, f64, String)> {
    let log = fs::read_to_string(home.path().join("log")).expect("it is written");
    let lines = log.lines().skip(1).map(|line| {
        let parts: Vec<&str> = line.split('\t').collect();
        let seconds = |text: &str| text.trim().parse().expect("a time");
        (parts[1].to_owned(), seconds(parts[2]), seconds(parts[3]), parts[6].to_owned())
    });
    lines.collect()
}

/// Processes that sleep for so long.
fn sleeping(mark: &str) -> usize {
    let wanted = format!("sleep\0{mark}\0");
    let processes = fs::read_dir("/proc").expect("it is Linux").flatten();
    let lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(wanted.as_bytes())).count()
}

#[test]
fn each_node_runs_the_command_once_whatever_it_is_called() {
    let (one, two, home) = (server("alpha", 4), server(HOSTILE, 4), home());
    let nodes = [one.address(), two.address()];
    let nodes = [&nodes[0], &nodes[1]].map(String::as_str);
    let command = ["--each-node", "-k", "--tag", "echo $PARALLEL_SSHHOST, slot $PARALLEL_JOBSLOT"];
    let (code, printed, said) = run(&home, &nodes, &command);
    let expected = [":", "alpha", HOSTILE].map(|name| format!("{name}\t{name}, slot 1\n")).concat();
    assert_eq!((code, printed), (Some(0), expected), "{said}");
    // Nothing made anything of the name.
    for home in [home.path(), one.home(), two.home()] {
        assert!(!home.join("oops").exists());
    }
}

#[test]
fn each_node_runs_every_job_in_order_and_one_at_a_time() {
    let (one, home) = (server("alpha", 4), home());
    let job = "sleep 0.1; echo {} $PARALLEL_JOBSLOT; exit {}";
    let arguments = ["--each-node", "-k", "--joblog", "log", job, ":::", "0", "3", "0"];
    let (code, printed, said) = run(&home, &[&one.address()], &arguments);
    assert_eq!((code, printed.as_str()), (Some(2), "0 1\n0 1\n3 1\n3 1\n0 1\n0 1\n"), "{said}");
    let mut by_host = BTreeMap::<_, Vec<_>>::new();
    for (host, start, time, exit) in logged(&home) {
        by_host.entry(host).or_default().push((start, time, exit));
    }
    assert!(by_host.keys().eq([":", "alpha"]), "{by_host:?}");
    for (host, mut runs) in by_host {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let exits: Vec<_> = runs.iter().map(|(.., exit)| exit.as_str()).collect();
        assert_eq!(exits, ["0", "3", "0"], "{host}");
        let in_turn = runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0 + 0.01);
        assert!(in_turn, "{host}: {runs:?}");
    }
}

#[test]
fn a_node_that_cannot_be_used_fails_what_is_for_each() {
    let (one, home) = (server("alpha", 1), home());
    let nodes = [&one.address(), "127.0.0.1:1"];
    let arguments = ["--each-node", "--joblog", "log", "echo", ":::", "a", "b"];
    let (code, _, said) = run(&home, &nodes, &arguments);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(said.matches("127.0.0.1:1: unreachable").count(), 2, "{said}");
    let failed = logged(&home).into_iter().filter(|(.., exit)| exit != "0").map(|(host, ..)| host);
    assert!(failed.eq(["127.0.0.1:1", "127.0.0.1:1"]));
}

#[test]
fn a_node_that_dies_fails_its_own_runs_and_no_others() {
    let (mut one, home) = (server("alpha", 1), home());
    let mark = format!("61{}", std::process::id());
    let job = format!("echo {{}}; case $PARALLEL_SSHHOST in :) ;; *) sleep {mark};; esac");
    let arguments = ["--each-node", "--joblog", "log", &job, ":::", "a", "b"];
    let mut running = Process::start(&mut ppctl(&home, &[&one.address()], &arguments));
    wait_until("the node to run the first", || sleeping(&mark) == 1);
    one.process().kill();
    let (code, printed, said) = (running.wait().code(), running.stdout(), running.stderr());
    assert_eq!((code, printed.as_str()), (Some(2), "a\nb"), "{said}");
    assert!(said.contains("on alpha: the node was lost while the job may have been running"), "{said}");
    assert!(said.contains("on alpha: the job was for this node only, which is gone"), "{said}");
    let mut hosts: Vec<_> = logged(&home).into_iter().map(|(host, .., exit)| (host, exit)).collect();
    hosts.sort();
    assert_eq!(
        hosts,
        [(":", "0"), (":", "0"), ("alpha", "255"), ("alpha", "255")]
            .map(|(host, exit)| (host.into(), exit.into()))
    );
}

#[test]
fn where_it_stops_early_each_node_gets_no_more_and_nothing_is_lost() {
    let (one, home) = (server("alpha", 1), home());
    let job = "case $PARALLEL_SSHHOST in :) ;; *) sleep 0.5;; esac; echo {}; exit {}";
    let arguments = ["--each-node", "-k", "--halt", "soon,fail=1", job, ":::", "0", "1", "0", "0"];
    let (code, printed, said) = run(&home, &[&one.address()], &arguments);
    // The node is still at the first when this machine has failed the second.
    assert_eq!((code, printed.as_str()), (Some(1), "0\n0\n1\n"), "{said}");
}

#[test]
fn nodes_that_are_left_out_get_no_job() {
    let (one, two, home) = (server("alpha", 2), server("beta", 2), home());
    let nodes = [one.address(), two.address()];
    let hosts = |left_out: &[&str]| {
        let job = ["-j1", "sleep 0.05; echo $PARALLEL_SSHHOST", ":::"];
        let numbers: Vec<_> = (0..12).map(|number| number.to_string()).collect();
        let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
        let arguments = [left_out, &job, &numbers].concat();
        let (code, printed, said) = run(&home, &[&nodes[0], &nodes[1]], &arguments);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let mut hosts: Vec<_> =
            printed.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    };
    assert_eq!(hosts(&[]), [":", "alpha", "beta"]);
    assert_eq!(hosts(&["--not-node", "Alpha"]), [":", "beta"]);
    assert_eq!(hosts(&["--not-node", ":", "--not-node", "b*"]), ["alpha"]);
    assert_eq!(hosts(&["--not-node", &nodes[0], "--not-node", ":"]), ["beta"]);
    assert_eq!(hosts(&["--not-node", "127.0.0.1"]), [":"]);
}

#[test]
fn so_many_jobs_run_at_once_on_each_node_and_slots_are_as_many() {
    let (one, home) = (server("alpha", 4), home());
    let mark = format!("0.3{}", std::process::id());
    let job = format!("sleep {mark}; echo {{%}} $PARALLEL_JOBSLOT");
    let numbers: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    let arguments: Vec<_> =
        ["-j1", "-N1", &job, ":::"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let mut running = Process::start(&mut ppctl(&home, &[&one.address()], &arguments));
    let is_over = AtomicBool::new(false);
    let (most, code) = thread::scope(|scope| {
        let most_seen = scope.spawn(|| {
            let looks = std::iter::from_fn(|| (!is_over.load(Relaxed)).then(|| sleeping(&mark)));
            looks.max().unwrap_or_default()
        });
        let code = running.wait().code();
        is_over.store(true, Relaxed);
        (most_seen.join().expect("it does not panic"), code)
    });
    assert_eq!((code, most), (Some(0), 2), "{}", running.stderr());
    let slots: Vec<_> = running.stdout().lines().map(|line| line[..3].to_owned()).collect();
    assert!(slots.iter().all(|slot| slot == "1 1" || slot == "2 2"), "{slots:?}");
}

#[test]
fn as_many_as_possible_are_as_many_as_there_are() {
    const JOBS: usize = 150;
    let home = home();
    let mark = format!("62{}", std::process::id());
    let job = format!("sleep {mark} #");
    let numbers: Vec<_> = (0..JOBS).map(|number| number.to_string()).collect();
    let arguments: Vec<_> =
        ["-j0", &job, ":::"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let mut running = Process::start(&mut ppctl(&home, &[], &arguments));
    wait_within(MANY_STARTS, "all jobs to run", || (sleeping(&mark) == JOBS).then_some(()));
    running.signal(process::Signal::TERM);
    assert_eq!(running.wait().code(), Some(255));
    wait_until("its jobs to be gone", || sleeping(&mark) == 0);
}

#[test]
fn a_node_to_leave_out_or_a_number_that_makes_no_sense_is_said() {
    let home = home();
    let only = |arguments: &[&str]| run(&home, &[], arguments);
    let (code, _, said) = only(&["--each-node", "--not-node", ":", "true"]);
    assert_eq!(code, Some(255));
    assert!(said.contains("there is no node"), "{said}");
    let (code, _, said) = only(&["--each-node", "--joblog", "log", "--resume", "true"]);
    assert!(code == Some(255) && said.contains("--resume"), "{said}");
    let (code, _, said) = only(&["-j", "many", "true", ":::", "a"]);
    assert!(code == Some(255) && said.contains("no number of jobs"), "{said}");
}
