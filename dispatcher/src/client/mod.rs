//! A dispatcher without types: it runs calls of (program, function, bytes) and settles them with whoever submitted them.
//!
//! [`Client`] owns the dispatcher's thread, which owns the core; a [`Handle`] is what threads use that submit. Neither knows
//! of Rust's functions, of generics or of the inventory of `#[job]`: that is typing on top (`api`), as other languages and
//! commands have theirs.
//!
//! ```text
//! any thread:    Handle ──> inbox ───┐                   ┌──> settle ──> whoever waits
//!                   │                v                   │
//!                 counts        the thread ──> core ──> the thread ──> callbacks
//! ```
//!
//! Each file knows only those above it in this list:

mod here;

mod completions;
mod counts;

mod settle;

pub(crate) mod bottom;
mod callbacks;
mod events;
mod frames;
mod printer;
pub(crate) mod settings;
mod stats;

mod orders;

mod requests;

mod inbox;

mod handle;

mod thread;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pp_node::processes::{is_forked, notice_forks};
use pp_protocol::limits::WATCH_INTERVAL;

pub use self::completions::Completions;
pub use self::counts::{Count, PendingLimits};
pub(crate) use self::counts::{Counts, Course};
pub use self::events::{ClusterEvent, Events};
pub use self::frames::Watched;
pub use self::handle::{Call, Handle};
pub use self::here::CannotWait;
pub(crate) use self::here::{Inside, cannot_wait, inside, on_dispatcher_thread, take_part_in};
pub use self::orders::{Order, OrderError};
use self::printer::Printing;
use self::requests::Request;
pub use self::settings::{ClientError, Output, Settings};
pub use self::settle::{Failed, Identified, JobTicket, Outcome, Settle, Waiter, Wakes};
pub use self::stats::{JobStatus, NodeInfo, Stats};
pub use self::watch::{Watch, WatchError};
use crate::core::DialFailure;
pub use crate::core::{JobOptions, TakeParts, Taker};
use crate::links::ORDER_TIME;
pub use crate::links::{Address, AddressError, NodePattern, ProgramError, ProgramFiles, Selection};

/// Longer than anybody waits, and not too long to be added to a time.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Time for which ending a dispatcher waits for its callbacks, and for its workers to be gone.
const END_TIME: Duration = Duration::from_secs(5);

/// Owns a dispatcher. Cheap to clone; when the last clone is dropped, the dispatcher ends.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    running: Arc<Running>,
}

/// Ends the dispatcher's threads when the last client goes.
struct Running {
    handle: Arc<Handle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    printing: Mutex<Option<Printing>>,
    started: Instant,
    last_stats: Mutex<Stats>,
    is_observer: bool,
}

impl Client {
    /// Starts a dispatcher. Nodes are connected to in the background.
    ///
    /// # Errors
    /// When the system lacks what it needs, or a program cannot be read.
    pub fn start(settings: Settings) -> Result<Self, ClientError> {
        notice_forks();
        let handle = Arc::new(Handle::new(settings.pending, settings.callback_threads));
        // It ends with the printer.
        let (printer, printing) = printer::start()?;
        let mut threads = handle.callbacks.start()?;
        let is_observer = settings.observer;
        match thread::start(settings, Arc::clone(&handle), printer) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                handle.callbacks.close();
                return Err(error);
            }
        }
        let running = Running {
            handle: Arc::clone(&handle),
            threads: Mutex::new(threads),
            printing: Mutex::new(Some(printing)),
            started: Instant::now(),
            last_stats: Mutex::default(),
            is_observer,
        };
        Ok(Self { handle, running: Arc::new(running) })
    }

    /// Handle by which jobs are submitted.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// A named group of jobs, which it counts.
    pub fn group(&self, name: &str) -> Arc<Count> {
        self.handle.counts.group(name)
    }

    /// Waits until nothing is outstanding, callbacks included; false if that took too long.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.handle.counts.wait(timeout)
    }

    /// Waits until so many nodes beside the local one can be given jobs, for at most `timeout`, and yields how many there
    /// are; zero where it cannot wait.
    pub fn wait_for_nodes(&self, count: usize, timeout: Duration) -> usize {
        if cannot_wait().is_some() {
            return 0;
        }
        let until = Instant::now() + timeout.min(LONGEST_WAIT);
        let told = self.handle.request(|answer| Request::WaitForNodes { count, until, answer });
        // Not being told in time, or at all, is no error: what counts is how many there are now.
        let _ = told.recv_timeout(timeout);
        self.handle.ask(Request::NodesInUse).unwrap_or(0)
    }

    /// Changes how many of the local cores are used, now.
    ///
    /// # Errors
    /// In a child made by `fork()`.
    pub fn set_local_workers(&self, slots: u32) -> Result<(), OrderError> {
        if is_forked() {
            return Err(OrderError::NoAnswer("local".into()));
        }
        self.handle.inbox.request(Request::SetLocalWorkers(slots));
        Ok(())
    }

    /// Gives an order to the node that has this name or address.
    ///
    /// # Errors
    /// When there is no such node, it is not connected or does not take the order, or the dispatcher's thread does not
    /// answer.
    pub fn order(&self, node: &str, order: Order) -> Result<(), OrderError> {
        let request = |answer| Request::Order { node: node.into(), order, answer };
        let no_answer = || OrderError::NoAnswer(node.into());
        match self.handle.ask(request).ok_or_else(no_answer)??.recv_timeout(2 * ORDER_TIME) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(DialFailure::Unreachable(cause))) => {
                Err(OrderError::Unreachable { name: node.into(), cause })
            }
            Ok(Err(DialFailure::Refused(cause))) => Err(OrderError::Refused { name: node.into(), cause }),
            Err(_) => Err(no_answer()),
        }
    }

    /// Statistics of what was done where so far; the last ones, where the dispatcher's thread cannot answer.
    pub fn stats(&self) -> Stats {
        // Not asked under the lock: that thread may want it itself.
        let stats = self.handle.ask(Request::Stats);
        let mut last = self.running.last_stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = stats {
            *last = Stats { elapsed: self.running.started.elapsed(), ..stats };
        }
        last.clone()
    }

    /// Follows what happens from now on.
    pub fn events(&self) -> Events {
        self.handle.listeners.listen()
    }

    /// Begins nothing more: jobs that no node runs yet are cancelled, and those that are submitted from now on. What runs goes on.
    pub fn finish(&self) {
        self.handle.inbox.request(Request::Finish);
    }

    /// Has every node tell what happens there, from now on, about so often.
    ///
    /// # Errors
    /// When this is no operator's.
    pub fn watch(&self, interval: Duration) -> Result<Watch, WatchError> {
        if !self.running.is_observer {
            return Err(WatchError::NotOperator);
        }
        Ok(Watch::new(&self.handle, interval.clamp(WATCH_INTERVAL, LONGEST_WAIT)))
    }

    /// Ends the dispatcher: jobs that have not ended are cancelled, all local workers end.
    pub fn shutdown(&self) {
        let _ = self.stats();
        self.running.end();
    }
}

impl Running {
    fn end(&self) {
        self.handle.inbox.request(Request::End);
        if cannot_wait().is_some() {
            return;
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + END_TIME;
        for thread in threads {
            // A callback may be the one that drops the last client; it cannot wait for itself. And a callback that never
            // returns must not keep the program from ending.
            while !thread.is_finished() && thread.thread().id() != std::thread::current().id() {
                if Instant::now() > deadline {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        let printing = self.printing.lock().unwrap_or_else(PoisonError::into_inner).take();
        printing.into_iter().for_each(Printing::finish);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("handle", &self.handle).finish_non_exhaustive()
    }
}
