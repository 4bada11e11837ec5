//! Files that `ppctl run` sends to nodes and brings back.

use std::fs;
use std::path::Path;
use std::process::Command;

use pp_tests::process::{self, Process, SECRET, Server};

/// `ppctl run` beside a node, in that node's home directory.
fn run_beside(server: &Server) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    command.args(["run", "--node", &server.address(), "-j1", "--joblog", "log"]);
    command
}

/// Numbers of the jobs that a node ran, by the job log.
fn ran_on_the_node(home: &Path) -> Vec<usize> {
    let log = fs::read_to_string(home.join("log")).expect("it is written");
    let on_node = log.lines().skip(1).filter(|line| !line.contains("\t:\t"));
    on_node.filter_map(|line| line.split('\t').next()?.parse().ok()).collect()
}

#[test]
fn files_go_to_a_node_and_come_back_and_at_home_they_stay_where_they_are() {
    const FILES: usize = 20;
    let server = Server::start(2);
    let home = server.home();
    fs::create_dir(home.join("in")).expect("it can be made");
    for number in 1..=FILES {
        fs::write(home.join(format!("in/{number}.txt")), format!("text {number}"))
            .expect("it can be written");
    }
    let script = "sleep 0.1; tr a-z A-Z < {} > {.}.out; [ $PARALLEL_SSHHOST = : ] || ls in";
    let mut command = run_beside(&server);
    command.args(["-k", "--transferfile", "{}", "--return", "{.}.out", script, ":::"]);
    let mut run = Process::start(command.args((1..=FILES).map(|number| format!("in/{number}.txt"))));
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    for number in 1..=FILES {
        let contents = fs::read_to_string(home.join(format!("in/{number}.out"))).expect("it came back");
        assert_eq!(contents, format!("TEXT {number}"));
    }
    let mut on_node = ran_on_the_node(home);
    on_node.sort_unstable();
    assert!(!on_node.is_empty() && on_node.len() < FILES, "{on_node:?}");
    // Each found its own file there, and no other.
    let seen: Vec<_> =
        on_node.iter().flat_map(|number| [format!("{number}.out"), format!("{number}.txt")]).collect();
    assert_eq!(run.stdout().lines().collect::<Vec<_>>(), seen);
}
