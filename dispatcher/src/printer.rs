//! Lines for standard error: written by a thread of their own, as whoever reads them may stop doing so for a while.

use std::io::Write;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

/// Lines that wait to be written; more are dropped, and counted.
const LINES_WAITING: usize = 10_000;

/// Takes lines to be written. They are, before the dispatcher has ended, if somebody reads them.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: SyncSender<String>,
    dropped: usize,
}

impl Printer {
    /// Has a line written; never waits.
    pub(crate) fn print(&mut self, line: String) {
        if self.dropped > 0 {
            let note = format!("({} lines were dropped: nobody read them in time)", self.dropped);
            if self.lines.try_send(note).is_err() {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped += 1;
        }
    }
}

/// Starts the thread that writes. It ends with its [`Printer`].
pub(crate) fn start() -> std::io::Result<(Printer, JoinHandle<()>)> {
    let (lines, waiting) = mpsc::sync_channel::<String>(LINES_WAITING);
    let thread = thread::Builder::new().name("pp-printer".into()).spawn(move || {
        for line in waiting {
            // There is nobody to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    })?;
    Ok((Printer { lines, dropped: 0 }, thread))
}
