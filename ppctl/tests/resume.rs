//! Runs that are killed at any moment, and gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pp_tests::process;
use pp_tests::random::Random;

const JOBS: u64 = 200;
const KILLS: u64 = 20;
/// Jobs that run at once.
const SLOTS: u64 = 4;

#[test]
fn a_run_that_is_killed_twenty_times_does_every_job_once() {
    let mut random = Random::from_environment("PP_SEED");
    let folder = tempfile::tempdir().expect("a directory");
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut run = start(folder.path());
        // The moment is one of chance, and nothing is waited for.
        thread::sleep(random.time(Duration::from_millis(20), Duration::from_millis(250)));
        kills += u64::from(run.try_wait().expect("it can be asked").is_none());
        run.kill().and_then(|()| run.wait()).expect("it can be killed");
    }
    assert!(start(folder.path()).wait().expect("it ends").success());
    let all: BTreeSet<u64> = (1..=JOBS).collect();
    let logged = numbers(&folder.path().join("log"), |line| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields.len() == 9 && fields[6] == "0").then(|| fields[0].parse().ok()).flatten()
    });
    assert_eq!(logged.keys().copied().collect::<BTreeSet<_>>(), all, "every job is in the log");
    assert!(logged.values().all(|times| *times == 1), "none succeeded twice: {logged:?}");
    let done = numbers(&folder.path().join("done"), |line| line.parse().ok());
    assert_eq!(done.keys().copied().collect::<BTreeSet<_>>(), all, "every job was run");
    assert!(done.values().all(|times| *times == 1), "none was run twice: {done:?}");
    assert!(kills >= KILLS / 2, "{kills} kills");
}

/// Goes on with the run. Each job appends its number to a file.
fn start(folder: &Path) -> Child {
    let mut command: Command = process::command(env!("CARGO_BIN_EXE_ppctl"), folder);
    command.args(["run", "--joblog", "log", "--resume", "-j"]).arg(SLOTS.to_string());
    command.args(["sleep 0.03; echo {} >> done", ":::"]).args((1..=JOBS).map(|number| number.to_string()));
    command.env("PP_DISCOVER", "0").current_dir(folder).stdout(Stdio::null()).spawn().expect("it starts")
}

/// How often each number is in a file, by the lines that have one.
fn numbers(file: &Path, number: impl Fn(&str) -> Option<u64>) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(file).expect("it was written");
    let mut numbers = BTreeMap::new();
    text.lines().filter_map(number).for_each(|number| *numbers.entry(number).or_default() += 1);
    numbers
}
