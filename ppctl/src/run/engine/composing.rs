//! The thread that composes jobs.

use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use pp_run::ComposeError;

use super::Event;
use crate::run::task::{Count, Tasks};

/// Composes jobs on a thread of their own, one whenever one is asked for: arguments may be long in coming.
pub(super) fn compose(
    tasks: impl FnOnce(Count) -> Result<(Tasks, Option<u64>), ComposeError> + Send + 'static,
    asked: Receiver<()>,
    events: Sender<Event>,
) -> anyhow::Result<()> {
    thread::Builder::new().name("compose".into()).spawn(move || {
        let counted = events.clone();
        let count = Box::new(move |total| drop(counted.send(Event::Counted(total))));
        let (mut tasks, total): (Tasks, _) =
            tasks(count).unwrap_or_else(|error| (Box::new(std::iter::once(Err(error))), None));
        if let Some(total) = total {
            drop(events.send(Event::Counted(total)));
        }
        while asked.recv().is_ok() {
            let next = tasks.next();
            let is_last = !matches!(next, Some(Ok(_)));
            if events.send(next.map_or(Event::AllComposed, Event::Composed)).is_err() || is_last {
                break;
            }
        }
        // Whatever else is asked for has its answer, too.
        while asked.recv().is_ok() && events.send(Event::AllComposed).is_ok() {}
    })?;
    Ok(())
}
