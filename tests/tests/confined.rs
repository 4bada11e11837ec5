//! What a job can do on a machine whose owner did not write it: a job that attacks its node, and honest work beside it.
//!
//! Root may do too much for refusals to be seen: the daemons run as another user, where the tests are run by root.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, NodeKind, Output, job};
use pp_tests::process::{SECRET, Server, ServerOptions, is_alive};
use pp_tests::wait::{PATIENCE, wait_until};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// A user that nothing belongs to.
const NOBODY: u32 = 65_534;
/// How soon a node answers whatever a job does.
const SOON: Duration = Duration::from_secs(1);
/// How soon after a job's end nothing of it is left.
const GONE: Duration = Duration::from_secs(2);

/// A daemon of [`NOBODY`]'s, whose home is not where other files of the tests are.
struct Node {
    server: Server,
    files: tempfile::TempDir,
}

impl Node {
    fn start(workers: usize, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        // What is on the way to the secret is closed to new files: the home is in another place than what jobs write.
        let files = tempfile::tempdir_in("/var/tmp").expect("a directory");
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        fs::write(files.path().join("secret"), SECRET).expect("a file");
        fs::set_permissions(files.path().join("secret"), fs::Permissions::from_mode(0o600))
            .expect("it is ours");
        fs::create_dir_all(files.path().join("data/a")).expect("a directory");
        fs::create_dir_all(files.path().join("data/b")).expect("a directory");
        let mut wrapper = Vec::new();
        if geteuid().is_root() {
            let owned = ["", "secret", "data", "data/a", "data/b"].map(|name| files.path().join(name));
            for path in owned {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
            wrapper =
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from).into();
        }
        let store = files.path().join("store");
        let mut all = vec!["-i", "127.0.0.1", "--secret-file"];
        let (secret, store) = (files.path().join("secret"), store.display().to_string());
        all.extend([secret.to_str().expect("text"), "--store", &store]);
        all.extend(arguments);
        let own = |text: &str| text.to_owned();
        let server = Server::start_with(ServerOptions {
            wrapper,
            arguments: all.into_iter().map(own).collect(),
            secret: None,
            workers,
            environment: environment.iter().map(|(name, value)| (own(name), own(value))).collect(),
            ..ServerOptions::default()
        });
        Self { server, files }
    }

    fn dispatcher(&self) -> Dispatcher {
        let builder = Dispatcher::builder().local_workers(0).discover(false).secret(SECRET);
        let builder = builder.output(Output::EventsOnly).nodes([self.server.address()]);
        let dispatcher = builder.start().expect("it starts");
        assert_eq!(dispatcher.wait_for_nodes(1, PATIENCE), 1, "{:?}", dispatcher.nodes());
        dispatcher
    }

    fn pid(&mut self) -> i32 {
        self.server.process().id().as_raw_pid()
    }

    /// Whether the kernel has the means to keep files from jobs; if not, the node says so.
    fn keeps_secrets(&self, dispatcher: &Dispatcher) -> bool {
        let said = confinement(dispatcher);
        let keeps = said.starts_with("secrets") || said.starts_with("strict");
        assert!(keeps || said.contains("Landlock"), "{said}");
        if !keeps {
            println!("skipped in part: {said}");
        }
        keeps
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

/// What the node says that it confines jobs to.
fn confinement(dispatcher: &Dispatcher) -> String {
    let mut nodes = dispatcher.nodes().into_iter().filter(|node| node.kind != NodeKind::Local);
    nodes.next().expect("a node was named").confinement
}

fn word<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// What comes of each of many attempts to get at what is not a job's.
#[job]
fn attack(secret: PathBuf, store: PathBuf, daemon: i32) -> Vec<(String, String)> {
    let mut results = Vec::new();
    let mut tried = |what: &str, result: String| results.push((what.to_owned(), result));
    tried("read the secret", word(fs::read(&secret)));
    tried("change the secret", word(fs::OpenOptions::new().append(true).open(&secret)));
    tried("replace the secret", word(fs::rename(&secret, secret.with_extension("old"))));
    tried("link the secret", word(fs::hard_link(&secret, "link")));
    for entry in fs::read_dir(&store).into_iter().flatten().flatten() {
        tried("change a program", word(fs::OpenOptions::new().write(true).open(entry.path())));
        tried("remove a program", word(fs::remove_file(entry.path())));
    }
    tried("add a program", word(fs::write(store.join("another"), "")));
    for part in ["mem", "environ", "fd/0", "maps"] {
        tried(part, word(fs::File::open(format!("/proc/{daemon}/{part}"))));
    }
    let daemon = Pid::from_raw(daemon).expect("a number");
    for signal in [Signal::KILL, Signal::STOP] {
        tried("signal the daemon", word(kill_process(daemon, signal).map_err(Into::into)));
    }
    let warden = rustix::process::getppid().expect("there is one");
    tried("signal the warden", word(kill_process(warden, Signal::STOP).map_err(Into::into)));
    #[expect(unsafe_code, reason = "there is no safe way to do what is to be refused")]
    // SAFETY: it touches no memory.
    let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, daemon.as_raw_pid(), 0, 0) };
    tried("trace the daemon", word(if traced == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }));
    results
}

/// What jobs do that are up to nothing.
#[job]
fn work(data: PathBuf) -> Vec<(String, String)> {
    let mut results = Vec::new();
    let mut tried = |what: &str, result: String| results.push((what.to_owned(), result));
    tried("write", word(fs::write(data.join("a/file"), "data")));
    tried("move", word(fs::rename(data.join("a/file"), data.join("b/file"))));
    tried("read", word(fs::read(data.join("b/file"))));
    tried("remove", word(fs::remove_file(data.join("b/file"))));
    let run = Command::new("/usr/bin/true").status();
    tried(
        "run a program",
        word(run.and_then(|run| run.success().then_some(()).ok_or(ErrorKind::Other.into()))),
    );
    let itself = std::env::current_exe();
    tried("read its own program", word(itself.and_then(fs::read)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let connected = listener.and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?));
    tried("connect", word(connected));
    tried("write here", word(fs::write("file", "data")));
    tried("write a temporary file", word(fs::write(std::env::temp_dir().join("other"), "data")));
    results
}

fn all_are(results: &[(String, String)], wanted: &[&str]) {
    for (what, result) in results {
        assert!(wanted.contains(&result.as_str()), "{what}: {result} of {results:?}");
    }
}

fn a_job_gets_at_no_secret_no_program_and_no_other_process() {
    let mut node = Node::start(2, &[], &[]);
    let dispatcher = node.dispatcher();
    if !node.keeps_secrets(&dispatcher) {
        return;
    }
    let honest = dispatcher.submit(work, (node.path("data"),));
    let attacks = dispatcher.submit(attack, (node.path("secret"), node.path("store"), node.pid()));
    let attacks = attacks.wait().expect("it is told what came of it");
    assert!(attacks.iter().any(|(what, _)| what == "change a program"), "{attacks:?}");
    all_are(&attacks, &["PermissionDenied", "CrossesDevices", "ExecutableFileBusy"]);
    all_are(&honest.wait().expect("it is up to nothing"), &["done"]);
    assert!(is_alive(node.pid()));
}

fn at_strict_a_job_gets_at_what_it_is_granted_and_no_more() {
    let granted = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(granted.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    for part in ["a", "b"] {
        fs::create_dir(granted.path().join(part)).expect("a directory");
        fs::set_permissions(granted.path().join(part), fs::Permissions::from_mode(0o777))
            .expect("it is ours");
    }
    let path = granted.path().to_str().expect("text");
    if !landlock_works() {
        return println!("skipped: the kernel has no Landlock");
    }
    let mut node = Node::start(1, &["--confine", "strict", "--worker-write", path], &[]);
    let dispatcher = node.dispatcher();
    assert!(confinement(&dispatcher).starts_with("strict"));
    all_are(&dispatcher.submit(work, (granted.path().to_owned(),)).wait().expect("it works"), &["done"]);
    let attacks = dispatcher.submit(attack, (node.path("secret"), node.path("store"), node.pid()));
    all_are(&attacks.wait().expect("it is told"), &["PermissionDenied", "CrossesDevices"]);
    let elsewhere = dispatcher.submit(work, (node.path("data"),)).wait().expect("it is told");
    let denied = |what: &str| elsewhere.iter().any(|(done, how)| done == what && how != "done");
    assert!(denied("write") && !denied("run a program"), "{elsewhere:?}");
}

/// Whether a daemon of this machine says that it confines jobs.
fn landlock_works() -> bool {
    let node = Node::start(1, &[], &[]);
    let dispatcher = node.dispatcher();
    node.keeps_secrets(&dispatcher)
}

/// A job's process, as the job sees it.
#[job]
fn look_at_itself() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").expect("it can be read");
    let wanted = ["NoNewPrivs:", "CapEff:", "CapPrm:", "CapBnd:", "Umask:"];
    let mut seen: Vec<_> =
        status.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word))).collect();
    seen.sort_unstable();
    let mut seen: Vec<_> = seen.into_iter().map(|line| line.replace('\t', " ")).collect();
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    seen.push(format!("core {:?}", core.maximum));
    seen.push(format!("session {}", rustix::process::getsid(None).ok() == Some(rustix::process::getpid())));
    let here = std::env::current_dir().expect("it is there");
    let mode = fs::metadata(&here).expect("it is there").mode() & 0o777;
    seen.push(format!("scratch {} {mode:o}", here == std::env::temp_dir()));
    seen
}

#[job]
fn environment() -> Vec<String> {
    let mut names: Vec<_> = std::env::vars()
        .map(|(name, value)| match name.as_str() {
            "PP_NODE" | "PP_WORKER" | "PATH" | "HOME" | "TMPDIR" => name,
            _ => format!("{name}={value}"),
        })
        .collect();
    names.sort();
    names
}

/// The descriptors that a program has which a job starts, but for that with which they are listed.
#[job]
fn descriptors_of_a_program() -> String {
    let listed = Command::new("ls").arg("/proc/self/fd").output().expect("it can be listed");
    String::from_utf8(listed.stdout).expect("numbers are text")
}

fn a_job_has_no_privileges_and_a_directory_of_its_own() {
    let node = Node::start(1, &[], &[]);
    let dispatcher = node.dispatcher();
    let none = "0000000000000000";
    let seen = dispatcher.submit(look_at_itself, ()).wait().expect("it can be seen");
    let bounding = seen.iter().find(|line| line.starts_with("CapBnd:")).cloned().expect("it is listed");
    assert_eq!(
        seen[..],
        [
            bounding,
            format!("CapEff: {none}"),
            format!("CapPrm: {none}"),
            "NoNewPrivs: 1".into(),
            "Umask: 0077".into(),
            "core Some(0)".into(),
            "session true".into(),
            "scratch true 700".into(),
        ]
    );
    let descriptors = dispatcher.submit(descriptors_of_a_program, ()).wait().expect("it can be seen");
    assert_eq!(descriptors.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

fn a_job_has_the_variables_that_are_listed_or_given_and_no_others() {
    let given = [
        ("AWS_SECRET_ACCESS_KEY", "key"),
        ("CUDA_HOME", "/cuda"),
        ("LC_TIME", "C"),
        ("LANG", "C"),
        ("TZ", "UTC"),
    ];
    let node = Node::start(1, &["--worker-env", "CUDA_*", "--worker-env", "OMP_NUM_THREADS=1"], &given);
    let mut seen = node.dispatcher().submit(environment, ()).wait().expect("it can be seen");
    // Whoever runs the tests may have these.
    seen.retain(|entry| {
        !["USER=", "LOGNAME=", "SHELL=", "LC_ALL=", "LC_CTYPE=", "RUST_"]
            .iter()
            .any(|known| entry.starts_with(known))
    });
    let wanted = [
        "CUDA_HOME=/cuda",
        "HOME",
        "LANG=C",
        "LC_TIME=C",
        "OMP_NUM_THREADS=1",
        "PATH",
        "PP_NODE",
        "PP_WORKER",
        "TMPDIR",
        "TZ=UTC",
    ];
    assert_eq!(seen, wanted);
}

/// Writes so many files, and yields where.
#[job]
fn write_files(count: usize) -> PathBuf {
    for number in 0..count {
        fs::write(format!("file {number}"), "data").expect("it can be written");
    }
    std::env::current_dir().expect("it is there")
}

/// Starts a process in a session of its own, with nothing that it inherited, and yields its number.
#[job]
fn start_a_daemon() -> i32 {
    let started = Command::new("setsid")
        .args([
            "env",
            "-i",
            "sh",
            "-c",
            "exec 3>&1 >/dev/null 2>&1 </dev/null; sleep 3600 3>&- & echo $! >&3",
        ])
        .output()
        .expect("a shell can be started");
    String::from_utf8(started.stdout).expect("a number is text").trim().parse().expect("it is a number")
}

#[job]
fn eat(bytes: usize) -> usize {
    let eaten = vec![1_u8; bytes];
    std::hint::black_box(&eaten).iter().filter(|byte| **byte == 1).count()
}

/// Starts processes that start processes, so many generations of them, and never ends.
#[job]
fn multiply(generations: u32) {
    let script = "n=$1; [ $n -gt 0 ] && for i in 1 2; do sh -c \"$0\" \"$0\" $((n - 1)) & done; sleep 3600";
    let _ = Command::new("sh").args(["-c", script, script, &generations.to_string()]).status();
}

#[job]
fn square(n: u64) -> u64 {
    n * n
}

fn whatever_a_job_does_its_node_answers_others_finish_and_nothing_is_left() {
    let mut node = Node::start(2, &["--worker-memory", "512"], &[]);
    let dispatcher = node.dispatcher();
    let others = node.dispatcher();
    let meanwhile = |what: &str| {
        let started = Instant::now();
        let asked = others.submit(square, (7,)).wait_timeout(PATIENCE).map_err(|_| "it hangs");
        assert_eq!(asked, Ok(Ok(49)), "{what}");
        assert!(started.elapsed() < SOON, "{what}: {:?}", started.elapsed());
    };
    let wait_gone = |what: &str, is_gone: &dyn Fn() -> bool| {
        let started = Instant::now();
        wait_until(what, is_gone);
        assert!(started.elapsed() < GONE, "{what}: {:?}", started.elapsed());
    };
    meanwhile("before");
    let files = dispatcher.submit(write_files, (10_000,)).wait().expect("they can be written");
    assert!(files.join("file 9999").exists());
    let stray = dispatcher.submit(start_a_daemon, ()).wait().expect("it can be started");
    assert!(is_alive(stray));
    let heap = dispatcher.job(eat, (2_usize << 30,)).max_attempts(1).submit();
    meanwhile("while memory is eaten");
    assert!(heap.wait().is_err(), "it may have 512 MiB");
    wait_gone("its files", &|| !files.exists());
    wait_gone("its daemon", &|| !is_alive(stray));
    let fork_bomb = dispatcher.job(multiply, (6,)).timeout(Duration::from_secs(2)).submit();
    wait_until("a crowd", || count_of("sleep 3600") >= 64);
    meanwhile("in the crowd");
    assert!(fork_bomb.wait().is_err(), "its time is limited");
    wait_gone("the crowd", &|| count_of("sleep 3600") == 0);
    assert!(is_alive(node.pid()));
    drop((dispatcher, others));
}

/// How many processes of the daemon's user have this command line.
fn count_of(command: &str) -> usize {
    let wanted = format!("{}\0", command.replace(' ', "\0"));
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let is_one = |process: &Path| {
        fs::read(process.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
            && (!geteuid().is_root() || fs::metadata(process).is_ok_and(|found| found.uid() == NOBODY))
    };
    processes.filter(|process| is_one(&process.path())).count()
}

/// Directories that workers are given, of daemons with this directory for temporary files.
fn scratch_in(temporary: &Path) -> usize {
    fs::read_dir(temporary).expect("it is there").count()
}

fn what_jobs_wrote_is_removed_when_their_daemon_ends_and_when_the_next_begins() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let path = temporary.path().to_str().expect("text");
    let mut node = Node::start(1, &[], &[("TMPDIR", path)]);
    let dispatcher = node.dispatcher();
    let files = dispatcher.submit(write_files, (3,)).wait().expect("they can be written");
    assert!(files.starts_with(temporary.path()) && files.exists(), "{files:?}");
    node.server.process().kill();
    drop(dispatcher);
    assert!(scratch_in(temporary.path()) > 0, "nobody could remove it");
    node.server.restart();
    assert!(!files.exists(), "the next one did");
    assert_eq!(scratch_in(temporary.path()), 1);
    node.server.process().signal(Signal::TERM);
    node.server.process().wait();
    assert_eq!(scratch_in(temporary.path()), 0);
}

fn a_stored_program_that_was_changed_is_not_run() {
    let node = Node::start(1, &["--confine", "none"], &[]);
    let dispatcher = node.dispatcher();
    assert_eq!(dispatcher.submit(square, (2,)).wait(), Ok(4));
    let stored: Vec<_> = fs::read_dir(node.path("store")).expect("it is there").flatten().collect();
    let ran = node.path("data/ran");
    for program in &stored {
        let text = format!("#!/bin/sh\ntouch {}\n", ran.display());
        fs::remove_file(program.path()).expect("it can be removed");
        fs::write(program.path(), text).expect("it can be written");
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).expect("it can be made so");
    }
    assert!(!stored.is_empty());
    // Another dispatcher's workers are others.
    let other = node.dispatcher();
    let result = other.submit(square, (3,)).wait_timeout(PATIENCE).map_err(|_| "it hangs");
    assert_eq!(result, Ok(Ok(9)), "{}", node.server.log());
    assert!(!ran.exists(), "the other program ran");
}

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![
        a_job_gets_at_no_secret_no_program_and_no_other_process,
        at_strict_a_job_gets_at_what_it_is_granted_and_no_more,
        a_job_has_no_privileges_and_a_directory_of_its_own,
        a_job_has_the_variables_that_are_listed_or_given_and_no_others,
        whatever_a_job_does_its_node_answers_others_finish_and_nothing_is_left,
        what_jobs_wrote_is_removed_when_their_daemon_ends_and_when_the_next_begins,
        a_stored_program_that_was_changed_is_not_run,
    ]);
}
