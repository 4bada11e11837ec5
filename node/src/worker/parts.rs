//! What a job sends ahead of its result, while it runs.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use pp_protocol::Stream;
use pp_protocol::limits::PART_BYTES;

use super::outbox::Outbox;
use crate::page::Page;

/// The way to the node, for the job that runs on this thread.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    outbox: Arc<Outbox>,
    page: Arc<Page>,
}

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Parts>> = const { RefCell::new(None) };
}

/// The jobs of this thread may send parts, until it is dropped.
#[derive(Debug)]
pub(super) struct Opened;

/// Jobs that this thread is going to run send parts this way.
pub(super) fn open(outbox: &Arc<Outbox>, page: &Arc<Page>) -> Opened {
    let parts = Parts { outbox: Arc::clone(outbox), page: Arc::clone(page) };
    OF_THIS_THREAD.set(Some(parts));
    Opened
}

impl Drop for Opened {
    fn drop(&mut self) {
        OF_THIS_THREAD.set(None);
    }
}

impl Parts {
    /// The way of the job that runs on this thread; none where what runs is no job of a node.
    pub(crate) fn of_this_job() -> Option<Self> {
        OF_THIS_THREAD.with_borrow(Clone::clone)
    }

    /// Sends bytes, and waits until the node has taken them in, which may be as long as whoever they are for takes.
    ///
    /// # Errors
    /// When the node is gone.
    pub(crate) fn send(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        // Nobody else claims work on this page meanwhile.
        let number = self.page.progress().started.wrapping_sub(1);
        bytes.chunks(PART_BYTES).try_for_each(|piece| self.outbox.send_part(number, stream, piece))
    }
}
