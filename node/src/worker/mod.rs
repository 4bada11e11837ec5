//! The inside of a worker: a program that a node started to run jobs.
//!
//! It is synchronous and batched: read many pieces of work, run them in order, write many outcomes. Batches come from
//! what has piled up, never from waiting: outcomes are written when no more work is at hand, when enough of them or
//! old enough ones wait, and before a function that usually takes long. A second thread writes outcomes that wait
//! because a job turned out to take long after all, or left something behind that keeps the first one from writing them,
//! and ends the process when the node is gone.
//!
//! Jobs run on a thread made for them, all on the same one: its stack has the size that was asked for, and nothing that
//! the program set up on its main thread, such as an asynchronous runtime, is in their way. The main thread waits, and
//! flushes standard output when the watcher asks for it.
//!
//! ```text
//! node ──frames──> FrameReader ──> Runner ──> Outbox ──frames──> node
//!      ──large arguments, read where they are ^   └── Lending: large results, left where the node reads them
//!                                  │    └── claims on the Page ──> read by the node at any time
//!                                  Watcher: flushes the Outbox late, notices that the node is gone
//! ```
//!
//! This module does not decide anything about jobs; it owns no queue beyond one frame of work.

mod descriptors;
pub(crate) mod frames;
pub(crate) mod handover;
mod lending;
mod outbox;
mod panics;
pub(crate) mod parts;
pub(crate) mod printing;
mod runner;
#[cfg(target_os = "linux")]
pub(crate) mod warden;
mod watcher;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
#[cfg(target_os = "linux")]
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{process, thread};

use pp_protocol::room;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};

pub use self::frames::FrameError;
use self::handover::Handed;
use self::lending::Lending;
use self::outbox::Outbox;
use self::printing::Printer;
use self::runner::Runner;
use self::watcher::Watcher;
use crate::functions::{Registry, RegistryError};
use crate::kept;
use crate::lending::Arenas;
use crate::page::{Page, SelfEnd};

/// Exit code of a worker that the system gave too little to begin with: descriptors, processes, memory.
pub(crate) const SHORTAGE: i32 = 75;
/// What a [launcher](crate::launcher) exits with that could not start the program; the reason is the last line it wrote.
pub(crate) const NOT_LAUNCHED: i32 = 76;

/// Whether this process serves as a worker.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Whether this program launches workers, and becomes one, where a node starts it for that.
static IS_PREPARED: AtomicBool = AtomicBool::new(false);

/// Stack of jobs, unless the program says otherwise: as much as the main thread of most programs.
pub const STACK_BYTES: usize = 8 << 20;
/// Sizes of stack that jobs may be given: below, not even decoding arguments is safe; above, it is no stack any more.
pub const STACK_BYTES_POSSIBLE: std::ops::RangeInclusive<usize> = 256 << 10..=64 << 30;

/// Time that the watcher has to report what the thread that runs jobs cannot.
const WATCHER_TIME: Duration = Duration::from_secs(2);

/// Time between two looks whether the thread that runs jobs has ended the process.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// Stack of this program's jobs, in bytes.
static STACK: AtomicUsize = AtomicUsize::new(STACK_BYTES);

/// Stack of this program's jobs, in bytes.
pub fn stack_bytes() -> usize {
    STACK.load(Ordering::Relaxed)
}

/// Gives the jobs of this program so much stack from now on, in workers that are processes and in those that are threads.
/// What is beyond [`STACK_BYTES_POSSIBLE`] becomes what is possible.
pub fn set_stack_bytes(bytes: usize) {
    STACK.store(bytes.clamp(*STACK_BYTES_POSSIBLE.start(), *STACK_BYTES_POSSIBLE.end()), Ordering::Relaxed);
}

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The node's socket or page cannot be used.
    #[error("cannot talk to the node: {0}")]
    Io(#[from] io::Error),
    /// Jobs have no thread to run on.
    #[error(
        "the system has no thread with {bytes} bytes of stack for jobs ({error}); ask for less with Init::stack_bytes"
    )]
    Thread {
        /// Size of the stack it was to have.
        bytes: usize,
        /// Reason why there is none.
        error: io::Error,
    },
    /// The node sends something that is not work.
    #[error("the node sent something that is not work: {0}")]
    Frame(#[from] FrameError),
    /// The functions of this program cannot be told apart.
    #[error(transparent)]
    Functions(#[from] RegistryError),
}

impl WorkerError {
    /// The error by which the system had too little, if that is all. A stack of unusual size may be too much at any time.
    fn lack(&self) -> Option<&io::Error> {
        let error = match self {
            Self::Io(error) => error,
            Self::Thread { bytes, error } if *bytes <= STACK_BYTES => error,
            Self::Thread { .. } | Self::Frame(_) | Self::Functions(_) => return None,
        };
        Some(error).filter(|error| crate::pool::is_shortage(error))
    }
}

/// Conduct of a worker when the node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeGone {
    /// A worker process ends at once, with everything that its jobs started in its process group.
    EndProcess,
    /// A worker thread ends after the job that it runs.
    EndThread,
}

/// Serves jobs, and does not return, if a node started this process as a worker; or launches one, if it was started for
/// that. Returns at once otherwise. To be called first in `main`, while there is one thread.
pub fn serve_if_worker() {
    #[cfg(target_os = "linux")]
    crate::launcher::launch_if_ordered();
    if !handover::is_pending() {
        IS_PREPARED.store(true, Ordering::Relaxed);
        return;
    }
    SERVES.store(true, Ordering::Relaxed);
    let served =
        be_handed().map_err(WorkerError::Io).and_then(|Handed { socket, page, arenas, files, .. }| {
            files.into_iter().for_each(kept::use_directory);
            prefer_to_be_killed();
            #[cfg(target_os = "linux")]
            crate::processes::write_lines_of_c_at_once();
            let (printer, flusher) = printing::printer();
            let page = Arc::new(page);
            let shared_page = Arc::clone(&page);
            let serve = move || {
                let served = panic::catch_unwind(AssertUnwindSafe(|| {
                    run(socket, shared_page, arenas, NodeGone::EndProcess, Some(printer))
                }));
                // One that panics has said so on standard error. The main thread may be held up by then.
                end_served(served.unwrap_or_else(|_| process::exit(1)))
            };
            let no_thread = |error| WorkerError::Thread { bytes: stack_bytes(), error };
            let thread = jobs_thread::<()>(serve).map_err(no_thread)?;
            flusher.serve();
            // That thread ends the process, or was ended by a job: joining one that was panics.
            while !thread.is_finished() {
                thread::sleep(LAST_LOOK);
            }
            end_because(&page, SelfEnd::ThreadEnded)
        });
    end_served(served)
}

/// Ends this process, which was a worker.
fn end_served(served: Result<(), WorkerError>) -> ! {
    if let Err(error) = served {
        // The node keeps the last lines of this stream and shows them to whoever asks why the worker ended.
        let lack = error.lack();
        let _ = match lack {
            Some(lack) => writeln!(io::stderr(), "{}", crate::pool::explain_shortage(lack)),
            None => writeln!(io::stderr(), "ppserver worker: {error}"),
        };
        process::exit(if lack.is_some() { SHORTAGE } else { 1 });
    }
    end_process()
}

/// Whether [`serve_if_worker`] has been called in this process, so that nodes can start its program.
pub(crate) fn is_prepared() -> bool {
    IS_PREPARED.load(Ordering::Relaxed)
}

/// Whether this process serves as a worker: what asks is a job.
pub fn serves() -> bool {
    SERVES.load(Ordering::Relaxed)
}

/// Takes what the node hands over, with a warden between it and this process.
#[cfg(target_os = "linux")]
fn be_handed() -> io::Result<Handed> {
    if let Some(warden) = handover::warden() {
        warden::be_guarded_by(warden);
    } else if !crate::processes::has_one_thread() {
        let (command, handed) = handover::pass_on(Path::new("/proc/self/exe"))?;
        warden::start_anew(command, &handed)?;
    } else {
        let handed = handover::take()?;
        warden::divide(&handed)?;
        return Ok(handed);
    }
    handover::take()
}

#[cfg(not(target_os = "linux"))]
fn be_handed() -> io::Result<Handed> {
    handover::take()
}

/// Whether a node started this process as a worker, be it that it serves already or that it has not called
/// `pp_dispatcher::init()`. Programs that a job starts are not workers.
pub fn started_as_worker() -> bool {
    serves() || handover::is_pending()
}

/// Starts a thread that jobs run on.
pub(crate) fn jobs_thread<T: Send + 'static>(
    serve: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name("pp-worker".into()).stack_size(stack_bytes()).spawn(serve)
}

/// Serves jobs from `socket` until the node closes it. `printer` is there if standard output is the jobs' own.
///
/// # Errors
/// When the connection breaks, the node sends what is not work, or this program's functions are not in order.
pub(crate) fn run(
    socket: UnixStream,
    page: Arc<Page>,
    arenas: Option<Arenas>,
    node_gone: NodeGone,
    printer: Option<Printer>,
) -> Result<(), WorkerError> {
    let registry = Registry::of_this_program()?;
    let _keeper = room::Keeper::new();
    panics::record_on_this_thread();
    let outbox = Arc::new(Outbox::new(socket)?);
    let lending = Arc::new(Lending::new(&page, arenas));
    let watcher =
        Watcher::new(Arc::clone(&outbox), Arc::clone(&page), Arc::clone(&lending), node_gone, printer);
    let (tell, watching) = mpsc::sync_channel::<()>(1);
    let watch = move || watcher.watch(|| drop(tell));
    thread::Builder::new().name("pp-watcher".into()).spawn(watch)?;
    // No job runs before it has descriptors of its own. Nothing is ever sent: it lets go of its end.
    let _ = watching.recv();
    let _opened = parts::open(&outbox, &page);
    let ended = Runner::new(&outbox, &page, &lending, registry, node_gone).run(&registry.names());
    if node_gone == NodeGone::EndProcess && !outbox.has_its_socket() {
        outbox.leave_to_watcher();
        thread::sleep(WATCHER_TIME);
        // It could not be woken, or not write: then at least the reason is told.
        end_because(&page, SelfEnd::CutOff);
    }
    // Wakes the watcher, which must not outlive this, and tells the node, which may still hold its end open.
    outbox.close();
    ended
}

/// Makes this process the first to be killed: when memory runs out, the kernel should end a worker rather than the
/// node, whose child has its preference.
fn prefer_to_be_killed() {
    if cfg!(target_os = "linux") {
        // Where that is not permitted, the kernel's own choice has to do.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    }
}

/// Ends this process, leaving the reason where the node finds it.
fn end_because(page: &Page, reason: SelfEnd) -> ! {
    page.leave_reason(reason);
    end_process()
}

/// Ends this process and, as it leads a group of its own, whatever jobs started in that group.
fn end_process() -> ! {
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    process::exit(0);
}
