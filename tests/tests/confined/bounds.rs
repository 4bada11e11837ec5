//! Jobs that take more than their share, or leave something behind: their node answers, others finish, nothing is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::job;
use pp_tests::process::is_alive;
use pp_tests::wait::{PATIENCE, wait_until};
use rustix::process::geteuid;

use crate::node::{NOBODY, Node};

/// How soon a node answers whatever a job does.
const SOON: Duration = Duration::from_secs(1);
/// How soon after a job's end nothing of it is left.
pub(crate) const GONE: Duration = Duration::from_secs(2);

/// Writes so many files, and yields where.
#[job]
pub(crate) fn write_files(count: usize) -> PathBuf {
    for number in 0..count {
        fs::write(format!("file {number}"), "data").expect("it can be written");
    }
    std::env::current_dir().expect("it is there")
}

/// Starts a process in a session of its own, with nothing that it inherited, and yields its number.
#[job]
pub(crate) fn start_a_daemon() -> i32 {
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
pub(crate) fn eat(bytes: usize) -> usize {
    let eaten = vec![1_u8; bytes];
    std::hint::black_box(&eaten).iter().filter(|byte| **byte == 1).count()
}

/// Starts processes that start processes, so many generations of them, and never ends.
#[job]
pub(crate) fn multiply(generations: u32) {
    let script = "n=$1; [ $n -gt 0 ] && for i in 1 2; do sh -c \"$0\" \"$0\" $((n - 1)) & done; sleep 3600";
    let _ = Command::new("sh").args(["-c", script, script, &generations.to_string()]).status();
}

#[job]
pub(crate) fn square(n: u64) -> u64 {
    n * n
}

pub(crate) fn whatever_a_job_does_its_node_answers_others_finish_and_nothing_is_left() {
    let mut node = Node::start(2, &["--worker-memory", "512"], &[]);
    let dispatcher = node.dispatcher();
    let others = node.dispatcher();
    let meanwhile = |what: &str| {
        let started = Instant::now();
        let asked = others.submit(square, (7,)).wait_timeout(PATIENCE).map_err(|_| "it hangs");
        assert_eq!(asked, Ok(Ok(49)), "{what}");
        assert!(started.elapsed() < SOON, "{what}: {:?}", started.elapsed());
    };
    meanwhile("before");
    let files = dispatcher.submit(write_files, (10_000,)).wait().expect("they can be written");
    assert!(files.join("file 9999").exists());
    let stray = dispatcher.submit(start_a_daemon, ()).wait().expect("it can be started");
    assert!(is_alive(stray));
    let heap = dispatcher.job(eat, (2_usize << 30,)).max_attempts(1).submit();
    meanwhile("while memory is eaten");
    let error = heap.wait().expect_err("it may have 512 MiB").to_string();
    assert!(error.contains("memory ran out"), "{error}");
    wait_gone("its files", || !files.exists());
    wait_gone("its daemon", || !is_alive(stray));
    let fork_bomb = dispatcher.job(multiply, (6,)).timeout(Duration::from_secs(2)).submit();
    wait_until("a crowd", || count_of("sleep 3600") >= 64);
    meanwhile("in the crowd");
    assert!(fork_bomb.wait().is_err(), "its time is limited");
    wait_gone("the crowd", || count_of("sleep 3600") == 0);
    assert!(is_alive(node.pid()));
    drop((dispatcher, others));
}

/// Waits until something is gone that has to go soon.
pub(crate) fn wait_gone(what: &str, is_gone: impl Fn() -> bool) {
    let started = Instant::now();
    wait_until(what, is_gone);
    assert!(started.elapsed() < GONE, "{what}: {:?}", started.elapsed());
}

/// Eats memory, and keeps it.
#[job]
fn eat_and_keep(bytes: usize, told: PathBuf) {
    let eaten = vec![1_u8; bytes];
    std::hint::black_box(&eaten);
    fs::write(told, "").expect("it can be written");
    std::thread::sleep(Duration::from_secs(3_600));
}

#[job]
fn nap(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) fn two_seconds_after_a_session_ends_nothing_of_it_is_left() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let path = temporary.path().to_str().expect("text");
    let node = Node::start(5, &["--worker-memory", "512"], &[("TMPDIR", path)]);
    let (dispatcher, others) = (node.dispatcher(), node.dispatcher());
    let napping = others.submit(nap, (GONE,));
    let stray = dispatcher.submit(start_a_daemon, ()).wait().expect("it can be started");
    let files = dispatcher.submit(write_files, (10_000,)).wait().expect("they can be written");
    let _heap = dispatcher.submit(eat_and_keep, (256_usize << 20, node.path("data/eaten")));
    wait_until("memory to be eaten", || node.path("data/eaten").exists());
    let _fork_bomb = dispatcher.submit(multiply, (6,));
    wait_until("a crowd", || count_of("sleep 3600") >= 64);
    assert!(files.exists() && is_alive(stray));
    drop(dispatcher);
    let its_own = || fs::read_dir(temporary.path()).expect("it is there").flatten();
    let directories =
        || its_own().map(|node| fs::read_dir(node.path()).map_or(0, Iterator::count)).sum::<usize>();
    wait_gone("all of it", || {
        count_of("sleep 3600") == 0 && !is_alive(stray) && !files.exists() && directories() == 1
    });
    assert_eq!(napping.wait(), Ok(()), "it is of another dispatcher");
}

/// How many processes of the daemon's user have this command line.
pub(crate) fn count_of(command: &str) -> usize {
    let wanted = format!("{}\0", command.replace(' ', "\0"));
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let is_one = |process: &Path| {
        fs::read(process.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
            && (!geteuid().is_root() || fs::metadata(process).is_ok_and(|found| found.uid() == NOBODY))
    };
    processes.filter(|process| is_one(&process.path())).count()
}
