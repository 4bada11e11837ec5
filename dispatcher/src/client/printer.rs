//! Lines for standard error: written by a thread of their own, as whoever reads them may stop doing so for a while.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bottom;

/// Bytes that wait to be written; more are dropped, and counted.
const WAITING_BYTES: usize = 8 << 20;
/// Bytes written at once, so that the program's own lines have their turn.
const WRITE_BYTES: usize = 64 * 1024;
/// Time for which a reader may let the end of the program wait without reading anything.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// Time between two looks, at the end, whether anything was read.
const LOOK: Duration = Duration::from_millis(1);

/// Takes lines to be written. They are, before the program has ended, if somebody reads them.
#[derive(Debug)]
pub(crate) struct Printer(Arc<Lines>);

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Printing {
    lines: Arc<Lines>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Lines {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Number of writes.
    writes: u64,
    is_closed: bool,
}

#[derive(Debug)]
enum Waiting {
    Line(String),
    /// So many lines were dropped here.
    Dropped(u64),
}

impl Printer {
    /// Has a line written; never waits.
    pub(crate) fn print(&self, line: String) {
        let mut queue = self.0.lock();
        let was_empty = queue.waiting.is_empty();
        queue.add(line);
        drop(queue);
        if was_empty {
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Printing {
    /// Waits until everything is written, for as long as somebody reads. To be called once the [`Printer`] is gone.
    pub(crate) fn finish(self) {
        let (mut seen, mut since) = (0, Instant::now());
        while !self.thread.is_finished() {
            let writes = self.lines.lock().writes;
            if std::mem::replace(&mut seen, writes) != writes {
                since = Instant::now();
            } else if since.elapsed() > LAST_WRITE {
                return;
            }
            thread::park_timeout(LOOK);
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next lines, as many as are written at once; `None` when there will be none.
    fn next(&self) -> Option<String> {
        let mut queue = self.lock();
        queue.writes += 1;
        loop {
            if !queue.waiting.is_empty() {
                return Some(queue.take());
            }
            if queue.is_closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn add(&mut self, line: String) {
        if self.bytes + line.len() <= WAITING_BYTES {
            self.bytes += line.len() + 1;
            self.waiting.push_back(Waiting::Line(line));
        } else if let Some(Waiting::Dropped(count)) = self.waiting.back_mut() {
            *count += 1;
        } else {
            self.waiting.push_back(Waiting::Dropped(1));
        }
    }

    fn take(&mut self) -> String {
        let mut text = String::new();
        while text.len() < WRITE_BYTES
            && let Some(next) = self.waiting.pop_front()
        {
            match next {
                Waiting::Line(line) => {
                    self.bytes -= line.len() + 1;
                    text.push_str(&line);
                }
                Waiting::Dropped(count) => {
                    text.push_str(&format!("({count} lines were dropped here: nobody read them in time)"));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Starts the thread that writes. It ends with its [`Printer`].
pub(crate) fn start() -> std::io::Result<(Printer, Printing)> {
    let lines = Arc::<Lines>::default();
    let writer = Arc::clone(&lines);
    let thread = thread::Builder::new().name("pp-printer".into()).spawn(move || {
        while let Some(text) = writer.next() {
            // There is nobody to tell if standard error is closed.
            let _ = bottom::above(|stderr| stderr.write_all(text.as_bytes()));
        }
    })?;
    Ok((Printer(Arc::clone(&lines)), Printing { lines, thread }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted_where_it_was_and_what_comes_later_is_kept() {
        let mut queue = Queue::default();
        let line = "x".repeat(1 << 20);
        (0..10).for_each(|_| queue.add(line.clone()));
        let text = queue.take();
        assert_eq!(text.len(), line.len() + 1, "one line is as much as is written at once");
        queue.add("later".into());
        let mut rest = String::new();
        while !queue.waiting.is_empty() {
            rest.push_str(&queue.take());
        }
        let end: Vec<_> = rest.lines().skip(6).collect();
        assert_eq!(end, ["(3 lines were dropped here: nobody read them in time)", "later"]);
        assert_eq!(queue.bytes, 0);
    }
}
