//! Outcomes on their way to the node.
//!
//! The thread that runs jobs adds to it and flushes it; the watcher flushes what has waited too long, and what the first
//! thread cannot: because something that a job left behind holds standard output, or because a job closed the socket.
//! Both hold the lock while they write, which keeps frames whole and in order.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pp_protocol::Stream;
use pp_protocol::packed::{self, Lent};
use pp_protocol::worker::Finished;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg};

use super::descriptors::{self, Identity};
use super::frames;
use crate::page::monotonic_ns;

/// Outcomes are written once they fill this much.
const PENDING_BYTES: usize = 64 * 1024;
/// Outcomes are written once there are so many.
const PENDING_OUTCOMES: u32 = 1_024;
/// Outcomes are written, between two jobs, once the oldest has waited for so long.
const PENDING_NS: u64 = 500_000;
/// Outcomes are written, while a job runs, once the oldest has waited for so long.
const LATE_NS: u64 = 2_000_000;
/// Time that flushing standard output may take although there is room in its pipe: after that somebody else holds its lock.
const PRINT_NS: u64 = 300_000_000;

#[derive(Debug)]
pub(super) struct Outbox {
    socket: UnixStream,
    /// Identity that the descriptor of the socket should have.
    identity: Identity,
    pending: Mutex<Pending>,
    /// Since when standard output is being flushed, in nanoseconds of the monotonic clock; 0 if it is not.
    printing_since: AtomicU64,
    /// Number of frames of work that have been begun.
    frames: AtomicU64,
    /// Whether the watcher does not look by itself how jobs get along.
    watcher_sleeps: AtomicBool,
    /// Written to when the watcher has to look at what is pending.
    wake: UnixStream,
    woken: UnixStream,
}

#[derive(Debug, Default)]
struct Pending {
    /// Outcomes, one after the other.
    outcomes: Vec<u8>,
    count: u32,
    /// End of the first of them, in nanoseconds of the monotonic clock.
    oldest_ns: u64,
    /// Whether the watcher looks here again by itself. While it does, adding costs no system call.
    is_watched: bool,
    is_closed: bool,
    /// Whether the thread that runs jobs has no socket any more.
    is_left_to_watcher: bool,
}

/// Next step of the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextLook {
    /// Look again after this time.
    After(Duration),
    /// Look again when woken.
    WhenWoken,
    /// Nothing will be written any more.
    Never,
    /// All there was is written: the thread that runs jobs waits for a lock on standard output that nobody lets go.
    HeldUp,
    /// All there was is written, if that could be: the thread that runs jobs has no socket any more.
    CutOff,
}

impl Outbox {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let [wake, woken] = [wake, woken].map(|end| descriptors::out_of_the_way(end.into()).into());
        let identity = Identity::of(&socket)?;
        Ok(Self {
            socket,
            identity,
            pending: Mutex::default(),
            printing_since: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            watcher_sleeps: AtomicBool::new(false),
            wake,
            woken,
        })
    }

    /// The node's socket, to read from.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Readable when the watcher is woken.
    pub(super) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Adds the outcome of a call that yielded `result` and ended at `now`. Tells whether it is time to flush.
    ///
    /// If the caller goes on with other work (`more_follows`), the watcher sees to it that this does not delay the
    /// outcome for long. Otherwise the caller must flush.
    pub(super) fn add_succeeded(
        &self,
        number: u32,
        run_time_ns: u64,
        result: &[u8],
        now: u64,
        more_follows: bool,
    ) -> bool {
        self.add(now, more_follows, |outcomes| {
            packed::put_succeeded(number, run_time_ns, result.len(), outcomes);
            outcomes.extend_from_slice(result);
        })
    }

    /// As [`add_succeeded`](Self::add_succeeded), for any outcome.
    pub(super) fn add_finished(&self, finished: &Finished, now: u64, more_follows: bool) -> bool {
        self.add(now, more_follows, |outcomes| {
            packed::put_finished(finished, outcomes).expect("numbers and text can be encoded");
        })
    }

    fn add(&self, now: u64, more_follows: bool, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut pending = self.lock();
        encode(&mut pending.outcomes);
        pending.count += 1;
        if pending.count == 1 {
            pending.oldest_ns = now;
        }
        if more_follows && !pending.is_watched {
            pending.is_watched = true;
            self.wake();
        }
        pending.count >= PENDING_OUTCOMES
            || pending.outcomes.len() >= PENDING_BYTES
            || now.saturating_sub(pending.oldest_ns) >= PENDING_NS
    }

    /// Writes what is pending, then the outcome of a call with a large result, which is not copied.
    pub(super) fn send_large(&self, number: u32, run_time_ns: u64, result: &[u8]) -> io::Result<()> {
        let mut pending = self.lock();
        self.write(&mut pending, &[], false)?;
        packed::put_succeeded(number, run_time_ns, result.len(), &mut pending.outcomes);
        pending.count = 1;
        self.write(&mut pending, result, false)
    }

    /// Writes what is pending, then bytes that the piece of work of this number, which runs, sends ahead of its result.
    pub(super) fn send_part(&self, number: u32, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut pending = self.lock();
        self.write(&mut pending, &[], false)?;
        let head = frames::part_head(number, stream, bytes.len());
        write_all(&self.socket, &mut [IoSlice::new(&head), IoSlice::new(bytes)]).map_err(|(_, error)| error)
    }

    /// Adds the outcome of a call whose result was lent to the node. The caller must flush.
    pub(super) fn add_lent(&self, number: u32, run_time_ns: u64, result: &Lent, now: u64) {
        self.add(now, false, |outcomes| {
            packed::put_succeeded_lent(number, run_time_ns, result, outcomes);
        });
    }

    /// Work is begun, over which the watcher is to watch. Between jobs it does so by itself for a while, which spares a
    /// system call for each.
    pub(super) fn begin_frame(&self) {
        // Both here and in the watcher, what is told comes before what is looked at: one of the two sees the other.
        self.frames.fetch_add(1, Ordering::SeqCst);
        if self.watcher_sleeps.load(Ordering::SeqCst) {
            self.watcher_sleeps.store(false, Ordering::SeqCst);
            self.wake();
        }
    }

    /// Watcher: from now on it sleeps until it is woken, unless more frames than this have been begun.
    pub(super) fn sleep(&self) -> u64 {
        self.watcher_sleeps.store(true, Ordering::SeqCst);
        self.frames.load(Ordering::SeqCst)
    }

    /// Watcher: it does not sleep.
    pub(super) fn stay_awake(&self) {
        self.watcher_sleeps.store(false, Ordering::SeqCst);
    }

    /// Standard output is going to be flushed. The watcher sees to it that this does not keep outcomes for long.
    pub(super) fn begin_printing(&self, now: u64) {
        self.printing_since.store(now, Ordering::Release);
    }

    /// It has been flushed.
    pub(super) fn end_printing(&self) {
        self.printing_since.store(0, Ordering::Release);
    }

    /// Whether the socket is still what this thread's descriptor leads to.
    pub(super) fn has_its_socket(&self) -> bool {
        self.identity.is_of(&self.socket)
    }

    /// This thread has no socket any more: the watcher writes what is pending, and ends the process.
    pub(super) fn leave_to_watcher(&self) {
        self.lock().is_left_to_watcher = true;
        if self.identity.is_of(&self.socket) {
            self.wake();
        }
    }

    /// Writes what is pending. `is_quiet` tells that the node has told all that was printed.
    pub(super) fn flush(&self, is_quiet: bool) -> io::Result<()> {
        self.write(&mut self.lock(), &[], is_quiet)
    }

    /// Writes a frame that holds no outcomes. Whatever is pending must have been flushed.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let _pending = self.lock();
        write_all(&self.socket, &mut [IoSlice::new(frame)]).map_err(|(_, error)| error)
    }

    /// Watcher: writes what has been pending for too long. Before this, `print` is to flush standard output.
    pub(super) fn flush_late(&self, print: impl FnOnce()) -> io::Result<NextLook> {
        let mut pending = self.lock();
        if pending.is_closed {
            return Ok(NextLook::Never);
        }
        if pending.is_left_to_watcher {
            let _ = self.write(&mut pending, &[], false);
            return Ok(NextLook::CutOff);
        }
        let printing_since = self.printing_since.load(Ordering::Acquire);
        if printing_since != 0 {
            let waited = monotonic_ns().saturating_sub(printing_since);
            if waited < PRINT_NS || !descriptors::has_room(&io::stdout()) {
                let rest = PRINT_NS.saturating_sub(waited).max(LATE_NS);
                return Ok(NextLook::After(Duration::from_nanos(rest)));
            }
            self.write(&mut pending, &[], false)?;
            return Ok(NextLook::HeldUp);
        }
        if pending.count > 0 {
            let waited = monotonic_ns().saturating_sub(pending.oldest_ns);
            if waited < LATE_NS {
                return Ok(NextLook::After(Duration::from_nanos(LATE_NS - waited)));
            }
            // The thread that runs jobs goes on meanwhile.
            let seen = (pending.count, pending.oldest_ns);
            drop(pending);
            print();
            pending = self.lock();
            // An outcome added since then is of a job that may have printed since then. This thread looks again.
            if pending.is_closed || seen != (pending.count, pending.oldest_ns) {
                return Ok(NextLook::After(Duration::from_nanos(LATE_NS)));
            }
            self.write(&mut pending, &[], false)?;
        }
        pending.is_watched = false;
        Ok(NextLook::WhenWoken)
    }

    /// Watcher: forgets that it was woken.
    pub(super) fn clear_wake(&self) {
        let mut bytes = [0; 16];
        while (&self.woken).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }

    /// Ends the connection and the watcher.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        // The node may have closed it first.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.wake();
    }

    /// Has the watcher look whether there is something to do.
    pub(super) fn wake(&self) {
        // A full pipe wakes the watcher as well.
        let _ = (&self.wake).write(&[0]);
    }

    /// Writes what is pending as one frame, with `tail` as the end of its last outcome.
    fn write(&self, pending: &mut Pending, tail: &[u8], is_quiet: bool) -> io::Result<()> {
        if pending.count == 0 {
            return Ok(());
        }
        let Pending { outcomes, count, .. } = pending;
        let head = frames::finished_head(outcomes.len() + tail.len(), is_quiet);
        let mut pieces = [IoSlice::new(&head), IoSlice::new(outcomes), IoSlice::new(tail)];
        let written = write_all(&self.socket, &mut pieces);
        // What could not even be begun is left to the watcher.
        match written {
            Err((0, error)) if !self.has_its_socket() => {
                outcomes.extend_from_slice(tail);
                Err(error)
            }
            _ => {
                outcomes.clear();
                *count = 0;
                written.map_err(|(_, error)| error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unlike `Write::write_all`, this never raises SIGPIPE, which would end a program that has restored its default. An error
/// comes with how much was written before it.
fn write_all(socket: &UnixStream, mut pieces: &mut [IoSlice<'_>]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while pieces.iter().any(|piece| !piece.is_empty()) {
        match sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
            Ok(count) => {
                written += count;
                IoSlice::advance_slices(&mut pieces, count);
            }
            Err(Errno::INTR) => {}
            // A job made all descriptors non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], None);
            }
            Err(error) => return Err((written, error.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pp_protocol::worker::{FromWorker, WorkResult};

    use super::*;

    fn outcomes_in(received: &mut BytesMut) -> Vec<Finished> {
        let frame = frames::split_frame(received).unwrap().unwrap();
        match frames::decode(&frame, |_| None).unwrap() {
            FromWorker::Finished { outcomes, .. } => outcomes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn outcomes_wait_for_a_flush_until_they_are_many_or_old() {
        let (worker_end, _node_end) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(worker_end).unwrap();
        for number in 0..PENDING_OUTCOMES - 1 {
            assert!(!outbox.add_succeeded(number, 1, &[], 1_000, true));
        }
        assert!(outbox.add_succeeded(PENDING_OUTCOMES, 1, &[], 1_000, true));
        outbox.flush(false).unwrap();
        assert!(!outbox.add_succeeded(0, 1, &[], 1_000, true));
        assert!(outbox.add_succeeded(1, 1, &[], 1_000 + PENDING_NS, true));
    }

    #[test]
    fn large_results_come_after_what_was_pending() {
        let (worker_end, mut node_end) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(worker_end).unwrap();
        outbox.add_succeeded(0, 1, &[7], 1, true);
        let large = vec![9; 100_000];
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| {
                outbox.send_large(1, 2, &large).unwrap();
                outbox.close();
            });
            let mut bytes = Vec::new();
            node_end.read_to_end(&mut bytes).unwrap();
            sent.join().unwrap();
            let mut received = BytesMut::from(&bytes[..]);
            assert_eq!(outcomes_in(&mut received)[0].number, 0);
            let second = outcomes_in(&mut received);
            assert_eq!((second[0].number, second[0].run_time_ns), (1, 2));
            assert_eq!(second[0].result, WorkResult::Succeeded(large.clone().into()));
        });
    }

    #[test]
    fn the_watcher_is_woken_once_and_looks_by_itself_after_that() {
        let (worker_end, node_end) = UnixStream::pair().unwrap();
        node_end.set_nonblocking(true).unwrap();
        let outbox = Outbox::new(worker_end).unwrap();
        let now = monotonic_ns();
        outbox.add_succeeded(0, 1, &[], now, true);
        outbox.add_succeeded(1, 1, &[], now, true);
        let mut wakes = [0; 8];
        assert_eq!((&outbox.woken).read(&mut wakes).unwrap(), 1);
        // However late this test gets to look, nothing is written before its time.
        match outbox.flush_late(|| {}).unwrap() {
            NextLook::After(time) => assert!(time.as_nanos() <= u128::from(LATE_NS)),
            other => assert!(other == NextLook::WhenWoken && monotonic_ns() - now >= LATE_NS),
        }
        while outbox.flush_late(|| {}).unwrap() != NextLook::WhenWoken {}
        assert!((&node_end).read(&mut wakes).unwrap() > 0, "what waited was written");
        outbox.close();
        assert_eq!(outbox.flush_late(|| {}).unwrap(), NextLook::Never);
    }
}
