//! Results that a worker has left where the node can read them.

use std::sync::Arc;

use bytes::Bytes;
use pp_protocol::Payload;
use pp_protocol::packed::Lent;
use pp_protocol::room::View;

use crate::page::Page;

/// The arena of one worker, as its node sees it.
#[derive(Debug)]
pub(super) struct Borrowing {
    /// Missing where nothing is shared.
    pub(super) view: Option<Arc<View>>,
    pub(super) page: Arc<Page>,
}

/// A result in a worker's arena. The worker may use its place again once this is dropped.
struct Borrowed {
    view: Arc<View>,
    page: Arc<Page>,
    lent: Lent,
}

impl Borrowing {
    /// The result that a worker says is there; `None` if it cannot be.
    pub(super) fn borrow(&self, lent: Lent) -> Option<Payload> {
        let view = self.view.as_ref()?;
        view.at(lent.range.clone())?;
        if !self.page.is_marked(lent.number as usize) {
            return None;
        }
        let borrowed = Borrowed { view: Arc::clone(view), page: Arc::clone(&self.page), lent };
        Some(Bytes::from_owner(borrowed).into())
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.view.at(self.lent.range.clone()).unwrap_or_default()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.page.clear_mark(self.lent.number as usize);
    }
}
