//! The second thread of a worker: it writes outcomes that wait too long, and notices that the node is gone while a
//! job keeps the first thread busy.
//!
//! It sleeps in poll(2) without a time limit while nothing is pending and nothing runs, so an idle worker costs no
//! processor time; the first thread wakes it when it begins to work. While jobs run it looks now and then whether that
//! thread still gets along, and after something large, until the memory for that has been given back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pp_protocol::room;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lending::Lending;
use super::outbox::{NextLook, Outbox};
use super::printing::Printer;
use super::{NodeGone, descriptors, end_because};
use crate::core::Progress;
use crate::page::{Page, SelfEnd};

/// Time between two looks for what the node has returned.
const LENT_LOOK: Duration = Duration::from_secs(1);
/// Time between two looks at the thread that runs jobs.
const JOBS_LOOK: Duration = Duration::from_millis(200);

/// Whether jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobsRun {
    No,
    /// The one that ran at the last look, still.
    TheSame,
    Others,
}

/// Second thread of a worker, and what it looks at.
#[derive(Debug)]
pub(super) struct Watcher {
    outbox: Arc<Outbox>,
    page: Arc<Page>,
    lending: Arc<Lending>,
    node_gone: NodeGone,
    /// Printer, where standard output is the jobs' own.
    printer: Option<Printer>,
    /// The thread that runs jobs, as the system lists it.
    jobs_thread: Task,
    /// Progress of the jobs at the last look, and how many frames of work had been begun.
    seen: (Progress, u64),
}

impl Watcher {
    /// To be called by the thread that runs jobs.
    pub(super) fn new(
        outbox: Arc<Outbox>,
        page: Arc<Page>,
        lending: Arc<Lending>,
        node_gone: NodeGone,
        printer: Option<Printer>,
    ) -> Self {
        let jobs_thread = Task::of_this_thread();
        Self { outbox, page, lending, node_gone, printer, jobs_thread, seen: Default::default() }
    }

    /// Runs until the outbox is closed or the node is gone. Calls `ready` as soon as jobs may run.
    pub(super) fn watch(mut self, ready: impl FnOnce()) {
        let process = self.node_gone == NodeGone::EndProcess;
        // Where it is not permitted, a job that closes them ends its worker, which says why.
        let has_descriptors_of_its_own = process && descriptors::keep_for_this_thread();
        ready();
        loop {
            let print = || self.printer.iter_mut().for_each(Printer::flush);
            let next = match self.outbox.flush_late(print) {
                Ok(NextLook::After(time)) => Some(time),
                Ok(NextLook::WhenWoken) => {
                    let memory = self.see_to_memory();
                    let jobs_run = self.jobs_run();
                    if jobs_run == JobsRun::TheSame && self.jobs_thread.is_gone() {
                        return self.end(SelfEnd::ThreadEnded);
                    }
                    let jobs = (jobs_run != JobsRun::No).then_some(JOBS_LOOK);
                    memory.into_iter().chain(jobs).min()
                }
                Ok(NextLook::Never) => return,
                Ok(NextLook::HeldUp) => return self.end(SelfEnd::HeldUp),
                Ok(NextLook::CutOff) => return self.end(SelfEnd::CutOff),
                Err(_) => return self.end(SelfEnd::NodeGone),
            };
            let timeout = next.and_then(|time| Timespec::try_from(time).ok());
            // That the other end is closed is reported without being asked for.
            let node = PollFd::new(self.outbox.socket(), PollFlags::empty());
            let woken = self.outbox.woken();
            let mut watched = [node, PollFd::new(&woken, PollFlags::IN)];
            match poll(&mut watched, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Without a view of the node, nothing would end this process if the node died.
                Err(_) => return self.end(SelfEnd::NodeGone),
            }
            let (node, woken) = (watched[0].revents(), watched[1].revents());
            if node.contains(PollFlags::NVAL) && !has_descriptors_of_its_own {
                return self.end(SelfEnd::CutOff);
            }
            if node.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                return self.end(SelfEnd::NodeGone);
            }
            if woken.contains(PollFlags::IN) {
                self.outbox.clear_wake();
            }
        }
    }

    /// Whether a job runs, or one ran since the last look. If not, this thread is woken when there is work.
    fn jobs_run(&mut self) -> JobsRun {
        let frames = self.outbox.sleep();
        let progress = self.page.progress();
        let before = std::mem::replace(&mut self.seen, (progress, frames));
        let run = match before == self.seen {
            false => JobsRun::Others,
            true if progress.started != progress.finished => JobsRun::TheSame,
            true => JobsRun::No,
        };
        if run != JobsRun::No {
            self.outbox.stay_awake();
        }
        run
    }

    /// Gives memory back that nobody uses, and yields when to look again.
    fn see_to_memory(&self) -> Option<Duration> {
        self.lending.set_watched(false);
        let lent = self.lending.take_back().then_some(LENT_LOOK);
        room::tidy();
        let due = room::due().map(|due| due.saturating_duration_since(Instant::now()));
        let next = lent.into_iter().chain(due).min();
        self.lending.set_watched(next.is_some());
        next
    }

    fn end(&self, reason: SelfEnd) {
        match self.node_gone {
            NodeGone::EndProcess => end_because(&self.page, reason),
            // The thread that runs jobs finds the socket closed when it wants to read more work.
            NodeGone::EndThread => {}
        }
    }
}

/// A thread of this process.
#[derive(Debug)]
struct Task(Option<PathBuf>);

impl Task {
    /// Where the system lists threads, which it has to do for this one.
    fn of_this_thread() -> Self {
        #[cfg(target_os = "linux")]
        let path = Some(PathBuf::from(format!("/proc/self/task/{}", rustix::thread::gettid())));
        #[cfg(not(target_os = "linux"))]
        let path = None::<PathBuf>;
        Self(path.filter(|path| path.exists()))
    }

    /// Whether the thread has ended without anybody being told, as C code ends one.
    fn is_gone(&self) -> bool {
        self.0.as_ref().is_some_and(|path| !path.exists())
    }
}
