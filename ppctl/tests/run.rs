//! `ppctl run` beside GNU parallel: the same command lines, the same bytes, the same exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pp_tests::process::{self, Process, SECRET, Server, Signal};
use pp_tests::wait::wait_until;
use tempfile::TempDir;

/// A command line behind `parallel -k` or `ppctl run -k`, what it prints, and its exit code. `%IN%` before it is its standard
/// input.
type Row = (&'static str, &'static str, i32);

const TABLE: &[Row] = &[
    ("echo ::: a b c", "a\nb\nc\n", 0),
    ("-k -j1 -j 2 -a abc -a n3 echo", "A 1\nA 2\nA 3\nB 1\nB 2\nB 3\nC 1\nC 2\nC 3\n", 0),
    ("echo ::: A B ::: 1 2", "A 1\nA 2\nB 1\nB 2\n", 0),
    ("echo ::: A B C :::+ 1 2 3", "A 1\nB 2\nC 3\n", 0),
    ("--link echo ::: A B C ::: 1 2", "A 1\nB 2\nC 1\n", 0),
    ("echo {2} {1} ::: A B ::: 1 2", "1 A\n2 A\n1 B\n2 B\n", 0),
    ("echo :::: abc n3", "A 1\nA 2\nA 3\nB 1\nB 2\nB 3\nC 1\nC 2\nC 3\n", 0),
    ("-a abc -a n3 --link echo", "A 1\nB 2\nC 3\n", 0),
    (
        "echo {} {.} {/} {//} {/.} {#} ::: dir/sub/f.tar.gz noext ./x.y",
        "dir/sub/f.tar.gz dir/sub/f.tar f.tar.gz dir/sub f.tar 1\nnoext noext noext . noext 2\n./x.y ./x x.y . x 3\n",
        0,
    ),
    ("-j1 echo {%} ::: a b", "1\n1\n", 0),
    (r#"echo ::: 'a  b' 'c;d' '$HOME' "e'f" '*' ''"#, "a  b\nc;d\n$HOME\ne'f\n*\n\n", 0),
    (r#"'echo {}' ::: 'a  b' '$(id)' '|'"#, "a  b\n$(id)\n|\n", 0),
    (r#"'echo "{}"' ::: 'a  b'"#, "'a  b'\n", 0),
    ("-q echo '$HOME {}' ::: 1", "$HOME 1\n", 0),
    ("'echo {} | tr a-z A-Z' ::: abc", "ABC\n", 0),
    ("::: 'echo one' 'echo two'", "one\ntwo\n", 0),
    ("%echo one\necho two\n%", "one\ntwo\n", 0),
    ("%a\0b c\0%-0 echo", "a\nb c\n", 0),
    (r"--colsep '\t' echo {2}-{1} :::: tsv", "y-x\n2-1\n4-3\n", 0),
    (r"--colsep '\t' --header : echo {y}-{x} :::: tsv", "2-1\n4-3\n", 0),
    ("-N2 echo {1}-{2} ::: a b c d e", "a-b\nc-d\ne-\n", 0),
    ("-n2 echo ::: a b c", "a b\nc\n", 0),
    ("-L2 echo :::: abc", "A B\nC\n", 0),
    ("-j1 -X echo pre-{}-post ::: a b c", "pre-a-post pre-b-post pre-c-post\n", 0),
    ("-j1 -m echo pre-{}-post ::: a b c", "pre-a b c-post\n", 0),
    ("-I,, echo ,, ::: a", "a\n", 0),
    (r#"--tag 'printf "l1\nl2\n"' ::: a b"#, "a\tl1\na\tl2\nb\tl1\nb\tl2\n", 0),
    ("--tagstring 'job {#}:' echo ::: a b", "job 1:\ta\njob 2:\tb\n", 0),
    ("--dry-run echo {} ::: 'a b' c", "echo 'a b'\necho c\n", 0),
    ("--dry-run --tag echo ::: a b", "a\techo a\nb\techo b\n", 0),
    ("'exit {}' ::: 0 1 2 3", "", 3),
    ("%%echo x{}", "", 0),
    ("%a\n\nb\n%echo x{}", "xa\nx\nxb\n", 0),
    ("%a\n\nb\n%-r echo x{}", "xa\nxb\n", 0),
    ("%a\nSTOP\nb\n%-E STOP echo x{}", "xa\n", 0),
    ("%a\nSTOP\nb\n%--eof STOP echo x{}", "xa\n", 0),
    ("%a\nb%echo x{}", "xa\nxb\n", 0),
    ("--trim lr echo '[{}]' ::: ' a '", "[a]\n", 0),
    ("echo ::: '{}' '{.}'", "{}\n{.}\n", 0),
    ("echo '{{}}' ::: x", "{x}\n", 0),
    ("--plus echo {..} {%.gz} {#d} {^a} ::: dir/a.tar.gz", "dir/a dir/a.tar ir/a.tar.gz dir/a.tar.gz\n", 0),
    ("--plus echo {#} of {##}: {} ::: a b", "1 of 2: a\n2 of 2: b\n", 0),
    ("--plus --dry-run echo {#} of {##} ::: a b", "echo 1 of 2\necho 2 of 2\n", 0),
    ("-j1 --halt now,fail=1 'echo {}; exit {}' ::: 0 3 0", "0\n3\n", 3),
    ("-j1 --halt soon,fail=1 'echo {}; exit {}' ::: 0 3 0", "0\n3\n", 3),
    ("-j2 --halt now,success=1 'sleep {}; echo {}' ::: 5 0.1", "", 0),
    ("--timeout 1000% 'sleep {}; echo {}' ::: 0.2 0.2 0.2 0.2 9", "0.2\n0.2\n0.2\n0.2\n", 1),
    ("--resume echo ::: a", "", 255),
    (
        "--results out1 echo {1} {2} ::: I II ::: a; cd out1; find . -type f | sort; cat 1/I/2/a/stdout 1/II/2/a/seq",
        "./1/I/2/a/seq\n./1/I/2/a/stderr\n./1/I/2/a/stdout\n./1/II/2/a/seq\n./1/II/2/a/stderr\n./1/II/2/a/stdout\nI a\n2",
        0,
    ),
    (
        "--results 'out2/{}' echo ::: a b; find out2 -type f | sort; cat out2/a out2/b.seq",
        "out2/a\nout2/a.err\nout2/a.seq\nout2/b\nout2/b.err\nout2/b.seq\na\n2",
        0,
    ),
    (
        "--results 'out3/{#}-{.}/' echo ::: a.x; find out3 -type f | sort",
        "out3/1-a/seq\nout3/1-a/stderr\nout3/1-a/stdout\n",
        0,
    ),
    ("--header : --results 'out4/{n}' echo ::: n a; cat out4/a", "a\n", 0),
    ("--results out5 --files --tag echo ::: a b", "a\tout5/1/a/stdout\nb\tout5/1/b/stdout\n", 0),
    ("--files 'echo {}; echo e >&2' ::: a b | xargs cat", "a\nb\n", 0),
    ("-P2 --group --gnu --jl log3 echo ::: a b", "a\nb\n", 0),
    ("-j1 --xargs echo ::: a b", "a b\n", 0),
    ("nosuchcommand ::: a", "", 1),
    ("--retries 3 'echo try; exit 1' ::: a", "try\n", 1),
    ("'cat; echo {}' ::: a", "a\n", 0),
    ("'echo $PARALLEL_SEQ' ::: a b", "1 a\n2 b\n", 0),
    ("'kill -9 $$' ::: a", "", 1),
    ("--wd / pwd ::: a", "/\n", 0),
    ("--timeout 1 'sleep {}; echo {}' ::: 0 9", "0\n", 1),
    ("--pipe --block 8 'echo {#}; cat' < ten", "1\n1\n2\n3\n4\n2\n5\n6\n7\n8\n3\n9\n10\n", 0),
    ("--pipe --block 4 'cat; echo .' < paragraphs", "a\n\n.\nbb\n.\nc\n\n.\nd.\n", 0),
    ("--pipe --block 2 'cat; echo .' < long", "1\n.\nxxxxxxxxxxxxxxxxxxxx\n.\n2\n.\n", 0),
    (r"--pipe -N1 --recend '\n\n' 'cat; echo .' < paragraphs", "a\n\n.\nbb\nc\n\n.\nd.\n", 0),
    (r"--pipe -N1 --recend '\n\n' --rrs 'cat; echo .' < paragraphs", "a.\nbb\nc.\nd.\n", 0),
    ("--pipe -N2 --recstart '>' 'cat; echo .' < starts", ">a\n1\n>b\n.\n>c\n2\n.\n", 0),
    ("--pipe --block 5 --recstart '>' --rrs 'cat; echo .' < starts", "a\n1\n.\nb\n.\nc\n2\n.\n", 0),
    ("--pipe -N4 wc -l < ten", "4\n4\n2\n", 0),
    ("--pipe -n4 --tagstring 'job {#}' head -n 1 < ten", "job 1\t1\njob 2\t5\njob 3\t9\n", 0),
    ("--pipe -L3 --block 10 'tr \"\\n\" ,; echo' < ten", "1,2,3,\n4,5,6,\n7,8,9,\n10,\n", 0),
    ("--pipe -L2 -N2 'tr \"\\n\" ,; echo' < ten", "1,2,3,4,\n5,6,7,8,\n9,10,\n", 0),
    ("--pipe --header : -N4 'tr \"\\n\" ,; echo' < ten", "1,2,3,4,5,\n1,6,7,8,9,\n1,10,\n", 0),
    ("--pipe --recend '' --block 3 'cat; echo .' < starts", ">a\n.\n1\n>.\nb\n>.\nc\n2.\n\n.\n", 0),
    ("--pipe -N4 'cat > /dev/null; exit 1' < ten", "", 3),
    ("--pipe -N4 -q awk '{s += $1} END {print s}' < ten", "10\n26\n19\n", 0),
    ("--pipe --dry-run -N4 'cat {} {#}' < ten", "cat '' 1\ncat '' 2\ncat '' 3\n", 0),
    ("--pipe cat < /dev/null", "", 0),
    ("--pipe -N4 head -n 1 < ten", "1\n5\n9\n", 0),
    (
        "--joblog log2 --pipe -N4 'wc -c' < ten; cut -f 1,5,6 log2 | sort",
        "8\n8\n5\n1\t8\t2\n2\t8\t2\n3\t5\t2\nSeq\tSend\tReceive\n",
        0,
    ),
];

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
