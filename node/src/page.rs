//! The progress page: a page of memory that a node shares with one worker.
//!
//! Through it the node knows, without a message and also after the worker died, which piece of work is running, and
//! takes back work that has not started. Work is numbered from 0 for each worker; numbers wrap around.
//!
//! | word | written by | holds |
//! |---|---|---|
//! | `claim` | both, by compare-and-swap | `limit << 32 \| started` |
//! | `started_at_ns` | the worker | when the last claimed piece started, on `CLOCK_MONOTONIC` |
//! | `finished` | the worker | how many pieces have been finished |
//! | `reason` | the worker | why it ends itself, before it does |
//! | `arguments` | set by the node, cleared by the worker | marks of arguments that the worker reads where they are |
//! | `end` | the [warden](crate::worker), but for zero | whether the worker has a warden, and how it ended |
//! | `results` | set by the worker, cleared by the node | marks of results that the node reads where they are |
//! | `untold` | the node | whether it has read, and not told, something of standard output or standard error |
//!
//! *Giving work.* The node raises `limit` before it sends the work, so what a worker reads can always be claimed.
//!
//! *Claiming.* The worker turns `(limit, n)` into `(limit, n + 1)` if `n` is before `limit`. *Revoking.* The node turns
//! `(limit, started)` into `(started, started)`. Both change the one word, so a piece is either claimed or revoked.
//!
//! *Skipping.* The worker finds that it may not claim what it was sent, throws it away, moves the page on with
//! `skip_to` and says so in a message. Between `revoke` and that message the node neither raises the limit nor sends
//! work, and a second `revoke` changes nothing, so there a plain store cannot overwrite anything.
//!
//! *Reading.* A piece is running exactly if `started != finished`; it is number `started - 1`. The worker writes
//! `started_at_ns` before it claims (a claim that fails leaves a time that nobody looks at) and `finished` before it
//! writes the next `started_at_ns`, each with release ordering. The node reads `claim`, `started_at_ns`, `finished`
//! and `claim` again, with acquire ordering, until both reads of `claim` agree on `started`. So if `finished` tells
//! that piece `started - 1` runs, it ran already and still when the time was read, and the time is its own.
#![expect(
    unsafe_code,
    reason = "memory shared with another process is mapped by hand; this module owns the mapping"
)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use pp_protocol::Stream;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};

use crate::core::Progress;
use crate::wrapping::is_before;

/// Bytes that are mapped. On machines with larger pages the rest of the page stays unused.
const PAGE_BYTES: usize = 4096;

/// Payloads that each side can read where the other has them, at once.
pub(crate) const MARKS: usize = 256;

/// Reason why a worker ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SelfEnd {
    /// The node closed the connection, or is gone.
    NodeGone = 1,
    /// A job closed the worker's connection.
    CutOff = 2,
    /// Something that a job left behind holds a lock that reporting needs.
    HeldUp = 3,
    /// A job ended the thread that jobs run on.
    ThreadEnded = 4,
}

/// In `end`: the worker has a warden.
const GUARDED: u64 = 1 << 32;
/// In `end`: the worker has ended, with the status in the lower half.
const ENDED: u64 = 1 << 33;

/// Payloads that are marked; see [`lending`](crate::lending).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Arguments, lent by the node.
    Arguments,
    /// Results, lent by the worker.
    Results,
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which is the same for all processes of a machine.
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative: the clock counts up from when the machine started.
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Debug)]
#[repr(C)]
struct Words {
    claim: AtomicU64,
    started_at_ns: AtomicU64,
    finished: AtomicU32,
    reason: AtomicU32,
    end: AtomicU64,
    /// A mark that is not zero is set, whatever it is.
    arguments: [AtomicU8; MARKS],
    results: [AtomicU8; MARKS],
    untold: [AtomicU8; 2],
}

const _: () = assert!(size_of::<Words>() <= PAGE_BYTES, "it fits the page");

/// The page, as one side sees it. The module documentation says who may write what.
pub struct Page {
    memory: Memory,
}

enum Memory {
    /// For a worker that is a thread of this process.
    Own(Box<Words>),
    /// Mapped for as long as the page lives.
    Mapped(NonNull<Words>),
}

// SAFETY: the mapping belongs to the page until it is dropped, and is only accessed through shared references to
// atomics.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros, and the descriptor with which a worker process maps the same page.
    ///
    /// # Errors
    /// When the system has no memory or descriptor left.
    pub fn shared() -> io::Result<(Self, OwnedFd)> {
        let file = new_file()?;
        let page = Self::map(&file)?;
        Ok((page, file))
    }

    /// The page a node made with [`Page::shared`].
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        if rustix::fs::fstat(&file)?.st_size < PAGE_BYTES as _ {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the descriptor is not of a progress page",
            ));
        }
        Self::map(&file)
    }

    /// A page for a worker that is a thread of this process.
    pub fn in_memory() -> Arc<Self> {
        let words = Words {
            claim: AtomicU64::new(0),
            started_at_ns: AtomicU64::new(0),
            finished: AtomicU32::new(0),
            reason: AtomicU32::new(0),
            end: AtomicU64::new(0),
            arguments: [const { AtomicU8::new(0) }; MARKS],
            results: [const { AtomicU8::new(0) }; MARKS],
            untold: [const { AtomicU8::new(0) }; 2],
        };
        Arc::new(Self { memory: Memory::Own(Box::new(words)) })
    }

    fn map(file: &OwnedFd) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address, so no memory in use is mapped over. The file has `PAGE_BYTES` bytes
        // and cannot shrink where the system has seals; elsewhere nobody is given its name.
        let address = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap(ptr::null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, file.as_fd(), 0)?
        };
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory: Memory::Mapped(words) })
    }

    fn words(&self) -> &Words {
        match &self.memory {
            Memory::Own(words) => words,
            // SAFETY: mapped until the page is dropped, aligned to a page, large enough, and any bits are valid
            // atomics.
            Memory::Mapped(words) => unsafe { words.as_ref() },
        }
    }

    /// Node: allows `by` more pieces of work to be claimed. Called before they are sent.
    pub fn raise(&self, by: u32) {
        // What wraps around at the top of the word is exactly what wraps around in the limit.
        self.words().claim.fetch_add(u64::from(by) << 32, Ordering::AcqRel);
    }

    /// Node: takes back whatever has not been claimed. What was claimed is told by the result.
    pub fn revoke(&self) -> Progress {
        let revoked = |claim| claim_of(started_of(claim), started_of(claim));
        let before = self.words().claim.update(Ordering::AcqRel, Ordering::Acquire, revoked);
        self.progress_when_revoked(started_of(before))
    }

    /// Node: how far the worker has come.
    pub fn progress(&self) -> Progress {
        let words = self.words();
        let mut started = started_of(words.claim.load(Ordering::Acquire));
        loop {
            let started_at_ns = words.started_at_ns.load(Ordering::Acquire);
            let finished = words.finished.load(Ordering::Acquire);
            let started_after = started_of(words.claim.load(Ordering::Acquire));
            if started_after == started {
                return Progress { started, finished, started_at_ns };
            }
            started = started_after;
        }
    }

    /// Progress of the worker when everything from `started` on was revoked. By now it may have thrown that away and
    /// moved the page on: what is there now tells no more than whether the last piece it claimed still runs.
    fn progress_when_revoked(&self, started: u32) -> Progress {
        let words = self.words();
        let started_at_ns = words.started_at_ns.load(Ordering::Acquire);
        let finished = words.finished.load(Ordering::Acquire);
        let finished = if is_before(started, finished) { started } else { finished };
        Progress { started, finished, started_at_ns }
    }

    /// Worker: starts piece `number` at `now` (nanoseconds of the monotonic clock), unless it has been revoked.
    pub fn claim(&self, number: u32, now: u64) -> bool {
        let words = self.words();
        words.started_at_ns.store(now, Ordering::Release);
        let mut claim = words.claim.load(Ordering::Acquire);
        while is_before(number, limit_of(claim)) {
            let claimed = claim_of(limit_of(claim), number.wrapping_add(1));
            match words.claim.compare_exchange_weak(claim, claimed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => claim = changed,
            }
        }
        false
    }

    /// Worker: piece `number`, claimed last, has ended.
    pub fn finish(&self, number: u32) {
        self.words().finished.store(number.wrapping_add(1), Ordering::Release);
    }

    /// Worker: says why it is going to end itself.
    pub(crate) fn leave_reason(&self, reason: SelfEnd) {
        self.words().reason.store(reason as u32, Ordering::Release);
    }

    /// Node: why the worker ended itself, if it did. Anything can be there that a job wrote there.
    pub(crate) fn reason(&self) -> Option<SelfEnd> {
        let reason = self.words().reason.load(Ordering::Acquire);
        [SelfEnd::NodeGone, SelfEnd::CutOff, SelfEnd::HeldUp, SelfEnd::ThreadEnded]
            .into_iter()
            .find(|known| *known as u32 == reason)
    }

    /// Warden: the worker has one, which ends whatever is left of it.
    pub(crate) fn guard(&self) {
        self.words().end.store(GUARDED, Ordering::Release);
    }

    /// Warden: the worker has ended, with this status of wait(2).
    pub(crate) fn ended(&self, status: i32) {
        self.words().end.store(ENDED | u64::from(status.cast_unsigned()), Ordering::Release);
    }

    /// Node: whether the worker has a warden.
    pub(crate) fn is_guarded(&self) -> bool {
        self.words().end.load(Ordering::Acquire) != 0
    }

    /// Node: how the worker ended, as its warden saw it.
    pub(crate) fn end(&self) -> Option<i32> {
        let end = self.words().end.load(Ordering::Acquire);
        (end & ENDED != 0).then_some((end as u32).cast_signed())
    }

    /// Node: whether it has read something of this stream that it has not told. Said before it reads.
    pub(crate) fn set_untold(&self, stream: Stream, untold: bool) {
        self.untold(stream).store(untold.into(), Ordering::SeqCst);
    }

    /// Worker: whether the node has.
    pub(crate) fn is_untold(&self, stream: Stream) -> bool {
        self.untold(stream).load(Ordering::SeqCst) != 0
    }

    fn untold(&self, stream: Stream) -> &AtomicU8 {
        &self.words().untold[usize::from(stream == Stream::Stderr)]
    }

    fn marks(&self, marks: Marks) -> &[AtomicU8; MARKS] {
        match marks {
            Marks::Arguments => &self.words().arguments,
            Marks::Results => &self.words().results,
        }
    }

    /// The other side may read payload `number` where it is.
    ///
    /// # Panics
    /// When there is no such mark.
    pub(crate) fn mark(&self, marks: Marks, number: usize) {
        self.marks(marks)[number].store(1, Ordering::Release);
    }

    /// Payload `number` is read no more. Whatever was read was read before.
    pub(crate) fn clear_mark(&self, marks: Marks, number: usize) {
        if let Some(mark) = self.marks(marks).get(number) {
            mark.store(0, Ordering::Release);
        }
    }

    /// Whether payload `number` may be read where it is.
    pub(crate) fn is_marked(&self, marks: Marks, number: usize) -> bool {
        self.marks(marks).get(number).is_some_and(|mark| mark.load(Ordering::Acquire) != 0)
    }

    /// Worker: everything before `number` has been claimed and finished, or revoked and thrown away.
    pub fn skip_to(&self, number: u32) {
        let words = self.words();
        // Between the two stores piece `number - 1` looks as if it ran. It is one that was revoked, so nobody looks for
        // it; the other way round it would be the last one that did run.
        words.claim.store(claim_of(number, number), Ordering::Release);
        words.finished.store(number, Ordering::Release);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Memory::Mapped(words) = &self.memory {
            // SAFETY: mapped by `map` with this length, and no reference outlives the page. Nothing can be done
            // about a failure but to keep the mapping.
            let _ = unsafe { munmap(words.as_ptr().cast(), PAGE_BYTES) };
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = limit_of(self.words().claim.load(Ordering::Relaxed));
        f.debug_struct("Page").field("limit", &limit).field("progress", &self.progress()).finish()
    }
}

fn claim_of(limit: u32, started: u32) -> u64 {
    u64::from(limit) << 32 | u64::from(started)
}

fn limit_of(claim: u64) -> u32 {
    (claim >> 32) as u32
}

fn started_of(claim: u64) -> u32 {
    claim as u32
}

/// A file in memory that cannot be made smaller: a worker that could do so would bring the node down with SIGBUS.
#[cfg(target_os = "linux")]
fn new_file() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::process::{Resource, getrlimit};
    // A file that grows beyond its limit is a signal that ends the process.
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| *limit < PAGE_BYTES as u64) {
        let reason = format!(
            "files may have {limit} bytes here, and what it shares with a worker has {PAGE_BYTES}; raise the limit \
             (ulimit -f, or LimitFSIZE= of the service)"
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let file = memfd_create("pp-progress", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, PAGE_BYTES as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn new_file() -> io::Result<OwnedFd> {
    let file = tempfile::tempfile()?;
    file.set_len(PAGE_BYTES as u64)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let (node, file) = Page::shared().unwrap();
        let worker = Page::from_fd(file).unwrap();
        assert!(!worker.claim(0, 1), "nothing may be claimed before the node allows it");
        node.raise(2);
        assert!(worker.claim(0, 7));
        assert_eq!(node.progress(), Progress { started: 1, finished: 0, started_at_ns: 7 });
        worker.finish(0);
        assert_eq!(node.progress(), Progress { started: 1, finished: 1, started_at_ns: 7 });
    }

    #[test]
    fn what_was_revoked_cannot_be_claimed_until_it_was_skipped_and_more_is_allowed() {
        let page = Page::in_memory();
        page.raise(5);
        assert!(page.claim(0, 1));
        assert_eq!(page.revoke().started, 1);
        assert!(!page.claim(1, 2) && !page.claim(4, 2));
        page.finish(0);
        page.skip_to(5);
        assert!(!page.claim(5, 3));
        page.raise(1);
        assert!(page.claim(5, 3));
        assert_eq!(page.progress(), Progress { started: 6, finished: 5, started_at_ns: 3 });
    }

    #[test]
    fn a_worker_that_moves_on_while_it_is_revoked_is_not_taken_to_have_claimed_the_rest() {
        let page = Page::in_memory();
        page.raise(5);
        assert!(page.claim(0, 7));
        let running = Progress { started: 1, finished: 0, started_at_ns: 7 };
        assert_eq!(page.revoke(), running);
        assert_eq!(page.progress_when_revoked(1), running);
        page.finish(0);
        assert!(!page.claim(1, 8));
        page.skip_to(5);
        let told = page.progress_when_revoked(1);
        assert_eq!((told.started, told.finished), (1, 1));
    }

    #[test]
    fn numbers_wrap_around() {
        let page = Page::in_memory();
        page.skip_to(u32::MAX);
        page.raise(2);
        assert!(page.claim(u32::MAX, 1) && page.claim(0, 2) && !page.claim(1, 3));
        page.finish(0);
        assert_eq!((page.progress().started, page.progress().finished), (1, 1));
    }

    #[test]
    fn a_descriptor_that_is_no_page_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Page::from_fd(file.into()).is_err());
    }

    /// A node that gives, revokes and reads as fast as it can, against a worker that claims as fast as it can.
    #[test]
    fn each_piece_is_claimed_once_or_revoked_and_never_both() {
        const PIECES: u32 = 200_000;
        const AT_ONCE: u32 = 64;
        let page = Page::in_memory();
        // From the node, the end of what was sent; from the worker, that revoked work before this was thrown away.
        let (sent, sent_to_worker) = std::sync::mpsc::channel::<u32>();
        let (skipped, skipped_by_worker) = std::sync::mpsc::channel::<u32>();
        let worker_page = Arc::clone(&page);
        let worker = std::thread::spawn(move || {
            let (mut number, mut claimed) = (0, Vec::new());
            for end in sent_to_worker {
                let mut threw_away = false;
                while number < end {
                    if worker_page.claim(number, u64::from(number)) {
                        assert!(!threw_away, "piece {number} was claimed after one before it was revoked");
                        claimed.push(number);
                        worker_page.finish(number);
                    } else {
                        threw_away = true;
                    }
                    number += 1;
                }
                if threw_away {
                    worker_page.skip_to(number);
                    skipped.send(number).unwrap();
                }
            }
            claimed
        });
        let (mut end, mut revoked) = (0, Vec::new());
        // On a busy machine one of the two may be slow to get a processor.
        let is_one_sided = |end: u32, revoked: &Vec<u32>| revoked.is_empty() || revoked.len() == end as usize;
        while end < PIECES || is_one_sided(end, &revoked) && end < 100 * PIECES {
            page.raise(AT_ONCE);
            end += AT_ONCE;
            sent.send(end).unwrap();
            if revoked.len() + AT_ONCE as usize == end as usize {
                std::thread::yield_now();
            }
            for _ in 0..end % 7 {
                let Progress { started, finished, started_at_ns } = page.progress();
                assert!(started - finished <= 1, "{started} started, {finished} finished");
                assert!(started == finished || started_at_ns == u64::from(started - 1));
            }
            let started = page.revoke().started;
            if started < end {
                revoked.extend(started..end);
                assert_eq!(skipped_by_worker.recv().unwrap(), end);
            }
        }
        drop(sent);
        let mut all = worker.join().unwrap();
        assert!(!all.is_empty() && !revoked.is_empty(), "the race was run both ways");
        all.extend(revoked);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..end), "each piece has exactly one fate");
    }
}
