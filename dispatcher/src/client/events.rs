//! Events: what happens to nodes and jobs, for whoever wants to follow it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use pp_protocol::{JobId, NodeId, SessionId, Stream, shown};

use super::here::cannot_wait;
use crate::core::{Failure, NodeLoss, NodeRefusal, NodeTrouble};

/// Events kept for a listener that does not take them; more are dropped.
const EVENTS_KEPT: usize = 10_000;

/// Something that happened to a node or a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A node can be used.
    NodeConnected {
        /// Its name.
        node: String,
        /// Its life, for jobs that are to run there only ([`JobBuilder::on_node`](crate::JobBuilder::on_node)).
        id: NodeId,
        /// Number of its slots.
        slots: usize,
    },
    /// A node is silent and gets no new jobs.
    NodeSuspected {
        /// Its name.
        node: String,
    },
    /// A node is lost.
    NodeLost {
        /// Its name.
        node: String,
        /// Cause.
        cause: NodeLoss,
        /// Number of jobs that are queued again.
        jobs: usize,
    },
    /// A node does not want this dispatcher, or does not run its program.
    NodeRefused {
        /// Its name.
        node: String,
        /// Cause; its text says what to do.
        cause: NodeRefusal,
    },
    /// A node cannot start workers just now, or not as many as it has slots; it tries again.
    NodeTroubled {
        /// Its name.
        node: String,
        /// Cause.
        cause: NodeTrouble,
    },
    /// A node has another number of slots.
    NodeResized {
        /// Its name.
        node: String,
        /// Number of its slots now.
        slots: usize,
    },
    /// A job is tried again.
    JobRetried {
        /// The job.
        job: JobId,
        /// The attempt that failed.
        failure: Failure,
    },
    /// A job printed a line.
    Printed {
        /// The node's name.
        node: String,
        /// The job, as far as known.
        job: Option<JobId>,
        /// Standard output or standard error.
        stream: Stream,
        /// The line as it was printed, whatever is in it. Shown as text, control characters look like `\x1b`.
        line: String,
    },
    /// Another dispatcher said why a job of its own has not ended: the answer to
    /// [`Dispatcher::explain_elsewhere`](crate::Dispatcher::explain_elsewhere).
    JobExplained {
        /// The job, by the number that it has there.
        job: JobId,
        /// The session of that dispatcher, which is the same at each node that it was asked through.
        session: SessionId,
        /// User, host, program and process of that dispatcher, as it says itself.
        dispatcher: String,
        /// Why, in its words.
        text: String,
    },
    /// Jobs have been waiting for a while and there is no node to run them on.
    Stalled {
        /// Their number.
        jobs: usize,
        /// Each node and why it is not used.
        reason: String,
    },
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeConnected { node, slots, .. } => write!(f, "{node} connected with {slots} slots"),
            Self::NodeSuspected { node } => write!(f, "{node} is silent, it gets no new jobs"),
            Self::NodeLost { node, cause, jobs } => {
                write!(f, "{node} is lost ({cause}), {jobs} jobs queued again")
            }
            Self::NodeRefused { node, cause } => write!(f, "{node} is not used: {cause}"),
            Self::NodeTroubled { node, cause } => write!(f, "{node} is in trouble: {cause}"),
            Self::NodeResized { node, slots } => write!(f, "{node} has {slots} slots now"),
            Self::JobRetried { job, failure } => {
                write!(f, "job {job} is tried again: {failure}")
            }
            Self::Printed { node, job, line, .. } => f.write_str(&printed(node, *job, &shown(line))),
            Self::JobExplained { job, dispatcher, text, .. } => {
                write!(f, "job {job} of {dispatcher}: {text}")
            }
            Self::Stalled { jobs: 1, reason } => write!(f, "a job waits and no node can run it: {reason}"),
            Self::Stalled { jobs, reason } => {
                write!(f, "{jobs} jobs wait and no node can run them: {reason}")
            }
        }
    }
}

/// Line of a job, as it is shown.
pub(crate) fn printed(node: &str, job: Option<JobId>, line: &str) -> String {
    match job {
        Some(job) => format!("[{node} job {job}] {line}"),
        None => format!("[{node}] {line}"),
    }
}

/// Events since [`Dispatcher::events`](crate::Dispatcher::events) was called: an iterator that waits for the next one and ends with
/// the dispatcher. A listener that falls 10,000 events behind misses some. In a waker or a `tracing` subscriber that the
/// dispatcher's thread calls, and in a child made by `fork()`, only what is there is yielded.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<ClusterEvent>);

impl Events {
    /// Waits for the next event for at most `timeout`.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::time::Duration;
    ///
    /// let events = dispatcher.events();
    /// while let Some(event) = events.next_timeout(Duration::from_millis(1)) {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&self, timeout: Duration) -> Option<ClusterEvent> {
        if cannot_wait().is_some() { self.try_next() } else { self.0.recv_timeout(timeout).ok() }
    }

    /// The next event, if it is there.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let events = dispatcher.events();
    /// if let Some(event) = events.try_next() {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next(&self) -> Option<ClusterEvent> {
        self.0.try_recv().ok()
    }
}

impl Iterator for Events {
    type Item = ClusterEvent;

    fn next(&mut self) -> Option<ClusterEvent> {
        if cannot_wait().is_some() { self.try_next() } else { self.0.recv().ok() }
    }
}

/// Listeners to events, and whether there are none any more.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<mpsc::SyncSender<ClusterEvent>>>, AtomicBool);

impl Listeners {
    pub(crate) fn listen(&self) -> Events {
        let (sender, receiver) = mpsc::sync_channel(EVENTS_KEPT);
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After the end there are no events: the iterator ends at once, as its sender is dropped.
        if !self.1.load(Ordering::SeqCst) {
            listeners.push(sender);
        }
        drop(listeners);
        Events(receiver)
    }

    pub(crate) fn publish(&self, event: &ClusterEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener| {
            !matches!(listener.try_send(event.clone()), Err(mpsc::TrySendError::Disconnected(_)))
        });
    }

    /// Every listener's iterator ends.
    pub(crate) fn close(&self) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.1.store(true, Ordering::SeqCst);
        listeners.clear();
    }
}
