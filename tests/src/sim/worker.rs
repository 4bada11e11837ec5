//! A worker process: its page, the work in its socket, the job it runs, what it writes back.
//!
//! Mirrors `pp_node::page`, the worker's runner and the supervisor of its process, without processes.

use std::collections::VecDeque;
use std::time::Duration;

use pp_node::core::{Program, Progress, WorkerKey};
use pp_protocol::worker::{Finished, Work, WorkResult};
use pp_protocol::{Death, Moment, Panic, Payload, Stream, WorkerDeath};

use super::World;
use super::agenda::What;
use super::ledger::{Fate, JobName};
use super::node::NodeInput;

/// Next step of a worker process.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It has started.
    Start,
    /// It could not be started.
    FailToStart(Lack),
    /// A frame of work has reached its socket.
    Frame(Vec<Work>),
    /// The job it runs, its so-many-th one, prints a line.
    Print(u64),
    /// The job it runs, its so-many-th one, sends this part of what it sends ahead of its result.
    SendPart(u64, u32),
    /// The job it runs, its so-many-th one, ends.
    EndJob(u64),
    /// It dies.
    Die(Death),
    /// Its socket was closed by the node.
    Retire,
}

/// Whether it is seen that the machine is short of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    Seen,
    Unknown,
}

/// Event that the supervisor tells the node.
#[derive(Clone, Debug)]
pub(super) enum WorkerEvent {
    Ready,
    FailedToStart(String, Lack),
    Finished(Vec<(JobName, Finished)>),
    Skipped(u32),
    Output(String),
    Part(u32, Payload),
    Exited(WorkerDeath),
}

impl WorkerEvent {
    /// The ended jobs that it reports.
    fn into_finished(self) -> Vec<(JobName, Finished)> {
        match self {
            Self::Finished(finished) => finished,
            _ => Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct SimWorker {
    pub(super) program: Program,
    /// The page: what may be claimed, what was, what has ended, and when the last one started.
    limit: u32,
    started: u32,
    finished: u32,
    started_at: Moment,
    /// Frames in its socket.
    frames: VecDeque<VecDeque<Work>>,
    /// The end of what it threw away of the frame it reads.
    thrown_away: Option<u32>,
    /// Ended jobs it has not reported.
    pending: Vec<(JobName, Finished)>,
    running: Option<Running>,
    is_ready: bool,
    is_dead: bool,
    /// The node wants it to end.
    pub(super) is_ordered: bool,
    /// Number of jobs it ran.
    runs: u64,
    /// Arrival of the last of what it was sent.
    last_given: Moment,
    /// Arrival at the node of the last of what it wrote.
    last_told: Moment,
    /// The node was told of a part, and has not said that it reads on; and what was written since.
    has_told_part: bool,
    unread: VecDeque<WorkerEvent>,
}

#[derive(Clone, Debug)]
struct Running {
    number: u32,
    job: JobName,
    run: u32,
}

impl SimWorker {
    pub(super) fn new(program: Program) -> Self {
        Self {
            program,
            limit: 0,
            started: 0,
            finished: 0,
            started_at: Moment(0),
            frames: VecDeque::new(),
            thrown_away: None,
            pending: Vec::new(),
            running: None,
            is_ready: false,
            is_dead: false,
            is_ordered: false,
            runs: 0,
            last_given: Moment(0),
            last_told: Moment(0),
            has_told_part: false,
            unread: VecDeque::new(),
        }
    }

    pub(super) fn raise(&mut self, by: u32) {
        self.limit = self.limit.wrapping_add(by);
    }

    pub(super) fn revoke(&mut self) -> Progress {
        self.limit = self.started;
        self.progress()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { started: self.started, finished: self.finished, started_at_ns: self.started_at.0 }
    }

    /// Arrival of what would reach it at `at`, behind what was sent before.
    pub(super) fn arrival(&mut self, at: Moment) -> Moment {
        self.last_given = self.last_given.max(at);
        self.last_given
    }

    /// The process exists and the node has not told it to end.
    pub(super) fn counts(&self) -> bool {
        !self.is_dead && !self.is_ordered
    }

    /// Whether it has said that it is ready, and lives.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready && !self.is_dead
    }

    pub(super) fn runs_job(&self) -> Option<JobName> {
        self.running.as_ref().filter(|_| !self.is_dead).map(|running| running.job)
    }

    /// Its part in a job, if it has one.
    pub(super) fn part_in(&self, job: JobName) -> Option<&'static str> {
        let waits = || self.frames.iter().flatten().any(|work| JobName::of(&work.args) == job);
        if self.runs_job() == Some(job) {
            Some("runs it")
        } else if self.pending.iter().any(|(ended, _)| *ended == job) {
            Some("has ended it and not reported that")
        } else {
            waits().then_some("is to run it")
        }
    }

    /// Has been given work it has not dealt with.
    pub(super) fn is_loaded(&self) -> bool {
        self.running.is_some() || self.limit != self.started
    }

    fn claim(&mut self, number: u32, now: Moment) -> bool {
        if (number.wrapping_sub(self.limit) as i32) >= 0 {
            return false;
        }
        self.started = number.wrapping_add(1);
        self.started_at = now;
        true
    }

    fn skip_to(&mut self, number: u32) {
        (self.limit, self.started, self.finished) = (number, number, number);
    }
}

impl World {
    pub(super) fn worker(&mut self, node: usize, life: u32, key: WorkerKey, step: Step) {
        if self.nodes[node].life != life || !self.nodes[node].is_up() {
            return;
        }
        let Some(worker) = self.nodes[node].workers.get_mut(&key).filter(|worker| !worker.is_dead) else {
            return;
        };
        self.story.begin(self.now, || format!("node {node}: worker {}: {step:?}", key.0));
        match step {
            Step::Start => {
                worker.is_ready = true;
                self.report_to_node(node, key, WorkerEvent::Ready);
                self.advance(node, key);
            }
            Step::FailToStart(lack) => {
                worker.is_dead = true;
                self.report_to_node(node, key, WorkerEvent::FailedToStart("no memory".into(), lack));
            }
            Step::Frame(works) => {
                worker.frames.push_back(works.into());
                self.advance(node, key);
            }
            Step::Print(run) if worker.runs == run && worker.running.is_some() => {
                let text = worker.running.as_ref().map(|running| running.job.to_string());
                self.report_to_node(node, key, WorkerEvent::Output(text.unwrap_or_default()));
            }
            Step::SendPart(run, part) if worker.runs == run => self.send_part(node, key, part),
            Step::EndJob(run) if worker.runs == run => self.end_job(node, key),
            Step::Print(_) | Step::SendPart(..) | Step::EndJob(_) => {}
            Step::Retire => self.retire(node, key),
            Step::Die(death) => self.die(node, key, death),
        }
        self.follow();
    }

    /// Reads work, until it runs a job or there is nothing more to read.
    fn advance(&mut self, node: usize, key: WorkerKey) {
        loop {
            let now = self.now;
            let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
            if !worker.is_ready || worker.is_dead || worker.running.is_some() {
                return;
            }
            let more = worker.frames.len() > 1;
            let Some(frame) = worker.frames.front_mut() else { return };
            let Some(work) = frame.pop_front() else {
                worker.frames.pop_front();
                self.end_frame(node, key, more);
                continue;
            };
            let job = JobName::of(&work.args);
            let is_long = self.ledger.job(job).spec.run_time > Duration::from_micros(100);
            if is_long {
                self.flush_worker(node, key);
            }
            let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
            if worker.claim(work.number, now) {
                self.start_job(node, key, job, work.number);
            } else {
                worker.thrown_away = Some(work.number.wrapping_add(1));
            }
        }
    }

    fn end_frame(&mut self, node: usize, key: WorkerKey, more: bool) {
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        let thrown_away = worker.thrown_away.take();
        if thrown_away.is_some() || !more {
            self.flush_worker(node, key);
        }
        if let Some(next) = thrown_away {
            if let Some(worker) = self.nodes[node].workers.get_mut(&key) {
                worker.skip_to(next);
            }
            self.report_to_node(node, key, WorkerEvent::Skipped(next));
        }
    }

    fn start_job(&mut self, node: usize, key: WorkerKey, job: JobName, number: u32) {
        self.story.record(self.now, Some(job), || format!("node {node}: worker {} starts {job}", key.0));
        self.check_place(job, node);
        let run = self.ledger.started(job, node, self.now);
        let life = self.nodes[node].life;
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        worker.runs += 1;
        worker.running = Some(Running { number, job, run });
        let runs = worker.runs;
        let spec = &self.ledger.job(job).spec;
        let run_time = spec.run_time * self.nodes[node].slowness;
        let step = match spec.fate {
            Fate::Endless => None,
            Fate::Poison => Some(Step::Die(Death::Signal(11))),
            _ => Some(Step::EndJob(runs)),
        };
        if spec.prints {
            let at = self.now + run_time / 2;
            self.agenda.add(at, What::Worker(node, life, key, Step::Print(runs)));
        }
        for part in 0..spec.parts {
            let at = self.now + run_time / (spec.parts + 1) * (part + 1);
            self.agenda.add(at, What::Worker(node, life, key, Step::SendPart(runs, part)));
        }
        if let Some(step) = step {
            self.agenda.add(self.now + run_time, What::Worker(node, life, key, step));
        }
    }

    fn send_part(&mut self, node: usize, key: WorkerKey, part: u32) {
        // Outcomes do not wait behind it.
        self.flush_worker(node, key);
        let worker = self.nodes[node].workers.get(&key);
        let Some(Running { number, job, run }) = worker.and_then(|worker| worker.running.clone()) else {
            return;
        };
        let bytes = self.ledger.part(job, run, part);
        self.report_to_node(node, key, WorkerEvent::Part(number, bytes));
    }

    /// The node reads on what a worker wrote, up to another part.
    pub(super) fn read_on(&mut self, node: usize, key: WorkerKey) {
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        worker.has_told_part = false;
        let unread = std::mem::take(&mut worker.unread);
        unread.into_iter().for_each(|event| self.report_to_node(node, key, event));
    }

    fn end_job(&mut self, node: usize, key: WorkerKey) {
        let now = self.now;
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        let Some(Running { number, job, run }) = worker.running.take() else { return };
        worker.finished = number.wrapping_add(1);
        let result = match self.ledger.job(job).spec.fate {
            Fate::Panics => WorkResult::Panicked(Panic::new(job.to_string())),
            Fate::BadArguments => WorkResult::BadArguments(job.to_string()),
            _ => WorkResult::Succeeded(self.ledger.result(job, run)),
        };
        let run_time_ns = now.since(worker.started_at).as_nanos() as u64;
        worker.pending.push((job, Finished { number, run_time_ns, result }));
        if self.random.percent(50) {
            self.flush_worker(node, key);
        }
        self.advance(node, key);
    }

    fn flush_worker(&mut self, node: usize, key: WorkerKey) {
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        let pending = std::mem::take(&mut worker.pending);
        if !pending.is_empty() {
            self.report_to_node(node, key, WorkerEvent::Finished(pending));
        }
    }

    fn retire(&mut self, node: usize, key: WorkerKey) {
        self.die(node, key, Death::Exit(0));
    }

    fn die(&mut self, node: usize, key: WorkerKey, death: Death) {
        let now = self.now;
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        worker.is_dead = true;
        let (is_ready, is_ordered) = (worker.is_ready, worker.is_ordered);
        // What is behind a part that the node has not made room for is not read any more.
        worker.has_told_part = false;
        let unread = std::mem::take(&mut worker.unread).into_iter().flat_map(WorkerEvent::into_finished);
        for (job, _) in unread.chain(std::mem::take(&mut worker.pending)) {
            self.ledger.end_unreported(job);
        }
        if let Some(job) = worker.running.as_ref().map(|running| running.job) {
            match death {
                Death::Signal(9) if is_ordered => self.ledger.killed(job),
                _ => self.worker_died(job),
            }
            self.story
                .record(now, Some(job), || format!("node {node}: worker {} dies in {job}: {death}", key.0));
        }
        let event = if is_ready || is_ordered {
            WorkerEvent::Exited(WorkerDeath::new(death, Vec::new()))
        } else {
            WorkerEvent::FailedToStart(format!("it ended before it was ready ({death})"), Lack::Unknown)
        };
        self.report_to_node(node, key, event);
    }

    /// A worker died while it ran the job, and not because the node wanted it.
    pub(super) fn worker_died(&mut self, job: JobName) {
        let losses = self.sites[job.site as usize].losses;
        self.ledger.worker_died(job, losses);
    }

    /// Sends the node an event of a worker and its supervisor, which arrive in order.
    fn report_to_node(&mut self, node: usize, key: WorkerKey, event: WorkerEvent) {
        let delay = self.random.magnitude(Duration::from_micros(2), Duration::from_micros(500));
        let life = self.nodes[node].life;
        let Some(worker) = self.nodes[node].workers.get_mut(&key) else { return };
        if worker.has_told_part {
            return worker.unread.push_back(event);
        }
        worker.has_told_part = matches!(event, WorkerEvent::Part(..));
        worker.last_told = worker.last_told.max(self.now + delay);
        self.agenda.add(worker.last_told, What::NodeInput(node, life, NodeInput::Worker(key, event)));
    }

    /// The stream a simulated job prints to.
    pub(super) const PRINTS_TO: Stream = Stream::Stdout;
}
