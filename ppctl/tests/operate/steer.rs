//! Orders: resized and drained, one node or all that a pattern means.

use pp_tests::process::{Process, Server, Signal};
use pp_tests::wait::wait_until;
use serde_json::json;

use crate::{addresses, home, ppctl, ppctl_at, server};

fn slots(server: &Server) -> u64 {
    ppctl(&[server], &["nodes", "--json"]).json()[0]["slots"].as_u64().expect("a number")
}

#[test]
fn a_pattern_means_every_node_whose_name_fits() {
    let nodes = [server("gpu1", 2), server("GPU2", 2), server("cpu1", 2)];
    let all: Vec<&Server> = nodes.iter().collect();
    let resized = ppctl(&all, &["resize", "gpu*", "5"]);
    resized.said(0, &["gpu1 (", "GPU2 (", "2 -> 5 slots"]);
    assert_eq!(resized.stdout.lines().count(), 2, "{}", resized.stdout);
    assert_eq!([slots(&nodes[0]), slots(&nodes[1]), slots(&nodes[2])], [5, 5, 2]);
    // Names, patterns and addresses side by side; a node that is meant twice is given one order.
    let several = ppctl(&all, &["resize", "cpu1", "?pu1", &nodes[1].address(), "3", "--json"]);
    let line = |name: &str, server: &Server, before: u64| json!({ "node": name, "address": server.address(), "before": before, "slots": 3, "error": null });
    let mut told = several.json().as_array().cloned().unwrap_or_default();
    told.sort_by_key(|line| line["node"].to_string());
    assert_eq!(told, [line("GPU2", &nodes[1], 5), line("cpu1", &nodes[2], 2), line("gpu1", &nodes[0], 5)]);
}

#[test]
fn a_pattern_that_no_name_fits_lists_the_nodes_there_are() {
    let node = server("gpu1", 2);
    for command in [&["resize", "cpu*", "5"][..], &["drain", "gpu1", "cpu*"]] {
        let refused = ppctl(&[&node], command);
        refused.said(1, &["no node's name fits \"cpu*\"; there are: gpu1 (", &node.address()]);
    }
    // None was told anything.
    assert_eq!(slots(&node), 2);
    ppctl(&[], &["drain", "gpu*"])
        .said(1, &["no node's name fits \"gpu*\", and none was found", "ppserver -a"]);
    ppctl(&[], &["drain"]).said(1, &["which node?", "ppctl drain NODE"]);
}

#[test]
fn of_several_nodes_those_that_can_take_the_order_and_the_others_are_named() {
    let (mut frozen, node) = (server("gpu1", 2), server("gpu2", 2));
    frozen.process().kill();
    let [here, there] = [node.address(), frozen.address()];
    let resized = ppctl(&[], &["resize", &there, &here, "4"]);
    resized.said(1, &[&format!("{there}: unreachable: no ppserver listens there"), "2 -> 4 slots"]);
    let told = ppctl(&[], &["resize", &there, &here, "5", "--json"]).json();
    assert!(told[0]["error"].as_str().is_some_and(|error| error.contains("no ppserver listens")), "{told}");
    assert_eq!((&told[1]["slots"], &told[1]["error"]), (&5.into(), &serde_json::Value::Null), "{told}");
}

#[test]
fn a_node_that_drains_finishes_what_runs_takes_no_more_and_ends() {
    let (mut node, other) = (server("render1", 2), server("render2", 1));
    let home = home();
    let job = "touch started{}; until test -e go; do sleep 0.05; done; echo $PARALLEL_SEQ";
    let wd = home.path().to_str().expect("paths here are text");
    let arguments =
        ["run", "--not-node", ":", "--wd", wd, "--json", "-j2", job, ":::", "1", "2", "3", "4", "5"];
    let mut run = ppctl_at(home.path(), &arguments);
    let mut running = Process::start(run.env("PP_NODES", addresses(&[&node, &other])));
    let has_started = || (1..=5).filter(|n| home.path().join(format!("started{n}")).exists()).count();
    wait_until("jobs to run on both", || has_started() == 3);
    let begun = ppctl(&[&node], &["drain", "render1"]);
    begun.said(0, &[&format!("render1 ({}): draining, 2 jobs run", node.address())]);
    let told = ppctl(&[&node], &["drain", "render1", "--json"]).json();
    let expected = json!([{ "node": "render1", "address": node.address(), "state": "draining", "running": 2, "error": null }]);
    assert_eq!(told, expected, "an order that is given twice changes nothing");
    ppctl(&[&node], &["resize", "render1", "7"]).said(1, &["render1 (", "is draining", "start it again"]);
    let mut waiting =
        Process::start(ppctl_at(home.path(), &["drain", &node.address(), "--wait"]).current_dir("/"));
    waiting.wait_for_stdout("draining, 2 jobs run");
    std::fs::write(home.path().join("go"), "").expect("it can be written");
    assert_eq!(waiting.wait().code(), Some(0), "{}", waiting.stderr());
    assert!(waiting.stdout().ends_with("drained, it has ended"), "{}", waiting.stdout());
    assert!(node.process().wait().success());
    assert_eq!(running.wait().code(), Some(0), "{}", running.stderr());
    let nodes: Vec<String> = running
        .stdout()
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["node"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(nodes.iter().filter(|node| *node == "render1").count(), 2, "{nodes:?}");
}

#[test]
fn a_node_that_is_lost_while_it_drains_is_not_said_to_have_finished() {
    for (signal, word) in [(Signal::STOP, "silent"), (Signal::KILL, "no ppserver listens there")] {
        is_not_said_to_have_finished(signal, word);
    }
}

fn is_not_said_to_have_finished(signal: Signal, word: &str) {
    let mut node = server("render1", 1);
    let home = home();
    let started = home.path().join("started");
    let job = format!("touch {}; sleep 30", started.display());
    let arguments = ["run", "--not-node", ":", "--wd", "/", &job, ":::", "1"];
    let _running = Process::start(ppctl_at(home.path(), &arguments).env("PP_NODES", node.address()));
    wait_until("the job to run", || started.exists());
    let mut waiting = Process::start(&mut ppctl_at(home.path(), &["drain", &node.address(), "--wait"]));
    waiting.wait_for_stdout("draining, 1 job runs");
    node.process().signal(signal);
    assert_eq!(waiting.wait().code(), Some(1), "{}", waiting.stdout());
    let said = waiting.stderr();
    assert!(said.contains("nobody knows what it had finished") && said.contains(word), "{said}");
}

#[test]
fn whoever_runs_jobs_for_a_node_without_slots_is_told_what_they_wait_for() {
    let node = server("render1", 1);
    let home = home();
    let job = format!("echo $PARALLEL_SSHHOST; touch {}/started{{}}; sleep 0.5", home.path().display());
    let arguments = ["run", "--each-node", "--not-node", ":", &job, ":::", "1", "2"];
    let mut running = Process::start(ppctl_at(home.path(), &arguments).env("PP_NODES", node.address()));
    wait_until("the first job to run", || home.path().join("started1").exists());
    ppctl(&[&node], &["resize", "render1", "0"]).said(0, &["1 -> 0 slots"]);
    let told = running.wait_for_stderr("no node can run it");
    let why = format!(
        "ppctl: a job waits and no node can run it: it is for one node only, render1 ({}): it has no slots: give it some with `ppctl resize`",
        node.address()
    );
    assert_eq!(told, why);
    ppctl(&[&node], &["resize", "render1", "1"]).said(0, &["0 -> 1 slots"]);
    assert_eq!(running.wait().code(), Some(0), "{}", running.stderr());
    assert_eq!(running.stdout(), "render1\nrender1");
}
