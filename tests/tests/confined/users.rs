//! A daemon that root has started, with a user for its jobs and without one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use pp_dispatcher::{built_in, job};
use pp_tests::process::is_alive;
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{NOBODY, Node, confinement};

/// What a job of another user than its daemon's is, has, and gets at.
#[job]
fn look_around(node: PathBuf, daemon: i32) -> Vec<(String, String)> {
    let status = fs::read_to_string("/proc/self/status").expect("it can be read");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is listed");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let here = fs::metadata(".").expect("it is there");
    let kind = |result: io::Result<()>| {
        result.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".into())
    };
    let warden = rustix::process::getppid().expect("there is one");
    let signal = |process| kind(kill_process(process, Signal::KILL).map_err(Into::into));
    let run = Command::new("/usr/bin/true").status();
    let seen = [
        ("users", line("Uid:")),
        ("groups", line("Gid:")),
        ("further groups", line("Groups:")),
        ("capabilities", line("CapPrm:") + &line("CapInh:") + &line("CapBnd:")),
        ("scratch", format!("{} {:o}", here.uid(), here.mode() & 0o777)),
        ("write here", kind(fs::write("file", "data"))),
        ("USER", std::env::var("USER").unwrap_or_default()),
        ("read the secret", kind(fs::read(node.join("secret")).map(drop))),
        ("list the store", kind(fs::read_dir(node.join("store")).map(drop))),
        ("memory of the daemon", kind(fs::File::open(format!("/proc/{daemon}/mem")).map(drop))),
        ("kill the daemon", signal(Pid::from_raw(daemon).expect("a number"))),
        ("kill its warden", signal(warden)),
        ("become root", kind(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).map_err(Into::into))),
        ("run a program", kind(run.map(|run| assert!(run.success())))),
    ];
    seen.map(|(what, how)| (what.to_owned(), how)).into()
}

pub(crate) fn jobs_of_a_daemon_of_root_run_as_the_user_it_was_told() {
    // With Landlock, and by the permissions of files alone.
    for level in ["secrets", "none", "strict"] {
        let Some(mut node) = Node::start_by_root(2, &["--user", "nobody", "--confine", level]) else {
            return;
        };
        let (dispatcher, pid) = (node.dispatcher(), node.pid());
        let said = confinement(&dispatcher);
        assert!(said.contains("user nobody"), "{said}");
        assert!(!node.server.log().contains("jobs run as root"), "{}", node.server.log());
        let group = fs::read_to_string("/etc/passwd").expect("it can be read");
        let group = group.lines().find_map(|line| line.strip_prefix("nobody:")).expect("there is one");
        let group = group.split(':').nth(2).expect("it has a group");
        let four = |number: &str| [number; 4].join(" ");
        let seen = dispatcher.submit(look_around, (node.path(""), pid)).wait().expect("it can look");
        let denied = || "PermissionDenied".to_owned();
        let wanted = [
            ("users", four(&NOBODY.to_string())),
            ("groups", four(group)),
            ("further groups", String::new()),
            ("capabilities", "0".repeat(3 * 16)),
            ("scratch", format!("{NOBODY} 700")),
            ("write here", "done".into()),
            ("USER", "nobody".into()),
            ("read the secret", denied()),
            ("list the store", denied()),
            ("memory of the daemon", denied()),
            ("kill the daemon", denied()),
            ("kill its warden", denied()),
            ("become root", denied()),
            ("run a program", "done".into()),
        ];
        let wanted = wanted.map(|(what, how)| (what.to_owned(), how));
        assert_eq!(seen, wanted, "at {level}");
        let echo = dispatcher.submit(built_in::echo, (vec![7; 3],)).wait();
        assert_eq!(echo, Ok(vec![7; 3]), "the node's own program runs, too");
        assert!(is_alive(pid));
    }
}

pub(crate) fn root_is_warned_that_jobs_run_as_root() {
    let Some(node) = Node::start_by_root(1, &[]) else { return };
    let dispatcher = node.dispatcher();
    assert!(node.server.log().contains("jobs run as root"), "{}", node.server.log());
    assert!(!confinement(&dispatcher).contains("user"));
}
