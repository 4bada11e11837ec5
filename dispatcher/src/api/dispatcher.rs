//! The dispatcher: where jobs are submitted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pp_node::processes::is_forked;
use pp_protocol::limits::SLOTS;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::builder::Builder;
use crate::api::error::{JobError, ResizeError};
use crate::api::function::JobFunction;
use crate::api::job::Job;
use crate::api::map::{Feed, Map};
use crate::api::submit::JobBuilder;
use crate::client::callbacks::{self, Inside};
use crate::client::events::Events;
use crate::client::printer::Printing;
use crate::client::shared::{Order, Shared, cannot_wait, on_dispatcher_thread};
use crate::client::stats::{NodeInfo, Stats};
use crate::client::thread::{Actor, WaitForNodes};
use crate::links::ORDER_TIME;

/// Longer than anybody waits, and not too long to be added to a time.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How long dropping the last dispatcher waits for its workers to be gone.
const END_TIME: Duration = Duration::from_secs(5);

/// Owns jobs and decides where they run: on the local cores, and on every node it knows.
///
/// Cheap to clone, and usable from any thread and any async runtime. When the last clone is dropped, jobs that have
/// not ended are cancelled and all workers end: call [`wait`](Self::wait) before that.
#[derive(Clone)]
pub struct Dispatcher {
    pub(crate) shared: Arc<Shared>,
    running: Arc<Running>,
}

/// Ends the dispatcher's threads when the last clone of it goes.
struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    printing: Mutex<Option<Printing>>,
    started: Instant,
    last_stats: Mutex<Stats>,
}

impl Dispatcher {
    /// Says how a dispatcher is to be set up.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(shared: Arc<Shared>, threads: Vec<JoinHandle<()>>, printing: Printing) -> Self {
        let running = Running {
            shared: Arc::clone(&shared),
            threads: Mutex::new(threads),
            printing: Mutex::new(Some(printing)),
            started: Instant::now(),
            last_stats: Mutex::default(),
        };
        Self { shared, running: Arc::new(running) }
    }

    /// Submits a call of `function` with the tuple `args`. It may run as soon as there is a node with a free slot.
    ///
    /// What is wrong with the call itself (a function without `#[job]`, arguments that cannot be serialised or are too
    /// large) is the job's outcome. Waits while as many jobs are pending as [`Builder::pending_jobs`] allows.
    #[must_use = "the result is lost unless the job is waited for; with a callback use Dispatcher::job"]
    pub fn submit<F, A>(&self, function: F, args: A) -> Job<F::Output>
    where
        F: JobFunction<A>,
        A: Serialize,
    {
        self.job(function, args).submit()
    }

    /// As [`submit`](Self::submit), with a callback, a group, a time limit or anything else that differs from the usual.
    pub fn job<F, A>(&self, function: F, args: A) -> JobBuilder<F::Output>
    where
        F: JobFunction<A>,
        A: Serialize,
    {
        JobBuilder::new(Arc::clone(&self.shared), function, &args)
    }

    /// Calls `function` with each of `inputs`; see [`Map`].
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, job};
    /// #[job]
    /// fn square(n: u64) -> u64 { n * n }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # pp_dispatcher::init();
    /// let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// let squares = dispatcher.map(square, 1..=4).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// # Ok(()) }
    /// ```
    ///
    /// Inputs are read on a thread of their own, so they have to own what they read: `words.into_iter()` instead of
    /// `words.iter().cloned()`. What cannot leave its thread can send inputs through a channel, whose receiver is an input.
    pub fn map<F, I>(&self, function: F, inputs: I) -> Map<F::Output>
    where
        I: IntoIterator<IntoIter: Send + 'static>,
        I::Item: Serialize,
        F: JobFunction<(I::Item,)> + Send + Sync,
    {
        let submit =
            move |shared: &Arc<Shared>, input| JobBuilder::new(Arc::clone(shared), function, &(input,));
        self.map_with(inputs, submit)
    }

    /// As [`map`](Self::map), for functions of several arguments: each input is a tuple of them.
    pub fn starmap<F, I>(&self, function: F, inputs: I) -> Map<F::Output>
    where
        I: IntoIterator<IntoIter: Send + 'static>,
        I::Item: Serialize,
        F: JobFunction<I::Item> + Send + Sync,
    {
        let submit = move |shared: &Arc<Shared>, input| JobBuilder::new(Arc::clone(shared), function, &input);
        self.map_with(inputs, submit)
    }

    fn map_with<I: IntoIterator<IntoIter: Send + 'static>, R: DeserializeOwned + Send + 'static>(
        &self,
        inputs: I,
        job: impl Fn(&Arc<Shared>, I::Item) -> JobBuilder<R> + Send + Sync + 'static,
    ) -> Map<R> {
        let submit = Box::new(move |shared: &_, input, spare| job(shared, input).submit_sized(spare));
        let feed = Feed { shared: Arc::clone(&self.shared), inputs: inputs.into_iter(), submit };
        Map::new(self.clone(), feed)
    }

    /// Waits until every job has ended and every callback has returned, those that callbacks submit included.
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it would wait
    /// for itself; in a child made by `fork()`.
    pub fn wait(&self) {
        assert_may_wait("wait");
        self.shared.wait(None);
    }

    /// As [`wait`](Self::wait), for at most `timeout`. False if that was too short.
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it would wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        assert_may_wait("wait_timeout");
        self.shared.wait(Some(timeout))
    }

    /// Waits until every job of the group has ended and its callback has returned.
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it might wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_group(&self, name: &str) {
        assert_may_wait("wait_group");
        self.shared.group(name).wait_below(1, None);
    }

    /// As [`wait_group`](Self::wait_group), for at most `timeout`. False if that was too short.
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it might wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_group_timeout(&self, name: &str, timeout: Duration) -> bool {
        assert_may_wait("wait_group_timeout");
        self.shared.group(name).wait_below(1, Some(timeout))
    }

    /// Waits until so many nodes beside the local one can be given jobs, for at most `timeout`, and yields how many
    /// there are. There is no need to call this: jobs submitted before a node is found run on it once it is. It is for
    /// programs whose whole work takes less time than finding nodes does. Returns at once if no node is named and none
    /// is looked for, and with zero in a waker or a `tracing` subscriber that the dispatcher's thread calls, and in a child
    /// made by `fork()`.
    pub fn wait_for_nodes(&self, count: usize, timeout: Duration) -> usize {
        if cannot_wait().is_some() {
            return 0;
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let waiting = WaitForNodes { count, until: Instant::now() + timeout.min(LONGEST_WAIT), tell };
        self.shared.tell(Order::Do(Box::new(move |actor| actor.wait_for_nodes(waiting))));
        // Not being told in time, or at all, is no error: what counts is how many there are now.
        let _ = told.recv_timeout(timeout);
        self.shared.ask(|actor| actor.nodes_in_use()).unwrap_or(0)
    }

    /// Changes how many of the local cores are used, now. Zero is allowed.
    ///
    /// # Errors
    /// When there are more than a node can have, and in a child made by `fork()`.
    pub fn set_local_workers(&self, workers: usize) -> Result<(), ResizeError> {
        let slots = slots(workers)?;
        if is_forked() {
            return Err(ResizeError::NoAnswer("local".into()));
        }
        self.shared.tell(Order::Do(Box::new(move |actor| actor.local.resize(slots))));
        Ok(())
    }

    /// Changes how many jobs a node runs at once, now. `node` is a name or an address as in [`nodes`](Self::nodes). Returns
    /// once the node has taken the order, which it gets on a connection of its own: a dispatcher's carries only jobs.
    ///
    /// # Errors
    /// When there is no such node, it is not connected or does not take the order, or the dispatcher's thread does not
    /// answer.
    pub fn resize(&self, node: &str, workers: usize) -> Result<(), ResizeError> {
        let slots = slots(workers)?;
        let name = node.to_owned();
        let given = self.shared.ask(move |actor| actor.resize(&name, slots));
        let given = given.ok_or_else(|| ResizeError::NoAnswer(node.into()))??;
        match given.recv_timeout(2 * ORDER_TIME) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(ResizeError::NotTaken { name: node.into(), reason }),
            Err(_) => Err(ResizeError::NoAnswer(node.into())),
        }
    }

    /// Every node ever heard of, those that are refused or out of reach included, with the reason.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.stats().nodes
    }

    /// What was done where so far; after a [`shutdown`](Self::shutdown), what was done until then.
    ///
    /// The dispatcher's thread is asked. Where it cannot answer, what it said last is told: if it is the one that asks, in a
    /// waker or a `tracing` subscriber, or if it is held up for three seconds, by a lock that is held here, say.
    pub fn stats(&self) -> Stats {
        // Not asked under the lock: that thread may want it itself.
        let stats = self.shared.ask(|actor| actor.stats());
        let mut last = self.running.last_stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = stats {
            *last = Stats { elapsed: self.running.started.elapsed(), ..stats };
        }
        last.clone()
    }

    /// Follows what happens from now on.
    pub fn events(&self) -> Events {
        self.shared.listeners.listen()
    }

    /// Ends the dispatcher for all its clones: jobs that have not ended are cancelled, all local workers end.
    pub fn shutdown(&self) {
        let _ = self.stats();
        self.running.end();
    }
}

fn assert_may_wait(function: &str) {
    assert!(
        callbacks::inside() == Inside::Nothing,
        "Dispatcher::{function} was called inside a callback, where it would wait for itself; \
         submit what is to come next from the callback, and wait outside"
    );
    assert!(
        !on_dispatcher_thread(),
        "Dispatcher::{function} was called on the dispatcher's own thread, in a waker or a tracing subscriber, where it \
         would wait for itself; wait on a thread of your own"
    );
    assert!(!is_forked(), "Dispatcher::{function} was called where it would never end: {}", JobError::Forked);
}

fn slots(workers: usize) -> Result<u32, ResizeError> {
    u32::try_from(workers).ok().filter(|slots| *slots <= SLOTS).ok_or(ResizeError::TooMany(workers))
}

impl Running {
    fn end(&self) {
        self.shared.tell(Order::Do(Box::new(Actor::end)));
        if cannot_wait().is_some() {
            return;
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + END_TIME;
        for thread in threads {
            // A callback may be the one that drops the last dispatcher; it cannot wait for itself. And a callback that
            // never returns must not keep the program from ending.
            while !thread.is_finished() && thread.thread().id() != thread::current().id() {
                if Instant::now() > deadline {
                    return;
                }
                thread::park_timeout(Duration::from_millis(1));
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

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("shared", &self.shared).finish_non_exhaustive()
    }
}
