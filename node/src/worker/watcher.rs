//! The second thread of a worker: it writes outcomes that wait too long, and notices that the node is gone while a
//! job keeps the first thread busy.
//!
//! It sleeps in poll(2) without a time limit while nothing is pending, so an idle worker costs no processor time; and after
//! something large, until the memory for that has been given back.

use std::time::{Duration, Instant};

use pp_protocol::room;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lending::Lending;
use super::outbox::{NextLook, Outbox};
use super::{NodeGone, end_process};

/// How long until what the node has borrowed is looked for again.
const LENT_LOOK: Duration = Duration::from_secs(1);

/// Runs until the outbox is closed or the node is gone.
pub(super) fn watch(outbox: &Outbox, lending: &Lending, node_gone: NodeGone) {
    let mut timeout = None;
    loop {
        // That the other end is closed is reported without being asked for.
        let node = PollFd::new(outbox.socket(), PollFlags::empty());
        let woken = outbox.woken();
        let mut watched = [node, PollFd::new(&woken, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Without a view of the node, nothing would end this process if the node died.
            Err(_) => return act_on(node_gone),
        }
        if watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return act_on(node_gone);
        }
        if watched[1].revents().contains(PollFlags::IN) {
            outbox.clear_wake();
        }
        timeout = match outbox.flush_late() {
            Ok(NextLook::After(time)) => Timespec::try_from(time).ok(),
            Ok(NextLook::WhenWoken) => {
                lending.set_watched(false);
                let lent = lending.take_back().then_some(LENT_LOOK);
                room::tidy();
                let due = room::due().map(|due| due.saturating_duration_since(Instant::now()));
                let next = lent.into_iter().chain(due).min();
                lending.set_watched(next.is_some());
                next.and_then(|time| Timespec::try_from(time).ok())
            }
            Ok(NextLook::Never) => return,
            Err(_) => return act_on(node_gone),
        };
    }
}

fn act_on(node_gone: NodeGone) {
    match node_gone {
        NodeGone::EndProcess => end_process(),
        // The thread that runs jobs finds the socket closed when it wants to read more work.
        NodeGone::EndThread => {}
    }
}
