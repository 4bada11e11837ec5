//! Messages that wait to be sent on a connection, and how much they hold meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::Message;

/// The sending half of a [`Transport`](super::Transport), which never waits. What bounds it is what the receiver granted; a
/// peer that makes more of it wait than that ([`waiting_bytes`](Self::waiting_bytes)) does not read what it is sent.
pub struct Sender<O> {
    messages: mpsc::UnboundedSender<Weighed<O>>,
    waiting: Arc<AtomicUsize>,
}

/// A message, and what it weighs.
type Weighed<O> = (usize, O);

/// The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

impl<O: Message> Sender<O> {
    /// Queues a message.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(&self, message: O) -> Result<(), Closed> {
        let weight = message.weight();
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        self.messages.send((weight, message)).map_err(|_| Closed)
    }
}

impl<O> Sender<O> {
    /// Bytes that wait to be written, by the [weight](Message::weight) of messages.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

impl<O> Clone for Sender<O> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl<O> fmt::Debug for Sender<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// The other end: what takes messages out to write them.
pub(super) struct Queue<O> {
    messages: mpsc::UnboundedReceiver<Weighed<O>>,
    waiting: Waiting,
}

/// Bytes that wait to be written.
#[derive(Clone)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) fn new<O>() -> (Sender<O>, Queue<O>) {
    let (sender, messages) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    let queue = Queue { messages, waiting: Waiting(Arc::clone(&waiting)) };
    (Sender { messages: sender, waiting }, queue)
}

impl<O> Queue<O> {
    /// Waits for messages and takes all there are. False when there will be no more.
    pub(super) async fn take(&mut self, messages: &mut Vec<Weighed<O>>) -> bool {
        self.messages.recv_many(messages, usize::MAX).await > 0
    }

    /// Takes all there are now.
    pub(super) fn take_now(&mut self, messages: &mut Vec<Weighed<O>>) {
        while let Ok(message) = self.messages.try_recv() {
            messages.push(message);
        }
    }

    /// Messages of this weight wait no longer.
    pub(super) fn taken(&self, bytes: usize) {
        self.waiting.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }
}
