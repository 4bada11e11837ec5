//! Standard output, flushed for the watcher.
//!
//! What a job printed comes before its outcome, also when the watcher writes this one because the next job takes long. The
//! watcher cannot flush by itself: jobs may hold the lock for ever, and its descriptors are its own, not those where jobs
//! have led their output. The main thread does it, which has nothing else to do.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How long outcomes wait for it.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// The watcher's end.
#[derive(Debug)]
pub(crate) struct Printer {
    ask: SyncSender<()>,
    done: Receiver<()>,
    /// What was asked for has not been done in time.
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
            let _ = self.tell.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

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
