//! A worker under test, and the means to wait for what it does.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use pp_node::core::WorkerKey;
use pp_node::functions::function_id;
use pp_node::pool::{WorkerEvent, WorkerHandle, WorkerProgram};
use pp_protocol::worker::{Finished, Work, WorkResult};
use pp_protocol::{Death, Payload, Stream, room, values};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A condition that has not come true by now never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker and what it told.
pub(crate) struct Fixture {
    pub(crate) worker: WorkerHandle,
    events: mpsc::UnboundedReceiver<(WorkerKey, WorkerEvent)>,
    next_number: u32,
    home: TempDir,
}

impl Fixture {
    pub(crate) fn start(program: WorkerProgram) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let worker =
            WorkerHandle::spawn(WorkerKey(7), program, &room::Rooms::of_this_process(), None, sender);
        Self { worker, events, next_number: 0, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn ready() -> Self {
        Self::ready_as(WorkerProgram::File(std::env::current_exe().unwrap())).await
    }

    pub(crate) async fn ready_as(program: WorkerProgram) -> Self {
        let mut fixture = Self::start(program);
        let ready = fixture.event().await;
        assert!(matches!(ready, WorkerEvent::Ready { functions: 10.., .. }), "{ready:?}");
        fixture
    }

    /// A worker that is this shell script, whose standard input is the socket.
    pub(crate) fn script(text: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("script");
        write_program(&path, text);
        Self { home, ..Self::start(WorkerProgram::File(path)) }
    }

    pub(crate) async fn event(&mut self) -> WorkerEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let (key, event) = event.expect("an event comes in time").expect("there are more events");
            assert_eq!(key, WorkerKey(7));
            // How long something large is under way depends on the machine.
            if event != WorkerEvent::Moving {
                return event;
            }
        }
    }

    /// Work whose arguments, if they are large, are where they can be lent.
    pub(crate) fn work(&mut self, function: &str, args: impl Serialize) -> Work {
        let mut written = room::Writer::default();
        values::encode_arguments(&args, &mut written).unwrap();
        let args = written.take_many().map_or_else(|| written.few().unwrap().into(), Payload::from);
        self.next_number += 1;
        Work { number: self.next_number - 1, function: function_id(function), args }
    }

    pub(crate) fn assign(&mut self, works: Vec<Work>) {
        self.worker.assign(works);
    }

    /// Has it begin with a call that is not waited for.
    pub(crate) fn begin(&mut self, function: &str, args: impl Serialize) {
        let work = self.work(function, args);
        self.assign(vec![work]);
    }

    /// The next outcomes, however they are divided into events; their numbers must follow each other.
    pub(crate) async fn outcomes(&mut self, count: usize) -> Vec<Finished> {
        let mut outcomes = Vec::new();
        while outcomes.len() < count {
            match self.event().await {
                WorkerEvent::Finished(more) => outcomes.extend(more),
                other => panic!("{other:?} after {} of {count} outcomes", outcomes.len()),
            }
        }
        assert!(outcomes.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
        outcomes
    }

    pub(crate) async fn call<R: DeserializeOwned + 'static>(
        &mut self,
        function: &str,
        args: impl Serialize,
    ) -> R {
        let work = self.work(function, args);
        self.assign(vec![work]);
        result_of(&self.outcomes(1).await[0])
    }

    /// The lines told until the next outcome, each with its stream and how many pieces of work had been started.
    pub(crate) async fn printed_before_outcome(&mut self) -> Vec<(Stream, u32, String)> {
        let mut printed = Vec::new();
        loop {
            match self.event().await {
                WorkerEvent::Output { stream, started, lines } => {
                    printed.extend(lines.into_iter().map(|line| (stream, started, line)));
                }
                WorkerEvent::Finished(_) => return printed,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until it has claimed so many pieces of work and runs the last one.
    pub(crate) async fn running(&self, started: u32) {
        until(|| {
            let progress = self.worker.progress();
            progress.started == started && progress.finished == started - 1
        })
        .await;
    }

    pub(crate) fn file(&self) -> String {
        self.home.path().join("go").to_str().unwrap().into()
    }

    pub(crate) async fn expect_exit(&mut self, death: Death) {
        match self.event().await {
            WorkerEvent::Exited(exit) => assert_eq!(exit.death, death),
            other => panic!("{other:?}"),
        }
        assert!(self.events.recv().await.is_none(), "the exit is the last event");
    }

    pub(crate) async fn expect_failure(&mut self, part_of_reason: &str) -> Vec<String> {
        loop {
            match self.event().await {
                WorkerEvent::Output { .. } => {}
                WorkerEvent::FailedToStart(failure) => {
                    assert!(failure.reason.contains(part_of_reason), "{}", failure.reason);
                    return failure.stderr;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(case);
}

/// A large one is left where the worker has it.
pub(crate) fn result_of<R: DeserializeOwned + 'static>(finished: &Finished) -> R {
    match &finished.result {
        WorkResult::Succeeded(result) => result.source().take().unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the condition comes true in time");
}

/// Bytes that this process and its workers have in memory that they share for payloads.
pub(crate) fn shared_memory() -> u64 {
    let mut files = HashMap::new();
    for descriptor in fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()) {
        let name = fs::read_link(&descriptor).unwrap_or_default();
        if name.to_string_lossy().contains("pp-payloads")
            && let Ok(file) = fs::metadata(&descriptor)
        {
            files.insert(file.ino(), file.blocks() * 512);
        }
    }
    files.into_values().sum()
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

pub(crate) fn kill(process: u32) {
    let process = Pid::from_raw(process.cast_signed()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
}

pub(crate) fn parent_of(process: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    status.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// Number of processes that have this in their command lines.
pub(crate) fn processes_with(mark: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    commands
        .filter_map(|path| fs::read(path).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

/// Whether the process is gone or only waits for its parent to notice.
pub(crate) fn is_gone(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    status.map_or(true, |status| status.rsplit(") ").next().unwrap().starts_with('Z'))
}
