//! What a worker has of its own, which goes when it has gone.

use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::groups::WorkerGroup;
use crate::scratch::ScratchPart;

/// How long the end of a worker is held up for what its jobs have left to be removed. What takes longer goes on.
const REMOVAL_TIME: Duration = Duration::from_millis(200);

/// A worker's own directory, and its control group if it has one.
#[derive(Debug)]
pub(crate) struct Belongings {
    /// What is still in it writes to the directory: it goes first.
    group: Option<WorkerGroup>,
    _scratch: ScratchPart,
}

impl Belongings {
    pub(super) fn new(group: Option<WorkerGroup>, scratch: ScratchPart) -> Self {
        Self { group, _scratch: scratch }
    }

    /// Whether the worker's group was short of memory, so that the kernel killed what is in it.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(WorkerGroup::ran_out_of_memory)
    }

    /// Removes them off the node's task: there may be very much. Waits for that, but not for long.
    pub(crate) async fn removed(self) {
        let (tell, removed) = oneshot::channel();
        let remove = move || {
            drop(self);
            let _ = tell.send(());
        };
        // Where there is no thread to be had, dropping what it was to do does it.
        if thread::Builder::new().name("pp-remove".into()).spawn(remove).is_ok() {
            let _ = tokio::time::timeout(REMOVAL_TIME, removed).await;
        }
    }
}
