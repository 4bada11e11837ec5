//! What the user's threads and the dispatcher's own thread share: the inbox, and the counts that waiting needs.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::time::{Duration, Instant};

use pp_node::processes::is_forked;
use pp_protocol::{JobId, Payload};
use tokio::sync::Notify;

use crate::api::error::JobError;
use crate::api::job::Waiter;
use crate::client::callbacks::{self, Callbacks, Due, Inside};
use crate::client::events::Listeners;
use crate::client::thread::Actor;
use crate::core::{NewJob, Ticket};

/// How long whoever asks the dispatcher's thread waits for its answer, in so many pieces of this length: time in which the
/// whole process stood still counts as one. That thread may be held up by what the asker holds, such as the lock of standard
/// output where a `tracing` subscriber writes to it.
const ANSWER_PIECES: u32 = 60;
const ANSWER_PIECE: Duration = Duration::from_millis(50);

thread_local! {
    static IS_DISPATCHER: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a dispatcher's from now on.
pub(crate) fn become_dispatcher_thread() {
    IS_DISPATCHER.set(true);
}

/// Whether this thread is a dispatcher's, be it another one's: wakers and `tracing` subscribers are called there. It must
/// wait for nothing that a dispatcher does, lest it waits for itself, or two of them for each other.
pub(crate) fn on_dispatcher_thread() -> bool {
    IS_DISPATCHER.get()
}

/// Why waiting would never end here, if it would not.
pub(crate) fn cannot_wait() -> Option<JobError> {
    if is_forked() {
        return Some(JobError::Forked);
    }
    on_dispatcher_thread().then_some(JobError::OnDispatcherThread)
}

/// Told how a job ended, on the dispatcher's thread.
pub(crate) trait Settle: Send + Sync {
    /// The job is known under this identifier.
    fn accepted(&self, id: JobId);

    /// The job ended. Whoever waits for it is added to `wakes`. Gives the outcome back if a callback is to be called with
    /// it, which makes it outstanding still.
    fn settle(
        &self,
        outcome: Result<Payload, JobError>,
        wakes: &mut Wakes,
    ) -> Option<Result<Payload, JobError>>;

    /// Calls the callback, on a thread of callbacks.
    fn call_back(&self, outcome: Result<Payload, JobError>);

    /// Does without the callback.
    fn forgo(&self);

    /// The group that it belongs to.
    fn group(&self) -> Option<&Arc<Count>>;
}

/// What the core hands back when a job ends.
pub(crate) struct JobTicket(pub(crate) Arc<dyn Settle>);

impl Ticket for JobTicket {
    fn accepted(&self, job: JobId) {
        self.0.accepted(job);
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        // The dispatcher's thread is taking everything down with it.
        if std::thread::panicking() && self.0.settle(Err(JobError::ShutDown), &mut Wakes::default()).is_some()
        {
            self.0.forgo();
        }
    }
}

/// Those to be woken once all jobs that ended together are settled: who waits for them in turn is then woken once.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Waiter>);

impl Wakes {
    pub(crate) fn add(&mut self, waiter: Waiter) {
        if !matches!(waiter, Waiter::Nobody) {
            self.0.push(waiter);
        }
    }

    pub(crate) fn wake_all(&mut self) {
        for waiter in self.0.drain(..) {
            // A waker is somebody else's code. The panic hook has reported it; the others are woken all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| waiter.wake()));
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake_all();
    }
}

impl fmt::Debug for JobTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobTicket")
    }
}

/// Something to be done on the dispatcher's thread.
pub(crate) enum Order {
    /// Cancel this job.
    Cancel(Arc<dyn Identified>),
    /// Find something out about jobs by their identifiers.
    Identify(Task),
    /// Anything else.
    Do(Task),
}

pub(crate) type Task = Box<dyn FnOnce(&mut Actor) + Send>;

impl Order {
    /// Whether jobs must have been told their identifiers before.
    pub(crate) fn needs_ids(&self) -> bool {
        match self {
            Self::Cancel(job) => job.id().is_none(),
            Self::Identify(_) => true,
            Self::Do(_) => false,
        }
    }
}

/// A job that knows its identifier, once it was told.
pub(crate) trait Identified: Send + Sync {
    fn id(&self) -> Option<JobId>;
}

/// How much may be pending before submitting waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    /// Of serialised arguments.
    pub(crate) bytes: usize,
}

/// What was resolved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) jobs: usize,
    /// Those of them that have a callback, which runs later.
    pub(crate) with_callback: usize,
    pub(crate) args_bytes: usize,
}

pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    /// Wakes the dispatcher's thread when the inbox is no longer empty.
    pub(crate) wake: Notify,
    /// Jobs submitted and neither resolved nor, if they have one, through with their callback.
    outstanding: Count,
    groups: Mutex<HashMap<String, Arc<Count>>>,
    /// Jobs submitted and neither resolved nor, if they have one, through with their callback; and the size of the
    /// arguments of those that are not resolved: what the limits are on.
    pending: Count,
    pending_bytes: Count,
    limits: Limits,
    /// How many attempts the nodes take at once, all together.
    pub(crate) capacity: AtomicUsize,
    /// How many slots they have.
    pub(crate) slots: AtomicUsize,
    pub(crate) callbacks: Callbacks,
    pub(crate) listeners: Listeners,
}

#[derive(Default)]
struct Inbox {
    jobs: Vec<NewJob<JobTicket>>,
    orders: VecDeque<Order>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(limits: Limits, callback_threads: usize) -> Self {
        Self {
            inbox: Mutex::default(),
            wake: Notify::new(),
            outstanding: Count::default(),
            groups: Mutex::default(),
            pending: Count::default(),
            pending_bytes: Count::default(),
            limits,
            capacity: AtomicUsize::new(0),
            slots: AtomicUsize::new(0),
            callbacks: Callbacks::new(callback_threads),
            listeners: Listeners::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job in the inbox, waiting while too many are pending. The job is given back if the dispatcher has ended, or
    /// is another process's.
    pub(crate) fn submit(
        &self,
        job: NewJob<JobTicket>,
        group: Option<&Count>,
    ) -> Result<(), NewJob<JobTicket>> {
        if is_forked() {
            return Err(job);
        }
        self.wait_for_room();
        let mut inbox = self.lock();
        if inbox.closed {
            return Err(job);
        }
        // Under the lock, so that no two threads add at once.
        self.pending.add_alone(1);
        self.pending_bytes.add_alone(job.args.len());
        self.outstanding.add_alone(1);
        if let Some(group) = group {
            group.add(1);
        }
        let was_empty = inbox.is_empty();
        inbox.jobs.push(job);
        drop(inbox);
        if was_empty {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Whether as much is pending as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.now() >= self.limits.jobs || self.pending_bytes.now() >= self.limits.bytes
    }

    /// Waits while too much is pending; callbacks and the dispatcher's thread never do, lest they wait for themselves.
    fn wait_for_room(&self) {
        while self.is_full() && callbacks::inside() == Inside::Nothing && !on_dispatcher_thread() {
            self.pending.wait_below(self.limits.jobs, None);
            self.pending_bytes.wait_below(self.limits.bytes, None);
        }
    }

    /// A job that cannot be submitted ends at once, the same way as others do: its callback is called on a thread of
    /// callbacks. After the end, one that a callback submits although it was told of the end itself is not called back
    /// any more: it would go on for ever.
    pub(crate) fn refuse(self: &Arc<Self>, ticket: JobTicket, group: Option<&Count>, error: JobError) {
        if is_forked() {
            return refuse_in_fork(ticket);
        }
        self.wait_for_room();
        let error = {
            let inbox = self.lock();
            self.pending.add_alone(1);
            self.outstanding.add_alone(1);
            if inbox.closed { JobError::ShutDown } else { error }
        };
        if let Some(group) = group {
            group.add(1);
        }
        match ticket.0.settle(Err(error), &mut Wakes::default()) {
            Some(_) if callbacks::inside() == Inside::Refusal => {
                tracing::warn!(
                    "a callback that was told of the shutdown submitted again, which is not called back"
                );
                ticket.0.forgo();
                self.callbacks_done(1);
            }
            Some(outcome) => self.call_back(&mut vec![Due { ticket, outcome }]),
            None => self.callbacks_done(1),
        }
    }

    /// Has callbacks called on their threads: each once, whatever happens.
    pub(crate) fn call_back(self: &Arc<Self>, due: &mut Vec<Due>) {
        if !self.callbacks.push(due) {
            callbacks::start_again(self);
        }
    }

    /// Has something done on the dispatcher's thread, after everything submitted before. Dropped if that has ended.
    pub(crate) fn tell(&self, order: Order) {
        if is_forked() {
            return;
        }
        let mut inbox = self.lock();
        if inbox.closed {
            return;
        }
        let was_empty = inbox.is_empty();
        inbox.orders.push_back(order);
        drop(inbox);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Has something found out on the dispatcher's thread. `None` if that has ended, does not answer, or is the one that
    /// asks.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Actor) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask_in_an(Order::Do, question)
    }

    /// The same for a question about a job: jobs have been told their identifiers by then.
    pub(crate) fn ask_of_job<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Actor) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask_in_an(Order::Identify, question)
    }

    fn ask_in_an<T: Send + 'static>(
        &self,
        order: impl FnOnce(Task) -> Order,
        question: impl FnOnce(&mut Actor) -> T + Send + 'static,
    ) -> Option<T> {
        if cannot_wait().is_some() {
            return None;
        }
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(order(Box::new(move |actor| {
            let _ = answer.send(question(actor));
        })));
        for _ in 0..ANSWER_PIECES {
            match answered.recv_timeout(ANSWER_PIECE) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                answer => return answer.ok(),
            }
        }
        None
    }

    /// Takes everything out of the inbox. If somebody is just putting something in, that is waited for only if there is
    /// nothing else to do.
    pub(crate) fn take_inbox(
        &self,
        jobs: &mut Vec<NewJob<JobTicket>>,
        orders: &mut VecDeque<Order>,
        may_wait: bool,
    ) {
        let mut inbox = match self.inbox.try_lock() {
            Err(TryLockError::WouldBlock) if !may_wait => return,
            Err(TryLockError::WouldBlock) => self.lock(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(inbox) => inbox,
        };
        std::mem::swap(&mut inbox.jobs, jobs);
        std::mem::swap(&mut inbox.orders, orders);
    }

    /// Nothing is taken in any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// The dispatcher's thread has panicked, which is a fault of this library: nobody shall wait for it.
    pub(crate) fn fail(&self) {
        let mut inbox = self.lock();
        inbox.closed = true;
        let (jobs, orders) = (std::mem::take(&mut inbox.jobs), std::mem::take(&mut inbox.orders));
        drop(inbox);
        drop(orders);
        for job in jobs {
            if job.ticket.0.settle(Err(JobError::ShutDown), &mut Wakes::default()).is_some() {
                job.ticket.0.forgo();
            }
        }
        self.callbacks.close();
        self.listeners.close();
        self.pending_bytes.subtract(self.pending_bytes.now());
        self.pending.subtract(self.pending.now());
        self.outstanding.subtract(self.outstanding.now());
    }

    /// Jobs were resolved.
    pub(crate) fn resolved(&self, resolved: Resolved) {
        self.pending_bytes.subtract(resolved.args_bytes);
        self.callbacks_done(resolved.jobs - resolved.with_callback);
    }

    /// So many jobs are through with their callback, or have none.
    pub(crate) fn callbacks_done(&self, count: usize) {
        self.pending.subtract(count);
        self.outstanding.subtract(count);
    }

    /// Whether somebody waits for room among the pending jobs.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.pending.is_waited_for()
    }

    /// Waits until nothing is outstanding; false if that took too long.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        self.outstanding.wait_below(1, timeout)
    }

    pub(crate) fn group(&self, name: &str) -> Arc<Count> {
        if is_forked() {
            return Arc::default();
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(name) {
            return Arc::clone(group);
        }
        // Groups nobody uses any more go when a new one comes.
        groups.retain(|_, group| Arc::strong_count(group) > 1);
        let group = Arc::<Count>::default();
        groups.insert(name.into(), Arc::clone(&group));
        group
    }
}

/// A job ends at once in a child made by `fork()`, where nobody else would call its callback.
fn refuse_in_fork(ticket: JobTicket) {
    match ticket.0.settle(Err(JobError::Forked), &mut Wakes::default()) {
        Some(_) if callbacks::inside() == Inside::Refusal => ticket.0.forgo(),
        Some(outcome) => Due { ticket, outcome }.call(),
        None => {}
    }
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.orders.is_empty()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("outstanding", &self.outstanding.now()).finish_non_exhaustive()
    }
}

/// A number of things that can be waited for to become small.
#[derive(Debug, Default)]
pub(crate) struct Count {
    added: AtomicUsize,
    removed: AtomicUsize,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    smaller: Condvar,
}

impl Count {
    pub(crate) fn add(&self, number: usize) {
        self.added.fetch_add(number, Ordering::SeqCst);
    }

    /// The same, at a fraction of the cost, where no two threads add at the same time.
    fn add_alone(&self, number: usize) {
        self.added.store(self.added.load(Ordering::Relaxed) + number, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, number: usize) {
        if number == 0 {
            return;
        }
        self.removed.fetch_add(number, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Taken and let go, so that nobody is between looking and sleeping.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.smaller.notify_all();
        }
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn now(&self) -> usize {
        // In this order: what is removed was added before. Fewer than none there are only where the dispatcher's thread
        // has failed, and everything was removed at once.
        let removed = self.removed.load(Ordering::SeqCst);
        self.added.load(Ordering::SeqCst).saturating_sub(removed)
    }

    /// Waits until the number is below `limit`; false if that took too long.
    pub(crate) fn wait_below(&self, limit: usize, timeout: Option<Duration>) -> bool {
        // A time too far away to be told is never.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let reached = loop {
            if self.now() < limit {
                break true;
            }
            guard = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.smaller.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break false,
                Some(left) => {
                    self.smaller.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        reached
    }
}
