//! The task of one worker: it starts it, passes on what it says, and tells its end.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pp_protocol::limits::LAST_STDERR_LINES;
use pp_protocol::worker::{FromWorker, WORKER_VERSION};
use pp_protocol::{Death, Stream, WorkerDeath, shown};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::inbound::Inbound;
#[cfg(target_os = "linux")]
use super::leftovers;
use super::link::Link;
use super::memory;
use super::output::{Lines, OutputReader};
use super::start::{Body, Plan, explain_shortage, is_shortage};
use super::{Order, WorkerEvent, WorkerEvents};
use crate::core::{StartFailure, WorkerKey};
use crate::page::{Page, SelfEnd, is_before};
use crate::worker::SHORTAGE;

/// How often it is told that something large is under way.
const MOVING_TOLD: Duration = Duration::from_secs(1);
/// How long until it is looked for what a worker has returned without a message.
const LENT_LOOK: Duration = Duration::from_secs(1);
/// How long a program may take to call `init()`.
const START_TIME: Duration = Duration::from_secs(10);
/// How long a worker may take to end once its socket is closed: by the node, and by itself.
const RETIRE_TIME: Duration = Duration::from_secs(2);
const BREAK_OFF_TIME: Duration = Duration::from_millis(100);
/// How long a killed process may take to be gone. One that hangs in the kernel is given up; its slot is used again.
const KILL_TIME: Duration = Duration::from_secs(5);
/// How long to wait for the last output of a worker that is gone. Whoever left its process group may hold the pipe.
const LAST_OUTPUT_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Supervisor {
    key: WorkerKey,
    events: WorkerEvents,
    orders: mpsc::UnboundedReceiver<Order>,
    page: Arc<Page>,
    link: Arc<Link>,
    inbound: Inbound,
    last_stderr: VecDeque<String>,
    /// How many jobs had been started when the first of these was written.
    stderr_since: u32,
    /// The leader of its process group, which is the worker itself or its warden; missing for a thread, and once it is gone.
    group: Option<Pid>,
    is_ready: bool,
    /// Whether nothing more can come from its socket.
    is_cut_off: bool,
    /// Whether the node wanted it to end.
    is_ordered: bool,
    is_killed: bool,
    /// Whether it is being killed for what it wrote to its socket, or for closing it.
    broke_off: bool,
    /// Why it is being killed before it was ready.
    failure: Option<String>,
    /// What follows if nothing happens before.
    deadline: Option<(Instant, Deadline)>,
    /// When to look whether the worker still uses what it was lent.
    looks_at: Option<Instant>,
    /// Whether what it prints and reports is left where it is: its dispatcher has enough to read.
    is_held: bool,
    /// When it was last told that something large is under way.
    told_moving: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    NotReady,
    StillThere,
    BrokeOff,
    Unkillable,
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
            last_stderr: VecDeque::new(),
            stderr_since: 0,
            group: None,
            is_ready: false,
            is_cut_off: false,
            is_ordered: false,
            is_killed: false,
            broke_off: false,
            failure: None,
            deadline: None,
            looks_at: None,
            is_held: false,
            told_moving: None,
        }
    }

    /// Starts the worker and stays with it to its end.
    pub(super) async fn run(mut self, plan: Plan) {
        let mut body = match start(plan).await {
            Ok(body) => body,
            Err(failure) => return self.tell(WorkerEvent::FailedToStart(failure)),
        };
        self.deadline = Some((Instant::now() + START_TIME, Deadline::NotReady));
        let mut output = self.attach(&mut body);
        let status = self.watch(&mut body, &mut output).await;
        let status = self.end_what_is_left(&body, status).await;
        let _ = tokio::time::timeout(LAST_OUTPUT_TIME, self.read_what_is_left(&mut output)).await;
        for (stream, rest) in [(Stream::Stdout, output.stdout.rest()), (Stream::Stderr, output.stderr.rest())]
        {
            self.print(stream, Lines { later: rest.into_iter().collect(), ..Lines::default() });
        }
        self.link.forget_lent();
        self.inbound.worker_is_gone();
        self.tell_end(status);
    }

    fn attach(&mut self, body: &mut Body) -> Output {
        let (mut stdout, mut stderr) = (None, None);
        if let Body::Process { child, .. } = body {
            self.group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            (stdout, stderr) = (child.stdout.take(), child.stderr.take());
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
            let wakes_at = self.deadline.map(|(time, _)| time).into_iter().chain(self.looks_at).min();
            let has_queued = self.link.has_queued();
            let is_held = self.is_held;
            tokio::select! {
                // A line printed before an outcome was sent is to be told before that outcome.
                biased;
                order = self.orders.recv(), if !self.is_killed => self.obey(order),
                lines = output.stdout.read(), if !is_held => self.print(Stream::Stdout, lines),
                lines = output.stderr.read(), if !is_held => self.print(Stream::Stderr, lines),
                read = self.inbound.read(), if !self.is_cut_off && !is_held => self.take(read, output),
                () = self.link.write_queued(), if has_queued => self.is_moving(),
                status = ended(body, self.is_cut_off) => return status,
                () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => {
                    let has_come = |time: Instant| time <= Instant::now();
                    if self.looks_at.take_if(|time| has_come(*time)).is_some() {
                        self.link.take_back();
                    }
                    if self.deadline.is_some_and(|(time, _)| has_come(time)) && self.is_given_up() {
                        return None;
                    }
                }
            }
        }
    }

    /// What a worker wrote before it ended is as good as what it wrote before that.
    async fn read_what_is_left(&mut self, output: &mut Output) {
        while !(self.is_cut_off && output.stdout.has_ended() && output.stderr.has_ended()) {
            tokio::select! {
                biased;
                lines = output.stdout.read() => self.print(Stream::Stdout, lines),
                lines = output.stderr.read() => self.print(Stream::Stderr, lines),
                read = self.inbound.read(), if !self.is_cut_off => self.take(read, output),
            }
        }
    }

    fn obey(&mut self, order: Option<Order>) {
        match order {
            // There is something queued now, which the next turn of the loop sees.
            Some(Order::Write) => {}
            Some(Order::HoldOutput(held)) => self.is_held = held,
            Some(Order::Retire) => {
                self.is_ordered = true;
                self.link.close();
                self.deadline = Some((Instant::now() + RETIRE_TIME, Deadline::StillThere));
            }
            // The node dropped its handle: nobody would use the worker any more.
            Some(Order::Kill) | None => {
                self.is_ordered = true;
                self.kill();
            }
        }
    }

    fn kill(&mut self) {
        self.is_killed = true;
        if self.page.is_guarded() {
            // Its warden sees that, and ends everything.
            self.link.close();
        } else {
            self.kill_group();
        }
        if self.group.is_none() {
            // A thread goes on with the job it runs; it must not start another one.
            self.page.revoke();
            self.link.close();
            self.is_cut_off = true;
        }
        self.deadline = Some((Instant::now() + KILL_TIME, Deadline::Unkillable));
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            // It fails if the whole group is gone, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The process is gone: whatever its jobs started is to go with it. Yields how the worker ended.
    async fn end_what_is_left(&mut self, body: &Body, status: Option<ExitStatus>) -> Option<ExitStatus> {
        let Body::Process { environment, .. } = body else { return status };
        if !self.page.is_guarded() {
            // Nobody else can have got the group's number: that takes a turn through all process numbers between the
            // exit and this line.
            self.kill_group();
        } else if let Some(end) = self.page.end() {
            self.group = None;
            return Some(ExitStatus::from_raw(end));
        } else {
            // Somebody has killed the warden, or had to, and with it the worker.
            self.kill_group();
            search_leftovers(environment.clone()).await;
        }
        self.group = None;
        status
    }

    /// Acts on the deadline that has come. Tells whether there is nothing more to be done.
    fn is_given_up(&mut self) -> bool {
        match self.deadline.take() {
            None => return false,
            Some((_, Deadline::Unkillable)) => {
                self.kill_group();
                return true;
            }
            Some((_, Deadline::NotReady)) => self.fail(format!(
                "it did not call pp_dispatcher::init() within {} s; that must be the first thing in main",
                START_TIME.as_secs()
            )),
            Some((_, Deadline::BrokeOff)) => self.break_off(),
            Some((_, Deadline::StillThere)) => self.kill(),
        }
        false
    }

    fn take(&mut self, read: io::Result<usize>, output: &mut Output) {
        if !matches!(read, Ok(1..)) {
            self.is_cut_off = true;
            // If the process ends now, its exit status tells more than the end of the connection does.
            if !self.is_ordered && !self.is_killed {
                self.deadline = Some((Instant::now() + BREAK_OFF_TIME, Deadline::BrokeOff));
            }
            return;
        }
        loop {
            match self.inbound.next() {
                Ok(None) if self.inbound.is_within_large() => return self.is_moving(),
                Ok(None) => return,
                Ok(Some(message)) => self.hear(message, output),
                Err(error) => {
                    tracing::warn!(worker = self.key.0, %error, "a worker writes garbage");
                    return self.break_off();
                }
            }
            if self.is_cut_off {
                return;
            }
        }
    }

    /// Something large is on its way, which takes its time.
    fn is_moving(&mut self) {
        let now = Instant::now();
        if self.told_moving.is_none_or(|told| now - told >= MOVING_TOLD) {
            self.told_moving = Some(now);
            self.tell(WorkerEvent::Moving);
        }
    }

    fn hear(&mut self, message: FromWorker, output: &mut Output) {
        match message {
            FromWorker::Ready { version: WORKER_VERSION, functions, borrows } if !self.is_ready => {
                self.is_ready = true;
                if borrows {
                    self.link.begin_to_lend();
                }
                if !self.is_ordered && !self.is_killed {
                    self.deadline = None;
                }
                self.tell(WorkerEvent::Ready { functions });
            }
            FromWorker::Ready { version, .. } if !self.is_ready => self.fail(format!(
                "it was built with a pp_dispatcher whose workers speak version {version}, this node speaks version \
                 {WORKER_VERSION}; build both from the same release"
            )),
            FromWorker::Finished(finished) if self.is_ready => {
                self.link.take_back();
                self.print_before_outcome(output);
                self.tell(WorkerEvent::Finished(finished));
            }
            FromWorker::Skipped(number) if self.is_ready => {
                self.link.take_back();
                self.tell(WorkerEvent::Skipped(number));
            }
            FromWorker::Ready { .. } | FromWorker::Finished(_) | FromWorker::Skipped(_) => self.break_off(),
        }
    }

    /// It cannot become a worker.
    fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
        self.is_cut_off = true;
        self.kill();
    }

    /// Whatever it is, it is no worker any more.
    fn break_off(&mut self) {
        self.broke_off = true;
        self.is_cut_off = true;
        self.kill();
    }

    /// What was printed until a piece of work was reported is to be told before that: it is in the pipes.
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
        // The last words of a job are its own: what those before it wrote says nothing about its end.
        if std::mem::replace(&mut self.stderr_since, started) != started {
            self.last_stderr.clear();
        }
        if stream == Stream::Stderr {
            let first = lines.len().saturating_sub(LAST_STDERR_LINES);
            self.last_stderr.extend(lines[first..].iter().map(|line| shown(line).into_owned()));
            let surplus = self.last_stderr.len().saturating_sub(LAST_STDERR_LINES);
            self.last_stderr.drain(..surplus);
        }
        self.tell(WorkerEvent::Output { stream, started, lines });
    }

    fn tell_end(&mut self, status: Option<ExitStatus>) {
        let death = match status {
            _ if self.broke_off => Death::Garbage,
            Some(status) => self.death_of(status),
            None if self.is_killed => Death::Signal(Signal::KILL.as_raw()),
            None => Death::Exit(0),
        };
        let stderr: Vec<String> = std::mem::take(&mut self.last_stderr).into();
        if self.is_ready || self.is_ordered {
            return self.tell(WorkerEvent::Exited(WorkerDeath { death, stderr }));
        }
        let is_shortage = matches!(death, Death::Exit(SHORTAGE) | Death::OutOfMemory);
        let reason = self.failure.take().unwrap_or_else(|| match stderr.last() {
            Some(last) if is_shortage => last.clone(),
            _ if is_shortage => format!("it ended before it was ready ({death})"),
            _ => format!(
                "it ended before it was ready ({death}); is pp_dispatcher::init() the first thing in its main function?"
            ),
        });
        self.tell(WorkerEvent::FailedToStart(StartFailure { reason, stderr, is_shortage }));
    }

    fn death_of(&self, status: ExitStatus) -> Death {
        // What it said itself tells more than the signal with which it ended itself.
        let is_own = status.signal() == Some(Signal::KILL.as_raw()) && !self.is_killed && !self.is_ordered;
        match self.page.reason().filter(|_| is_own) {
            Some(SelfEnd::HeldUp) => return Death::HeldUp,
            Some(SelfEnd::ThreadEnded) => return Death::ThreadEnded,
            // The node did not close the connection.
            Some(SelfEnd::CutOff | SelfEnd::NodeGone) => return Death::CutOff,
            None => {}
        }
        match (status.signal(), status.code()) {
            (Some(signal), _) if signal == Signal::KILL.as_raw() && !self.is_killed && memory::ran_out() => {
                Death::OutOfMemory
            }
            (Some(signal), _) => Death::Signal(signal),
            (None, code) => Death::Exit(code.unwrap_or_default()),
        }
    }

    fn tell(&self, event: WorkerEvent) {
        // If the node's task is gone, so is its interest.
        let _ = self.events.send((self.key, event));
    }
}

impl Drop for Supervisor {
    /// The node ends while the worker is there. A warden notices that by itself; a program that is no worker yet does not.
    fn drop(&mut self) {
        if !self.page.is_guarded() {
            self.kill_group();
        }
    }
}

/// Ends what can be found of a worker whose warden is gone; off the node's task.
#[cfg(target_os = "linux")]
async fn search_leftovers(environment: String) {
    let (tell, ended) = oneshot::channel();
    let search = move || {
        leftovers::end(&environment);
        let _ = tell.send(());
    };
    if thread::Builder::new().name("pp-search".into()).spawn(search).is_ok() {
        let _ = ended.await;
    }
}

/// Where there are no wardens, none is missed.
#[cfg(not(target_os = "linux"))]
async fn search_leftovers(_environment: String) {}

/// Starts it off the node's task, in a thread of its own: where the system has none, that is the worker's failure to start,
/// while a runtime would panic.
async fn start(plan: Plan) -> Result<Body, StartFailure> {
    let (tell, started) = oneshot::channel();
    // What the node's task does with a process, whoever starts it, is done within its runtime.
    let runtime = Handle::current();
    let start = move || {
        let _inside = runtime.enter();
        // If nobody listens any more, the node has ended.
        if let Err(Ok(Body::Process { mut child, .. })) = tell.send(plan.start()) {
            let _ = child.start_kill();
        }
    };
    let failure = |error| StartFailure {
        reason: explain_shortage(&error),
        stderr: Vec::new(),
        is_shortage: is_shortage(&error),
    };
    thread::Builder::new().name("pp-start".into()).spawn(start).map_err(failure)?;
    started.await.unwrap_or_else(|_| Err(failure(io::ErrorKind::OutOfMemory.into())))
}

/// Waits until a process has ended, or the socket of a thread has.
async fn ended(body: &mut Body, is_cut_off: bool) -> Option<ExitStatus> {
    match body {
        // An error means that somebody else in this process waited for it, so that its status is lost.
        Body::Process { child, .. } => child.wait().await.ok(),
        Body::Thread if is_cut_off => None,
        Body::Thread => std::future::pending().await,
    }
}
