//! The loop that runs jobs: it takes them as they are composed, submits them, and takes their ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use pp_dispatcher::{CommandOutput, Dispatcher, JobError, Output};
use pp_run::{ComposeError, Composed, Plan, Start};

use super::finished::{End, Finished, Printer};
use super::{Options, WRONG};
use crate::Arguments;

/// Jobs that are submitted ahead of free slots: this many, and as many as there are slots.
const AHEAD: usize = 64;
/// Time between two looks at how many slots there are.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Failed jobs that the exit code counts.
const MOST_COUNTED: u64 = 100;

/// What the loop is told.
enum Event {
    Composed(Result<Composed, ComposeError>),
    /// There are no more arguments.
    AllComposed,
    Ended(Running, Result<CommandOutput, JobError>),
    Interrupted,
}

/// A job that was submitted.
#[derive(Debug)]
struct Running {
    job: Composed,
    position: u64,
    slot: usize,
    tries: u32,
    submitted: SystemTime,
}

struct Engine<'a> {
    options: &'a Options,
    dispatcher: Dispatcher,
    printer: Printer,
    events: Sender<Event>,
    /// Tells the thread that composes jobs to go on with one more.
    wanted: Sender<()>,
    environment: Vec<(String, OsString)>,
    slots: Slots,
    /// Jobs asked for that have not ended.
    under_way: usize,
    submitted: u64,
    failed: u64,
    all_composed: bool,
    /// How many jobs there are, where jobs are told that.
    total: Arc<AtomicU64>,
    /// Whether jobs are told their slot, so that no more are under way than there are slots.
    needs_slot: bool,
    /// Jobs that may be under way.
    most: usize,
    looks_at: Instant,
    /// Jobs that wait for their time (`--delay`), and when that is.
    delayed: VecDeque<Composed>,
    next_start: Instant,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &Options,
    plan: Plan,
    local_workers: usize,
) -> anyhow::Result<ExitCode> {
    let printer = Printer::new(options)?;
    let delimiter = options.delimiter()?;
    let environment = variables(&options.env)?;
    let builder = Dispatcher::builder()
        .local_workers(local_workers)
        .only_built_in(true)
        .discover_by_default(true)
        .output(Output::EventsOnly)
        .more_nodes(&options.nodes);
    let builder = match &arguments.secret_file {
        Some(path) => builder.secret_file(path),
        None => builder,
    };
    let dispatcher = builder.start()?;
    let (events, told) = channel();
    let (wanted, asked) = channel();
    let needs_slot = plan.depends_on_slot();
    let total = Arc::new(AtomicU64::new(0));
    compose(plan, delimiter, Arc::clone(&total), asked, events.clone())?;
    tell_interrupts(events.clone())?;
    let mut engine = Engine {
        options,
        dispatcher,
        printer,
        events,
        wanted,
        environment,
        slots: Slots::default(),
        under_way: 0,
        submitted: 0,
        failed: 0,
        all_composed: false,
        total,
        needs_slot,
        most: 1,
        looks_at: Instant::now(),
        delayed: VecDeque::new(),
        next_start: Instant::now(),
    };
    let ended = engine.serve(&told);
    engine.dispatcher.shutdown();
    ended
}

impl Engine<'_> {
    fn serve(&mut self, told: &Receiver<Event>) -> anyhow::Result<ExitCode> {
        loop {
            self.ask_for_more();
            let patience = self.begin_delayed();
            if self.all_composed && self.under_way == 0 {
                self.printer.finish()?;
                let code = if self.failed > MOST_COUNTED { MOST_COUNTED + 1 } else { self.failed };
                return Ok(ExitCode::from(code as u8));
            }
            match told.recv_timeout(patience) {
                Ok(Event::Composed(job)) if self.options.delay.is_some() => self.delayed.push_back(job?),
                Ok(Event::Composed(job)) => self.begin(job?),
                Ok(Event::AllComposed) => {
                    self.all_composed = true;
                    self.under_way -= 1;
                }
                Ok(Event::Ended(running, result)) => self.ended(running, result)?,
                Ok(Event::Interrupted) => return Ok(ExitCode::from(WRONG)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the engine has a sender itself"),
            }
        }
    }

    /// Has as many jobs composed as can be under way.
    fn ask_for_more(&mut self) {
        if self.all_composed {
            return;
        }
        if self.looks_at <= Instant::now() {
            let slots: usize = self.dispatcher.nodes().iter().map(|node| node.slots).sum();
            self.most = if self.needs_slot { slots.max(1) } else { 2 * slots + AHEAD };
            self.looks_at = Instant::now() + LOOK_EVERY;
        }
        while self.under_way < self.most {
            if self.wanted.send(()).is_err() {
                return;
            }
            self.under_way += 1;
        }
    }

    /// Begins a job whose time has come, and tells how long to wait for the next one at most.
    fn begin_delayed(&mut self) -> Duration {
        let now = Instant::now();
        if self.next_start <= now
            && let Some(job) = self.delayed.pop_front()
        {
            self.next_start = now + self.options.delay.unwrap_or_default();
            self.begin(job);
        }
        if self.delayed.is_empty() {
            LOOK_EVERY
        } else {
            LOOK_EVERY.min(self.next_start.saturating_duration_since(now))
        }
    }

    fn begin(&mut self, job: Composed) {
        let (position, slot) = (self.submitted, self.slots.take());
        self.submitted += 1;
        self.submit(Running { job, position, slot, tries: 1, submitted: SystemTime::now() });
    }

    fn start(&self, slot: usize) -> Start {
        Start { slot, total: self.total.load(Ordering::Relaxed) }
    }

    fn submit(&self, running: Running) {
        let Running { job, slot, .. } = &running;
        let line = job.command(self.start(*slot));
        if self.options.verbose {
            crate::warn(&String::from_utf8_lossy(&line));
        }
        let mut command = self
            .dispatcher
            .command("/bin/sh")
            .args([OsString::from("-c"), OsString::from_vec(line)])
            .env("PARALLEL_SEQ", job.sequence().to_string())
            .env("PARALLEL_JOBSLOT", slot.to_string());
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        if let Some(directory) = &self.options.wd {
            command = command.current_dir(directory);
        }
        let events = self.events.clone();
        let mut job = command.job();
        if let Some(limit) = self.options.timeout {
            job = job.timeout(limit);
        }
        if let Some(attempts) = self.options.max_attempts {
            job = job.max_attempts(attempts);
        }
        job.callback(move |result| {
            // The loop is gone once the run has ended.
            let _ = events.send(Event::Ended(running, result));
        })
        .submit();
    }

    fn ended(&mut self, mut running: Running, result: Result<CommandOutput, JobError>) -> anyhow::Result<()> {
        let end = End::of(result, running.submitted);
        if !end.is_success() && running.tries < self.options.retries {
            running.tries += 1;
            running.submitted = SystemTime::now();
            self.submit(running);
            return Ok(());
        }
        self.under_way -= 1;
        self.failed += u64::from(!end.is_success());
        self.slots.give_back(running.slot);
        let Running { job, position, slot, .. } = running;
        let start = self.start(slot);
        let finished =
            Finished { sequence: job.sequence(), command: job.command(start), tag: job.tag(start), end };
        Ok(self.printer.take(position, finished)?)
    }
}

/// Composes jobs on a thread of their own, one whenever one is asked for: arguments may be long in coming.
fn compose(
    plan: Plan,
    delimiter: Vec<u8>,
    total: Arc<AtomicU64>,
    asked: Receiver<()>,
    events: Sender<Event>,
) -> anyhow::Result<()> {
    thread::Builder::new().name("compose".into()).spawn(move || {
        let (mut jobs, known): (super::Jobs, _) =
            super::jobs(&plan, &delimiter).unwrap_or_else(|error| (Box::new(std::iter::once(Err(error))), 0));
        total.store(known, Ordering::Relaxed);
        while asked.recv().is_ok() {
            let next = jobs.next();
            let is_last = !matches!(next, Some(Ok(_)));
            if events.send(next.map_or(Event::AllComposed, Event::Composed)).is_err() || is_last {
                break;
            }
        }
        // Whatever else is asked for has its answer, too.
        while asked.recv().is_ok() && events.send(Event::AllComposed).is_ok() {}
    })?;
    Ok(())
}

/// Tells the loop once whoever runs this wants it to end.
fn tell_interrupts(events: Sender<Event>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = runtime.block_on(async {
        let of = |kind| signal(kind).context("cannot hear signals");
        anyhow::Ok((of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?))
    })?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        drop(events.send(Event::Interrupted));
    })?;
    Ok(())
}

/// The values of variables that jobs are to have.
fn variables(names: &[String]) -> anyhow::Result<Vec<(String, OsString)>> {
    let names = names.iter().flat_map(|names| names.split(','));
    let value = |name: &str| {
        let value = std::env::var_os(name);
        value
            .map(|value| (name.to_owned(), value))
            .with_context(|| format!("--env {name}: there is no such variable"))
    };
    names.map(value).collect()
}

/// Numbers from 1, each in use once.
#[derive(Debug, Default)]
struct Slots {
    free: BinaryHeap<Reverse<usize>>,
    made: usize,
}

impl Slots {
    fn take(&mut self) -> usize {
        self.free.pop().map_or_else(
            || {
                self.made += 1;
                self.made
            },
            |Reverse(slot)| slot,
        )
    }

    fn give_back(&mut self, slot: usize) {
        self.free.push(Reverse(slot));
    }
}
