//! Work on its way to a worker.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use pp_protocol::worker::Work;
use rustix::net::Shutdown;
use tokio::net::unix::OwnedWriteHalf;

use crate::lending::Lender;
use crate::worker::frames;

/// Pieces handed to one system call. Fewer than any system's limit.
const PIECES_AT_ONCE: usize = 64;

/// Bytes written before others of this thread have a turn, although the socket takes more.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// The sending half of a worker's socket.
#[derive(Debug)]
pub(super) struct Link {
    writer: OwnedWriteHalf,
    /// Bytes that the socket has not taken yet.
    queued: Mutex<VecDeque<Bytes>>,
    /// Lends arguments to the worker, where it can read them.
    lender: Option<Lender>,
    /// The worker said that it can.
    lends: AtomicBool,
}

/// Progress of a frame that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it, or whoever writes the rest is at it already.
    Whole,
    /// Somebody must call [`Link::write_queued`].
    InPart,
}

impl Link {
    pub(super) fn new(writer: OwnedWriteHalf, lender: Option<Lender>) -> Self {
        Self { writer, queued: Mutex::default(), lender, lends: AtomicBool::new(false) }
    }

    /// The socket, for what is said before any work.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.writer.as_ref().as_fd()
    }

    /// Writes work to the socket, as far as it takes it at once, and queues the rest.
    pub(super) fn send(&self, works: &[Work]) -> Sent {
        let pieces = frames::encode_work(works, |work| self.lender()?.lend(&work.args.to_bytes()));
        let mut queued = self.lock();
        let is_being_written = !queued.is_empty();
        queued.extend(pieces);
        if is_being_written {
            return Sent::Whole;
        }
        self.write_some(&mut queued);
        if queued.is_empty() { Sent::Whole } else { Sent::InPart }
    }

    /// From now on, large arguments are lent.
    pub(super) fn begin_to_lend(&self) {
        self.lends.store(true, Ordering::Relaxed);
    }

    fn lender(&self) -> Option<&Lender> {
        self.lender.as_ref().filter(|_| self.lends.load(Ordering::Relaxed))
    }

    /// Lets go of arguments for which the worker has no more use.
    pub(super) fn take_back(&self) {
        if let Some(lender) = self.lender() {
            lender.take_back();
        }
    }

    /// Whether arguments are lent, as far as known.
    pub(super) fn has_lent(&self) -> bool {
        self.lender().is_some_and(Lender::has_lent)
    }

    /// The worker is gone.
    pub(super) fn forget_lent(&self) {
        if let Some(lender) = self.lender() {
            lender.forget_all();
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Waits until the socket takes more, and writes that much of the queue.
    pub(super) async fn write_queued(&self) {
        // Everybody else of this thread has a turn between two pieces of something large.
        tokio::task::yield_now().await;
        // An error of the socket shows when it is written to.
        let _ = self.writer.writable().await;
        self.write_some(&mut self.lock());
    }

    /// Closes the socket in both directions.
    pub(super) fn close(&self) {
        self.lock().clear();
        // The worker may have closed it first.
        let _ = rustix::net::shutdown(self.writer.as_ref(), Shutdown::Both);
    }

    fn write_some(&self, queued: &mut VecDeque<Bytes>) {
        let mut written = 0;
        while !queued.is_empty() && written < BYTES_AT_ONCE {
            let slices: Vec<_> =
                queued.iter().take(PIECES_AT_ONCE).map(|piece| IoSlice::new(piece)).collect();
            match self.writer.try_write_vectored(&slices) {
                Ok(count) => {
                    written += count;
                    advance(queued, count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The worker is gone, which the reading side finds out and reports.
                Err(_) => queued.clear(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the first `count` bytes.
fn advance(queued: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = queued.front_mut() {
        if count < first.len() {
            first.advance(count);
            return;
        }
        count -= first.len();
        queued.pop_front();
    }
}
