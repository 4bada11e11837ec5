//! Output of `ppctl run` while jobs run: line by line, as it comes, kept in files where it is much; over connections that break and
//! with nodes that die.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use pp_tests::process::{self, Process, SECRET, Server};

/// Options and commands behind `parallel` or `ppctl run`, and what they print.
const TABLE: &[(&str, &str)] = &[
    ("--lb -j1 'echo {}; echo x{}' ::: a b", "a\nxa\nb\nxb\n"),
    ("--line-buffer --tag -j1 'printf \"l1\\nl2\\n\"' ::: a b", "a\tl1\na\tl2\nb\tl1\nb\tl2\n"),
    ("-k --lb -j2 'printf {}; sleep 0.2; echo {}' ::: 1 2", "11\n22\n"),
    ("--lb -j1 'printf abc{}' ::: 1 2", "abc1abc2"),
    ("-k --lb -j3 'echo {}a; sleep 0.{}; echo {}b' ::: 5 3 1", "5a\n5b\n3a\n3b\n1a\n1b\n"),
    ("-k --lb -j2 --tag 'sleep 0.{}; echo x' ::: 3 1", "3\tx\n1\tx\n"),
    ("-u -j1 'printf {}; echo x{}' ::: a b", "axa\nbxb\n"),
    ("--lb 'head -c 3000000 /dev/zero | tr \\\\0 x; echo' ::: a | wc -c", "3000002\n"),
];

fn shell(folder: &Path, line: &str) -> std::process::Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).current_dir(folder).env("PP_DISCOVER", "0").env("HOME", folder);
    command.env("PARALLEL_SHELL", "/bin/sh").stdin(Stdio::null()).output().expect("there is a shell")
}

fn ppctl() -> &'static str {
    env!("CARGO_BIN_EXE_ppctl")
}

#[test]
fn output_that_comes_while_jobs_run_is_what_gnu_parallel_prints() {
    let folder = tempfile::tempdir().expect("a directory");
    let judge = shell(folder.path(), "parallel --version").stdout.starts_with(b"GNU parallel");
    let wrong = thread::scope(|scope| {
        let rows = TABLE.iter().map(|(line, printed)| {
            let folder = folder.path();
            scope.spawn(move || {
                let of = |program: &str| {
                    let output = shell(folder, &format!("{program} {line}"));
                    (String::from_utf8_lossy(&output.stdout).into_owned(), output.stderr)
                };
                let (ours, said) = of(&format!("{} run", ppctl()));
                let ours = (ours != *printed)
                    .then(|| format!("{line}\n  prints {ours:?}: {}", String::from_utf8_lossy(&said)));
                let theirs = judge.then(|| of("parallel").0).filter(|theirs| theirs != printed);
                let theirs = theirs.map(|theirs| format!("{line}\n  GNU parallel prints {theirs:?}"));
                ours.into_iter().chain(theirs).collect::<Vec<_>>()
            })
        });
        let rows: Vec<_> = rows.collect();
        rows.into_iter().flat_map(|row| row.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines of a run's standard output, as they come.
fn lines_of(folder: &Path, arguments: &[&str]) -> (Process, impl Iterator<Item = String> + use<>) {
    let mut command = process::command(ppctl(), folder);
    command.arg("run").args(arguments).current_dir(folder).env("PP_DISCOVER", "0");
    let (reading, writing) = std::io::pipe().expect("a pipe");
    let run = Process::start_writing_to(&mut command, writing);
    drop(command);
    (run, BufReader::new(reading).lines().map(|line| line.expect("it is text")))
}

#[test]
fn lines_of_several_jobs_do_not_mix() {
    let folder = tempfile::tempdir().expect("a directory");
    let script = "for n in $(seq 40); do printf {}; printf ' is '; echo $n; done";
    let line = format!("{} run --lb --tag -j4 \"{}\" ::: a b c d", ppctl(), script.replace('$', "\\$"));
    let output = shell(folder.path(), &line);
    let text = String::from_utf8(output.stdout).expect("it is text");
    for job in ["a", "b", "c", "d"] {
        let its_own = text.lines().filter(|line| line.starts_with(&format!("{job}\t")));
        let expected = (1..=40).map(|n| format!("{job}\t{job} is {n}"));
        assert!(its_own.eq(expected), "{text}");
    }
    assert_eq!(text.lines().count(), 160);
}

#[test]
fn what_a_job_writes_is_there_before_it_ends_and_others_wait_for_their_turn() {
    for arguments in [&["--lb", "-j2"][..], &["-u", "-j2"], &["-k", "--lb", "-j2"]] {
        let folder = tempfile::tempdir().expect("a directory");
        let script = "echo first {}; while [ ! -e go{} ]; do sleep 0.02; done; echo second {}";
        let (mut run, mut lines) = lines_of(folder.path(), &[arguments, &[script, ":::", "1", "2"]].concat());
        let mut next = || lines.next().expect("there is more");
        let go_on =
            |job: &str| fs::write(folder.path().join(format!("go{job}")), "").expect("it can be written");
        if arguments.contains(&"-k") {
            assert_eq!(next(), "first 1");
            go_on("2");
            go_on("1");
            assert_eq!([next(), next(), next()], ["second 1", "first 2", "second 2"]);
        } else {
            let mut first = [next(), next()];
            first.sort();
            assert_eq!(first, ["first 1", "first 2"]);
            go_on("2");
            assert_eq!(next(), "second 2");
            go_on("1");
            assert_eq!(next(), "second 1");
        }
        assert_eq!(run.wait().code(), Some(0));
    }
}

/// A way to a node that can be cut.
struct Cable {
    address: String,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let ends = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (all, target) = (Arc::clone(&ends), target.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let [mut from, mut to] = [from, to].map(|end| end.try_clone().expect("a descriptor"));
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                all.lock().expect("nobody panics with it").extend([near, far]);
            }
        });
        Self { address, ends }
    }

    /// Breaks all connections; whoever connects again can.
    fn cut(&self) {
        for end in self.ends.lock().expect("nobody panics with it").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// On this machine a job waits until there is a file `done`; on the node it writes numbers.
fn on_the_node(count: u32, pause: &str) -> String {
    let numbers = format!("n=0; while [ $n -lt {count} ]; do echo $n; n=$((n+1)); {pause} done");
    format!(
        "if [ $PARALLEL_SSHHOST = : ]; then while [ ! -e done ]; do sleep 0.02; done; else {numbers}; fi; : {{}}"
    )
}

/// A run on this machine's one slot and the node at that address, with the lines that it prints.
fn run_with(
    server: &Server,
    address: &str,
    options: &[&str],
    script: &str,
) -> (Process, impl Iterator<Item = String> + use<>) {
    let mut command = process::command(ppctl(), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    command.args(["run", "-j1", "--node", address]).args(options).args([script, ":::", "1", "2"]);
    let (reading, writing) = std::io::pipe().expect("a pipe");
    let run = Process::start_writing_to(&mut command, writing);
    drop(command);
    (run, BufReader::new(reading).lines().map(|line| line.expect("it is text")))
}

#[test]
fn output_is_whole_and_in_order_over_a_connection_that_breaks_again_and_again() {
    const LINES: u32 = 60_000;
    let server = Server::start(1);
    let cable = Cable::to(&server.address());
    let (mut run, lines) = run_with(&server, &cable.address, &["--lb"], &on_the_node(LINES, ""));
    let mut expected = 0;
    for line in lines {
        assert_eq!(line, expected.to_string());
        expected += 1;
        if expected % 10_000 == 5_000 {
            cable.cut();
        }
        if expected == LINES {
            fs::write(server.home().join("done"), "").expect("it can be written");
        }
    }
    assert_eq!((run.wait().code(), expected), (Some(0), LINES));
    assert!(!run.stderr().contains("anew"), "{}", run.stderr());
}

#[test]
fn a_job_whose_node_dies_while_its_output_is_shown_is_said_to_start_anew() {
    let mut server = Server::start(1);
    let address = server.address();
    let script = format!("{}; echo the end", on_the_node(u32::MAX, "sleep 0.01;"));
    let options = ["--lb", "--joblog", "log"];
    let (mut run, mut lines) = run_with(&server, &address, &options, &script);
    assert_eq!((lines.next().as_deref(), lines.next().as_deref()), (Some("0"), Some("1")));
    server.process().kill();
    fs::write(server.home().join("done"), "").expect("it can be written");
    let ends = lines.filter(|line| line == "the end").count();
    assert_eq!((run.wait().code(), ends), (Some(0), 2), "{}", run.stderr());
    assert!(run.stderr().contains("was started anew"), "{}", run.stderr());
    let log = fs::read_to_string(server.home().join("log")).expect("it is written");
    let received = log.lines().skip(1).map(|line| line.split('\t').nth(5).map(str::to_owned));
    assert!(
        received.eq([Some("8".to_owned()), Some("8".to_owned())]),
        "what is of no account is not counted: {log}"
    );
}

#[test]
fn a_flood_is_kept_in_a_file_and_takes_next_to_no_memory_anywhere() {
    const BYTES: u64 = 192 << 20;
    let mut server = Server::start(1);
    let flood = format!("head -c {BYTES} /dev/zero; grep VmHWM /proc/$PPID/status >&2");
    let script = format!(
        "if [ $PARALLEL_SSHHOST = : ]; then while [ ! -e done ]; do sleep 0.02; done; else {flood}; fi; : {{}}"
    );
    let mut command = process::command(ppctl(), server.home());
    command.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0").current_dir(server.home());
    let address = server.address();
    command.args(["run", "-j1", "--joblog", "log", "--node", &address, &script, ":::", "1", "2"]);
    let (mut reading, writing) = std::io::pipe().expect("a pipe");
    let mut run = Process::start_writing_to(&mut command, writing);
    drop(command);
    let pid = run.id().as_raw_nonzero().get().unsigned_abs();
    let mut piece = vec![0; 1 << 20];
    let mut received = reading.read(&mut piece).expect("it writes") as u64;
    // All of it is in the file by now.
    let ours = process::most_resident(pid);
    while received < BYTES {
        received += reading.read(&mut piece).expect("it writes") as u64;
    }
    fs::write(server.home().join("done"), "").expect("it can be written");
    assert_eq!((run.wait().code(), received), (Some(0), BYTES), "{}", run.stderr());
    let worker = run.stderr().split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let worker = worker.expect("the job says it") << 10;
    let node = process::most_resident(server.process().id().as_raw_nonzero().get().unsigned_abs());
    for (who, bytes) in [("ppctl", ours), ("ppserver", node), ("the worker", worker)] {
        assert!(bytes < 64 << 20, "{who} took {bytes} bytes");
    }
    let log = fs::read_to_string(server.home().join("log")).expect("it is written");
    assert!(log.contains(&format!("\t{BYTES}\t")), "{log}");
}
