//! `ppctl run` beside GNU parallel: the same command lines, the same bytes, the same exit codes.

#[path = "run/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pp_tests::network::Network;
use pp_tests::process::{self, Process, SECRET, Server, ServerOptions, Signal};
use pp_tests::wait::wait_until;
use rows::{Row, TABLE};
use tempfile::TempDir;

/// Where the files are that command lines speak of.
fn files() -> TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("abc", "A\nB\nC\n"),
        ("n3", "1\n2\n3\n"),
        ("tsv", "x\ty\n1\t2\n3\t4\n"),
        ("ten", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"),
        ("paragraphs", "a\n\nbb\nc\n\nd"),
        ("starts", ">a\n1\n>b\n>c\n2\n"),
        ("long", "1\nxxxxxxxxxxxxxxxxxxxx\n2\n"),
    ] {
        fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

fn ppctl() -> String {
    format!("{} run", env!("CARGO_BIN_EXE_ppctl"))
}

/// Runs a command line in a shell.
fn shell(folder: &Path, line: &str, input: &[u8]) -> Output {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PP_DISCOVER", "0")
        .env("PARALLEL_SHELL", "/bin/sh")
        .env("HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    // It need not read any of it.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn has_parallel() -> bool {
    let run = Command::new("parallel").arg("--version").env("HOME", "/nonexistent").output();
    run.is_ok_and(|run| run.stdout.starts_with(b"GNU parallel"))
}

/// The input that a command line begins with, and the rest of it.
fn input_of(line: &str) -> (&str, &str) {
    match line.strip_prefix('%').and_then(|rest| rest.split_once('%')) {
        Some((input, line)) => (input, line),
        None => ("", line),
    }
}

/// Rows at once; many of them wait.
const AT_ONCE: usize = 4;
/// Of so many rows, GNU parallel is asked of one, unless `PP_PARALLEL=all` says of each, which takes half a minute or more.
const ASKED_OF: usize = 6;

#[test]
fn the_same_command_lines_print_the_same_as_gnu_parallel() {
    let folder = files();
    let is_there = has_parallel();
    if !is_there {
        println!("GNU parallel is not here: compared with what it printed when this was written");
    }
    let asks_all = std::env::var_os("PP_PARALLEL").is_some_and(|value| value == "all");
    let rows: Vec<(usize, &Row)> = TABLE.iter().enumerate().collect();
    let wrong = |(number, row): &(usize, &Row)| {
        let is_asked = is_there && (asks_all || number % ASKED_OF == 0);
        let theirs = is_asked.then(|| wrong(folder.path(), "parallel", row)).flatten();
        [wrong(folder.path(), &ppctl(), row), theirs]
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let of_part = |part| scope.spawn(move || Vec::from_iter(<[_]>::iter(part).flat_map(wrong).flatten()));
        let parts: Vec<_> = rows.chunks(rows.len().div_ceil(AT_ONCE)).map(of_part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("it does not panic")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a program prints for a row, if that is not what stands there.
fn wrong(folder: &Path, program: &str, (line, printed, code): &Row) -> Option<String> {
    let (input, line) = input_of(line);
    let output = shell(folder, &format!("{program} -k {line}"), input.as_bytes());
    let (prints, its_code) = (String::from_utf8_lossy(&output.stdout), output.status.code());
    let said = String::from_utf8_lossy(&output.stderr);
    ((&*prints, its_code) != (printed, Some(*code))).then(|| {
        format!("{program} {line}\n  prints {prints:?} ({its_code:?}), not {printed:?} ({code}): {said}")
    })
}

#[test]
fn output_is_bytes_and_two_jobs_do_not_mix() {
    let folder = files();
    let line = format!("{} -k 'head -c 4 /dev/zero | tr \\\\0 \\\\377; echo {{}}' ::: 1 2", ppctl());
    assert_eq!(shell(folder.path(), &line, b"").stdout, b"\xff\xff\xff\xff1\n\xff\xff\xff\xff2\n");
    let line = format!("{} 'head -c 67108864 /dev/urandom | tee big{{}} | cat' ::: 1", ppctl());
    let output = shell(folder.path(), &line, b"").stdout;
    assert!(
        output == fs::read(folder.path().join("big1")).expect("it was written"),
        "64 MiB arrive unchanged"
    );
}

#[test]
fn whoever_stops_reading_has_seen_enough() {
    let folder = files();
    let line = format!("{} -j1 'sleep 0.1; echo' ::: 1 2 3 4 5 | head -n 1", ppctl());
    let Output { stdout, stderr, .. } = shell(folder.path(), &line, b"");
    assert_eq!((&stdout[..], String::from_utf8_lossy(&stderr).as_ref()), (&b"1\n"[..], ""));
}

#[test]
fn the_first_output_is_there_before_the_input_ends() {
    for arguments in [&["echo"][..], &["--pipe", "--block", "6", "cat"]] {
        let folder = files();
        let mut child = process::command(env!("CARGO_BIN_EXE_ppctl"), folder.path())
            .arg("run")
            .args(arguments)
            .env("PP_DISCOVER", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (mut input, mut output) =
            (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        input.write_all(b"first\n").expect("it reads");
        let mut line = [0; 6];
        std::io::Read::read_exact(&mut output, &mut line).expect("it prints");
        assert_eq!(&line, b"first\n");
        input.write_all(b"second\n").expect("it reads on");
        drop(input);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut output, &mut rest).expect("it prints");
        assert_eq!((rest.as_str(), child.wait().expect("it ends").code()), ("second\n", Some(0)));
    }
}

#[test]
fn input_without_end_is_read_no_further_than_memory_is_meant_for_it() {
    let folder = files();
    let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().expect("it starts");
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), folder.path());
    command.args(["run", "-j2", "--pipe", "--block", "32M", "sleep", "100"]).env("PP_DISCOVER", "0");
    let run = Process::start(command.stdin(yes.stdout.take().expect("it is piped")));
    let figure = |file: &str, name: &str| -> usize {
        let path = format!("/proc/{}/{file}", run.id().as_raw_nonzero());
        let text = fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim_end_matches(" kB").trim().parse().expect("a number")
    };
    let (mut read, mut since) = (0, Instant::now());
    wait_until("it to read no more", || {
        let reads = figure("io", "rchar:");
        if reads != read {
            (read, since) = (reads, Instant::now());
        }
        read > 64 << 20 && since.elapsed() > Duration::from_secs(1)
    });
    // Eight blocks, and once more what is sent.
    assert!(read < 300 << 20, "{} MiB were read", read >> 20);
    assert!(figure("status", "VmHWM:") < 700 << 10, "{} MiB are held", figure("status", "VmHWM:") >> 10);
    yes.kill().and_then(|()| yes.wait()).expect("it can be ended");
}

#[test]
fn an_interrupted_run_ends_at_once_and_leaves_nothing_running() {
    let folder = files();
    let mark = format!("86{}", std::process::id());
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), folder.path());
    let line = format!("setsid sleep {mark} & sleep {mark}");
    let mut run =
        Process::start(command.args(["run", "-j2", &line, ":::", "1", "2"]).env("PP_DISCOVER", "0"));
    wait_until("the jobs to run", || sleeping(&mark) == 4);
    let interrupted = Instant::now();
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(255));
    assert!(interrupted.elapsed() < Duration::from_secs(2), "it took {:?}", interrupted.elapsed());
    wait_until("its jobs to be gone", || sleeping(&mark) == 0);
}

#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let folder = files();
    let gate = folder.path().join("gate");
    let line = format!(
        "trap '' HUP; exec {} -j1 'while [ ! -e gate ]; do sleep 0.05; done; echo ended' ::: a",
        ppctl()
    );
    let mut command = process::command("/bin/sh", folder.path());
    command.args(["-c", &line]).env("PP_DISCOVER", "0").current_dir(folder.path());
    let mut run = Process::start(&mut command);
    wait_until("the job to run", || sleeping("0.05") > 0);
    run.signal(Signal::HUP);
    fs::write(gate, "").expect("it can be written");
    assert_eq!((run.wait().code(), run.stdout().as_str()), (Some(0), "ended a"), "{}", run.stderr());
}

/// Processes that sleep for so long.
fn sleeping(mark: &str) -> usize {
    let wanted = format!("sleep\0{mark}");
    let processes = fs::read_dir("/proc").expect("it is Linux").flatten();
    processes
        .filter(|it| {
            fs::read(it.path().join("cmdline")).is_ok_and(|line| line.starts_with(wanted.as_bytes()))
        })
        .count()
}

#[test]
fn a_run_goes_on_where_an_earlier_one_was_stopped() {
    let steps = |program: &str| {
        let folder = files();
        [
            "--joblog log 'exit {}' ::: 0 2",
            "--joblog log --resume 'echo re {}' ::: 0 2 7",
            "--joblog log --resume-failed 'echo rf {}' ::: 0 2 7",
            "--joblog log --resume-failed 'echo rf {}' ::: 0 2 7",
            "--joblog log 'echo {}; exit {}' ::: 0 4",
            "--joblog log --retry-failed",
        ]
        .map(|step| {
            let output = shell(folder.path(), &format!("{program} -k -j1 {step}; cut -f 1,7,9 log"), b"");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let ours = steps(&ppctl());
    let last = "4\nSeq\tExitval\tCommand\n1\t0\techo 0; exit 0\n2\t4\techo 4; exit 4\n2\t4\techo 4; exit 4\n";
    assert_eq!(ours[5], last);
    assert!(ours[2].starts_with("rf 2\nSeq") && ours[3].starts_with("Seq"), "{ours:?}");
    if has_parallel() {
        assert_eq!(ours, steps("parallel"));
    }
}

#[test]
fn what_another_run_had_under_the_same_number_is_said() {
    let folder = files();
    let run = |arguments: &str| shell(folder.path(), &format!("{} {arguments}", ppctl()), b"");
    run("--joblog log echo ::: a b");
    let said = run("--joblog log --resume echo ::: a c").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("job 2") && said.contains("echo b") && !said.contains("job 1"), "{said}");
    let said = run("--tmux echo ::: a").stderr;
    assert!(String::from_utf8_lossy(&said).contains("--tmux is not offered"), "{said:?}");
}

#[test]
fn a_node_runs_what_it_is_sent_and_one_that_is_not_there_is_named() {
    let server = Server::start(2);
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    let address = server.address().to_string();
    command.args(["run", "-k", "--joblog", "log", "--node", &address, "--node", "127.0.0.1:1"]);
    command.args(["sleep 0.2; echo $PARALLEL_SSHHOST", ":::"]).args((0..20).map(|n| n.to_string()));
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    let hosts: BTreeSet<_> =
        run.stdout().lines().map(|line| line.split(' ').next().map(str::to_owned)).collect();
    let log = fs::read_to_string(server.home().join("log")).expect("it is written");
    let logged: BTreeSet<_> =
        log.lines().skip(1).map(|line| line.split('\t').nth(1).map(str::to_owned)).collect();
    assert_eq!(hosts.len(), 2, "this machine and the node: {}", run.stdout());
    assert_eq!(hosts, logged);
    assert!(run.stderr().contains("127.0.0.1:1: unreachable"), "{}", run.stderr());
}

#[test]
fn a_node_that_dies_in_a_run_costs_no_job_and_none_is_told_twice() {
    const JOBS: usize = 500;
    let mut server = Server::start(2);
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    command.args(["run", "-k", "-j1", "--joblog", "log", "--node", &server.address()]);
    command.args(["sleep 0.01; echo", ":::"]).args((1..=JOBS).map(|n| n.to_string()));
    let mut run = Process::start(&mut command);
    let log = server.home().join("log");
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    let on_the_node = || logged().lines().skip(1).filter(|line| !line.contains("\t:\t")).count();
    wait_until("the node to run some", || on_the_node() > 20);
    server.process().kill();
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    assert!(run.stdout().lines().eq((1..=JOBS).map(|n| n.to_string())), "{}", run.stdout());
    let mut numbers: Vec<usize> =
        logged().lines().skip(1).filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=JOBS).collect::<Vec<_>>());
}

#[test]
fn blocks_that_a_node_had_when_it_died_are_given_to_others() {
    const BLOCKS: usize = 300;
    let mut server = Server::start(2);
    let lines: String = (1..=BLOCKS * 10).map(|number| format!("{number}\n")).collect();
    fs::write(server.home().join("lines"), lines).expect("it can be written");
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    command.args(["run", "-k", "-j1", "--joblog", "log", "--node", &server.address()]);
    command.args(["--pipe", "-N10", "sleep 0.01; cat"]);
    command.stdin(fs::File::open(server.home().join("lines")).expect("it can be opened"));
    let mut run = Process::start(&mut command);
    let log = server.home().join("log");
    wait_until("the node to have some", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.lines().skip(1).filter(|line| !line.contains("\t:\t")).count() > 20
    });
    server.process().kill();
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    assert!(run.stdout().lines().eq((1..=BLOCKS * 10).map(|n| n.to_string())), "{}", run.stdout());
}

#[test]
fn the_job_log_has_a_line_for_each_job_as_gnu_parallel_writes_it() {
    let folder = files();
    let line = format!("{} --joblog log 'printf abc; exit {{}}' ::: 0 2", ppctl());
    assert_eq!(shell(folder.path(), &line, b"").status.code(), Some(1));
    let log = fs::read_to_string(folder.path().join("log")).expect("it is written");
    let mut lines: Vec<Vec<&str>> = log.lines().map(|line| line.split('\t').collect()).collect();
    let names = lines.remove(0).join(" ");
    assert_eq!(names, "Seq Host Starttime JobRuntime Send Receive Exitval Signal Command");
    lines.sort();
    let told: Vec<_> =
        lines.iter().map(|line| [line[0], line[1], line[5], line[6], line[7], line[8]]).collect();
    assert_eq!(
        told,
        [["1", ":", "3", "0", "0", "printf abc; exit 0"], ["2", ":", "3", "2", "0", "printf abc; exit 2"]]
    );
}

/// The table once more, where each job runs on a machine that has nothing of this one but what it is sent: another network,
/// and nothing in the directory that ppctl runs in.
#[test]
fn the_same_command_lines_print_the_same_on_a_node_that_shares_nothing() {
    if let Some(reason) = Network::forbidden() {
        return println!("skipped, as no networks can be made here: {reason}");
    }
    let (folder, network) = (files(), Network::start(2));
    let [here, there] = network.hosts() else { panic!("there are two hosts") };
    let empty = format!("mount -t tmpfs none {} && exec \"$@\"", folder.path().display());
    let wrapper = || [there.wrapper(), ["sh", "-c", &empty, "sh"].map(String::from).into()].concat();
    let arguments = || ["-i", &there.address].map(String::from).into();
    let node = || ServerOptions { wrapper: wrapper(), arguments: arguments(), ..ServerOptions::default() };
    // Each run has the slots of its node to itself.
    let servers: Vec<_> = (0..AT_ONCE).map(|_| Server::start_with(node())).collect();
    let run = |server: &Server| {
        let (here, address) = (here.wrapper().join(" "), format!("{}:{}", there.address, server.port()));
        format!("PP_SECRET={SECRET} {here} {} --not-node : --node {address}", ppctl())
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts = TABLE.chunks(TABLE.len().div_ceil(AT_ONCE)).zip(&servers);
        let of_part = |(part, server): (&'static [Row], _)| {
            let (run, folder) = (run(server), folder.path());
            scope.spawn(move || Vec::from_iter(part.iter().filter_map(|row| wrong(folder, &run, row))))
        };
        let parts: Vec<_> = parts.map(of_part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("it does not panic")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let run = run(&servers[0]);
    let where_it_ran = shell(folder.path(), &format!("{run} -k 'ls; pwd' ::: a"), b"");
    let where_it_ran = String::from_utf8_lossy(&where_it_ran.stdout).into_owned();
    assert!(!where_it_ran.contains("abc") && where_it_ran.contains("scratch"), "{where_it_ran}");
}

#[test]
fn a_hundred_thousand_arguments_are_read_as_they_are_needed() {
    const ARGUMENTS: usize = 100_000;
    const AT_ONCE: usize = 1_000;
    let folder = files();
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), folder.path());
    command
        .args(["run", "-k", "-j2", "-N", &AT_ONCE.to_string(), "echo {#} {1} {1000}"])
        .env("PP_DISCOVER", "0");
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let (mut input, output) = (run.stdin.take().expect("piped"), run.stdout.take().expect("piped"));
    let lines: String = (1..=ARGUMENTS).map(|number| format!("{number}\n")).collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).map(|()| input));
    let mut printed = BufReader::new(output).lines().map(|line| line.expect("it is text"));
    for number in 1..=ARGUMENTS / AT_ONCE {
        let (first, last) = ((number - 1) * AT_ONCE + 1, number * AT_ONCE);
        assert_eq!(printed.next(), Some(format!("{number} {first} {last}")));
    }
    let most = process::most_resident(run.id());
    println!("    {} KiB at most", most >> 10);
    assert!(most < 64 << 20, "{most} bytes");
    drop(writing.join().expect("it does not panic").expect("all of it is read"));
    assert_eq!((printed.next(), run.wait().expect("it ends").code()), (None, Some(0)));
}
