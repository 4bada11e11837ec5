//! Numbers of slots (`{%}`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Numbers from 1, each in use once.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: BinaryHeap<Reverse<usize>>,
    made: usize,
}

impl Slots {
    pub(super) fn take(&mut self) -> usize {
        match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                self.made += 1;
                self.made
            }
        }
    }

    pub(super) fn give_back(&mut self, slot: usize) {
        self.free.push(Reverse(slot));
    }

    pub(super) fn in_use(&self) -> usize {
        self.made - self.free.len()
    }
}
