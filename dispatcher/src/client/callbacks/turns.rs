//! Whose turn it is: the order in which callbacks are called.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::client::counts::Count;

/// A group, told from the others for as long as one of its callbacks is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey(usize);

impl GroupKey {
    /// By where it is in memory. A later group may come to be in the same place; at worst it waits for the earlier one.
    pub(super) fn of(group: &Arc<Count>) -> Self {
        Self(Arc::as_ptr(group).addr())
    }

    /// The group with this address.
    pub(super) fn named(address: usize) -> Self {
        Self(address)
    }
}

/// Callbacks that one thread is to call.
#[derive(Debug, PartialEq)]
pub(super) enum Turn<T> {
    /// All there is, in this order.
    All(Vec<T>),
    /// One callback. No other of its group comes before the group is said to be [`done`](Turns::done).
    One(T, Option<GroupKey>),
}

/// Callbacks that wait.
#[derive(Debug)]
pub(super) enum Turns<T> {
    /// For one thread: in the order in which they came.
    InOrder(Vec<T>),
    /// For several: each group in order, one callback of it at a time; groups and callbacks without one take turns.
    ByGroup {
        /// Callbacks that can be called now.
        ready: VecDeque<Ready<T>>,
        /// Callbacks of each group that is ready, or one of whose callbacks is being called.
        groups: BTreeMap<GroupKey, VecDeque<T>>,
    },
}

#[derive(Debug)]
pub(super) enum Ready<T> {
    Callback(T),
    /// The first of this group.
    FirstOf(GroupKey),
}

impl<T> Turns<T> {
    /// For so many threads.
    pub(super) fn new(threads: usize) -> Self {
        match threads {
            1 => Self::InOrder(Vec::new()),
            _ => Self::ByGroup { ready: VecDeque::new(), groups: BTreeMap::new() },
        }
    }

    /// Whether nothing can be called now.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::InOrder(waiting) => waiting.is_empty(),
            Self::ByGroup { ready, .. } => ready.is_empty(),
        }
    }

    /// Takes these in; `group` tells the group of each.
    pub(super) fn add(&mut self, callbacks: &mut Vec<T>, group: impl Fn(&T) -> Option<GroupKey>) {
        match self {
            Self::InOrder(waiting) => waiting.append(callbacks),
            Self::ByGroup { ready, groups } => {
                for callback in callbacks.drain(..) {
                    let Some(key) = group(&callback) else {
                        ready.push_back(Ready::Callback(callback));
                        continue;
                    };
                    let group = groups.entry(key).or_insert_with(|| {
                        ready.push_back(Ready::FirstOf(key));
                        VecDeque::new()
                    });
                    group.push_back(callback);
                }
            }
        }
    }

    /// Callbacks for the thread that asks.
    pub(super) fn take(&mut self) -> Option<Turn<T>> {
        match self {
            Self::InOrder(waiting) if waiting.is_empty() => None,
            Self::InOrder(waiting) => Some(Turn::All(std::mem::take(waiting))),
            Self::ByGroup { ready, groups } => match ready.pop_front()? {
                Ready::Callback(callback) => Some(Turn::One(callback, None)),
                Ready::FirstOf(key) => {
                    let callback = groups.get_mut(&key)?.pop_front()?;
                    Some(Turn::One(callback, Some(key)))
                }
            },
        }
    }

    /// The callback of this group that was taken has returned.
    pub(super) fn done(&mut self, key: GroupKey) {
        let Self::ByGroup { ready, groups } = self else { return };
        if groups.get(&key).is_some_and(|group| !group.is_empty()) {
            ready.push_back(Ready::FirstOf(key));
        } else {
            groups.remove(&key);
        }
    }

    /// Everything that waits, in no particular order. Nothing is to be taken at this time.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        match self {
            Self::InOrder(waiting) => std::mem::take(waiting),
            Self::ByGroup { ready, groups } => {
                let free = ready.drain(..).filter_map(|ready| match ready {
                    Ready::Callback(callback) => Some(callback),
                    Ready::FirstOf(_) => None,
                });
                free.chain(std::mem::take(groups).into_values().flatten()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupKey = GroupKey(1);
    const B: GroupKey = GroupKey(2);

    /// A callback of a group, or of none.
    type Callback = (Option<GroupKey>, u32);

    fn turns(threads: usize, callbacks: &[Callback]) -> Turns<Callback> {
        let mut turns = Turns::new(threads);
        turns.add(&mut callbacks.to_vec(), |(group, _)| *group);
        turns
    }

    fn one(group: Option<GroupKey>, number: u32) -> Option<Turn<Callback>> {
        Some(Turn::One((group, number), group))
    }

    #[test]
    fn a_single_thread_takes_all_in_the_order_they_came() {
        let callbacks = [(Some(A), 1), (None, 2), (Some(A), 3)];
        let mut turns = turns(1, &callbacks);
        assert_eq!(turns.take(), Some(Turn::All(callbacks.to_vec())));
        assert!(turns.is_empty() && turns.take().is_none());
    }

    #[test]
    fn of_a_group_nothing_comes_before_the_one_that_is_being_called_is_done() {
        let mut turns = turns(2, &[(Some(A), 1), (Some(A), 2), (None, 3), (Some(B), 4)]);
        assert_eq!(turns.take(), one(Some(A), 1));
        assert_eq!(turns.take(), one(None, 3));
        assert_eq!(turns.take(), one(Some(B), 4));
        assert_eq!(turns.take(), None);
        turns.add(&mut vec![(Some(A), 5)], |(group, _)| *group);
        assert!(turns.is_empty(), "one of that group is being called");
        turns.done(A);
        assert_eq!(turns.take(), one(Some(A), 2));
        turns.done(A);
        assert_eq!(turns.take(), one(Some(A), 5));
    }

    #[test]
    fn groups_take_turns() {
        let mut turns = turns(2, &[(Some(A), 1), (Some(A), 2), (Some(A), 3), (Some(B), 4)]);
        assert_eq!(turns.take(), one(Some(A), 1));
        turns.done(A);
        assert_eq!(turns.take(), one(Some(B), 4));
        assert_eq!(turns.take(), one(Some(A), 2));
    }

    #[test]
    fn a_group_that_is_done_leaves_nothing_behind() {
        let mut turns = turns(2, &[(Some(A), 1)]);
        turns.take();
        turns.done(A);
        assert!(matches!(turns, Turns::ByGroup { ready, groups } if ready.is_empty() && groups.is_empty()));
    }

    #[test]
    fn what_nobody_will_call_is_taken_out_whole() {
        let mut turns = turns(2, &[(Some(A), 1), (None, 2), (Some(A), 3)]);
        let mut all = turns.take_all();
        all.sort_unstable_by_key(|(_, number)| *number);
        assert_eq!(all, [(Some(A), 1), (None, 2), (Some(A), 3)]);
        assert!(turns.is_empty());
    }
}
