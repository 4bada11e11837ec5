//! Large payloads that are not sent: a worker reads its arguments where the node has them, and leaves its results where the
//! node can read them.
//!
//! Each of the two has memory of its own (its *arena*, see [`room`]), which the other has mapped and only reads. The node
//! keeps arguments in place until it has the outcome. A worker keeps a result until the node has cleared its mark on the
//! [page](crate::page), which costs no message.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pp_protocol::packed::Lent;
use pp_protocol::room::{self, View};

use crate::page::{MARKS, Page};

/// The descriptors with which a node and a worker share their arenas.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// The node's.
    pub(crate) node: OwnedFd,
    /// The one for the worker.
    pub(crate) worker: OwnedFd,
}

/// Worker: what is borrowed from the node, and lent to it.
#[derive(Debug)]
pub(super) struct Lending {
    page: Arc<Page>,
    /// The node's arena, if it shares it.
    node: Option<View>,
    /// Results that the node has, each at the number of its mark.
    lent: Mutex<Vec<Option<Bytes>>>,
    /// Whether the watcher looks for what comes back by itself.
    is_watched: AtomicBool,
}

impl Lending {
    pub(super) fn new(page: Arc<Page>, arenas: Option<Arenas>) -> io::Result<Self> {
        let node = match arenas {
            Some(Arenas { node, worker }) => {
                room::adopt(worker)?;
                Some(View::new(node.as_fd())?)
            }
            None => None,
        };
        Ok(Self { page, node, lent: Mutex::default(), is_watched: AtomicBool::new(false) })
    }

    /// Arguments that the node has in its arena. `None` if they cannot be there.
    pub(super) fn args(&self, range: Range<usize>) -> Option<&[u8]> {
        self.node.as_ref()?.at(range)
    }

    /// Lends a result to the node; it is given back if it has to be sent instead.
    pub(super) fn lend(&self, result: Bytes) -> Result<Lent, Bytes> {
        let place = self.node.as_ref().and_then(|_| room::place_of(&result));
        let Some(place) = place else { return Err(result) };
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        take_back(&self.page, &mut lent);
        let number = lent.iter().position(Option::is_none).unwrap_or(lent.len());
        if number == MARKS {
            return Err(result);
        }
        if number == lent.len() {
            lent.push(None);
        }
        self.page.mark(number);
        let range = place..place + result.len();
        lent[number] = Some(result);
        Ok(Lent { number: number as u32, range })
    }

    /// Frees what the node has no more use for. Tells whether it still has something.
    pub(super) fn take_back(&self) -> bool {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        take_back(&self.page, &mut lent);
        !lent.is_empty()
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

fn take_back(page: &Page, lent: &mut Vec<Option<Bytes>>) {
    for (number, result) in lent.iter_mut().enumerate() {
        result.take_if(|_| !page.is_marked(number));
    }
    while lent.pop_if(|last| last.is_none()).is_some() {}
}
