//! Place where code runs: on a dispatcher's own thread or in a child made by `fork()`, where nothing may wait for a
//! dispatcher, or inside a callback.

use std::cell::Cell;

use pp_node::processes::is_forked;

/// The callback that a thread runs, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// No callback.
    Nothing,
    /// A callback.
    Callback,
    /// A callback that is being told that there is no dispatcher any more, or none in this process.
    Refusal,
}

thread_local! {
    static IS_DISPATCHER: Cell<bool> = const { Cell::new(false) };
    static INSIDE: Cell<Inside> = const { Cell::new(Inside::Nothing) };
}

/// Makes this thread a dispatcher's.
pub(super) fn become_dispatcher_thread() {
    IS_DISPATCHER.set(true);
}

/// Whether this thread is a dispatcher's, be it another one's: wakers and `tracing` subscribers are called there. It must
/// wait for nothing that a dispatcher does, lest it waits for itself, or two of them for each other.
pub(crate) fn on_dispatcher_thread() -> bool {
    IS_DISPATCHER.get()
}

/// The callback that this thread runs.
pub(crate) fn inside() -> Inside {
    INSIDE.get()
}

/// Makes what this thread does part of a callback, which may run on another thread.
pub(crate) fn take_part_in(inside: Inside) {
    INSIDE.set(inside);
}

/// Reason why waiting would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotWait {
    /// It is the dispatcher's own thread that would wait.
    OnDispatcherThread,
    /// This is a child made by `fork()`, which has none of the dispatcher's threads.
    Forked,
}

/// Reason why waiting would never end here, if it would not.
pub(crate) fn cannot_wait() -> Option<CannotWait> {
    if is_forked() {
        return Some(CannotWait::Forked);
    }
    on_dispatcher_thread().then_some(CannotWait::OnDispatcherThread)
}
