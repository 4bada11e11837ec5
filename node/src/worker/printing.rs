//! Output of jobs: it leaves the worker before their outcomes do, and says where one job's ends and the next one's begins.
//!
//! Output goes through pipes, in which nothing tells whose it is. A line that has its end is told as soon as it is read. For
//! one that has none the worker puts a *mark* into the pipe, behind what the jobs that have ended printed, before the next
//! one begins: the node ends the line there, and tells it as theirs. There is a mark only where something is in the pipe, or
//! where the node says on the [page](crate::page) that it has read part of a line: jobs that print nothing cost a look, and
//! the node, which is told with the outcomes, not even that.
//!
//! The watcher, which writes outcomes because the next job takes long, cannot flush by itself: jobs may hold the lock for
//! ever, and its descriptors are its own, not those where jobs have led their output. The main thread does it, which has
//! nothing else to do.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use pp_protocol::Stream;
use rustix::io::ioctl_fionread;

use super::descriptors::{self, Identity};
use crate::page::Page;
use crate::processes::flush_stdout_of_c;

/// Beginning of a mark. The number of the job follows, then the end of the line.
const MARK: &[u8] = b"\0pp:";
/// Number of digits of that number.
const DIGITS: usize = 8;
/// Length of a mark, without the end of the line.
pub(crate) const MARK_BYTES: usize = MARK.len() + DIGITS;

/// Mark behind what was printed until job `number` ended.
fn mark(number: u32) -> Vec<u8> {
    [MARK, format!("{number:08x}\n").as_bytes()].concat()
}

/// The number in the mark that ends here, without the end of the line.
pub(crate) fn marked(end: &[u8]) -> Option<u32> {
    let digits = end.strip_prefix(MARK)?;
    let is_number = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(str::from_utf8(digits).ok().filter(|_| is_number)?, 16).ok()
}

/// The pipes of the standard streams, as they were when the worker was started: jobs may lead their output elsewhere. They
/// stay open until the process ends: closing what a job may have closed is an error of the program.
#[derive(Debug)]
pub(super) struct Pipes([Option<(Stream, ManuallyDrop<OwnedFd>, Identity)>; 2]);

impl Pipes {
    pub(super) fn of_this_process() -> Self {
        let of = |stream, descriptor: io::Result<OwnedFd>| {
            let descriptor = descriptor.ok()?;
            let identity = Identity::of(&descriptor).ok()?;
            Some((stream, ManuallyDrop::new(descriptor), identity))
        };
        Self([
            of(Stream::Stdout, descriptors::duplicate(io::stdout())),
            of(Stream::Stderr, descriptors::duplicate(io::stderr())),
        ])
    }

    /// No job printed anything that the node has not told, or what did ends with a mark. Tells whether there was something,
    /// or that cannot be seen.
    pub(super) fn mark(&self, number: u32, page: &Page) -> bool {
        let mut any = self.0.iter().any(Option::is_none);
        for (stream, pipe, identity) in self.0.iter().flatten() {
            // In this order: the node says so before it takes something out.
            let pipe: &OwnedFd = pipe;
            let is_there = ioctl_fionread(pipe).map_or(true, |bytes| bytes > 0) || page.is_untold(*stream);
            any |= is_there;
            // A job may have closed it.
            if is_there && identity.is_of(pipe) {
                let _ = rustix::io::write(pipe, &mark(number));
            }
        }
        any
    }
}

/// Time for which outcomes wait for it.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// The watcher's end.
#[derive(Debug)]
pub(crate) struct Printer {
    ask: SyncSender<()>,
    done: Receiver<()>,
    /// The flush that was asked for has not been done in time.
    is_held: bool,
}

/// The end of the thread that flushes.
#[derive(Debug)]
pub(super) struct Flusher {
    asked: Receiver<()>,
    tell: SyncSender<()>,
}

/// Both ends.
pub(super) fn printer() -> (Printer, Flusher) {
    let (ask, asked) = sync_channel(1);
    let (tell, done) = sync_channel(1);
    (Printer { ask, done, is_held: false }, Flusher { asked, tell })
}

impl Printer {
    /// Has standard output flushed and waits for it, but not for long. While somebody holds it, it is not waited for again.
    pub(super) fn flush(&mut self) {
        let is_free = !self.is_held || self.done.try_recv().is_ok();
        if is_free && self.ask.try_send(()).is_ok() {
            self.is_held = self.done.recv_timeout(FLUSH_TIME).is_err();
        }
    }
}

impl Flusher {
    /// Flushes until there is no watcher any more.
    pub(super) fn serve(self) {
        while self.asked.recv().is_ok() {
            // A standard output that cannot be written to is the job's affair.
            let _ = io::stdout().flush();
            flush_stdout_of_c();
            let _ = self.tell.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_mark_tells_its_number_and_nothing_else_does() {
        for number in [0, 7, u32::MAX] {
            let mark = mark(number);
            assert_eq!(mark.len(), MARK_BYTES + 1);
            assert_eq!(marked(&mark[..MARK_BYTES]), Some(number));
        }
        for other in [&b""[..], b"\0pp:", b"\0pp:0000000g", b"\0pp:+0000001", b"\0pp:000000001"] {
            assert_eq!(marked(other), None);
        }
    }

    #[test]
    fn output_that_is_held_is_waited_for_once_and_again_when_it_is_free() {
        let (mut printer, flusher) = printer();
        printer.flush();
        assert!(printer.is_held);
        printer.flush();
        // One request at most is under way.
        assert!(flusher.asked.try_recv().is_ok() && flusher.asked.try_recv().is_err());
        flusher.tell.send(()).unwrap();
        let flushes = thread::spawn(|| flusher.serve());
        while printer.is_held {
            printer.flush();
        }
        drop(printer);
        flushes.join().unwrap();
    }
}
