//! Why a node is not used, and why a job has not ended: real nodes that are in each state, and the words. What takes a network
//! or another release is in `src/explain/tests.rs`.

use std::path::Path;

use pp_protocol::handshake;
use pp_protocol::machine::MachineKey;
use pp_protocol::secret::Secret;
use pp_protocol::{Version, VersionRange};
use pp_tests::process::{OTHER_SECRET, Process, SECRET, Server, ServerOptions, Signal};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use serde_json::Value;

use crate::{Ended, addresses, home, ppctl, ppctl_at, server};

/// A long job on a node, and whoever submitted it.
fn run_on(home: &Path, node: &Server, jobs: &[&str]) -> Process {
    let job = format!("touch {}/started{{}}; sleep 60", home.display());
    let arguments = [&["run", "--each-node", "-j8", "--not-node", ":", &job, ":::"], jobs].concat();
    Process::start(ppctl_at(home, &arguments).env("PP_NODES", node.address()))
}

fn has_started(home: &Path, job: &str) -> bool {
    home.join(format!("started{job}")).exists()
}

#[test]
fn a_node_that_is_used_says_how_many_slots_are_free() {
    let (node, home) = (server("render1", 2), home());
    let address = node.address();
    let explained = ppctl(&[&node], &["explain", "render1"]);
    explained.said(0, &[&format!("render1 ({address}) is used: all its 2 slots are free.")]);
    let _first = run_on(home.path(), &node, &["1"]);
    wait_until("the job to run", || has_started(home.path(), "1"));
    ppctl(&[&node], &["explain", "render1"])
        .said(0, &[&format!("render1 ({address}) is used: 1 of its 2 slots is free.")]);
    let _second = run_on(home.path(), &node, &["2", "3"]);
    wait_until("all slots to be taken", || has_started(home.path(), "2") || has_started(home.path(), "3"));
    let full = "is used: all its 2 slots are taken by jobs of 2 dispatchers";
    let explained = ppctl(&[&node], &["explain", "render1"]);
    explained.said(0, &[full, "`ppctl resize render1 3` gives it more slots."]);
    let all = ppctl(&[&node], &["explain"]);
    all.said(0, &[full, "\n\n1 node: 1 used, 0 of 2 slots free; 0 not used"]);
}

#[test]
fn a_node_without_slots_or_that_drains_says_so() {
    let (node, home) = (server("render1", 1), home());
    ppctl(&[&node], &["resize", "render1", "0"]).said(0, &[]);
    let none = "is not used: it has no slots, and so runs no job. Give it some: `ppctl resize render1 4`.";
    ppctl(&[&node], &["explain", "render1"]).said(1, &[none]);
    ppctl(&[&node], &["resize", "render1", "1"]).said(0, &[]);
    let _running = run_on(home.path(), &node, &["1"]);
    wait_until("the job to run", || has_started(home.path(), "1"));
    ppctl(&[&node], &["drain", "render1"]).said(0, &[]);
    let drains = "is not used: it is draining: it finishes what runs, takes no more, and then ends; 1 job runs. Start it again, once \
                  it has ended, to use it.";
    ppctl(&[&node], &["explain", "render1"]).said(1, &[drains]);
}

#[test]
fn a_node_that_is_not_there_says_what_was_tried() {
    let node = server("render1", 1);
    let missing = ppctl(&[&node], &["explain", "render2", "gpu*"]);
    missing.said(
        1,
        &[
            "No node is called \"render2\"; there are: render1 (",
            "No node's name fits \"gpu*\"; there are: render1 (",
            "The network was not searched (PP_DISCOVER=0): name it with `--node HOST`, or in PP_NODES.",
        ],
    );
    ppctl(&[], &["explain"]).said(1, &["There is no node, and none was found: start `ppserver -a`"]);
    ppctl(&[], &["explain", "127.0.0.1:1"]).said(1, &[
        "127.0.0.1:1 is not used: it cannot be reached: no ppserver listens there (127.0.0.1:1). Start `ppserver -a` there, or \
         say its port: HOST:PORT.",
    ]);
    ppctl(&[], &["explain", "dns:no-such-name.invalid"]).said(1, &[
        "dns:no-such-name.invalid:60000 is not used: it cannot be reached: cannot look up the name no-such-name.invalid",
        "check how it is written",
    ]);
}

#[test]
fn a_node_that_refuses_says_why() {
    let node = server("render1", 1);
    let (address, home) = (node.address(), home());
    let with = |secret: Option<&str>| {
        let mut command = ppctl_at(home.path(), &["explain", &address]);
        match secret {
            Some(secret) => command.env("PP_SECRET", secret),
            None => command.env_remove("PP_SECRET"),
        };
        Ended::of(&mut command)
    };
    with(Some(OTHER_SECRET))
        .said(1, &[&format!("{address} is not used: the secrets differ; give both machines the same one")]);
    with(None).said(1, &[&format!("{address} is not used: there is no secret here: copy the node's")]);
}

#[test]
fn what_is_no_ppserver_or_of_another_release_is_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        listener
            .incoming()
            .flatten()
            .for_each(|mut stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n")));
    });
    let (newer, at) = listen_speaking(VersionRange { oldest: Version(9), newest: Version(9) });
    let explained = ppctl(&[], &["explain", &other, &at]);
    explained.said(1, &[
        &format!("{other} is not used: what listens there is not a ppserver; check host and port ({other})."),
        &format!("{at} is not used: it speaks protocol version 9, this side speaks 1; install the same release on both machines"),
    ]);
    drop(newer);
}

/// A node of a release that speaks other versions, for as long as the thread is kept.
fn listen_speaking(versions: VersionRange) -> (std::thread::JoinHandle<()>, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address").to_string();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for stream in listener.incoming().flatten() {
            stream.set_nonblocking(true).expect("a socket");
            runtime.block_on(async {
                let mut stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
                let secrets = [Secret::parse(SECRET).expect("it is a secret")];
                let _ = handshake::respond_speaking(&mut stream, &secrets, versions).await;
            });
        }
    });
    (thread, at)
}

#[test]
fn a_machine_that_is_not_let_in_is_told_the_line_to_add_and_one_that_may_not_steer_that() {
    let home = home();
    let key = |name: &str| {
        let path = home.path().join(name);
        let (key, _) = MachineKey::read_or_create(&path).expect("a key can be made");
        (path.to_str().expect("paths here are text").to_owned(), key.public().to_string())
    };
    let ((own, line), (node_key, _)) = (key("ada"), key("node"));
    let list = home.path().join("authorized_keys");
    let list = list.to_str().expect("paths here are text");
    let explained = |listed: &str| {
        std::fs::write(list, listed).expect("it can be written");
        let arguments =
            ["-i", "127.0.0.1", "--name", "render1", "--authorized-keys", list, "--machine-key", &node_key];
        let arguments = arguments.map(Into::into).into();
        let node = Server::start_with(ServerOptions { arguments, ..ServerOptions::default() });
        let mut command = ppctl_at(home.path(), &["explain", &node.address()]);
        Ended::of(command.env("PP_MACHINE_KEY", &own))
    };
    explained("# nobody\n").said(1, &[
        &format!("is not used: the node does not list the key of this machine, {line}; add the line that `ppctl key show` prints"),
    ]);
    explained(&format!("{line} ada\n")).said(0, &[
        "render1 (",
        "is used: all its 2 slots are free. It takes no orders from this machine: the node lists the key of this machine",
        "but not as an operator",
    ]);
    explained(&format!("operate,no-submit {line} ada\n"))
        .said(1, &["is not used: the node lists the key", "but not as a dispatcher"]);
}

#[test]
fn a_node_that_is_frozen_says_what_is_waited_for() {
    let mut node = server("render1", 1);
    node.process().signal(Signal::STOP);
    ppctl(&[&node], &["explain"]).said(
        1,
        &[
            &format!(
                "{} is not used: it has taken the connection and says nothing yet: is it frozen",
                node.address()
            ),
            "is it a ppserver? Ask again in a few seconds.",
        ],
    );
}

#[test]
fn as_json_each_reason_has_a_word() {
    let node = server("render1", 2);
    let told = ppctl(&[&node], &["explain", "render1", "127.0.0.1:1", "gpu1", "--json"]).json();
    let words: Vec<_> = told["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            (
                node["node"].as_str().unwrap_or_default(),
                node["used"] == true,
                node["reason"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        words,
        [("127.0.0.1:1", false, "unreachable"), ("render1", true, "used"), ("gpu1", false, "not_found")]
    );
    let first = &told["nodes"][0];
    assert_eq!(first["next"], "Start `ppserver -a` there, or say its port: HOST:PORT");
    assert_eq!((&told["jobs"], &first["takes_no_orders"]), (&Value::Array(Vec::new()), &Value::Null));
}

#[test]
fn a_job_of_any_program_says_where_it_is_or_what_it_waits_for() {
    let (node, home) = (server("render1", 1), home());
    let running = run_on(home.path(), &node, &["1"]);
    wait_until("the job to run", || has_started(home.path(), "1"));
    let explained = ppctl(&[&node], &["explain", "0"]);
    let where_it_is =
        format!("its attempt 1 is at render1 ({}), and runs there or starts in a moment.", node.address());
    explained.said(0, &["Job 0 of ", " ppctl ", &where_it_is]);
    // Another program has a job of the same number.
    let _other = run_on(home.path(), &node, &["2"]);
    let told = wait_within(PATIENCE, "both to say that they share the slot", || {
        let told = ppctl(&[&node], &["explain", "0", "--json"]).json();
        let both = told["jobs"].as_array().map(Vec::len) == Some(2);
        let shares =
            "and runs there or waits for a slot: its slot is taken, and 2 dispatchers share the node";
        let are_shared = [0, 1]
            .iter()
            .all(|at| told["jobs"][at]["text"].as_str().is_some_and(|text| text.ends_with(shares)));
        (both && are_shared).then_some(told)
    });
    assert!(told["jobs"][0]["dispatcher"].as_str().is_some_and(|name| name.contains(" ppctl ")), "{told}");
    let none = ppctl(&[&node], &["explain", "17#2"]);
    none.said(
        1,
        &["No program that is connected to the one node that was asked has a job 17#2 that has not ended."],
    );
    drop(running);
    ppctl(&[], &["explain", "3"]).said(1, &["no node can be asked who has this job: there is no node"]);
}

#[test]
fn what_programs_and_nodes_are_called_is_inert() {
    let node = server("render1", 1);
    let home = home();
    let hostile = home.path().join("pp\u{1b}[31mctl\u{202e}");
    std::fs::copy(env!("CARGO_BIN_EXE_ppctl"), &hostile).expect("it can be copied");
    let mut command = pp_tests::process::command(&hostile, home.path());
    let job = format!("touch {}/started1; sleep 60", home.path().display());
    command
        .args(["run", "--each-node", "--not-node", ":", &job])
        .env("PP_SECRET", SECRET)
        .env("PP_DISCOVER", "0");
    let _running = Process::start(command.env("PP_NODES", addresses(&[&node])));
    wait_until("the job to run", || has_started(home.path(), "1"));
    let explained = wait_within(PATIENCE, "an answer", || {
        let explained = ppctl(&[&node], &["explain", "0"]);
        (explained.code == Some(0)).then_some(explained)
    });
    assert!(
        explained.stdout.contains("pp") && !explained.stdout.contains(['\u{1b}', '\u{202e}']),
        "{:?}",
        explained.stdout
    );
}
