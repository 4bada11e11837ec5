//! The dispatcher: where jobs are submitted.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use pp_node::processes::is_forked;
use pp_protocol::JobId;
use pp_protocol::limits::SLOTS;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::command::CommandBuilder;
use super::error::JobError;
use super::function::JobFunction;
use super::job::Job;
use super::map::{Feed, Map};
use super::progress::ProgressShown;
use super::submit::JobBuilder;
use crate::client::{
    Client, Events, Handle, Inside, NodeInfo, Order, OrderError, Stats, Watch, WatchError, inside,
    on_dispatcher_thread,
};
use crate::core::JobExplanation;

/// Owns jobs and decides where they run: on the local cores, and on every node it knows.
///
/// Cheap to clone, and usable from any thread and any async runtime. When the last clone is dropped, jobs that have
/// not ended are cancelled and all workers end: call [`wait`](Self::wait) before that.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    client: Client,
}

impl Dispatcher {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Submits a call of `function` with the tuple `args`. It may run as soon as there is a node with a free slot.
    ///
    /// What is wrong with the call itself (a function without `#[job]`, arguments that cannot be serialised or are too
    /// large) is the job's outcome. Waits while as many jobs are pending as [`Builder::pending_jobs`](crate::Builder::pending_jobs) allows.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1, 2, 3],));
    /// assert_eq!(job.wait()?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the result is lost unless the job is waited for; with a callback use Dispatcher::job"]
    pub fn submit<F, A>(&self, function: F, args: A) -> Job<F::Output>
    where
        F: JobFunction<A>,
        A: Serialize,
    {
        self.job(function, args).submit()
    }

    /// As [`submit`](Self::submit), with a callback, a group, a time limit or anything else that differs from the usual.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// let job = dispatcher.job(built_in::echo, (vec![1],)).priority(1).timeout(Duration::from_secs(60)).submit();
    /// assert_eq!(job.wait()?, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn job<F, A>(&self, function: F, args: A) -> JobBuilder<F::Output>
    where
        F: JobFunction<A>,
        A: Serialize,
    {
        JobBuilder::new(Arc::clone(self.client.handle()), function, &args)
    }

    /// A command as a job: a program that the node's machine has. It runs on every node, also on those of another
    /// architecture than this program's.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let output = dispatcher.command("echo").args(["hello", "world"]).submit().wait()?;
    /// assert_eq!((output.status.is_success(), &output.stdout[..]), (true, &b"hello world\n"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn command(&self, program: impl Into<OsString>) -> CommandBuilder {
        CommandBuilder::new(Arc::clone(self.client.handle()), program.into())
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
            move |handle: &Arc<Handle>, input| JobBuilder::new(Arc::clone(handle), function, &(input,));
        self.map_with(inputs, submit)
    }

    /// As [`map`](Self::map), for functions of several arguments: each input is a tuple of them.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, job};
    /// #[job]
    /// fn power(base: u64, exponent: u32) -> u64 { base.pow(exponent) }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let powers = dispatcher.starmap(power, [(2, 3), (3, 2)]).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(powers, [8, 9]);
    /// # Ok(()) }
    /// ```
    pub fn starmap<F, I>(&self, function: F, inputs: I) -> Map<F::Output>
    where
        I: IntoIterator<IntoIter: Send + 'static>,
        I::Item: Serialize,
        F: JobFunction<I::Item> + Send + Sync,
    {
        let submit = move |handle: &Arc<Handle>, input| JobBuilder::new(Arc::clone(handle), function, &input);
        self.map_with(inputs, submit)
    }

    fn map_with<I: IntoIterator<IntoIter: Send + 'static>, R: DeserializeOwned + Send + 'static>(
        &self,
        inputs: I,
        job: impl Fn(&Arc<Handle>, I::Item) -> JobBuilder<R> + Send + Sync + 'static,
    ) -> Map<R> {
        let submit = Box::new(move |handle: &_, input, spare| job(handle, input).submit_sized(spare));
        let feed = Feed { handle: Arc::clone(self.client.handle()), inputs: inputs.into_iter(), submit };
        Map::new(self.client.clone(), feed)
    }

    /// Waits until every job has ended and every callback has returned, those that callbacks submit included.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::sync::mpsc;
    ///
    /// let (sender, results) = mpsc::channel();
    /// for n in 1..=3 {
    ///     let sender = sender.clone();
    ///     dispatcher.job(built_in::echo, (vec![n],)).callback(move |result| sender.send(result).unwrap()).submit();
    /// }
    /// dispatcher.wait();
    /// assert_eq!(results.try_iter().count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it would wait
    /// for itself; in a child made by `fork()`.
    pub fn wait(&self) {
        assert_may_wait("wait");
        self.client.wait(None);
    }

    /// As [`wait`](Self::wait), for at most `timeout`. False if that was too short.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// if !dispatcher.wait_timeout(Duration::from_secs(60)) {
    ///     println!("{}", dispatcher.stats());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it would wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        assert_may_wait("wait_timeout");
        self.client.wait(Some(timeout))
    }

    /// Waits until every job of the group has ended and its callback has returned.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let page = dispatcher.job(built_in::echo, (vec![1],)).group("page 1").submit();
    /// dispatcher.wait_group("page 1");
    /// assert!(page.has_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it might wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_group(&self, name: &str) {
        assert_may_wait("wait_group");
        self.client.group(name).wait_below(1, None);
    }

    /// As [`wait_group`](Self::wait_group), for at most `timeout`. False if that was too short.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// dispatcher.job(built_in::echo, (vec![1],)).group("page 1").submit();
    /// assert!(dispatcher.wait_group_timeout("page 1", Duration::from_secs(60)));
    /// assert!(dispatcher.wait_group_timeout("nobody's", Duration::ZERO), "a group without jobs is done");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Inside a callback, and in a waker or a `tracing` subscriber that the dispatcher's thread calls, where it might wait
    /// for itself; in a child made by `fork()`.
    pub fn wait_group_timeout(&self, name: &str, timeout: Duration) -> bool {
        assert_may_wait("wait_group_timeout");
        self.client.group(name).wait_below(1, Some(timeout))
    }

    /// Waits until so many nodes beside the local one can be given jobs, for at most `timeout`, and yields how many
    /// there are. There is no need to call this: jobs submitted before a node is found run on it once it is. It is for
    /// programs whose whole work takes less time than finding nodes does. Returns at once if no node is named and none
    /// is looked for, and with zero in a waker or a `tracing` subscriber that the dispatcher's thread calls, and in a child
    /// made by `fork()`.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let dispatcher = Dispatcher::builder().discover(true).start()?;
    /// let nodes = dispatcher.wait_for_nodes(2, Duration::from_secs(3));
    /// println!("{nodes} nodes beside this one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_nodes(&self, count: usize, timeout: Duration) -> usize {
        self.client.wait_for_nodes(count, timeout)
    }

    /// Changes how many of the local cores are used, now. Zero is allowed.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// dispatcher.set_local_workers(4)?;
    /// dispatcher.set_local_workers(0)?; // nodes do all the work from now on
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there are more than a node can have, and in a child made by `fork()`.
    pub fn set_local_workers(&self, workers: usize) -> Result<(), OrderError> {
        self.client.set_local_workers(slots(workers)?)
    }

    /// Changes how many jobs a node runs at once, now. `node` is a name or an address as in [`nodes`](Self::nodes). Returns
    /// once the node has taken the order, which it gets on a connection of its own: a dispatcher's carries only jobs.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder().node("render1").start()?;
    /// dispatcher.resize("render1", 8)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such node, it is not connected or does not take the order, or the dispatcher's thread does not
    /// answer.
    pub fn resize(&self, node: &str, workers: usize) -> Result<(), OrderError> {
        self.client.order(node, Order::Resize(slots(workers)?))
    }

    /// Has a node finish what runs, take no more, and end: jobs that wait there come back and run elsewhere. What still runs
    /// after half a minute (unless the node was told otherwise) is killed, and runs elsewhere, too. `node` is a name or an
    /// address as in [`nodes`](Self::nodes). Returns once the node has taken the order, as [`resize`](Self::resize) does;
    /// [`nodes`](Self::nodes) tells how far it has come.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder().node("render1").start()?;
    /// dispatcher.drain("render1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`resize`](Self::resize), and for the dispatcher's own cores.
    pub fn drain(&self, node: &str) -> Result<(), OrderError> {
        self.client.order(node, Order::Drain)
    }

    /// Every node ever heard of, those that are refused or out of reach included, with the reason.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// for node in dispatcher.nodes() {
    ///     match node.reason {
    ///         Some(reason) => println!("{} is not used: {reason}", node.name),
    ///         None => println!("{} has {} slots", node.name, node.slots),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.stats().nodes
    }

    /// Statistics: what was done where so far; after a [`shutdown`](Self::shutdown), until then.
    ///
    /// The dispatcher's thread is asked. Where it cannot answer, what it said last is told: if it is the one that asks, in a
    /// waker or a `tracing` subscriber, or if it is held up for three seconds, by a lock that is held here, say.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// dispatcher.submit(built_in::echo, (vec![1],)).wait()?;
    /// let stats = dispatcher.stats();
    /// assert_eq!(stats.nodes[0].jobs_ended, 1);
    /// println!("{stats}"); // the table that Parallel Python prints
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// Why the job of this identifier has not ended, as [`Job::explain`](super::job::Job::explain) tells whoever holds it.
    /// Events and logs name jobs by their identifiers.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, JobExplanation, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// let id = job.id().expect("it was submitted");
    /// job.wait()?;
    /// assert_eq!(dispatcher.explain(id), JobExplanation::Ended);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self, job: JobId) -> JobExplanation {
        self.client.handle().explain_by_id(job)
    }

    /// Has nodes ask the dispatchers that are connected to them why a job of theirs has not ended, and yields how many nodes
    /// were asked. Whoever has such a job answers, which comes as [`ClusterEvent::JobExplained`](crate::ClusterEvent); each
    /// dispatcher counts its own jobs, so that several may have one of this number. Only an
    /// [observer](crate::Builder::observer) may ask; for others no node is asked.
    ///
    /// ```no_run
    /// # use pp_dispatcher::{ClusterEvent, Dispatcher, JobId};
    /// use std::time::Duration;
    ///
    /// let looking = Dispatcher::builder().observer(true).node("render1").start()?;
    /// looking.wait_for_nodes(1, Duration::from_secs(5));
    /// let events = looking.events();
    /// looking.explain_elsewhere(JobId::new(17, 0));
    /// while let Some(event) = events.next_timeout(Duration::from_secs(1)) {
    ///     if let ClusterEvent::JobExplained { dispatcher, text, .. } = event {
    ///         println!("job 17 of {dispatcher}: {text}");
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain_elsewhere(&self, job: JobId) -> usize {
        self.client.handle().explain_elsewhere(job)
    }

    /// Follows what happens from now on.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let events = dispatcher.events();
    /// dispatcher.shutdown();
    /// // They end with the dispatcher.
    /// for event in events {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> Events {
        self.client.events()
    }

    /// Shows how far the jobs of this dispatcher have come, those that have not ended and those to come, until what this yields is
    /// dropped: a bar on a terminal, lines in a log.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let shown = dispatcher.show_progress();
    /// let job = dispatcher.submit(built_in::echo, (vec![1],));
    /// dispatcher.wait();
    /// drop(shown);
    /// # drop(job);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn show_progress(&self) -> ProgressShown {
        ProgressShown::of_all(self.client.clone())
    }

    /// Shows how far the jobs of a group have come, as [`show_progress`](Self::show_progress) does for all.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let shown = dispatcher.show_group_progress("page 1");
    /// dispatcher.job(built_in::echo, (vec![1],)).group("page 1").submit();
    /// dispatcher.wait_group("page 1");
    /// drop(shown);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn show_group_progress(&self, name: &str) -> ProgressShown {
        ProgressShown::of_group(self.client.clone(), name)
    }

    /// Begins nothing more: jobs that no node runs yet end as [`JobError::Cancelled`], and so do those that are submitted from
    /// now on. Those that run go on to their end; one whose node or worker dies meanwhile is not tried again. Returns at once:
    /// [`wait`](Self::wait) waits for what runs.
    ///
    /// This is how a program ends that has been told to, without losing what it has begun.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use pp_dispatcher::{Dispatcher, JobError, built_in};
    ///
    /// let dispatcher = Dispatcher::builder().in_process(true).local_workers(0).start()?;
    /// let job = dispatcher.submit(built_in::sleep, (Duration::from_secs(3_600),));
    /// dispatcher.finish();
    /// dispatcher.wait();
    /// assert_eq!(job.wait(), Err(JobError::Cancelled));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish(&self) {
        self.client.finish();
    }

    /// Has every node that is connected, and each that will be, tell what happens there: what its workers run and for how long,
    /// which attempts ended and why some failed, who has jobs there. About every `interval`, but at most four times a second.
    /// For an operator only ([`Builder::observer`](crate::Builder::observer)).
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let operator = Dispatcher::builder().observer(true).discover(true).start()?;
    /// for frame in operator.watch(Duration::from_secs(1))? {
    ///     println!("{} runs {} attempts", frame.name, frame.activity.status.busy);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When this dispatcher is no operator's.
    pub fn watch(&self, interval: Duration) -> Result<Watch, WatchError> {
        self.client.watch(interval)
    }

    /// Ends the dispatcher for all its clones: jobs that have not ended are cancelled, all local workers end.
    ///
    /// Waits for callbacks to be called, for at most five seconds: those behind one that is stuck are not called before this
    /// returns, and not at all if the program ends then.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, JobError, job};
    /// # #[job]
    /// # fn double(n: u32) -> u32 { 2 * n }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # pp_dispatcher::init();
    /// # let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// dispatcher.shutdown();
    /// assert_eq!(dispatcher.submit(double, (1,)).wait(), Err(JobError::ShutDown));
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self) {
        self.client.shutdown();
    }
}

fn assert_may_wait(function: &str) {
    assert!(
        inside() == Inside::Nothing,
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

fn slots(workers: usize) -> Result<u32, OrderError> {
    u32::try_from(workers).ok().filter(|slots| *slots <= SLOTS).ok_or(OrderError::TooMany(workers))
}
