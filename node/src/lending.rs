//! Large payloads that are not sent: a worker reads arguments where the node has them, and the node reads results where the
//! worker has left them.
//!
//! Each of the two has memory of its own (its *arena*, see [`room`]), which the other has mapped and only reads. What is
//! lent is marked on the [page](crate::page). Whoever borrowed it clears the mark when nothing in that process refers to it
//! any more, and whoever lent it looks at the marks now and then: returning costs no message.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pp_protocol::packed::Lent;
use pp_protocol::room::{self, View};

use crate::page::{MARKS, Marks, Page};

/// The descriptors with which a node and a worker share their arenas.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// The node's.
    pub(crate) node: OwnedFd,
    /// The one for the worker.
    pub(crate) worker: OwnedFd,
}

/// Lends what is in this process's arena.
#[derive(Debug)]
pub(crate) struct Lender {
    page: Arc<Page>,
    marks: Marks,
    /// What is lent, each at the number of its mark.
    lent: Mutex<Vec<Option<Bytes>>>,
}

impl Lender {
    pub(crate) fn new(page: Arc<Page>, marks: Marks) -> Self {
        Self { page, marks, lent: Mutex::default() }
    }

    /// Lends `bytes`; `None` if they have to be sent, because they are elsewhere or too much is lent already.
    pub(crate) fn lend(&self, bytes: &Bytes) -> Option<Lent> {
        let place = room::place_of(bytes)?;
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_back_from(&mut lent);
        let number = lent.iter().position(Option::is_none).unwrap_or(lent.len());
        if number == MARKS {
            return None;
        }
        if number == lent.len() {
            lent.push(None);
        }
        self.page.mark(self.marks, number);
        lent[number] = Some(bytes.clone());
        Some(Lent { number: number as u32, range: place..place + bytes.len() })
    }

    /// Lets go of what has been returned. Tells whether something has not.
    pub(crate) fn take_back(&self) -> bool {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_back_from(&mut lent);
        !lent.is_empty()
    }

    fn take_back_from(&self, lent: &mut Vec<Option<Bytes>>) {
        for (number, bytes) in lent.iter_mut().enumerate() {
            bytes.take_if(|_| !self.page.is_marked(self.marks, number));
        }
        while lent.pop_if(|last| last.is_none()).is_some() {}
    }

    /// Whoever borrowed it is gone.
    pub(crate) fn take_back_all(&self) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Borrows what is in the other process's arena.
#[derive(Debug)]
pub(crate) struct Borrower {
    page: Arc<Page>,
    marks: Marks,
    view: Arc<View>,
}

/// What is returned when it is dropped.
struct Borrowed {
    page: Arc<Page>,
    marks: Marks,
    view: Arc<View>,
    lent: Lent,
}

impl Borrower {
    pub(crate) fn new(page: Arc<Page>, marks: Marks, view: Arc<View>) -> Self {
        Self { page, marks, view }
    }

    /// What the other process says it lends; `None` if it cannot be so.
    pub(crate) fn borrow(&self, lent: Lent) -> Option<Bytes> {
        self.view.at(lent.range.clone())?;
        let is_marked = self.page.is_marked(self.marks, lent.number as usize);
        let (page, view) = (Arc::clone(&self.page), Arc::clone(&self.view));
        is_marked.then(|| Bytes::from_owner(Borrowed { page, marks: self.marks, view, lent }))
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.view.at(self.lent.range.clone()).unwrap_or_default()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.page.clear_mark(self.marks, self.lent.number as usize);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Both ends in one process, which borrows from itself.
    fn pair() -> (Lender, Borrower) {
        let page = Page::in_memory();
        let arena = room::shared().expect("Linux has shared memory");
        let view = Arc::new(View::new(arena).expect("it can be mapped"));
        (Lender::new(Arc::clone(&page), Marks::Results), Borrower::new(page, Marks::Results, view))
    }

    fn payload(byte: u8) -> Bytes {
        let mut room = room::take(room::SMALLEST_BYTES);
        room.fill(byte);
        room::filled(room, room::SMALLEST_BYTES)
    }

    #[test]
    fn what_is_lent_is_kept_until_nobody_refers_to_it() {
        let (lender, borrower) = pair();
        let bytes = payload(7);
        let place = bytes.as_ptr();
        let borrowed = borrower.borrow(lender.lend(&bytes).unwrap()).unwrap();
        assert_eq!(borrowed, bytes);
        drop(bytes);
        let part = borrowed.slice(5..10);
        drop(borrowed);
        assert!(lender.take_back(), "a part of it is still in use");
        assert_ne!(payload(8).as_ptr(), place, "its place is not used again");
        assert_eq!(part, [7; 5][..]);
        drop(part);
        assert!(!lender.take_back());
    }

    #[test]
    fn what_is_elsewhere_or_too_much_is_not_lent() {
        let (lender, borrower) = pair();
        assert_eq!(lender.lend(&Bytes::from_static(b"elsewhere")), None);
        let bytes = payload(1);
        let lent: Vec<_> =
            (0..MARKS).map(|_| borrower.borrow(lender.lend(&bytes).unwrap()).unwrap()).collect();
        assert_eq!(lender.lend(&bytes), None);
        drop(lent);
        assert_eq!(lender.lend(&bytes).unwrap().number, 0);
        lender.take_back_all();
        assert!(!lender.take_back());
    }

    #[test]
    fn what_was_not_lent_cannot_be_borrowed() {
        let (lender, borrower) = pair();
        let bytes = payload(1);
        let Lent { number, range } = lender.lend(&bytes).unwrap();
        for wrong in [
            Lent { number: number + 1, range: range.clone() },
            Lent { number: u32::MAX, range: range.clone() },
            Lent { number, range: range.start..usize::MAX },
            Lent { number, range: range.end..range.start },
        ] {
            assert!(borrower.borrow(wrong).is_none());
        }
    }
}
