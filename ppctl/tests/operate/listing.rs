//! Nodes listed in blocks, and again and again.

use pp_tests::process::{Process, Signal, command};
use pp_tests::wait::wait_until;
use serde_json::Value;

use crate::{home, ppctl, ppctl_at, server};

#[test]
fn a_block_says_all_that_is_known_of_a_node() {
    let node = server("render1", 3);
    let listed = ppctl(&[&node], &["nodes", "-v", "--node", "127.0.0.1:1"]);
    let address = node.address();
    listed.said(
        0,
        &[
            &format!("render1 ({address}): connected, named here"),
            "  jobs      0 of 3 slots busy, 0 waiting there; 0 dispatchers connected",
            " of memory in use",
            concat!("  software  ppserver ", env!("CARGO_PKG_VERSION"), ", linux/"),
            "  confined  ",
            "127.0.0.1:1: unreachable, named here\n  because   no ppserver listens there (127.0.0.1:1)",
        ],
    );
    let software = listed.stdout.lines().find(|line| line.starts_with("  software")).unwrap_or_default();
    assert!(software.ends_with("musl") || software.contains("glibc 2."), "{software}");
    assert!(!software.contains("install the same release"), "{software}");
    let told = ppctl(&[&node], &["nodes", "--json"]).json();
    assert_eq!(told[0]["software"], concat!("ppserver ", env!("CARGO_PKG_VERSION")));
    assert!(told[0]["target"].as_str().is_some_and(|target| target.starts_with("linux/")), "{told}");
    assert!(software.ends_with(told[0]["libc"].as_str().unwrap_or("?")), "{told}");
}

#[test]
fn a_list_that_is_watched_goes_on_until_it_is_interrupted() {
    let (node, home) = (server("render1", 3), home());
    let watch = |arguments: &[&str]| {
        let arguments = [&["nodes", "--watch", "0.1"], arguments].concat();
        Process::start(ppctl_at(home.path(), &arguments).env("PP_NODES", node.address()))
    };
    let (mut table, mut json) = (watch(&[]), watch(&["--json"]));
    wait_until("several tables", || table.stdout().matches("NODE ").count() > 2);
    ppctl(&[&node], &["resize", "render1", "5"]).said(0, &[]);
    let slots =
        |line: &str| serde_json::from_str::<Value>(line).expect("each line is JSON")[0]["slots"].as_u64();
    wait_until("a line with the new number", || {
        json.stdout().lines().last().is_some_and(|line| slots(line) == Some(5))
    });
    assert_eq!(json.stdout().lines().next().and_then(slots), Some(3));
    for process in [&mut table, &mut json] {
        process.signal(Signal::INT);
        assert_eq!((process.wait().code(), process.stderr().as_str()), (Some(0), ""));
    }
    assert!(!table.stdout().contains('\u{1b}'), "there is no terminal");
}

#[test]
fn who_watches_and_reads_no_more_has_seen_enough() {
    let (node, home) = (server("render1", 1), home());
    let line = format!("{} nodes --watch 0.1 | head -1", env!("CARGO_BIN_EXE_ppctl"));
    let mut shell = command("/bin/sh", home.path());
    shell.args(["-c", &line]).env("PP_SECRET", pp_tests::process::SECRET).env("PP_DISCOVER", "0");
    let mut process = Process::start(shell.env("PP_NODES", node.address()));
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(process.stdout().lines().count(), 1, "{}", process.stderr());
}

#[test]
fn on_a_terminal_the_list_stays_in_its_place() {
    let (node, home) = (server("render1", 1), home());
    // The terminal's own key ends it.
    let line = format!(
        "stty cols 60 rows 10; (sleep 2; kill -INT $$) & exec {} nodes --watch 0.2",
        env!("CARGO_BIN_EXE_ppctl")
    );
    let mut script = command("script", home.path());
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    script
        .env("PP_SECRET", pp_tests::process::SECRET)
        .env("PP_DISCOVER", "0")
        .env("PP_NODES", node.address());
    let sent = match script.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return eprintln!("SKIPPED: there is no program `script` here ({error})"),
    };
    let frames: Vec<&str> = sent.split("\x1b[2A\r\x1b[J").collect();
    assert!(frames.len() > 2, "{sent:?}");
    assert!(frames.iter().all(|frame| frame.matches("render1").count() == 1), "{sent:?}");
    assert!(frames.iter().flat_map(|frame| frame.lines()).all(|line| line.chars().count() < 70), "{sent:?}");
}
