//! A job that attacks its node and other jobs, and honest work beside it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, job};
use pp_tests::process::{Process, SECRET, command, example, is_alive};
use pp_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{Node, confinement};

/// A process that is not the job's, and what it is.
type Victim = (String, i32);

/// How long a job is there to be attacked.
const SITS: Duration = Duration::from_secs(30);

fn word<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// What comes of each of many attempts to get at what is not a job's; `all` of them, or those that any kernel refuses which
/// keeps files from jobs.
#[job]
fn attack(secret: PathBuf, store: PathBuf, victims: Vec<Victim>, all: bool) -> Vec<(String, String)> {
    let mut results = Vec::new();
    let mut tried = |what: &str, result: String| results.push((what.to_owned(), result));
    tried("read the secret", word(fs::read(&secret)));
    tried("change the secret", word(fs::OpenOptions::new().append(true).open(&secret)));
    if all {
        tried("truncate the secret", word(truncate(&secret)));
    }
    tried("replace the secret", word(fs::rename(&secret, secret.with_extension("old"))));
    tried("remove the secret", word(fs::remove_file(&secret)));
    tried("link the secret", word(fs::hard_link(&secret, "link")));
    std::os::unix::fs::symlink(&secret, "symlink").expect("it is its own directory");
    tried("read the secret by a link", word(fs::read("symlink")));
    // Its own program may be read, wherever it is started from.
    let own = std::env::current_exe().and_then(fs::metadata).expect("it is there").len();
    for entry in fs::read_dir(&store).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|found| found.len() != own) {
            tried("read another program", word(fs::read(entry.path())));
        }
        tried("change a program", word(fs::OpenOptions::new().write(true).open(entry.path())));
        tried("remove a program", word(fs::remove_file(entry.path())));
    }
    tried("list programs", word(fs::read_dir(&store)));
    tried("add a program", word(fs::write(store.join("another"), "")));
    let warden = rustix::process::getppid().expect("there is one").as_raw_pid();
    for (name, process) in victims.into_iter().chain([("its warden".to_owned(), warden)]) {
        let mut tried = |what: &str, result| tried(&format!("{what} of {name}"), result);
        for part in ["mem", "environ", "fd/0", "maps"] {
            tried(part, word(fs::File::open(format!("/proc/{process}/{part}"))));
        }
        #[expect(unsafe_code, reason = "there is no safe way to do what is to be refused")]
        // SAFETY: it touches no memory.
        let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0, 0) };
        tried("trace", word(if traced == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }));
        let process = Pid::from_raw(process).expect("a number");
        // The kernel ends whoever has used up its time.
        #[expect(unsafe_code, reason = "there is no safe way to do what is to be refused")]
        // SAFETY: the limit is there for as long as it is read.
        let limited = unsafe {
            let second = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
            libc::prlimit(process.as_raw_pid(), libc::RLIMIT_CPU, &raw const second, std::ptr::null_mut())
        };
        tried("limit", word(if limited == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }));
        for signal in [Signal::STOP, Signal::KILL].into_iter().filter(|_| all) {
            tried("signal", word(kill_process(process, signal).map_err(Into::into)));
        }
    }
    results
}

fn truncate(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.to_str().expect("text")).expect("text");
    #[expect(unsafe_code, reason = "only this call needs no descriptor that may be written to")]
    // SAFETY: the path is there, and ends with a zero.
    match unsafe { libc::truncate(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells its process and its warden's by a file, and sits there until another file is made.
#[job]
fn sit(told: PathBuf, end: PathBuf) -> bool {
    let warden = rustix::process::getppid().expect("there is one").as_raw_pid();
    fs::write(&told, format!("{} {warden}\n", std::process::id())).expect("it can be written");
    let until = Instant::now() + SITS;
    while !end.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    end.exists()
}

/// What jobs do that are up to nothing.
#[job]
pub(crate) fn work(data: PathBuf) -> Vec<(String, String)> {
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
    let child = Command::new("/bin/sleep").arg("60").spawn();
    tried(
        "end its own process",
        word(child.and_then(|mut child| {
            child.kill()?;
            child.wait()
        })),
    );
    results
}

/// Asserts that each attempt had one of these results.
pub(crate) fn all_are(results: &[(String, String)], wanted: &[&str]) {
    let others: Vec<_> = results.iter().filter(|(_, result)| !wanted.contains(&result.as_str())).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// A dispatcher's worker that a job sits in, and its warden.
fn victims_of(dispatcher: &Dispatcher, node: &Node, whose: &str) -> (pp_dispatcher::Job<bool>, Vec<Victim>) {
    let told = node.path("data").join(whose);
    let sitting = dispatcher.submit(sit, (told.clone(), node.path("data/end")));
    let mut told_text = String::new();
    wait_until("the victim", || {
        told_text = fs::read_to_string(&told).unwrap_or_default();
        told_text.ends_with('\n')
    });
    let numbers: Vec<i32> =
        told_text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let victims = ["worker", "warden"].iter().zip(&numbers);
    (sitting, victims.map(|(what, number)| (format!("{whose} {what}"), *number)).collect())
}

pub(crate) fn a_job_gets_at_no_secret_no_program_and_no_other_process() {
    let mut node = Node::start(4, &[], &[]);
    let dispatcher = node.dispatcher();
    if !node.keeps_secrets(&dispatcher) {
        return;
    }
    // Another program is stored there.
    let example = example("fib");
    let mut other = command(&example, node.server.home());
    other.arg("3..5").env("PP_LOCAL_WORKERS", "0").env("PP_DISCOVER", "0");
    other.env("PP_NODES", node.server.address()).env("PP_SECRET", SECRET);
    let mut other = Process::start(&mut other);
    assert!(other.wait().success(), "{}", other.stderr());
    let foreign = node.dispatcher();
    let (own_sits, own_victims) = victims_of(&dispatcher, &node, "its dispatcher's other");
    let (foreign_sits, foreign_victims) = victims_of(&foreign, &node, "a foreign dispatcher's");
    let honest = dispatcher.submit(work, (node.path("data"),));
    let victims = [vec![("the daemon".to_owned(), node.pid())], own_victims, foreign_victims].concat();
    let all = !confinement(&dispatcher).contains("but for signals");
    if !all {
        println!("skipped in part: {}", confinement(&dispatcher));
    }
    let attacks = dispatcher.submit(attack, (node.path("secret"), node.path("store"), victims.clone(), all));
    let attacks = attacks.wait().expect("it is told what came of it");
    for what in ["read another program", "change a program", "trace of a foreign dispatcher's warden"] {
        assert!(attacks.iter().any(|(tried, _)| tried == what), "{what}: {attacks:#?}");
    }
    // Names are no secret.
    let listed = attacks.iter().position(|(tried, _)| tried == "list programs").expect("it was tried");
    let attacks = [&attacks[..listed], &attacks[listed + 1..]].concat();
    // A program that runs is written to by nobody.
    all_are(&attacks, &["PermissionDenied", "CrossesDevices", "ExecutableFileBusy"]);
    all_are(&honest.wait().expect("it is up to nothing"), &["done"]);
    for (what, process) in &victims {
        assert!(is_alive(*process), "{what} is dead");
    }
    fs::write(node.path("data/end"), "").expect("it can be written");
    assert_eq!((own_sits.wait(), foreign_sits.wait()), (Ok(true), Ok(true)));
    assert_eq!(fs::read_to_string(node.path("secret")).expect("it is there"), SECRET);
}

pub(crate) fn at_strict_a_job_gets_at_what_it_is_granted_and_no_more() {
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
    let victims = vec![("the daemon".to_owned(), node.pid())];
    let all = !confinement(&dispatcher).contains("but for signals");
    let attacks = dispatcher.submit(attack, (node.path("secret"), node.path("store"), victims, all));
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
