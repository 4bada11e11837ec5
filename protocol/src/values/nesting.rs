//! Limit on the depth of values.

use super::error::{Reason, ValueError};

/// Most levels of values within values.
pub(super) const LEVELS: usize = 1_000;
/// Most levels within what is read without knowing what comes: that is kept and read a second time, out of sight from here.
pub(super) const UNKNOWN_LEVELS: usize = 256;
/// Most stack for one value, whatever it takes for a level: half of what threads usually have.
const STACK_BYTES: usize = 1 << 20;

/// Depth at the moment.
#[derive(Clone, Debug)]
pub(super) struct Nesting {
    level: usize,
    most: usize,
    /// An address on the stack where it began.
    stack: usize,
}

impl Nesting {
    #[inline]
    pub(super) fn new() -> Self {
        Self { level: 0, most: LEVELS, stack: stack_place() }
    }

    /// A level deeper.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), ValueError> {
        self.level += 1;
        if self.level > self.most || self.stack.abs_diff(stack_place()) > STACK_BYTES {
            return Err(Reason::TooDeep { levels: self.level - 1 }.into());
        }
        Ok(())
    }

    #[inline]
    pub(super) fn leave(&mut self) {
        self.level -= 1;
    }

    /// From here on, fewer levels; yields what restores the usual.
    pub(super) fn enter_unknown(&mut self) -> Before {
        let before = Before { level: self.level, most: self.most };
        self.most = self.most.min(self.level + UNKNOWN_LEVELS);
        before
    }

    /// Back to where it was, also when what was begun there was given up.
    #[inline]
    pub(super) fn restore(&mut self, before: &Before) {
        (self.level, self.most) = (before.level, before.most);
    }

    #[inline]
    pub(super) fn before(&self) -> Before {
        Before { level: self.level, most: self.most }
    }
}

/// Depth before.
pub(super) struct Before {
    level: usize,
    most: usize,
}

#[inline]
fn stack_place() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}
