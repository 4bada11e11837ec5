//! What the daemon knows, and where nobody else may find it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use pp_tests::process::SECRET;

use crate::files::{NOBODY, as_nobody, is_root};
use crate::{Daemon, home, ppserver};

/// A file of the daemon's process, without the bytes between its parts.
fn of_process(daemon: &Daemon, name: &str) -> String {
    let path = format!("/proc/{}/{name}", daemon.process.id());
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn a_secret_that_was_told_at_the_start_is_nowhere_to_be_seen_after_it() {
    if !is_root() {
        return;
    }
    let home = home();
    let started = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = ppserver(home.path(), arguments);
        Daemon::start_as(command.envs(environment.iter().copied()).env("PP_LOG", "trace"))
    };
    for daemon in [
        started(&["-a"], &[("PP_SECRET", SECRET)]),
        started(&["-s", SECRET, "-w", "1"], &[]),
        started(&[&format!("-ds{SECRET}")], &[("PP_SECRET", SECRET)]),
        started(&[&format!("--secret={SECRET}")], &[]),
    ] {
        assert!(daemon.authenticate(SECRET).is_ok());
        let shown = ["environ", "cmdline", "comm", "limits"].map(|name| of_process(&daemon, name));
        assert!(shown.iter().all(|shown| !shown.contains(SECRET)), "{shown:?}");
        assert!(!daemon.process.stderr().contains(SECRET), "{}", daemon.process.stderr());
        let [_, _, name, limits] = shown;
        assert_eq!(name.trim(), "ppserver", "it has its name still");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it is there");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
}

#[test]
fn nobody_of_the_same_user_reads_the_memory_of_a_daemon() {
    if !is_root() {
        return;
    }
    let home = home();
    let daemon = Daemon::start_as(as_nobody(home.path()).env("PP_SECRET", SECRET));
    assert!(daemon.authenticate(SECRET).is_ok());
    for name in ["mem", "environ", "maps", "fd/0", "auxv"] {
        let path = format!("/proc/{}/{name}", daemon.process.id());
        let read = Command::new("head")
            .args(["-c1", &path])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("head is there");
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(!read.status.success() && said.contains("Permission denied"), "{name}: {said}");
    }
}
