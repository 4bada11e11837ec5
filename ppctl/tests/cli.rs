//! `ppctl` as operators use it, against real nodes on loopback.

use std::time::{Duration, Instant};

use pp_tests::process::{OTHER_SECRET, Process, SECRET, Server, ServerOptions, Signal, command};
use serde_json::Value;

/// Time that is "at once" for a person, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A `ppctl` that has ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `ppctl` without a network; `environment` comes on top of the secret of the servers here.
fn ppctl_with(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().expect("a home directory");
    let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home.path());
    command.args(arguments).env("PP_DISCOVER", "0").env("PP_SECRET", SECRET);
    command.envs(environment.iter().copied());
    let mut process = Process::start(&mut command);
    let code = process.wait().code();
    Ended { code, stdout: process.stdout(), stderr: process.stderr() }
}

fn ppctl(arguments: &[&str]) -> Ended {
    ppctl_with(&[], arguments)
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr))
    }

    /// Asserts that it failed and said all of `parts`.
    fn failed_saying(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        let said = format!("{}\n{}", self.stdout, self.stderr);
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
    }
}

fn server(name: &str, workers: usize) -> Server {
    let arguments = ["-i", "127.0.0.1", "--name", name].map(Into::into).into();
    Server::start_with(ServerOptions { arguments, workers, ..ServerOptions::default() })
}

/// Number of slots the node says it has.
fn slots(server: &Server) -> u64 {
    let nodes = ppctl(&["nodes", "--json", "--node", &server.address()]).json();
    nodes[0]["slots"].as_u64().expect("a number")
}

#[test]
fn help_names_the_commands_and_where_nodes_and_secret_are_looked_for() {
    let help = ppctl(&["--help"]);
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    for part in
        ["nodes", "resize", "drain", "--json", "--secret-file", "PP_NODES", "PP_DISCOVER", "PP_SECRET_FILE"]
    {
        assert!(help.stdout.contains(part), "{part:?} is not in:\n{}", help.stdout);
    }
    let resize = ppctl(&["resize", "--help"]);
    assert!(resize.stdout.contains("[NODE]... <SLOTS>"), "{}", resize.stdout);
}

#[test]
fn shells_complete_options_and_man_has_a_page_of_each_command() {
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let script = ppctl(&["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains("joblog"), "{shell}: {}", script.stderr);
    }
    let typed = "COMP_WORDS=(ppctl run --jobl) COMP_CWORD=2; _ppctl ppctl --jobl run; echo ${COMPREPLY[@]}";
    let script = ppctl(&["completions", "bash"]).stdout;
    match std::process::Command::new("bash").args(["-c", &format!("{script}\n{typed}")]).output() {
        Ok(bash) => assert_eq!(String::from_utf8_lossy(&bash.stdout), "--joblog\n"),
        Err(error) => eprintln!("SKIPPED: there is no bash here ({error})"),
    }
    let page = ppctl(&["man", "run"]).stdout;
    assert!(page.contains(".TH ppctl-run") && page.contains("joblog"), "{page}");
    assert!(ppctl(&["man"]).stdout.contains("resize"));
    ppctl(&["man", "nosuch"]).failed_saying(&["no command nosuch"]);
}

#[test]
fn what_is_no_command_is_refused_with_the_way_to_help() {
    for arguments in [&["nods"][..], &["resize"], &["resize", "node"], &["resize", "node", "many"], &[]] {
        let refused = ppctl(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}");
        assert!(refused.stderr.contains("--help"), "{arguments:?}: {}", refused.stderr);
    }
}

#[test]
fn nodes_lists_each_with_its_slots() {
    let (first, second) = (server("render1", 2), server("render2", 3));
    let addresses = [first.address(), second.address()];
    let listed = ppctl(&["nodes", "--node", &addresses[0], "--node", &addresses[1]]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let mut rows: Vec<Vec<&str>> =
        listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let heading = rows.remove(0);
    assert_eq!(heading[..4], ["NODE", "ADDRESS", "STATE", "SLOTS"], "{}", listed.stdout);
    rows.sort();
    let expected =
        [["render1", &*addresses[0], "connected", "2"], ["render2", &*addresses[1], "connected", "3"]];
    assert_eq!(rows.iter().map(|row| &row[..4]).collect::<Vec<_>>(), expected, "{}", listed.stdout);
}

#[test]
fn nodes_as_json_has_the_same_for_programs() {
    let server = server("render1", 3);
    let address = server.address();
    // PP_NODES is an equal way to name them.
    let listed = ppctl_with(&[("PP_NODES", &address)], &["nodes", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let nodes = listed.json();
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    let node = &nodes[0];
    for (key, value) in [
        ("name", Value::from("render1")),
        ("address", address.into()),
        ("found", "named".into()),
        ("state", "connected".into()),
        ("reason", Value::Null),
        ("slots", 3.into()),
        ("busy", 0.into()),
        ("queued", 0.into()),
    ] {
        assert_eq!(node[key], value, "{key} of {node}");
    }
    assert!(node["cpus"].as_u64().is_some_and(|cpus| cpus > 0), "{node}");
    assert!(node["memory_total"].as_u64() > node["memory_used"].as_u64(), "{node}");
}

#[test]
fn looking_leaves_no_trace() {
    let server = server("render1", 2);
    for _ in 0..3 {
        let nodes = ppctl(&["nodes", "--json", "--node", &server.address()]).json();
        assert_eq!(nodes[0]["dispatchers"], 0, "one who only looks is no dispatcher: {nodes}");
    }
    assert!(!server.log().contains("starting a worker"), "{}", server.log());
}

#[test]
fn a_node_with_another_secret_is_shown_as_refused_and_why() {
    let server = server("render1", 2);
    let address = server.address();
    let wrong = [("PP_SECRET", OTHER_SECRET)];
    let listed = ppctl_with(&wrong, &["nodes", "--node", &address]);
    listed.failed_saying(&[&address, "refused", "the secrets differ", "PP_SECRET"]);
    let nodes = ppctl_with(&wrong, &["nodes", "--json", "--node", &address]).json();
    assert_eq!((&nodes[0]["state"], &nodes[0]["slots"]), (&"refused".into(), &0.into()), "{nodes}");
    assert!(
        nodes[0]["reason"].as_str().is_some_and(|reason| reason.contains("the secrets differ")),
        "{nodes}"
    );
    let resized = ppctl_with(&wrong, &["resize", &address, "1"]);
    resized.failed_saying(&["ppctl: ", &address, "the secrets differ"]);
    assert_eq!(slots(&server), 2, "nobody without the secret gives orders");
}

#[test]
fn without_a_secret_the_way_to_one_is_said() {
    let server = server("render1", 2);
    let listed = {
        let home = tempfile::tempdir().expect("a home directory");
        let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home.path());
        let mut process =
            Process::start(command.args(["nodes", "--node", &server.address()]).env("PP_DISCOVER", "0"));
        Ended { code: process.wait().code(), stdout: process.stdout(), stderr: process.stderr() }
    };
    listed.failed_saying(&["refused", "there is no secret here", "ppserver/secret", "PP_SECRET"]);
}

#[test]
fn where_nothing_is_found_the_next_step_is_said() {
    let started = Instant::now();
    let none = ppctl(&["nodes"]);
    none.failed_saying(&["no node was found", "ppserver -a", "--node", "PP_NODES"]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let none = ppctl(&["nodes", "--json"]);
    assert_eq!((none.code, none.json()), (Some(1), Value::Array(Vec::new())), "{}", none.stderr);
}

#[test]
fn an_address_where_nothing_listens_is_listed_with_that() {
    let listed = ppctl(&["nodes", "--node", "127.0.0.1:1"]);
    listed.failed_saying(&["127.0.0.1:1", "unreachable", "no ppserver listens there"]);
}

#[test]
fn a_name_that_is_not_known_is_listed_with_that() {
    let name = "dns:no-such-name.invalid";
    let unknown =
        ["dns:no-such-name.invalid:60000", "unreachable", "cannot look up the name", "how it is written"];
    ppctl(&["nodes", "--time", "60", "--node", name]).failed_saying(&unknown);
    ppctl(&["ping", "--node", name, "render1"]).failed_saying(&[
        "no node is called \"render1\"",
        unknown[0],
        unknown[2],
    ]);
}

#[test]
fn what_listens_but_is_no_ppserver_is_said_to_be_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            use std::io::Write;
            // Whoever hangs up first, it is the same to this test.
            let _ = (&stream).write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        }
    });
    let listed = ppctl(&["nodes", "--node", &address]);
    listed.failed_saying(&[&address, "what listens there is not a ppserver"]);
}

#[test]
fn a_node_that_is_frozen_is_listed_with_what_is_waited_for() {
    let mut server = server("render1", 2);
    let address = server.address();
    server.process().signal(Signal::STOP);
    let listed = ppctl(&["nodes", "--node", &address]);
    listed.failed_saying(&[&address, "connecting", "it has taken the connection and says nothing yet"]);
    for asked in [&["ping", &address][..], &["resize", &address, "3"]] {
        ppctl(asked).failed_saying(&[&address, "it has taken the connection and says nothing yet"]);
    }
}

#[test]
fn ping_of_a_node_that_freezes_on_the_way_tells_what_was_measured_before() {
    let mut server = server("render1", 1);
    let address = server.address();
    let pinging = std::thread::spawn({
        let address = address.clone();
        move || ppctl(&["ping", &address, "--count", "100000"])
    });
    server.process().wait_for_stderr("dispatcher connected");
    // Some of them come back, and not all.
    std::thread::park_timeout(std::time::Duration::from_secs(1));
    server.process().signal(Signal::STOP);
    let pinged = pinging.join().expect("it does not panic");
    assert_ne!(pinged.code, Some(0), "{}", pinged.stdout);
    assert!(pinged.stdout.contains(" jobs there and back, one at a time: median "), "{}", pinged.stdout);
    assert!(!pinged.stdout.contains(" 100000 jobs"), "{}", pinged.stdout);
    for part in ["did not come back from render1", "silent"] {
        assert!(pinged.stderr.contains(part), "{}", pinged.stderr);
    }
}

#[test]
fn of_a_node_named_twice_the_second_row_says_which_is_the_first() {
    let server = server("render1", 2);
    let address = server.address();
    let other = format!("localhost:{}", server.port());
    let rows = ppctl(&["nodes", "--json", "--node", &address, "--node", &other]).json();
    let states = ["connected", "refused"].map(|state| {
        let mut of_state = rows.as_array().into_iter().flatten().filter(|row| row["state"] == state);
        of_state.next().unwrap_or_else(|| panic!("none is {state}: {rows}")).clone()
    });
    let reason = states[1]["reason"].as_str().unwrap_or_default();
    let says_which = |(one, two)| reason == format!("{one} is the same node as {two}, which is in use");
    assert!([(&address, &other), (&other, &address)].into_iter().any(says_which), "{rows}");
}

#[test]
fn ping_measures_jobs_there_and_back() {
    let server = server("render1", 1);
    let address = server.address();
    let pinged = ppctl(&["ping", &address, "--count", "3"]);
    assert_eq!(pinged.code, Some(0), "{}", pinged.stderr);
    let expected = format!("render1 ({address}): 3 jobs there and back, one at a time: median ");
    assert!(pinged.stdout.starts_with(&expected), "{}", pinged.stdout);
    let pinged = ppctl(&["ping", &address, "--count", "1"]);
    assert!(pinged.stdout.contains(": 1 job there and back"), "{}", pinged.stdout);
    let refused = ppctl(&["ping", &address, "--count", "-1"]);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("-1 is not in 1..=100000"),
        "{}",
        refused.stderr
    );
    let measured = ppctl(&["ping", &address, "--json"]).json();
    let [least, median, most] = ["least_ms", "median_ms", "most_ms"].map(|name| measured[name].as_f64());
    assert!(least > Some(0.0) && least <= median && median <= most, "{measured}");
    assert_eq!((&measured["node"], &measured["jobs"]), (&"render1".into(), &10.into()));
    assert!(!server.log().contains("asking for its program"), "ppctl runs nothing of its own there");
    ppctl(&["resize", &address, "0"]);
    ppctl(&["ping", &address]).failed_saying(&["render1", "no slots"]);
    ppctl(&["ping", "127.0.0.1:1"]).failed_saying(&["127.0.0.1:1", "no ppserver listens there"]);
}

#[test]
fn resize_by_address_changes_the_slots_now_down_to_none_and_back() {
    let server = server("render1", 2);
    let address = server.address();
    for (before, after) in [(2, 5), (5, 0), (0, 1)] {
        let resized = ppctl(&["resize", &address, &after.to_string()]);
        assert_eq!(resized.code, Some(0), "{}", resized.stderr);
        assert_eq!(resized.stdout, format!("render1 ({address}): {before} -> {after} slots"));
        assert_eq!(slots(&server), after);
    }
    let resized = ppctl(&["resize", &address, "4", "--json"]).json();
    let expected = serde_json::json!([
        { "node": "render1", "address": address, "before": 1, "slots": 4, "error": null }
    ]);
    assert_eq!(resized, expected);
    assert_eq!(slots(&server), 4);
}

#[test]
fn resize_by_name_finds_the_right_one_of_several() {
    let (first, second) = (server("render1", 2), server("render2", 2));
    let nodes = format!("{},{}", first.address(), second.address());
    let resized = ppctl_with(&[("PP_NODES", &nodes)], &["resize", "render2", "7"]);
    assert_eq!(resized.code, Some(0), "{}", resized.stderr);
    assert_eq!((slots(&first), slots(&second)), (2, 7));
}

#[test]
fn resize_looks_where_it_is_told_and_asks_which_one_where_there_are_several() {
    let (first, second) = (server("render1", 2), server("render2", 2));
    let (one, two) = (first.address(), second.address());
    let only = ppctl(&["resize", "--node", &one, "3"]);
    assert_eq!((only.code, slots(&first)), (Some(0), 3), "{}", only.stderr);
    let by_name = ppctl(&["resize", "--node", &one, "--node", &two, "render2", "5"]);
    assert_eq!((by_name.code, slots(&second)), (Some(0), 5), "{}", by_name.stderr);
    let which = ppctl(&["resize", "--node", &one, "--node", &two, "7"]);
    which.failed_saying(&["which of the 2 nodes", &format!("--node {one} --node {two} NODE 7")]);
    ppctl(&["resize", "7"]).failed_saying(&["which node?", "ppctl resize NODE 7"]);
    assert_eq!((slots(&first), slots(&second)), (3, 5));
}

#[test]
fn a_long_name_does_not_make_the_table_wide() {
    let long = "render-".repeat(30);
    let server = server(&long, 2);
    let listed = ppctl(&["nodes", "--node", &server.address()]);
    assert!(listed.stdout.contains("render-render-render-render-ren…  127.0.0.1"), "{}", listed.stdout);
    assert!(listed.stdout.lines().all(|line| line.chars().count() < 140), "{}", listed.stdout);
    let nodes = ppctl(&["nodes", "--json", "--node", &server.address()]).json();
    assert_eq!(nodes[0]["name"], long);
}

#[test]
fn a_small_stack_is_enough() {
    let home = tempfile::tempdir().expect("a home directory");
    let mut command = command("sh", home.path());
    command.args(["-c", "ulimit -s 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ppctl"), "nodes"]);
    let mut process = Process::start(command.env("PP_DISCOVER", "0").env("PP_SECRET", SECRET));
    assert_eq!(process.wait().code(), Some(1), "{}", process.stderr());
    assert!(process.stderr().contains("no node was found"), "{}", process.stderr());
}

#[test]
fn a_name_that_several_nodes_have_is_refused_with_their_addresses() {
    let (first, second) = (server("twin", 2), server("twin", 2));
    let nodes = format!("{},{}", first.address(), second.address());
    let resized = ppctl_with(&[("PP_NODES", &nodes)], &["resize", "twin", "7"]);
    resized.failed_saying(&["2 nodes", &first.address(), &second.address()]);
    assert_eq!((slots(&first), slots(&second)), (2, 2));
}

#[test]
fn resizing_a_node_that_is_not_there_is_an_error_in_bounded_time() {
    let started = Instant::now();
    ppctl(&["resize", "127.0.0.1:1", "3"]).failed_saying(&["127.0.0.1:1", "no ppserver listens there"]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let started = Instant::now();
    ppctl(&["resize", "no-such-node.invalid", "3"]).failed_saying(&["no-such-node.invalid"]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn more_slots_than_a_node_can_have_are_refused() {
    let server = server("render1", 2);
    let resized = ppctl(&["resize", &server.address(), "1000000"]);
    resized.failed_saying(&["4096"]);
    assert_eq!(slots(&server), 2);
}

#[test]
fn a_secret_file_is_used_and_one_that_others_can_read_is_not() {
    use std::os::unix::fs::PermissionsExt;

    let server = server("render1", 2);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("secret");
    std::fs::write(&file, SECRET).expect("a file");
    let path = file.to_str().expect("paths here are text");
    let other = [("PP_SECRET", OTHER_SECRET)];
    for (mode, code) in [(0o600, 0), (0o644, 1)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("its mode is set");
        let listed = ppctl_with(&other, &["nodes", "--node", &server.address(), "--secret-file", path]);
        assert_eq!(listed.code, Some(code), "mode {mode:o}: {}", listed.stderr);
        assert_eq!(listed.stderr.contains("chmod 600"), code == 1, "{}", listed.stderr);
    }
}

#[test]
fn a_time_that_is_none_is_refused_with_what_is() {
    for time in ["nan", "inf", "-inf", "1e300", "3601", "soon", ""] {
        let refused = ppctl(&["nodes", &format!("--time={time}")]);
        assert_eq!(refused.code, Some(2), "{time}: {}", refused.stderr);
        let said = refused.stderr.contains("a number of seconds from 0 to 3600");
        assert!(said || time.is_empty(), "{time}: {}", refused.stderr);
    }
    let negative = ppctl(&["nodes", "--time=-1"]);
    assert!(negative.code == Some(2) && negative.stderr.contains("from 0 to 3600"), "{}", negative.stderr);
}

#[test]
fn who_stops_reading_has_seen_enough() {
    let server = server("render1", 2);
    let address = server.address();
    for arguments in [
        &["nodes", "--node", &address][..],
        &["nodes", "--json", "--node", &address],
        &["resize", &address, "3"],
        &["resize", &address, "3", "--json"],
        &["--help"],
        &["nodes", "--help"],
    ] {
        let home = tempfile::tempdir().expect("a home directory");
        let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home.path());
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.args(arguments).env("PP_DISCOVER", "0").env("PP_SECRET", SECRET).stdout(writer);
        let ended = command.output().expect("it can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_environment_is_understood_as_by_every_dispatcher() {
    let server = server("render1", 2);
    let address = server.address();
    for no in ["0", "no", "Off", " false "] {
        let started = Instant::now();
        let arguments = ["nodes", "--time", "25", "--node", &address];
        let listed = ppctl_with(&[("PP_DISCOVER", no), ("PP_NODES", " , ,")], &arguments);
        assert_eq!(listed.code, Some(0), "{no}: {}", listed.stderr);
        assert!(started.elapsed() < SOON, "{no}: the network was searched for {:?}", started.elapsed());
    }
    let unclear = ppctl_with(&[("PP_DISCOVER", "maybe")], &["nodes"]);
    unclear.failed_saying(&["PP_DISCOVER", "\"maybe\"", "1 or 0"]);
    // Blank is not set, the secret too: it is looked for in the home directory, where none is.
    let blank = ppctl_with(&[("PP_SECRET", " "), ("PP_SECRET_FILE", "")], &["nodes", "--node", &address]);
    blank.failed_saying(&["there is no secret here"]);
}

#[test]
fn a_node_named_by_address_is_the_one_whatever_others_the_environment_names() {
    let (first, second) = (server("render1", 2), server("render2", 2));
    for (node, resized) in [(second.address(), &second), (format!("render2 ({})", second.address()), &second)]
    {
        let nodes = format!("{},{}", first.address(), second.address());
        let done = ppctl_with(&[("PP_NODES", &nodes)], &["resize", &node, "5"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!((slots(&first), slots(resized)), (2, 5));
        assert_eq!(ppctl(&["resize", &second.address(), "2"]).code, Some(0));
    }
}
