//! What it is told: flags, environment, configuration file.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use pp_tests::process::SECRET;

use crate::{Daemon, Ended, home, ppserver, text};

#[test]
fn help_names_every_flag() {
    let home = home();
    let help = Ended::of(&mut ppserver(home.path(), &["--help"]));
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    for flag in [
        "-a, --auto",
        "-d, --debug",
        "-q, --quiet",
        "-i, --interface",
        "-p, --port",
        "-w, --workers",
        "-s, --secret",
        "--secret-file",
        "-t, --timeout",
        "-k, --socket-timeout",
        "-r, --restart",
        "-P, --pid-file",
        "-f, --log-format",
        "-c, --config",
    ] {
        let mut lines = help.stdout.lines().map(str::trim_start);
        assert!(lines.any(|line| line.starts_with(flag)), "{flag} is not in:\n{}", help.stdout);
    }
    assert!(help.stdout.contains("60000"), "the port used without -p is said");
}

#[test]
fn version_is_one_line() {
    let home = home();
    let version = Ended::of(&mut ppserver(home.path(), &["--version"]));
    assert_eq!((version.code, version.stdout), (Some(0), format!("ppserver {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_flag_that_is_none_is_refused_with_the_way_to_help() {
    let home = home();
    let refused = Ended::of(&mut ppserver(home.path(), &["--prot", "7"]));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("'--prot'") && refused.stderr.contains("--help"), "{}", refused.stderr);
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let home = home();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = holder.local_addr().expect("an address").port().to_string();
    let message = format!("port {port} is taken: is another ppserver running?");
    let on_loopback = ["-p", &port, "-i", "127.0.0.1"];
    for arguments in [&on_loopback[..2], &on_loopback] {
        let mut command = ppserver(home.path(), arguments);
        Ended::failing(command.env("PP_SECRET", SECRET), &[&message, "-p"]);
    }
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let home = home();
    let mut command = ppserver(home.path(), &["-i", "203.0.113.1", "-p", "0"]);
    Ended::failing(
        command.env("PP_SECRET", SECRET),
        &["203.0.113.1 is not an address of this machine", "leave -i out"],
    );
}

#[test]
fn port_0_is_any_that_is_free_and_said() {
    let home = home();
    let daemon = Daemon::start(home.path(), &["-p", "0"]);
    assert_ne!(daemon.address.port(), 0);
    assert!(TcpStream::connect(daemon.address).is_ok());
}

#[test]
fn an_unknown_key_of_the_configuration_is_named_and_so_are_those_there_are() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    std::fs::write(&file, "workers = 1\nprot = 60001\n").expect("a file");
    let known = ["`port`", "`workers`", "`secret_file`", "`socket_timeout`", "`log_format`"];
    let wrong = [text(&file), "line 2", "unknown field `prot`"];
    Ended::failing(&mut ppserver(home.path(), &["-c", text(&file)]), &[&wrong[..], &known].concat());
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error() {
    let home = home();
    let missing = home.path().join("missing.toml");
    for path in [missing.as_path(), home.path()] {
        let message = format!("cannot read the configuration file {}", path.display());
        Ended::failing(&mut ppserver(home.path(), &["-c", text(path)]), &[&message, "-c"]);
    }
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    std::fs::write(&file, "workers = 5\nname = \"from the file\"\nport = 1\n").expect("a file");
    let file = text(&file);
    let start = |arguments: &[&str], workers: Option<&str>| {
        let mut command = ppserver(home.path(), &[&["-c", file], arguments].concat());
        command.env("PP_SECRET", SECRET).envs(workers.map(|workers| ("PP_WORKERS", workers)));
        Daemon::start_as(&mut command).listens
    };
    for (listens, slots) in [
        (start(&[], None), "slots=5 "),
        (start(&[], Some("4")), "slots=4 "),
        (start(&["-w", "3"], Some("4")), "slots=3 "),
    ] {
        assert!(listens.contains(slots) && listens.contains("\"from the file\""), "{slots}: {listens}");
    }
}

#[test]
fn every_log_line_parses_as_json_when_that_is_asked_for() {
    let home = home();
    // Without a secret: what it says about the one it makes is for programs too.
    let mut daemon = Daemon::start_as(&mut ppserver(home.path(), &["-f", "json", "-d"]));
    daemon.process.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.process.wait().code(), Some(0));
    let mut messages = Vec::new();
    for line in daemon.process.stderr().lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(record["timestamp"].is_string() && record["level"].is_string(), "{line}");
        messages.push(record["message"].as_str().unwrap_or_else(|| panic!("no message: {line}")).to_owned());
    }
    for part in ["new secret", "listens on", "told to stop", "ended"] {
        assert!(messages.iter().any(|message| message.contains(part)), "{part:?} is not in {messages:#?}");
    }
}

#[test]
fn what_ends_it_is_json_too() {
    let home = home();
    let mut command = ppserver(home.path(), &["-f", "json", "-i", "203.0.113.1"]);
    let ended = Ended::of(command.env("PP_SECRET", SECRET));
    assert_eq!(ended.code, Some(1));
    let last = ended.stderr.lines().last().unwrap_or_default();
    let record: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert_eq!(record["level"], "ERROR");
    assert!(record["message"].to_string().contains("203.0.113.1 is not an address"), "{last}");
}

#[test]
fn the_broadcast_flag_of_old_scripts_is_accepted_and_said_to_have_no_effect() {
    let home = home();
    let daemon = Daemon::start(home.path(), &["-b", "255.255.255.255"]);
    daemon.process.wait_for_stderr("-b has no effect");
}

#[test]
fn quiet_says_nothing_while_all_is_well() {
    let home = home();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = holder.local_addr().expect("an address");
    drop(holder);
    let port = address.port().to_string();
    let mut command = ppserver(home.path(), &["-q", "-i", "127.0.0.1", "-p", &port]);
    let mut process = pp_tests::process::Process::start(command.env("PP_SECRET", SECRET));
    pp_tests::wait::wait_until("it to listen", || TcpStream::connect(address).is_ok());
    process.kill();
    assert_eq!((process.stdout(), process.stderr()), (String::new(), String::new()));
}
