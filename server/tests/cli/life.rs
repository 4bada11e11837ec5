//! Life of the daemon: how it starts, answers signals and ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use pp_tests::process::{self, Process, SECRET};
use pp_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Daemon, Ended, home, ppserver, text};

#[test]
fn the_signals_that_stop_it_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = home();
        let mut daemon = Daemon::start(home.path(), &[]);
        daemon.process.signal(signal);
        assert_eq!(daemon.process.wait().code(), Some(0), "{signal:?}: {}", daemon.process.stderr());
        daemon.process.wait_for_stderr("told to stop");
    }
}

#[test]
fn a_signal_at_the_very_moment_it_listens_ends_it_well() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    for _ in 0..20 {
        let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1", "-P", text(&file)]);
        let mut daemon =
            command.env("PP_SECRET", SECRET).stderr(Stdio::piped()).spawn().expect("it can be started");
        let id = Pid::from_child(&daemon);
        // Read without any pause, unlike elsewhere: the signal is to come as early as it can.
        let mut lines = BufReader::new(daemon.stderr.take().expect("it is piped")).lines();
        let listens = |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("listens on"));
        assert!(lines.any(listens), "it listens");
        kill_process(id, Signal::TERM).expect("it runs");
        // It ends once nobody holds the other end of the pipe.
        lines.for_each(drop);
        assert_eq!(daemon.wait().expect("it can be waited for").code(), Some(0));
        assert!(!file.exists(), "the pid file is removed");
    }
}

#[test]
fn usr1_prints_statistics_and_it_goes_on() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &["-w", "3", "--name", "counted"]);
    for _ in 0..2 {
        daemon.process.signal(Signal::USR1);
        daemon.process.wait_for_stdout("job time sum");
    }
    let statistics = daemon.process.stdout();
    let summary = statistics.lines().next().unwrap_or_default();
    assert!(summary.starts_with("counted: 3 slots, 0 busy, "), "{statistics}");
    assert!(daemon.authenticate(SECRET).is_ok());
    daemon.process.signal(Signal::TERM);
    assert_eq!(daemon.process.wait().code(), Some(0));
}

#[test]
fn the_pid_file_holds_its_id_while_it_runs_and_keeps_a_second_one_out() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    let mut daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    let id = daemon.process.id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it was written").trim(), id);

    let mut second = ppserver(home.path(), &["-P", text(&file), "-p", "0", "-i", "127.0.0.1"]);
    let running = format!("another ppserver (process {id}) runs");
    Ended::failing(second.env("PP_SECRET", SECRET), &[&running, text(&file), "-P"]);
    assert_eq!(fs::read_to_string(&file).expect("it is still there").trim(), id);
    assert!(daemon.authenticate(SECRET).is_ok(), "the first one is not disturbed");

    daemon.process.signal(Signal::TERM);
    assert_eq!(daemon.process.wait().code(), Some(0));
    assert!(!file.exists(), "it is removed");
}

#[test]
fn the_pid_file_of_a_daemon_that_was_killed_is_replaced() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    let mut killed = Daemon::start(home.path(), &["-P", text(&file)]);
    killed.process.kill();
    assert!(file.exists(), "nobody removed it");
    let daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    let id = daemon.process.id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it was written").trim(), id);
}

#[test]
fn a_pid_file_that_cannot_be_written_is_an_error() {
    let home = home();
    let mut command = ppserver(home.path(), &["-P", "/proc/no/such.pid", "-p", "0", "-i", "127.0.0.1"]);
    let parts = ["cannot write the pid file /proc/no/such.pid", "-P", "directory"];
    Ended::failing(command.env("PP_SECRET", SECRET), &parts);
}

#[test]
fn a_file_that_is_no_pid_file_is_left_alone() {
    let home = home();
    let path = |name: &str| home.path().join(name);
    fs::write(path("notes.txt"), "buy milk\n").expect("a file");
    fs::write(path("long.txt"), "1".repeat(100)).expect("a file");
    fs::write(path("two.txt"), "1\n2\n").expect("a file");
    fs::create_dir(path("directory")).expect("a directory");
    fs::write(path("target.pid"), "").expect("a file");
    std::os::unix::fs::symlink(path("target.pid"), path("link.pid")).expect("a link");
    for (name, part) in [
        ("notes.txt", "something else"),
        ("long.txt", "something else"),
        ("two.txt", "something else"),
        ("directory", "is a directory"),
        ("link.pid", "is a symbolic link"),
        ("/dev/null", "is a device"),
    ] {
        let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1", "-P", text(&path(name))]);
        Ended::failing(command.env("PP_SECRET", SECRET), &[text(&path(name)), part, "left alone", "-P"]);
    }
    assert_eq!(fs::read_to_string(path("notes.txt")).expect("it is there"), "buy milk\n");
    assert_eq!(fs::read_to_string(path("two.txt")).expect("it is there"), "1\n2\n");
    assert!(path("link.pid").is_symlink() && path("target.pid").exists());
}

#[test]
fn a_pid_file_whose_number_is_somebody_elses_by_now_does_not_keep_it_from_starting() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().expect("it can be started");
    fs::write(&file, format!("{}\n", other.id())).expect("a file");
    // The daemon that wrote it ended an hour ago, and its number was given to another process since.
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_modified(an_hour_ago))
        .expect("a time");
    let daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    let id = daemon.process.id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it was written").trim(), id);
    other.kill().and_then(|()| other.wait()).expect("it is there");
}

#[test]
fn the_pid_file_of_another_program_that_runs_is_left_alone() {
    let home = home();
    let file = home.path().join("other.pid");
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().expect("it can be started");
    let number = format!("{}\n", other.id());
    fs::write(&file, &number).expect("a file");
    let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1", "-P", text(&file)]);
    let process = format!("process {} (sleep), which runs", other.id());
    Ended::failing(command.env("PP_SECRET", SECRET), &[text(&file), &process, "left alone", "-P"]);
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), number);
    other.kill().and_then(|()| other.wait()).expect("it is there");
    let daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    let id = daemon.process.id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it was written").trim(), id);
}

#[test]
fn with_too_few_descriptors_it_says_which_limit_and_what_to_do() {
    let home = home();
    for limit in [4, 5, 6, 7, 8, 9, 10, 11, 16] {
        let mut command = process::command("prlimit", home.path());
        command.args([&format!("--nofile={limit}"), env!("CARGO_BIN_EXE_ppserver"), "-p", "0"]);
        let parts = [&*format!("this process may have {limit} descriptors"), "ulimit -n", "LimitNOFILE="];
        Ended::failing(command.env("PP_SECRET", SECRET), &parts);
    }
}

#[test]
fn a_small_stack_is_enough() {
    let home = home();
    let mut command = process::command("sh", home.path());
    command.args(["-c", "ulimit -s 64; exec \"$0\"", env!("CARGO_BIN_EXE_ppserver")]);
    let daemon = Daemon::start_as(command.env("PP_SECRET", SECRET));
    assert!(daemon.authenticate(SECRET).is_ok());
}

#[test]
fn of_daemons_that_start_at_once_with_one_pid_file_one_runs() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    let start = || {
        let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1", "-P", text(&file)]);
        Process::start(command.env("PP_SECRET", SECRET))
    };
    let daemons: Vec<_> = (0..8).map(|_| start()).collect();
    let has = |daemon: &Process, part| daemon.stderr().contains(part);
    wait_until("each to run or to give up", || {
        daemons.iter().all(|daemon| has(daemon, "listens on") || has(daemon, "another ppserver"))
    });
    let running: Vec<_> = daemons.iter().filter(|daemon| has(daemon, "listens on")).collect();
    assert_eq!(running.len(), 1);
    let id = running[0].id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it was written").trim(), id);
}

#[test]
fn a_pid_file_that_was_replaced_while_it_ran_is_left_alone() {
    let home = home();
    let file = home.path().join("ppserver.pid");
    let mut daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    fs::remove_file(&file).expect("it is there");
    let next = Daemon::start(home.path(), &["-P", text(&file)]);
    daemon.process.signal(Signal::TERM);
    assert_eq!(daemon.process.wait().code(), Some(0));
    let id = next.process.id().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&file).expect("it is that of the next one").trim(), id);
    assert!(!daemon.process.stderr().contains("pid file"), "{}", daemon.process.stderr());
}

#[test]
fn the_pid_file_of_another_users_daemon_keeps_a_second_one_out() {
    use std::os::unix::process::CommandExt;

    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be somebody else");
    }
    let (home, theirs) = (home(), home());
    let file = home.path().join("ppserver.pid");
    let daemon = Daemon::start(home.path(), &["-P", text(&file)]);
    let nobody = 65_534;
    std::os::unix::fs::chown(theirs.path(), Some(nobody), Some(nobody)).expect("root may");
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("its mode is set");
    // A copy, since nobody else may look into the directory that this was built in.
    let program = theirs.path().join("ppserver");
    pp_tests::process::copy_program(env!("CARGO_BIN_EXE_ppserver"), &program);
    let mut command = pp_tests::process::command(&program, theirs.path());
    command.args(["-p", "0", "-i", "127.0.0.1", "-P", text(&file)]).uid(nobody).gid(nobody);
    let id = daemon.process.id().as_raw_nonzero();
    let running = format!("another ppserver (process {id}) runs");
    Ended::failing(command.env("PP_SECRET", SECRET).current_dir("/"), &[&running, "-P"]);
    assert!(file.exists());
}

#[test]
fn a_port_that_is_taken_leaves_no_pid_file() {
    let home = home();
    let first = Daemon::start(home.path(), &[]);
    let file = home.path().join("second.pid");
    let port = first.address.port().to_string();
    let mut second = ppserver(home.path(), &["-P", text(&file), "-p", &port, "-i", "127.0.0.1"]);
    Ended::failing(second.env("PP_SECRET", SECRET), &["is taken"]);
    assert!(!file.exists());
}

#[test]
fn it_exits_once_it_was_idle_for_as_long_as_told() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &["-t", "1"]);
    assert_eq!(daemon.process.wait().code(), Some(0), "{}", daemon.process.stderr());
    daemon.process.wait_for_stderr("no dispatcher for so long");
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_alive_and_stopping() {
    const PATIENCE: Duration = Duration::from_millis(300);
    let home = home();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    let next = || {
        let mut text = [0; 1024];
        let count = socket.recv(&mut text).expect("something is said in time");
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    let mut command = ppserver(home.path(), &[]);
    command.env("PP_SECRET", SECRET).env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", PATIENCE.as_micros().to_string());
    let mut daemon = Daemon::start_as(&mut command);
    let ready = next();
    assert!(
        ready.contains("READY=1") && ready.contains(&format!("STATUS=listens on {}", daemon.address)),
        "{ready}"
    );
    assert!((0..3).all(|_| next().contains("WATCHDOG=1")));
    // One that hangs is not reported to be alive.
    daemon.process.signal(Signal::STOP);
    socket.set_read_timeout(Some(2 * PATIENCE)).expect("a limit");
    let mut text = [0; 1024];
    wait_until("what was under way to arrive, and then silence", || socket.recv(&mut text).is_err());
    daemon.process.signal(Signal::CONT);
    daemon.process.signal(Signal::TERM);
    wait_until("it to say that it stops", || next().contains("STOPPING=1"));
    assert_eq!(daemon.process.wait().code(), Some(0));
}
