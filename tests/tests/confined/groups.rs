//! Limits of all that a worker's jobs start together: by control groups where the node may make them, else as it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pp_dispatcher::job;
use pp_tests::process::{Signal, is_alive};
use pp_tests::wait::wait_until;
use rustix::process::{Pid, geteuid, kill_process};

use crate::bounds::{eat, start_a_daemon, wait_gone};
use crate::node::{Node, Setting, confinement};

/// Processes and threads that each worker's jobs may have.
const PROCESSES: usize = 24;
const SLOTS: usize = 2;

/// The control group of a process, in the second version.
fn group_of(process: i32) -> String {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// Where control groups of the second version are mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("it can be read");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

/// Starts processes until it may start no more, and yields how many these were.
#[job]
fn crowd(most: usize) -> usize {
    let start = || Command::new("/bin/sleep").arg("60").stdout(Stdio::null()).spawn();
    let mut started: Vec<Child> = (0..most).map_while(|_| start().ok()).collect();
    let count = started.len();
    for child in &mut started {
        let _ = child.kill();
        let _ = child.wait();
    }
    count
}

#[job]
fn who_am_i() -> (i32, i32) {
    let warden = rustix::process::getppid().expect("there is one");
    (std::process::id().cast_signed(), warden.as_raw_pid())
}

/// What comes of attempts to get rid of a limit: each that worked.
#[job]
fn escape(groups: PathBuf) -> Vec<String> {
    let mut worked = Vec::new();
    let own = fs::read_to_string("/proc/self/cgroup").expect("it can be read");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let group = groups.join(own);
    for (file, text) in [("pids.max", "max"), ("memory.max", "max"), ("cgroup.freeze", "1")] {
        if fs::write(group.join(file), text).is_ok() {
            worked.push(file.to_owned());
        }
    }
    for place in group.ancestors().skip(1).take_while(|place| place.starts_with(&groups)) {
        if fs::write(place.join("cgroup.procs"), "0").is_ok() {
            worked.push(format!("move to {}", place.display()));
        }
        if fs::create_dir(place.join("mine")).is_ok() {
            worked.push(format!("make a group in {}", place.display()));
        }
    }
    worked
}

/// A node with limits. Root's may be alone in a control group, if there can be one, as a service is.
struct Limited {
    node: Node,
    own: Option<PathBuf>,
}

impl Limited {
    fn start(user: &[&str], is_alone: bool) -> Option<Self> {
        let processes = PROCESSES.to_string();
        let limits = ["--worker-memory", "256", "--worker-processes", &processes];
        let arguments = [&limits, user].concat();
        if !geteuid().is_root() {
            return Some(Self { node: Node::start(SLOTS, &arguments, &[]), own: None });
        }
        let own = mount()?.join(format!("pp-tests-{}", std::process::id()));
        let own = (is_alone && fs::create_dir(&own).is_ok()).then_some(own);
        let enter = |own: &PathBuf| {
            let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", own.display());
            vec!["sh".to_owned(), "-c".to_owned(), script]
        };
        let wrapper = own.as_ref().map(enter).unwrap_or_default();
        let setting = Setting {
            workers: SLOTS,
            arguments: &arguments,
            wrapper: &wrapper,
            is_roots: true,
            ..Setting::default()
        };
        Some(Self { node: Node::start_as(setting), own })
    }

    /// Ends the node, which leaves no group.
    fn end(self) {
        self.node.end();
        if let Some(own) = self.own {
            fs::remove_dir(&own).expect("nothing is left in it");
        }
    }
}

pub(crate) fn a_job_has_as_many_processes_and_as_much_memory_as_the_node_says() {
    let user: &[&str] = if geteuid().is_root() { &["--user", "nobody"] } else { &[] };
    let Some(limited) = Limited::start(user, true) else {
        return println!("skipped: no control groups of version 2");
    };
    let node = &limited.node;
    let dispatcher = node.dispatcher();
    let said = confinement(&dispatcher);
    let started = dispatcher.submit(crowd, (4 * PROCESSES,)).wait().expect("it can count");
    let all = format!("{} processes of nobody", SLOTS * PROCESSES);
    // A worker has some threads of its own.
    let is_kept = |most: usize| started < most && started + 10 > most;
    if said.contains(&format!("{PROCESSES} processes a worker")) {
        assert!(is_kept(PROCESSES), "{started}: {said}");
    } else if said.contains(&all) {
        println!("skipped in part: {said}");
        assert!(started < SLOTS * PROCESSES, "{started}: {said}");
        assert!(node.server.log().contains("--worker-processes limits all"), "{}", node.server.log());
    } else {
        println!("skipped in part: {said}");
        assert!(said.contains("processes not in force"), "{said}");
        assert!(node.server.log().contains("--worker-processes is not in force"), "{}", node.server.log());
    }
    let by_group = said.contains("256 MiB a worker");
    assert!(by_group || said.contains("256 MiB a process"), "{said}");
    assert_eq!(by_group, !node.server.log().contains("--worker-memory limits each process"));
    let heap = dispatcher.job(eat, (512_usize << 20,)).max_attempts(1).submit();
    let error = heap.wait().expect_err("it may have 256 MiB").to_string();
    assert!(error.contains("memory ran out"), "{error}");
    assert_eq!(dispatcher.submit(eat, (64_usize << 20,)).wait(), Ok(64 << 20), "others are not charged");
    drop(dispatcher);
    limited.end();
}

pub(crate) fn without_groups_and_a_user_for_jobs_a_limit_of_processes_is_said_to_be_none() {
    let node = Node::start(1, &["--worker-processes", "24"], &[]);
    let dispatcher = node.dispatcher();
    let said = confinement(&dispatcher);
    if said.contains("24 processes a worker") {
        return println!("skipped: this user may make control groups");
    }
    assert!(said.contains("processes not in force (") && said.contains("control group"), "{said}");
    assert!(node.server.log().contains("Delegate=yes"), "{}", node.server.log());
    assert_eq!(dispatcher.submit(crowd, (32,)).wait(), Ok(32), "it says so");
    drop(dispatcher);
    node.end();
}

pub(crate) fn a_worker_has_a_control_group_that_it_cannot_leave_and_that_goes_with_it() {
    let skipped = || println!("skipped: no control groups of version 2");
    let Some((groups, mut limited)) = mount().zip(Limited::start(&[], true)) else { return skipped() };
    let node = &mut limited.node;
    let dispatcher = node.dispatcher();
    let (worker, warden) = dispatcher.submit(who_am_i, ()).wait().expect("it knows");
    let own = group_of(worker);
    if own == group_of(node.pid()) {
        return println!("skipped: {}", confinement(&dispatcher));
    }
    assert_eq!(group_of(warden), group_of(node.pid()), "what limits a worker does not limit its warden");
    let path = |group: &str| groups.join(group.trim_start_matches('/'));
    assert!(path(&own).is_dir());
    if node.keeps_secrets(&dispatcher) {
        assert_eq!(dispatcher.submit(escape, (groups.clone(),)).wait(), Ok(Vec::new()));
    }
    let (worker, warden) = dispatcher.submit(who_am_i, ()).wait().expect("it knows");
    let own = group_of(worker);
    // Nothing is known of this one but its group, once its warden is gone.
    let stray = dispatcher.submit(start_a_daemon, ()).wait().expect("it can be started");
    assert_eq!(group_of(stray), own);
    kill_process(Pid::from_raw(warden).expect("a number"), Signal::KILL).expect("it is there");
    wait_gone("what its warden left", || !is_alive(stray) && !path(&own).exists());
    drop(dispatcher);
    let its_groups = path(&group_of(node.pid())).parent().expect("it is below one").to_owned();
    let workers = || groups_in(&its_groups);
    wait_gone("groups of workers", || workers() == 1);
    limited.end();
    assert!(!its_groups.exists(), "the daemon leaves none");
}

/// Groups below one.
fn groups_in(group: &Path) -> usize {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

pub(crate) fn groups_of_a_daemon_that_was_killed_are_removed_by_the_next() {
    let skipped = || println!("skipped: no control groups of version 2");
    // No other can be started in a group that has limited ones left in it, until the service manager has removed these.
    let Some((groups, mut limited)) = mount().zip(Limited::start(&[], false)) else { return skipped() };
    let node = &mut limited.node;
    let its_groups = |node: &mut Node| {
        let own = group_of(node.pid());
        own.contains("ppserver-group-").then(|| groups.join(own.trim_start_matches('/')))
    };
    let Some(first) = its_groups(node) else {
        return println!("skipped: {}", confinement(&node.dispatcher()));
    };
    let dispatcher = node.dispatcher();
    dispatcher.submit(who_am_i, ()).wait().expect("it knows");
    node.server.process().kill();
    assert!(first.exists(), "nobody could remove it");
    drop(dispatcher);
    // Wardens are in it until they have done their work.
    wait_until("wardens to end", || {
        fs::read_to_string(first.join("cgroup.procs")).is_ok_and(|list| list.is_empty())
    });
    node.server.restart();
    assert!(!first.exists(), "{}", first.display());
    assert!(its_groups(node).is_some_and(|second| second.exists()));
    limited.end();
}
