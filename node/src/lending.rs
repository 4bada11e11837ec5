//! Large payloads that are not sent: a worker reads arguments where the node has them, and the node reads results where the
//! worker has left them.
//!
//! Each of the two has memory of its own (its *arena*, see [`room`](pp_protocol::room)), which the other has mapped and only
//! reads. A node has one for each session, so that no worker is let read what is not its dispatcher's. What is
//! lent is marked on the [page](crate::page). Whoever borrowed it clears the mark when nothing in that process refers to it
//! any more, and whoever lent it looks at the marks now and then: returning costs no message.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pp_protocol::limits::PAYLOAD_BYTES;
use pp_protocol::packed::Lent;
use pp_protocol::room::{Arena, View};

use crate::page::{MARKS, Marks, Page};

/// The descriptors with which a node and a worker share their arenas.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// The node's.
    pub(crate) node: OwnedFd,
    /// The one for the worker.
    pub(crate) worker: OwnedFd,
}

/// Lends what is in an arena of this process.
#[derive(Debug)]
pub(crate) struct Lender {
    arena: Arc<Arena>,
    page: Arc<Page>,
    marks: Marks,
    /// Payloads lent, each at the number of its mark.
    lent: Mutex<Vec<Option<Bytes>>>,
}

impl Lender {
    pub(crate) fn new(page: Arc<Page>, marks: Marks, arena: Arc<Arena>) -> Self {
        Self { arena, page, marks, lent: Mutex::default() }
    }

    /// Lends `bytes`; `None` if they have to be sent, because they are elsewhere or too much is lent already.
    pub(crate) fn lend(&self, bytes: &Bytes) -> Option<Lent> {
        let place = self.arena.place_of(bytes)?;
        let (mut lent, _returned) = self.take_back_now();
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

    /// Lets go of what has been returned. Tells whether something is still lent.
    pub(crate) fn take_back(&self) -> bool {
        let (lent, _returned) = self.take_back_now();
        !lent.is_empty()
    }

    /// Whether something is lent, as far as known.
    pub(crate) fn has_lent(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Payloads still lent, and those returned, to be dropped after the lock: that may give memory to the system.
    fn take_back_now(&self) -> (MutexGuard<'_, Vec<Option<Bytes>>>, Vec<Bytes>) {
        let mut lent = self.lock();
        let is_returned = |number| !self.page.is_marked(self.marks, number);
        let returned = lent.iter_mut().enumerate();
        let returned =
            returned.filter_map(|(number, bytes)| bytes.take_if(|_| is_returned(number))).collect();
        while lent.pop_if(|last| last.is_none()).is_some() {}
        (lent, returned)
    }

    /// Takes everything back: the borrower is gone. (One that hangs in the kernel has been killed, and reads nothing any
    /// more.)
    pub(crate) fn forget_all(&self) {
        let lent = std::mem::take(&mut *self.lock());
        drop(lent);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Bytes>>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Borrows what is in the other process's arena.
#[derive(Debug)]
pub(crate) struct Borrower(Arc<Loans>);

#[derive(Debug)]
struct Loans {
    page: Arc<Page>,
    marks: Marks,
    view: Arc<View>,
    /// The process that borrows. A child made by `fork()` has copies of what it borrowed, and returns nothing.
    process: u32,
    open: Mutex<Open>,
}

/// Payloads that are borrowed.
#[derive(Debug, Default)]
struct Open {
    loans: Vec<Lent>,
    /// Nothing has to be returned any more, but the memory of what was lent goes back to the system.
    lender_is_gone: bool,
}

/// A borrowed payload, returned when it is dropped.
struct Borrowed {
    loans: Arc<Loans>,
    lent: Lent,
}

impl Borrower {
    pub(crate) fn new(page: Arc<Page>, marks: Marks, view: Arc<View>) -> Self {
        Self(Arc::new(Loans { page, marks, view, process: std::process::id(), open: Mutex::default() }))
    }

    /// Payload that the other process says it lends; `None` if it cannot be so.
    pub(crate) fn borrow(&self, lent: Lent) -> Option<Bytes> {
        let loans = &self.0;
        let length = loans.view.at(lent.range.clone())?.len();
        let may_be =
            (1..=PAYLOAD_BYTES).contains(&length) && loans.page.is_marked(loans.marks, lent.number as usize);
        may_be.then(|| {
            loans.lock().loans.push(lent.clone());
            Bytes::from_owner(Borrowed { loans: Arc::clone(loans), lent })
        })
    }

    /// The other process is gone: of what it has left, only what is borrowed is kept.
    pub(crate) fn lender_is_gone(&self) {
        let mut open = self.0.lock();
        open.lender_is_gone = true;
        self.0.view.clear_except(open.loans.iter().map(|lent| lent.range.clone()));
    }
}

impl Loans {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, lent: &Lent) {
        if self.process != std::process::id() {
            return;
        }
        let mut open = self.lock();
        if let Some(place) = open.loans.iter().position(|open| open == lent) {
            open.loans.swap_remove(place);
        }
        if open.lender_is_gone {
            self.view.clear_except(open.loans.iter().map(|lent| lent.range.clone()));
        } else {
            self.page.clear_mark(self.marks, lent.number as usize);
        }
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.loans.view.at(self.lent.range.clone()).unwrap_or_default()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.loans.end(&self.lent);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use pp_protocol::room::{self, Rooms};

    use super::*;

    fn arena() -> Arc<Arena> {
        Rooms::of_this_process().arena().expect("Linux has shared memory")
    }

    /// Both ends in one process, which borrows from itself.
    fn pair() -> (Lender, Borrower) {
        let page = Page::in_memory();
        let view = Arc::new(View::new(arena().file()).expect("it can be mapped"));
        let lender = Lender::new(Arc::clone(&page), Marks::Results, arena());
        (lender, Borrower::new(page, Marks::Results, view))
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
        let of_others = room::filled(Rooms::apart().take(room::SMALLEST_BYTES), room::SMALLEST_BYTES);
        assert_eq!(lender.lend(&of_others), None);
        let bytes = payload(1);
        let lent: Vec<_> =
            (0..MARKS).map(|_| borrower.borrow(lender.lend(&bytes).unwrap()).unwrap()).collect();
        assert_eq!(lender.lend(&bytes), None);
        drop(lent);
        assert_eq!(lender.lend(&bytes).unwrap().number, 0);
        lender.forget_all();
        assert!(!lender.take_back());
    }

    #[test]
    #[expect(unsafe_code, reason = "a child is made by fork()")]
    fn a_forked_child_returns_nothing() {
        use std::os::unix::process::CommandExt;
        let page = Arc::new(Page::shared().unwrap().0);
        let view = Arc::new(View::new(arena().file()).unwrap());
        let lender = Lender::new(Arc::clone(&page), Marks::Results, arena());
        let borrower = Borrower::new(page, Marks::Results, Arc::clone(&view));
        let bytes = payload(9);
        let mut borrowed = borrower.borrow(lender.lend(&bytes).unwrap());
        let mut own = Some(payload(3));
        let place = arena().place_of(own.as_deref().unwrap()).unwrap();
        let mut command = std::process::Command::new("true");
        // SAFETY: nothing in it takes memory or a lock that another thread may have held.
        unsafe {
            command.pre_exec(move || {
                drop(borrowed.take());
                drop(own.take());
                Ok(())
            })
        };
        assert!(command.status().unwrap().success());
        assert!(lender.take_back(), "it is still borrowed here");
        assert_eq!(view.at(place..place + 3), Some(&[3; 3][..]), "it is still in use here");
        drop(command);
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
            Lent { number, range: range.start..range.start },
            Lent { number, range: 0..PAYLOAD_BYTES + 1 },
        ] {
            assert!(borrower.borrow(wrong).is_none());
        }
    }
}
