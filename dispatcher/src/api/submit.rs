//! From a call to a job in the inbox.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pp_protocol::limits::PAYLOAD_BYTES;
use pp_protocol::values::{self, ValueError};
use pp_protocol::{FunctionId, JobId, NodeId, Part, Payload, Stream, room};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{JobError, ValueFault};
use super::function::{JobFunction, KnownFunction, find, name_of};
use super::job::{Job, JobCell, decode};
use crate::client::{Call, Count, Handle, Outcome, Settle, TakeParts, Taker, Wakes};
use crate::core::JobOptions;

/// Arguments of many jobs share a piece of memory of this size.
const ARENA_BYTES: usize = 64 * 1024;
/// Larger arguments have their own.
const LARGE_BYTES: usize = 4 * 1024;

type Callback<R> = Box<dyn FnOnce(Result<R, JobError>) + Send>;
pub(super) type OutputTaker = Box<dyn FnMut(OutputPiece) + Send>;

/// Some of what a command wrote, sent while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputPiece {
    /// Number of the try. Pieces of a higher one are of a command that was started anew, because a worker or node died: those
    /// before it are not part of its output.
    pub attempt: u32,
    /// The stream that it was written to.
    pub stream: Stream,
    /// The bytes as they are, never none.
    pub bytes: Bytes,
}

/// A job about to be submitted, with whatever differs from the usual. Nothing happens before [`submit`](Self::submit).
#[must_use = "nothing happens before submit() is called"]
pub struct JobBuilder<R> {
    handle: Arc<Handle>,
    /// Most calls have no options, and are right: what they would cost to be moved is boxed.
    call: Result<Call, Box<JobError>>,
    callback: Option<Callback<R>>,
    group: Option<Arc<Count>>,
    taker: Option<OutputTaker>,
}

impl<R: DeserializeOwned + Send + 'static> JobBuilder<R> {
    pub(crate) fn new<F, A>(handle: Arc<Handle>, function: F, args: &A) -> Self
    where
        F: JobFunction<A, Output = R>,
        A: Serialize,
    {
        // One step after the other: what is moved between closures here costs each job its copies.
        let call = match find(function) {
            Ok(KnownFunction { program, id: function }) => match encode(args) {
                Ok(args) if args.len() <= PAYLOAD_BYTES => {
                    Ok(Call { program, function, args, options: None })
                }
                Ok(args) => Err(too_large(args.len() as u64)),
                Err(error) => Err(not_encoded(function, &error)),
            },
            Err(reason) => Err(Box::new(reason.into())),
        };
        Self { handle, call, callback: None, group: None, taker: None }
    }

    /// Has what the job sends ahead of its result taken.
    pub(super) fn on_output(mut self, taker: OutputTaker) -> Self {
        self.taker = Some(taker);
        self
    }

    /// Sets an option. A call that is wrong has none.
    fn with(mut self, set: impl FnOnce(&mut JobOptions)) -> Self {
        if let Ok(call) = &mut self.call {
            set(call.options.get_or_insert_default());
        }
        self
    }

    /// Calls `callback` with the outcome, on a thread of the dispatcher that runs one callback after the other: one that
    /// takes long holds up those behind it, unless there are more threads for them
    /// ([`Builder::callback_threads`](crate::Builder::callback_threads)).
    ///
    /// It may submit jobs. If it panics, that is reported and changes nothing else. After a
    /// [`shutdown`](crate::Dispatcher::shutdown) it is called with [`JobError::ShutDown`]; what it submits then is not called
    /// back any more.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// dispatcher.job(built_in::echo, (vec![1],)).callback(|result| println!("{result:?}")).submit();
    /// dispatcher.wait();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn callback(mut self, callback: impl FnOnce(Result<R, JobError>) + Send + 'static) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    /// Makes the job part of a group that can be waited for.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// for n in 1..=3 {
    ///     dispatcher.job(built_in::echo, (vec![n],)).group("first").submit();
    /// }
    /// dispatcher.wait_group("first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(self.handle.counts().group(name));
        self
    }

    /// Kills the job when it has run for so long, which is more than no time at all. Waiting for its turn does not count.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// let job = dispatcher.job(built_in::sleep, (Duration::from_secs(1),)).timeout(Duration::from_secs(60)).submit();
    /// # job.cancel();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(self, limit: Duration) -> Self {
        if limit.is_zero() {
            return self.refuse("timeout", "0 s", "longer: leave it out for no limit");
        }
        self.with(|options| options.time_limit = Some(limit))
    }

    /// Number of times the job may be running as its worker or node dies (default 3), at least once.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// // What it does to the world is not to be done twice.
    /// let job = dispatcher.job(built_in::echo, (vec![1],)).max_attempts(1).submit();
    /// # job.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_attempts(self, attempts: u32) -> Self {
        if attempts == 0 {
            return self.refuse("max_attempts", "0", "1 or more");
        }
        self.with(|options| options.max_attempts = Some(attempts))
    }

    /// Makes a senseless option the job's outcome.
    fn refuse(self, option: &'static str, value: &str, expected: &'static str) -> Self {
        self.refuse_as(JobError::Option { option, value: value.into(), expected })
    }

    /// Makes an error the job's outcome.
    pub(super) fn refuse_as(mut self, error: JobError) -> Self {
        if self.call.is_ok() {
            self.call = Err(Box::new(error));
        }
        self
    }

    /// Whether the job is tried again when it panics, as if its worker had died.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// // It may panic because a server is down, which may be up on the next try.
    /// let job = dispatcher.job(built_in::echo, (vec![1],)).retry_panics(true).submit();
    /// # job.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry_panics(self, retry: bool) -> Self {
        self.with(|options| options.retry_panics = retry)
    }

    /// Whether it does no harm to run the job twice. If so, and slots idle while it takes longer than usual, a copy of it
    /// runs elsewhere, and the first result counts.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.job(built_in::echo, (vec![1],)).idempotent(true).submit();
    /// assert_eq!(job.wait()?, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idempotent(self, idempotent: bool) -> Self {
        self.with(|options| options.idempotent = idempotent)
    }

    /// Jobs of higher priority go first; the usual one is 0.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let preview = dispatcher.job(built_in::echo, (vec![1],)).priority(10).submit();
    /// # preview.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn priority(self, priority: i32) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// Runs the job on this node or nowhere: on this life of it, so that one that was started again is another node. The
    /// job waits for it, also while its connection is broken for a moment. Once the node is lost, or refuses the program,
    /// the job ends as [`JobError::Lost`], which names the node and says why. It gets no copy elsewhere, even if it is
    /// [`idempotent`](Self::idempotent).
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// // On each node once.
    /// for node in dispatcher.nodes() {
    ///     let Some(id) = node.id else { continue }; // it has not been connected yet
    ///     let output = dispatcher.command("uname").arg("-r").job().on_node(id).submit().wait()?;
    ///     println!("{}: {}", node.name, String::from_utf8_lossy(&output.stdout));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_node(self, id: NodeId) -> Self {
        self.with(|options| options.node = Some(id))
    }

    /// Submits the job unless the dispatcher has as many pending as [`Builder::pending_jobs`](crate::Builder::pending_jobs)
    /// and [`Builder::pending_bytes`](crate::Builder::pending_bytes) allow.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// match dispatcher.job(built_in::echo, (vec![1],)).try_submit() {
    ///     Ok(job) => assert_eq!(job.wait()?, [1]),
    ///     Err(later) => println!("{later:?} has to wait"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The builder itself, to try again with, if there is no room now.
    pub fn try_submit(self) -> Result<Job<R>, Self> {
        if self.handle.is_full() { Err(self) } else { Ok(self.submit()) }
    }

    /// Submits the job, waiting while as much is pending as may be (except in callbacks, and in wakers and `tracing`
    /// subscribers that the dispatcher's thread calls, which never wait).
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.job(built_in::echo, (vec![1],)).submit();
    /// assert_eq!(job.wait()?, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(self) -> Job<R> {
        self.submit_sized(None).0
    }

    /// As [`submit`](Self::submit), in the cell of a job that is over, if there is one. Tells how large the serialised
    /// arguments are.
    pub(crate) fn submit_sized(mut self, spare: Option<Arc<JobCell<R>>>) -> (Job<R>, usize) {
        let takes_output = self.taker.is_some();
        if let Some(taker) = self.taker.take() {
            // In a group, if only in one of its own, its pieces and its end are told one after the other.
            let group = Arc::clone(self.group.get_or_insert_default());
            let taker = Taker(Arc::new(Taking { call: Mutex::new(taker), group }));
            self = self.with(|options| options.taker = Some(taker));
        }
        let cell = spare.and_then(JobCell::again).unwrap_or_else(|| Arc::new(JobCell::new()));
        let job = Job { cell: Arc::clone(&cell), handle: self.handle };
        let group = self.group.as_deref();
        let is_observed = self.callback.is_some() || group.is_some();
        let observed = |refused| {
            let callback = Mutex::new(self.callback);
            let (cell, group) = (Arc::clone(&job.cell), self.group.clone());
            Arc::new(Observed { cell, callback, takes_output, group, refused })
        };
        let call = match self.call {
            Ok(call) => call,
            Err(error) => {
                job.handle.refuse(observed(Some(error)), group);
                return (job, 0);
            }
        };
        let args_bytes = call.args.len();
        let settle: Arc<dyn Settle> = if is_observed { observed(None) } else { cell };
        job.handle.submit(call, settle, group);
        (job, args_bytes)
    }
}

/// A job that has more to be told than its handle: a callback, a group, what was wrong with the call.
struct Observed<R> {
    cell: Arc<JobCell<R>>,
    callback: Mutex<Option<Callback<R>>>,
    /// Whether it is done only after what it sent ahead has been taken.
    takes_output: bool,
    group: Option<Arc<Count>>,
    refused: Option<Box<JobError>>,
}

impl<R> Observed<R> {
    fn result(&self, outcome: Outcome) -> Result<Payload, JobError> {
        outcome.map_err(|failed| JobError::of::<R>(*failed, self.refused.as_deref()))
    }

    fn take_callback(&self) -> Option<Callback<R>> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<R: DeserializeOwned + Send + 'static> Settle for Observed<R> {
    fn accepted(&self, id: JobId) {
        self.cell.accepted(id);
    }

    fn settle(&self, outcome: Outcome, wakes: &mut Wakes) -> Option<Outcome> {
        let has_callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let is_called_back = has_callback || self.takes_output;
        if let (Err(_), Some(group)) = (&outcome, &self.group) {
            group.fail(1);
        }
        // Without a handle there is nobody to decode the result for.
        if Arc::strong_count(&self.cell) > 1 {
            wakes.add(self.cell.end(self.result(outcome.clone())));
        }
        if !is_called_back {
            drop(Leave(self.group.as_deref()));
        }
        is_called_back.then_some(outcome)
    }

    fn call_back(&self, outcome: Outcome) {
        let _left = Leave(self.group.as_deref());
        if let Some(callback) = self.take_callback() {
            callback(self.result(outcome).and_then(|bytes| decode(bytes.source())));
        }
    }

    fn forgo(&self) {
        let _left = Leave(self.group.as_deref());
        drop(self.take_callback());
    }

    fn group(&self) -> Option<&Arc<Count>> {
        self.group.as_ref()
    }
}

/// Taker of a command's output.
struct Taking {
    call: Mutex<OutputTaker>,
    group: Arc<Count>,
}

impl TakeParts for Taking {
    fn take(&self, part: Part) {
        let Part { attempt, stream, bytes } = part;
        let piece = OutputPiece { attempt: attempt.number, stream, bytes: bytes.to_bytes() };
        self.call.lock().unwrap_or_else(PoisonError::into_inner)(piece);
    }

    fn queue(&self) -> usize {
        Arc::as_ptr(&self.group).addr()
    }
}

/// Leaves the group when the job, its callback included, is done, however that ends.
struct Leave<'a>(Option<&'a Count>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            group.subtract(1);
        }
    }
}

fn too_large(size: u64) -> Box<JobError> {
    Box::new(JobError::ArgumentsTooLarge { size, limit: PAYLOAD_BYTES as u64 })
}

#[cold]
fn not_encoded(function: FunctionId, error: &ValueError) -> Box<JobError> {
    match error.too_large() {
        Some(size) => too_large(size),
        None => Box::new(JobError::Arguments {
            function: name_of(function),
            fault: ValueFault::NotSerialised,
            reason: error.to_string(),
        }),
    }
}

/// Serialises arguments; small ones share memory, so that a job costs no allocation for them.
fn encode<A: Serialize>(args: &A) -> Result<Payload, ValueError> {
    #[derive(Default)]
    struct Scratch {
        /// Writer of arguments.
        writer: room::Writer,
        /// Memory of small ones.
        arena: BytesMut,
    }
    thread_local! {
        static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }
    // Taken out while it is used, since serialising runs the user's code, which may submit jobs itself.
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let Scratch { writer, arena } = &mut *scratch;
    writer.clear();
    values::encode_arguments(args, writer)?;
    let args = match writer.few() {
        None => writer.take_many().unwrap_or_default().into(),
        Some(few) => Payload::inline(few).unwrap_or_else(|| {
            if few.len() > LARGE_BYTES {
                return few.into();
            }
            if arena.capacity() < few.len() {
                *arena = BytesMut::with_capacity(ARENA_BYTES);
            }
            arena.extend_from_slice(few);
            arena.split().freeze().into()
        }),
    };
    SCRATCH.set(Some(scratch));
    Ok(args)
}

impl<R> fmt::Debug for JobBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobBuilder").field("call", &self.call).finish_non_exhaustive()
    }
}
