//! The node's side of its workers.
//!
//! A [`WorkerHandle`] is held by the node's task; for each there is one task that starts the worker, reads its outcomes
//! and output, and tells its end. Work is written to the worker's socket by the handle itself; only what the socket
//! does not take at once is left to the task. What work a worker gets is not decided here.
//!
//! | file | what it is |
//! |---|---|
//! | `start.rs` | starting: socket pair, page, process or thread; what the system is short of |
//! | `life.rs` | the states of a worker's life, each with its deadline |
//! | `supervisor.rs` | the task: what the worker says and prints on its way to the node |
//! | `ending.rs` | killing (at a time limit, too), and what a death is told as |
//! | `inbound.rs`, `link.rs` | the two directions of the worker's socket |
//! | `output.rs` | standard output and error cut into lines: the limits on captured output at their source |
//! | `last_words.rs` | the end of standard error, for the story of a death |
//! | `leftovers.rs`, `memory.rs` | processes without a warden; whether memory ran out |

mod ending;
mod inbound;
mod last_words;
mod leftovers;
mod life;
mod link;
mod memory;
mod output;
mod start;
mod supervisor;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use pp_protocol::room::Rooms;
use pp_protocol::worker::{Finished, FunctionName, Work};
use pp_protocol::{Payload, Stream, WorkerDeath};
use tokio::sync::mpsc;

use self::inbound::Inbound;
use self::link::{Link, Sent};
use self::start::Prepared;
pub(crate) use self::start::{explain_shortage, explain_start, is_shortage};
use self::supervisor::Supervisor;
use crate::core::{Progress, StartFailure, WorkerKey};
#[cfg(target_os = "linux")]
use crate::launcher::Launch;
use crate::page::Page;

/// Something happened to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerEvent {
    /// It waits for work.
    Ready {
        /// Number of functions its program has.
        functions: u32,
        /// Names of functions, for people.
        names: Vec<FunctionName>,
    },
    /// Work ended, in order.
    Finished(Vec<Finished>),
    /// Revoked work before this number has been thrown away.
    Skipped(u32),
    /// Lines were printed.
    Output {
        /// To which stream.
        stream: Stream,
        /// Number of pieces of work it had started by then: the last one of these printed it, as far as is known.
        started: u32,
        /// The lines, without their ends.
        lines: Vec<String>,
    },
    /// The piece of work of this number sent bytes ahead of its result. Nothing more is told of it before it is to be
    /// [read on](WorkerHandle::read_on).
    Part(u32, Stream, Payload),
    /// Something large is on its way to it, or from it. Told about once a second.
    Moving,
    /// It never became ready: why, and what it last wrote to standard error. The last event of this worker.
    FailedToStart(StartFailure),
    /// It is gone. The last event of this worker.
    Exited(WorkerDeath),
}

/// Channel for the events of all workers.
pub type WorkerEvents = mpsc::UnboundedSender<(WorkerKey, WorkerEvent)>;

/// Program of a worker, and where that runs.
#[derive(Clone, Debug)]
pub enum WorkerProgram {
    /// This executable file, in a process of its own.
    File(PathBuf),
    /// In a process of its own that a launcher confines.
    #[cfg(target_os = "linux")]
    Launched(Launch),
    /// The functions of this program, in a thread of this process, which cannot be killed.
    ThisProgramInThreads,
}

/// A worker. Dropping it kills the worker.
#[derive(Debug)]
pub struct WorkerHandle {
    page: Arc<Page>,
    /// Missing if there was no socket to be had.
    link: Option<Arc<Link>>,
    orders: mpsc::UnboundedSender<Order>,
    told_to_end: bool,
}

/// From a handle to the task of its worker.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The link could not write everything.
    Write,
    /// Leave what it prints and reports where it is, or take it again.
    HoldOutput(bool),
    /// Read on what it says.
    ReadOn,
    Kill,
    Retire,
}

impl WorkerHandle {
    /// Starts a worker and returns at once; whether it works out is told by an event. It may read what is in `rooms`, and has
    /// the directory of `files` that its session keeps.
    ///
    /// Must be called within a tokio runtime.
    pub fn spawn(
        key: WorkerKey,
        program: WorkerProgram,
        rooms: &Rooms,
        files: Option<OwnedFd>,
        events: WorkerEvents,
    ) -> Self {
        let (orders, order_queue) = mpsc::unbounded_channel();
        match Prepared::new(program, rooms, files) {
            Ok(Prepared { page, link, reader, borrower, plan }) => {
                let inbound = Inbound::new(reader, borrower);
                let supervisor =
                    Supervisor::new(key, events, order_queue, Arc::clone(&page), Arc::clone(&link), inbound);
                tokio::spawn(supervisor.run(plan));
                Self { page, link: Some(link), orders, told_to_end: false }
            }
            Err(error) => {
                let reason = match start::is_shortage(&error) {
                    true => start::explain_shortage(&error),
                    false => format!("the node cannot prepare it: {error}"),
                };
                let failure =
                    StartFailure { reason, stderr: Vec::new(), is_shortage: start::is_shortage(&error) };
                let _ = events.send((key, WorkerEvent::FailedToStart(failure)));
                Self { page: Page::in_memory(), link: None, orders, told_to_end: false }
            }
        }
    }

    /// Gives it work, numbered on from what it got before. Not to be called before it is ready.
    pub fn assign(&mut self, works: Vec<Work>) {
        let Some(link) = &self.link else { return };
        self.page.raise(u32::try_from(works.len()).expect("nobody has so much work in memory"));
        if link.send(&works) == Sent::InPart {
            let _ = self.orders.send(Order::Write);
        }
    }

    /// Takes back what it has not started. The progress tells how much that is.
    pub fn revoke(&self) -> Progress {
        self.page.revoke()
    }

    /// Its progress.
    pub fn progress(&self) -> Progress {
        self.page.progress()
    }

    /// Leaves what it prints and reports where it is, so that it has to wait before it prints more; or takes it again.
    pub fn hold_output(&self, held: bool) {
        let _ = self.orders.send(Order::HoldOutput(held));
    }

    /// Reads on what it says after a part.
    pub fn read_on(&self) {
        let _ = self.orders.send(Order::ReadOn);
    }

    /// Kills it, and everything its jobs started. A thread is abandoned: it ends with its job.
    /// Its exit follows as an event.
    pub fn kill(&mut self) {
        self.told_to_end = true;
        let _ = self.orders.send(Order::Kill);
    }

    /// Lets it end; to be called when it has no work. Its exit follows as an event.
    pub fn retire(&mut self) {
        self.told_to_end = true;
        let _ = self.orders.send(Order::Retire);
    }

    /// Whether its end is no surprise.
    pub fn was_told_to_end(&self) -> bool {
        self.told_to_end
    }
}
