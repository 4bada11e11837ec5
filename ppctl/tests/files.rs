//! Files that `ppctl run` sends to nodes and brings back.
//!
//! This machine's cores take part in each run, and need no files: what is to be seen is seen in the jobs that the node ran.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use pp_tests::process::{self, Process, SECRET, Server};
use pp_tests::wait::wait_until;
use pp_tests::wiretap::Wiretap;

/// `ppctl run` in the home directory of a node, beside it.
fn run_beside(server: &Server) -> Command {
    let mut command = run_at(server, &server.address());
    command.arg("-j1");
    command
}

/// The same, with another address of it.
fn run_at(server: &Server, address: &str) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    command.args(["run", "--node", address, "--joblog", "log"]);
    command
}

/// Numbers and exit codes of the jobs that a node ran, by the job log.
fn on_the_node(home: &Path) -> Vec<(usize, i32)> {
    let log = fs::read(home.join("log")).expect("it is written");
    let log = String::from_utf8_lossy(&log);
    let on_node = log.lines().skip(1).filter(|line| !line.contains("\t:\t"));
    let parse = |line: &str| {
        let columns: Vec<_> = line.split('\t').collect();
        Some((columns[0].parse().ok()?, columns.get(6)?.parse().ok()?))
    };
    let mut jobs: Vec<_> = on_node.filter_map(parse).collect();
    jobs.sort_unstable();
    assert!(!jobs.is_empty(), "the node ran none:\n{log}");
    jobs
}

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|number| number.to_string())
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
    let on_node = on_the_node(home);
    assert!(on_node.len() < FILES, "{on_node:?}");
    // Each found its own file there, and no other.
    let seen: Vec<_> =
        on_node.iter().flat_map(|(number, _)| [format!("{number}.out"), format!("{number}.txt")]).collect();
    assert_eq!(run.stdout().lines().collect::<Vec<_>>(), seen);
}

#[test]
fn names_are_only_bytes() {
    let server = Server::start(2);
    let home = server.home();
    let mut names: Vec<OsString> = [
        "-rf",
        "--",
        "two\nlines",
        "'",
        "\"",
        "$(touch ran)",
        "`touch ran`",
        ";touch ran;",
        "a b",
        " ",
        "*",
        "?",
        "~",
        "\\",
        "{}x",
        "#",
        "&",
        "%s",
        "...",
        "\u{202e}",
        "\t",
        "!",
        "<",
        ">",
    ]
    .map(OsString::from)
    .into();
    names.extend((0..24).map(|number| OsString::from(format!("plain{number}"))));
    names.push(OsString::from_vec(b"\xff\xfe".to_vec()));
    names.push("n".repeat(250).into());
    assert_eq!(names.len(), 50);
    let mut input = Vec::new();
    for name in &names {
        fs::write(home.join(name), name.as_bytes()).expect("it can be written");
        input.extend_from_slice(&[name.as_bytes(), b"\0"].concat());
    }
    let mut command = run_beside(&server);
    command.args(["-0", "--transferfile", "{}", "--return", "{}.out", "sleep 0.05; cat < ./{} > ./{}.out"]);
    let mut run = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    run.stdin.take().expect("it is piped").write_all(&input).expect("it reads");
    let ended = run.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    for name in &names {
        let returned = home.join(OsString::from_vec([name.as_bytes(), b".out"].concat()));
        assert_eq!(fs::read(returned).expect("it came back"), name.as_bytes(), "{name:?}");
    }
    assert!(!home.join("ran").exists());
    on_the_node(home);
}

#[test]
fn what_leads_out_does_not_leave_a_node_and_is_not_written_here() {
    let server = Server::start(2);
    let home = server.home();
    let elsewhere = tempfile::tempdir().expect("a directory");
    symlink(elsewhere.path(), home.join("out")).expect("it can be made");
    // On the node a link leads to what is none of the job's; here one leads to where nothing is to be written.
    let script =
        "sleep 0.2; [ $PARALLEL_SSHHOST = : ] && exit 0; ln -s /etc/passwd link{}; mkdir out; echo > out/{}";
    for (returned, told) in [("link{}", "was not returned"), ("out/{}", "cannot write what was returned")] {
        let mut command = run_beside(&server);
        command.args(["--return", returned, script, ":::"]).args(numbers(6));
        let mut run = Process::start(&mut command);
        // On this machine they are missing.
        assert_eq!(run.wait().code(), Some(6), "{}", run.stderr());
        for (number, exit) in on_the_node(home) {
            let path = returned.replace("{}", &number.to_string());
            assert_eq!(exit, 255);
            let said = run.stderr();
            let line = said.lines().find(|line| line.contains(&path)).expect("it is named");
            assert!(line.contains(told) && line.contains("leads out of the directory"), "{line}");
            assert!(fs::symlink_metadata(home.join(format!("link{number}"))).is_err(), "{path} is here");
        }
    }
    assert_eq!(fs::read_dir(elsewhere.path()).expect("it is there").count(), 0);
}

#[test]
fn what_comes_back_is_for_whom_new_files_here_are() {
    let server = Server::start(2);
    let home = server.home();
    let script = "umask 077; sleep 0.2; echo > {}.out; echo > {}.tool; chmod u+x {}.tool";
    let mut command = run_beside(&server);
    command.args(["--not-node", ":", "--return", "{}.out", "--return", "{}.tool", script, ":::", "1"]);
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    let mode = |name: &str| fs::metadata(home.join(name)).expect("it is there").permissions().mode() & 0o777;
    fs::write(home.join("usual"), "").expect("it can be written");
    assert_eq!(mode("1.out"), mode("usual"));
    assert_eq!(mode("1.tool") & 0o666, mode("usual"));
    assert_eq!(mode("1.tool") & 0o111, (mode("usual") & 0o444) >> 2, "those run it who may read it");
}

#[test]
fn what_cannot_be_sent_is_named_before_anything_is_run() {
    let server = Server::start(1);
    let home = server.home();
    symlink("/etc/passwd", home.join("link")).expect("it can be made");
    fs::create_dir(home.join("directory")).expect("it can be made");
    let fifo = Command::new("mkfifo").arg(home.join("fifo")).status();
    assert!(fifo.expect("there is mkfifo").success());
    let large = fs::File::create(home.join("large")).expect("it can be made");
    large.set_len(513 << 20).expect("it is sparse");
    let cases = [
        ("missing", "no such file"),
        ("link", "leads out"),
        ("directory", "is a directory"),
        ("fifo", "is a FIFO"),
        ("large", "more than 512 MiB"),
        ("../up", ".. in it"),
        ("/etc/passwd", "is absolute"),
    ];
    let mut command = run_beside(&server);
    command.args(["-k", "--transferfile", "{}", "touch ran{#}", ":::"]).args(cases.map(|(name, _)| name));
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(cases.len() as i32), "{}", run.stderr());
    let said = run.stderr();
    for ((name, reason), line) in cases.iter().zip(said.lines()) {
        assert!(line.contains(&format!("cannot be sent: {name}: ")) && line.contains(reason), "{line}");
    }
    assert!(!home.join("ran1").exists());
    let mut command = run_beside(&server);
    command.args(["--return", "../{}", "--return", "/{}", "--return", "x", "touch ran{}", ":::", "1"]);
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(1));
    let said = run.stderr();
    assert!(said.starts_with("ppctl: job 1 (touch ran1): its file cannot be returned: ../1: "), "{said}");
    assert!(said.trim_end().ends_with("(and 1 more)") && !home.join("ran1").exists(), "{said}");
}

#[test]
fn a_file_that_does_not_come_back_fails_its_job_and_what_a_job_misses_is_hinted_at_once() {
    let server = Server::start(2);
    let home = server.home();
    let mut command = run_beside(&server);
    command.args(["--return", "{}.out", "sleep 0.2; : {}", ":::"]).args(numbers(8));
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(8), "here and there");
    on_the_node(home);
    for number in numbers(8) {
        let told = format!(
            "job {number} (sleep 0.2; : {number}): {number}.out was not returned: there is no such file"
        );
        assert!(run.stderr().contains(&told), "{}", run.stderr());
    }
    for name in numbers(8) {
        fs::write(home.join(name), "").expect("it can be written");
    }
    let mut run = Process::start(run_beside(&server).args(["sleep 0.2; cat {}", ":::"]).args(numbers(8)));
    assert_eq!(run.wait().code(), Some(on_the_node(home).len() as i32));
    assert_eq!(run.stderr().matches("--transferfile").count(), 1, "{}", run.stderr());
    let shared = tempfile::tempdir().expect("a directory");
    for (options, hint) in [
        (&["--wd", shared.path().to_str().expect("text")][..], None),
        (
            &["--transferfile", "{}"],
            Some("there it has only the files that --transferfile and --basefile name"),
        ),
    ] {
        let mut command = run_beside(&server);
        command.args(options).args(["sleep 0.2; cat {}.missing", ":::"]).args(numbers(8));
        let mut run = Process::start(&mut command);
        run.wait();
        on_the_node(home);
        let said = run.stderr();
        let hints: Vec<_> =
            said.lines().filter(|line| line.contains("a job found no such file on ")).collect();
        assert_eq!(hints.len(), usize::from(hint.is_some()), "{said}");
        assert!(hints.iter().all(|line| hint.is_some_and(|hint| line.ends_with(hint))), "{said}");
    }
}

#[test]
fn a_directory_that_is_named_has_what_is_sent_and_is_cleaned_up() {
    let server = Server::start(2);
    let home = server.home();
    let shared = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.join("in")).expect("it can be made");
    fs::write(shared.path().join("own"), "").expect("it can be written");
    for name in numbers(8) {
        fs::write(home.join("in").join(&name), &name).expect("it can be written");
    }
    let script = "sleep 0.2; cp in/{/} in/{/}.out; pwd; ls in/{/}";
    let shared_path = shared.path().to_str().expect("text");
    let mut command = run_beside(&server);
    command.args(["--not-node", ":", "--wd", shared_path, "--trc", "{}.out", script, ":::"]);
    let mut run = Process::start(command.args(numbers(8).map(|name| format!("in/{name}"))));
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    let jobs = on_the_node(home);
    for (number, _) in &jobs {
        let returned = fs::read_to_string(home.join(format!("in/{number}.out"))).expect("it came back");
        assert_eq!(returned, number.to_string());
    }
    assert_eq!(run.stdout().matches(shared_path).count(), jobs.len());
    let left: Vec<_> =
        fs::read_dir(shared.path()).expect("it is there").flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["own"]);
    // An empty one is a job's own everywhere, and has its files everywhere.
    let mut command = run_beside(&server);
    command.args(["--wd", "...", "--trc", "{}.new", "sleep 0.1; mv {} {}.new; ls -R; pwd", ":::"]);
    let mut run = Process::start(command.args(numbers(8).map(|name| format!("in/{name}"))));
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    let directories: BTreeSet<_> =
        run.stdout().lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect();
    assert_eq!(directories.len(), 8, "{}", run.stdout());
    for name in numbers(8) {
        assert_eq!(fs::read_to_string(home.join(format!("in/{name}.new"))).expect("it came back"), name);
        assert!(home.join("in").join(&name).exists(), "what was sent is here still");
    }
}

#[test]
fn a_node_that_dies_costs_no_file() {
    const FILES: usize = 60;
    let mut server = Server::start(2);
    let home = server.home().to_path_buf();
    for name in numbers(FILES) {
        fs::write(home.join(&name), vec![b'x'; 300_000]).expect("it can be written");
    }
    let mut command = run_beside(&server);
    command.args(["--trc", "{}.out", "sleep 0.05; tr x y < {} > {}.out", ":::"]).args(numbers(FILES));
    let mut run = Process::start(&mut command);
    let log = home.join("log");
    let ran_there = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .skip(1)
            .filter(|it| !it.contains("\t:\t"))
            .count()
    };
    wait_until("the node to run some", || ran_there() > 6);
    server.process().kill();
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    for name in numbers(FILES) {
        let returned = fs::read(home.join(format!("{name}.out"))).expect("it is there");
        assert!(returned.len() == 300_000 && returned.iter().all(|byte| *byte == b'y'), "{name}");
    }
}

#[test]
fn a_base_file_is_sent_to_a_node_once_whatever_its_jobs_do_to_it() {
    const MIB: usize = 1 << 20;
    let server = Server::start(8);
    let home = server.home();
    // It cannot be packed.
    let mut base = vec![0; 20 * MIB];
    let mut random = fs::File::open("/dev/urandom").expect("it is Linux");
    std::io::Read::read_exact(&mut random, &mut base).expect("it does not end");
    fs::create_dir(home.join("data")).expect("it can be made");
    fs::write(home.join("data/base"), &base).expect("it can be written");
    let tap = Wiretap::start(server.address().parse().expect("an address"));
    let mut command = run_at(&server, &tap.address.to_string());
    let script =
        "sleep 0.1; [ $PARALLEL_SSHHOST = : ] || { cksum < base; chmod u+w base; echo more >> base; }; : {}";
    command.args(["--basefile", "data/./base", script, ":::"]).args(numbers(40));
    let mut run = Process::start(&mut command);
    assert_eq!(run.wait().code(), Some(0), "{}", run.stderr());
    let jobs = on_the_node(home);
    assert!(jobs.len() > 16, "{jobs:?}");
    let seen: BTreeSet<_> = run.stdout().lines().map(str::to_owned).collect();
    assert_eq!(
        (seen.len(), run.stdout().lines().count()),
        (1, jobs.len()),
        "it is the same for all: {seen:?}"
    );
    let sent = tap.recorded().iter().map(Vec::len).max().expect("they spoke");
    assert!((20 * MIB..22 * MIB).contains(&sent), "{sent} bytes were sent");
    // It went with the session.
    let kept = || fs::read_dir(home.join(".cache/ppserver")).into_iter().flatten().flatten();
    let sessions = || kept().filter(|it| it.file_name().as_bytes().starts_with(b"kept-"));
    assert_eq!(sessions().count(), 1, "the node has a place for what is kept");
    wait_until("it to be removed", || {
        sessions().all(|it| fs::read_dir(it.path()).is_ok_and(|mut it| it.next().is_none()))
    });
}
