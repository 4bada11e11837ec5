//! Large payloads that a worker borrows from its node, and lends to it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pp_protocol::packed::Lent;
use pp_protocol::room::{self, View};

use crate::lending::{Arenas, Borrower, Lender};
use crate::page::{Marks, Page};

#[derive(Debug)]
pub(super) struct Lending {
    /// Missing where nothing is shared.
    both: Option<(Borrower, Lender)>,
    /// Whether the watcher looks for what comes back by itself.
    is_watched: AtomicBool,
}

impl Lending {
    /// This process's arena becomes the one made for it. Where that cannot be, everything is sent.
    pub(super) fn new(page: &Arc<Page>, arenas: Option<Arenas>) -> Self {
        let share = |Arenas { node, worker }| {
            let node = Arc::new(View::new(node.as_fd())?);
            let own = room::adopt(worker)?;
            let borrower = Borrower::new(Arc::clone(page), Marks::Arguments, node);
            io::Result::Ok((borrower, Lender::new(Arc::clone(page), Marks::Results, own)))
        };
        Self { both: arenas.and_then(|arenas| share(arenas).ok()), is_watched: AtomicBool::new(false) }
    }

    /// Whether anything can be borrowed and lent.
    pub(super) fn is_possible(&self) -> bool {
        self.both.is_some()
    }

    /// Arguments that the node lends; `None` if it cannot be so.
    pub(super) fn borrow(&self, args: Lent) -> Option<Bytes> {
        self.both.as_ref()?.0.borrow(args)
    }

    /// Lends a result; `None` if it has to be sent.
    pub(super) fn lend(&self, result: &Bytes) -> Option<Lent> {
        self.both.as_ref()?.1.lend(result)
    }

    /// Whether results are lent, as far as known.
    pub(super) fn has_lent(&self) -> bool {
        self.both.as_ref().is_some_and(|(_, lender)| lender.has_lent())
    }

    /// Lets go of results that have been returned. Tells whether some have not.
    pub(super) fn take_back(&self) -> bool {
        self.both.as_ref().is_some_and(|(_, lender)| lender.take_back())
    }

    /// Watcher: whether it will look again by itself. To be told `false` before it looks.
    pub(super) fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::SeqCst);
    }

    /// Whether the watcher looks again by itself.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }
}
