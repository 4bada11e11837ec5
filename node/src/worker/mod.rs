//! What runs inside a worker: a program that a node started to run jobs.
//!
//! It is synchronous and batched: read many pieces of work, run them in order, write many outcomes. Batches come from
//! what has piled up, never from waiting: outcomes are written when no more work is at hand, when enough of them or
//! old enough ones wait, and before a function that usually takes long. A second thread writes outcomes that wait
//! because a job turned out to take long after all, and ends the process when the node is gone.
//!
//! ```text
//! node ──frames──> FrameReader ──> Runner ──> Outbox ──frames──> node
//!      ──large arguments, read where they are ^   └── Lending: large results, left where the node reads them
//!                                  │    └── claims on the Page ──> read by the node at any time
//!                                  Watcher: flushes the Outbox late, notices that the node is gone
//! ```
//!
//! This module does not decide anything about jobs; it owns no queue beyond one frame of work.

pub(crate) mod frames;
pub(crate) mod handover;
mod lending;
mod outbox;
mod panics;
mod runner;
mod watcher;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pp_protocol::room;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};

pub use self::frames::FrameError;
use self::handover::Handed;
use self::lending::Lending;
use self::outbox::Outbox;
use self::runner::Runner;
use crate::functions::{Registry, RegistryError};
use crate::lending::Arenas;
use crate::page::Page;

/// Whether this process serves as a worker.
static SERVES: AtomicBool = AtomicBool::new(false);

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The node's socket or page cannot be used.
    #[error("cannot talk to the node: {0}")]
    Io(#[from] io::Error),
    /// What the node sends is not work.
    #[error("the node sent something that is not work: {0}")]
    Frame(#[from] FrameError),
    /// The functions of this program cannot be told apart.
    #[error(transparent)]
    Functions(#[from] RegistryError),
}

/// What a worker does when the node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeGone {
    /// A worker process ends at once, with everything that its jobs started in its process group.
    EndProcess,
    /// A worker thread ends after the job that it runs.
    EndThread,
}

/// Serves jobs, and does not return, if a node started this process as a worker. Returns at once otherwise.
pub fn serve_if_worker() {
    let Some(handed) = handover::take() else { return };
    SERVES.store(true, Ordering::Relaxed);
    let served = handed.map_err(WorkerError::Io).and_then(|Handed { socket, page, arenas }| {
        prefer_to_be_killed();
        run(socket, Arc::new(page), arenas, NodeGone::EndProcess)
    });
    if let Err(error) = served {
        // The node keeps the last lines of this stream and shows them to whoever asks why the worker ended.
        let _ = writeln!(io::stderr(), "ppserver worker: {error}");
        process::exit(1);
    }
    end_process();
}

/// Whether a node started this process as a worker, be it that it serves already or that it has not called
/// `pp_dispatcher::init()`. Programs that a job starts are not workers.
pub fn started_as_worker() -> bool {
    SERVES.load(Ordering::Relaxed) || handover::is_pending()
}

/// Serves jobs from `socket` until the node closes it.
///
/// # Errors
/// When the connection breaks, the node sends what is not work, or this program's functions are not in order.
pub(crate) fn run(
    socket: UnixStream,
    page: Arc<Page>,
    arenas: Option<Arenas>,
    node_gone: NodeGone,
) -> Result<(), WorkerError> {
    let registry = Registry::of_this_program()?;
    let _keeper = room::Keeper::new();
    panics::record_on_this_thread();
    let outbox = Arc::new(Outbox::new(socket)?);
    let lending = Arc::new(Lending::new(&page, arenas));
    let watched = (Arc::clone(&outbox), Arc::clone(&lending));
    std::thread::Builder::new()
        .name("pp-watcher".into())
        .spawn(move || watcher::watch(&watched.0, &watched.1, node_gone))?;
    let ended = Runner::new(&outbox, &page, &lending, registry).run();
    // Wakes the watcher, which must not outlive this, and tells the node, which may still hold its end open.
    outbox.close();
    ended
}

/// When memory runs out, the kernel should end a worker rather than the node, whose child has its preference.
fn prefer_to_be_killed() {
    if cfg!(target_os = "linux") {
        // Where that is not permitted, the kernel's own choice has to do.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    }
}

/// Ends this process and, as it leads a group of its own, whatever jobs started in that group.
fn end_process() -> ! {
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    process::exit(0);
}
