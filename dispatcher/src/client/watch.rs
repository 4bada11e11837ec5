//! Watching nodes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LONGEST_WAIT;
use super::frames::{Frames, Watched};
use super::handle::Handle;
use super::requests::Request;

/// Nodes cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Only operators may.
    #[error("only an operator may watch nodes; build the dispatcher with observer(true)")]
    NotOperator,
}

/// What happens at every node that is connected, as it is told: an iterator that waits for the next frame of any node, and ends
/// with the dispatcher. Of each node the newest frame is kept until it is taken. When it is dropped, nodes stop telling.
///
/// A node that is lost and found again goes on telling by itself.
pub struct Watch {
    frames: Arc<Frames>,
    handle: Arc<Handle>,
}

impl Watch {
    pub(super) fn new(handle: &Arc<Handle>, interval: Duration) -> Self {
        let frames = handle.watches.add(interval);
        handle.inbox.request(Request::WatchesChanged);
        Self { frames, handle: Arc::clone(handle) }
    }

    /// Waits for the next frame for at most `timeout`.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let operator = Dispatcher::builder().observer(true).node("render1").start()?;
    /// let watch = operator.watch(Duration::from_secs(1))?;
    /// while let Some(frame) = watch.next_timeout(Duration::from_secs(5)) {
    ///     println!("{}: {} attempts ended", frame.name, frame.activity.totals.ended.ended());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&self, timeout: Duration) -> Option<Watched> {
        self.frames.take(Some(Instant::now() + timeout.min(LONGEST_WAIT)))
    }

    /// The next frame, if it is there.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// # use std::time::Duration;
    /// let operator = Dispatcher::builder().observer(true).node("render1").start()?;
    /// let watch = operator.watch(Duration::from_secs(1))?;
    /// assert!(watch.try_next().is_none(), "it is only just being dialled");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next(&self) -> Option<Watched> {
        self.next_timeout(Duration::ZERO)
    }
}

impl Iterator for Watch {
    type Item = Watched;

    fn next(&mut self) -> Option<Watched> {
        self.frames.take(None)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.watches.remove(&self.frames);
        self.handle.inbox.request(Request::WatchesChanged);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
