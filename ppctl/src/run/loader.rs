//! Files are read on a thread of their own, which waits while those that were read take too much memory.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Bytes that were read for jobs under way; while there are so many, nothing more is read.
const BYTES_AHEAD: usize = 256 << 20;

type Reading = Box<dyn FnOnce(&Arc<Budget>) + Send>;

/// Reads files, for one job after the other.
pub(super) struct Loader(Sender<Reading>);

impl Loader {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (ask, asked) = channel::<Reading>();
        let budget = Arc::new(Budget::default());
        thread::Builder::new().name("files".into()).spawn(move || {
            for reading in asked {
                budget.wait_for_room();
                reading(&budget);
            }
        })?;
        Ok(Self(ask))
    }

    /// Has `read` read something, and tell how many bytes that is; and has it taken, with the right to hold that many.
    pub(super) fn load<T>(
        &self,
        read: impl FnOnce() -> Result<(T, usize), String> + Send + 'static,
        take: impl FnOnce(Result<(T, Held), String>) + Send + 'static,
    ) {
        let reading = |budget: &Arc<Budget>| {
            take(read().map(|(value, bytes)| (value, Held::new(budget, bytes))));
        };
        // The thread is there for as long as there is somebody to ask it.
        let _ = self.0.send(Box::new(reading));
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

/// Bytes that were read and are still needed.
#[derive(Debug, Default)]
struct Budget {
    bytes: Mutex<usize>,
    given_back: Condvar,
}

impl Budget {
    /// Waits until there are fewer than may be; whoever is next may go beyond.
    fn wait_for_room(&self) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_while(bytes, |bytes| *bytes >= BYTES_AHEAD);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        self.given_back.notify_one();
    }
}

/// So many bytes are needed until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        budget.change(|all| *all += bytes);
        Self { budget: Arc::clone(budget), bytes }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.change(|all| *all -= self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_more_is_read_while_too_much_is_held() {
        let loader = Loader::start().unwrap();
        let (tell, told) = channel();
        for number in 0..3 {
            let tell = tell.clone();
            loader.load(move || Ok((number, BYTES_AHEAD)), move |read| tell.send(read).unwrap());
        }
        let first = told.recv().unwrap().unwrap();
        assert_eq!(told.recv_timeout(Duration::from_millis(50)).unwrap_err(), RecvTimeoutError::Timeout);
        assert_eq!(first.0, 0);
        drop(first);
        let (second, held) = told.recv().unwrap().unwrap();
        drop(held);
        assert_eq!((second, told.recv().unwrap().unwrap().0), (1, 2));
        loader
            .load(|| Err::<((), usize), _>("gone".into()), move |read| assert_eq!(read.unwrap_err(), "gone"));
    }
}
