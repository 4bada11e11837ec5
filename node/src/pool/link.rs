//! Work on its way to a worker.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use pp_protocol::room;
use pp_protocol::worker::Work;
use rustix::net::Shutdown;
use tokio::net::unix::OwnedWriteHalf;

use crate::worker::frames;

/// Pieces handed to one system call. Fewer than any system's limit.
const PIECES_AT_ONCE: usize = 64;

/// What is written before others of this thread have a turn, although the socket takes more.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// The sending half of a worker's socket.
#[derive(Debug)]
pub(super) struct Link {
    writer: OwnedWriteHalf,
    /// What the socket has not taken yet.
    queued: Mutex<VecDeque<Bytes>>,
    /// Whether the worker can read what is in this process's arena.
    lends: bool,
    /// Arguments that the worker reads where they are, by the numbers of their work.
    lent: Mutex<VecDeque<(u32, Bytes)>>,
}

/// How much of what was to be sent is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it, or whoever writes the rest is at it already.
    Whole,
    /// Somebody must call [`Link::write_queued`].
    InPart,
}

impl Link {
    pub(super) fn new(writer: OwnedWriteHalf, lends: bool) -> Self {
        Self { writer, queued: Mutex::default(), lends, lent: Mutex::default() }
    }

    /// Writes work to the socket, as far as it takes it at once, and queues the rest.
    pub(super) fn send(&self, works: &[Work]) -> Sent {
        let pieces = frames::encode_work(works, |work| self.lend(work));
        let mut queued = self.lock();
        let is_being_written = !queued.is_empty();
        queued.extend(pieces);
        if is_being_written {
            return Sent::Whole;
        }
        self.write_some(&mut queued);
        if queued.is_empty() { Sent::Whole } else { Sent::InPart }
    }

    /// Where the worker can read the arguments; `None` if they have to be sent.
    fn lend(&self, work: &Work) -> Option<Range<usize>> {
        let place = self.lends.then(|| room::place_of(&work.args)).flatten()?;
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.push_back((work.number, work.args.to_bytes()));
        Some(place..place + work.args.len())
    }

    /// The worker has no more use for the arguments of work before this number.
    pub(super) fn take_back_before(&self, number: u32) {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_before = |first: u32| (first.wrapping_sub(number) as i32) < 0;
        while lent.pop_front_if(|(first, _)| is_before(*first)).is_some() {}
    }

    /// The worker is gone.
    pub(super) fn take_back_all(&self) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
