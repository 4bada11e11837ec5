//! Options of the daemon: flags, environment, configuration file.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use pp_tests::process::SECRET;
use pp_tests::wait::wait_until;
use rustix::process::Signal;

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
fn who_stops_reading_has_seen_enough() {
    let home = home();
    for arguments in [&["--help"][..], &["-h"], &["--version"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = ppserver(home.path(), arguments).stdout(writer).output().expect("it can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
    // Nor does the daemon mind that nobody reads its log or its statistics.
    let mut command = ppserver(home.path(), &["-d", "-p", "0", "-i", "127.0.0.1", "-P", "ppserver.pid"]);
    let (logged, writer) = std::io::pipe().expect("a pipe");
    let (printed, out) = std::io::pipe().expect("a pipe");
    drop((logged, printed));
    command.env("PP_SECRET", SECRET).current_dir(home.path()).stdout(out).stderr(writer);
    let mut daemon = command.spawn().expect("it can be started");
    let id = rustix::process::Pid::from_child(&daemon);
    let pid_file = home.path().join("ppserver.pid");
    wait_until("it to run", || std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n')));
    for signal in [Signal::USR1, Signal::USR1, Signal::TERM] {
        rustix::process::kill_process(id, signal).expect("it runs");
    }
    assert_eq!(daemon.wait().expect("it can be waited for").code(), Some(0));
    assert!(!pid_file.exists());
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
    let fifo = home.path().join("fifo.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a fifo");
    let endless = std::path::Path::new("/dev/zero");
    for path in [missing.as_path(), home.path(), &fifo, endless] {
        let message = "cannot read the configuration file";
        Ended::failing(&mut ppserver(home.path(), &["-c", text(path)]), &[message, text(path), "-c"]);
        Ended::failing(
            ppserver(home.path(), &[]).env("PP_CONFIG", path),
            &[message, text(path), "PP_CONFIG"],
        );
    }
    let other = home.path().join("disk.image");
    std::fs::write(&other, vec![b'#'; 1 << 20]).expect("a file");
    let parts = [text(&other), "more than 65536 bytes", "is it another file?"];
    Ended::failing(&mut ppserver(home.path(), &["-c", text(&other)]), &parts);
}

#[test]
fn debug_and_quiet_in_one_place_are_said_to_contradict_each_other() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    std::fs::write(&file, "debug = true\nquiet = true\n").expect("a file");
    let mut in_the_file = ppserver(home.path(), &["-c", text(&file)]);
    let mut in_the_environment = ppserver(home.path(), &[]);
    in_the_environment.env("PP_DEBUG", "1").env("PP_QUIET", "1");
    for (command, place) in [
        (&mut in_the_file, "in the configuration file"),
        (&mut in_the_environment, "PP_DEBUG, PP_QUIET"),
        (&mut ppserver(home.path(), &["-d", "-q"]), "-d, -q"),
    ] {
        Ended::failing(command.env("PP_SECRET", SECRET), &["both debug and quiet", "leave one out", place]);
    }
    // The command line decides, whatever the environment says.
    let mut command = ppserver(home.path(), &["-d"]);
    command.env("PP_QUIET", "1").env("PP_SECRET", SECRET);
    Daemon::start_as(&mut command).process.wait_for_stderr("DEBUG");
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

/// The start line alone shows that nothing was silenced: it is waited for.
#[test]
fn a_slip_in_what_is_to_be_logged_silences_nothing() {
    let home = home();
    for slip in ["inof", "info,,", "pp_node"] {
        let mut command = ppserver(home.path(), &["-i", "127.0.0.1", "-p", "0", "-s", SECRET]);
        let daemon = Daemon::start_as(command.env("PP_LOG", slip));
        assert!(daemon.listens.contains("listens on"), "{}", daemon.listens);
    }
}

#[test]
fn a_variable_that_is_blank_is_not_set() {
    let home = home();
    let mut command = ppserver(home.path(), &["-i", "127.0.0.1", "-p", "0"]);
    // The secret too: the one in the home directory is made and used, as if nothing had been said.
    for name in ["AUTO", "DEBUG", "QUIET", "INTERFACE", "PORT", "WORKERS", "SECRET", "SECRET_FILE", "TIMEOUT"]
    {
        command.env(format!("PP_{name}"), "");
    }
    for name in [
        "SOCKET_TIMEOUT",
        "RESTART",
        "PID_FILE",
        "LOG_FORMAT",
        "CONFIG",
        "NAME",
        "STORE",
        "LOG",
        "SECRET_FILE",
    ] {
        command.env(format!("PP_{name}"), " ");
    }
    command.env("XDG_CONFIG_HOME", " ").env("XDG_CACHE_HOME", "");
    let daemon = Daemon::start_as(&mut command);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism().expect("a number").get();
    for part in [format!("\"{host}\""), format!("slots={cpus}")] {
        assert!(daemon.listens.contains(&part), "{part} is not in {}", daemon.listens);
    }
    let secret = std::fs::read_to_string(home.path().join(".config/ppserver/secret")).expect("it was made");
    assert!(daemon.authenticate(secret.trim()).is_ok());
    assert!(home.path().join(".cache/ppserver").is_dir(), "programs are kept where they are by default");
}

#[test]
fn a_text_of_the_configuration_that_is_blank_is_not_set() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    let keys = ["interface", "secret", "secret_file", "pid_file", "log_format", "name", "store"];
    let blanks = keys.map(|key| format!("{key} = \" \"\n")).concat();
    std::fs::write(&file, format!("{blanks}workers = 3\n")).expect("a file");
    let daemon = Daemon::start(home.path(), &["-c", text(&file)]);
    assert!(daemon.listens.contains("slots=3") && !daemon.listens.contains("\" \""), "{}", daemon.listens);
    assert!(daemon.authenticate(SECRET).is_ok());
}

#[test]
fn white_space_around_the_value_of_a_variable_does_not_count() {
    let home = home();
    let mut command = ppserver(home.path(), &[]);
    command.env("PP_SECRET", format!("{SECRET}\n")).env("PP_WORKERS", " 3\n").env("PP_AUTO", "No ");
    let daemon = Daemon::start_as(&mut command);
    assert!(daemon.listens.contains("slots=3"), "{}", daemon.listens);
}

#[test]
fn a_number_that_makes_no_sense_is_refused_with_those_that_do() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    for (flag, key, values, range) in [
        ("-k", "socket_timeout", &["0", "1", "86401", "18446744073709551615"][..], "from 2 to 86400"),
        ("-t", "timeout", &["0", "31536001", "18446744073709551616"], "from 1 to 31536000"),
        ("-w", "workers", &["4097", "4294967296", "nan", "1e3"], "from 0 to 4096"),
        ("-p", "port", &["65536", "99999999999", "inf"], "from 0 to 65535"),
    ] {
        for value in values {
            let mut on_the_line = ppserver(home.path(), &[flag, value]);
            let mut in_the_environment = ppserver(home.path(), &[]);
            in_the_environment.env(format!("PP_{}", key.to_uppercase()), value);
            for command in [&mut on_the_line, &mut in_the_environment] {
                let refused = Ended::of(command.env("PP_SECRET", SECRET));
                assert_eq!(refused.code, Some(2), "{flag} {value}: {}", refused.stderr);
                let flag = format!("'--{}", key.replace('_', "-"));
                assert!(
                    refused.stderr.contains(range) && refused.stderr.contains(&flag),
                    "{}",
                    refused.stderr
                );
            }
            if value.parse::<i64>().is_ok() {
                std::fs::write(&file, format!("{key} = {value}\n")).expect("a file");
                let wrong = [text(&file), range, key];
                Ended::failing(&mut ppserver(home.path(), &["-c", text(&file)]), &wrong);
            }
        }
        std::fs::write(&file, format!("{key} = -1\n")).expect("a file");
        Ended::failing(&mut ppserver(home.path(), &["-c", text(&file)]), &[text(&file), range, key]);
    }
}

#[test]
fn a_name_is_a_line_of_bounded_length_that_is_taken_for_nothing_else() {
    let home = home();
    let long = "x".repeat(257);
    for (name, part) in [
        ("", "--name"),
        (" ", "leave it out"),
        (&long, "at most 256 bytes"),
        ("a\nb", "one line"),
        ("admin\u{202e}resu", "cannot be seen"),
        ("ren\u{200b}der", "cannot be seen"),
        ("local", "their own cores"),
        ("10.0.0.1", "looks like an address"),
        ("fd00::1", "looks like an address"),
        ("render1:60000", "looks like an address"),
        ("render1 (10.0.0.1:60000)", "looks like an address"),
    ] {
        let refused = Ended::of(&mut ppserver(home.path(), &["--name", name]));
        assert_eq!(refused.code, Some(2), "{name:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{name:?}: {}", refused.stderr);
    }
}

#[test]
fn a_link_local_address_is_listened_on_with_its_interface() {
    let home = home();
    let start = |address: &str| {
        let mut command = ppserver(home.path(), &["-i", address, "-p", "0"]);
        command.env("PP_SECRET", SECRET);
        command
    };
    Ended::failing(&mut start("fe80::1"), &["fe80::1 is a link-local address", "fe80::1%eth0"]);
    Ended::failing(&mut start("fe80::1%nowhere7"), &["no network interface \"nowhere7\""]);
    let refused = Ended::of(&mut start("fe80::1%"));
    assert!(refused.code == Some(2) && refused.stderr.contains("fe80::1%eth0"), "{}", refused.stderr);
}

#[test]
fn every_log_line_parses_as_json_when_that_is_asked_for() {
    let home = home();
    // Without a secret: what it says about the one it makes is for programs too.
    let mut daemon = Daemon::start_as(&mut ppserver(home.path(), &["-f", "json", "-d"]));
    daemon.process.signal(Signal::TERM);
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
    wait_until("it to listen", || TcpStream::connect(address).is_ok());
    process.kill();
    assert_eq!((process.stdout(), process.stderr()), (String::new(), String::new()));
}
