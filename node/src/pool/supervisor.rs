//! The task of one worker: starts it, passes on what it says, and tells its end.
//!
//! In which state it is, and for how long, is in [`life`](super::life); how it is killed and what its end is told as, in
//! [`ending`](super::ending).

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use pp_protocol::Stream;
use pp_protocol::worker::{FromWorker, WORKER_VERSION};
use rustix::process::Pid;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::inbound::Inbound;
use super::last_words::LastWords;
use super::life::{KillReason, Life};
use super::link::Link;
use super::output::{Lines, OutputReader};
use super::start::{Body, Plan};
use super::{Order, WorkerEvent, WorkerEvents};
use crate::core::WorkerKey;
use crate::page::Page;
use crate::wrapping::is_before;

/// Time between two words that something large is under way.
const MOVING_TOLD: Duration = Duration::from_secs(1);
/// Time between two looks for what a worker has returned without a message.
const LENT_LOOK: Duration = Duration::from_secs(1);
/// Time to wait for the last output of a worker that is gone. A process that left its group may hold the pipe.
const LAST_OUTPUT_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Supervisor {
    key: WorkerKey,
    events: WorkerEvents,
    orders: mpsc::UnboundedReceiver<Order>,
    pub(super) page: Arc<Page>,
    pub(super) link: Arc<Link>,
    pub(super) inbound: Inbound,
    pub(super) life: Life,
    pub(super) last_words: LastWords,
    /// The leader of its process group, which is the worker itself or its warden; missing for a thread, and once it is gone.
    pub(super) group: Option<Pid>,
    /// Whether it has a warden from the beginning that is none of its program's: nothing that jobs write tells otherwise.
    pub(super) is_launched: bool,
    /// Whether it had used up the memory that it may have.
    pub(super) ran_out_of_memory: bool,
    /// Time of the next look whether the worker still uses what it was lent.
    looks_at: Option<Instant>,
    /// Whether what it prints and reports is left where it is: its dispatcher has enough to read.
    is_held: bool,
    /// Whether a part of it has been told, so that nothing more is before that is on its way.
    has_told_part: bool,
    /// Time when it was last told that something large is under way.
    told_moving: Option<Instant>,
}

/// The standard streams of a worker process.
struct Output {
    stdout: OutputReader<ChildStdout>,
    stderr: OutputReader<ChildStderr>,
}

impl Supervisor {
    pub(super) fn new(
        key: WorkerKey,
        events: WorkerEvents,
        orders: mpsc::UnboundedReceiver<Order>,
        page: Arc<Page>,
        link: Arc<Link>,
        inbound: Inbound,
    ) -> Self {
        Self {
            key,
            events,
            orders,
            page,
            link,
            inbound,
            life: Life::starting(),
            last_words: LastWords::default(),
            group: None,
            is_launched: false,
            ran_out_of_memory: false,
            looks_at: None,
            is_held: false,
            has_told_part: false,
            told_moving: None,
        }
    }

    /// Starts the worker and stays with it to its end.
    pub(super) async fn run(mut self, plan: Plan) {
        let mut body = match plan.start_aside(Arc::clone(&self.link)).await {
            Ok(body) => body,
            Err(failure) => return self.report(WorkerEvent::FailedToStart(failure)),
        };
        self.life = Life::starting();
        let mut output = self.attach(&mut body);
        let status = self.watch(&mut body, &mut output).await;
        let status = self.end_what_is_left(&mut body, status).await;
        let _ = tokio::time::timeout(LAST_OUTPUT_TIME, self.read_what_is_left(&mut output)).await;
        for (stream, rest) in [(Stream::Stdout, output.stdout.rest()), (Stream::Stderr, output.stderr.rest())]
        {
            self.print(stream, Lines { later: rest.into_iter().collect(), ..Lines::default() });
        }
        self.link.forget_lent();
        self.inbound.worker_is_gone();
        self.report_end(status);
    }

    fn attach(&mut self, body: &mut Body) -> Output {
        let (mut stdout, mut stderr) = (None, None);
        self.is_launched = body.is_launched();
        if let Body::Process { child, inherited, .. } = body {
            self.group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            stdout.iter().for_each(|pipe| inherited.add_pipe(pipe));
            stderr.iter().for_each(|pipe| inherited.add_pipe(pipe));
        }
        let page = || Arc::clone(&self.page);
        Output {
            stdout: OutputReader::new(Stream::Stdout, stdout, page()),
            stderr: OutputReader::new(Stream::Stderr, stderr, page()),
        }
    }

    /// Serves the worker until it is gone. `None` if that was a thread or a process that does not go.
    async fn watch(&mut self, body: &mut Body, output: &mut Output) -> Option<ExitStatus> {
        loop {
            if self.looks_at.is_none() && self.link.has_lent() {
                self.looks_at = Some(Instant::now() + LENT_LOOK);
            }
            let wakes_at = self.life.deadline().into_iter().chain(self.looks_at).min();
            let has_queued = self.link.has_queued();
            let (is_held, is_killed) = (self.is_held, self.life.is_killed());
            let is_cut_off = self.inbound.has_ended();
            let is_heard = !is_cut_off && !is_held && !self.has_told_part;
            tokio::select! {
                // A line printed before an outcome was sent is to be told before that outcome.
                biased;
                order = self.orders.recv(), if !is_killed => self.obey(order, output),
                lines = output.stdout.read(), if !is_held => self.print(Stream::Stdout, lines),
                lines = output.stderr.read(), if !is_held => self.print(Stream::Stderr, lines),
                read = self.inbound.read(), if is_heard => self.take(read, output),
                () = self.link.write_queued(), if has_queued => self.is_moving(),
                status = body.ended(is_cut_off) => return status,
                () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => {
                    let has_come = |time: Instant| time <= Instant::now();
                    if self.looks_at.take_if(|time| has_come(*time)).is_some() {
                        self.link.take_back();
                    }
                    if self.life.deadline().is_some_and(has_come) && self.is_given_up() {
                        return None;
                    }
                }
            }
        }
    }

    /// Reads what a worker wrote before it ended, which is as good as what it wrote before that.
    async fn read_what_is_left(&mut self, output: &mut Output) {
        while !(self.inbound.has_ended() && output.stdout.has_ended() && output.stderr.has_ended()) {
            let is_heard = !self.inbound.has_ended() && !self.has_told_part;
            tokio::select! {
                biased;
                Some(order @ Order::ReadOn) = self.orders.recv() => self.obey(Some(order), output),
                lines = output.stdout.read() => self.print(Stream::Stdout, lines),
                lines = output.stderr.read() => self.print(Stream::Stderr, lines),
                read = self.inbound.read(), if is_heard => self.take(read, output),
            }
        }
    }

    fn obey(&mut self, order: Option<Order>, output: &mut Output) {
        match order {
            // There is something queued now, which the next turn of the loop sees.
            Some(Order::Write) => {}
            Some(Order::HoldOutput(held)) => {
                self.is_held = held;
                self.hear_all(output);
            }
            Some(Order::ReadOn) => {
                self.has_told_part = false;
                self.hear_all(output);
            }
            Some(Order::Retire) => {
                self.link.close();
                self.life.retire();
            }
            // The node dropped its handle: nobody would use the worker any more.
            Some(Order::Kill) | None => self.kill(KillReason::Ordered),
        }
    }

    fn take(&mut self, read: io::Result<usize>, output: &mut Output) {
        if !matches!(read, Ok(1..)) {
            self.inbound.end();
            return self.life.cut_off();
        }
        self.hear_all(output);
    }

    /// Takes the messages that have arrived, up to a part.
    fn hear_all(&mut self, output: &mut Output) {
        while !self.inbound.has_ended() && !self.has_told_part && !self.is_held {
            match self.inbound.next() {
                Ok(None) if self.inbound.is_within_large() => return self.is_moving(),
                Ok(None) => return,
                Ok(Some(message)) => self.hear(message, output),
                Err(error) => {
                    tracing::warn!(worker = self.key.0, %error, "a worker writes garbage");
                    return self.break_off();
                }
            }
        }
    }

    /// Something large is on its way, which takes its time.
    fn is_moving(&mut self) {
        let now = Instant::now();
        if self.told_moving.is_none_or(|told| now - told >= MOVING_TOLD) {
            self.told_moving = Some(now);
            self.report(WorkerEvent::Moving);
        }
    }

    fn hear(&mut self, message: FromWorker, output: &mut Output) {
        match (message, &self.life) {
            (FromWorker::Ready { version: WORKER_VERSION, functions, borrows, names }, Life::Starting { .. }) => {
                self.life = Life::Serving;
                if borrows {
                    self.link.begin_to_lend();
                }
                self.report(WorkerEvent::Ready { functions, names });
            }
            (FromWorker::Ready { version, .. }, Life::Starting { .. }) => self.give_up_as_useless(format!(
                "it was built with a pp_dispatcher whose workers speak version {version}, this node speaks version \
                 {WORKER_VERSION}; build both from the same release"
            )),
            // It may have become ready just before it was told to end, which nobody is interested in any more.
            (FromWorker::Ready { .. }, Life::Retiring { .. } | Life::Killed { .. }) => {}
            (FromWorker::Ready { .. }, Life::Serving | Life::CutOff { .. }) => self.break_off(),
            (
                FromWorker::Finished { .. } | FromWorker::Skipped(_) | FromWorker::Part(..),
                Life::Starting { .. },
            ) => self.break_off(),
            (FromWorker::Finished { outcomes, is_quiet }, _) => {
                self.link.take_back();
                if !is_quiet {
                    self.print_before_outcome(output);
                }
                self.report(WorkerEvent::Finished(outcomes));
            }
            (FromWorker::Skipped(number), _) => {
                self.link.take_back();
                self.report(WorkerEvent::Skipped(number));
            }
            (FromWorker::Part(number, stream, bytes), _) => {
                self.has_told_part = true;
                self.report(WorkerEvent::Part(number, stream, bytes));
            }
        }
    }

    /// Tells what was printed until a piece of work was reported, before that: it is in the pipes.
    fn print_before_outcome(&mut self, output: &mut Output) {
        let (stdout, stderr) = (output.stdout.read_what_is_there(), output.stderr.read_what_is_there());
        self.print(Stream::Stdout, stdout);
        self.print(Stream::Stderr, stderr);
    }

    fn print(&mut self, stream: Stream, lines: Lines) {
        let started = self.page.progress().started;
        for (number, lines) in lines.of_ended {
            // Anything can be in a mark that a job wrote itself.
            let ended = number.wrapping_add(1);
            self.print_as_of(if is_before(started, ended) { started } else { ended }, stream, lines);
        }
        self.print_as_of(started, stream, lines.later);
    }

    /// Tells what was printed while so many pieces had been started.
    fn print_as_of(&mut self, started: u32, stream: Stream, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        self.last_words.began(started);
        if stream == Stream::Stderr {
            self.last_words.add(&lines);
        }
        self.report(WorkerEvent::Output { stream, started, lines });
    }

    pub(super) fn report(&self, event: WorkerEvent) {
        // If the node's task is gone, so is its interest.
        let _ = self.events.send((self.key, event));
    }
}
