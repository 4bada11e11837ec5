//! Nodes that would take another attempt now, the least loaded first.
//!
//! Nodes that run the same programs are of one class. There are few classes, so that the least loaded node for a program is
//! found without a look at those that do not run it.

use std::collections::BTreeSet;

use pp_protocol::ProgramId;

use super::NodeKey;

/// The load of a node whose slots are all taken, in 256ths of them.
const FULL: u32 = 256;

/// Nodes that run the same programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u32);

/// A node under its load, in 256ths of its slots.
pub(super) type Taker = (u32, NodeKey);

#[derive(Debug, Default)]
pub(super) struct Takers {
    /// Few, so that they are looked through.
    classes: Vec<NodesOfClass>,
    next: u32,
}

#[derive(Debug)]
struct NodesOfClass {
    class: Class,
    programs: BTreeSet<ProgramId>,
    /// Number of nodes of it, whether they take work or not.
    nodes: usize,
    takers: BTreeSet<Taker>,
}

impl Takers {
    /// A node runs these programs.
    pub(super) fn join(&mut self, programs: BTreeSet<ProgramId>) -> Class {
        if let Some(it) = self.classes.iter_mut().find(|it| it.programs == programs) {
            it.nodes += 1;
            return it.class;
        }
        let class = Class(self.next);
        self.next = self.next.wrapping_add(1);
        self.classes.push(NodesOfClass { class, programs, nodes: 1, takers: BTreeSet::new() });
        class
    }

    /// A node, which is not listed, is not of this class any more.
    pub(super) fn leave(&mut self, class: Class) {
        let Some(it) = self.get_mut(class) else { return };
        it.nodes -= 1;
        self.classes.retain(|it| it.nodes > 0);
    }

    #[inline]
    fn get_mut(&mut self, class: Class) -> Option<&mut NodesOfClass> {
        self.classes.iter_mut().find(|it| it.class == class)
    }

    #[inline]
    pub(super) fn insert(&mut self, class: Class, taker: Taker) {
        if let Some(it) = self.get_mut(class) {
            it.takers.insert(taker);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, class: Class, taker: Taker) {
        if let Some(it) = self.get_mut(class) {
            it.takers.remove(&taker);
        }
    }

    /// Whether nodes of this class run the program.
    pub(super) fn runs(&self, class: Class, program: ProgramId) -> bool {
        self.classes.iter().any(|it| it.class == class && it.programs.contains(&program))
    }

    #[inline]
    fn that_run(&self, program: ProgramId) -> impl Iterator<Item = &NodesOfClass> {
        // Those without takers are of no interest, and in most programs the only others.
        self.classes.iter().filter(move |it| !it.takers.is_empty() && it.programs.contains(&program))
    }

    /// Number of nodes that take work of this program.
    pub(super) fn count(&self, program: ProgramId) -> usize {
        self.that_run(program).map(|it| it.takers.len()).sum()
    }

    /// The least loaded node that takes work of this program, but for those that are passed over.
    #[inline]
    pub(super) fn first(&self, program: ProgramId, passed_over: &[NodeKey]) -> Option<NodeKey> {
        let mut least: Option<Taker> = None;
        for it in self.that_run(program) {
            let first = match passed_over {
                [] => it.takers.first(),
                _ => it.takers.iter().find(|(_, key)| !passed_over.contains(key)),
            };
            if let Some(first) = first
                && least.is_none_or(|least| *first < least)
            {
                least = Some(*first);
            }
        }
        least.map(|(_, key)| key)
    }

    /// Nodes with a slot that has nothing to do, and what programs they run: those of each class in the order of their load.
    pub(super) fn idle(&self) -> impl Iterator<Item = (NodeKey, &BTreeSet<ProgramId>)> {
        self.classes
            .iter()
            .flat_map(|it| it.takers.range(..(FULL, NodeKey(0))).map(|(_, key)| (*key, &it.programs)))
    }

    /// Whether there is such a node.
    #[inline]
    pub(super) fn any_idle(&self) -> bool {
        self.classes.iter().any(|it| it.takers.first().is_some_and(|(load, _)| *load < FULL))
    }

    /// The least loaded of them of each class: the others of it run nothing else.
    pub(super) fn idle_of_each_class(&self) -> impl Iterator<Item = (NodeKey, &BTreeSet<ProgramId>)> {
        let least_loaded = self.classes.iter().filter_map(|it| Some((it.takers.first()?, &it.programs)));
        least_loaded.filter(|((load, _), _)| *load < FULL).map(|((_, key), programs)| (*key, programs))
    }

    /// The load under which a node is listed.
    pub(super) fn load_of(&self, node: NodeKey) -> Option<u32> {
        let mut all = self.classes.iter().flat_map(|it| &it.takers);
        all.find(|(_, key)| *key == node).map(|(load, _)| *load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProgramId = ProgramId(1);
    const B: ProgramId = ProgramId(2);

    #[test]
    fn the_least_loaded_node_is_one_that_runs_the_program() {
        let mut takers = Takers::default();
        let both = takers.join(BTreeSet::from([A, B]));
        let only_a = takers.join(BTreeSet::from([A]));
        assert_eq!(takers.join(BTreeSet::from([A])), only_a);
        takers.insert(both, (300, NodeKey(1)));
        takers.insert(only_a, (10, NodeKey(2)));
        takers.insert(only_a, (400, NodeKey(3)));
        assert_eq!([A, B].map(|program| takers.first(program, &[])), [Some(NodeKey(2)), Some(NodeKey(1))]);
        assert_eq!(takers.first(A, &[NodeKey(2), NodeKey(1)]), Some(NodeKey(3)));
        assert_eq!([A, B].map(|program| takers.count(program)), [3, 1]);
        assert!(takers.idle().map(|(key, _)| key).eq([NodeKey(2)]));
        takers.remove(only_a, (10, NodeKey(2)));
        takers.remove(only_a, (400, NodeKey(3)));
        takers.leave(only_a);
        assert_eq!(takers.classes.len(), 2, "one node is of it still");
        takers.leave(only_a);
        assert_eq!((takers.classes.len(), takers.runs(both, B)), (1, true));
    }

    #[test]
    fn a_node_whose_slots_are_all_taken_does_not_idle() {
        let mut takers = Takers::default();
        let class = takers.join(BTreeSet::from([A]));
        let idle = |takers: &Takers| {
            let (all, first) = (takers.idle().count(), takers.idle_of_each_class().count());
            (all, first, takers.any_idle())
        };
        takers.insert(class, (FULL, NodeKey(1)));
        assert_eq!(idle(&takers), (0, 0, false));
        takers.insert(class, (FULL - 1, NodeKey(2)));
        assert_eq!(idle(&takers), (1, 1, true));
    }
}
